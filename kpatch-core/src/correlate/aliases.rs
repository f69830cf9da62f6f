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
    ours: &Owners<'_>,
    orig: &Object<'_, Orig>,
    patched: &Object<'_, Patched>,
    scopes: &Scopes,
    pairing: &mut Pairing,
) {
    for (theirs, symbol) in entries(patched) {
        let key = (
            scopes.of_patched_symbol(patched, symbol),
            names::unpromoted(patched.symbols[symbol].name),
        );
        if let Some(Some((own, other))) = ours.0.get(&key)
            && !(orig.atoms[*own].symbol == Some(*other) && patched.atoms[theirs].symbol == Some(symbol))
            && orig.atoms[*own].kind == patched.atoms[theirs].kind
            && pairing.is_free(*own, theirs)
        {
            pairing.pair(*own, theirs);
        }
    }
}

/// The global names that mean something else than before, with what they mean now.
pub fn moved(
    ours: &Owners<'_>,
    orig: &Object<'_, Orig>,
    patched: &Object<'_, Patched>,
    scopes: &Scopes,
    pairing: &Pairing,
) -> Vec<(Id<Patched, Atom>, String)> {
    let mut moved = Vec::new();
    for (theirs, symbol) in entries(patched) {
        let name = patched.symbols[symbol].name;
        let key = (scopes.of_patched_symbol(patched, symbol), names::unpromoted(name));
        let Some(Some((own, before))) = ours.0.get(&key) else {
            continue;
        };
        let is_global = !patched.symbols[symbol].is_local() && !orig.symbols[*before].is_local();
        if is_global && pairing.orig_of[theirs] != Some(*own) {
            moved.push((theirs, name.to_owned()));
        }
    }
    moved
}
