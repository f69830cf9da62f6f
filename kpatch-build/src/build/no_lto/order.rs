//! The order of the file symbols in an image that was linked without link time optimisation.
//!
//! `ld -r` and the last link take the symbol tables of their inputs over one after the other, each with the `STT_FILE`
//! symbols it has: one for an object compiled from C, several for what was linked before. To an object without one,
//! which is most assembly, GNU ld gives one with the name of the object, if it has local symbols that are kept
//! (bfd/elflink.c, `elf_link_input_bfd`); lld does not. So the order is read off the inputs and the optional ones are
//! looked up in the image. The differ confirms the result against the image, name by name.
//!
//! Members of a library are linked only if something refers to them, in an order that the linker finds. They come
//! behind everything else, and are told from the image by their file names, as long as these are unique.
//!
//! GNU ld takes a symbol table over when it meets the first section of its object, and where the script of the last link
//! meets objects directly (arm64), that is no order that the inputs have: code of entries and interrupts comes first, code
//! that is seldom run since 7.3 (`TEXT_TEXT` in include/asm-generic/vmlinux.lds.h), and boot code last. There each file symbol
//! is told by its name, and among those of one name by the local symbols behind it ([`told_apart`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{Endianness, read};
use rayon::prelude::*;

use crate::build::kbuild::{Home, Kbuild};

/// A file symbol that the image has, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    unit: String,
    name: String,
    optional: bool,
    /// Whether its object has notes for the kernel.
    notes: bool,
    /// The names of the local symbols behind it.
    locals: BTreeSet<String>,
}

/// Unit and file name for each file symbol of the image or a module (`linked`), as far as the order is known.
pub fn order(kbuild: &Kbuild, home: &Home, linked: &Path) -> Result<Vec<(String, String)>> {
    let build = &kbuild.trees.objects;
    let image = file_symbols(linked)?;
    let seen: Vec<String> = image.files.iter().map(|(name, _)| name.clone()).collect();
    match home {
        Home::Module(module) => {
            let objects = kbuild.members.modules.get(module);
            let objects = objects.with_context(|| format!("{module} is not a module of this build"))?;
            let mut expected = added_by_kbuild(module);
            expected.extend(groups(build, objects.iter().map(String::as_str).collect())?);
            Ok(met(&expected, &seen))
        }
        Home::Vmlinux => {
            let inputs = &kbuild.members.vmlinux.inputs;
            let (lazy, whole): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.lazy.is_some());
            let whole = groups(build, whole.into_iter().map(|input| input.path.as_str()).collect())?;
            let lazy = groups(build, lazy.into_iter().map(|input| input.path.as_str()).collect())?;
            let whole = notes_first(whole, &seen);
            let mut order = met(&whole, &seen);
            if order.iter().zip(&seen).any(|((_, name), seen)| name != seen) {
                return Ok(told_apart(&[whole, lazy].concat(), &image.files));
            }
            append_lazy(&mut order, lazy, &seen);
            Ok(order)
        }
        Home::Other(other) => Err(other.no_link()),
    }
}

/// What kbuild links to a module after its own objects. GNU ld takes symbol tables over in the order in which it meets
/// the sections, and these have notes, which the kernel's script for modules (scripts/module.lds) puts first.
fn added_by_kbuild(module: &str) -> Vec<Expected> {
    let stem = module.strip_suffix(".o").unwrap_or(module);
    let own = stem.rsplit('/').next().unwrap_or(stem);
    let optional = |unit: String, name: String| Expected {
        unit,
        name,
        optional: true,
        notes: true,
        locals: BTreeSet::new(),
    };
    vec![
        optional(".module-common.o".to_owned(), "module-common.c".to_owned()),
        optional(format!("{stem}.mod.o"), format!("{own}.mod.c")),
    ]
}

