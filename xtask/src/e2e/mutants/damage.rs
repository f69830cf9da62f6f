//! Ways to damage a finished module, each against one rule.
//!
//! The first place where a damage is possible is taken, so that a run can be repeated.

use kpatch_core::arch::{RelocKind, Use, for_machine};
use kpatch_core::elf::{File, Place, Rela, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, Symbol};
use kpatch_core::resolve::PatchedFunction;
use object::elf;

use super::tables;

/// A damage: its stable name, and what does it. The result says what was done; `None`: there is nothing of this kind.
pub struct Damage {
    pub name: &'static str,
    pub apply: fn(&mut File, &[PatchedFunction]) -> Option<String>,
}

pub const ALL: &[Damage] = &[
    Damage {
        name: "wrong-position",
        apply: wrong_position,
    },
    Damage {
        name: "wrong-symbol-name",
        apply: wrong_symbol_name,
    },
    Damage {
        name: "wrong-symbol-owner",
        apply: wrong_symbol_owner,
    },
    Damage {
        name: "wrong-gate",
        apply: wrong_gate,
    },
    Damage {
        name: "missing-relocation",
        apply: missing_relocation,
    },
    Damage {
        name: "doubled-relocation",
        apply: doubled_relocation,
    },
    Damage {
        name: "wrong-addend",
        apply: |file, _| change_late(file, |row| row.r_addend += 8),
    },
    Damage {
        name: "wrong-type",
        apply: |file, _| change_late(file, |row| row.r_type = if row.r_type == 2 { 11 } else { 2 }),
    },
    Damage {
        name: "wrong-place",
        apply: |file, _| change_late(file, |row| row.r_offset = row.r_offset.wrapping_sub(1)),
    },
    Damage {
        name: "exported-wrong-addend",
        apply: exported_wrong_addend,
    },
    Damage {
        name: "exported-other-symbol",
        apply: exported_other_symbol,
    },
    Damage {
        name: "pointer-to-a-sealed-function",
        apply: pointer_to_sealed,
    },
    Damage {
        name: "late-section-unmarked",
        apply: late_section_unmarked,
    },
    Damage {
        name: "late-symbol-unmarked",
        apply: late_symbol_unmarked,
    },
    Damage {
        name: "field-not-zero",
        apply: field_not_zero,
    },
    Damage {
        name: "short-table",
        apply: tables::short_table,
    },
    Damage {
        name: "table-without-relocation",
        apply: tables::table_without_relocation,
    },
    Damage {
        name: "no-unwind-table",
        apply: tables::no_unwind_table,
    },
    Damage {
        name: "unwind-rows-of-a-function-missing",
        apply: tables::unwind_rows_missing,
    },
    Damage {
        name: "unwind-row-inside-a-function-missing",
        apply: tables::inner_unwind_row_missing,
    },
    Damage {
        name: "return-site-missing",
        apply: |file, _| tables::drop_row(file, ".return_sites", 4),
    },
    Damage {
        name: "trace-record-missing",
        apply: tables::trace_record_missing,
    },
    Damage {
        name: "wrong-function-name",
        apply: wrong_function_name,
    },
    Damage {
        name: "wrong-function-position",
        apply: wrong_function_position,
    },
    Damage {
        name: "swapped-functions",
        apply: swapped_functions,
    },
    Damage {
        name: "function-not-redirected",
        apply: function_not_redirected,
    },
    Damage {
        name: "wrong-object-name",
        apply: wrong_object_name,
    },
    Damage {
        name: "callback-lost",
        apply: |file, _| {
            change_callback(file, |rows, at| {
                rows.swap_remove(at);
            })
        },
    },
    Damage {
        name: "callback-at-another-moment",
        apply: |file, _| change_callback(file, |rows, at| rows[at].r_offset ^= 8),
    },
    Damage {
        name: "not-marked-as-livepatch",
        apply: |file, _| modinfo(file, "livepatch=", "livepitch="),
    },
    Damage {
        name: "not-gpl",
        apply: |file, _| modinfo(file, "license=GPL", "license=MIT"),
    },
    Damage {
        name: "depends-on-a-module",
        apply: |file, _| modinfo(file, "depends=\0", "depends=other\0"),
    },
    Damage {
        name: "other-kernel",
        apply: |file, _| modinfo(file, "vermagic=6", "vermagic=9"),
    },
];

