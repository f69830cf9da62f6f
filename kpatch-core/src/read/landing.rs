//! What stands at a function's entry for those who call it through a pointer.

use super::Object;
use crate::ids::{Atom, Id, Side};

/// What an indirect call finds at a function's entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// Bytes of the landing pad; 0 if there is none.
    pub pad: usize,
    /// The hash of the function's type.
    pub hash: Option<u32>,
}

impl<S: Side> Object<'_, S> {
    /// What an indirect call of a function finds.
    pub fn entry(&self, atom: Id<S, Atom>) -> Entry {
        let Some(rules) = self.arch.facts().landing else {
            return Entry::default();
        };
        let row = &self.atoms[atom];
        let bytes = self.bytes(atom);
        let from = |offset: u64| bytes.get((offset - row.start) as usize..).unwrap_or_default();
        let before = row.start..row.anchor;
        // Most functions have nothing in front of them that a symbol could be at.
        let prefix = rules.prefix.filter(|_| !before.is_empty());
        let hash = prefix.and_then(|prefix| {
            let mut symbols = self.symbols.iter().map(|(_, symbol)| symbol);
            let own = symbols.find(|symbol| {
                symbol.section == Some(row.section)
                    && before.contains(&symbol.st_value)
                    && symbol.name.starts_with(prefix)
            })?;
            rules.hash(from(own.st_value))
        });
        Entry {
            pad: self.pad(atom),
            hash,
        }
    }

    /// Bytes of the landing pad at a function's entry.
    pub fn pad(&self, atom: Id<S, Atom>) -> usize {
        let row = &self.atoms[atom];
        let entry = self.bytes(atom).get((row.anchor - row.start) as usize..);
        let pad = self
            .arch
            .facts()
            .landing
            .map(|rules| rules.pad(entry.unwrap_or_default()));
        pad.unwrap_or_default()
    }

    /// The hash that code of this object expects of a function which is defined elsewhere.
    pub fn declared_hash(&self, name: &str) -> Option<u32> {
        let wanted = format!("{}{name}", self.arch.facts().landing?.wanted);
        let mut symbols = self.symbols.iter().map(|(_, symbol)| symbol);
        let note = symbols.find(|symbol| symbol.absolute && symbol.name == wanted)?;
        Some(note.st_value as u32)
    }

    /// How many bytes of two functions, each from its start, are only there for indirect calls. `None` if both sides have
    /// the same of it.
    pub fn landing_differs<O: Side>(
        &self,
        own: Id<S, Atom>,
        other: &Object<'_, O>,
        theirs: Id<O, Atom>,
    ) -> Option<(u64, u64)> {
        let (one, two) = (&self.atoms[own], &other.atoms[theirs]);
        let ahead = ((one.anchor - one.start) as usize, (two.anchor - two.start) as usize);
        let pads = (self.pad(own), other.pad(theirs));
        let front = (
            self.bytes(own).get(..ahead.0).unwrap_or_default(),
            other.bytes(theirs).get(..ahead.1).unwrap_or_default(),
        );
        if pads.0 == pads.1 {
            let hashes = || (self.entry(own).hash, other.entry(theirs).hash);
            if front.0 == front.1 || !matches!(hashes(), (Some(_), None) | (None, Some(_))) {
                return None;
            }
        }
        Some(((ahead.0 + pads.0) as u64, (ahead.1 + pads.1) as u64))
    }
}
