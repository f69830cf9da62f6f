//! The last look at a finished module: a good one passes, and each way in which it could be wrong is caught.
//!
//! The module is made from the objects of a livepatch as the linker would, from one unit of a module of the kernel that
//! uses each kind of symbol. Then one thing at a time is spoilt.

mod common;

use common::case::{Case, codes, pair};
use common::code::{call, distance, imm, jmp, label, lea, long_distance, raw};
use common::kernel::KernelFiles;
use common::unit::{Unit, function, local};
use kpatch_core::elf::{File, Place, Rela, RelaSection, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, Section, Symbol};
use kpatch_core::klp::{self, Expected};
use kpatch_core::{Code, Patch};
use object::elf;

const VERMAGIC: &str = "6.12.107 SMP preempt mod_unload livepatch ";

fn unit(value: u32) -> Unit {
    let body = [
        imm(value),
        label("site"),
        raw(&[0x66, 0x90]),
        label("after"),
        call("kfree"),
        call("hidden"),
        call("own"),
        call("twice"),
        lea("f"),
    ];
    Unit::new()
        .with(function("f", &body))
        .with(local("own", &[imm(1)]))
        .with(local("twice", &[imm(2)]))
        .bytes(
            "__jump_table",
            &[distance("@site"), distance("@after"), long_distance("key")],
        )
}

/// A livepatch of a module of the kernel, and that kernel.
fn livepatch() -> (Patch, KernelFiles) {
    let twice = || Unit::new().with(local("twice", &[imm(2)]));
    let pairs = vec![
        pair("drivers/first.o", twice(), twice()).of_module("mod"),
        pair("drivers/a.o", unit(1), unit(2)).of_module("mod"),
    ];
    let case = Case::pairs(pairs).on(|kernel| kernel.exports.push(("kfree", "vmlinux", "")));
    (case.run().expect("a good patch"), case.kernel.files(&case.pairs))
}

fn modinfo(entries: &[&str]) -> Section {
    let data: Vec<u8> = entries
        .iter()
        .flat_map(|entry| [entry.as_bytes(), &[0]].concat())
        .collect();
    Section {
        name: ".modinfo".into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: elf::SHF_ALLOC.0,
        sh_addralign: 1,
        size: data.len() as u64,
        data,
        ..Section::default()
    }
}

/// What the linker makes of the only object.
fn linked(patch: &Patch) -> File {
    let mut file = kpatch_core::elf::read(&patch.objects[0].bytes).expect("emitted here");
    let vermagic = format!("vermagic={VERMAGIC}");
    file.sections
        .push(modinfo(&["license=GPL", "livepatch=Y", vermagic.as_str()]));
    file
}

fn finished(patch: &Patch) -> File {
    let converted = klp::convert(&linked(patch).write(), &patch.symbols).expect("converts");
    kpatch_core::elf::read(&converted.bytes).expect("made here")
}

fn check(module: &[u8], patch: &Patch, kernel: &KernelFiles) -> Vec<kpatch_core::Refusal> {
    let expected = Expected {
        functions: &patch.functions,
        callbacks: &patch.callbacks,
        addressed: &patch.addressed,
        vermagic: Some(VERMAGIC),
    };
    klp::check(module, &kernel.target(), &expected)
}

/// Spoils a good module and expects exactly this code among the refusals.
fn caught(code: Code, spoil: impl FnOnce(&mut File)) {
    let (patch, kernel) = livepatch();
    let mut file = finished(&patch);
    spoil(&mut file);
    let found = check(&file.write(), &patch, &kernel);
    assert!(
        found.iter().any(|refusal| refusal.code == code),
        "{code} expected, found: {}",
        codes(&found)
    );
}

fn symbol<'f>(file: &'f mut File, start: &str) -> &'f mut Symbol {
    let mut symbols = file.symbols.iter_mut();
    symbols
        .find(|symbol| symbol.name.starts_with(start))
        .unwrap_or_else(|| panic!("no {start}"))
}

/// The livepatch relocations of a section that a gate triggers.
fn rela<'f>(file: &'f mut File, gate: &str, section: &str) -> &'f mut RelaSection {
    let name = format!(".klp.rela.{gate}.{section}");
    let mut all = file.sections.iter_mut().flat_map(|section| &mut section.relas);
    all.find(|rela| rela.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

fn section<'f>(file: &'f mut File, name: &str) -> &'f mut Section {
    let mut sections = file.sections.iter_mut();
    sections.find(|section| section.name == name).expect("it is there")
}

