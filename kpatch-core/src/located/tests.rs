//! A file of a module: the object that is compiled now, and the module that ships it with another file in front.

use object::elf;

use super::*;
use crate::arch::{Arch, Use, X86_64};
use crate::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use crate::group::ObjectName;

/// What the file is like.
#[derive(Clone, Copy)]
struct Source {
    constant: u8,
    line: u16,
    setting: u32,
    callee: &'static str,
    text: &'static str,
    /// What is at the site of a static branch.
    branch: [u8; 2],
    /// Copies of the file in the module.
    copies: u64,
}

const SHIPPED: Source = Source {
    constant: 7,
    line: 40,
    setting: 3,
    callee: "helper",
    text: "text",
    branch: [0xeb, 0x00],
    copies: 1,
};

/// Numbers of the sections.
const TEXT: usize = 0;
const DATA: usize = 1;
const STRINGS: usize = 2;
const BUGS: usize = 3;
const JUMPS: usize = 4;
/// Bytes of each section that belong to the other file.
const BEFORE: [u64; 5] = [16, 4, 3, 12, 16];
/// Bytes of each section in front of the file in its own object.
const ALONE: [u64; 5] = [0; 5];
/// `answer` with its padding.
const CODE: u64 = 32;

/// `call callee; mov $constant,%eax; movabs $text,%rdi; ud2; mov setting(%rip),%eax; ret`, a jump of a static branch, and padding.
fn code(source: Source) -> Vec<u8> {
    let mut code = vec![
        0xe8,
        0,
        0,
        0,
        0,
        0xb8,
        source.constant,
        0,
        0,
        0,
        0x48,
        0xbf,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    code.extend([0x0f, 0x0b, 0x8b, 0x05, 0, 0, 0, 0, 0xc3, 0xcc, 0xcc, 0xcc]);
    code[29..31].copy_from_slice(&source.branch);
    code
}

/// The file with each section starting at `before`, as many times as there are copies.
fn file(source: Source, before: [u64; 5]) -> Vec<u8> {
    let fill = |number: usize| vec![0x90; before[number] as usize];
    let mut sections: Vec<Section> = [
        (".text", 0x6, 16),
        (".data", 0x3, 4),
        (".rodata.str1.1", 0x32, 1),
        ("__bug_table", 0x3, 1),
        ("__jump_table", 0x3, 8),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (name, flags, align))| Section {
        name: name.into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: flags,
        sh_addralign: align,
        sh_entsize: u64::from(number == STRINGS),
        data: fill(number),
        ..Section::default()
    })
    .collect();
    if before[STRINGS] > 0 {
        sections[STRINGS].data = b"xx\0".to_vec();
    }
    let section_symbol = |number: usize| Symbol::new("", Place::Section(number), 0, elf::STT_SECTION.0);
    let mut symbols: Vec<Symbol> = (0..5).map(section_symbol).collect();
    let mut rows: [Vec<Rela>; 5] = Default::default();
    let callee = 5 + 2 * source.copies as usize;
    for copy in 0..source.copies {
        let at = |number: usize, size: u64| before[number] + copy * size;
        let (text, data, strings, bugs) = (at(TEXT, CODE), at(DATA, 4), before[STRINGS], at(BUGS, 12));
        sections[TEXT].data.extend(code(source));
        sections[DATA].data.extend(source.setting.to_le_bytes());
        if copy == 0 {
            sections[STRINGS].data.extend(source.text.bytes().chain([0]));
        }
        sections[BUGS].data.extend([0; 8]);
        sections[BUGS].data.extend(source.line.to_le_bytes());
        sections[BUGS].data.extend([0; 2]);
        sections[JUMPS].data.extend([0; 16]);
        let rela = |r_offset, symbol, r_type: u32, r_addend: u64| Rela {
            r_offset,
            symbol: Some(symbol),
            r_type,
            r_addend: r_addend as i64,
        };
        rows[TEXT].push(rela(
            text + 1,
            callee,
            X86_64.facts().relocs.filled(Use::Branch),
            4u64.wrapping_neg(),
        ));
        rows[TEXT].push(rela(text + 12, STRINGS, X86_64.facts().relocs.pointer.0, strings));
        rows[TEXT].push(rela(
            text + 24,
            DATA,
            X86_64.facts().relocs.filled(Use::Address),
            data.wrapping_sub(4),
        ));
        rows[BUGS].push(rela(bugs, TEXT, X86_64.facts().relocs.filled(Use::Address), text + 20));
        rows[BUGS].push(rela(
            bugs + 4,
            STRINGS,
            X86_64.facts().relocs.filled(Use::Address),
            strings,
        ));
        let jumps = at(JUMPS, 16);
        rows[JUMPS].push(rela(jumps, TEXT, X86_64.facts().relocs.filled(Use::Address), text + 29));
        rows[JUMPS].push(rela(
            jumps + 4,
            TEXT,
            X86_64.facts().relocs.filled(Use::Address),
            text + 31,
        ));
        rows[JUMPS].push(rela(jumps + 8, DATA, X86_64.facts().relocs.pointer.0, data));
        let mut answer = Symbol::new("answer", Place::Section(TEXT), 0, elf::STT_FUNC.0);
        (answer.st_value, answer.st_size) = (text, 31);
        let mut setting = Symbol::new("setting", Place::Section(DATA), 0, elf::STT_OBJECT.0);
        (setting.st_value, setting.st_size) = (data, 4);
        symbols.extend([answer, setting]);
    }
    for name in [source.callee, "helper", "helper2"] {
        symbols.push(Symbol::new(name, Place::Reserved(0), 1, 0));
    }
    for (section, rows) in sections.iter_mut().zip(rows) {
        section.size = section.data.len() as u64;
        if !rows.is_empty() {
            section.relas.push(RelaSection {
                name: format!(".rela{}", section.name),
                sh_flags: 0,
                rows,
            });
        }
    }
    let file = File {
        e_machine: X86_64.facts().machine.0,
        sections,
        symbols,
        ..File::default()
    };
    file.write()
}

