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
use crate::read::{AtomKind, Class, Object, Target};

/// Stable names that several atoms of a kind share in one scope, on either side.
#[derive(Default)]
pub struct Counted<'a> {
    shared: HashSet<(Scope, &'a str)>,
    numbered: HashSet<(Scope, &'a str)>,
}

impl<'a> Counted<'a> {
    /// Collects the counted names of both sides.
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
        let orig_open = uses(orig, function, |atom| pairing.patched_of[atom].is_none());
        let patched_open = uses(patched, twin, |atom| pairing.orig_of[atom].is_none());
        if !orig_open.keys().any(|name| patched_open.contains_key(name)) {
            continue;
        }
        let aligned = align::open_pairs((orig, function), (patched, twin), pairing);
        for (orig_atom, patched_atom) in &aligned {
            votes.add(*orig_atom, *patched_atom);
        }
        for (name, orig_open) in orig_open {
            let Some(patched_open) = patched_open.get(name) else {
                continue;
            };
            let orig_open: Vec<_> = orig_open
                .into_iter()
                .filter(|orig_atom| !aligned.iter().any(|pair| pair.0 == *orig_atom))
                .collect();
            let patched_open = patched_open.iter().copied();
            let patched_open: Vec<_> = patched_open
                .filter(|patched_atom| !aligned.iter().any(|pair| pair.1 == *patched_atom))
                .collect();
            vote(orig, patched, &orig_open, &patched_open, &mut votes);
        }
    }
    settle(orig, patched, pairing, &votes);
    unique(orig, patched, scopes, pairing);
    unvoted(orig, patched, scopes, pairing);
}

fn vote(
    orig: &Object<'_, Orig>,
    patched: &Object<'_, Patched>,
    orig_open: &[Id<Orig, Atom>],
    patched_open: &[Id<Patched, Atom>],
    votes: &mut Votes,
) {
    // To say something once more than needed is harmless; to keep quiet since another message was said is not.
    let once = |name: Option<&str>| name.is_some_and(names::is_said_once);
    let orig_open = orig_open
        .iter()
        .copied()
        .filter(|orig_atom| !once(orig.name(*orig_atom)));
    let patched_open = patched_open
        .iter()
        .copied()
        .filter(|patched_atom| !once(patched.name(*patched_atom)));
    let (orig_open, patched_open): (Vec<_>, Vec<_>) = (orig_open.collect(), patched_open.collect());
    if let ([orig_atom], [patched_atom]) = (&orig_open[..], &patched_open[..]) {
        votes.add(*orig_atom, *patched_atom);
        return;
    }
    for orig_atom in orig_open {
        let alike = |patched_atom: &&Id<Patched, Atom>| looks(orig, orig_atom) == looks(patched, **patched_atom);
        patched_open
            .iter()
            .filter(alike)
            .for_each(|patched_atom| votes.add(orig_atom, *patched_atom));
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
    for (patched_atom, candidates) in &votes.of_patched {
        let mutual = |orig_atom: &Id<Orig, Atom>| votes.of_orig[orig_atom].len() == 1;
        let same_name = |orig_atom: &&Id<Orig, Atom>| {
            orig.name(**orig_atom).map(names::unpromoted) == patched.name(*patched_atom).map(names::unpromoted)
        };
        let sure: Vec<_> = candidates
            .iter()
            .filter(|orig_atom| candidates.len() == 1 && mutual(orig_atom))
            .collect();
        let named: Vec<_> = candidates.iter().filter(same_name).collect();
        let is_piece = by_llvm && patched.name(*patched_atom).is_some_and(names::is_piece);
        let same_pieces =
            || candidates.iter().all(|orig_atom| same_name(&orig_atom)) && pieces_of(orig, patched, *patched_atom);
        if is_piece && !same_pieces() {
            let names = candidates.iter().map(|orig_atom| orig.label(*orig_atom)).collect();
            pairing.ambiguous.insert(*patched_atom, names);
            continue;
        }
        match (&sure[..], &named[..]) {
            ([orig_atom], _) if pairing.is_free(**orig_atom, *patched_atom) => pairing.pair(**orig_atom, *patched_atom),
            _ if patched.name(*patched_atom).is_some_and(names::is_said_once) => {}
            _ => {
                let names = candidates.iter().map(|orig_atom| orig.label(*orig_atom)).collect();
                pairing.ambiguous.insert(*patched_atom, names);
            }
        }
    }
}

/// Members of a group that no paired function refers to (reached through data, or not at all): the exact name
/// counts if both sides have equally many of the group.
fn unvoted(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, scopes: &Scopes, pairing: &mut Pairing) {
    let orig_members = members(orig, |atom| scopes.of_orig(orig, atom));
    let patched_members = members(patched, |atom| scopes.of_patched(patched, atom));
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
        if orig_members.get(&group) == patched_members.get(&group) && pairing.is_free(*twin, id) {
            pairing.pair(*twin, id);
        }
    }
}

/// Of boot data that the preprocessor numbered and nothing refers to, the n-th of a section is the n-th if both sides have
/// equally many: what lists `init_module` for a module's loader gets another number with each check that is compiled before
/// it. Who wants anything else says which one it wants, or nobody can tell.
fn unique(orig: &Object<'_, Orig>, patched: &Object<'_, Patched>, scopes: &Scopes, pairing: &mut Pairing) {
    let open = |id| pairing.patched_of[id].is_none();
    let orig_open = numbered(orig, |atom| scopes.of_orig(orig, atom), open);
    let open = |id| pairing.orig_of[id].is_none() && !pairing.ambiguous.contains_key(&id);
    let patched_open = numbered(patched, |atom| scopes.of_patched(patched, atom), open);
    for (group, orig_open) in orig_open {
        let patched_open = patched_open.get(&group).map_or(&[][..], Vec::as_slice);
        if orig_open.len() == patched_open.len() {
            let twins = orig_open.iter().zip(patched_open);
            twins.for_each(|(orig, patched)| pairing.pair(*orig, *patched));
        }
    }
}

/// Scope, stable name and section.
type Group<'a> = (Scope, &'a str, &'a str);

/// The open members of each group with such numbers, in the order of these.
fn numbered<'a, S: Side>(
    object: &Object<'a, S>,
    scope: impl Fn(Id<S, Atom>) -> Scope,
    open: impl Fn(Id<S, Atom>) -> bool,
) -> BTreeMap<Group<'a>, Vec<Id<S, Atom>>> {
    let atoms = object.atoms.iter();
    let targets = atoms
        .flat_map(|(id, _)| object.relocs(id))
        .filter_map(|reloc| match reloc.target {
            Target::Atom { atom, .. } => Some(atom),
            _ => None,
        });
    let used: HashSet<Id<S, Atom>> = targets.collect();
    let number = |id: &Id<S, Atom>| object.name(*id).and_then(names::unique_number);
    let mut groups: BTreeMap<Group<'_>, Vec<_>> = BTreeMap::new();
    for (id, row) in object.atoms.iter().filter(|(_, atom)| atom.kind == AtomKind::Object) {
        let is_local = || row.symbol.is_some_and(|symbol| object.symbols[symbol].is_local());
        if let Some(name) = object.name(id)
            && number(&id).is_some()
            && open(id)
            && object.class(id) == Class::Init
            && is_local()
            && !used.contains(&id)
        {
            let group = (scope(id), names::stable(name), object.sections[row.section].name);
            groups.entry(group).or_default().push(id);
        }
    }
    groups.values_mut().for_each(|group| group.sort_by_key(number));
    groups
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
