//! Whether two pieces that were called the same look the same: bytes, and names of what they refer to.

use std::collections::BTreeSet;

use crate::compare::UnitVerdicts;
use crate::group::{Group, Meaning, Place, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Object};

type Twins = (Id<Orig, Atom>, Id<Patched, Atom>);

/// In which way they differ, as the end of a sentence. Those in `but_for` may have other bytes, which were looked at.
pub fn check(
    group: &Group<'_>,
    unit: UnitId,
    (orig, patched): Twins,
    but_for: &BTreeSet<Id<Patched, Atom>>,
) -> Result<(), String> {
    let (ours, theirs) = (&group.units[unit].orig, &group.units[unit].patched);
    let (from, to) = (length(ours, orig), length(theirs, patched));
    if from != to {
        return Err(format!("its length was {from} and is {to}"));
    }
    if !but_for.contains(&patched) && image(ours, orig) != image(theirs, patched) {
        let free: BTreeSet<u64> = fields(ours, orig).chain(fields(theirs, patched)).collect();
        let (a, b) = (image(ours, orig), image(theirs, patched));
        let byte = |bytes: &[u8], at: u64| bytes.get(at as usize).copied().unwrap_or(0);
        if let Some(at) = (0..from).find(|at| byte(a, *at) != byte(b, *at) && !free.contains(at)) {
            return Err(format!("its byte {at:#x} is another"));
        }
    }
    let (own, other) = (ours.relocs(orig), theirs.relocs(patched));
    if own.len() != other.len() {
        return Err(format!("it had {} references and has {}", own.len(), other.len()));
    }
    let differ = own.iter().zip(other).find(|(one, other)| {
        let meanings = (
            group.orig_meaning(unit, &one.target),
            group.patched_meaning(unit, &other.target),
        );
        !same_meaning(group, meanings)
    });
    match differ {
        Some((_, reloc)) => Err(format!("its reference at {:#x} is another", reloc.offset)),
        None => Ok(()),
    }
}

/// Whether as many rows of each table belong to both.
pub fn rows(group: &Group<'_>, unit: UnitId, (orig, patched): Twins, verdicts: &UnitVerdicts) -> Result<(), String> {
    let (ours, theirs) = (&group.units[unit].orig, &group.units[unit].patched);
    let count = |rows: Option<&Vec<_>>| rows.map_or(0, Vec::len);
    let (from, to) = (
        count(verdicts.orig_entries.get(&orig)),
        verdicts.entries.get(&patched).map_or(0, Vec::len),
    );
    if from != to {
        return Err(format!("it had {from} rows of tables and has {to}"));
    }
    let pairs = verdicts.orig_entries.get(&orig).into_iter().flatten();
    for (one, other) in pairs.zip(verdicts.entries.get(&patched).into_iter().flatten()) {
        let name = |section: &str| section.to_owned();
        let section = name(theirs.sections[theirs.atoms[*other].section].name);
        if name(ours.sections[ours.atoms[*one].section].name) != section {
            return Err(format!("a row of {section} belongs to it that did not"));
        }
        check(group, unit, (*one, *other), &verdicts.only_lines)
            .map_err(|why| format!("of its row in {section}, {why}"))?;
    }
    Ok(())
}

fn length<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> u64 {
    let row = &object.atoms[atom];
    row.end - row.start
}

/// The bytes; none stand for zeros.
fn image<'d, S: Side>(object: &Object<'d, S>, atom: Id<S, Atom>) -> &'d [u8] {
    object.bytes(atom)
}

/// The places of bytes that a reference fills in.
fn fields<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> impl Iterator<Item = u64> {
    let start = object.atoms[atom].start;
    let relocs = object.relocs(atom).iter();
    relocs.flat_map(move |reloc| {
        let from = reloc.offset.wrapping_sub(start);
        from..from.saturating_add(reloc.kind.size().into())
    })
}

fn same_meaning(group: &Group<'_>, meanings: (Meaning<'_, Orig>, Meaning<'_, Patched>)) -> bool {
    match meanings {
        (Meaning::Absolute(one), Meaning::Absolute(other)) => one == other,
        (Meaning::Elsewhere { name: one, delta: a }, Meaning::Elsewhere { name: other, delta: b }) => {
            one == other && a == b
        }
        (Meaning::Here(one), Meaning::Here(other)) => same_place(group, one, other),
        _ => false,
    }
}

/// What has a name is the same by its twin; what has none was followed where it was compared.
fn same_place(group: &Group<'_>, one: Place<Orig>, other: Place<Patched>) -> bool {
    let (ours, theirs) = (&group.units[one.unit].orig, &group.units[other.unit].patched);
    let named = |kind| matches!(kind, AtomKind::Function | AtomKind::Object);
    match (named(ours.atoms[one.atom].kind), named(theirs.atoms[other.atom].kind)) {
        (true, true) => {
            let pairing = &group.units[one.unit].pairing;
            let twins = one.unit == other.unit && pairing.patched_of[one.atom] == Some(other.atom);
            twins && one.delta == other.delta || counted_constants(ours, one.atom, theirs, other.atom)
        }
        (false, false) => true,
        _ => false,
    }
}

/// Constants that only a counter tells apart need not be twins.
fn counted_constants(
    ours: &Object<'_, Orig>,
    one: Id<Orig, Atom>,
    theirs: &Object<'_, Patched>,
    other: Id<Patched, Atom>,
) -> bool {
    let constant = ours.class(one).is_constant() && theirs.class(other).is_constant();
    constant && ours.name(one).map(names::stable) == theirs.name(other).map(names::stable)
}
