//! The finished module against the objects it was made of: nothing that was emitted may be lost or changed on the way,
//! and each way to lose something is caught.

mod common;

use std::collections::BTreeSet;

use common::case::{Case, pair};
use common::code::{call, imm, label, long, pointer, raw};
use common::unit::{Unit, function, local};
use kpatch_core::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use kpatch_core::klp::{self, Origin};
use kpatch_core::{Patch, Refusal};
use object::elf;

fn unit(value: u32) -> Unit {
    let body = [
        imm(value),
        label("site"),
        raw(&[0x66, 0x90]),
        call("kfree"),
        call("hidden"),
        call("own"),
    ];
    Unit::new().with(function("f", &body)).with(local("own", &[imm(1)]))
}

fn livepatch() -> Patch {
    let first = || Unit::new().with(local("first", &[imm(2)]));
    let pairs = vec![
        pair("drivers/first.o", first(), first()).of_module("mod"),
        pair("drivers/a.o", unit(1), unit(2)).of_module("mod"),
    ];
    let case = Case::pairs(pairs).on(|kernel| kernel.exports.push(("kfree", "vmlinux", "")));
    case.run().expect("a good patch")
}

/// Offset of the pointer to the callback in the object.
const POST_PATCH: u64 = 24;

/// Offset of the pointer to the new function in the table.
const NEW_FUNC: u64 = 8;

/// What the linker makes of the only object and the table of functions, after the conversion.
fn linked(patch: &Patch) -> File {
    let mut file = kpatch_core::elf::read(&patch.objects[0].bytes).expect("emitted here");
    let handle = patch.functions[0].handle.clone();
    let handle = file
        .symbols
        .iter()
        .position(|symbol| symbol.name == handle)
        .expect("defined");
    let name: Vec<u8> = [patch.functions[0].name.as_bytes(), &[0]].concat();
    let strings = file.sections.len();
    file.sections.push(section(".rodata.str", elf::SHF_ALLOC.0, name));
    file.symbols.push(Symbol::new("name", Place::Section(strings), 1, 0));
    let row = |r_offset, symbol| Rela {
        r_offset,
        symbol: Some(symbol),
        r_type: elf::R_X86_64_64.0,
        r_addend: 0,
    };
    let mut table = section(".data", (elf::SHF_ALLOC | elf::SHF_WRITE).0, vec![0; 24]);
    table.data[16] = u8::try_from(patch.functions[0].sympos.0).expect("small");
    table.relas.push(RelaSection {
        name: ".rela.data".into(),
        sh_flags: 0,
        rows: vec![row(0, file.symbols.len() - 1), row(NEW_FUNC, handle)],
    });
    file.sections.push(table);
    objtool(&mut file);
    let converted = klp::convert(&file.write(), &patch.symbols).expect("converts");
    kpatch_core::elf::read(&converted.bytes).expect("our own file")
}

fn section(name: &str, sh_flags: u64, data: Vec<u8>) -> Section {
    Section {
        name: name.into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags,
        sh_addralign: 8,
        size: data.len() as u64,
        data,
        ..Section::default()
    }
}

/// The tables that objtool makes: one row for each piece of code.
fn objtool(file: &mut File) {
    let code: Vec<usize> = (0..file.sections.len())
        .filter(|&index| file.sections[index].sh_flags & elf::SHF_EXECINSTR.0 != 0)
        .collect();
    for (name, size, r_type) in [
        (".orc_unwind_ip", 4, elf::R_X86_64_PC32.0),
        ("__mcount_loc", 8, elf::R_X86_64_64.0),
    ] {
        let mut table = section(name, elf::SHF_ALLOC.0, vec![0; size * code.len()]);
        let mut rows = Vec::new();
        for (index, &code) in code.iter().enumerate() {
            file.symbols
                .push(Symbol::new(format!("{name}.{index}"), Place::Section(code), 1, 0));
            rows.push(Rela {
                r_offset: (size * index) as u64,
                symbol: Some(file.symbols.len() - 1),
                r_type,
                r_addend: 0,
            });
        }
        table.relas.push(RelaSection {
            name: format!(".rela{name}"),
            sh_flags: 0,
            rows,
        });
        file.sections.push(table);
    }
}