#[test]
fn a_good_module_passes() {
    let (patch, kernel) = livepatch();
    assert_eq!(codes(&check(&finished(&patch).write(), &patch, &kernel)), "");
}

/// What stores a pointer to a function and calls one without a landing pad; a kernel that checks indirect calls, and one that
/// seals the first.
fn pointing() -> (Patch, KernelFiles, KernelFiles) {
    let f = |value| Unit::new().with(function("f", &[imm(value), lea("callee"), call("quiet")]));
    let case = Case::of(f(1), f(2)).on(|kernel| {
        kernel.ibt = true;
        kernel.unpadded.insert("quiet");
    });
    let sealed = case.clone().on(|kernel| kernel.sealed.extend(["callee"]));
    let files = |case: &Case| case.kernel.files(&case.pairs);
    (case.run().expect("a good patch"), files(&case), files(&sealed))
}

#[test]
fn a_pointer_that_no_call_may_follow_is_caught() {
    let (patch, good, sealed) = pointing();
    let found = |file: &File, kernel| codes(&check(&file.write(), &patch, kernel));
    let mut module = finished(&patch);
    assert_eq!(found(&module, &good), "");
    assert!(found(&module, &sealed).contains(klp::BAD_POINTER.name()));
    symbol(&mut module, ".klp.sym.vmlinux.callee,0").name = ".klp.sym.vmlinux.quiet,0".into();
    assert!(found(&module, &good).contains(klp::BAD_POINTER.name()));
}

#[test]
fn the_conversion_moves_what_livepatch_resolves_and_nothing_else() {
    let (patch, _) = livepatch();
    let file = finished(&patch);
    let mut text = String::new();
    for section in &file.sections {
        for rela in &section.relas {
            let kind = match rela.sh_flags & SHF_RELA_LIVEPATCH {
                0 => "loader",
                _ => "livepatch",
            };
            for row in &rela.rows {
                let symbol = &file.symbols[row.symbol.expect("all have one")];
                let name = if symbol.is_section() { "section" } else { &symbol.name };
                text += &format!("{kind} {} +{:#x} {name}\n", rela.name, row.r_offset);
            }
        }
    }
    for symbol in file
        .symbols
        .iter()
        .filter(|symbol| matches!(symbol.place, Place::Reserved(_)))
    {
        let Place::Reserved(index) = symbol.place else {
            continue;
        };
        text += &format!("{index:#x} {}\n", symbol.name);
    }
    common::case::recorded("converted_module", &text);
}

#[test]
fn conversion_twice_changes_nothing_more() {
    let (patch, _) = livepatch();
    let once = finished(&patch).write();
    let again = klp::convert(&once, &patch.symbols).expect("converts");
    assert_eq!((again.symbols, again.relocations.len()), (0, 0));
    assert_eq!(again.bytes, once);
}

#[test]
fn a_link_name_that_the_module_defines_is_caught() {
    let (patch, _) = livepatch();
    let mut file = linked(&patch);
    symbol(&mut file, "hidden").place = Place::Section(0);
    let error = klp::convert(&file.write(), &patch.symbols).expect_err("it would be bound to the module's own");
    assert_eq!(error.code, klp::BAD_MODULE);
}

/// A linked module with type information, and its section symbol behind all others.
fn with_type_information(patch: &Patch) -> File {
    let mut file = linked(patch);
    file.sections.push(Section {
        name: ".BTF".into(),
        sh_type: elf::SHT_PROGBITS.0,
        ..Section::default()
    });
    let place = Place::Section(file.sections.len() - 1);
    let symbol = Symbol::new("", place, elf::STB_LOCAL.0, elf::STT_SECTION.0);
    file.symbols.push(symbol);
    file
}

#[test]
fn type_information_is_dropped() {
    let (patch, kernel) = livepatch();
    let converted = klp::convert(&with_type_information(&patch).write(), &patch.symbols).expect("converts");
    assert_eq!(codes(&check(&converted.bytes, &patch, &kernel)), "");
    assert_eq!(converted.bytes, finished(&patch).write());
}

#[test]
fn type_information_that_something_refers_to_is_caught() {
    let (patch, _) = livepatch();
    let mut file = with_type_information(&patch);
    let last = file.symbols.len() - 1;
    section(&mut file, ".text.f").relas[0].rows[0].symbol = Some(last);
    let error = klp::convert(&file.write(), &patch.symbols).expect_err("the relocation would mean something else");
    assert_eq!(error.code, klp::BAD_MODULE);
}