fn is_late(file: &File, symbol: usize) -> bool {
    file.symbols[symbol].place == Place::Reserved(SHN_LIVEPATCH)
}

fn late_symbol(file: &File, wanted: impl Fn(&str) -> bool) -> Option<usize> {
    (0..file.symbols.len()).find(|&index| is_late(file, index) && wanted(&file.symbols[index].name))
}

fn rename(file: &mut File, index: usize, name: String) -> Option<String> {
    let old = std::mem::replace(&mut file.symbols[index].name, name);
    Some(format!("{old} is now {}", file.symbols[index].name))
}

/// A name that several symbols have is the harder case: another position is in the kernel, too.
fn wrong_position(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let several = late_symbol(file, |name| !name.ends_with(",0"));
    let index = several.or_else(|| late_symbol(file, |_| true))?;
    let name = file.symbols[index].name.clone();
    let (name, position) = name.rsplit_once(',')?;
    let position: u32 = position.parse().ok()?;
    rename(
        file,
        index,
        format!("{name},{}", if position > 1 { position - 1 } else { 2 }),
    )
}

fn wrong_symbol_name(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let other = ".klp.sym.vmlinux.schedule_timeout,0";
    let index = late_symbol(file, |name| name.starts_with(".klp.sym.vmlinux.") && name != other)?;
    rename(file, index, other.to_owned())
}

fn wrong_symbol_owner(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let index = late_symbol(file, |_| true)?;
    let rest = file.symbols[index]
        .name
        .strip_prefix(".klp.sym.")?
        .split_once('.')?
        .1
        .to_owned();
    rename(file, index, format!(".klp.sym.nosuch.{rest}"))
}

fn is_late_rela(rela: &kpatch_core::elf::RelaSection) -> bool {
    rela.sh_flags & SHF_RELA_LIVEPATCH != 0 && !rela.rows.is_empty()
}

/// The first livepatch relocations.
fn late(file: &mut File) -> Option<&mut kpatch_core::elf::RelaSection> {
    file.sections
        .iter_mut()
        .flat_map(|section| &mut section.relas)
        .find(|rela| is_late_rela(rela))
}

fn wrong_gate(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let rela = late(file)?;
    let rest = rela.name.strip_prefix(".klp.rela.")?.split_once('.')?.1.to_owned();
    let old = std::mem::replace(&mut rela.name, format!(".klp.rela.nosuch.{rest}"));
    Some(format!("{old} is now {}", rela.name))
}

fn missing_relocation(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let rela = late(file)?;
    let row = rela.rows.pop()?;
    Some(format!("the one at {:#x} of {}", row.r_offset, rela.name))
}

fn doubled_relocation(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let rela = late(file)?;
    let row = *rela.rows.first()?;
    rela.rows.push(row);
    Some(format!("the one at {:#x} of {}", row.r_offset, rela.name))
}

fn change_late(file: &mut File, change: fn(&mut Rela)) -> Option<String> {
    let rela = late(file)?;
    let row = rela.rows.first_mut()?;
    let before = *row;
    change(row);
    Some(format!("{before:?} is now {row:?} in {}", rela.name))
}

/// The first relocation of patched code against a symbol that the kernel exports.
fn exported(file: &mut File) -> Option<&mut Rela> {
    let symbols = file.symbols.clone();
    let undefined = |row: &Rela| {
        row.symbol.is_some_and(|symbol| {
            let symbol = &symbols[symbol];
            symbol.place == Place::Reserved(0)
                && !symbol.name.starts_with("__fentry")
                && symbol.name != "klp_enable_patch"
        })
    };
    let code = file
        .sections
        .iter_mut()
        .filter(|section| section.name.starts_with(".text"));
    code.flat_map(|section| section.relas.iter_mut().flat_map(|rela| &mut rela.rows))
        .find(|row| undefined(row))
}

