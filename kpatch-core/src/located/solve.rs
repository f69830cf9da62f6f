//! Finds the place of each section.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::collections::BTreeMap;

use super::compiled::{Bases, Field, Leads, Object};
use super::not_shipped;
use super::verify;
use crate::arch::RelocKind;
use crate::error::Refusal;

/// Finds the places.
///
/// # Errors
/// A section with code or with named parts that fits in two places.
pub fn bases(object: &Object<'_>) -> Result<Bases, Refusal> {
    let mut bases: Bases = vec![None; object.sections.len()];
    // Code has names that hardly any other place has, and its fields lead to most of the rest. Names of data are worth
    // less: many files have a `__key.0`. What nobody refers to is looked for last.
    let ways: [&Way<'_>; 4] = [
        &|section, bases| by_names(object, section, bases).filter(|_| object.is_code(section)),
        &|section, bases| by_fields(object, section, bases),
        &|section, bases| by_names(object, section, bases),
        &|section, bases| by_rows(object, section, bases),
    ];
    while ways.iter().any(|way| locate(object, &mut bases, way)) {}
    let ambiguous = (0..bases.len()).find_map(|section| {
        let open = bases.get(section) == Some(&None) && object.is_placed(section);
        let places = if open {
            fitting(object, section, &bases)
        } else {
            Vec::new()
        };
        (places.len() > 1).then_some((section, places.len()))
    });
    match ambiguous {
        Some((section, count)) => {
            let why = format!(
                "its section {} fits in {count} places of {}, and nothing tells which one is its own",
                object.section_name(section),
                object.memory.name
            );
            Err(not_shipped(object.subject(section, 0), why))
        }
        None => Ok(bases),
    }
}

/// A way to find the place of a section.
type Way<'a> = dyn Fn(usize, &Bases) -> Option<u64> + 'a;

/// Tries one way on all sections whose place is not known yet, and tells whether that found any.
fn locate(object: &Object<'_>, bases: &mut Bases, way: &Way<'_>) -> bool {
    let mut any = false;
    for section in 0..bases.len() {
        let open = bases.get(section) == Some(&None) && object.is_placed(section);
        if let Some(base) = open.then(|| way(section, bases)).flatten()
            && let Some(place) = bases.get_mut(section)
        {
            *place = Some(base);
            any = true;
        }
    }
    any
}

/// The places that most names of a section agree on.
fn candidates(object: &Object<'_>, section: usize) -> Vec<u64> {
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for named in object.names.iter().filter(|named| named.section == section) {
        for symbol in object.memory.named(&named.name).filter(|symbol| symbol.kind != b'U') {
            *votes.entry(symbol.address.wrapping_sub(named.value)).or_default() += 1;
        }
    }
    votes.retain(|base, _| is_inside(object, section, *base));
    let most = votes.values().copied().max().unwrap_or_default();
    let best = votes.into_iter().filter(|(_, count)| *count == most);
    best.map(|(base, _)| base).collect()
}

/// A section could start there: aligned, and in memory as a whole.
fn is_inside(object: &Object<'_>, section: usize, base: u64) -> bool {
    let Some(row) = object.sections.get(section) else {
        return false;
    };
    base.is_multiple_of(row.sh_addralign.max(1)) && object.memory.region(base, row.size).is_some()
}

/// The candidates at which a section is as it should be, as far as can be told by now.
fn fitting(object: &Object<'_>, section: usize, bases: &Bases) -> Vec<u64> {
    let fits = |base: &u64| verify::section(object, section, *base, bases).is_ok();
    candidates(object, section).into_iter().filter(fits).collect()
}

/// The place by names. If names agree on one only, that is it, and verifying says what is different there.
fn by_names(object: &Object<'_>, section: usize, bases: &Bases) -> Option<u64> {
    match (&candidates(object, section)[..], &fitting(object, section, bases)[..]) {
        ([], _) => None,
        ([one], _) => Some(*one),
        (_, [one]) => Some(*one),
        // None fits, so the first one will tell a difference.
        ([first, ..], []) if object.is_code(section) => Some(*first),
        _ => None,
    }
}

