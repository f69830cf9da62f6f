//! What the module loaders of arm64 and s390x take: the check of a finished module refuses everything else. Damaged files of
//! these machines must not panic.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::damage::survives;
use kpatch_core::elf::{File, Place, Rela, RelaSection, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, Section, Symbol};
use kpatch_core::klp::{self, Expected};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Author, Code, Input, ObjectName, build_patch};
use object::elf::{self, Machine, RelocationType};

/// Number of the symbol of the section, of a kernel's symbol, and of a module's.
const OWN: usize = 0;
const KERNEL: usize = 1;
const MODULE: usize = 2;

fn target() -> Target<'static> {
    Target {
        vmlinux: Image::empty(ObjectName::vmlinux()),
        modules: BTreeMap::new(),
        exports: Exports::default(),
        partial: false,
    }
}

/// A module with 64 bytes of code, data of a kind, and one relocation of the code.
fn module(machine: Machine, data: &str, r_type: RelocationType, symbol: usize) -> File {
    let gate = match symbol {
        KERNEL => Some("vmlinux"),
        MODULE => Some("mod"),
        _ => None,
    };
    let rela = RelaSection {
        name: gate.map_or(".rela.text.f".into(), |gate| format!(".klp.rela.{gate}..text.f")),
        sh_flags: elf::SHF_ALLOC.0 | gate.map_or(0, |_| SHF_RELA_LIVEPATCH),
        rows: vec![Rela {
            r_offset: 8,
            symbol: Some(symbol),
            r_type: r_type.0,
            r_addend: 0,
        }],
    };
    let section = |name: &str, sh_flags: u64, relas: Vec<RelaSection>| Section {
        name: name.into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: elf::SHF_ALLOC.0 | sh_flags,
        sh_addralign: 8,
        size: 64,
        data: vec![0; 64],
        relas,
        ..Section::default()
    };
    let klp = |name: &str| {
        let place = Place::Reserved(SHN_LIVEPATCH);
        Symbol::new(name, place, elf::STB_GLOBAL.0, elf::STT_NOTYPE.0)
    };
    File {
        e_machine: machine.0,
        e_flags: 0,
        big_endian: machine == elf::EM_S390,
        sections: vec![
            section(".text.f", elf::SHF_EXECINSTR.0, vec![rela]),
            section(data, elf::SHF_WRITE.0, Vec::new()),
        ],
        symbols: vec![
            Symbol::new("", Place::Section(1), elf::STB_LOCAL.0, elf::STT_SECTION.0),
            klp(".klp.sym.vmlinux.hidden,0"),
            klp(".klp.sym.mod.own,0"),
        ],
    }
}

/// The codes of what is wrong with the relocation.
fn codes(file: &File) -> BTreeSet<Code> {
    let expected = Expected {
        functions: &[],
        callbacks: &[],
        vermagic: None,
        addressed: &BTreeSet::new(),
    };
    let found = klp::check(&file.write(), &target(), &expected);
    let wanted = [klp::BAD_RELOCATION, klp::LATE_RELOCATION];
    found
        .iter()
        .map(|refusal| refusal.code)
        .filter(|code| wanted.contains(code))
        .collect()
}

fn verdict(machine: Machine, r_type: RelocationType, symbol: usize) -> BTreeSet<Code> {
    codes(&module(machine, ".data", r_type, symbol))
}

#[test]
fn types_that_a_loader_does_not_take_are_refused() {
    let arm64 = [
        elf::R_AARCH64_ADR_GOT_PAGE,
        elf::R_AARCH64_LD64_GOT_LO12_NC,
        elf::R_AARCH64_TLSLE_ADD_TPREL_LO12,
        RelocationType(314),
    ];
    let s390x = [
        elf::R_390_COPY,
        elf::R_390_GLOB_DAT,
        elf::R_390_JMP_SLOT,
        elf::R_390_RELATIVE,
        elf::R_390_TLS_LE64,
    ];
    let all = arm64.map(|r_type| (elf::EM_AARCH64, r_type)).into_iter();
    for (machine, r_type) in all.chain(s390x.map(|r_type| (elf::EM_S390, r_type))) {
        for symbol in [OWN, KERNEL, MODULE] {
            let found = verdict(machine, r_type, symbol);
            assert!(
                found.contains(&klp::BAD_RELOCATION),
                "{machine:?} {r_type:?} {symbol}: {found:?}"
            );
        }
    }
}

