//! Definitions that a patch takes away, though others of the same link have or want them.
//!
//! Without link time optimisation nobody links the patched image, so nobody sees that the weak definition of a file
//! that was not touched would take the place of a strong one: the objects of the patched files show only that a
//! function is gone, and the kernel would go on using it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use kpatch_core::{Refusal, Subject};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSymbol, ReadCache};
use rayon::prelude::*;

use crate::build::kbuild::Home;
use crate::build::recompile::ChangedTu;
use crate::build::site::Site;

use kpatch_core::codes::patch::DEFINITION_REMOVED as REMOVED;
/// How an object takes part in the meaning of a name (gABI, "Symbol Table", `STB_WEAK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It has the definition that counts.
    Strong,
    /// It has one that counts if there is no other.
    Weak,
    /// It uses the name.
    Uses,
}

/// Global names of an object.
type Names = BTreeMap<String, Part>;

/// What others have to do with a definition that is gone, by the object that does.
#[derive(Debug, PartialEq, Eq)]
enum Missed<'a> {
    /// It has another definition.
    Replaced(&'a str),
    /// It goes on using it.
    Wanted(&'a str),
}

/// Looks for definitions that the changed files no longer have and others miss.
///
/// # Errors
/// An object of the build that cannot be read.
pub fn removed(site: &Site<'_>, changed: &[ChangedTu]) -> Result<Vec<Refusal>> {
    let kbuild = site.kbuild;
    let homes: BTreeSet<&Home> = changed.iter().flat_map(|tu| &tu.homes).collect();
    let mut refusals = Vec::new();
    for home in homes {
        let here: Vec<&ChangedTu> = changed.iter().filter(|tu| tu.homes.contains(home)).collect();
        let gone = gone(&here)?;
        if gone.is_empty() {
            continue;
        }
        if !kbuild.members.is_complete {
            refusals.extend(gone.iter().map(|(name, gone)| unknown(name, &gone.file)));
            continue;
        }
        site.progress.message("looking for users of removed definitions");
        let objects: Vec<&str> = match home {
            Home::Vmlinux => kbuild.members.vmlinux.inputs.iter().map(|input| &*input.path).collect(),
            Home::Module(module) => kbuild.members.modules[module].iter().map(|path| &**path).collect(),
            Home::Other(_) => continue,
        };
        let others = objects
            .into_par_iter()
            .filter(|path| here.iter().all(|tu| tu.object != *path));
        let others: Vec<(&str, Names)> = others
            .map(|path| {
                Ok((
                    path,
                    names(&kbuild.trees.object(path), |name, _| gone.contains_key(name))?,
                ))
            })
            .collect::<Result<_>>()?;
        for (name, gone) in &gone {
            refusals.extend(missed(name, gone.weak, &others).map(|missed| refusal(name, &gone.file, &missed)));
        }
    }
    Ok(refusals)
}

/// A strong definition that is none any more.
#[derive(Debug, PartialEq, Eq)]
struct Gone {
    /// The file that had it.
    file: String,
    /// It is a weak one now, which is enough for those who use it.
    weak: bool,
}

/// The strong definitions that the changed files of one link have no longer.
fn gone(changed: &[&ChangedTu]) -> Result<BTreeMap<String, Gone>> {
    let mut gone = BTreeMap::new();
    let mut stays = Names::new();
    for tu in changed {
        for (name, part) in names(&tu.patched, |_, part| part != Part::Uses)? {
            let known = stays.entry(name).or_insert(part);
            if part == Part::Strong {
                *known = part;
            }
        }
        if let Some(orig) = &tu.orig {
            let strong = names(orig, |_, part| part == Part::Strong)?;
            gone.extend(strong.into_keys().map(|name| (name, &tu.object)));
        }
    }
    let left = gone.into_iter().filter_map(|(name, file)| {
        let now = stays.get(&name).copied();
        let gone = Gone {
            file: file.clone(),
            weak: now == Some(Part::Weak),
        };
        (now != Some(Part::Strong)).then_some((name, gone))
    });
    Ok(left.collect())
}

/// What the objects that the patch leaves alone have to do with a name that is gone, or weak now.
fn missed<'a>(name: &str, weak: bool, others: &'a [(&str, Names)]) -> Option<Missed<'a>> {
    let who = |wanted: Part| {
        let one = others.iter().find(|(_, names)| names.get(name) == Some(&wanted));
        one.map(|(path, _)| *path)
    };
    let other = who(Part::Weak).or_else(|| who(Part::Strong)).map(Missed::Replaced);
    other.or_else(|| who(Part::Uses).filter(|_| !weak).map(Missed::Wanted))
}

/// Without the objects of the build nobody can be asked.
fn unknown(name: &str, file: &str) -> Refusal {
    let why = format!(
        "the patch removes `{name}`, and whether anything else defines or uses it is not known for this kernel"
    );
    Refusal::new(REMOVED, Subject::file(file).symbol(name), why).hint("keep the definition")
}

