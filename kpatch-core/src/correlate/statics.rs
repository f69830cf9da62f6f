//! Static locals and other variables that differ only in a counter: paired by use.
//!
//! `f.buf`, `f.buf.1`, `f.buf.2` are three variables called `buf` in one function. Insert a fourth before them and
//! every number moves, so that equal names mean different variables. What stays is the order in which functions
//! that are paired already refer to them, and what stands beside each reference (see [`align`]). Of what that leaves
//! open only the last one of a group is paired, or what looks alike (size, section, initial bytes) and does so
//! unmistakably. What remains open is listed as ambiguous, and using it is refused.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::scopes::{Scope, Scopes};
use super::{Pairing, align};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Object, Target};

/// Stable names that several atoms of a kind share in one scope, on either side.
#[derive(Default)]
pub struct Counted<'a> {
    shared: HashSet<(Scope, &'a str)>,
    numbered: HashSet<(Scope, &'a str)>,
}

impl<'a> Counted<'a> {
    /// Looks for them.
    pub fn of(orig: &Object<'a, Orig>, patched: &Object<'a, Patched>, scopes: &Scopes, kind: AtomKind) -> Self {
        let mut counted = Counted::default();
        counted.add(orig, kind, |atom| scopes.of_orig(orig, atom));
        counted.add(patched, kind, |atom| scopes.of_patched(patched, atom));
        counted
    }

    fn add<S: Side>(&mut self, object: &Object<'a, S>, kind: AtomKind, scope: impl Fn(Id<S, Atom>) -> Scope) {
        let mut seen = HashSet::new();
        for (id, _) in object.atoms.iter().filter(|(_, atom)| atom.kind == kind) {
            let Some(name) = object.name(id) else { continue };
            let key = (scope(id), names::stable(name));
            if !seen.insert(key) {
                self.shared.insert(key);
            }
            if names::unpromoted(name) != key.1 {
                self.numbered.insert(key);
            }
        }
    }

    /// Whether several atoms have this stable name.
    pub fn contains(&self, scope: Scope, stable: &str) -> bool {
        self.shared.contains(&(scope, stable))
    }

    /// Whether several have it and a counter tells them apart; else the hashes of different files do.
    pub fn by_number(&self, scope: Scope, stable: &str) -> bool {
        self.contains(scope, stable) && self.numbered.contains(&(scope, stable))
    }
}

/// The open members of each group that a function refers to, in order of first use.
fn uses<'a, S: Side>(
    object: &Object<'a, S>,
    function: Id<S, Atom>,
    open: impl Fn(Id<S, Atom>) -> bool,
) -> BTreeMap<&'a str, Vec<Id<S, Atom>>> {
    let mut found: BTreeMap<&str, Vec<Id<S, Atom>>> = BTreeMap::new();
    for reloc in object.relocs(function) {
        let Target::Atom { atom, .. } = reloc.target else {
            continue;
        };
        if object.atoms[atom].kind != AtomKind::Object || !open(atom) {
            continue;
        }
        let Some(name) = object.name(atom) else { continue };
        let group = found.entry(names::stable(name)).or_default();
        if !group.contains(&atom) {
            group.push(atom);
        }
    }
    found
}

/// What a variable looks like from outside.
fn looks<'d, S: Side>(object: &Object<'d, S>, atom: Id<S, Atom>) -> (u64, &'d str, &'d [u8]) {
    let row = &object.atoms[atom];
    (
        row.end - row.start,
        names_of_section(object.sections[row.section].name),
        object.bytes(atom),
    )
}

/// `.bss.f.buf.1` and `.bss.f.buf.2` are the same kind of place.
fn names_of_section(name: &str) -> &str {
    let start = usize::from(name.starts_with('.'));
    name[start..].find('.').map_or(name, |dot| &name[..start + dot])
}

/// Votes: for each original, the patched atoms that functions' references pair it with, and the reverse.
#[derive(Default)]
struct Votes {
    of_orig: BTreeMap<Id<Orig, Atom>, BTreeSet<Id<Patched, Atom>>>,
    of_patched: BTreeMap<Id<Patched, Atom>, BTreeSet<Id<Orig, Atom>>>,
}

impl Votes {
    fn add(&mut self, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) {
        self.of_orig.entry(orig).or_default().insert(patched);
        self.of_patched.entry(patched).or_default().insert(orig);
    }
}

/// Pairs what is still open by the references of paired functions.
pub fn by_use(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, scopes: &Scopes, pairing: &mut Pairing) {
    let mut votes = Votes::default();
    for (function, twin) in pairing.patched_of.iter() {
        let Some(twin) = twin.filter(|_| orig.atoms[function].kind == AtomKind::Function) else {
            continue;
        };
        let ours = uses(orig, function, |atom| pairing.patched_of[atom].is_none());
        let theirs = uses(patched, twin, |atom| pairing.orig_of[atom].is_none());
        if !ours.keys().any(|name| theirs.contains_key(name)) {
            continue;
        }
        let aligned = align::open_pairs((orig, function), (patched, twin), pairing);
        for (one, other) in &aligned {
            votes.add(*one, *other);
        }
        for (name, ours) in ours {
            let Some(theirs) = theirs.get(name) else { continue };
            let ours: Vec<_> = ours
                .into_iter()
                .filter(|one| !aligned.iter().any(|pair| pair.0 == *one))
                .collect();
            let theirs = theirs.iter().copied();
            let theirs: Vec<_> = theirs
                .filter(|other| !aligned.iter().any(|pair| pair.1 == *other))
                .collect();
            vote(orig, patched, &ours, &theirs, &mut votes);
        }
    }
    settle(orig, patched, pairing, &votes);
    unvoted(orig, patched, scopes, pairing);
}