fn exported_wrong_addend(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let row = exported(file)?;
    row.r_addend += 16;
    Some(format!("{row:?}"))
}

fn exported_other_symbol(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let other = file
        .symbols
        .iter()
        .position(|symbol| symbol.name == "klp_enable_patch")?;
    let row = exported(file)?;
    row.symbol = Some(other);
    Some(format!("{row:?} leads to klp_enable_patch"))
}

/// A pointer that is loaded in code (`lea`, `mov $imm`) or stored in data leads to a function that the kernel seals at boot,
/// in each kernel that seals functions at all (x86-64).
fn pointer_to_sealed(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let arch = for_machine(elf::Machine(file.e_machine))?;
    arch.facts().landing?.seals?;
    let functions: Vec<bool> = file.symbols.iter().map(is_outside).collect();
    let mut found = None;
    for (index, section) in file.sections.iter().enumerate() {
        if !section.name.starts_with(".text") {
            continue;
        }
        for (list, rela) in section.relas.iter().enumerate().filter(|(_, rela)| is_late_rela(rela)) {
            for (number, row) in rela.rows.iter().enumerate() {
                let field = arch.code_map(&section.data, &[row.r_offset]).fields[0];
                let pointer = field.is_some_and(|field| {
                    let whole = matches!(arch.facts().relocs.kind(row.r_type), Some(RelocKind::Absolute { .. }));
                    let bias = if whole { 0 } else { i64::from(field.bias) };
                    field.usage == Use::Address && row.r_addend + bias == 0
                });
                if pointer && row.symbol.is_some_and(|symbol| functions[symbol]) && found.is_none() {
                    found = Some((index, list, number));
                }
            }
        }
    }
    let (section, list, number) = found?;
    let (info, size) = (elf::STB_GLOBAL.0, elf::STT_NOTYPE.0);
    file.symbols
        .push(Symbol::new(SEALED, Place::Reserved(SHN_LIVEPATCH), info, size));
    let sealed = file.symbols.len() - 1;
    let rela = &mut file.sections[section].relas[list];
    let row = &mut rela.rows[number];
    row.symbol = Some(sealed);
    Some(format!("{row:?} of {} leads to {SEALED}", rela.name))
}

/// A function whose address nothing in the kernel takes (kernel/sched/core.c).
const SEALED: &str = ".klp.sym.vmlinux.nr_context_switches,0";

fn is_outside(symbol: &Symbol) -> bool {
    symbol.place == Place::Reserved(SHN_LIVEPATCH)
}

fn late_section_unmarked(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let rela = late(file)?;
    rela.sh_flags &= !SHF_RELA_LIVEPATCH;
    Some(rela.name.clone())
}

fn late_symbol_unmarked(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let index = late_symbol(file, |_| true)?;
    file.symbols[index].place = Place::Reserved(0);
    Some(file.symbols[index].name.clone())
}

/// Where the loader adds to what is there already, or compares it with zero; elsewhere it overwrites it.
fn field_not_zero(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    if !for_machine(elf::Machine(file.e_machine))?
        .facts()
        .loader
        .wants_zero_fields
    {
        return None;
    }
    let section = file
        .sections
        .iter_mut()
        .find(|section| section.relas.iter().any(is_late_rela))?;
    let at = section
        .relas
        .iter()
        .find(|rela| is_late_rela(rela))?
        .rows
        .first()?
        .r_offset;
    *section.data.get_mut(usize::try_from(at).ok()?)? = 1;
    Some(format!("{} at {at:#x}", section.name))
}