#[test]
fn wrong_position_is_caught() {
    caught(klp::NOT_FOUND, |file| {
        symbol(file, ".klp.sym.mod.twice").name = ".klp.sym.mod.twice,3".into();
    });
}

#[test]
fn no_position_among_several_is_caught() {
    caught(klp::NOT_FOUND, |file| {
        symbol(file, ".klp.sym.mod.twice").name = ".klp.sym.mod.twice,0".into();
    });
}

#[test]
fn wrong_name_is_caught() {
    caught(klp::NOT_FOUND, |file| {
        symbol(file, ".klp.sym.vmlinux.hidden").name = ".klp.sym.vmlinux.hiden,0".into();
    });
}

#[test]
fn wrong_object_is_caught() {
    caught(klp::NOT_FOUND, |file| {
        symbol(file, ".klp.sym.mod.own").name = ".klp.sym.other.own,0".into();
    });
}

#[test]
fn object_of_another_kind_is_caught() {
    caught(klp::NOT_FOUND, |file| {
        symbol(file, ".klp.sym.mod.own").name = ".klp.sym.vmlinux.own,0".into();
    });
}

#[test]
fn name_without_position_is_caught() {
    caught(klp::BAD_NAME, |file| {
        symbol(file, ".klp.sym.mod.own").name = ".klp.sym.mod.own".into();
    });
}

#[test]
fn name_longer_than_the_kernel_reads_is_caught() {
    caught(klp::NAME_TOO_LONG, |file| {
        symbol(file, ".klp.sym.mod.own").name = format!(".klp.sym.mod.{},0", "n".repeat(512));
    });
}

#[test]
fn object_name_longer_than_the_kernel_reads_is_caught() {
    caught(klp::BAD_NAME, |file| {
        symbol(file, ".klp.sym.mod.own").name = format!(".klp.sym.{}.own,0", "m".repeat(56));
    });
}

#[test]
fn relocation_section_without_an_object_is_caught() {
    caught(klp::BAD_NAME, |file| {
        rela(file, "mod", ".text.f").name = ".klp.rela..text.f".into();
    });
}

#[test]
fn relocation_section_for_another_section_is_caught() {
    caught(klp::BAD_NAME, |file| {
        rela(file, "mod", ".text.f").name = ".klp.rela.mod..text.g".into();
    });
}

#[test]
fn field_that_is_not_zero_is_caught() {
    caught(klp::FIELD_NOT_ZERO, |file| {
        let offset = rela(file, "mod", ".text.f").rows[0].r_offset as usize;
        section(file, ".text.f").data[offset + 3] = 1;
    });
}

#[test]
fn field_outside_the_section_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        let end = section(file, ".text.f").size;
        rela(file, "mod", ".text.f").rows[0].r_offset = end - 3;
    });
}

#[test]
fn field_of_a_plain_relocation_that_is_not_zero_is_caught() {
    caught(klp::FIELD_NOT_ZERO, |file| {
        let section = section(file, ".text.f");
        let offset = section.relas[0].rows[0].r_offset as usize;
        section.data[offset] = 1;
    });
}

#[test]
fn plain_relocation_outside_the_section_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        section(file, ".text.f").relas[0].rows[0].r_offset = 1 << 40;
    });
}

#[test]
fn unknown_relocation_type_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        rela(file, "mod", ".text.f").rows[0].r_type = elf::R_X86_64_GOTPCRELX.0;
    });
}

#[test]
fn unknown_type_of_a_plain_relocation_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        section(file, ".text.f").relas[0].rows[0].r_type = elf::R_X86_64_TPOFF32.0;
    });
}

#[test]
fn livepatch_symbol_in_a_plain_section_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        rela(file, "mod", ".text.f").sh_flags = 0;
    });
}

#[test]
fn plain_symbol_in_a_livepatch_section_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        let kfree = file.symbols.iter().position(|symbol| symbol.name == "kfree");
        rela(file, "mod", ".text.f").rows[0].symbol = kfree;
    });
}

#[test]
fn symbol_of_the_image_in_a_modules_section_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        let hidden = file
            .symbols
            .iter()
            .position(|symbol| symbol.name == ".klp.sym.vmlinux.hidden,0");
        rela(file, "mod", ".text.f").rows[0].symbol = hidden;
    });
}

