//! The object that the kernel was linked from, where the pair had to be compiled with other options.
//!
//! Some machines need options for a livepatch that the kernel was not built with (`-ffunction-sections`, another code
//! model), and those change the size of every function. Then the original of the pair proves nothing about the kernel,
//! and this object does: a function of the kernel must have the size that it has here, and whatever the livepatch
//! names must be here, too. Options that change which functions exist are found out that way.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::ids::{Atom, Id, Orig};
use crate::names;
use crate::read::{self, AtomKind, Object};

/// What the shipped object says about its named parts.
#[derive(Debug)]
pub struct Shipped {
    symbols: BTreeMap<String, Part>,
}

/// A function or variable.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    function: bool,
    local: bool,
    /// Bytes from its entry on.
    size: u64,
}

impl Shipped {
    /// Reads the object.
    ///
    /// # Errors
    /// What [`read::object`] reports.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let object = read::object::<Orig>(file, bytes)?;
        let named = object.atoms.ids().filter_map(|atom| part(&object, atom));
        Ok(Shipped {
            symbols: named.map(|(name, part)| (name.to_owned(), part)).collect(),
        })
    }

    /// The size in bytes that the kernel's copy of a part must have.
    ///
    /// # Errors
    /// In which way the shipped object differs, as the end of a sentence about the part.
    pub fn size(&self, orig: &Object<'_, Orig>, atom: Id<Orig, Atom>) -> Result<u64, String> {
        let (name, ours) = part(orig, atom).ok_or("has no name")?;
        let theirs = self
            .symbols
            .get(name)
            .ok_or("is not in the object that the kernel was linked from")?;
        if (ours.function, ours.local) != (theirs.function, theirs.local) {
            return Err("is something else in the object that the kernel was linked from".into());
        }
        if !ours.function && ours.size != theirs.size {
            return Err(format!(
                "has {} bytes in the object that the kernel was linked from",
                theirs.size
            ));
        }
        let counted = names::stable(name);
        if !ours.function && counted != name && self.group(counted) != group(orig, counted) {
            return Err("is one of several, and the object that the kernel was linked from has others".into());
        }
        Ok(theirs.size)
    }

    /// The variables whose names differ only in a counter.
    fn group(&self, stable: &str) -> BTreeMap<&str, Part> {
        let own = self
            .symbols
            .iter()
            .filter(|(name, part)| !part.function && names::stable(name) == stable);
        own.map(|(name, part)| (name.as_str(), part.clone())).collect()
    }
}

fn part<'d>(object: &Object<'d, Orig>, atom: Id<Orig, Atom>) -> Option<(&'d str, Part)> {
    let row = &object.atoms[atom];
    let symbol = &object.symbols[row.symbol?];
    let function = row.kind == AtomKind::Function;
    let local = symbol.is_local();
    let size = row.end - row.anchor;
    let named = function || row.kind == AtomKind::Object;
    named.then_some((symbol.name, Part { function, local, size }))
}

fn group<'d>(object: &Object<'d, Orig>, stable: &str) -> BTreeMap<&'d str, Part> {
    let parts = object.atoms.ids().filter_map(|atom| part(object, atom));
    parts
        .filter(|(name, part)| !part.function && names::stable(name) == stable)
        .collect()
}
