//! Facts about each pair of twins: the same, changed (and how), new. Nothing is refused here.
//!
//! The naive comparison of section bytes fails in both directions. It sees changes where an unrelated string moved a
//! string table, and it misses a change that lies only in what an anonymous constant holds. So a reference is compared
//! by what it means: a named target by its twin, an anonymous one by its content, followed through further references.
//!
//! A named constant (`static const`) is both: code that refers to it is changed when the content is, since running
//! code reads the old one.

mod content;
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::group::{Group, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side, Table};
use crate::names;
use crate::read::{AtomKind, Class, Object, Target};
use crate::threads;

use content::Comparison;

pub use lines::Lines;

/// How a patched atom relates to its twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does the same.
    Same,
    /// It differs from its twin; this is the first difference.
    Changed(Difference),
    /// It has no twin.
    New,
    /// It has no name, so whoever refers to it decides.
    ByContent,
}

/// The first difference that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum Difference {
    /// Another length in bytes.
    Size {
        /// Length of the original in bytes, from its entry or start.
        from: u64,
        /// Length of the patched one in bytes, from its entry or start.
        to: u64,
    },
    /// A byte differs that no relocation fills in.
    Bytes {
        /// Distance from the entry or start.
        offset: u64,
    },
    /// A reference to something else.
    Reference {
        /// Distance from the entry or start.
        offset: u64,
        /// What it was.
        from: String,
        /// What it is.
        to: String,
    },
    /// A reference leads to a string with another text.
    String {
        /// Distance of the reference from the entry or start.
        offset: u64,
        /// What it was.
        from: String,
        /// What it is.
        to: String,
    },
    /// A constant that is referred to has another content.
    Constant {
        /// Distance of the reference from the entry or start.
        offset: u64,
        /// Name of the patched constant.
        name: String,
    },
    /// More or fewer entries of a special section belong to it.
    Entries {
        /// Name of the special section.
        section: String,
        /// Number of entries on the original side.
        from: usize,
        /// Number of entries on the patched side.
        to: usize,
    },
    /// An entry of a special section that belongs to it differs.
    Entry {
        /// Name of the special section.
        section: String,
    },
    /// Its other part (`.cold`) changed.
    OtherPart {
        /// Name of the part that was split off.
        name: String,
    },
    /// It names places inside of a function that changed.
    Places {
        /// Name of the function that differs.
        function: String,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Size { from, to } => write!(f, "size {from} -> {to}"),
            Difference::Bytes { offset } => write!(f, "bytes differ at +{offset:#x}"),
            Difference::Reference { offset, from, to } => write!(f, "refers to {to} instead of {from} at +{offset:#x}"),
            Difference::String { from, to, .. } => write!(f, "string {from:?} -> {to:?}"),
            Difference::Constant { name, .. } => write!(f, "reads changed constant {name}"),
            Difference::Entries { section, from, to } => write!(f, "{from} -> {to} entries in {section}"),
            Difference::Entry { section } => write!(f, "its entry in {section} differs"),
            Difference::OtherPart { name } => write!(f, "its part {name} changed"),
            Difference::Places { function } => write!(f, "names places inside of {function}, which changed"),
        }
    }
}

/// The facts about one unit.
pub struct UnitVerdicts {
    /// For each patched atom.
    pub of: Table<Patched, Atom, Verdict>,
    /// Entries of special sections, by the patched atom they belong to.
    pub entries: Entries<Patched>,
    /// The same of the original side, by the original atom.
    pub orig_entries: Entries<Orig>,
    /// Patched atoms that the author wants overlooked, though they changed.
    pub overlooked: BTreeSet<Id<Patched, Atom>>,
    /// Patched atoms whose bytes differ in numbers of source lines only.
    pub only_lines: BTreeSet<Id<Patched, Atom>>,
    /// Patched functions that differ in what indirect calls need only.
    pub only_landing: BTreeSet<Id<Patched, Atom>>,
}

/// A verdict for each patched atom, the atoms whose bytes differ in numbers of source lines only, and those that differ in
/// what indirect calls need only.
type Compared = (
    Table<Patched, Atom, Verdict>,
    BTreeSet<Id<Patched, Atom>>,
    BTreeSet<Id<Patched, Atom>>,
);

/// Entries of special sections by owner, ordered by section name and offset.
pub type Entries<S> = BTreeMap<Id<S, Atom>, Vec<Id<S, Atom>>>;

/// Compares all units of a group.
pub fn group(group: &Group<'_>, lines: Lines) -> Vec<UnitVerdicts> {
    let entries: Vec<_> = group
        .units
        .iter()
        .map(|unit| (owners(&unit.orig), owners(&unit.patched)))
        .collect();
    let units: Vec<UnitId> = (0..group.units.len()).collect();
    let compared: Vec<Compared> = threads::map(&units, group.bytes, |unit| compare_unit(group, &entries, *unit, lines));
    compared
        .into_iter()
        .zip(entries)
        .map(
            |((of, only_lines, only_landing), (orig_entries, entries))| UnitVerdicts {
                of,
                entries,
                orig_entries,
                overlooked: BTreeSet::new(),
                only_lines,
                only_landing,
            },
        )
        .collect()
}

