//! Damaged files: whatever the bytes are, the answer is a result or an error; never a panic, never without end.
//!
//! Each reader gets a good file cut off at every length, and 2,000 copies with some bytes exchanged.

mod common;

use common::case::{Case, pair};
use common::code::{call, distance, imm, label, lea, load, long, long_distance, near_call, pointer, raw, short, word};
use common::damage::survives;
use common::unit::{Unit, function, local};
use kpatch_core::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use kpatch_core::klp::{self, Expected};
use kpatch_core::resolve::{Exports, Image};
use kpatch_core::{Author, Input, ObjectName, build_patch};
use object::elf;

/// A unit with something of everything.
fn unit(value: u32) -> Unit {
    let body = [
        imm(value),
        label("site"),
        raw(&[0x0f, 0x0b]),
        label("after"),
        lea("@text"),
        load("table"),
        load("f.buf"),
        call("outside"),
        label("const"),
        raw(&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8]),
    ];
    Unit::new()
        .strings(&["text", "more"])
        .with(function("f", &body))
        .with(local("inner", &[imm(value)]).within(".sched.text"))
        .with(function("outer", &[imm(value), near_call("inner")]).within(".sched.text"))
        .with(local("f.cold", &[imm(3)]).untraced().within(".text.unlikely."))
        .with(function("__pfx_g", &[]).untraced().within(".text.g"))
        .with(function("g", &[imm(1)]).within(".text.g"))
        .local(".rodata.table", "table", &[word(value), word(0), pointer("@more")])
        .local(".bss.f.buf", "f.buf", &[long(0)])
        .local(".bss.f.buf.1", "f.buf.1", &[long(0)])
        .bytes(
            "__bug_table",
            &[distance("@site"), distance("@text"), short(1), short(2)],
        )
        .bytes(
            ".altinstr_replacement",
            &[label("with"), imm(1), label("with 2"), imm(1)],
        )
        .bytes(
            ".altinstructions",
            &[distance("@site"), distance("@with"), word(1), short(0x0202)],
        )
        .bytes(
            ".altinstructions",
            &[distance("@after"), distance("@with 2"), word(1), short(2)],
        )
        .bytes("__ex_table", &[distance("@site"), distance("@after"), word(1)])
        .bytes(
            "__jump_table",
            &[distance("@site"), distance("@after"), long_distance("key")],
        )
        .bytes("runtime_ptr_table", &[distance("@const").plus(2)])
        .bytes("__patchable_function_entries", &[pointer("@site")])
}

fn case() -> Case {
    Case::of(unit(1), unit(2)).on(|kernel| {
        kernel.also.insert("table");
    })
}

#[test]
fn the_good_files_are_good() {
    let patch = case().run().expect("otherwise the tests below stop at the first check");
    assert!(patch.elements.len() > 10, "{:#?}", patch.elements);
}

#[test]
fn spoilt_patched_object() {
    let files = case().kernel.files(&case().pairs);
    let target = files.target();
    let (orig, patched) = (unit(1).build(), unit(2).build());
    survives("patched object", &patched, |bytes| {
        let inputs = [Input {
            name: "fs/a.o".into(),
            parent: ObjectName::vmlinux(),
            orig: Some(&orig),
            patched: bytes,
            shipped: None,
        }];
        drop(build_patch(&inputs, &target, &Author::default()));
    });
}

#[test]
fn spoilt_original_object() {
    let files = case().kernel.files(&case().pairs);
    let target = files.target();
    let (orig, patched) = (unit(1).build(), unit(2).build());
    survives("original object", &orig, |bytes| {
        let inputs = [Input {
            name: "fs/a.o".into(),
            parent: ObjectName::vmlinux(),
            orig: Some(bytes),
            patched: &patched,
            shipped: None,
        }];
        drop(build_patch(&inputs, &target, &Author::default()));
    });
}