fn groups(build: &Path, objects: Vec<&str>) -> Result<Vec<Expected>> {
    let of = |object: &&str| -> Result<Vec<Expected>> {
        let found = file_symbols(&build.join(object))?;
        let notes = found.has_notes;
        let expected = |unit: String, name: String, locals| Expected {
            unit,
            name,
            optional: found.files.is_empty(),
            notes,
            locals,
        };
        if found.files.is_empty() {
            let own = object.rsplit('/').next().unwrap_or(object);
            let kept = (!found.first.is_empty()).then(|| found.first.clone());
            return Ok(kept
                .map(|locals| expected((*object).to_owned(), own.to_owned(), locals))
                .into_iter()
                .collect());
        }
        // Only the first is the object's own name; what was linked before cannot be told apart by it.
        let unit = |index: usize| match index {
            0 => (*object).to_owned(),
            n => format!("{object}#{n}"),
        };
        let files = found.files.iter().cloned().enumerate();
        Ok(files
            .map(|(index, (name, locals))| expected(unit(index), name, locals))
            .collect())
    };
    let found: Result<Vec<_>> = objects.par_iter().map(of).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// Where the image is linked to one object first (x86, for objtool), the linker's own script is in force, which puts
/// notes before all else; so the objects that have some are met first.
fn notes_first(whole: Vec<Expected>, seen: &[String]) -> Vec<Expected> {
    let starts = |one: Option<&Expected>| one.map(|one| &one.name) == seen.first();
    if starts(whole.iter().find(|one| !one.optional)) || !starts(whole.iter().find(|one| one.notes)) {
        return whole;
    }
    let (mut front, rest): (Vec<_>, Vec<_>) = whole.into_iter().partition(|one| one.notes);
    front.extend(rest);
    front
}

/// What must be there, and of the rest what the image shows.
fn met(expected: &[Expected], seen: &[String]) -> Vec<(String, String)> {
    let mut order: Vec<(String, String)> = Vec::with_capacity(expected.len());
    for one in expected {
        if !one.optional || seen.get(order.len()) == Some(&one.name) {
            order.push((one.unit.clone(), one.name.clone()));
        }
    }
    order
}

/// Goes on with the library members that the image shows next, up to the first that could be several.
fn append_lazy(order: &mut Vec<(String, String)>, lazy: Vec<Expected>, seen: &[String]) {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in lazy {
        by_name.entry(one.name).or_default().push(one.unit);
    }
    for name in seen.iter().skip(order.len()) {
        match by_name.remove(name).as_deref() {
            Some([unit]) => order.push((unit.clone(), name.clone())),
            _ => return,
        }
    }
}

/// The objects of the image's file symbols: the only one of a name, or the only one that has all local symbols behind it. The
/// linker drops local symbols and adds none. What nobody can tell belongs to no object.
fn told_apart(expected: &[Expected], seen: &[(String, BTreeSet<String>)]) -> Vec<(String, String)> {
    let mut by_name: BTreeMap<&str, (Vec<&Expected>, Vec<usize>)> = BTreeMap::new();
    for one in expected {
        by_name.entry(&one.name).or_default().0.push(one);
    }
    for (index, (name, _)) in seen.iter().enumerate() {
        by_name.entry(name).or_default().1.push(index);
    }
    let mut units: Vec<String> = (0..seen.len()).map(|index| format!("#{index}")).collect();
    for (mut objects, mut indices) in by_name.into_values() {
        // Whoever has found its object leaves fewer to the others.
        while let Some((index, object)) = sure(&objects, &indices, seen) {
            units[index].clone_from(&objects.remove(object).unit);
            indices.retain(|other| *other != index);
        }
    }
    let names = seen.iter().map(|(name, _)| name.clone());
    units.into_iter().zip(names).collect()
}

/// One of these file symbols of one name that can only be that of one of these objects, which can be no other's in turn.
fn sure(objects: &[&Expected], indices: &[usize], seen: &[(String, BTreeSet<String>)]) -> Option<(usize, usize)> {
    if let ([object], [index]) = (objects, indices) {
        return seen[*index].1.is_subset(&object.locals).then_some((*index, 0));
    }
    let only = |index: usize| {
        let locals = &seen[index].1;
        let fits = |object: &usize| !locals.is_empty() && locals.is_subset(&objects[*object].locals);
        let mut own = (0..objects.len()).filter(fits);
        own.next().filter(|_| own.next().is_none())
    };
    let found: Vec<_> = indices
        .iter()
        .filter_map(|index| Some((*index, only(*index)?)))
        .collect();
    let lonely = |one: &&(usize, usize)| found.iter().filter(|other| other.1 == one.1).count() == 1;
    found.iter().find(lonely).copied()
}

/// What an object says about files.
struct FileSymbols {
    /// Each file symbol, with the names of the local symbols behind it.
    files: Vec<(String, BTreeSet<String>)>,
    /// The named local symbols before the first.
    first: BTreeSet<String>,
    /// Whether it has notes that stay in the image; those about the object's own properties are merged.
    has_notes: bool,
}

fn file_symbols(path: &Path) -> Result<FileSymbols> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Code that runs in 32-bit mode is linked into 64-bit images too.
    let symbols = match read::FileKind::parse(data.as_slice()) {
        Ok(read::FileKind::Elf32) => symbols::<FileHeader32<Endianness>>(&data),
        _ => symbols::<FileHeader64<Endianness>>(&data),
    };
    symbols.with_context(|| format!("{} is no object file", path.display()))
}

