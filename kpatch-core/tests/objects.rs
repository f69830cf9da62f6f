//! Pairs of real objects, made from small sources by the compilers of five machines (`testdata/objects/make`).
//!
//! A case is a source file; its snapshot says for each machine what becomes of the change, and why each element is in.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kpatch_core::elf::{self, File, Place, Symbol};
use kpatch_core::intermediate::{Created, StructSizes, create};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Ignored, Input, ObjectName, Stop};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/objects")
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.expect("a folder can be listed").file_name());
    names.map(|name| name.into_string().expect("our own names")).collect()
}

fn machines() -> Vec<String> {
    names(&folder()).into_iter().filter(|name| name.contains('-')).collect()
}

fn diff(orig: &[u8], patched: &[u8], name: &str) -> Result<Created, Stop> {
    let vmlinux = ObjectName::vmlinux();
    let image = Image::from_symbols(vmlinux.clone(), orig)?;
    let mut target = Target::partial(vmlinux.clone(), image, Exports::default());
    let input = Input {
        name: name.to_owned(),
        parent: vmlinux,
        orig: Some(orig),
        shipped: None,
        patched,
    };
    create(&input, &mut target, &StructSizes::default(), &[])
}

/// A redirected function is local, or the livepatch's other objects would call it and not the kernel's.
fn binding(file: &File, name: &str) -> &'static str {
    let defined = |symbol: &&Symbol| symbol.name == name && matches!(symbol.place, Place::Section(_));
    match file.symbols.iter().find(defined) {
        Some(symbol) if symbol.is_local() => "",
        Some(_) => ", but is not local",
        None => ", but is not there",
    }
}

/// Sections and offsets of the new functions by the records, which begin with a pointer to them.
fn new_functions(file: &File) -> BTreeSet<(usize, u64)> {
    const RECORD: u64 = 56;
    let table = file.sections.iter().find(|section| section.name == ".kpatch.funcs");
    let rows = table
        .into_iter()
        .flat_map(|section| &section.relas)
        .flat_map(|rela| &rela.rows);
    let first = rows.filter(|row| row.r_offset % RECORD == 0);
    let place = |row: &elf::Rela| {
        let symbol = &file.symbols[row.symbol.expect("a symbol")];
        match symbol.place {
            Place::Section(section) => (section, symbol.st_value.wrapping_add_signed(row.r_addend)),
            Place::Reserved(_) => panic!("the new `{}` is not there", symbol.name),
        }
    };
    first.map(place).collect()
}

/// Names in code that stand for no element of their own: programs that list the symbols would count them as functions.
fn idle_names(file: &File, created: &Created) -> Vec<String> {
    let code = |symbol: &&Symbol| match symbol.place {
        Place::Section(section) => file.sections[section].sh_flags & object::elf::SHF_EXECINSTR.0 != 0,
        Place::Reserved(_) => false,
    };
    let known = |name: &str| created.elements.iter().any(|element| element.name == name);
    let named = file
        .symbols
        .iter()
        .filter(code)
        .filter(|symbol| !symbol.name.is_empty());
    let idle = named.filter(|symbol| symbol.is_local() && !known(&symbol.name));
    idle.map(|symbol| symbol.name.clone()).collect()
}

/// The tracer's places, as distances from symbols of functions or their sections, and what is said about the module.
fn hooks(file: &File) -> Vec<String> {
    let mut all = Vec::new();
    for section in &file.sections {
        match section.name.as_str() {
            "__mcount_loc" | "__patchable_function_entries" => {
                let rows = section.relas.iter().flat_map(|rela| &rela.rows);
                let places: Vec<String> = rows.map(|row| format!("{:#x}", row.r_addend)).collect();
                all.push(format!("hooks {}", places.join(" ")));
            }
            ".modinfo" => {
                let text = String::from_utf8_lossy(&section.data).replace('\0', " ");
                all.push(format!("modinfo {}", text.trim_end()));
            }
            _ => {}
        }
    }
    all
}

fn leave_out(ignored: &[Ignored], line: &mut dyn FnMut(String)) {
    for ignored in ignored {
        line(format!("ignored {}: {}", ignored.name, ignored.why));
    }
}

fn describe(result: &Result<Created, Stop>) -> String {
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "  {words}").expect("a string takes everything");
    match result {
        Ok(created) => {
            let file = elf::read(&created.bytes).expect("our own file");
            created
                .functions
                .iter()
                .for_each(|function| line(format!("redirects {}{}", function.name, binding(&file, &function.name))));
            assert_eq!(
                new_functions(&file).len(),
                created.functions.len(),
                "two records have the same new function"
            );
            assert_eq!(
                idle_names(&file, created),
                Vec::<String>::new(),
                "names that nobody needs"
            );
            hooks(&file).iter().for_each(|text| line(text.clone()));
            created
                .callbacks
                .iter()
                .for_each(|(section, name)| line(format!("calls {name} ({section})")));
            for element in &created.elements {
                let refers = element.refers_to.join(" ");
                line(format!(
                    "{} {} ({}): {} -> [{refers}]",
                    element.kind, element.name, element.section, element.reason
                ));
            }
            leave_out(&created.ignored, &mut line);
        }
        Err(Stop::NoChange(ignored) | Stop::BootOnly(ignored)) => {
            line("no change".into());
            leave_out(ignored, &mut line);
        }
        Err(Stop::Refused(all)) => all
            .iter()
            .for_each(|refusal| line(format!("refused {} {}", refusal.code, refusal.at))),
        Err(Stop::Failed(error)) => line(format!("failed {} {}: {}", error.code, error.at, error.why)),
    }
    text
}

#[test]
fn each_case_on_each_machine() {
    let cases: BTreeSet<String> = names(&folder().join("src"))
        .into_iter()
        .filter_map(|name| name.strip_suffix(".c").map(str::to_owned))
        .collect();
    let machines = machines();
    assert!(
        cases.len() * machines.len() >= 60,
        "{} cases for {} machines",
        cases.len(),
        machines.len()
    );
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for case in cases {
        let mut text = String::new();
        for machine in &machines {
            let read = |side: &str| {
                let path = folder().join(machine).join(format!("{case}.{side}.o"));
                std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            };
            let (orig, patched) = (read("orig"), read("patched"));
            let name = format!("{case}.o");
            assert!(
                matches!(diff(&orig, &orig, &name), Err(Stop::NoChange(_))),
                "{machine}/{case}: an object differs from itself"
            );
            write!(text, "{machine}\n{}", describe(&diff(&orig, &patched, &name))).expect("a string takes everything");
        }
        settings.bind(|| insta::assert_snapshot!(format!("object_{}", case.replace('-', "_")), text));
    }
}

#[test]
fn the_table_names_each_source() {
    let table = std::fs::read_to_string(folder().join("README.md")).expect("it is part of the workspace");
    let missing: Vec<String> = names(&folder().join("src"))
        .into_iter()
        .filter_map(|name| name.strip_suffix(".c").map(|name| format!("`{name}`")))
        .filter(|name| !table.contains(name))
        .collect();
    assert!(missing.is_empty(), "testdata/objects/README.md lacks {missing:?}");
}