fn refusal(name: &str, file: &str, missed: &Missed<'_>) -> Refusal {
    let (why, hint) = match missed {
        Missed::Replaced(other) => (
            format!("the patch removes `{name}`, and the definition in {other} would take its place"),
            "keep the definition, and make it do what the other one does",
        ),
        Missed::Wanted(user) => (
            format!("the patch removes `{name}`, which {user} still uses"),
            "keep the definition, or also patch its users",
        ),
    };
    Refusal::new(REMOVED, Subject::file(file).symbol(name), why).hint(hint)
}

/// The global names of an object that somebody wants.
fn names(path: &Path, wanted: impl Fn(&str, Part) -> bool) -> Result<Names> {
    let read = || {
        let cache = ReadCache::new(File::open(path)?);
        let file: ElfFile64<'_, Endianness, _> = ElfFile64::parse(&cache)?;
        let mut names = Names::new();
        for symbol in file.symbols().filter(ObjectSymbol::is_global) {
            let part = match (symbol.is_undefined(), symbol.is_weak()) {
                (true, _) => Part::Uses,
                (false, true) => Part::Weak,
                (false, false) => Part::Strong,
            };
            let name = symbol.name()?;
            if wanted(name, part) {
                names.insert(name.to_owned(), part);
            }
        }
        anyhow::Ok(names)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use kpatch_core::elf::{File, Place, Section, Symbol};
    use object::elf;

    use super::*;

    /// An object with one section, and with these names: how each is bound, and whether it is defined.
    fn object(folder: &Path, name: &str, symbols: &[(&str, elf::SymbolBind, bool)]) -> PathBuf {
        let text = Section {
            name: ".text".into(),
            sh_type: elf::SHT_PROGBITS.0,
            sh_flags: elf::SHF_ALLOC.0,
            ..Section::default()
        };
        let symbol = |(name, bind, defined): &(&str, elf::SymbolBind, bool)| {
            let place = if *defined {
                Place::Section(0)
            } else {
                Place::Reserved(0)
            };
            Symbol::new(*name, place, bind.0, 0)
        };
        let file = File {
            e_machine: elf::EM_X86_64.0,
            e_flags: 0,
            big_endian: false,
            sections: vec![text],
            symbols: symbols.iter().map(symbol).collect(),
        };
        let path = folder.join(name);
        std::fs::write(&path, file.write()).unwrap();
        path
    }

    #[test]
    fn names_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let symbols = [
            ("own", elf::STB_LOCAL, true),
            ("strong", elf::STB_GLOBAL, true),
            ("weak", elf::STB_WEAK, true),
            ("used", elf::STB_GLOBAL, false),
            ("may_be_used", elf::STB_WEAK, false),
        ];
        let found = names(&object(folder.path(), "a.o", &symbols), |_, _| true).unwrap();
        let parts: Vec<(&str, Part)> = found.iter().map(|(name, part)| (&**name, *part)).collect();
        let expected = [
            ("may_be_used", Part::Uses),
            ("strong", Part::Strong),
            ("used", Part::Uses),
            ("weak", Part::Weak),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn what_is_no_longer_strong_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, symbols: &[_]| object(folder.path(), name, symbols);
        let strong = |name| (name, elf::STB_GLOBAL, true);
        let tu = |object: &str, orig, patched| ChangedTu {
            object: object.into(),
            source: String::new(),
            homes: vec![Home::Vmlinux],
            orig: Some(orig),
            patched,
            via: Vec::new(),
            after: None,
        };
        let orig = path(
            "a.o",
            &[strong("stays"), strong("weakens"), strong("goes"), strong("moves")],
        );
        let patched = path("a-patched.o", &[strong("stays"), ("weakens", elf::STB_WEAK, true)]);
        let one = tu("a.o", orig, patched);
        let two = tu("b.o", path("b.o", &[]), path("b-patched.o", &[strong("moves")]));
        let found = gone(&[&one, &two]).unwrap();
        let found: Vec<(&str, bool)> = found.iter().map(|(name, gone)| (&**name, gone.weak)).collect();
        assert_eq!(found, [("goes", false), ("weakens", true)]);
    }

    #[test]
    fn a_definition_elsewhere_counts_before_users() {
        let names = |part| Names::from([("show".to_owned(), part)]);
        let (user, weak) = (("user.o", names(Part::Uses)), ("proc.o", names(Part::Weak)));
        let both = [user.clone(), weak];
        for is_weak in [false, true] {
            assert_eq!(missed("show", is_weak, &both), Some(Missed::Replaced("proc.o")));
        }
        let user = [user];
        assert_eq!(missed("show", false, &user), Some(Missed::Wanted("user.o")));
        assert_eq!(
            missed("show", true, &user),
            None,
            "a weak definition is enough for a user"
        );
        assert_eq!(missed("other", false, &user), None);
    }
}