/// Section and offset of the table's pointer to a new function.
fn new_function(file: &File, function: &PatchedFunction) -> Option<(usize, u64)> {
    let writable = file
        .sections
        .iter()
        .enumerate()
        .filter(|(_, section)| section.name.starts_with(".data"));
    writable.into_iter().find_map(|(index, section)| {
        let rows = section.relas.iter().flat_map(|rela| &rela.rows);
        let row = rows.into_iter().find(|row| {
            row.symbol
                .is_some_and(|symbol| file.symbols[symbol].name == function.handle)
        })?;
        Some((index, row.r_offset))
    })
}

fn row_at(file: &mut File, section: usize, offset: u64) -> Option<&mut Rela> {
    let rows = file.sections[section].relas.iter_mut().flat_map(|rela| &mut rela.rows);
    rows.into_iter().find(|row| row.r_offset == offset)
}

fn wrong_function_name(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let (section, offset) = new_function(file, functions.first()?)?;
    let row = *row_at(file, section, offset.checked_sub(8)?)?;
    let symbol = &file.symbols[row.symbol?];
    let Place::Section(home) = symbol.place else {
        return None;
    };
    let at = usize::try_from(i64::try_from(symbol.st_value).ok()? + row.r_addend).ok()?;
    let byte = file.sections[home].data.get_mut(at)?;
    *byte = if *byte == b'q' { b'z' } else { b'q' };
    Some(format!("{} is called q...", functions.first()?.name))
}

fn wrong_function_position(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let (section, offset) = new_function(file, functions.first()?)?;
    let at = usize::try_from(offset + 8).ok()?;
    let low = if file.big_endian { at + 7 } else { at };
    *file.sections[section].data.get_mut(low)? = 77;
    Some("position 77".to_owned())
}

fn swapped_functions(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let [first, second, ..] = functions else {
        return None;
    };
    let (one, other) = (new_function(file, first)?, new_function(file, second)?);
    let (a, b) = (
        row_at(file, one.0, one.1)?.symbol,
        row_at(file, other.0, other.1)?.symbol,
    );
    row_at(file, one.0, one.1)?.symbol = b;
    row_at(file, other.0, other.1)?.symbol = a;
    Some(format!("{} and {}", first.name, second.name))
}

fn function_not_redirected(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let function = functions.last()?;
    let (section, offset) = new_function(file, function)?;
    for rela in &mut file.sections[section].relas {
        rela.rows
            .retain(|row| row.r_offset != offset && row.r_offset + 8 != offset);
    }
    Some(function.name.clone())
}

/// Damages the pointer to a callback in the livepatch's own table.
fn change_callback(file: &mut File, change: fn(&mut Vec<Rela>, usize)) -> Option<String> {
    let handle = file
        .symbols
        .iter()
        .position(|symbol| symbol.name.starts_with("klp_callback_"))?;
    let mut all = file.sections.iter_mut().flat_map(|section| &mut section.relas);
    all.find_map(|rela| {
        let at = rela.rows.iter().position(|row| row.symbol == Some(handle))?;
        let place = rela.rows[at].r_offset;
        change(&mut rela.rows, at);
        Some(format!("the one at {place:#x} of {}", rela.name))
    })
}

/// The name of the patched module in the livepatch's own table.
fn wrong_object_name(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let function = functions.iter().find(|function| !function.object.is_vmlinux())?;
    let mut wanted = vec![0];
    wanted.extend(function.object.as_str().bytes());
    wanted.push(0);
    let constants = file
        .sections
        .iter_mut()
        .filter(|section| section.name.starts_with(".rodata"));
    for section in constants {
        if let Some(at) = section.data.windows(wanted.len()).position(|window| window == wanted) {
            section.data[at + 1] = b'q';
            return Some(function.object.to_string());
        }
    }
    None
}

fn modinfo(file: &mut File, from: &str, to: &str) -> Option<String> {
    let section = file.sections.iter_mut().find(|section| section.name == ".modinfo")?;
    let at = section
        .data
        .windows(from.len())
        .position(|window| window == from.as_bytes())?;
    section.data.splice(at..at + from.len(), to.bytes());
    Some(format!("{} is now {}", from.escape_debug(), to.escape_debug()))
}