fn vote(
    orig: &Object<'_, Orig>,
    patched: &Object<'_, Patched>,
    ours: &[Id<Orig, Atom>],
    theirs: &[Id<Patched, Atom>],
    votes: &mut Votes,
) {
    // To say something once more than needed is harmless; to keep quiet since another message was said is not.
    let once = |name: Option<&str>| name.is_some_and(names::is_said_once);
    let ours = ours.iter().copied().filter(|one| !once(orig.name(*one)));
    let theirs = theirs.iter().copied().filter(|other| !once(patched.name(*other)));
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.collect(), theirs.collect());
    if let ([one], [other]) = (&ours[..], &theirs[..]) {
        votes.add(*one, *other);
        return;
    }
    for one in ours {
        let alike = |other: &&Id<Patched, Atom>| looks(orig, one) == looks(patched, **other);
        theirs.iter().filter(alike).for_each(|other| votes.add(one, *other));
    }
}

/// Whether both sides have the same pieces of the structure that this one belongs to.
fn pieces_of(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, piece: Id<Patched, Atom>) -> bool {
    let Some(stem) = patched.name(piece).map(names::stable) else {
        return false;
    };
    pieces(orig, stem) == pieces(patched, stem)
}

fn pieces<'d, S: Side>(object: &Object<'d, S>, stem: &str) -> BTreeMap<&'d str, u64> {
    let named = object
        .atoms
        .iter()
        .filter_map(|(id, row)| Some((object.name(id)?, row)));
    named
        .filter(|(name, row)| row.kind == AtomKind::Object && names::stable(name) == stem)
        .map(|(name, row)| (names::unpromoted(name), row.end - row.start))
        .collect()
}

fn settle(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, pairing: &mut Pairing, votes: &Votes) {
    // LLVM numbers the pieces of a structure that it takes apart (GlobalOpt) by their place in it: another number is
    // another member, and if there are others, the numbers are not the same members.
    let by_llvm = patched.is_by_llvm();
    for (theirs, candidates) in &votes.of_patched {
        let mutual = |ours: &Id<Orig, Atom>| votes.of_orig[ours].len() == 1;
        let same_name = |ours: &&Id<Orig, Atom>| {
            orig.name(**ours).map(names::unpromoted) == patched.name(*theirs).map(names::unpromoted)
        };
        let sure: Vec<_> = candidates
            .iter()
            .filter(|ours| candidates.len() == 1 && mutual(ours))
            .collect();
        let named: Vec<_> = candidates.iter().filter(same_name).collect();
        let is_piece = by_llvm && patched.name(*theirs).is_some_and(names::is_piece);
        let same_pieces = || candidates.iter().all(|ours| same_name(&ours)) && pieces_of(orig, patched, *theirs);
        if is_piece && !same_pieces() {
            let names = candidates.iter().map(|ours| orig.label(*ours)).collect();
            pairing.ambiguous.insert(*theirs, names);
            continue;
        }
        match (&sure[..], &named[..]) {
            ([ours], _) if pairing.is_free(**ours, *theirs) => pairing.pair(**ours, *theirs),
            _ if patched.name(*theirs).is_some_and(names::is_said_once) => {}
            _ => {
                let names = candidates.iter().map(|ours| orig.label(*ours)).collect();
                pairing.ambiguous.insert(*theirs, names);
            }
        }
    }
}

/// Members of a group that no paired function refers to (reached through data, or not at all): the exact name
/// counts if both sides have equally many of the group.
fn unvoted(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, scopes: &Scopes, pairing: &mut Pairing) {
    let ours = members(orig, |atom| scopes.of_orig(orig, atom));
    let theirs = members(patched, |atom| scopes.of_patched(patched, atom));
    let mut by_name: HashMap<(Scope, &str), Vec<Id<Orig, Atom>>> = HashMap::new();
    for (id, atom) in orig.atoms.iter() {
        if atom.kind == AtomKind::Object
            && pairing.patched_of[id].is_none()
            && let Some(name) = orig.name(id)
        {
            let key = (scopes.of_orig(orig, id), names::unpromoted(name));
            by_name.entry(key).or_default().push(id);
        }
    }
    for (id, atom) in patched.atoms.iter() {
        let open = atom.kind == AtomKind::Object && pairing.orig_of[id].is_none();
        let Some(name) = patched
            .name(id)
            .filter(|_| open && !pairing.ambiguous.contains_key(&id))
            .filter(|name| !names::is_said_once(name))
        else {
            continue;
        };
        let scope = scopes.of_patched(patched, id);
        let Some([twin]) = by_name.get(&(scope, names::unpromoted(name))).map(Vec::as_slice) else {
            continue;
        };
        let group = (scope, names::stable(name));
        if ours.get(&group) == theirs.get(&group) && pairing.is_free(*twin, id) {
            pairing.pair(*twin, id);
        }
    }
}

/// How many members each group has.
fn members<'a, S: Side>(
    object: &Object<'a, S>,
    scope: impl Fn(Id<S, Atom>) -> Scope,
) -> HashMap<(Scope, &'a str), usize> {
    let mut counts = HashMap::new();
    for (id, _) in object.atoms.iter().filter(|(_, atom)| atom.kind == AtomKind::Object) {
        if let Some(name) = object.name(id) {
            *counts.entry((scope(id), names::stable(name))).or_insert(0) += 1;
        }
    }
    counts
}
