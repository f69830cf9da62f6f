//! Who is whose twin: pairs the named atoms of an original and a patched object.
//!
//! Names come first, without the promotion suffix of ThinLTO, which is a hash of the file's bitcode and so changes
//! with any edit. Binding is not consulted: a static that another file begins to import becomes global.
//!
//! Counters in names (`var.3`, `__UNIQUE_ID_ddebug345`) say nothing: an inserted variable shifts all later ones.
//! Variables that differ only there are paired by how functions that are already paired use them (see [`statics`]).
//!
//! Atoms without a name of their own (strings, anonymous constants, entries of special sections) have no twin; they
//! are compared by content wherever something refers to them.

mod statics;

use std::collections::BTreeMap;

use crate::ids::{Atom, Id, Orig, Patched, Side, Table};
use crate::names;
use crate::read::{AtomKind, Object};

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
    let mut pairing = Pairing {
        patched_of: Table::filled(orig.atoms.len(), None),
        orig_of: Table::filled(patched.atoms.len(), None),
        ambiguous: BTreeMap::new(),
    };
    for kind in [AtomKind::Function, AtomKind::Object] {
        let counted = statics::counted_names(orig, patched, kind);
        by_name(orig, patched, kind, &mut pairing, |name| {
            let base = names::unpromoted(name);
            (!counted.contains(names::stable(base))).then_some(base)
        });
        // An exact name settles what is left of a group of functions; variables wait for their users.
        if kind == AtomKind::Function {
            by_name(orig, patched, kind, &mut pairing, |name| Some(names::unpromoted(name)));
            by_name(orig, patched, kind, &mut pairing, |name| Some(names::stable(name)));
            cold_parts(orig, patched, &mut pairing);
        }
    }
    statics::by_use(orig, patched, &mut pairing);
    pairing
}

/// Pairs the `.cold` parts of functions that are paired: a promoted function's hash stands before that suffix.
fn cold_parts(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, pairing: &mut Pairing) {
    let ours: BTreeMap<&str, Id<Orig, Atom>> = functions(orig).collect();
    let theirs: BTreeMap<&str, Id<Patched, Atom>> = functions(patched).collect();
    for (name, part) in &theirs {
        let twin = names::cold_parent(name).and_then(|parent| {
            let parent_twin = pairing.orig_of[*theirs.get(parent)?]?;
            let twin_name = format!("{}{}", orig.name(parent_twin)?, &name[parent.len()..]);
            ours.get(twin_name.as_str()).copied()
        });
        if let Some(twin) = twin.filter(|twin| pairing.is_free(*twin, *part)) {
            pairing.pair(twin, *part);
        }
    }
}

fn functions<'d, S: Side>(object: &Object<'d, S>) -> impl Iterator<Item = (&'d str, Id<S, Atom>)> {
    let functions = object.atoms.iter().filter(|(_, atom)| atom.kind == AtomKind::Function);
    functions.filter_map(|(id, _)| Some((object.name(id)?, id)))
}

/// The atoms of both sides that have a key in common.
type Candidates = (Vec<Id<Orig, Atom>>, Vec<Id<Patched, Atom>>);

/// Pairs atoms of one kind whose key is the same and unique on both sides.
fn by_name<'a>(
    orig: &'a Object<'_, Orig>,
    patched: &'a Object<'_, Patched>,
    kind: AtomKind,
    pairing: &mut Pairing,
    key: impl Fn(&'a str) -> Option<&'a str>,
) {
    let mut groups: BTreeMap<&str, Candidates> = BTreeMap::new();
    for (id, atom) in orig.atoms.iter() {
        if atom.kind == kind
            && pairing.patched_of[id].is_none()
            && let Some(key) = orig.name(id).and_then(&key)
        {
            groups.entry(key).or_default().0.push(id);
        }
    }
    for (id, atom) in patched.atoms.iter() {
        if atom.kind == kind
            && pairing.orig_of[id].is_none()
            && let Some(key) = patched.name(id).and_then(&key)
        {
            groups.entry(key).or_default().1.push(id);
        }
    }
    for (ours, theirs) in groups.into_values() {
        if let ([one], [other]) = (&ours[..], &theirs[..]) {
            pairing.pair(*one, *other);
        }
    }
}
