//! What is in a livepatch and why, for people and programs.

mod escapes;
mod sleeps;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::arch::Use;
use crate::group::{Group, ObjectName, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::names;
use crate::read::AtomKind;
use crate::resolve::{Route, Routes};
use crate::select::{Link, Reason, Selection};

pub use escapes::{GivenAway, How};
pub use sleeps::{Sleeps, sleeps};

/// One element of the livepatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Element {
    /// Name of the unit it is from.
    pub unit: String,
    /// What it is: `function`, `object`, `string` and so on.
    pub kind: &'static str,
    /// Its name, or where it was if it has none; a string whose address is given away is shown itself.
    pub name: String,
    /// The section it was in.
    pub section: String,
    /// Why it is in.
    pub reason: Reason,
    /// What it refers to in the kernel, without numbers that change from build to build.
    pub refers_to: Vec<String>,
    /// Who takes the address of a function of the livepatch. Whoever keeps it (a timer, a table of
    /// functions) calls into the livepatch for as long.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub address_taken_by: Vec<String>,
    /// Who gives the address of data of the livepatch away, so that somebody else may have it later.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub given_away: Vec<GivenAway>,
}

impl Element {
    /// Whether it is a function that the kernel does not have.
    pub fn is_new_function(&self) -> bool {
        self.kind == "function" && matches!(self.reason, Reason::NewFor { .. } | Reason::NewGlobal)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} {} ({}) of {}",
            self.reason, self.kind, self.name, self.section, self.unit
        )
    }
}

/// The elements for a person, one on a line; the strings, of which there can be dozens, on one for each unit.
pub fn explained(elements: &[Element]) -> Vec<String> {
    let (strings, others): (Vec<&Element>, Vec<&Element>) = elements
        .iter()
        .partition(|element| element.kind == kind(AtomKind::String));
    let mut by_unit: BTreeMap<&str, Vec<&Element>> = BTreeMap::new();
    for string in strings {
        by_unit.entry(&string.unit).or_default().push(string);
    }
    let mut lines: Vec<String> = others.iter().map(ToString::to_string).collect();
    for (unit, strings) in by_unit {
        let users: BTreeSet<&str> = strings.iter().filter_map(|string| string.reason.user()).collect();
        let (count, users) = (strings.len(), users.into_iter().collect::<Vec<_>>().join(", "));
        let what = if count == 1 { "string" } else { "strings" };
        lines.push(format!("copied for {users}: {count} {what} of {unit}"));
    }
    lines
}

/// A function of the livepatch that the kernel has as well and cannot redirect: callers in the livepatch lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// The object that has the kernel's copy.
    pub object: ObjectName,
    /// Its name.
    pub name: String,
    /// Name of the unit it is from.
    pub unit: String,
    /// Why it is in.
    pub reason: Reason,
}

/// Lists the carried functions, in unit and section order.
pub fn carried(group: &Group<'_>, selection: &Selection<'_>) -> Vec<Carried> {
    let row = |key: &(UnitId, Id<Patched, Atom>)| {
        let unit = &group.units[key.0];
        Carried {
            object: unit.parent.clone(),
            name: names::readable(&unit.patched.label(key.1)),
            unit: unit.name.clone(),
            reason: selection.atoms[key].reason.clone(),
        }
    };
    selection.carried.iter().map(row).collect()
}

/// Lists what was selected, in unit and section order.
pub fn elements(group: &Group<'_>, selection: &Selection<'_>, routes: &Routes) -> Vec<Element> {
    let takers = address_takers(group, selection);
    let given_away = escapes::escapes(group, selection);
    let rows = selection.atoms.iter().filter(|(key, _)| !routes.dropped.contains(key));
    rows.map(|(key, selected)| {
        let object = &group.units[key.0].patched;
        let row = &object.atoms[key.1];
        let mut refers_to: Vec<String> = routes.of[key]
            .iter()
            .filter_map(|route| match route {
                Route::Symbol { name, .. } if object.arch.facts().loader.is_own_in_each_module(name) => None,
                Route::Symbol { name, .. } => Some(refers_to(name, routes)),
                Route::InPatch { .. } | Route::Absolute(_) => None,
            })
            .collect();
        refers_to.sort();
        refers_to.dedup();
        Element {
            unit: group.units[key.0].name.clone(),
            kind: kind(row.kind),
            name: match row.kind == AtomKind::String && given_away.contains_key(key) {
                true => quoted(object.bytes(key.1)),
                false => names::readable(&object.label(key.1)),
            },
            section: object.sections[row.section].name.to_owned(),
            reason: selected.reason.clone(),
            refers_to,
            address_taken_by: takers.get(key).into_iter().flatten().cloned().collect(),
            given_away: given_away.get(key).into_iter().flatten().cloned().collect(),
        }
    })
    .collect()
}

/// The beginning of a string, as the source would have it.
fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 40;
    let text = String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes));
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Functions of the livepatch, new or copied, whose address code or variables of the livepatch take. What describes code
/// (entries of tables, pieces) may point at it as it likes, and records of callbacks are for the kernel, which knows when
/// the livepatch goes.
fn address_takers(
    group: &Group<'_>,
    selection: &Selection<'_>,
) -> BTreeMap<(UnitId, Id<Patched, Atom>), BTreeSet<String>> {
    let mut takers: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (key, selected) in &selection.atoms {
        let object = &group.units[key.0].patched;
        let describes = matches!(object.atoms[key.1].kind, AtomKind::Entry | AtomKind::Piece);
        if describes || selected.reason == Reason::Callback {
            continue;
        }
        for (reloc, link) in object.relocs(key.1).iter().zip(&selected.links) {
            let Link::InPatch(place) = link else { continue };
            let to = (place.unit, place.atom);
            let is_function = group.units[to.0].patched.atoms[to.1].kind == AtomKind::Function;
            if is_function && reloc.usage != Use::Branch && place.delta == 0 {
                let taker = names::readable(&object.label(key.1));
                takers.entry(to).or_default().insert(taker);
            }
        }
    }
    takers
}

fn refers_to(link_name: &str, routes: &Routes) -> String {
    match routes.symbols.get(link_name) {
        Some(symbol) => format!("{}:{},{}", symbol.owner, names::readable(&symbol.name), symbol.sympos.0),
        None => link_name.to_owned(),
    }
}

fn kind(kind: AtomKind) -> &'static str {
    match kind {
        AtomKind::Function => "function",
        AtomKind::Object => "variable",
        AtomKind::String => "string",
        AtomKind::Anonymous => "constant",
        AtomKind::Entry => "entry",
        AtomKind::Piece => "piece",
    }
}
