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
    let (orig_object, patched_object) = (&group.units[unit].orig, &group.units[unit].patched);
    let (before, after) = ahead(orig_object, orig, patched_object, patched);
    let orig_length = length(orig_object, orig) - before;
    let patched_length = length(patched_object, patched) - after;
    if orig_length != patched_length {
        return Err(format!("its length was {orig_length} and is {patched_length}"));
    }
    let rest = |bytes, skip: u64| <[u8]>::get(bytes, skip as usize..).unwrap_or_default();
    let orig_image = rest(image(orig_object, orig), before);
    let patched_image = rest(image(patched_object, patched), after);
    if !but_for.contains(&patched) && orig_image != patched_image {
        let free: BTreeSet<u64> = fields(orig_object, orig, before)
            .chain(fields(patched_object, patched, after))
            .collect();
        let byte = |bytes: &[u8], at: u64| bytes.get(at as usize).copied().unwrap_or(0);
        if let Some(at) =
            (0..orig_length).find(|at| byte(orig_image, *at) != byte(patched_image, *at) && !free.contains(at))
        {
            return Err(format!("its byte {at:#x} is another"));
        }
    }
    let (orig_relocs, patched_relocs) = (orig_object.relocs(orig), patched_object.relocs(patched));
    if orig_relocs.len() != patched_relocs.len() {
        return Err(format!(
            "it had {} references and has {}",
            orig_relocs.len(),
            patched_relocs.len()
        ));
    }
    let differ = orig_relocs
        .iter()
        .zip(patched_relocs)
        .find(|(orig_reloc, patched_reloc)| {
            let meanings = (
                group.orig_meaning(unit, &orig_reloc.target),
                group.patched_meaning(unit, &patched_reloc.target),
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
    let (orig_object, patched_object) = (&group.units[unit].orig, &group.units[unit].patched);
    let count = |rows: Option<&Vec<_>>| rows.map_or(0, Vec::len);
    let (orig_count, patched_count) = (
        count(verdicts.orig_entries.get(&orig)),
        verdicts.entries.get(&patched).map_or(0, Vec::len),
    );
    if orig_count != patched_count {
        return Err(format!("it had {orig_count} rows of tables and has {patched_count}"));
    }
    let pairs = verdicts.orig_entries.get(&orig).into_iter().flatten();
    for (orig_row, patched_row) in pairs.zip(verdicts.entries.get(&patched).into_iter().flatten()) {
        let name = |section: &str| section.to_owned();
        let section = name(patched_object.sections[patched_object.atoms[*patched_row].section].name);
        if name(orig_object.sections[orig_object.atoms[*orig_row].section].name) != section {
            return Err(format!("a row of {section} belongs to it that did not"));
        }
        check(group, unit, (*orig_row, *patched_row), &verdicts.only_lines)
            .map_err(|why| format!("of its row in {section}, {why}"))?;
    }
    Ok(())
}

/// Bytes up to the code behind landing pad and hash, where only one side has them: they are for indirect calls, and the
/// pointers of the livepatch are looked at one by one.
fn ahead(
    orig_object: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    patched_object: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> (u64, u64) {
    let both =
        orig_object.atoms[orig].kind == AtomKind::Function && patched_object.atoms[patched].kind == AtomKind::Function;
    if !both || image(orig_object, orig) == image(patched_object, patched) {
        return (0, 0);
    }
    let (one, other) = (orig_object.entry(orig), patched_object.entry(patched));
    if one.pad == other.pad && one.hash.is_some() == other.hash.is_some() {
        return (0, 0);
    }
    let front = |start: u64, anchor: u64, pad: usize| anchor - start + pad as u64;
    let (from, to) = (&orig_object.atoms[orig], &patched_object.atoms[patched]);
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
        (Meaning::Absolute(orig), Meaning::Absolute(patched)) => orig == patched,
        (
            Meaning::Elsewhere {
                name: orig,
                delta: orig_delta,
            },
            Meaning::Elsewhere {
                name: patched,
                delta: patched_delta,
            },
        ) => orig == patched && orig_delta == patched_delta,
        (Meaning::Here(orig), Meaning::Here(patched)) => same_place(group, orig, patched),
        _ => false,
    }
}

/// What has a name is the same by its twin; what has none was followed where it was compared.
fn same_place(group: &Group<'_>, orig: Place<Orig>, patched: Place<Patched>) -> bool {
    let (orig_object, patched_object) = (&group.units[orig.unit].orig, &group.units[patched.unit].patched);
    let named = |kind| matches!(kind, AtomKind::Function | AtomKind::Object);
    match (
        named(orig_object.atoms[orig.atom].kind),
        named(patched_object.atoms[patched.atom].kind),
    ) {
        (true, true) => {
            let pairing = &group.units[orig.unit].pairing;
            let twins = orig.unit == patched.unit && pairing.patched_of[orig.atom] == Some(patched.atom);
            // What lies behind the entry of a function has moved if one side has a landing pad there.
            let inside = orig_object.atoms[orig.atom].kind == AtomKind::Function && orig.delta != 0;
            let pads = match inside && patched.delta != 0 {
                true => (
                    orig_object.pad(orig.atom) as i64,
                    patched_object.pad(patched.atom) as i64,
                ),
                false => (0, 0),
            };
            twins && orig.delta - pads.0 == patched.delta - pads.1
                || counted_constants(orig_object, orig.atom, patched_object, patched.atom)
        }
        (false, false) => true,
        _ => false,
    }
}

/// Constants that only a counter tells apart need not be twins.
fn counted_constants(
    orig_object: &Object<'_, Orig>,
    orig: Id<Orig, Atom>,
    patched_object: &Object<'_, Patched>,
    patched: Id<Patched, Atom>,
) -> bool {
    let constant = orig_object.class(orig).is_constant() && patched_object.class(patched).is_constant();
    constant && orig_object.name(orig).map(names::stable) == patched_object.name(patched).map(names::stable)
}
