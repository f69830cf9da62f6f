//! Checks that a native object is complete.
//!
//! When the path of a module is not the one in its shard, clang finds nothing to generate, says nothing and succeeds.
//! A module that links relocatably keeps all its global definitions, so each must be in the native object.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSymbol};

use super::view::View;
use crate::build::kbuild::facts::tool_beside;
use crate::sh;

/// Fails if global definitions of the bitcode are missing in the native object.
pub fn check(compiler: &str, view: &View, unit: &str, native: &Path) -> Result<()> {
    let mut command = sh::command(tool_beside(compiler, "llvm-nm")?);
    command
        .args(["--defined-only", "--format=posix", "--no-sort", unit])
        .current_dir(&view.root);
    let listing = sh::output(&mut command)?;
    let bytes = fs::read(native).with_context(|| format!("cannot read {}", native.display()))?;
    compare(&listing, &bytes).with_context(|| format!("thinlto.empty-object: {unit}"))
}

fn compare(listing: &str, native: &[u8]) -> Result<()> {
    let native = object::File::parse(native).context("the back end did not write an object file")?;
    let defined: BTreeSet<&str> = native
        .symbols()
        .filter(ObjectSymbol::is_definition)
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    let missing: Vec<&str> = globals(listing).filter(|name| !defined.contains(name)).collect();
    if let Some(first) = missing.first() {
        bail!(
            "{} global definitions of the bitcode are not in the native object, among them `{first}`",
            missing.len()
        );
    }
    if defined.is_empty() && listing.lines().next().is_some() {
        bail!("the bitcode defines symbols and the native object none");
    }
    Ok(())
}

/// Strong global definitions: text, data, zero-initialised and read-only. Weak ones may lose to another file's.
fn globals(listing: &str) -> impl Iterator<Item = &str> {
    listing.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, kind) = (words.next()?, words.next()?);
        matches!(kind, "T" | "D" | "B" | "R").then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::write::{Object, Symbol, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

    fn native(names: &[&str]) -> Vec<u8> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = object.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
        for name in names {
            object.add_symbol(Symbol {
                name: name.as_bytes().to_vec(),
                value: 0,
                size: 1,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        }
        object.write().unwrap()
    }

    #[test]
    fn all_strong_globals_must_be_there() {
        let listing = "f T 0 0\nlocal t 0 0\nweak W 0 0\ndata D 0 0\n";
        assert!(compare(listing, &native(&["f", "data"])).is_ok());
        assert!(
            compare(listing, &native(&["f"]))
                .unwrap_err()
                .to_string()
                .contains("`data`")
        );
        assert!(compare("local t 0 0\n", &native(&[])).is_err());
    }
}
