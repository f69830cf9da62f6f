//! FILE blocks: which source file a local name belongs to.
//!
//! An object that was linked from several translation units has many locals of one name. The STT_FILE symbol before
//! them tells them apart: a local symbol belongs to the nearest one (gABI, chapter 4, "Symbol Table"). Globals follow
//! all locals and belong to no file.

use std::collections::BTreeMap;

use super::{AtomKind, Object};
use crate::ids::{Atom, Id, Side, Sym};
use crate::names;

/// One STT_FILE symbol and the locals behind it.
#[derive(Debug, Clone, Copy)]
pub struct FileBlock<'d> {
    /// Name of the source file.
    pub name: &'d str,
    /// Row of the FILE symbol; the block ends where the next begins.
    pub first: usize,
}

impl<'d, S: Side> Object<'d, S> {
    /// The FILE block of a symbol; `None` for globals and for locals before the first FILE symbol.
    pub fn block_of(&self, symbol: Id<S, Sym>) -> Option<usize> {
        if !self.symbols[symbol].is_local() {
            return None;
        }
        let after = self.blocks.partition_point(|block| block.first <= symbol.index());
        after.checked_sub(1)
    }

    /// Whether an atom is a part that the compiler split off a function (`.cold`). Jumps reach it, the tracer never
    /// does.
    pub fn is_part(&self, atom: Id<S, Atom>) -> bool {
        self.name(atom).is_some_and(|name| names::cold_parent(name).is_some())
    }

    /// Each part that the compiler split off a function (`.cold`), as a pair of function and part. The function is the
    /// one of that name in the same file, or the global one. The name may be an alias: the part of a system call is
    /// named after `__do_sys_x`, an alias of `__x64_sys_x`.
    pub fn parts(&self) -> Vec<(Id<S, Atom>, Id<S, Atom>)> {
        let mut split = Vec::new();
        let mut parents = BTreeMap::new();
        for (id, atom) in self.atoms.iter().filter(|(_, atom)| atom.kind == AtomKind::Function) {
            let Some(symbol) = atom.symbol else { continue };
            if let Some(parent) = names::cold_parent(self.symbols[symbol].name) {
                split.push((id, self.block_of(symbol), parent));
                parents.insert((self.block_of(symbol), parent), None);
                parents.insert((None, parent), None);
            }
        }
        if split.is_empty() {
            return Vec::new();
        }
        for (id, atom) in self.atoms.iter().filter(|(_, atom)| atom.kind == AtomKind::Function) {
            for symbol in atom.symbol.iter().chain(&atom.aliases) {
                if let Some(slot) = parents.get_mut(&(self.block_of(*symbol), self.symbols[*symbol].name)) {
                    slot.get_or_insert(id);
                }
            }
        }
        let find = |block, name| parents.get(&(block, name)).copied().flatten();
        let pairs = split.into_iter();
        pairs
            .filter_map(|(part, block, parent)| Some((find(block, parent).or_else(|| find(None, parent))?, part)))
            .collect()
    }
}

/// Finds the FILE symbols.
pub fn find<S: Side>(object: &mut Object<'_, S>) {
    let files = object
        .symbols
        .iter()
        .filter(|(_, symbol)| symbol.st_type == object::elf::STT_FILE.0);
    object.blocks = files
        .map(|(id, symbol)| FileBlock {
            name: symbol.name,
            first: id.index(),
        })
        .collect();
}