/// A new file: everything in it is new, so that more of it is looked at.
#[test]
fn spoilt_added_object() {
    let files = case().kernel.files(&case().pairs);
    let target = files.target();
    let user = |value, callee| Unit::new().with(function("user", &[imm(value), call(callee)])).build();
    let (before, after) = (user(1, "outside"), user(1, "f"));
    survives("added object", &unit(2).build(), |bytes| {
        let input = |name: &str, orig, patched| Input {
            name: name.into(),
            parent: ObjectName::vmlinux(),
            orig,
            patched,
            shipped: None,
        };
        let inputs = [
            input("fs/user.o", Some(&before[..]), &after[..]),
            input("fs/new.o", None, bytes),
        ];
        drop(build_patch(&inputs, &target, &Author::default()));
    });
}

#[test]
fn spoilt_linked_and_finished_modules() {
    let patch = case().run().expect("a good patch");
    let files = case().kernel.files(&case().pairs);
    let target = files.target();
    let expected = Expected {
        functions: &patch.functions,
        callbacks: &patch.callbacks,
        addressed: &patch.addressed,
        vermagic: None,
    };
    let linked = &patch.objects[0].bytes;
    survives("linked module", linked, |bytes| {
        if let Ok(converted) = klp::convert(bytes, &patch.symbols) {
            drop(klp::check(&converted.bytes, &target, &expected));
        }
    });
    let finished = klp::convert(linked, &patch.symbols).expect("converts").bytes;
    survives("finished module", &finished, |bytes| {
        drop(klp::check(bytes, &target, &expected));
    });
}

#[test]
fn spoilt_image() {
    let files = case().kernel.files(&case().pairs);
    let name = ObjectName::vmlinux();
    let order = [("fs/a.o".to_owned(), "a.c".to_owned())];
    let (orig, patched) = (unit(1).build(), unit(2).build());
    survives("vmlinux", &files.vmlinux, |bytes| {
        let Ok(vmlinux) = Image::read(name.clone(), bytes, &order) else {
            return;
        };
        let target = kpatch_core::resolve::Target {
            vmlinux,
            modules: std::collections::BTreeMap::new(),
            exports: Exports::default(),
            partial: false,
        };
        let inputs = [Input {
            name: "fs/a.o".into(),
            parent: name.clone(),
            orig: Some(&orig),
            patched: &patched,
            shipped: None,
        }];
        drop(build_patch(&inputs, &target, &Author::default()));
    });
}

#[test]
fn spoilt_module_of_the_kernel() {
    let case = Case::pairs(vec![pair("drivers/a.o", unit(1), unit(2)).of_module("mod")]);
    let name = ObjectName::module("mod");
    let files = case.kernel.files(&case.pairs);
    let bytes = files.module(&name);
    survives("module", bytes, |bytes| drop(Image::read(name.clone(), bytes, &[])));
}

#[test]
fn spoilt_symvers() {
    let good = "0x1\tkfree\tvmlinux\tEXPORT_SYMBOL\t\n0x2\tfoo\tdrivers/x/my-mod\tEXPORT_SYMBOL_GPL\tNS\n";
    survives("Module.symvers", good.as_bytes(), |bytes| {
        drop(Exports::parse(&String::from_utf8_lossy(bytes)));
    });
}

/// A file of one section.
fn with_section(section: Section, symbols: Vec<Symbol>) -> Vec<u8> {
    let file = File {
        e_machine: elf::EM_X86_64.0,
        sections: vec![section],
        symbols,
        ..File::default()
    };
    file.write()
}

fn stop_of(bytes: &[u8]) -> String {
    let case = Case::of(Unit::new(), Unit::new());
    let files = case.kernel.files(&case.pairs);
    let input = Input {
        name: "fs/a.o".into(),
        parent: ObjectName::vmlinux(),
        orig: Some(bytes),
        patched: bytes,
        shipped: None,
    };
    build_patch(&[input], &files.target(), &Author::default())
        .expect_err("nothing changed")
        .to_string()
}

