//! The text that describes what was made of a case, without anything that differs from one build of a kernel to the
//! next: hashes, offsets and sizes go, names, reasons and the kinds of references stay.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, anyhow};
use kpatch_core::elf::{self, SHF_RELA_LIVEPATCH};
use kpatch_core::{Callback, Carried, Refusal, SetValue, arch, names};
use object::elf::Machine;

use kpatch_build::build::livepatch::Livepatch;
use kpatch_build::build::module::{Module, identity};
use kpatch_build::outcome::Ending;
use kpatch_build::prove::vm::CaseReport;

/// Describes a case. `None`: its build failed, so there is nothing that could be expected.
pub fn text(result: &Result<Livepatch>, then: Option<&Livepatch>, plans: &[&CaseReport]) -> Result<Option<String>> {
    let text = match result {
        Ok(livepatch) => {
            let second = then.map(|then| Ok::<_, anyhow::Error>(format!("\nthen: {}", patched(then)?)));
            patched(livepatch)? + &second.transpose()?.unwrap_or_default() + &in_the_guest(plans)
        }
        Err(error) => match error.downcast_ref::<Ending>() {
            Some(Ending::Refused(refusals)) => {
                let rows = refusals.iter().map(refusal);
                format!("verdict: refused\n{}", block("refusals", rows))
            }
            Some(Ending::NoChange(_)) => "verdict: no change\n".to_owned(),
            Some(Ending::BootOnly(_)) => "verdict: boot only\n".to_owned(),
            _ => return Ok(None),
        },
    };
    Ok(Some(text))
}

/// Lines and offsets move with every point release.
fn refusal(refusal: &Refusal) -> String {
    let at = &refusal.at;
    let parts = [&at.file, &at.section, &at.symbol];
    let parts = parts.into_iter().flatten().map(|part| format!(" {}", stable(part)));
    format!("{}{}", refusal.code, parts.collect::<String>())
}

fn patched(livepatch: &Livepatch) -> Result<String> {
    let mut text = "verdict: patched\n".to_owned();
    text += &block(
        "functions",
        livepatch.functions().iter().map(|function| {
            let name = names::readable(&function.name);
            let reason = stable(&function.reason.to_string());
            format!("{} {name},{}: {reason}", function.object, function.sympos.0)
        }),
    );
    let carried = &livepatch.patch.carried;
    if !carried.is_empty() {
        let row = |one: &Carried| format!("{} {}: {}", one.object, one.name, stable(&one.reason.to_string()));
        text += &block("carried", carried.iter().map(row));
    }
    let callbacks = &livepatch.patch.callbacks;
    if !callbacks.is_empty() {
        let row = |callback: &Callback| format!("{} {}: {}", callback.object, callback.moment, callback.name);
        text += &block("callbacks", callbacks.iter().map(row));
    }
    let values = &livepatch.patch.values;
    if !values.is_empty() {
        let row = |value: &SetValue| format!("{} {}: {} -> {}", value.unit, value.name, value.from, value.to);
        text += &block("sets", values.iter().map(row));
    }
    let elements = &livepatch.patch.elements;
    let (entries, rest): (Vec<_>, Vec<_>) = elements.iter().partition(|element| element.kind == "entry");
    let row = |element: &kpatch_core::Element| {
        let name = stable(&element.name);
        format!(
            "{} {} {name}: {}",
            element.unit,
            element.kind,
            stable(&element.reason.to_string())
        )
    };
    text += &block("contains", rest.into_iter().map(row));
    text += &block(
        "special section entries",
        entries.into_iter().map(|entry| {
            format!(
                "{} {}: {}",
                entry.unit,
                entry.section,
                stable(&entry.reason.to_string())
            )
        }),
    );
    if let Some(module) = &livepatch.module {
        text += &block("livepatch relocations", relocations(module)?.into_iter());
    }
    let ignored = livepatch.ignored().iter();
    text += &block(
        "ignored",
        ignored.map(|ignored| stable(&format!("{} ({}): {}", ignored.name, ignored.unit, ignored.why))),
    );
    Ok(text)
}

/// What is done twice is done twice here, too: the order matters.
fn in_the_guest(plans: &[&CaseReport]) -> String {
    let steps: Vec<String> = plans
        .iter()
        .flat_map(|plan| guest(plan))
        .map(|step| format!("  {step}\n"))
        .collect();
    if steps.is_empty() {
        return String::new();
    }
    format!("\nin the guest\n{}", steps.concat())
}