/// Which atom an entry of a special section belongs to: the one its first relocation points into.
pub(crate) fn owner<S: Side>(object: &Object<'_, S>, entry: Id<S, Atom>) -> Option<Id<S, Atom>> {
    match object.relocs(entry).first()?.target {
        Target::Atom { atom, .. } if object.atoms[entry].kind == AtomKind::Entry => Some(atom),
        _ => None,
    }
}

/// The entries of each atom.
fn owners<S: Side>(object: &Object<'_, S>) -> Entries<S> {
    let mut entries = Entries::new();
    for id in object.atoms.ids() {
        if let Some(owner) = owner(object, id) {
            entries.entry(owner).or_insert_with(Vec::new).push(id);
        }
    }
    // The sections themselves may stand in another order: a patch can bring the first use of one.
    for own in entries.values_mut() {
        own.sort_by_key(|id| (object.sections[object.atoms[*id].section].name, *id));
    }
    entries
}

fn compare_unit(
    group: &Group<'_>,
    entries: &[(Entries<Orig>, Entries<Patched>)],
    unit: UnitId,
    lines: Lines,
) -> Compared {
    let owner = &group.units[unit];
    let mut comparison = Comparison::new(group, entries, lines);
    let mut verdicts: Table<Patched, Atom, Verdict> = owner
        .patched
        .atoms
        .iter()
        .map(|(id, atom)| match (atom.kind, owner.pairing.orig_of[id]) {
            // The kernel's copy is gone since boot: nobody can call it, and nobody does.
            (AtomKind::Function, Some(twin)) if has_left_init(owner, twin, id) => Verdict::New,
            (AtomKind::Function | AtomKind::Object, Some(twin)) => match comparison.twins(unit, twin, id) {
                None => Verdict::Same,
                Some(difference) => Verdict::Changed(difference),
            },
            (AtomKind::Function | AtomKind::Object, None) => Verdict::New,
            _ => Verdict::ByContent,
        })
        .collect();
    join_parts(&owner.patched, &mut verdicts);
    follow_places(&owner.patched, &mut verdicts);
    (verdicts, comparison.only_lines(unit), comparison.only_landing(unit))
}

/// Whether a function was boot code and is no longer.
fn has_left_init(unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> bool {
    unit.orig.class(orig) == Class::Init && unit.patched.class(patched) != Class::Init
}

/// A function and its `.cold` parts jump into each other at fixed offsets: if one changes, all do.
fn join_parts(object: &Object<'_, Patched>, verdicts: &mut Table<Patched, Atom, Verdict>) {
    let pairs = object.parts();
    let mut spread = |from, to| {
        if verdicts[from] != Verdict::Same && verdicts[to] == Verdict::Same {
            let name = names::readable(&object.label(from));
            verdicts[to] = Verdict::Changed(Difference::OtherPart { name });
        }
    };
    // First to the function from each of its parts, then from it to all of them.
    pairs.iter().for_each(|(parent, part)| spread(*part, *parent));
    pairs.iter().for_each(|(parent, part)| spread(*parent, *part));
}

/// The kernel's table of places inside of a function (`&&label` in C) leads into the kernel's copy of that function. So
/// where the function changed, the table did, and with it each constant through which it is reached.
fn follow_places(object: &Object<'_, Patched>, verdicts: &mut Table<Patched, Atom, Verdict>) {
    let inside = |verdicts: &Table<Patched, Atom, Verdict>, id| {
        object.relocs(id).iter().find_map(|reloc| match reloc.target {
            Target::Atom { atom, delta } => match (&verdicts[atom], object.atoms[atom].kind) {
                (Verdict::Changed(_), AtomKind::Function) if delta != 0 => Some(names::readable(&object.label(atom))),
                (Verdict::Changed(Difference::Places { function }), _) => Some(function.clone()),
                _ => None,
            },
            _ => None,
        })
    };
    let mut same: Vec<_> = object
        .atoms
        .iter()
        .filter(|(id, row)| row.kind == AtomKind::Object && verdicts[*id] == Verdict::Same)
        .map(|(id, _)| id)
        .collect();
    loop {
        let before = same.len();
        same.retain(|id| match inside(verdicts, *id) {
            Some(function) => {
                verdicts[*id] = Verdict::Changed(Difference::Places { function });
                false
            }
            None => true,
        });
        if same.len() == before {
            return;
        }
    }
}

/// Whether patched code gets its own copy of a variable that changed: if it can be written on either side, the kernel's is
/// in use already.
pub(crate) fn is_copied(unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> bool {
    is_constant(&unit.orig, orig) && is_constant(&unit.patched, patched)
}

/// Whether a section holds constants whose content decides for whoever refers to them.
pub(crate) fn is_constant<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> bool {
    matches!(object.class(atom), Class::Rodata | Class::Strings)
}
