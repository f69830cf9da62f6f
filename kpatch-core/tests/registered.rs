//! What a finished module registers is read back from its tables, and nothing else is taken for one.

use kpatch_core::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use kpatch_core::klp::{self, Registered};
use kpatch_core::{Moment, ObjectName};
use object::elf;

const NAMES: &[u8] = b"first\0second\0third\0ext4\0xfs\0knob\0";
const TEXT: usize = 0;
const STRINGS: usize = 1;
const DATA: usize = 2;
const THIS_MODULE: usize = 3;

fn section(name: &str, flags: elf::SectionFlags, data: Vec<u8>) -> Section {
    Section {
        name: name.into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: (elf::SHF_ALLOC | flags).0,
        sh_addralign: 8,
        size: data.len() as u64,
        data,
        ..Section::default()
    }
}

/// A pointer at this place of the data to a byte of a section.
fn pointer(r_offset: u64, section: usize, r_addend: i64) -> Rela {
    Rela {
        r_offset,
        symbol: Some(section),
        r_type: elf::R_X86_64_64.0,
        r_addend,
    }
}

fn string(r_offset: u64, name: &str) -> Rela {
    let at = NAMES.windows(name.len()).position(|text| text == name.as_bytes());
    pointer(r_offset, STRINGS, at.expect("it is there") as i64)
}

/// Three objects: two functions and a callback; one function of a module; a module with a callback alone. Behind them a
/// table of somebody else, which looks like one of functions.
fn module() -> File {
    let mut data = vec![0; 640];
    data[64] = 2;
    let rows = vec![
        string(0, "first"),
        pointer(8, TEXT, 0),
        string(48, "second"),
        pointer(56, TEXT, 16),
        string(144, "third"),
        pointer(152, TEXT, 32),
        pointer(296, DATA, 0),
        pointer(304, TEXT, 48),
        string(352, "ext4"),
        pointer(360, DATA, 144),
        string(416, "xfs"),
        pointer(424, DATA, 240),
        pointer(456, TEXT, 48),
        pointer(544, THIS_MODULE, 0),
        pointer(552, DATA, 288),
        string(600, "knob"),
        pointer(608, TEXT, 0),
    ];
    let mut file = File {
        e_machine: elf::EM_X86_64.0,
        sections: vec![
            section(".text", elf::SHF_EXECINSTR, vec![0x90; 64]),
            section(".rodata.str1.1", elf::SHF_ALLOC, NAMES.to_vec()),
            section(".data", elf::SHF_WRITE, data),
            section(".gnu.linkonce.this_module", elf::SHF_WRITE, vec![0; 64]),
        ],
        ..File::default()
    };
    file.sections[DATA].relas.push(RelaSection {
        name: ".rela.data".into(),
        sh_flags: 0,
        rows,
    });
    for index in 0..4 {
        let bind = elf::STB_LOCAL.0;
        file.symbols
            .push(Symbol::new("", Place::Section(index), bind, elf::STT_SECTION.0));
    }
    let tables = [
        ("a", 0, 144),
        ("b", 144, 96),
        ("c", 240, 48),
        ("objs", 288, 256),
        ("patch", 544, 48),
    ];
    for (name, st_value, st_size) in tables {
        file.symbols.push(Symbol {
            st_value,
            st_size,
            ..Symbol::new(name, Place::Section(DATA), elf::STB_LOCAL.0, elf::STT_OBJECT.0)
        });
    }
    file
}

fn registered(object: ObjectName, functions: &[(&str, u64)], callbacks: &[Moment]) -> Registered {
    Registered {
        object,
        functions: functions.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect(),
        callbacks: callbacks.to_vec(),
    }
}

#[test]
fn each_object_has_its_own_rows() {
    let expected = [
        registered(
            ObjectName::vmlinux(),
            &[("first", 0), ("second", 2)],
            &[Moment::PrePatch],
        ),
        registered(ObjectName::module("ext4"), &[("third", 0)], &[]),
        registered(ObjectName::module("xfs"), &[], &[Moment::PostUnpatch]),
    ];
    assert_eq!(klp::registered(&module().write()).unwrap(), expected);
}

#[test]
fn a_table_that_nothing_bounds_is_not_guessed_at() {
    let mut file = module();
    file.symbols.truncate(4);
    assert_eq!(klp::registered(&file.write()).unwrap(), []);
    assert!(klp::registered(b"no module").is_err());
}