#[test]
fn types_that_a_loader_takes_are_not() {
    let arm64 = [
        elf::R_AARCH64_ABS64,
        elf::R_AARCH64_CALL26,
        elf::R_AARCH64_JUMP26,
        elf::R_AARCH64_ADR_PREL_PG_HI21,
        elf::R_AARCH64_ADD_ABS_LO12_NC,
        elf::R_AARCH64_LDST64_ABS_LO12_NC,
        elf::R_AARCH64_MOVW_UABS_G3,
    ];
    let s390x = [elf::R_390_64, elf::R_390_PC32DBL, elf::R_390_PLT32DBL, elf::R_390_PC64];
    let all = arm64.map(|r_type| (elf::EM_AARCH64, r_type)).into_iter();
    for (machine, r_type) in all.chain(s390x.map(|r_type| (elf::EM_S390, r_type))) {
        for symbol in [OWN, KERNEL, MODULE] {
            assert_eq!(
                verdict(machine, r_type, symbol),
                BTreeSet::new(),
                "{machine:?} {r_type:?} {symbol}"
            );
        }
    }
}

#[test]
fn a_slot_that_is_filled_once_is_not_for_what_comes_and_goes() {
    let slot = elf::R_390_GOTENT;
    assert_eq!(verdict(elf::EM_S390, slot, MODULE), [klp::LATE_RELOCATION].into());
    assert_eq!(verdict(elf::EM_S390, slot, KERNEL), BTreeSet::new());
    assert_eq!(verdict(elf::EM_S390, slot, OWN), BTreeSet::new());
}

#[test]
fn per_cpu_variables_are_too_far_away_for_a_distance() {
    let verdict = |machine, r_type| codes(&module(machine, ".data..percpu", r_type, OWN));
    assert_eq!(verdict(elf::EM_S390, elf::R_390_PC32DBL), [klp::BAD_RELOCATION].into());
    for r_type in [elf::R_390_GOTENT, elf::R_390_64] {
        assert_eq!(verdict(elf::EM_S390, r_type), BTreeSet::new());
    }
    assert_eq!(
        verdict(elf::EM_AARCH64, elf::R_AARCH64_ADR_PREL_PG_HI21),
        BTreeSet::new()
    );
}

#[test]
fn spoilt_modules() {
    for (machine, r_type) in [
        (elf::EM_S390, elf::R_390_GOTENT),
        (elf::EM_AARCH64, elf::R_AARCH64_CALL26),
    ] {
        for symbol in [OWN, MODULE] {
            let good = module(machine, ".data..percpu", r_type, symbol).write();
            survives("finished module", &good, |bytes| {
                let expected = Expected {
                    functions: &[],
                    callbacks: &[],
                    vermagic: None,
                    addressed: &BTreeSet::new(),
                };
                drop(klp::check(bytes, &target(), &expected));
                drop(klp::late_calls(bytes));
            });
        }
    }
}

/// Objects with the tables that these machines have: places of the tracer, alternatives, static keys, exceptions.
#[test]
fn spoilt_objects_with_tables() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/objects");
    for machine in ["s390x-clang", "aarch64-clang"] {
        for name in ["alternatives", "jump-label", "ex-table"] {
            let file = |side: &str| {
                let path = folder.join(machine).join(format!("{name}.{side}.o"));
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            };
            let (orig, patched) = (file("orig"), file("patched"));
            let run = |orig: &[u8], patched: &[u8]| {
                let inputs = [Input {
                    name: "fs/a.o".into(),
                    parent: ObjectName::vmlinux(),
                    orig: Some(orig),
                    patched,
                    shipped: None,
                }];
                drop(build_patch(&inputs, &target(), &Author::default()));
            };
            survives(&format!("{machine}: {name}, patched"), &patched, |bytes| {
                run(&orig, bytes)
            });
            survives(&format!("{machine}: {name}, original"), &orig, |bytes| {
                run(bytes, &patched)
            });
        }
    }
}
