//! The last look at a finished module for ppc64le: calls that leave it, and what the loader writes late.

mod common;

use common::case::{Case, codes, pair};
use common::code::label;
use common::kernel::KernelFiles;
use common::powerpc::{bl, call, function, li, local, pointer, slot};
use common::unit::Unit;
use kpatch_core::elf::{File, Section};
use kpatch_core::klp::{self, Expected};
use kpatch_core::{Code, Patch};
use object::elf;

const VERMAGIC: &str = "6.12.107 SMP mod_unload mprofile-kernel ";

fn unit(value: u16) -> Unit {
    let calls = [call("kfree"), call("hidden"), call("own")].concat();
    let code = [&[li(value), slot("@variable")][..], &calls, &[bl("added")]];
    let unit = Unit::powerpc()
        .with(function("f", &code))
        .with(local("own", &[&[li(1)]]))
        .bytes(".toc", &[label("variable"), pointer("variable")]);
    // What is new is part of the livepatch, so its call needs no room for a restore.
    match value {
        1 => unit,
        _ => unit.with(local("added", &[&[li(1)]])),
    }
}

/// A livepatch of a module of the kernel, and that kernel.
fn livepatch() -> (Patch, KernelFiles) {
    let case = Case::pairs(vec![pair("drivers/a.o", unit(1), unit(2)).of_module("mod")])
        .on(|kernel| kernel.exports.push(("kfree", "vmlinux", "")));
    (case.run().expect("a good patch"), case.kernel.files(&case.pairs))
}

fn finished(patch: &Patch) -> File {
    let mut file = kpatch_core::elf::read(&patch.objects[0].bytes).expect("emitted here");
    let data = format!("license=GPL\0livepatch=Y\0vermagic={VERMAGIC}\0").into_bytes();
    file.sections.push(Section {
        name: ".modinfo".into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: elf::SHF_ALLOC.0,
        sh_addralign: 1,
        size: data.len() as u64,
        data,
        ..Section::default()
    });
    let converted = klp::convert(&file.write(), &patch.symbols).expect("converts");
    kpatch_core::elf::read(&converted.bytes).expect("made here")
}

fn check(file: &File, patch: &Patch, kernel: &KernelFiles) -> Vec<kpatch_core::Refusal> {
    let expected = Expected {
        functions: &patch.functions,
        callbacks: &patch.callbacks,
        addressed: &patch.addressed,
        vermagic: Some(VERMAGIC),
    };
    klp::check(&file.write(), &kernel.target(), &expected)
}

/// Spoils a good module and expects exactly this code among the refusals.
fn caught(code: Code, spoil: impl FnOnce(&mut File)) {
    let (patch, kernel) = livepatch();
    let mut file = finished(&patch);
    spoil(&mut file);
    let found = check(&file, &patch, &kernel);
    let all = codes(&found);
    assert!(
        found.iter().any(|refusal| refusal.code == code),
        "{code} expected, found: {all}"
    );
}

fn section<'f>(file: &'f mut File, name: &str) -> &'f mut Section {
    let mut sections = file.sections.iter_mut();
    sections.find(|section| section.name == name).expect("it is there")
}

/// The places of the relocations of a section against a symbol.
fn places(file: &File, name: &str, target: &str) -> Vec<usize> {
    let found = file.sections.iter().find(|section| section.name == name);
    let rows = found.expect("it is there").relas.iter().flat_map(|rela| &rela.rows);
    let own = rows.filter(|row| row.symbol.is_some_and(|symbol| file.symbols[symbol].name == target));
    own.map(|row| row.r_offset as usize).collect()
}

fn write(file: &mut File, offset: usize, word: u32) {
    section(file, ".text.f").data[offset..offset + 4].copy_from_slice(&word.to_le_bytes());
}

#[test]
fn a_good_module_passes() {
    let (patch, kernel) = livepatch();
    let file = finished(&patch);
    assert_eq!(codes(&check(&file, &patch, &kernel)), "");
    let late = [".klp.sym.mod.own,0", ".klp.sym.vmlinux.hidden,0"];
    for target in late {
        assert_eq!(places(&file, ".text.f", target).len(), 1, "{target}");
    }
    assert_eq!(places(&file, ".toc", ".klp.sym.vmlinux.variable,0"), [0]);
    assert_eq!(file.e_flags, 2);
}

#[test]
fn no_room_for_the_restore() {
    for target in [".klp.sym.mod.own,0", ".klp.sym.vmlinux.hidden,0", "kfree"] {
        caught(klp::BAD_CALL, |file| {
            let offset = places(file, ".text.f", target)[0];
            write(file, offset + 4, 0x3860_0001);
        });
    }
}

#[test]
fn a_jump_out_of_the_module() {
    caught(klp::BAD_CALL, |file| {
        let offset = places(file, ".text.f", ".klp.sym.vmlinux.hidden,0")[0];
        write(file, offset, 0x4800_0000);
    });
}

#[test]
fn no_module_pointer() {
    caught(klp::BAD_CALL, |file| {
        let mut symbols = file.symbols.iter_mut();
        symbols.find(|symbol| symbol.name == "f").expect("it is there").st_other = 0;
    });
}

#[test]
fn a_relocation_that_the_loader_does_not_know() {
    caught(klp::BAD_RELOCATION, |file| {
        let rows = section(file, ".text.f")
            .relas
            .iter_mut()
            .flat_map(|rela| &mut rela.rows);
        rows.for_each(|row| {
            if row.r_type == elf::R_PPC64_REL24.0 {
                row.r_type = elf::R_PPC64_REL14.0;
            }
        });
    });
}

/// The pointer is to something of the module, which may come when constants are write-protected.
#[test]
fn a_late_pointer_in_constants() {
    let side = |pointers: bool| {
        let unit = Unit::powerpc().with(local("own", &[&[li(1)]]));
        let unit = unit.bytes(".toc", &[label("table"), pointer("table")]);
        let code = if pointers { slot("@table") } else { li(1) };
        let unit = unit.with(function("f", &[&[code]]));
        unit.local(
            ".rodata.table",
            "table",
            &[pointer("own"), pointer("own")][..1 + usize::from(pointers)],
        )
    };
    let case = Case::pairs(vec![pair("drivers/a.o", side(false), side(true)).of_module("mod")]).accepting("table");
    let (patch, kernel) = (case.run().expect("a good patch"), case.kernel.files(&case.pairs));
    assert_eq!(patch.accepted.len(), 1);
    let found = codes(&check(&finished(&patch), &patch, &kernel));
    assert!(found.contains("klp.late-relocation"), "{found}");
}

#[test]
fn a_late_slot_that_cannot_be_written() {
    caught(klp::LATE_RELOCATION, |file| {
        section(file, ".toc").sh_flags &= !elf::SHF_WRITE.0;
        let rela = &mut section(file, ".toc").relas;
        rela.iter_mut()
            .for_each(|rela| rela.name = rela.name.replace("vmlinux", "mod"));
    });
}

#[test]
fn a_call_of_a_module_is_bound_late_and_told() {
    let (patch, _) = livepatch();
    let found = klp::late_calls(&finished(&patch).write());
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{told:#?}");
    assert_eq!(found[0].code, klp::LATE_CALL);
    assert!(found[0].why.contains(".klp.sym.mod.own,0"), "{told:#?}");
}
