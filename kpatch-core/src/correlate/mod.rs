//! Who is whose twin: pairs the named atoms of an original and a patched object.
//!
//! Names come first, without the promotion suffix of ThinLTO, which is a hash of the file's bitcode and so changes
//! with any edit. Binding is not consulted: a static that another file begins to import becomes global.
//!
//! In an object linked from several files a static counts in its own file only (see [`scopes`]).
//!
//! Counters in names (`var.3`, `__UNIQUE_ID_ddebug345`) say nothing: an inserted variable shifts all later ones.
//! Variables that differ only there are paired by how functions that are already paired use them (see [`statics`]).
//!
//! Atoms without a name of their own (strings, anonymous constants, entries of special sections) have no twin; they
//! are compared by content wherever something refers to them.

mod aliases;
mod align;
mod clones;
mod scopes;
mod statics;

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::ids::{Atom, Id, Orig, Patched, Table};
use crate::names;
use crate::read::{AtomKind, Object};

use scopes::{GLOBAL, Scope, Scopes};
use statics::Counted;

/// Twins, in both directions.
#[derive(Debug)]
pub struct Pairing {
    /// For each original atom its twin.
    pub patched_of: Table<Orig, Atom, Option<Id<Patched, Atom>>>,
    /// For each patched atom its twin.
    pub orig_of: Table<Patched, Atom, Option<Id<Orig, Atom>>>,
    /// Patched atoms that may be the twin of several originals, with the originals' names. To use one of these is a
    /// refusal; to leave it alone is not.
    pub ambiguous: BTreeMap<Id<Patched, Atom>, Vec<String>>,
    /// Global names that belong to something else than before, with the patched atom that has each now.
    pub moved: Vec<(Id<Patched, Atom>, String)>,
}

impl Pairing {
    fn pair(&mut self, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) {
        self.patched_of[orig] = Some(patched);
        self.orig_of[patched] = Some(orig);
    }

