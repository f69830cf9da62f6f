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
    let (ahead, behind) = ahead(ours, orig, theirs, patched);
    let (from, to) = (length(ours, orig) - ahead, length(theirs, patched) - behind);
    if from != to {
        return Err(format!("its length was {from} and is {to}"));
    }
    let rest = |bytes, skip: u64| <[u8]>::get(bytes, skip as usize..).unwrap_or_default();
    let (a, b) = (rest(image(ours, orig), ahead), rest(image(theirs, patched), behind));
    if !but_for.contains(&patched) && a != b {
        let free = fields(ours, orig, ahead).chain(fields(theirs, patched, behind));
        let free: BTreeSet<u64> = free.collect();
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

/// Bytes up to the code behind landing pad and hash, where only one side has them: they are for indirect calls, and the
/// pointers of the livepatch are looked at one by one.
fn ahead(
    ours: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    theirs: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> (u64, u64) {
    let both = ours.atoms[orig].kind == AtomKind::Function && theirs.atoms[patched].kind == AtomKind::Function;
    if !both || image(ours, orig) == image(theirs, patched) {
        return (0, 0);
    }
    let (one, other) = (ours.entry(orig), theirs.entry(patched));
    if one.pad == other.pad && one.hash.is_some() == other.hash.is_some() {
        return (0, 0);
    }
    let front = |start: u64, anchor: u64, pad: usize| anchor - start + pad as u64;
    let (from, to) = (&ours.atoms[orig], &theirs.atoms[patched]);
    (
        front(from.start, from.anchor, one.pad),
        front(to.start, to.anchor, other.pad),
    )
}

fn length<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> u64 {
    let row = &object.atoms[atom];
    row.end - row.start
}

/// The bytes; none stand for zeros.
fn image<'d, S: Side>(object: &Object<'d, S>, atom: Id<S, Atom>) -> &'d [u8] {
    object.bytes(atom)
}

/// The places of bytes that a reference fills in, counted from `ahead` bytes behind the start.
fn fields<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>, ahead: u64) -> impl Iterator<Item = u64> {
    let start = object.atoms[atom].start + ahead;
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
            let function = ours.atoms[one.atom].kind == AtomKind::Function && one.delta != 0 && other.delta != 0;
            let pads = match function {
                true => (ours.pad(one.atom) as i64, theirs.pad(other.atom) as i64),
                false => (0, 0),
            };
            twins && one.delta - pads.0 == other.delta - pads.1 || counted_constants(ours, one.atom, theirs, other.atom)
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