fn proven(compiled: Source, shipped: Source) -> Result<Located, Vec<Refusal>> {
    let module = file(shipped, BEFORE);
    let memory = Memory::of_module(ObjectName::module("m"), &module).expect("well-formed");
    prove("a.o", &file(compiled, ALONE), &memory)
}

fn refused(compiled: Source, shipped: Source) -> String {
    let refusals = proven(compiled, shipped).expect_err("it differs");
    assert!(
        refusals.iter().all(|refusal| refusal.code == NOT_SHIPPED),
        "{refusals:?}"
    );
    refusals
        .iter()
        .map(|refusal| format!("{}: {}\n", refusal.at, refusal.why))
        .collect()
}

#[test]
fn the_shipped_file_is_found_behind_another_one() {
    let located = proven(SHIPPED, SHIPPED).expect("it is the same");
    assert_eq!((located.functions, located.data), (1, 4 + 12 + 16));
    assert_eq!((&located.explained[..], &located.unlocated[..]), (&[][..], &[][..]));
    let parts: Vec<(&str, u64, u64)> = located
        .parts
        .iter()
        .map(|part| (&*part.name, part.address % 0x1000, part.size))
        .collect();
    assert_eq!(
        parts,
        [("answer", BEFORE[TEXT], 31), ("setting", 0x30 + BEFORE[DATA], 4)]
    );
}

#[test]
fn each_difference_is_a_refusal_with_its_place() {
    let cases = [
        ("a constant", Source { constant: 8, ..SHIPPED }, "answer"),
        ("a shifted line", Source { line: 41, ..SHIPPED }, "__bug_table"),
        ("a fix in data only", Source { setting: 4, ..SHIPPED }, "setting"),
        (
            "another callee",
            Source {
                callee: "helper2",
                ..SHIPPED
            },
            "should lead to helper2",
        ),
        (
            "another text",
            Source {
                text: "other",
                ..SHIPPED
            },
            "should lead to \"other\"",
        ),
    ];
    for (what, compiled, word) in cases {
        let why = refused(compiled, SHIPPED);
        assert!(why.contains(word), "{what}: {why}");
    }
}

#[test]
fn two_possible_places_are_none() {
    let twice = Source { copies: 2, ..SHIPPED };
    let why = refused(SHIPPED, twice);
    assert!(why.contains("fits in 2 places"), "{why}");
}

#[test]
fn a_file_that_is_not_there_is_not_built() {
    let module = file(SHIPPED, BEFORE);
    let memory = Memory::of_module(ObjectName::module("m"), &module).expect("well-formed");
    let mut other = crate::elf::read(&file(SHIPPED, ALONE)).expect("well-formed");
    for symbol in other.symbols.iter_mut().filter(|symbol| symbol.name == "answer") {
        symbol.name = "elsewhere".into();
    }
    let refusals = prove("a.o", &other.write(), &memory).expect_err("no function is there");
    assert_eq!(
        refusals.iter().map(|refusal| refusal.code).collect::<Vec<_>>(),
        [NOT_BUILT]
    );
}

#[test]
fn damaged_modules_are_errors() {
    let good = file(SHIPPED, BEFORE);
    for cut in 0..good.len() {
        let memory = Memory::of_module(ObjectName::module("m"), &good[..cut]);
        assert!(memory.is_err() || cut + 8 > good.len(), "cut at {cut}");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        if let Ok(memory) = Memory::of_module(ObjectName::module("m"), &bad) {
            let _ = prove("a.o", &good, &memory);
        }
        let memory = Memory::of_module(ObjectName::module("m"), &good).expect("well-formed");
        let _ = prove("a.o", &bad, &memory);
    }
}

#[test]
fn a_static_branch_may_be_a_nop_since_the_link() {
    let linked = Source {
        branch: [0x66, 0x90],
        ..SHIPPED
    };
    let located = proven(SHIPPED, linked).expect("objtool did that");
    let explained: Vec<(&str, &str)> = located.explained.iter().map(|one| (&*one.function, one.why)).collect();
    assert_eq!((located.functions, &explained[..]), (1, &[("answer", BRANCH)][..]));
    let other = Source {
        branch: [0x66, 0x91],
        ..SHIPPED
    };
    assert!(refused(SHIPPED, other).contains("answer"));
    assert!(
        refused(linked, SHIPPED).contains("answer"),
        "the other way round it is a difference"
    );
}