fn symbols<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> Result<FileSymbols> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let symbols = sections.symbols(endian, data, elf::SHT_SYMTAB)?;
    let mut has_notes = false;
    for section in sections
        .iter()
        .filter(|section| section.sh_type(endian) == elf::SHT_NOTE)
    {
        has_notes |= sections.section_name(endian, section)? != b".note.gnu.property";
    }
    let mut files: Vec<(String, BTreeSet<String>)> = Vec::new();
    let mut first = BTreeSet::new();
    for symbol in symbols.iter().filter(|symbol| symbol.st_bind() == elf::STB_LOCAL) {
        let name = String::from_utf8_lossy(symbol.name(endian, symbols.strings())?).into_owned();
        if symbol.st_type() == elf::STT_FILE {
            files.push((name, BTreeSet::new()));
        } else if !name.is_empty() {
            files.last_mut().map_or(&mut first, |(_, locals)| locals).insert(name);
        }
    }
    Ok(FileSymbols {
        files,
        first,
        has_notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(unit, name)| ((*unit).to_owned(), (*name).to_owned()))
            .collect()
    }

    fn expected(rows: &[(&str, &str, bool)]) -> Vec<Expected> {
        let row = |&(unit, name, optional): &(&str, &str, bool)| Expected {
            unit: unit.to_owned(),
            name: name.to_owned(),
            optional,
            notes: false,
            locals: BTreeSet::new(),
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn objects_without_a_name_may_have_got_their_own() {
        let inputs = expected(&[
            ("a/head.o", "head.o", true),
            ("a/x.o", "x.c", false),
            ("a/y.o", "y.o", true),
            ("a/z.o", "z.c", false),
        ]);
        let seen = ["head.o", "x.c", "z.c"].map(str::to_owned);
        let order = pairs(&[("a/head.o", "head.o"), ("a/x.o", "x.c"), ("a/z.o", "z.c")]);
        assert_eq!(met(&inputs, &seen), order);
        assert_eq!(met(&inputs, &[]), order[1..], "what must be there is never left out");
    }

    #[test]
    fn an_object_with_notes_comes_first_only_where_the_image_says_so() {
        let mut inputs = expected(&[("a/main.o", "main.c", false), ("a/version.o", "version.c", false)]);
        inputs[1].notes = true;
        let units = |first: &str| -> Vec<String> {
            let order = notes_first(inputs.clone(), &[first.to_owned()]);
            order.into_iter().map(|one| one.unit).collect()
        };
        assert_eq!(units("version.c"), ["a/version.o", "a/main.o"]);
        assert_eq!(units("main.c"), ["a/main.o", "a/version.o"]);
        assert_eq!(units("other.c"), ["a/main.o", "a/version.o"]);
    }

    #[test]
    fn a_file_symbol_is_told_by_its_name_or_by_the_local_symbols_behind_it() {
        let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let rows = [
            ("init/main.o", "main.c", false),
            ("kernel/main.o", "main.c", false),
            ("mm/main.o", "main.c", false),
            ("a/head.o", "head.o", true),
        ];
        let mut inputs = expected(&rows);
        let locals: [&[&str]; 3] = [&["setup", "gone", "$x"], &["find", "$x"], &["$x"]];
        for (one, locals) in inputs.iter_mut().zip(locals) {
            one.locals = set(locals);
        }
        let row = |name: &str, locals: &[&str]| (name.to_owned(), set(locals));
        let seen = [
            row("head.o", &[]),
            row("main.c", &["find", "$x"]),
            row("", &[]),
            row("main.c", &["$x", "setup"]),
            row("main.c", &["$x"]),
        ];
        let units: Vec<String> = told_apart(&inputs, &seen).into_iter().map(|(unit, _)| unit).collect();
        let twice = told_apart(&inputs, &[seen[1].clone(), seen[1].clone()]);
        assert_eq!(
            twice.iter().map(|(unit, _)| unit.as_str()).collect::<Vec<_>>(),
            ["#0", "#1"]
        );
        assert_eq!(units, ["a/head.o", "kernel/main.o", "#2", "init/main.o", "mm/main.o"]);
    }

    #[test]
    fn notes_bring_kbuilds_objects_to_the_front() {
        let mut expected_order = added_by_kbuild("net/ipv6/ipv6.o");
        expected_order.extend(expected(&[("net/ipv6/a.o", "a.c", false)]));
        let seen = ["module-common.c", "a.c", "ipv6.mod.c"].map(str::to_owned);
        let order = pairs(&[(".module-common.o", "module-common.c"), ("net/ipv6/a.o", "a.c")]);
        assert_eq!(met(&expected_order, &seen), order);
        let seen = ["ipv6.mod.c", "a.c"].map(str::to_owned);
        assert_eq!(met(&expected_order, &seen)[0].0, "net/ipv6/ipv6.mod.o");
    }

    #[test]
    fn library_members_follow_as_the_image_shows_them() {
        let lazy = expected(&[
            ("lib/a.o", "a.c", false),
            ("lib/b.o", "b.c", false),
            ("lib/c.o", "c.c", false),
            ("arch/c.o", "c.c", false),
        ]);
        let seen = ["main.c", "b.c", "a.c", "c.c", "b.c"].map(str::to_owned);
        let mut order = pairs(&[("init/main.o", "main.c")]);
        append_lazy(&mut order, lazy, &seen);
        let found = [("init/main.o", "main.c"), ("lib/b.o", "b.c"), ("lib/a.o", "a.c")];
        assert_eq!(order, pairs(&found), "which c.c it is cannot be told");
    }
}