#[test]
fn table_without_bytes_is_not_cut_into_millions_of_entries() {
    let table = Section {
        name: "__ex_table".into(),
        sh_type: elf::SHT_NOBITS.0,
        sh_flags: elf::SHF_ALLOC.0,
        sh_addralign: 4,
        size: 12 * 1_000_000,
        ..Section::default()
    };
    assert!(stop_of(&with_section(table, Vec::new())).contains("read.bad-entries"));
}

#[test]
fn field_across_the_end_of_a_function_is_an_error() {
    let unit = Unit::new()
        .with(local("inner", &[imm(1)]).within(".sched.text"))
        .with(function("outer", &[near_call("inner")]).within(".sched.text"));
    let mut file = unit.file();
    let outer = file.symbols.iter_mut().find(|symbol| symbol.name == "outer");
    // endbr64, the call to the tracer, the opcode of the call to `inner` and two bytes of its distance.
    outer.expect("it is there").st_size = 4 + 5 + 1 + 2;
    assert!(stop_of(&file.write()).contains("read.unknown-relocation"));
}

#[test]
fn constant_written_at_boot_outside_its_function_is_refused() {
    let side = |value| {
        let outside = distance("f").plus(0x30 + 2);
        Unit::new()
            .with(function("f", &[imm(value)]).within(".sched.text"))
            .with(function("g", &[raw(&[0x90; 7]), raw(&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8])]).within(".sched.text"))
            .bytes("runtime_ptr_table", &[outside])
    };
    let stop = Case::of(side(1), side(2)).on(|kernel| {
        kernel.also.insert("table");
    });
    let stop = stop.run().expect_err("the constant is not in f");
    assert!(stop.to_string().contains("select.runtime-constant"), "{stop}");
}

#[test]
fn constant_written_at_boot_far_outside_is_refused() {
    let side = |value| {
        Unit::new()
            .with(function("f", &[imm(value)]))
            .bytes("runtime_ptr_table", &[distance("f").plus(i64::MAX)])
    };
    let stop = Case::of(side(1), side(2)).run().expect_err("the constant is not in f");
    assert!(stop.to_string().contains("select.runtime-constant"), "{stop}");
}

#[test]
fn prefix_inside_another_function_is_harmless() {
    let mut unit = Unit::new().with(function("f", &[imm(1), imm(2)]).within(".sched.text"));
    for value in [1, 2] {
        unit = unit.with(function(if value == 1 { "__pfx_g" } else { "g" }, &[imm(value)]).within(".sched.text"));
    }
    let side = |value: u8| {
        let mut file = unit.file();
        let prefix = file.symbols.iter_mut().find(|symbol| symbol.name == "__pfx_g");
        prefix.expect("it is there").st_value = 0x18;
        let last = file.sections[0].data.len() - 2;
        file.sections[0].data[last] = value;
        file.write()
    };
    let case = Case::of(unit.clone(), unit.clone());
    let files = case.kernel.files(&case.pairs);
    let input = Input {
        name: "fs/a.o".into(),
        parent: ObjectName::vmlinux(),
        orig: Some(&side(0)),
        patched: &side(1),
        shipped: None,
    };
    let patch = build_patch(&[input], &files.target(), &Author::default()).expect("only g changed");
    assert_eq!(patch.functions[0].name, "g");
}

#[test]
fn call_that_begins_before_its_function_is_no_tracing_site() {
    let side = |value| Unit::new().with(function("f", &[distance("__fentry__"), imm(value)]).untraced());
    let stop = Case::of(side(1), side(2)).run().expect_err("nothing can hook f");
    assert!(stop.to_string().contains("select.no-ftrace-site"), "{stop}");
}