/// Each symbol that livepatch looks up, with the object whose loading triggers it, the section that refers to it and
/// the ways it does. Counts are left out: they follow the inliner's mood.
fn relocations(module: &Module) -> Result<Vec<String>> {
    let bytes = fs::read(&module.path).with_context(|| format!("cannot read {}", module.path.display()))?;
    let file = elf::read(&bytes).map_err(|why| anyhow!(why))?;
    let arch = arch::for_machine(Machine(file.e_machine)).context("the module is for a machine that is not known")?;
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for section in &file.sections {
        let late = section
            .relas
            .iter()
            .filter(|rela| rela.sh_flags & SHF_RELA_LIVEPATCH != 0);
        // The relocations of one section may wait for several objects.
        for (rela, row) in late.flat_map(|rela| rela.rows.iter().map(move |row| (rela, row))) {
            let symbol = row
                .symbol
                .and_then(|symbol| file.symbols.get(symbol))
                .map_or("", |symbol| &symbol.name);
            let symbol = symbol.strip_prefix(".klp.sym.").unwrap_or(symbol);
            // What each livepatch looks up says nothing about this one.
            if symbol
                .strip_prefix("vmlinux.")
                .and_then(|rest| rest.strip_suffix(",0"))
                .is_some_and(identity::is_own)
            {
                continue;
            }
            let symbol = names::readable(symbol);
            let way = format!("{} from {}", arch.facts().relocs.name(row.r_type), area(&section.name));
            found.entry((gate(rela), symbol)).or_default().push(way);
        }
    }
    Ok(found
        .into_iter()
        .map(|((gate, symbol), mut ways)| {
            ways.sort();
            ways.dedup();
            format!("{gate}: {symbol}: {}", ways.join(", "))
        })
        .collect())
}

/// The object whose loading makes relocations happen.
fn gate(rela: &elf::RelaSection) -> String {
    let gate = rela
        .name
        .strip_prefix(".klp.rela.")
        .and_then(|rest| rest.split_once('.'));
    gate.map_or_else(String::new, |(gate, _)| gate.to_owned())
}

/// A section without the function or variable that it was split off for.
fn area(section: &str) -> String {
    let parts: Vec<&str> = section.split('.').collect();
    match parts.as_slice() {
        ["", first, ..] => format!(".{first}"),
        _ => section.to_owned(),
    }
}

fn guest(plan: &CaseReport) -> Vec<String> {
    let mut rows: Vec<String> = plan.steps.iter().map(|step| file_names(&step.label)).collect();
    rows.push(plan.outcome.short_name().to_owned());
    rows
}

/// Paths in the guest carry the name of the case and say nothing.
fn file_names(label: &str) -> String {
    let word = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    label.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A heading with its rows below it; equal rows once, with their number. The order of the rows stays.
fn block(heading: &str, rows: impl Iterator<Item = String>) -> String {
    let mut counted: Vec<(String, usize)> = Vec::new();
    for row in rows {
        match counted.iter_mut().find(|(known, _)| *known == row) {
            Some((_, count)) => *count += 1,
            None => counted.push((row, 1)),
        }
    }
    let mut text = format!("\n{heading}\n");
    for (row, count) in counted {
        let times = if count > 1 {
            format!(" ({count} times)")
        } else {
            String::new()
        };
        writeln!(text, "  {row}{times}").expect("writing to a String cannot fail");
    }
    if text.lines().count() == 2 {
        text += "  none\n";
    }
    text
}

/// A text without numbers that another build changes: `+0x1c` becomes `+N`, `size 24 -> 32` becomes `size M -> N`.
fn stable(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut sizes = 0;
    for word in names::readable(text).split(' ') {
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let of_size = words
            .last()
            .is_some_and(|last| last == "size" || last == "->" && sizes == 1);
        if is_number && of_size {
            sizes += 1;
            words.push(if sizes == 1 { "M".into() } else { "N".into() });
        } else {
            words.push(without_counter(&without_offset(word)));
        }
    }
    words.join(" ")
}

/// `__initstub__kmod_proc__489_49_name`: the first number counts the uses of `__COUNTER__` in all headers before, the other
/// is a line (include/linux/init.h, `__initcall_id`).
fn without_counter(word: &str) -> String {
    let Some((before, after)) = word.split_once("__kmod_") else {
        return word.to_owned();
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = after.split_once("__").and_then(|(module, rest)| {
        let mut parts = rest.splitn(3, '_');
        let (counter, line, name) = (parts.next()?, parts.next()?, parts.next()?);
        (is_number(counter) && is_number(line)).then(|| format!("{before}__kmod_{module}__N_N_{name}"))
    });
    numbers.unwrap_or_else(|| word.to_owned())
}

fn without_offset(word: &str) -> String {
    let Some((before, after)) = word.split_once("+0x") else {
        return word.to_owned();
    };
    let rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    format!("{before}+N{}", without_offset(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_build_go_and_the_rest_stays() {
        assert_eq!(stable("changed: bytes differ at +0x1c"), "changed: bytes differ at +N");
        assert_eq!(stable("changed: size 24 -> 32"), "changed: size M -> N");
        assert_eq!(stable("1 -> 2 entries in __bug_table"), "1 -> 2 entries in __bug_table");
        assert_eq!(
            stable("refers to g+0x4 instead of f at +0x8"),
            "refers to g+N instead of f at +N"
        );
        assert_eq!(
            stable(".init.text __initstub__kmod_proc__489_49_proc_uptime_init5"),
            ".init.text __initstub__kmod_proc__N_N_proc_uptime_init5"
        );
        assert_eq!(stable("__kmod_a__b_c"), "__kmod_a__b_c");
    }

    #[test]
    fn equal_rows_are_counted() {
        let rows = ["a", "b", "a"].map(str::to_owned).into_iter();
        assert_eq!(block("h", rows), "\nh\n  a (2 times)\n  b\n");
        assert_eq!(block("h", std::iter::empty()), "\nh\n  none\n");
    }

    #[test]
    fn sections_lose_what_they_were_split_off_for() {
        assert_eq!(area(".text.show_stat"), ".text");
        assert_eq!(area("__jump_table"), "__jump_table");
    }
}
