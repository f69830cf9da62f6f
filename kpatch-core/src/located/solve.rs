//! Finds the place of each section.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::collections::BTreeMap;

use super::memory::Region;
use super::not_shipped;
use super::object::{Field, Leads, Object};
use super::verify;
use crate::arch::RelocKind;
use crate::error::Refusal;

/// Where each section starts; `None` if nothing tells.
pub type Bases = Vec<Option<u64>>;

/// Finds the places.
///
/// # Errors
/// A section with code or with named parts that fits in two places.
pub fn bases(object: &Object<'_>) -> Result<Bases, Refusal> {
    let mut bases: Bases = vec![None; object.sections.len()];
    loop {
        let before = bases.iter().flatten().count();
        for section in 0..bases.len() {
            if bases.get(section) == Some(&None) && object.is_placed(section) {
                let found = by_names(object, section, &bases).or_else(|| by_fields(object, section, &bases));
                if let (Some(base), Some(place)) = (found, bases.get_mut(section)) {
                    *place = Some(base);
                }
            }
        }
        if bases.iter().flatten().count() > before {
            continue;
        }
        // What nobody refers to is looked for last, when most of what its own fields lead to is known.
        let found = (0..bases.len())
            .filter(|section| bases.get(*section) == Some(&None) && object.is_placed(*section))
            .find_map(|section| Some((section, by_rows(object, section, &bases)?)));
        match found {
            Some((section, base)) => {
                if let Some(place) = bases.get_mut(section) {
                    *place = Some(base);
                }
            }
            None => break,
        }
    }
    let ambiguous = (0..bases.len()).find_map(|section| {
        let open = bases.get(section) == Some(&None) && object.is_placed(section);
        let places = if open { fitting(object, section, &bases) } else { Vec::new() };
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
                && let Some(address) = object.memory.decode(base.wrapping_add(field.offset), field.kind, field.addend)
            {
                *votes.entry(address.wrapping_sub(value)).or_default() += 1;
            }
        }
    }
    votes.retain(|base, _| is_inside(object, section, *base));
    let most = votes.values().copied().max()?;
    let best: Vec<u64> = votes.into_iter().filter(|(_, count)| *count == most).map(|(base, _)| base).collect();
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
    let own = object.section_name(section);
    let regions = &object.memory.regions;
    let same: Vec<&Region<'_>> = regions.iter().filter(|region| region.name == own).collect();
    // The linker's script may have put it with others.
    let others = || regions.iter().filter(|region| may_have_tables(&region.name)).collect();
    let mut found = Vec::new();
    for region in if same.is_empty() { others() } else { same } {
        for at in field_places(region, field, target) {
            let base = at.wrapping_sub(field.offset);
            if is_inside(object, section, base) && verify::section(object, section, base, bases).is_ok() {
                found.push(base);
            }
        }
    }
    match found[..] {
        [one] => Some(one),
        _ => None,
    }
}

/// Sections of an image that hold the tables of its files.
fn may_have_tables(name: &str) -> bool {
    [".rodata", ".data", ".init.data", ".data..ro_after_init", ".init.rodata"].contains(&name)
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

/// All addresses in a region at which a field leads to a target.
fn field_places(region: &Region<'_>, field: &Field, target: u64) -> Vec<u64> {
    let goal = target.wrapping_add(field.addend as u64);
    let size = usize::from(field.kind.size());
    let relative = matches!(field.kind, RelocKind::Relative { .. });
    let holds = |(at, bytes): (usize, &[u8])| {
        let address = region.start.wrapping_add(at as u64);
        let value = if relative { goal.wrapping_sub(address) } else { goal };
        (value.to_le_bytes().get(..size) == Some(bytes)).then_some(address)
    };
    region.data.windows(size.max(1)).enumerate().filter_map(holds).collect()
}
