//! Tables of a `switch` that hold distances.
//!
//! An entry is the distance from the start of the table to a label. A relocation counts from its own field instead, so
//! its addend is larger by the entry's offset in the table (ELF gABI, "Relocation": S + A - P). If functions share a
//! section, the sum may look like a label in the next function. The code that uses a table shows where it starts; and
//! if its entries lead back into that code, it is a table of labels.

use std::collections::{BTreeMap, BTreeSet};

use super::{AtomKind, Class, Object, Reloc, Target};
use crate::arch::{RelocKind, Use};
use crate::ids::{Atom, Id, Sec, Side};

/// Tables by their atom and offset in it, each with the functions that use it.
type Tables<S> = BTreeMap<(Id<S, Atom>, i64), BTreeSet<Id<S, Atom>>>;

/// Points the entries of such tables at the functions that have the labels.
pub fn settle<S: Side>(object: &mut Object<'_, S>) {
    let tables = tables(object);
    let mut after = tables.keys().skip(1);
    for ((atom, start), users) in &tables {
        let row = &object.atoms[*atom];
        let next = after.next().filter(|next| next.0 == *atom);
        let end = next.map_or((row.end - row.anchor) as i64, |next| next.1);
        let own = row.relocs.clone();
        let relocs = object.sections[row.section].relocs.get(own.clone()).unwrap_or(&[]);
        let mut labels = Vec::new();
        for (index, reloc) in own.zip(relocs) {
            let place = (reloc.offset - row.anchor) as i64;
            if (*start..end).contains(&place) {
                labels.extend(Some(index).zip(label(object, reloc, place - start)));
            }
        }
        let leads_back = labels
            .iter()
            .any(|(_, target)| matches!(target, Target::Atom { atom, .. } if users.contains(atom)));
        if leads_back {
            let section = row.section;
            for (index, target) in labels {
                object.sections[section].relocs[index].target = target;
            }
        }
    }
}

/// The target of an entry that is a distance to code. `inside` is the entry's offset in its table.
fn label<S: Side>(object: &Object<'_, S>, reloc: &Reloc<S>, inside: i64) -> Option<Target<S>> {
    let (section, meant) = code(object, reloc)?;
    let atom = object.atom_at(section, u64::try_from(meant.checked_sub(inside)?).ok()?)?;
    let delta = meant.wrapping_sub(object.atoms[atom].anchor as i64);
    Some(Target::Atom { atom, delta })
}

/// The section and offset that a distance to code leads to if it counts from its own field.
fn code<S: Side>(object: &Object<'_, S>, reloc: &Reloc<S>) -> Option<(Id<S, Sec>, i64)> {
    let Target::Atom { atom, delta } = reloc.target else {
        return None;
    };
    let row = &object.atoms[atom];
    let is_distance = reloc.by_section && matches!(reloc.kind, RelocKind::Relative { .. });
    (is_distance && is_code(object, row.section)).then(|| (row.section, delta.wrapping_add(row.anchor as i64)))
}

fn is_code<S: Side>(object: &Object<'_, S>, section: Id<S, Sec>) -> bool {
    object.sections[section].sh_flags & object::elf::SHF_EXECINSTR.0 != 0
}

/// The places that code refers to in constants that hold distances to code.
fn tables<S: Side>(object: &Object<'_, S>) -> Tables<S> {
    let ids = object.sections.ids();
    let holders: BTreeSet<Id<S, Sec>> = ids
        .filter(|id| object.sections[*id].class == Class::Rodata)
        .filter(|id| {
            object.sections[*id]
                .relocs
                .iter()
                .any(|reloc| code(object, reloc).is_some())
        })
        .collect();
    let mut tables = Tables::new();
    if holders.is_empty() {
        return tables;
    }
    for id in object.sections.ids().filter(|id| is_code(object, *id)) {
        let used = object.sections[id]
            .relocs
            .iter()
            .filter(|reloc| reloc.usage == Use::Address);
        for reloc in used {
            if let Target::Atom { atom, delta } = reloc.target
                && object.atoms[atom].kind == AtomKind::Anonymous
                && holders.contains(&object.atoms[atom].section)
                && let Some(user) = object.atom_at(id, reloc.offset)
            {
                tables.entry((atom, delta)).or_default().insert(user);
            }
        }
    }
    tables
}
