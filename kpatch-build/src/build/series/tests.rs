//! Livepatches that take the place of made-up ones.

use std::fs;

use kpatch_core::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use kpatch_core::{Callback, Emitted, Moment};
use object::elf as format;

use super::*;

const NAMES: &[u8] = b"f\0g\0";
const TEXT: usize = 0;
const STRINGS: usize = 1;
const DATA: usize = 2;
const MODULE: usize = 3;

fn section(name: &str, flags: format::SectionFlags, data: Vec<u8>) -> Section {
    Section {
        name: name.into(),
        sh_type: format::SHT_PROGBITS.0,
        sh_flags: (format::SHF_ALLOC | flags).0,
        sh_addralign: 8,
        size: data.len() as u64,
        data,
        ..Section::default()
    }
}

fn pointer(r_offset: u64, symbol: usize, r_addend: i64) -> Rela {
    Rela {
        r_offset,
        symbol: Some(symbol),
        r_type: format::R_X86_64_64.0,
        r_addend,
    }
}

/// `livepatch_1`: f (the only one, at position 1) and g of the image, and state 7 in version 2.
fn old() -> File {
    let mut data = vec![0; 400];
    data[16] = 1;
    data[64] = 1;
    (data[320], data[328]) = (7, 2);
    let rows = vec![
        pointer(0, STRINGS, 0),
        pointer(8, TEXT, 0),
        pointer(48, STRINGS, 2),
        pointer(56, TEXT, 16),
        pointer(152, DATA, 0),
        pointer(240, MODULE, 0),
        pointer(248, DATA, 144),
        pointer(256, DATA, 320),
    ];
    let modinfo = b"license=GPL\0livepatch=Y\0name=livepatch_1\0vermagic=6.12.107 SMP \0".to_vec();
    let mut file = File {
        e_machine: format::EM_X86_64.0,
        sections: vec![
            section(".text", format::SHF_EXECINSTR, vec![0x90; 64]),
            section(".rodata.str1.1", format::SHF_ALLOC, NAMES.to_vec()),
            section(".data", format::SHF_WRITE, data),
            section(".gnu.linkonce.this_module", format::SHF_WRITE, vec![0; 64]),
            section(".modinfo", format::SHF_ALLOC, modinfo),
        ],
        ..File::default()
    };
    file.sections[DATA].relas.push(RelaSection {
        name: ".rela.data".into(),
        sh_flags: 0,
        rows,
    });
    for index in 0..4 {
        let bind = format::STB_LOCAL.0;
        file.symbols
            .push(Symbol::new("", Place::Section(index), bind, format::STT_SECTION.0));
    }
    for (name, st_value, st_size) in [("funcs", 0, 144), ("objs", 144, 96), ("patch", 240, 80)] {
        file.symbols.push(Symbol {
            st_value,
            st_size,
            ..Symbol::new(name, Place::Section(DATA), format::STB_LOCAL.0, format::STT_OBJECT.0)
        });
    }
    file
}

fn function(name: &str) -> PatchedFunction {
    PatchedFunction {
        object: ObjectName::vmlinux(),
        name: name.to_owned(),
        sympos: SymPos(0),
        unit: "a.o".to_owned(),
        reason: kpatch_core::Reason::Callback,
        handle: format!("new_{name}"),
    }
}

fn patch(functions: &[&str], states: &[(u64, u32)]) -> Patch {
    Patch {
        objects: Vec::new(),
        functions: functions.iter().map(|name| function(name)).collect(),
        carried: Vec::new(),
        sleeps: Vec::new(),
        callbacks: Vec::new(),
        states: states.iter().map(|&(id, version)| State { id, version }).collect(),
        values: Vec::new(),
        symbols: BTreeMap::new(),
        addressed: BTreeSet::new(),
        namespaces: BTreeSet::new(),
        elements: Vec::new(),
        ignored: Vec::new(),
        accepted: Vec::new(),
    }
}

fn read_old(file: &File) -> Vec<Old> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("livepatch_1.ko");
    fs::write(&path, file.write()).unwrap();
    read(&[path], "6.12.107").unwrap()
}

/// The codes of what speaks against a new livepatch.
fn codes(olds: &[Old], patch: &Patch, accept: &[&str]) -> Vec<&'static str> {
    codes_for(olds, patch, accept, "livepatch_2", "6.12.107 SMP ")
}

fn codes_for(olds: &[Old], patch: &Patch, accept: &[&str], name: &str, vermagic: &str) -> Vec<&'static str> {
    let about = About::default();
    let new = New {
        name,
        patch,
        about: &about,
        vermagic: Some(vermagic),
        build_ids: &BTreeMap::new(),
    };
    let accept: Vec<String> = accept.iter().map(|&name| name.to_owned()).collect();
    match check(olds, &new, &accept) {
        Ok(_) => Vec::new(),
        Err(error) => crate::outcome::refusals(&error)
            .iter()
            .map(|refusal| refusal.code.name())
            .collect(),
    }
}

