//! What a patch changes about structures, told from objects of several compilers (testdata/layouts).

use std::fs;
use std::path::{Path, PathBuf};

use kpatch_core::elf::{File, Section};
use kpatch_core::layout::{LayoutChange, Layouts, Rename};

const COMPILERS: [&str; 4] = ["x86_64-clang", "x86_64-gcc", "ppc64le-gcc", "s390x-clang"];

fn object(compiler: &str, side: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/layouts");
    folder.join(format!("{compiler}.{side}.o"))
}

fn bytes(compiler: &str, side: &str) -> Vec<u8> {
    fs::read(object(compiler, side)).expect("the object is committed")
}

fn layouts(compiler: &str, side: &str) -> Layouts {
    Layouts::read(side, &bytes(compiler, side)).expect("a compiler made it")
}

/// In these files each structure that may be renamed is.
fn changes(orig: &Layouts, patched: &Layouts) -> Vec<LayoutChange> {
    orig.changes(patched, &|rename: Rename<'_>| rename.from_file == rename.to_file)
}

#[test]
fn each_change_is_named_once_and_nothing_else() {
    for compiler in COMPILERS {
        let changes = changes(&layouts(compiler, "orig"), &layouts(compiler, "patched"));
        let lines = changes.iter().map(|change| {
            let file = change.file.as_deref().unwrap_or("?").rsplit('/').next().unwrap_or("?");
            let line = change.line.unwrap_or(0);
            let was = change.was.as_ref().map_or_else(String::new, |was| format!(" ({was})"));
            format!(
                "{file}:{line} {}{was}: {}\n",
                change.name,
                change.differences.join(", ")
            )
        });
        insta::assert_snapshot!("layouts", lines.collect::<String>());
    }
}

#[test]
fn an_object_is_as_itself() {
    for compiler in COMPILERS {
        let orig = layouts(compiler, "orig");
        assert_ne!(orig, Layouts::default());
        assert_eq!(changes(&orig, &orig), []);
    }
}

#[test]
fn an_object_without_debugging_information_is_an_error() {
    let plain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/objects/x86_64-clang/constant.orig.o");
    let plain = fs::read(plain).expect("the object is committed");
    let error = Layouts::read("plain.o", &plain).expect_err("nothing is known about it");
    assert_eq!(error.code.name(), "layout.bad-debug-info");
    assert_eq!(error.at.file.as_deref(), Some("plain.o"));
}

/// An object whose debugging information says just this, without strings elsewhere.
fn made_of(debug_info: Vec<u8>, debug_abbrev: Vec<u8>) -> Vec<u8> {
    let section = |name: &str, data: Vec<u8>| Section {
        name: name.into(),
        sh_type: 1, // SHT_PROGBITS
        sh_addralign: 1,
        size: data.len() as u64,
        data,
        ..Section::default()
    };
    let sections = vec![
        section(".debug_info", debug_info),
        section(".debug_abbrev", debug_abbrev),
    ];
    let machine = 62; // EM_X86_64
    File {
        e_machine: machine,
        sections,
        ..File::default()
    }
    .write()
}

#[test]
fn types_that_contain_each_other_end() {
    // DWARF 5, 7.5.3: number, tag, whether there are children, then pairs of attribute and form.
    let abbreviations = [
        &[1, 0x11, 1, 0, 0][..],                     // DW_TAG_compile_unit
        &[2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0b, 0, 0], // DW_TAG_structure_type: name (string), byte_size (data1)
        &[3, 0x0d, 0, 0x49, 0x13, 0, 0],             // DW_TAG_member: type (ref4)
        &[4, 0x13, 1, 0x0b, 0x0b, 0, 0],             // DW_TAG_structure_type without a name
        &[0],
    ]
    .concat();
    // The unit's header is 12 bytes: length, version 5, DW_UT_compile, size of addresses, abbreviations.
    let (named, unnamed) = ([2, b's', 0, 8], [4, 8]);
    let at = 12 + 1 + named.len() as u8 + 5 + 1;
    let member = [3, at, 0, 0, 0];
    let entries = [&[1][..], &named, &member, &[0], &unnamed, &member, &member, &[0, 0]].concat();
    let mut unit = vec![5, 0, 1, 8, 0, 0, 0, 0];
    unit.extend(entries);
    let info = [&(unit.len() as u32).to_le_bytes()[..], &unit].concat();
    let error = Layouts::read("circle.o", &made_of(info, abbreviations)).expect_err("this has no end");
    assert_eq!(error.code.name(), "layout.bad-debug-info");
    assert!(error.why.contains("without end"), "{error}");
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let good = bytes("x86_64-clang", "orig");
    let mut errors = 0;
    for length in (0..good.len()).step_by(7) {
        errors += usize::from(Layouts::read("short", &good[..length]).is_err());
    }
    assert!(errors > 0);
    // Each byte in turn, with few values: what it means changes, the end is never a panic or a hang.
    for at in 0..good.len() {
        for value in [0, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = Layouts::read("bad", &bad);
        }
    }
}

/// A function `f` with one parameter, which has this type: a number of 4 bytes, a pointer to one, or a typedef of it.
fn with_a_parameter(of: u8) -> Layouts {
    // DWARF 5, 7.5.3: number, tag, whether there are children, then pairs of attribute and form.
    let abbreviations = [
        &[1, 0x11, 1, 0, 0][..],                     // DW_TAG_compile_unit
        &[2, 0x24, 0, 0x03, 0x08, 0x0b, 0x0b, 0, 0], // DW_TAG_base_type: name (string), byte_size (data1)
        &[3, 0x0f, 0, 0x49, 0x13, 0, 0],             // DW_TAG_pointer_type: type (ref4)
        &[4, 0x16, 0, 0x03, 0x08, 0x49, 0x13, 0, 0], // DW_TAG_typedef: name (string), type (ref4)
        &[5, 0x2e, 1, 0x03, 0x08, 0x3f, 0x19, 0, 0], // DW_TAG_subprogram: name (string), external (flag_present)
        &[6, 0x05, 0, 0x49, 0x13, 0, 0],             // DW_TAG_formal_parameter: type (ref4)
        &[0],
    ]
    .concat();
    // The unit's header is 12 bytes: length, version 5, DW_UT_compile, size of addresses, abbreviations.
    let number = 12 + 1;
    let pointer = number + 4;
    let typedef = pointer + 5;
    let entries = [
        &[1][..],
        &[2, b'i', 0, 4],
        &[3, number, 0, 0, 0],
        &[4, b't', 0, number, 0, 0, 0],
        &[5, b'f', 0],
        &[6, [number, pointer, typedef][usize::from(of)], 0, 0, 0],
        &[0, 0],
    ]
    .concat();
    let mut unit = vec![5, 0, 1, 8, 0, 0, 0, 0];
    unit.extend(entries);
    let info = [&(unit.len() as u32).to_le_bytes()[..], &unit].concat();
    Layouts::read("f.o", &made_of(info, abbreviations)).expect("it is well-formed")
}

#[test]
fn a_prototype_changes_with_what_is_passed() {
    let number = with_a_parameter(0);
    assert_eq!(number.prototype_changes(&number), []);
    assert_eq!(
        number.prototype_changes(&with_a_parameter(2)),
        [],
        "a typedef is the same type"
    );
    let changes = number.prototype_changes(&with_a_parameter(1));
    let [change] = &changes[..] else {
        panic!("one change expected: {changes:?}")
    };
    assert_eq!(
        (change.name.as_str(), change.from.as_str(), change.to.as_str()),
        ("f", "void (i)", "void (i *)")
    );
}

/// A structure `s` whose member `m` is a pointer to a function that takes one of these: a number, or a pointer to a structure
/// that is declared only, or to the same with its size.
fn with_an_operation(takes: u8) -> Layouts {
    let abbreviations = [
        &[1, 0x11, 1, 0, 0][..],                     // DW_TAG_compile_unit
        &[2, 0x24, 0, 0x03, 0x08, 0x0b, 0x0b, 0, 0], // DW_TAG_base_type: name (string), byte_size (data1)
        &[3, 0x0f, 0, 0x49, 0x13, 0, 0],             // DW_TAG_pointer_type: type (ref4)
        &[4, 0x13, 0, 0x03, 0x08, 0x3c, 0x19, 0, 0], // DW_TAG_structure_type: name (string), declaration (flag_present)
        &[5, 0x13, 0, 0x03, 0x08, 0x0b, 0x0b, 0, 0], // DW_TAG_structure_type: name (string), byte_size (data1)
        &[6, 0x15, 1, 0, 0],                         // DW_TAG_subroutine_type
        &[7, 0x05, 0, 0x49, 0x13, 0, 0],             // DW_TAG_formal_parameter: type (ref4)
        &[8, 0x13, 1, 0x03, 0x08, 0x0b, 0x0b, 0, 0], // DW_TAG_structure_type with members
        &[9, 0x0d, 0, 0x03, 0x08, 0x49, 0x13, 0, 0], // DW_TAG_member: name (string), type (ref4)
        &[0],
    ]
    .concat();
    let number = 12 + 1;
    let declared = number + 4;
    let whole = declared + 3;
    let pointers = [whole + 4, whole + 9];
    let function = whole + 14;
    let pointer = function + 7;
    let taken = [number, pointers[0], pointers[1]][usize::from(takes)];
    let entries = [
        &[1][..],
        &[2, b'i', 0, 4],
        &[4, b'd', 0],
        &[5, b'd', 0, 8],
        &[3, declared, 0, 0, 0],
        &[3, whole, 0, 0, 0],
        &[6],
        &[7, taken, 0, 0, 0],
        &[0],
        &[3, function, 0, 0, 0],
        &[8, b's', 0, 8],
        &[9, b'm', 0, pointer, 0, 0, 0],
        &[0, 0],
    ]
    .concat();
    let mut unit = vec![5, 0, 1, 8, 0, 0, 0, 0];
    unit.extend(entries);
    let info = [&(unit.len() as u32).to_le_bytes()[..], &unit].concat();
    Layouts::read("s.o", &made_of(info, abbreviations)).expect("it is well-formed")
}

#[test]
fn an_operation_changes_with_what_is_passed() {
    let (number, declared, whole) = (with_an_operation(0), with_an_operation(1), with_an_operation(2));
    let changes = number.operation_changes(&declared);
    let [change] = &changes[..] else {
        panic!("one change expected: {changes:?}")
    };
    assert_eq!(
        (&*change.name, &*change.from, &*change.to),
        ("struct s.m", "void (i)", "void (struct d *)")
    );
    assert_eq!(
        declared.operation_changes(&whole),
        [],
        "a structure that a new #include completes changes a checksum and nothing else"
    );
    assert_eq!(
        number.changes(&declared, &|_| true),
        [],
        "to the layout a pointer is a pointer"
    );
}
