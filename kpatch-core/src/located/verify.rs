//! Compares sections with what lies in their places.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::collections::BTreeSet;

use super::compiled::{Bases, Class, Field, Leads, Object};
use super::{BRANCH, Explained, Located, OVERRIDDEN, Part, not_shipped};
use crate::error::Refusal;

/// A difference: where in the section, and what it is.
type Difference = (u64, String);

/// Verifies everything that has a place, and counts it.
///
/// # Errors
/// All sections that are not as the kernel has them.
pub fn all(object: &Object<'_>, bases: &Bases) -> Result<Located, Vec<Refusal>> {
    let (mut located, mut refusals) = (Located::default(), Vec::new());
    let mut branches: BTreeSet<(usize, u64)> = BTreeSet::new();
    for (index, row) in object.sections.iter().enumerate() {
        let refused = |(offset, why): Difference| not_shipped(object.subject(index, offset), why);
        let base = bases.get(index).copied().flatten();
        match (object.classes.get(index), base) {
            (Some(Class::Placed), Some(base)) => match section(object, index, base, bases) {
                Ok(sites) => {
                    branches.extend(sites.into_iter().map(|site| (index, site)));
                    located.data += if object.is_code(index) { 0 } else { row.size };
                    refusals.extend(strangers(object, index, base).map(refused));
                }
                Err(difference) => refusals.push(refused(difference)),
            },
            (Some(Class::Placed), None) => {
                // Weak functions that others override may be all that a section of code has.
                let live = |named: &&super::compiled::Named| named.section == index && named.function && !named.weak;
                match object.names.iter().find(live) {
                    Some(named) => {
                        let why = format!("{} has no such function", object.memory.name);
                        refusals.push(refused((named.value, why)));
                    }
                    None if object.fields_of(index).is_empty() || object.is_code(index) => {
                        located.unlocated.push(row.name.clone());
                    }
                    None => {
                        let why = format!("{} has no such rows", object.memory.name);
                        refusals.push(refused((0, why)));
                    }
                }
            }
            (Some(Class::Sorted(entry)), _) => match sorted(object, index, *entry, bases) {
                Ok(()) => located.data += row.size,
                Err(difference) => refusals.push(refused(difference)),
            },
            _ => {}
        }
    }
    parts(object, bases, &branches, &mut located, &mut refusals);
    if refusals.is_empty() {
        Ok(located)
    } else {
        Err(refusals)
    }
}

/// Compares one section with what lies at `base`: the bytes outside fields, then where each field leads, as far as that
/// is known. Gives the sites of static branches that the link has turned into NOPs.
///
/// # Errors
/// The first difference.
pub fn section(object: &Object<'_>, index: usize, base: u64, bases: &Bases) -> Result<Vec<u64>, Difference> {
    let Some(row) = object.sections.get(index) else {
        return Ok(Vec::new());
    };
    if row.data.is_empty() {
        return Ok(Vec::new());
    }
    let theirs = object.memory.bytes(base, row.data.len() as u64);
    let theirs = theirs.ok_or_else(|| (0, format!("{} has no contents there", object.memory.name)))?;
    let sites = bytes(object, index, &row.data, theirs, object.fields_of(index))?;
    fields(object, index, base, bases, &sites)?;
    Ok(sites)
}

/// Compares where each field of a section leads, as far as that is known. A field in the jump of a branch at one of
/// `sites` is gone.
///
/// # Errors
/// The first difference.
pub fn fields(object: &Object<'_>, index: usize, base: u64, bases: &Bases, sites: &[u64]) -> Result<(), Difference> {
    for field in object.fields_of(index) {
        let within = |site: &u64| (*site..*site + 5).contains(&field.offset);
        if !sites.iter().any(within) {
            check(object, field, base.wrapping_add(field.offset), bases).map_err(|why| (field.offset, why))?;
        }
    }
    Ok(())
}

fn bytes(
    object: &Object<'_>,
    index: usize,
    ours: &[u8],
    theirs: &[u8],
    fields: &[Field],
) -> Result<Vec<u64>, Difference> {
    let mut masked = vec![false; ours.len()];
    for field in fields {
        let from = field.offset as usize;
        let to = from + usize::from(field.kind.size());
        masked
            .get_mut(from..to)
            .into_iter()
            .flatten()
            .for_each(|byte| *byte = true);
    }
    let mut sites = Vec::new();
    for site in object.branches.get(&index).into_iter().flatten() {
        let from = *site as usize;
        let (Some(our), Some(their)) = (ours.get(from..), theirs.get(from..)) else {
            continue;
        };
        if let Some(nop) = object.memory.arch.branch_as_nop(our)
            && their.starts_with(nop)
        {
            masked
                .get_mut(from..from + nop.len())
                .into_iter()
                .flatten()
                .for_each(|byte| *byte = true);
            sites.push(*site);
        }
    }
    let pairs = ours.iter().zip(theirs).zip(&masked).enumerate();
    for (offset, ((our, their), masked)) in pairs {
        if our != their && !masked {
            let why = format!(
                "byte {our:#04x} of the compiled file is {their:#04x} in {}",
                object.memory.name
            );
            return Err((offset as u64, why));
        }
    }
    Ok(sites)
}