/// A patch with a callback, and its module, which has a table of objects with it.
fn with_callback() -> (Patch, File) {
    let plain = |value| Unit::new().with(function("f", &[imm(value)]));
    let record = [pointer("prepare"), long(0)];
    let patched = plain(2)
        .with(local("prepare", &[imm(3)]))
        .local(".kpatch.callbacks.post_patch", "record", &record);
    let patch = Case::of(plain(1), patched).run().expect("a good patch");
    let mut module = linked(&patch);
    let functions = module.sections.iter().position(|section| section.name == ".data");
    let place = Place::Section(functions.expect("the table of functions"));
    module.symbols.push(Symbol::new("klp_funcs_0", place, 0, 1));
    let funcs = module.symbols.len() - 1;
    let handle = module.symbols.iter().position(|symbol| symbol.name == "klp_callback_0");
    let row = |r_offset, symbol| Rela {
        r_offset,
        symbol: Some(symbol),
        r_type: elf::R_X86_64_64.0,
        r_addend: 0,
    };
    let mut objects = section(".data.objects", (elf::SHF_ALLOC | elf::SHF_WRITE).0, vec![0; 56]);
    objects.relas.push(RelaSection {
        name: ".rela.data.objects".into(),
        sh_flags: 0,
        rows: vec![row(8, funcs), row(POST_PATCH, handle.expect("emitted"))],
    });
    module.sections.push(objects);
    (patch, module)
}

fn refusals(patch: &Patch, module: &File) -> Vec<Refusal> {
    let objects: Vec<&[u8]> = patch.objects.iter().map(|object| object.bytes.as_slice()).collect();
    let origin = Origin {
        objects: &objects,
        symbols: &patch.symbols,
        functions: &patch.functions,
        callbacks: &patch.callbacks,
        behind: &[],
    };
    klp::complete(&module.write(), &origin)
}

/// The relocation against a symbol whose name contains this.
fn row<'f>(file: &'f mut File, name: &str) -> &'f mut Rela {
    let wanted = file
        .symbols
        .iter()
        .position(|symbol| symbol.name.contains(name))
        .expect("named");
    let rows = file
        .sections
        .iter_mut()
        .flat_map(|section| section.relas.iter_mut().flat_map(|rela| &mut rela.rows));
    rows.into_iter()
        .find(|row| row.symbol == Some(wanted))
        .expect("referred to")
}

fn table<'f>(file: &'f mut File, name: &str) -> &'f mut Section {
    file.sections
        .iter_mut()
        .find(|section| section.name == name)
        .expect("there")
}

#[test]
fn a_whole_module_is_complete() {
    let patch = livepatch();
    assert_eq!(refusals(&patch, &linked(&patch)), []);
}

#[test]
fn a_callback_behind_another_one_is_looked_for_in_constant_data() {
    let (patch, mut module) = with_callback();
    let handle = module.symbols.iter().position(|symbol| symbol.name == "klp_callback_0");
    let text = section(".rodata.str", elf::SHF_ALLOC.0, b"\0mod\0".to_vec());
    let name = module.sections.len();
    module.sections.push(text);
    module.symbols.push(Symbol::new("names", Place::Section(name), 0, 1));
    let names = module.symbols.len() - 1;
    let row = |r_offset, symbol, r_addend| Rela {
        r_offset,
        symbol: Some(symbol),
        r_type: elf::R_X86_64_64.0,
        r_addend,
    };
    let mut builds = section(".rodata.builds", elf::SHF_ALLOC.0, vec![0; 32]);
    builds.relas.push(RelaSection {
        name: ".rela.rodata.builds".into(),
        sh_flags: 0,
        rows: vec![row(0, names, 1), row(8, handle.expect("emitted"), 0)],
    });
    module.sections.push(builds);
    let behind = |object: &str, module: &File| {
        let objects: Vec<&[u8]> = patch.objects.iter().map(|object| object.bytes.as_slice()).collect();
        let callback = kpatch_core::Callback {
            object: kpatch_core::ObjectName::module(object),
            ..patch.callbacks[0].clone()
        };
        let origin = Origin {
            objects: &objects,
            symbols: &patch.symbols,
            functions: &patch.functions,
            callbacks: &[],
            behind: &[callback],
        };
        klp::complete(&module.write(), &origin).len()
    };
    assert_eq!(behind("mod", &module), 0);
    assert_eq!(behind("other", &module), 1);
    table(&mut module, ".rodata.builds").relas[0].rows.pop();
    assert_eq!(behind("mod", &module), 1);
}

