//! Other names of the same place. A function that gets one more name may be called by that one in its symbol table, and
//! is still the same. A global name that moves to another place is a change that no section shows: whoever uses it from
//! outside means something else than before.

use std::collections::HashMap;

use super::Pairing;
use super::scopes::{Scope, Scopes};
use crate::ids::{Atom, Id, Orig, Patched, Side, Sym};
use crate::names;
use crate::read::{AtomKind, Object};

/// A function or variable, and the symbol that gives it the name.
type Named<S> = (Id<S, Atom>, Id<S, Sym>);

/// Who has a name. Names that several have tell nothing.
pub struct Owners<'d>(HashMap<(Scope, &'d str), Option<Named<Orig>>>);

impl<'d> Owners<'d> {
    /// Looks through the original side.
    pub fn of(object: &Object<'d, Orig>, scopes: &Scopes) -> Self {
        let mut owners = HashMap::new();
        for (id, symbol) in entries(object) {
            let name = object.symbols[symbol].name;
            let base = names::unpromoted(name);
            if !base.is_empty() && names::stable(base) == base {
                owners
                    .entry((scopes.of_orig_symbol(object, symbol), base))
                    .and_modify(|owner| *owner = None)
                    .or_insert(Some((id, symbol)));
            }
        }
        Owners(owners)
    }
}

/// Each function and variable with each symbol at its entry or start.
fn entries<S: Side>(object: &Object<'_, S>) -> impl Iterator<Item = Named<S>> {
    let named = object
        .atoms
        .iter()
        .filter(|(_, row)| matches!(row.kind, AtomKind::Function | AtomKind::Object));
    named.flat_map(move |(id, row)| {
        let all = row.symbol.iter().chain(&row.aliases).copied();
        let anchor = row.anchor;
        all.filter(move |symbol| object.symbols[*symbol].st_value == anchor)
            .map(move |symbol| (id, symbol))
    })
}

/// Pairs what is still open and has a name in common that is not the first on both sides: those were tried before.
pub fn pair(
    orig_owners: &Owners<'_>,
    orig: &Object<'_, Orig>,
    patched: &Object<'_, Patched>,
    scopes: &Scopes,
    pairing: &mut Pairing,
) {
    for (patched_atom, symbol) in entries(patched) {
        let key = (
            scopes.of_patched_symbol(patched, symbol),
            names::unpromoted(patched.symbols[symbol].name),
        );
        if let Some(Some((orig_atom, orig_symbol))) = orig_owners.0.get(&key)
            && !(orig.atoms[*orig_atom].symbol == Some(*orig_symbol)
                && patched.atoms[patched_atom].symbol == Some(symbol))
            && orig.atoms[*orig_atom].kind == patched.atoms[patched_atom].kind
            && pairing.is_free(*orig_atom, patched_atom)
        {
            pairing.pair(*orig_atom, patched_atom);
        }
    }
}

/// The global names that mean something else than before, with what they mean now.
pub fn moved(
    orig_owners: &Owners<'_>,
    orig: &Object<'_, Orig>,
    patched: &Object<'_, Patched>,
    scopes: &Scopes,
    pairing: &Pairing,
) -> Vec<(Id<Patched, Atom>, String)> {
    let mut moved = Vec::new();
    for (patched_atom, symbol) in entries(patched) {
        let name = patched.symbols[symbol].name;
        let key = (scopes.of_patched_symbol(patched, symbol), names::unpromoted(name));
        let Some(Some((orig_atom, orig_symbol))) = orig_owners.0.get(&key) else {
            continue;
        };
        let is_global = !patched.symbols[symbol].is_local() && !orig.symbols[*orig_symbol].is_local();
        if is_global && pairing.orig_of[patched_atom] != Some(*orig_atom) {
            moved.push((patched_atom, name.to_owned()));
        }
    }
    moved
}
