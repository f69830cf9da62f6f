//! The order of the file symbols in an image that was linked without link time optimisation.
//!
//! `ld -r` and the last link take the symbol tables of their inputs over one after the other, each with the `STT_FILE`
//! symbols it has: one for an object compiled from C, none for most assembly, several for what was linked before. So
//! the order is read off the inputs, and the differ confirms it against the image, name by name.
//!
//! Members of a library are linked only if something refers to them, in an order that the linker finds. They come
//! behind everything else, and are told from the image by their file names, as long as these are unique.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, Sym};
use object::{Endianness, read};
use rayon::prelude::*;

use crate::kbuild::{Home, Kbuild};

/// Unit and file name for each file symbol of the image or a module, as far as the order is known.
pub fn order(kbuild: &Kbuild, home: &Home, vmlinux: &Path) -> Result<Vec<(String, String)>> {
    let build = &kbuild.trees.build;
    match home {
        Home::Module(module) => {
            let objects = kbuild.members.modules.get(module);
            let objects = objects.with_context(|| format!("{module} is not a module of this build"))?;
            groups(build, objects.iter().map(String::as_str).collect())
        }
        Home::Vmlinux => {
            let inputs = &kbuild.members.vmlinux.inputs;
            let (lazy, whole): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.lazy.is_some());
            let mut order = groups(build, whole.into_iter().map(|input| input.path.as_str()).collect())?;
            let lazy = groups(build, lazy.into_iter().map(|input| input.path.as_str()).collect())?;
            let seen = file_symbols(vmlinux)?;
            append_lazy(&mut order, lazy, &seen);
            Ok(order)
        }
        Home::Other(other) => anyhow::bail!("{other:?} is linked into neither the image nor a module"),
    }
}

fn groups(build: &Path, objects: Vec<&str>) -> Result<Vec<(String, String)>> {
    let of = |object: &&str| -> Result<Vec<(String, String)>> {
        let names = file_symbols(&build.join(object))?;
        // Only the first is the object's own name; what was linked before cannot be told apart by it.
        let unit = |index: usize| match index {
            0 => (*object).to_owned(),
            n => format!("{object}#{n}"),
        };
        Ok(names
            .into_iter()
            .enumerate()
            .map(|(index, name)| (unit(index), name))
            .collect())
    };
    let found: Result<Vec<_>> = objects.par_iter().map(of).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// Goes on with the library members that the image shows next, up to the first that could be several.
fn append_lazy(order: &mut Vec<(String, String)>, lazy: Vec<(String, String)>, seen: &[String]) {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (unit, name) in lazy {
        by_name.entry(name).or_default().push(unit);
    }
    for name in seen.iter().skip(order.len()) {
        match by_name.remove(name).as_deref() {
            Some([unit]) => order.push((unit.clone(), name.clone())),
            _ => return,
        }
    }
}

fn file_symbols(path: &Path) -> Result<Vec<String>> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Code that runs in 32-bit mode is linked into 64-bit images too.
    let names = match read::FileKind::parse(data.as_slice()) {
        Ok(read::FileKind::Elf32) => names::<FileHeader32<Endianness>>(&data),
        _ => names::<FileHeader64<Endianness>>(&data),
    };
    names.with_context(|| format!("{} is no object file", path.display()))
}

fn names<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> Result<Vec<String>> {
    let header = H::parse(data)?;
    let endian = header.endian()?;
    let symbols = header.sections(endian, data)?.symbols(endian, data, elf::SHT_SYMTAB)?;
    let mut names = Vec::new();
    for symbol in symbols.iter().filter(|symbol| symbol.st_type() == elf::STT_FILE) {
        names.push(String::from_utf8_lossy(symbol.name(endian, symbols.strings())?).into_owned());
    }
    Ok(names)
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

    #[test]
    fn library_members_follow_as_the_image_shows_them() {
        let lazy = pairs(&[
            ("lib/a.o", "a.c"),
            ("lib/b.o", "b.c"),
            ("lib/c.o", "c.c"),
            ("arch/c.o", "c.c"),
        ]);
        let seen = ["main.c", "b.c", "a.c", "c.c", "b.c"].map(str::to_owned);
        let mut order = pairs(&[("init/main.o", "main.c")]);
        append_lazy(&mut order, lazy, &seen);
        let expected = [("init/main.o", "main.c"), ("lib/b.o", "b.c"), ("lib/a.o", "a.c")];
        assert_eq!(order, pairs(&expected), "which c.c it is cannot be told");
    }
}