#[test]
fn symbol_of_a_module_in_the_images_section_is_caught() {
    caught(klp::BAD_RELOCATION, |file| {
        let own = file
            .symbols
            .iter()
            .position(|symbol| symbol.name == ".klp.sym.mod.own,0");
        rela(file, "vmlinux", ".text.f").rows[0].symbol = own;
    });
}

#[test]
fn late_relocation_of_a_jump_table_is_caught() {
    caught(klp::LATE_RELOCATION, |file| {
        rela(file, "vmlinux", "__jump_table").name = ".klp.rela.mod.__jump_table".into();
    });
}

#[test]
fn missing_livepatch_mark_is_caught() {
    caught(klp::BAD_MODINFO, |file| {
        *section(file, ".modinfo") = modinfo(&["license=GPL", &format!("vermagic={VERMAGIC}")]);
    });
}

#[test]
fn mark_inside_another_entry_does_not_count() {
    caught(klp::BAD_MODINFO, |file| {
        let vermagic = format!("vermagic={VERMAGIC}");
        *section(file, ".modinfo") = modinfo(&["license=GPL", "description=livepatch=Y", &vermagic]);
    });
}

#[test]
fn other_licence_is_caught() {
    caught(klp::BAD_MODINFO, |file| {
        let vermagic = format!("vermagic={VERMAGIC}");
        *section(file, ".modinfo") = modinfo(&["license=Proprietary", "livepatch=Y", &vermagic]);
    });
}

#[test]
fn dependency_on_a_module_is_caught() {
    caught(klp::BAD_MODINFO, |file| {
        let vermagic = format!("vermagic={VERMAGIC}");
        *section(file, ".modinfo") = modinfo(&["license=GPL", "livepatch=Y", "depends=jbd2", &vermagic]);
    });
}

#[test]
fn wrong_vermagic_is_caught() {
    caught(klp::VERMAGIC_MISMATCH, |file| {
        *section(file, ".modinfo") = modinfo(&["license=GPL", "livepatch=Y", "vermagic=6.12.106 SMP "]);
    });
}

#[test]
fn missing_modinfo_is_caught() {
    caught(klp::BAD_MODINFO, |file| {
        section(file, ".modinfo").name = ".comment".into();
    });
}

#[test]
fn undefined_symbol_that_nobody_exports_is_caught() {
    caught(klp::UNDEFINED, |file| {
        symbol(file, "kfree").name = "kfre".into();
    });
}

#[test]
fn symbol_left_undefined_is_caught() {
    caught(klp::UNDEFINED, |file| {
        let symbol = symbol(file, ".klp.sym.vmlinux.hidden");
        symbol.name = "hidden".into();
        symbol.place = Place::Reserved(0);
    });
}

#[test]
fn common_symbol_is_caught() {
    caught(klp::BAD_MODULE, |file| {
        symbol(file, "kfree").place = Place::Reserved(elf::SHN_COMMON.0);
    });
}

#[test]
fn redirected_function_without_new_code_is_caught() {
    caught(klp::NOTHING_PATCHED, |file| {
        symbol(file, "klp_new_function").name = "something".into();
    });
}

#[test]
fn other_machine_is_caught() {
    caught(klp::BAD_MODULE, |file| file.e_machine = elf::EM_AARCH64.0);
}

#[test]
fn module_that_redirects_nothing_is_caught() {
    let (mut patch, kernel) = livepatch();
    let module = finished(&patch).write();
    patch.functions.clear();
    assert_eq!(check(&module, &patch, &kernel)[0].code, klp::NOTHING_PATCHED);
}

#[test]
fn redirected_function_that_the_kernel_does_not_have_is_caught() {
    let (mut patch, kernel) = livepatch();
    let module = finished(&patch).write();
    patch.functions[0].sympos.0 = 7;
    assert_eq!(check(&module, &patch, &kernel)[0].code, klp::NOT_FOUND);
}

#[test]
fn redirected_function_that_cannot_be_hooked_is_caught() {
    let (mut patch, kernel) = livepatch();
    let module = finished(&patch).write();
    let sympos = kpatch_core::resolve::SymPos(2);
    (patch.functions[0].name, patch.functions[0].sympos) = ("extern_only".into(), sympos);
    assert_eq!(check(&module, &patch, &kernel)[0].code, klp::NOT_FOUND);
    (patch.functions[0].name, patch.functions[0].object) = ("hidden".into(), kpatch_core::ObjectName::vmlinux());
    patch.functions[0].sympos.0 = 0;
    assert_eq!(check(&module, &patch, &kernel)[0].code, klp::NO_FTRACE_SITE);
}