#[test]
fn a_callback_that_went_elsewhere_is_caught() {
    let (patch, module) = with_callback();
    assert_eq!(refusals(&patch, &module), []);
    let damaged = |change: &dyn Fn(&mut Vec<Rela>)| {
        let mut module = module.clone();
        change(&mut table(&mut module, ".data.objects").relas[0].rows);
        let found = refusals(&patch, &module);
        assert_eq!(
            found.iter().map(|refusal| refusal.code).collect::<Vec<_>>(),
            [klp::INCOMPLETE]
        );
    };
    damaged(&|rows| rows.truncate(1));
    damaged(&|rows| rows[1].r_offset += 8);
    damaged(&|rows| rows[1].r_addend += 8);
    damaged(&|rows| {
        rows.push(Rela {
            r_offset: POST_PATCH + 16,
            ..rows[1]
        })
    });
    // A name makes it the callback of a module.
    damaged(&|rows| rows.push(Rela { r_offset: 0, ..rows[0] }));
    damaged(&|rows| rows.retain(|row| row.r_offset != 8));
}

/// A static call key of the kernel is listed for objtool, and the linker drops that list.
#[test]
fn a_row_of_the_unwinder_that_does_not_fit_is_caught() {
    let patch = livepatch();
    let mut module = linked(&patch);
    let rows = table(&mut module, ".orc_unwind_ip").size / 4;
    // `struct orc_entry`: the caller's frame is 8 bytes above the stack pointer.
    let at_entry = [8, 0, 0, 0, 5, 2];
    let rows = at_entry.repeat(usize::try_from(rows).expect("few"));
    module.sections.push(section(".orc_unwind", elf::SHF_ALLOC.0, rows));
    assert_eq!(refusals(&patch, &module), []);
    table(&mut module, ".orc_unwind").data[0] = 16;
    let codes: Vec<_> = refusals(&patch, &module).iter().map(|refusal| refusal.code).collect();
    assert_eq!(codes, [klp::BAD_UNWIND]);
}

#[test]
fn what_is_for_objtool_may_go() {
    let mut patch = livepatch();
    let module = linked(&patch);
    let mut object = kpatch_core::elf::read(&patch.objects[0].bytes).expect("emitted here");
    let hidden = object.symbols.iter().position(|symbol| symbol.name.contains("hidden"));
    let mut list = section(".discard.addressable", elf::SHF_ALLOC.0, vec![0; 8]);
    list.relas.push(RelaSection {
        name: ".rela.discard.addressable".into(),
        sh_flags: 0,
        rows: vec![Rela {
            r_offset: 0,
            symbol: hidden,
            r_type: elf::R_X86_64_64.0,
            r_addend: 0,
        }],
    });
    object.sections.push(list);
    patch.objects[0].bytes = object.write();
    assert_eq!(refusals(&patch, &module), []);
}

/// The link of a module renames the table of kCFI's traps.
#[test]
fn a_renamed_table_is_found_and_an_emptied_one_is_not() {
    let mut patch = livepatch();
    let mut module = linked(&patch);
    let mut object = kpatch_core::elf::read(&patch.objects[0].bytes).expect("emitted here");
    object
        .sections
        .push(section(".kcfi_traps", elf::SHF_ALLOC.0, vec![0; 4]));
    patch.objects[0].bytes = object.write();
    module
        .sections
        .push(section("__kcfi_traps", elf::SHF_ALLOC.0, vec![0; 4]));
    assert_eq!(refusals(&patch, &module), []);
    let traps = table(&mut module, "__kcfi_traps");
    traps.data.clear();
    traps.size = 0;
    assert_eq!(refusals(&patch, &module)[0].code, klp::INCOMPLETE);
}

/// With `-mnop-mcount` objtool makes no-ops of the calls to the tracer, and takes their relocations' types.
#[test]
fn a_call_to_the_tracer_may_become_a_no_op() {
    let patch = livepatch();
    let mut module = linked(&patch);
    *row(&mut module, "__fentry__") = Rela {
        r_type: elf::R_X86_64_NONE.0,
        ..*row(&mut module, "__fentry__")
    };
    assert_eq!(refusals(&patch, &module), []);
}

