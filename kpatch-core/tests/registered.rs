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

/// The pointer to states is the third of a livepatch.
#[test]
fn states_are_read_until_the_number_is_0() {
    let mut file = module();
    assert_eq!(klp::states(&file.write()).unwrap(), []);
    let mut states = vec![0; 72];
    for (at, value) in [(0, 5_u8), (8, 2), (24, 9), (32, 1)] {
        states[at] = value;
    }
    file.sections.push(section(".data.states", elf::SHF_WRITE, states));
    let place = Place::Section(file.sections.len() - 1);
    file.symbols
        .push(Symbol::new("", place, elf::STB_LOCAL.0, elf::STT_SECTION.0));
    let states = file.symbols.len() - 1;
    file.sections[DATA].relas[0].rows.push(pointer(560, states, 0));
    let found = klp::states(&file.write()).unwrap();
    let found: Vec<(u64, u32)> = found.iter().map(|state| (state.id, state.version)).collect();
    assert_eq!(found, [(5, 2), (9, 1)]);
}

/// ppc64le keeps addresses in a table, in any order.
#[test]
fn what_stands_behind_the_module_elsewhere_is_no_state() {
    let mut file = module();
    let rows = vec![pointer(0, THIS_MODULE, 0), string(8, "knob"), string(16, "first")];
    let mut toc = section(".toc", elf::SHF_WRITE, vec![0; 24]);
    toc.relas.push(RelaSection {
        name: ".rela.toc".into(),
        sh_flags: 0,
        rows,
    });
    file.sections.push(toc);
    assert_eq!(klp::states(&file.write()).unwrap(), []);
}

/// The check of the build is nobody's callback, unless one comes behind it.
#[test]
fn the_check_of_the_build_is_no_callback_of_the_author() {
    let mut file = module();
    let check = Symbol {
        st_value: 48,
        ..Symbol::new(
            klp::SAME_BUILD,
            Place::Section(TEXT),
            elf::STB_GLOBAL.0,
            elf::STT_FUNC.0,
        )
    };
    file.symbols.push(check);
    let check = file.symbols.len() - 1;
    file.sections[DATA].relas[0].rows.push(pointer(368, check, 0));
    let of_ext4 = |file: &File| {
        let found = klp::registered(&file.write()).unwrap();
        let ext4 = found.into_iter().find(|one| one.object == ObjectName::module("ext4"));
        ext4.unwrap().callbacks
    };
    assert_eq!(of_ext4(&file), []);
    let mut builds = section(".rodata", elf::SHF_ALLOC, vec![0; 16]);
    builds.relas.push(RelaSection {
        name: ".rela.rodata".into(),
        sh_flags: 0,
        rows: vec![string(0, "ext4"), pointer(8, TEXT, 0)],
    });
    file.sections.push(builds);
    assert_eq!(of_ext4(&file), [Moment::PrePatch]);
}

fn with_records(sections: Vec<(&str, usize, Vec<Rela>)>) -> File {
    let mut file = module();
    file.sections[DATA].relas.clear();
    for (name, size, rows) in sections {
        let mut made = section(name, elf::SHF_ALLOC, vec![0; size]);
        made.relas.push(RelaSection {
            name: format!(".rela{name}"),
            sh_flags: 0,
            rows,
        });
        file.sections.push(made);
        let place = Place::Section(file.sections.len() - 1);
        file.symbols
            .push(Symbol::new(name, place, elf::STB_LOCAL.0, elf::STT_SECTION.0));
    }
    file
}

#[test]
fn records_of_kpatch_are_read() {
    let functions = vec![
        pointer(0, TEXT, 0),
        string(40, "first"),
        string(48, "ext4"),
        pointer(56, TEXT, 16),
        string(96, "second"),
        string(104, "ext4"),
    ];
    let callbacks = vec![pointer(0, TEXT, 48), string(8, "xfs")];
    let mut file = with_records(vec![
        (".kpatch.funcs", 112, functions),
        (".kpatch.callbacks.post_unpatch", 16, callbacks),
    ]);
    let at = file.sections.len() - 2;
    file.sections[at].data[56 + 32] = 1;
    let expected = [
        registered(ObjectName::module("ext4"), &[("first", 0), ("second", 1)], &[]),
        registered(ObjectName::module("xfs"), &[], &[Moment::PostUnpatch]),
    ];
    assert_eq!(klp::registered(&file.write()).unwrap(), expected);
}

#[test]
fn records_of_klp_build_are_read() {
    let functions = vec![
        string(0, "first"),
        pointer(8, TEXT, 0),
        string(24, "second"),
        pointer(32, TEXT, 16),
    ];
    let mut file = with_records(vec![(".init.klp_funcs", 48, functions)]);
    let table = file.symbols.len() - 1;
    let at = file.sections.len() - 1;
    file.sections[at].data[24 + 16] = 3;
    let mut objects = section(".init.klp_objects", elf::SHF_ALLOC, vec![0; 128]);
    objects.relas.push(RelaSection {
        name: ".rela.init.klp_objects".into(),
        sh_flags: 0,
        rows: vec![
            pointer(8, table, 0),
            string(64, "ext4"),
            pointer(72, table, 24),
            pointer(80, TEXT, 48),
        ],
    });
    file.sections.push(objects);
    let expected = [
        registered(ObjectName::vmlinux(), &[("first", 0)], &[]),
        registered(ObjectName::module("ext4"), &[("second", 3)], &[Moment::PrePatch]),
    ];
    assert_eq!(klp::registered(&file.write()).unwrap(), expected);
}

/// The same code is the same wherever it lies, and what it refers to counts.
#[test]
fn code_is_compared_by_what_it_does() {
    let with = |code: u8, to: &str, start: u64| {
        let mut file = module();
        file.sections[TEXT].data = vec![0x90; 64];
        file.sections[TEXT].data[start as usize] = code;
        let first = &mut file.sections[DATA].relas[0].rows[1];
        first.r_addend = start as i64;
        let function = Symbol {
            st_value: start,
            st_size: 8,
            ..Symbol::new("f", Place::Section(TEXT), elf::STB_LOCAL.0, elf::STT_FUNC.0)
        };
        file.symbols.push(function);
        file.symbols
            .push(Symbol::new(to, Place::Reserved(0), elf::STB_GLOBAL.0, 0));
        let called = file.symbols.len() - 1;
        file.sections[TEXT].relas.push(RelaSection {
            name: ".rela.text".into(),
            sh_flags: 0,
            rows: vec![Rela {
                r_offset: start + 1,
                symbol: Some(called),
                r_type: elf::R_X86_64_PLT32.0,
                r_addend: -4,
            }],
        });
        let found = klp::new_code(&file.write()).unwrap();
        found.into_iter().find(|(_, name, ..)| name == "first").unwrap().3
    };
    let plain = with(0xe8, "printk", 0);
    assert_eq!(with(0xe8, "printk", 24), plain);
    assert_ne!(with(0xe9, "printk", 0), plain);
    assert_ne!(with(0xe8, "kfree", 0), plain);
}

#[test]
fn a_table_that_nothing_bounds_is_not_guessed_at() {
    let mut file = module();
    file.symbols.truncate(4);
    assert_eq!(klp::registered(&file.write()).unwrap(), []);
    assert!(klp::registered(b"no module").is_err());
}
