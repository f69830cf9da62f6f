//! Where a name counts: a static belongs to its source file, a global to the whole object.
//!
//! An object of one source file is one scope: there a static that another file begins to import becomes global, and is
//! still the same. In an object linked from many files (`vmlinux.o`, a module) hundreds of names are used by several,
//! and the FILE blocks tell them apart. A patch can add and remove files, so blocks are paired by name, the n-th with
//! the n-th; where one side has more blocks of a name, by the statics that both have.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{Atom, Id, Orig, Patched, Side, Sym};
use crate::read::Object;

/// Number of a scope; the same for both sides.
pub type Scope = u32;

/// The scope of globals, and of everything in an object of one file.
pub const GLOBAL: Scope = 0;
/// Locals before the first FILE symbol.
pub const NO_FILE: Scope = 1;

/// The scopes of both sides.
pub struct Scopes {
    orig: Vec<Scope>,
    patched: Vec<Scope>,
    many: bool,
}

impl Scopes {
    /// Pairs the FILE blocks.
    pub fn of(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>) -> Scopes {
        let many = orig.blocks.len() > 1 || patched.blocks.len() > 1;
        let first = NO_FILE + 1;
        let orig_scopes: Vec<Scope> = (0..orig.blocks.len()).map(|block| first + block as Scope).collect();
        // Blocks without a twin are scopes of their own, behind all others.
        let unpaired = first + orig.blocks.len() as Scope;
        let mut patched_scopes: Vec<Scope> = (0..patched.blocks.len())
            .map(|block| unpaired + block as Scope)
            .collect();
        if many {
            for (orig_block, patched_block) in pairs(orig, patched) {
                patched_scopes[patched_block] = orig_scopes[orig_block];
            }
        }
        Scopes {
            orig: orig_scopes,
            patched: patched_scopes,
            many,
        }
    }

    /// Whether there are several files.
    pub fn many(&self) -> bool {
        self.many
    }

    /// The scope of an original symbol.
    pub fn of_orig_symbol(&self, object: &Object<'_, Orig>, symbol: Id<Orig, Sym>) -> Scope {
        self.scope(object, symbol, &self.orig)
    }

    /// The scope of a patched symbol.
    pub fn of_patched_symbol(&self, object: &Object<'_, Patched>, symbol: Id<Patched, Sym>) -> Scope {
        self.scope(object, symbol, &self.patched)
    }

    /// The scope of an original atom's name.
    pub fn of_orig(&self, object: &Object<'_, Orig>, atom: Id<Orig, Atom>) -> Scope {
        let symbol = object.atoms[atom].symbol;
        symbol.map_or(GLOBAL, |symbol| self.of_orig_symbol(object, symbol))
    }

    /// The scope of a patched atom's name.
    pub fn of_patched(&self, object: &Object<'_, Patched>, atom: Id<Patched, Atom>) -> Scope {
        let symbol = object.atoms[atom].symbol;
        symbol.map_or(GLOBAL, |symbol| self.of_patched_symbol(object, symbol))
    }

    fn scope<S: Side>(&self, object: &Object<'_, S>, symbol: Id<S, Sym>, blocks: &[Scope]) -> Scope {
        if self.many && object.symbols[symbol].is_local() {
            object.block_of(symbol).map_or(NO_FILE, |block| blocks[block])
        } else {
            GLOBAL
        }
    }
}

/// The blocks of both sides that belong together.
fn pairs(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>) -> Vec<(usize, usize)> {
    let mut by_name: BTreeMap<&str, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (index, block) in orig.blocks.iter().enumerate() {
        by_name.entry(block.name).or_default().0.push(index);
    }
    for (index, block) in patched.blocks.iter().enumerate() {
        by_name.entry(block.name).or_default().1.push(index);
    }
    let mut pairs = Vec::new();
    for (orig_blocks, patched_blocks) in by_name.into_values() {
        if orig_blocks.len() == patched_blocks.len() {
            pairs.extend(orig_blocks.into_iter().zip(patched_blocks));
        } else {
            pairs.extend(by_statics(orig, &orig_blocks, patched, &patched_blocks));
        }
    }
    pairs
}

/// Pairs blocks of one name of which one side has more: each with the one it has most statics in common with, if that
/// one says the same.
fn by_statics(
    orig: &Object<'_, Orig>,
    orig_blocks: &[usize],
    patched: &Object<'_, Patched>,
    patched_blocks: &[usize],
) -> Vec<(usize, usize)> {
    let orig_names: Vec<_> = orig_blocks.iter().map(|block| statics(orig, *block)).collect();
    let patched_names: Vec<_> = patched_blocks.iter().map(|block| statics(patched, *block)).collect();
    let common =
        |orig_at: usize, patched_at: usize| orig_names[orig_at].intersection(&patched_names[patched_at]).count();
    // The only best of several, if it has anything in common at all.
    let best = |count: usize, score: &dyn Fn(usize) -> usize| {
        let most = (0..count).map(score).max().filter(|most| *most > 0)?;
        let mut all = (0..count).filter(|index| score(*index) == most);
        all.next().filter(|_| all.next().is_none())
    };
    let mut pairs = Vec::new();
    for (orig_at, block) in orig_blocks.iter().enumerate() {
        let Some(patched_at) = best(patched_blocks.len(), &|patched_at| common(orig_at, patched_at)) else {
            continue;
        };
        if best(orig_blocks.len(), &|orig_at| common(orig_at, patched_at)) == Some(orig_at) {
            pairs.push((*block, patched_blocks[patched_at]));
        }
    }
    pairs
}

fn statics<'d, S: Side>(object: &Object<'d, S>, block: usize) -> BTreeSet<&'d str> {
    let first = object.blocks[block].first + 1;
    let end = object
        .blocks
        .get(block + 1)
        .map_or(object.symbols.len(), |next| next.first);
    let rows = (first..end).map(|row| &object.symbols[Id::new(row)]);
    rows.filter(|symbol| symbol.is_local() && !symbol.name.is_empty())
        .map(|symbol| symbol.name)
        .collect()
}