#[test]
fn what_becomes_of_each_function_is_told() {
    let olds = read_old(&old());
    let found = replaced(&olds, &patch(&["f", "h.llvm.7"], &[(7, 2)]), None);
    assert_eq!(
        found[0].to_string(),
        "livepatch_1: 1 dropped (vmlinux:g), 1 added (vmlinux:h), 1 changed (vmlinux:f), 1 state handed over"
    );
    let with_module = replaced(&olds, &patch(&["f", "g"], &[]), Some(&old().write()));
    assert_eq!(with_module[0].same, ["vmlinux:f", "vmlinux:g"]);
}

#[test]
fn a_position_is_taken_from_the_old_livepatch() {
    let olds = read_old(&old());
    let mut new = patch(&["f", "h"], &[]);
    take_positions(&olds, &mut new.functions);
    let positions: Vec<u32> = new.functions.iter().map(|function| function.sympos.0).collect();
    assert_eq!(positions, [1, 0]);
}

#[test]
fn a_state_must_be_there_in_the_same_version_or_a_higher_one() {
    let olds = read_old(&old());
    let with = |states: &[(u64, u32)]| codes(&olds, &patch(&["f"], states), &[]);
    assert_eq!(with(&[]), ["series.state-lost"]);
    assert_eq!(with(&[(7, 1)]), ["series.state-lost"]);
    assert_eq!(with(&[(8, 2)]), ["series.state-lost"]);
    assert_eq!(with(&[(7, 2)]), Vec::<&str>::new());
    assert_eq!(with(&[(7, 3), (8, 1)]), Vec::<&str>::new());
    // The kernel would not load it, whatever the author knows.
    let accepted = codes(&olds, &patch(&["f"], &[]), &["livepatch_1"]);
    assert_eq!(accepted, ["series.state-lost"]);
}

#[test]
fn callbacks_must_go_on_or_be_accepted() {
    let mut file = old();
    // post_unpatch of the image.
    file.sections[DATA].relas[0].rows.push(pointer(184, TEXT, 48));
    let olds = read_old(&file);
    let mut new = patch(&["f"], &[(7, 2)]);
    assert_eq!(codes(&olds, &new, &[]), ["series.callbacks-lost"]);
    assert_eq!(codes(&olds, &new, &["livepatch_1"]), Vec::<&str>::new());
    let callback = |moment| Callback {
        object: ObjectName::vmlinux(),
        moment,
        name: "c".to_owned(),
        unit: "a.o".to_owned(),
        handle: "klp_callback_0".to_owned(),
    };
    new.callbacks = vec![callback(Moment::PrePatch)];
    assert_eq!(codes(&olds, &new, &[]), ["series.callbacks-lost"]);
    new.callbacks = vec![callback(Moment::PostUnpatch)];
    assert_eq!(codes(&olds, &new, &[]), Vec::<&str>::new());
    assert_eq!(codes(&olds, &new, &["livepatch_1"]), ["patch.nothing-to-accept"]);
}

#[test]
fn shadow_variables_must_be_used_by_the_new_one() {
    let mut file = old();
    let undefined = |name: &str| Symbol::new(name, Place::Reserved(0), format::STB_GLOBAL.0, 0);
    file.symbols.push(undefined("klp_shadow_get_or_alloc"));
    let olds = read_old(&file);
    let mut new = patch(&["f"], &[(7, 2)]);
    assert_eq!(codes(&olds, &new, &[]), ["series.shadow-variables-lost"]);
    let object = File {
        e_machine: format::EM_X86_64.0,
        symbols: vec![undefined("klp_shadow_free_all")],
        ..File::default()
    };
    new.objects = vec![Emitted {
        unit: "a.o".to_owned(),
        bytes: object.write(),
    }];
    assert_eq!(codes(&olds, &new, &[]), Vec::<&str>::new());
}

#[test]
fn the_old_livepatch_is_for_the_same_kernel_and_has_another_name() {
    let olds = read_old(&old());
    let new = patch(&["f"], &[(7, 2)]);
    let found = codes_for(&olds, &new, &[], "livepatch_1", "6.12.107 SMP ");
    assert_eq!(found, ["env.name-taken"]);
    let found = codes_for(&olds, &new, &[], "livepatch_2", "6.12.108 SMP ");
    assert_eq!(found, ["series.other-kernel"]);
}

#[test]
fn another_release_is_refused_before_anything_is_built_and_a_file_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ko");
    fs::write(&path, old().write()).unwrap();
    let twice = [path.clone(), path];
    assert_eq!(read(&twice, "6.12.107").unwrap().len(), 1);
    let error = read(&twice, "6.12.108").err().unwrap();
    let codes: Vec<_> = crate::outcome::refusals(&error)
        .iter()
        .map(|refusal| refusal.code)
        .collect();
    assert_eq!(codes, [OTHER_KERNEL]);
}

#[test]
fn a_livepatch_that_shows_nothing_is_not_replaced_blindly() {
    let mut file = old();
    file.sections[DATA].relas.clear();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ko");
    fs::write(&path, file.write()).unwrap();
    let error = read(&[path], "6.12.107").err().unwrap();
    assert_eq!(crate::outcome::refusals(&error)[0].code, UNREADABLE);
}