/// Whether a field of the kernel leads where it should.
fn check(object: &Object<'_>, field: &Field, at: u64, bases: &Bases) -> Result<(), String> {
    let memory = object.memory;
    let found = memory
        .decode(at, field.kind, field.addend)
        .ok_or("the field cannot be read")?;
    let shown = |address: u64| {
        let names: Vec<&str> = memory
            .symbols_in(address..address.saturating_add(1))
            .map(|symbol| &*symbol.name)
            .collect();
        if names.is_empty() {
            format!("{address:#x}")
        } else {
            names.join("/")
        }
    };
    match &field.leads {
        Leads::Section { section, value } => match bases.get(*section).copied().flatten() {
            Some(base) if base.wrapping_add(*value) != found => Err(format!(
                "it leads to {} and should lead to {}+{value:#x}",
                shown(found),
                object.section_name(*section)
            )),
            _ => Ok(()),
        },
        Leads::Merged { section, value, addend } => {
            let ours = object
                .merged(*section, *value)
                .ok_or("it leads behind the strings of the file")?;
            let theirs = memory.bytes(found.wrapping_add(*addend as u64), ours.len() as u64);
            if theirs == Some(ours) {
                return Ok(());
            }
            let text = String::from_utf8_lossy(ours)
                .trim_end_matches('\0')
                .escape_default()
                .to_string();
            Err(format!("it should lead to \"{text}\", and something else is there"))
        }
        Leads::Name { name, optional } => {
            if memory.addresses(name).any(|address| address == found) || *optional && found == 0 {
                return Ok(());
            }
            Err(match memory.addresses(name).next() {
                Some(_) => format!("it leads to {} and should lead to {name}", shown(found)),
                None => format!("it should lead to {name}, which {} does not have", memory.name),
            })
        }
        Leads::Number(number) if *number != found => Err(format!("it is {found:#x} and should be {number:#x}")),
        Leads::Number(_) | Leads::Dropped => Ok(()),
    }
}

/// Looks for each row of a table that the link sorts.
fn sorted(object: &Object<'_>, index: usize, entry: u64, bases: &Bases) -> Result<(), Difference> {
    let Some(row) = object.sections.get(index) else {
        return Ok(());
    };
    let regions: Vec<_> = object
        .memory
        .regions
        .iter()
        .filter(|region| region.name == row.name)
        .collect();
    let size = entry.max(1) as usize;
    for (number, ours) in row.data.chunks(size).enumerate() {
        let start = number as u64 * entry;
        let fields: Vec<Field> = object
            .fields_of(index)
            .iter()
            .filter(|field| (start..start + entry).contains(&field.offset))
            .map(|field| Field {
                offset: field.offset - start,
                ..field.clone()
            })
            .collect();
        let is_there = regions.iter().any(|region| {
            region.data.chunks(size).enumerate().any(|(place, theirs)| {
                let base = region.start + place as u64 * entry;
                // The first field says which instruction the row is about, and rules most rows out.
                let fits = |field: &Field| check(object, field, base.wrapping_add(field.offset), bases).is_ok();
                fields.iter().all(fits) && bytes(object, index, ours, theirs, &fields).is_ok()
            })
        });
        if !is_there {
            return Err((start, format!("{} has no such row in its table", object.memory.name)));
        }
    }
    Ok(())
}

/// Symbols of the kernel inside a section of code that the object does not have there.
fn strangers<'a>(object: &'a Object<'_>, index: usize, base: u64) -> impl Iterator<Item = Difference> + 'a {
    let size = object.sections.get(index).map_or(0, |row| row.size);
    let range = if object.is_code(index) {
        base..base.saturating_add(size)
    } else {
        0..0
    };
    let own = move |offset: u64, name: &str| {
        let mut names = object.names.iter();
        names.any(|named| named.section == index && named.value == offset && named.name == name)
    };
    // objtool gives the room in front of each function a name when the image is linked (tools/objtool/check.c,
    // `add_prefix_symbol`); the linker's script marks the borders of what it collects.
    let is_mark = move |symbol: &&super::Symbol| symbol.name.starts_with("__pfx_") || symbol.address == base;
    let code = |symbol: &&super::Symbol| matches!(symbol.kind, b't' | b'T' | b'w' | b'W');
    let found = object
        .memory
        .symbols_in(range)
        .filter(code)
        .filter(move |symbol| !is_mark(symbol));
    let strange = found.filter(move |symbol| !own(symbol.address - base, &symbol.name));
    strange.map(move |symbol| {
        let why = format!(
            "{} has `{}` there, and the compiled file has not",
            object.memory.name, symbol.name
        );
        (symbol.address - base, why)
    })
}

/// Counts the functions, and notes where everything with a name is.
fn parts(
    object: &Object<'_>,
    bases: &Bases,
    branches: &BTreeSet<(usize, u64)>,
    located: &mut Located,
    refusals: &mut Vec<Refusal>,
) {
    let mut explain = |function: &str, why| {
        located.explained.push(Explained {
            function: function.to_owned(),
            why,
        });
    };
    for named in object.names.iter().filter(|named| object.is_placed(named.section)) {
        let address = bases
            .get(named.section)
            .copied()
            .flatten()
            .map(|base| base.wrapping_add(named.value));
        let is_there = |address: u64| object.memory.addresses(&named.name).any(|known| known == address);
        let function = named.function && object.is_code(named.section);
        match address.filter(|address| is_there(*address)) {
            Some(address) => {
                located.functions += usize::from(function);
                let range = named.value..named.value.saturating_add(named.size.max(1));
                if function
                    && branches
                        .range((named.section, range.start)..(named.section, range.end))
                        .next()
                        .is_some()
                {
                    explain(&named.name, BRANCH);
                }
                located.parts.push(Part {
                    name: named.name.clone(),
                    address,
                    size: named.size,
                });
            }
            None if function && named.weak => explain(&named.name, OVERRIDDEN),
            None if function && address.is_some() => {
                let why = format!("{} has no `{}` there", object.memory.name, named.name);
                refusals.push(not_shipped(object.subject(named.section, named.value), why));
            }
            None => {}
        }
    }
}