/// A kernel whose image has a table that objtool makes.
fn with_table(table: &'static str) -> (Patch, KernelFiles) {
    let body = |value| [imm(value), call("__x86_indirect_thunk_rax"), jmp("__x86_return_thunk")];
    let returns = |value| Unit::new().with(function("f", &body(value)));
    let case = Case::of(returns(1), returns(2)).on(|kernel| {
        kernel.exports.push(("__x86_indirect_thunk_rax", "vmlinux", ""));
        kernel.exports.push(("__x86_return_thunk", "vmlinux", ""));
        kernel.sections.push(table);
    });
    (case.run().expect("a good patch"), case.kernel.files(&case.pairs))
}

#[test]
fn missing_unwind_table_is_caught() {
    let (patch, kernel) = with_table(".orc_unwind");
    let found = check(&finished(&patch).write(), &patch, &kernel);
    assert_eq!(codes(&found), "refused klp.objtool-incomplete .orc_unwind");
}

#[test]
fn unlisted_return_is_caught() {
    let (patch, kernel) = with_table(".return_sites");
    let found = check(&finished(&patch).write(), &patch, &kernel);
    assert_eq!(codes(&found), "refused klp.objtool-incomplete .return_sites");
}

#[test]
fn unlisted_indirect_call_is_caught() {
    let (patch, kernel) = with_table(".retpoline_sites");
    let found = check(&finished(&patch).write(), &patch, &kernel);
    assert_eq!(codes(&found), "refused klp.objtool-incomplete .retpoline_sites");
}

/// A static call of the image: two distances for each site, whether objtool or the kernel has the key. One of a module is
/// hidden from objtool.
#[test]
fn unlisted_static_call_is_caught() {
    // What repoints the call passes the trampoline's address on: no site.
    let body = |value| [imm(value), call("__SCT__x"), call("__SCT__x"), lea("__SCT__x")];
    let calls = |value| Unit::new().with(function("f", &body(value)));
    let own = |value| calls(value).with(function("__SCT__x", &[imm(1)]).untraced());
    let of_image = Case::of(calls(1), calls(2)).on(|kernel| {
        let exports = ["__SCT__x", "__SCK__x"].map(|name| (name, "vmlinux", ""));
        kernel.exports.extend(exports);
    });
    let of_module = Case::pairs(vec![pair("drivers/a.o", own(1), own(2)).of_module("mod")]);
    let found = |case: Case, relocations: u64| {
        let case = case.on(|kernel| _ = kernel.also.insert("__start_static_call_sites"));
        let (patch, kernel) = (case.run().expect("a good patch"), case.kernel.files(&case.pairs));
        let mut module = finished(&patch);
        let code = module.symbols.iter().position(|symbol| symbol.name == "f");
        let row = |row| Rela {
            r_offset: 4 * row,
            symbol: code,
            r_type: elf::R_X86_64_PC32.0,
            r_addend: 0,
        };
        let mut table = modinfo(&[]);
        table.name = ".static_call_sites".into();
        (table.data, table.size) = (vec![0; 16], 16);
        table.relas.push(RelaSection {
            name: ".rela.static_call_sites".into(),
            sh_flags: 0,
            rows: (0..relocations).map(row).collect(),
        });
        module.sections.push(table);
        codes(&check(&module.write(), &patch, &kernel))
    };
    assert_eq!((found(of_image.clone(), 4), found(of_module, 0)), Default::default());
    for missing in [3, 2, 0] {
        let found = found(of_image.clone(), missing);
        assert_eq!(found, "refused klp.objtool-incomplete .static_call_sites");
    }
}

#[test]
fn tables_that_the_kernel_does_not_have_are_not_expected() {
    let (patch, kernel) = with_table(".something_else");
    assert_eq!(codes(&check(&finished(&patch).write(), &patch, &kernel)), "");
}

#[test]
fn cut_off_module_is_caught() {
    let (patch, kernel) = livepatch();
    let module = finished(&patch).write();
    for len in 0..module.len() {
        assert!(!check(&module[..len], &patch, &kernel).is_empty(), "{len} bytes");
    }
}

#[test]
fn livepatch_section_index_is_the_kernels() {
    assert_eq!(SHN_LIVEPATCH, 0xff20);
}
