//! Damages what the phases have found out, one thing at a time, and expects the books to notice.

use std::collections::BTreeMap;

use object::elf;

use super::*;
use crate::arch::{Arch as _, Use, X86_64};
use crate::compare::{self, Lines};
use crate::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use crate::group::{Input, ObjectName};
use crate::select::untraced::ground::Untraced;
use crate::select::{Reason, closure, patchable};

const EX_TABLE: &str = "__ex_table";

/// One side: a function `changed` that returns a number and uses `added` on the patched side, a function `reader` that
/// reads `v`, a variable `v` and a row about each function.
fn side(value: u8, content: Option<u8>) -> Vec<u8> {
    let mut file = File {
        e_machine: X86_64.facts().machine.0,
        ..File::default()
    };
    let code = |second: u8| vec![0xb8, second, 0, 0, 0, 0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xc3];
    let (alloc, write) = (elf::SHF_ALLOC.0, elf::SHF_WRITE.0);
    let text = alloc | elf::SHF_EXECINSTR.0;
    add(&mut file, ".text.changed", text, code(value));
    add(&mut file, ".text.reader", text, code(0));
    match content {
        Some(content) => add(&mut file, ".data.v", alloc | write, vec![content, 0, 0, 0]),
        None => {
            add(&mut file, ".bss.v", alloc | write, Vec::new());
            file.sections[2].sh_type = elf::SHT_NOBITS.0;
            file.sections[2].size = 4;
        }
    }
    add(&mut file, ".data.added", alloc | write, vec![1, 0, 0, 0]);
    add(&mut file, EX_TABLE, alloc, vec![0; 24]);
    let (global, function, variable) = (elf::STB_GLOBAL.0, elf::STT_FUNC.0, elf::STT_OBJECT.0);
    let names = [
        ("changed", function, 13),
        ("reader", function, 13),
        ("v", variable, 4),
        ("added", variable, 4),
    ];
    let count = if value == 1 { 3 } else { 4 };
    for (index, (name, kind, size)) in names.into_iter().enumerate().take(count) {
        let mut symbol = Symbol::new(name, Place::Section(index), global, kind);
        symbol.st_size = size;
        file.symbols.push(symbol);
    }
    let distance = X86_64.facts().relocs.filled(Use::Address);
    let used = if value == 1 { 2 } else { 3 };
    refer(&mut file, 0, &[(8, used, distance, -4)]);
    refer(&mut file, 1, &[(8, 2, distance, -4)]);
    let row = |at: u64, symbol| [(at, symbol, distance, 0), (at + 4, symbol, distance, 5)];
    refer(&mut file, 4, &[row(0, 0), row(12, 1)].concat());
    file.write()
}

