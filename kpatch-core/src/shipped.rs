//! The object that the kernel was linked from, where the pair had to be compiled with other options.
//!
//! Some machines need options for a livepatch that the kernel was not built with (`-ffunction-sections`, another code
//! model), and those change the size of every function. Then the original of the pair proves nothing about the kernel,
//! and this object does: a function of the kernel must have the size that it has here, and whatever the livepatch
//! names must be here, too. Options that change which functions exist are found out that way.

use std::collections::BTreeMap;

use object::elf;

use crate::error::Error;
use crate::ids::{Atom, Id, Orig, Sym};
use crate::names;
use crate::read::{self, Object};

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
    /// `st_size`: size in bytes.
    size: u64,
}

impl Shipped {
    /// Reads the object.
    ///
    /// # Errors
    /// What [`read::object`] reports.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let object = read::object::<Orig>(file, bytes)?;
        let named = object.symbols.ids().filter_map(|symbol| part(&object, symbol));
        Ok(Shipped {
            symbols: named.map(|(name, part)| (name.to_owned(), part)).collect(),
        })
    }

    /// The size in bytes that the kernel's copy of a part must have.
    ///
    /// # Errors
    /// In which way the shipped object differs, as the end of a sentence about the part.
    pub fn size(&self, orig: &Object<'_, Orig>, atom: Id<Orig, Atom>) -> Result<u64, String> {
        let symbol = orig.atoms[atom].symbol;
        let (name, own) = symbol.and_then(|symbol| part(orig, symbol)).ok_or("has no name")?;
        let shipped = self
            .symbols
            .get(name)
            .ok_or("is not in the object that the kernel was linked from")?;
        if (own.function, own.local) != (shipped.function, shipped.local) {
            return Err("is something else in the object that the kernel was linked from".into());
        }
        if !own.function && own.size != shipped.size {
            return Err(format!(
                "has {} bytes in the object that the kernel was linked from",
                shipped.size
            ));
        }
        let counted = names::stable(name);
        if !own.function && counted != name && self.group(counted) != group(orig, counted) {
            return Err("is one of several, and the object that the kernel was linked from has others".into());
        }
        Ok(shipped.size)
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

/// A symbol as a part. Symbols and not atoms: variables without any bytes share their place.
fn part<'d>(object: &Object<'d, Orig>, symbol: Id<Orig, Sym>) -> Option<(&'d str, Part)> {
    let symbol = &object.symbols[symbol];
    let part = Part {
        function: symbol.is_function(),
        local: symbol.is_local(),
        size: symbol.st_size,
    };
    let named = symbol.is_function() || symbol.st_type == elf::STT_OBJECT.0;
    (named && symbol.section.is_some()).then_some((symbol.name, part))
}

fn group<'d>(object: &Object<'d, Orig>, stable: &str) -> BTreeMap<&'d str, Part> {
    let parts = object.symbols.ids().filter_map(|symbol| part(object, symbol));
    let own = parts.filter(|(name, part)| !part.function && names::stable(name) == stable);
    own.collect()
}
