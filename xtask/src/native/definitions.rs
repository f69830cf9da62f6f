//! Definitions that a patch takes away, though others of the same link have or want them.
//!
//! Without link time optimisation nobody links the patched image, so nobody sees that the weak definition of a file
//! that was not touched would take the place of a strong one: the objects of the patched files show only that a
//! function is gone, and the kernel would go on using it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::{Code, Refusal, Subject};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSymbol, ReadCache};
use rayon::prelude::*;

use crate::kbuild::{Home, Kbuild};
use crate::recompile::ChangedTu;

/// A definition is gone, and others of the same link have or want one.
pub const REMOVED: Code = Code("patch.definition-removed");

/// How an object takes part in the meaning of a name (gABI, "Symbol Table", `STB_WEAK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// It has the definition that counts.
    Strong,
    /// It has one that counts if there is no other.
    Weak,
    /// It uses the name.
    Uses,
}

/// The global names of an object.
pub type Names = BTreeMap<String, Part>;

/// Looks for definitions that the changed files no longer have and others miss.
pub fn removed(kbuild: &Kbuild, changed: &[ChangedTu]) -> Result<Vec<Refusal>> {
    let homes: BTreeSet<&Home> = changed.iter().flat_map(|tu| &tu.homes).collect();
    let mut refusals = Vec::new();
    for home in homes {
        let here: Vec<&ChangedTu> = changed.iter().filter(|tu| tu.homes.contains(home)).collect();
        let gone = gone(&here)?;
        if gone.is_empty() {
            continue;
        }
        let objects: Vec<&str> = match home {
            Home::Vmlinux => kbuild.members.vmlinux.inputs.iter().map(|input| &*input.path).collect(),
            Home::Module(module) => kbuild.members.modules[module].iter().map(|path| &**path).collect(),
            Home::Other(_) => continue,
        };
        let others = objects
            .into_par_iter()
            .filter(|path| here.iter().all(|tu| tu.object != *path));
        let others: Vec<(String, Names)> = others
            .map(|path| Ok((path.to_owned(), names(&kbuild.trees.build.join(path), &gone)?)))
            .collect::<Result<_>>()?;
        refusals.extend(gone.iter().filter_map(|(name, file)| missed(name, file, &others)));
    }
    Ok(refusals)
}

/// The strong definitions that the changed files of one link have no longer, and the file that had each.
fn gone(changed: &[&ChangedTu]) -> Result<BTreeMap<String, String>> {
    let mut gone = BTreeMap::new();
    let mut stays = BTreeSet::new();
    for tu in changed {
        let strong = |path: &PathBuf| -> Result<Vec<String>> {
            let all = all_names(path)?.into_iter();
            Ok(all
                .filter(|(_, part)| *part == Part::Strong)
                .map(|(name, _)| name)
                .collect())
        };
        stays.extend(strong(&tu.patched)?);
        if let Some(orig) = &tu.orig {
            gone.extend(strong(orig)?.into_iter().map(|name| (name, tu.object.clone())));
        }
    }
    gone.retain(|name, _| !stays.contains(name));
    Ok(gone)
}

/// What the objects that the patch leaves alone have to do with a definition that is gone.
fn missed(name: &str, file: &str, others: &[(String, Names)]) -> Option<Refusal> {
    let who = |wanted: Part| {
        let one = others.iter().find(|(_, names)| names.get(name) == Some(&wanted));
        one.map(|(path, _)| path)
    };
    let (why, hint) = if let Some(other) = who(Part::Weak).or_else(|| who(Part::Strong)) {
        let why = format!("the patch takes `{name}` away, and the definition of {other} would take its place");
        (why, "keep the function, and make it do what the other one does")
    } else {
        let why = format!(
            "the patch takes `{name}` away, which {} goes on using",
            who(Part::Uses)?
        );
        (why, "keep the definition, or also patch those who use it")
    };
    Some(Refusal::new(REMOVED, Subject::file(file).symbol(name), why).hint(hint))
}

/// Those of the wanted names that an object has.
fn names(path: &Path, wanted: &BTreeMap<String, String>) -> Result<Names> {
    let mut names = all_names(path)?;
    names.retain(|name, _| wanted.contains_key(name));
    Ok(names)
}

/// The global names of an object.
fn all_names(path: &Path) -> Result<Names> {
    let read = || {
        let cache = ReadCache::new(File::open(path)?);
        let file: ElfFile64<'_, object::Endianness, _> = ElfFile64::parse(&cache)?;
        anyhow::Ok(parts(file.symbols().filter(ObjectSymbol::is_global)))
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn parts<'d, S: ObjectSymbol<'d>>(symbols: impl Iterator<Item = S>) -> Names {
    let part = |symbol: &S| match (symbol.is_undefined(), symbol.is_weak()) {
        (true, _) => Part::Uses,
        (false, true) => Part::Weak,
        (false, false) => Part::Strong,
    };
    let named = symbols.filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), part(&symbol))));
    named.filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(parts: &[(&str, Part)]) -> Vec<(String, Names)> {
        let object = |(path, part): &(&str, Part)| ((*path).to_owned(), BTreeMap::from([("show".to_owned(), *part)]));
        parts.iter().map(object).collect()
    }

    fn why(parts: &[(&str, Part)]) -> Option<String> {
        missed("show", "irq.o", &others(parts)).map(|refusal| refusal.to_string())
    }

    #[test]
    fn a_weak_definition_takes_the_place_of_a_strong_one() {
        let why = why(&[("user.o", Part::Uses), ("proc.o", Part::Weak)]).unwrap();
        assert!(why.contains("proc.o would take its place"), "{why}");
    }

    #[test]
    fn a_user_that_is_left_alone_misses_a_definition() {
        let why = why(&[("user.o", Part::Uses)]).unwrap();
        assert!(why.contains("which user.o goes on using"), "{why}");
    }

    #[test]
    fn nobody_misses_what_nobody_has_or_uses() {
        assert_eq!(missed("show", "irq.o", &others(&[])), None);
        let elsewhere = vec![("other.o".to_owned(), Names::from([("else".to_owned(), Part::Weak)]))];
        assert_eq!(missed("show", "irq.o", &elsewhere), None);
    }
}