/// The place that most fields of sections in their places lead to. Where they disagree, verifying says so.
fn by_fields(object: &Object<'_>, section: usize, bases: &Bases) -> Option<u64> {
    let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
    for (from, base) in bases.iter().enumerate() {
        let Some(base) = base else { continue };
        for field in object.fields_of(from) {
            if let Leads::Section { section: to, value } = field.leads
                && to == section
                && let Some(address) = object
                    .memory
                    .decode(base.wrapping_add(field.offset), field.kind, field.addend)
            {
                *votes.entry(address.wrapping_sub(value)).or_default() += 1;
            }
        }
    }
    votes.retain(|base, _| is_inside(object, section, *base));
    let most = votes.values().copied().max()?;
    let best: Vec<u64> = votes
        .into_iter()
        .filter(|(_, count)| *count == most)
        .map(|(base, _)| base)
        .collect();
    match best[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// The one place at which all fields of a section lead where they should.
fn by_rows(object: &Object<'_>, section: usize, bases: &Bases) -> Option<u64> {
    let (field, target) = object
        .fields_of(section)
        .iter()
        .find_map(|field| Some((field, known_target(object, field, bases)?)))?;
    // What the rows lead to says whose they are; whether the rest of them is the same is to be seen.
    let mut found = Vec::new();
    for (start, data) in tables(object, object.section_name(section)) {
        for at in field_places(start, data, field, target) {
            let base = at.wrapping_sub(field.offset);
            if is_inside(object, section, base) && verify::fields(object, section, base, bases, &[]).is_ok() {
                found.push(base);
            }
        }
    }
    if found.len() > 1 {
        found.retain(|base| verify::section(object, section, *base, bases).is_ok());
    }
    match found[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// Where the tables of a section's name may be: in the section of that name, between the marks of the linker's script, or
/// in a section where that script puts tables.
fn tables<'a>(object: &'a Object<'_>, name: &str) -> Vec<(u64, &'a [u8])> {
    let regions = object.memory.regions.iter().map(|region| (region, &*region.data));
    let named = |wanted: &[&str]| -> Vec<(u64, &[u8])> {
        let found = regions.clone().filter(|(region, _)| wanted.contains(&&*region.name));
        found.map(|(region, data)| (region.start, data)).collect()
    };
    let own = named(&[name]);
    if !own.is_empty() {
        return own;
    }
    let mark = |end: &str| {
        object
            .memory
            .addresses(&format!("__{end}_{}", name.trim_start_matches('.')))
            .next()
    };
    if let (Some(start), Some(stop)) = (mark("start"), mark("stop"))
        && let Some(data) = object.memory.bytes(start, stop.saturating_sub(start))
    {
        return vec![(start, data)];
    }
    if name.ends_with(".init") || name.starts_with(".init") {
        return named(&[".init.data", ".init.rodata"]);
    }
    named(&[".rodata", ".data", ".init.data", ".data..ro_after_init"])
}

fn known_target(object: &Object<'_>, field: &Field, bases: &Bases) -> Option<u64> {
    match &field.leads {
        Leads::Section { section, value } => Some((*bases.get(*section)?)?.wrapping_add(*value)),
        Leads::Name { name, .. } => {
            let mut all = object.memory.addresses(name);
            let first = all.next()?;
            all.next().is_none().then_some(first)
        }
        _ => None,
    }
}

/// All addresses from `start` on at which a field leads to a target.
fn field_places(start: u64, data: &[u8], field: &Field, target: u64) -> Vec<u64> {
    let goal = target.wrapping_add(field.addend as u64);
    let size = usize::from(field.kind.size());
    let relative = matches!(field.kind, RelocKind::Relative { .. });
    let holds = |(at, bytes): (usize, &[u8])| {
        let address = start.wrapping_add(at as u64);
        let value = if relative { goal.wrapping_sub(address) } else { goal };
        (value.to_le_bytes().get(..size) == Some(bytes)).then_some(address)
    };
    data.windows(size.max(1)).enumerate().filter_map(holds).collect()
}