    fn is_free(&self, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> bool {
        self.patched_of[orig].is_none() && self.orig_of[patched].is_none()
    }
}

/// Pairs the named atoms.
pub fn objects(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>) -> Pairing {
    let scopes = Scopes::of(orig, patched);
    let mut pairing = Pairing {
        patched_of: Table::filled(orig.atoms.len(), None),
        orig_of: Table::filled(patched.atoms.len(), None),
        ambiguous: BTreeMap::new(),
        moved: Vec::new(),
    };
    for kind in [AtomKind::Function, AtomKind::Object] {
        let counted = Counted::of(orig, patched, &scopes, kind);
        // The number of a part moves like those of functions: it is the part of its function, whatever its name.
        let parts = if kind == AtomKind::Function {
            names_of_parts(orig, patched)
        } else {
            HashSet::new()
        };
        let mut names = ByName {
            orig,
            patched,
            scopes: &scopes,
            kind,
            pairing: &mut pairing,
        };
        // The same hash of the same file: nothing in it moved, counters included.
        names.pair(|scope, name| (scopes.many() && names::split_promoted(name).1.is_some()).then_some((scope, name)));
        // Nor can the name of a variable of the file stand for another: C allows it once.
        names.pair(|scope, name| names::is_of_the_file(name).then_some((scope, name)));
        names.pair(|scope, name| {
            let base = names::unpromoted(name);
            (!counted.contains(scope, names::stable(base)) && !parts.contains(name)).then_some((scope, base))
        });
        if scopes.many() {
            names.pair_across_scopes(&counted);
            names.pair_in_order(&counted);
        }
        // Variables that only a counter tells apart wait for their users.
        if kind == AtomKind::Function {
            names.pair_clones(&counted);
            let single = |scope, name| {
                let orphan = names::cold_parent(name).is_some();
                !parts.contains(name) && (orphan || !counted.contains(scope, names::stable(name)))
            };
            names.pair(|scope, name| single(scope, name).then(|| (scope, names::unpromoted(name))));
            names.pair(|scope, name| single(scope, name).then(|| (scope, names::stable(name))));
            names.pair_clones_of_clones(single);
        }
    }
    let owners = aliases::Owners::of(orig, &scopes);
    aliases::pair(&owners, orig, patched, &scopes, &mut pairing);
    parts_of_twins(orig, patched, &mut pairing);
    statics::by_use(orig, patched, &scopes, &mut pairing);
    pairing.moved = aliases::moved(&owners, orig, patched, &scopes, &pairing);
    pairing
}

/// The names of the parts (`.cold`) whose function is there.
fn names_of_parts<'d>(orig: &Object<'d, Orig>, patched: &Object<'d, Patched>) -> HashSet<&'d str> {
    let orig_names = orig.parts().into_iter().filter_map(|(_, part)| orig.name(part));
    let patched_names = patched.parts().into_iter().filter_map(|(_, part)| patched.name(part));
    orig_names.chain(patched_names).collect()
}

/// Pairs the parts of functions that are paired: those of one suffix, else the only ones that are left. What stands before
/// the suffix may have moved (the hash of a promoted function, the number of a clone), and the number behind it, too.
fn parts_of_twins(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, pairing: &mut Pairing) {
    let suffix = |name: Option<&str>| Some(name?.get(names::cold_parent(name?)?.len()..)?.to_owned());
    let mut orig_parts: BTreeMap<Id<Orig, Atom>, Vec<Id<Orig, Atom>>> = BTreeMap::new();
    for (parent, part) in orig.parts() {
        orig_parts.entry(parent).or_default().push(part);
    }
    let mut patched_parts: BTreeMap<Id<Patched, Atom>, Vec<Id<Patched, Atom>>> = BTreeMap::new();
    for (parent, part) in patched.parts() {
        patched_parts.entry(parent).or_default().push(part);
    }
    for (parent, mut patched_own) in patched_parts {
        let twin = pairing.orig_of[parent];
        let Some(mut orig_own) = twin.and_then(|twin| orig_parts.remove(&twin)) else {
            continue;
        };
        orig_own.retain(|part| pairing.patched_of[*part].is_none());
        patched_own.retain(|part| pairing.orig_of[*part].is_none());
        for part in &patched_own {
            let wanted = suffix(patched.name(*part));
            if let Some(at) = orig_own.iter().position(|twin| suffix(orig.name(*twin)) == wanted) {
                pairing.pair(orig_own.remove(at), *part);
            }
        }
        patched_own.retain(|part| pairing.orig_of[*part].is_none());
        if let ([orig_part], [part]) = (&orig_own[..], &patched_own[..]) {
            pairing.pair(*orig_part, *part);
        }
    }
}

/// The atoms of both sides that have a key in common.
#[derive(Default)]
struct Candidates {
    orig: Vec<Id<Orig, Atom>>,
    patched: Vec<Id<Patched, Atom>>,
}

/// Pairs atoms of one kind by their names.
struct ByName<'a, 'd> {
    orig: &'a Object<'d, Orig>,
    patched: &'a Object<'d, Patched>,
    scopes: &'a Scopes,
    kind: AtomKind,
    pairing: &'a mut Pairing,
}

impl<'d> ByName<'_, 'd> {
    /// What is still open, by key, in the order of the original. Keys are looked up and never iterated.
    fn open<K: std::hash::Hash + Eq>(&self, key: impl Fn(Scope, &'d str) -> Option<K>) -> Vec<Candidates> {
        let mut groups: Vec<Candidates> = Vec::new();
        let mut known: HashMap<K, usize> = HashMap::new();
        for (id, atom) in self.orig.atoms.iter() {
            if atom.kind == self.kind
                && self.pairing.patched_of[id].is_none()
                && let Some(name) = self.orig.name(id)
                && let Some(key) = key(self.scopes.of_orig(self.orig, id), name)
            {
                let group = *known.entry(key).or_insert(groups.len());
                if group == groups.len() {
                    groups.push(Candidates::default());
                }
                groups[group].orig.push(id);
            }
        }
        for (id, atom) in self.patched.atoms.iter() {
            if atom.kind == self.kind
                && self.pairing.orig_of[id].is_none()
                && let Some(name) = self.patched.name(id)
                && let Some(key) = key(self.scopes.of_patched(self.patched, id), name)
                && let Some(group) = known.get(&key)
            {
                groups[*group].patched.push(id);
            }
        }
        groups
    }

    /// Pairs atoms whose key is the same and unique on both sides.
    fn pair<K: std::hash::Hash + Eq>(&mut self, key: impl Fn(Scope, &'d str) -> Option<K>) {
        for group in self.open(key) {
            if let ([one], [other]) = (&group.orig[..], &group.patched[..]) {
                self.pairing.pair(*one, *other);
            }
        }
    }

    /// A static of one of several files becomes global when another begins to import it, or the reverse. Two statics
    /// of different files are never the same.
    fn pair_across_scopes(&mut self, counted: &Counted<'d>) {
        let groups = self.open(|scope, name| {
            let base = names::unpromoted(name);
            let stable = names::stable(base);
            let moves = if scope == GLOBAL {
                counted.by_number(scope, stable)
            } else {
                counted.contains(scope, stable)
            };
            (!moves).then_some(base)
        });
        for group in groups {
            if let ([orig], [patched]) = (&group.orig[..], &group.patched[..]) {
                let orig_scope = self.scopes.of_orig(self.orig, *orig);
                if orig_scope == GLOBAL || self.scopes.of_patched(self.patched, *patched) == GLOBAL {
                    self.pairing.pair(*orig, *patched);
                }
            }
        }
    }

    /// What has no file of its own (assembly), or several promoted statics of one name whose files all changed: the
    /// linker keeps the order of its inputs, so if both sides have equally many, the n-th is the n-th.
    fn pair_in_order(&mut self, counted: &Counted<'d>) {
        let groups = self.open(|scope, name| {
            let stable = names::stable(name);
            let file = scope > scopes::NO_FILE;
            let several = counted.contains(scope, stable) && !counted.by_number(scope, stable);
            (!file && several).then_some((scope, names::unpromoted(name)))
        });
        for group in groups {
            if group.orig.len() == group.patched.len() {
                group
                    .orig
                    .iter()
                    .zip(&group.patched)
                    .for_each(|(orig, patched)| self.pairing.pair(*orig, *patched));
            }
        }
    }
}