fn add(file: &mut File, name: &str, sh_flags: u64, data: Vec<u8>) {
    file.sections.push(Section {
        name: name.to_owned(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags,
        sh_addralign: 4,
        size: data.len() as u64,
        data,
        ..Section::default()
    });
}

fn refer(file: &mut File, section: usize, rows: &[(u64, usize, u32, i64)]) {
    let rows = rows.iter().map(|(r_offset, symbol, r_type, r_addend)| Rela {
        r_offset: *r_offset,
        symbol: Some(*symbol),
        r_type: *r_type,
        r_addend: *r_addend,
    });
    let name = format!(".rela{}", file.sections[section].name);
    file.sections[section].relas.push(RelaSection {
        name,
        sh_flags: 0,
        rows: rows.collect(),
    });
}

/// Damages what the comparison and the selection have found.
type OfFound = fn(&Unit<'_>, &mut UnitVerdicts, &mut BTreeMap<Key, Selected<'_>>);

/// What is damaged: before the comparison, and after the selection.
#[derive(Default)]
struct Damage {
    pairing: Option<fn(&mut Unit<'_>)>,
    found: Option<OfFound>,
    pairing_later: Option<fn(&mut Unit<'_>)>,
}

/// The books about a change of one function and, with `content`, of a variable.
fn settled(content: Option<u8>, damage: &Damage) -> Result<Vec<String>, String> {
    let (orig, patched) = (side(1, None), side(2, content));
    let input = Input {
        name: "a.o".into(),
        parent: ObjectName::vmlinux(),
        orig: Some(&orig),
        patched: &patched,
        shipped: None,
    };
    let mut group = Group::read(&[input]).expect("our own objects");
    if let Some(change) = damage.pairing {
        change(&mut group.units[0]);
    }
    let mut verdicts = compare::group(&group, Lines::Count);
    let roots = patchable::changed_functions(&group, &verdicts);
    let (mut atoms, _) = closure::close(
        &group,
        &verdicts,
        &super::super::NoKernel,
        &roots,
        &Untraced::default(),
        &[],
    );
    if let Some(change) = damage.found {
        change(&group.units[0], &mut verdicts[0], &mut atoms);
    }
    if let Some(change) = damage.pairing_later {
        change(&mut group.units[0]);
    }
    match settle(&group, &verdicts, &atoms, &BTreeSet::new()) {
        Ok(lines) => Ok(lines.into_iter().map(|line| line.name).collect()),
        Err(error) => {
            assert_eq!(error.code, UNACCOUNTED);
            Err(format!("{}: {}", error.at.symbol.unwrap_or_default(), error.why))
        }
    }
}

fn of(unit: &Unit<'_>, name: &str) -> Id<Patched, Atom> {
    let mut ids = unit.patched.atoms.ids();
    ids.find(|id| unit.patched.name(*id) == Some(name))
        .expect("it has this")
}

/// Makes both sides forget that a name is the same.
fn forget(unit: &mut Unit<'_>, name: &str) {
    let patched = of(unit, name);
    let twin = unit.pairing.orig_of[patched].take().expect("it had a twin");
    unit.pairing.patched_of[twin] = None;
}

fn refuted(content: Option<u8>, damage: Damage) -> String {
    settled(content, &damage).expect_err("the damage is not noticed")
}

#[test]
fn undamaged_books_are_in_order() {
    assert_eq!(settled(None, &Damage::default()), Ok(Vec::new()));
}

#[test]
fn a_change_that_nobody_saw_is_noticed() {
    let blind = Damage {
        found: Some(|unit, verdicts, _| verdicts.of[of(unit, "v")] = Verdict::Same),
        ..Damage::default()
    };
    assert_eq!(
        refuted(Some(5), blind),
        "v: it is called the same, and its byte 0x0 is another"
    );
    let blind = Damage {
        found: Some(|unit, verdicts, _| verdicts.of[of(unit, "changed")] = Verdict::Same),
        ..Damage::default()
    };
    assert!(refuted(None, blind).starts_with("changed: it is called the same, and its byte"));
}

#[test]
fn a_change_that_nobody_carries_is_noticed() {
    let lost = Damage::default();
    assert_eq!(
        refuted(Some(5), lost),
        "v: it changed, and is neither in the livepatch nor refused"
    );
    for (name, why) in [
        (
            "changed",
            ": it refers to `changed` in the livepatch, which is not there",
        ),
        (
            "added",
            "changed: it refers to `added` in the livepatch, which is not there",
        ),
    ] {
        let drop: OfFound = match name {
            "changed" => |unit, _, atoms| drop(atoms.remove(&(0, of(unit, "changed")))),
            _ => |unit, _, atoms| drop(atoms.remove(&(0, of(unit, "added")))),
        };
        let damage = Damage {
            found: Some(drop),
            ..Damage::default()
        };
        assert_eq!(refuted(None, damage), why);
    }
}

#[test]
fn a_row_without_its_code_is_noticed() {
    let damage = Damage {
        found: Some(|_, _, atoms| {
            let is_row = |selected: &Selected<'_>| matches!(selected.reason, Reason::EntryOf { .. });
            let rows = atoms.len();
            atoms.retain(|_, selected| !is_row(selected));
            assert_eq!(atoms.len() + 1, rows, "the row of the function that changed");
        }),
        ..Damage::default()
    };
    assert_eq!(refuted(None, damage), ": its code is in the livepatch without it");
    let damage = Damage {
        found: Some(|unit, verdicts, _| drop(verdicts.entries.remove(&of(unit, "reader")))),
        ..Damage::default()
    };
    assert_eq!(
        refuted(None, damage),
        "reader: it is called the same, and it had 1 rows of tables and has 0"
    );
}

#[test]
fn a_forgotten_twin_is_noticed() {
    let early = Damage {
        pairing: Some(|unit| forget(unit, "v")),
        ..Damage::default()
    };
    assert_eq!(refuted(None, early), "v: it is gone, and something new has its name");
    for name in ["v", "reader"] {
        let late: fn(&mut Unit<'_>) = match name {
            "v" => |unit| forget(unit, "v"),
            _ => |unit| forget(unit, "reader"),
        };
        let damage = Damage {
            pairing_later: Some(late),
            ..Damage::default()
        };
        let why = refuted(None, damage);
        assert!(
            why.starts_with("reader: it is called the same, and") || why.starts_with("v: it is called"),
            "{why}"
        );
    }
    let one_sided = Damage {
        pairing_later: Some(|unit| {
            let patched = of(unit, "v");
            let twin = unit.pairing.orig_of[patched].expect("it has a twin");
            unit.pairing.patched_of[twin] = Some(of(unit, "added"));
        }),
        ..Damage::default()
    };
    assert!(refuted(None, one_sided).contains("is another"));
}