#[test]
fn huge_section_without_bytes_is_an_error() {
    let bss = Section {
        name: ".bss".into(),
        sh_type: elf::SHT_NOBITS.0,
        sh_flags: elf::SHF_ALLOC.0 | elf::SHF_WRITE.0,
        size: u64::MAX,
        ..Section::default()
    };
    assert!(stop_of(&with_section(bss, Vec::new())).contains("read.bad-elf"));
}

#[test]
fn huge_alignment_is_an_error() {
    let mut data = Section {
        name: ".data".into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: elf::SHF_ALLOC.0 | elf::SHF_WRITE.0,
        sh_addralign: 8,
        size: 1,
        data: vec![1],
        ..Section::default()
    };
    let good = with_section(data.clone(), Vec::new());
    assert_eq!(stop_of(&good), "no functional change");
    data.sh_addralign = 16;
    let other = with_section(data, Vec::new());
    // The writer pads the file to the alignment, so the header is what is spoilt.
    let at = good.iter().zip(&other).rposition(|(one, other)| one != other);
    let mut bytes = good;
    bytes[at.expect("they differ in the section header") + 5] = 1;
    assert!(stop_of(&bytes).contains("read.bad-elf"));
    assert!(kpatch_core::elf::read(&bytes).is_err());
}

#[test]
fn a_million_empty_strings_are_read_in_time() {
    let strings = Section {
        name: ".rodata.str1.1".into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: elf::SHF_ALLOC.0 | elf::SHF_MERGE.0 | elf::SHF_STRINGS.0,
        sh_addralign: 1,
        sh_entsize: 1,
        size: 1 << 20,
        data: vec![0; 1 << 20],
        ..Section::default()
    };
    assert_eq!(stop_of(&with_section(strings, Vec::new())), "no functional change");
}

#[test]
fn symbols_outside_their_section_are_harmless() {
    let code = Section {
        name: ".text".into(),
        sh_type: elf::SHT_PROGBITS.0,
        sh_flags: elf::SHF_ALLOC.0 | elf::SHF_EXECINSTR.0,
        sh_addralign: 16,
        size: 4,
        data: vec![0x90; 4],
        ..Section::default()
    };
    let values = [0, 3, 4, 5, 1 << 31, 1 << 63, u64::MAX];
    let sizes = [0, 1, 4, u64::MAX];
    for value in values {
        for size in sizes {
            let mut symbol = Symbol::new("f", Place::Section(0), 1, elf::STT_FUNC.0);
            (symbol.st_value, symbol.st_size) = (value, size);
            let stop = stop_of(&with_section(code.clone(), vec![symbol]));
            assert_eq!(stop, "no functional change", "{value:#x} {size:#x}");
        }
    }
}

/// LLVM writes its profile of calls so on every machine, for the linker alone.
#[test]
fn relocations_without_addends_are_for_the_linker_only() {
    let with_profile = |flags: u64| {
        let row = Rela {
            r_offset: 0,
            symbol: None,
            r_type: elf::R_X86_64_NONE.0,
            r_addend: 0,
        };
        let profile = Section {
            name: ".llvm.call-graph-profile".into(),
            sh_type: elf::SHT_PROGBITS.0,
            sh_flags: flags,
            sh_addralign: 1,
            size: 8,
            data: vec![0; 8],
            relas: vec![RelaSection {
                name: ".rel.llvm.call-graph-profile".into(),
                sh_flags: 0,
                rows: vec![row],
            }],
            ..Section::default()
        };
        let mut bytes = with_section(profile, Vec::new());
        // The type of the section with the relocations, in its header.
        let headers = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        let at = (headers..bytes.len())
            .step_by(0x40)
            .find(|at| bytes[at + 4..at + 8] == elf::SHT_RELA.0.to_le_bytes());
        bytes[at.expect("it is there") + 4] = elf::SHT_REL.0 as u8;
        stop_of(&bytes)
    };
    assert!(with_profile(0).contains("read.bad-elf"));
    assert_eq!(with_profile(elf::SHF_EXCLUDE.0), "no functional change");
}