/// The link of a module joins the sections of functions (scripts/module.lds.S since 6.19): all code stands behind other
/// code, which has its rows in the tables.
fn joined(mut file: File) -> File {
    let flags = (elf::SHF_ALLOC | elf::SHF_EXECINSTR).0;
    let (text, base) = (file.sections.len(), 16);
    file.sections.push(section(".text", flags, vec![0x90; base]));
    file.symbols.push(Symbol::new("other", Place::Section(text), 0, 2));
    let other = Some(file.symbols.len() - 1);
    for name in [".orc_unwind_ip", "__mcount_loc"] {
        let rows = &mut table(&mut file, name).relas[0].rows;
        let first = rows[0];
        let size = if name == "__mcount_loc" { 8 } else { 4 };
        rows.push(Rela {
            r_offset: size * rows.len() as u64,
            symbol: other,
            ..first
        });
        table(&mut file, name).size += size;
        table(&mut file, name).data.extend(vec![0; size as usize]);
    }
    let is_code = |index: &usize| file.sections[*index].sh_flags & elf::SHF_EXECINSTR.0 != 0;
    let code: Vec<usize> = (0..text).filter(is_code).collect();
    let [function] = code[..] else {
        panic!("one function is emitted");
    };
    let mut relas = std::mem::take(&mut file.sections[function].relas);
    let rows = relas.iter_mut().flat_map(|rela| &mut rela.rows);
    rows.for_each(|row| row.r_offset += base as u64);
    let moved = std::mem::take(&mut file.sections[function].data);
    file.sections[function].size = 0;
    file.sections[function].name = ".empty".into();
    file.sections[text].data.extend(moved);
    file.sections[text].size = file.sections[text].data.len() as u64;
    file.sections[text].relas = relas;
    for symbol in &mut file.symbols {
        if symbol.place == Place::Section(function) {
            symbol.place = Place::Section(text);
            symbol.st_value += base as u64;
        }
    }
    file
}

#[test]
fn a_function_is_found_where_sections_were_joined() {
    let patch = livepatch();
    assert_eq!(refusals(&patch, &joined(linked(&patch))), []);
    for name in [".orc_unwind_ip", "__mcount_loc"] {
        let mut module = joined(linked(&patch));
        let other = module.symbols.iter().position(|symbol| symbol.name == "other");
        let table = table(&mut module, name);
        let rows = &mut table.relas[0].rows;
        rows.retain(|row| row.symbol == other);
        rows[0].r_offset = 0;
        table.size /= 2;
        table.data.truncate(usize::try_from(table.size).expect("small"));
        let found = refusals(&patch, &module);
        assert_eq!(
            found.first().map(|refusal| refusal.code),
            Some(klp::INCOMPLETE),
            "{name}"
        );
    }
}

#[test]
fn a_reference_keeps_its_place_in_a_function_of_a_joined_section() {
    let patch = livepatch();
    let mut module = joined(linked(&patch));
    row(&mut module, "hidden").r_offset -= 1;
    let found = refusals(&patch, &module);
    assert!(
        found.iter().all(|refusal| refusal.code == klp::INCOMPLETE) && !found.is_empty(),
        "{found:?}"
    );
}

#[test]
fn each_loss_is_caught() {
    type Spoil = fn(&mut File);
    let spoils: &[(&str, Spoil)] = &[
        ("addend", |file| row(file, "hidden").r_addend += 8),
        ("type", |file| row(file, "hidden").r_type = elf::R_X86_64_32S.0),
        ("place", |file| row(file, "hidden").r_offset += 1),
        ("addend of an exported symbol", |file| row(file, "kfree").r_addend = 0),
        ("addend of the call to the tracer", |file| {
            row(file, "__fentry__").r_addend += 16;
        }),
        ("another symbol", |file| {
            let other = file
                .symbols
                .iter()
                .position(|symbol| symbol.name.contains(".own"))
                .expect("there");
            row(file, "hidden").symbol = Some(other);
        }),
        ("position", |file| {
            let symbol = file
                .symbols
                .iter_mut()
                .find(|symbol| symbol.name.contains("hidden"))
                .expect("there");
            symbol.name.push('7');
        }),
        ("missing and doubled", |file| {
            let late = file.sections.iter_mut().flat_map(|section| &mut section.relas);
            late.into_iter()
                .for_each(|rela| rela.rows.retain(|row| row.r_addend == 0));
        }),
        ("unwind row", |file| {
            table(file, ".orc_unwind_ip").relas[0].rows.pop();
        }),
        ("trace record", |file| {
            let table = table(file, "__mcount_loc");
            table.relas[0].rows.clear();
        }),
        ("name of the function", |file| table(file, ".rodata.str").data[0] = b'q'),
        ("position of the function", |file| table(file, ".data").data[16] = 9),
        ("new function", |file| {
            table(file, ".data").relas[0]
                .rows
                .retain(|row| row.r_offset != NEW_FUNC);
        }),
    ];
    let patch = livepatch();
    for (what, spoil) in spoils {
        let mut file = linked(&patch);
        spoil(&mut file);
        let found = refusals(&patch, &file);
        let codes: BTreeSet<String> = found.iter().map(|refusal| refusal.code.to_string()).collect();
        assert_eq!(
            codes,
            BTreeSet::from(["klp.incomplete".to_owned()]),
            "{what}: {found:?}"
        );
    }
}
