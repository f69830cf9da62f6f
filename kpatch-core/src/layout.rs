//! How structures and unions lie in memory and which numbers enumerators stand for, and what a patch changes about that.
//!
//! A livepatch exchanges code, while the objects that the running kernel has made stay as they are: new code that
//! expects a member where old objects have none reads and writes what belongs to somebody else, and takes the number
//! of one state for another. The machine code shows only offsets and numbers, so the question is put to the debugging
//! information of a unit compiled both ways.
//!
//! Only types of the whole file count. One that is declared inside a function lives on its stack, and goes with it.

mod dwarf;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::Error;

/// So many differences of one structure are named; when one member moves, all behind it move as well.
const NAMED: usize = 4;

/// Words in the names of enumerators that count the others: they change whenever one is added, and no object has them.
const COUNTERS: [&str; 7] = ["MAX", "NR", "NUM", "COUNT", "CNT", "LAST", "END"];

/// The types of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layouts {
    /// By name: `struct sock`, `union sigval`, or the name of a typedef for one without a name of its own.
    aggregates: BTreeMap<String, Layout>,
    /// By name, which is the only one in a unit.
    enumerators: BTreeMap<String, Enumerator>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    /// In bytes.
    size: u64,
    /// Those of members without a name are among them, those of a member `m` without a named type are called `m.x`.
    members: Vec<Member>,
    file: Option<String>,
    line: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    /// Offset in bits.
    at: u64,
    /// Size in bits.
    bits: u64,
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Enumerator {
    value: i64,
    /// The name of the enumeration, if it has one.
    of: Option<String>,
    file: Option<String>,
    line: Option<u32>,
}

/// A structure that lies otherwise in the patched unit, or an enumeration with other numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LayoutChange {
    /// As in `struct sock` and `enum pid_type`; for an enumeration without a name, that of an enumerator.
    pub name: String,
    /// The file that declares it, as the compiler spells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, 1-based.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What differs, in words; offsets and sizes in bytes.
    pub differences: Vec<String>,
}

impl Layouts {
    /// Reads the DWARF of a relocatable object. `name` is what errors call it.
    ///
    /// # Errors
    /// `layout.bad-debug-info` if there is none, or if it cannot be understood: nothing would be known about the unit.
    pub fn read(name: &str, object: &[u8]) -> Result<Layouts, Error> {
        dwarf::read(name, object)
    }

    /// What lies otherwise in the patched unit, and what stands for another number there. A structure that differs only
    /// because one in it does is left out, and so are enumerators that count the others.
    pub fn changes(&self, patched: &Layouts) -> Vec<LayoutChange> {
        let mut changes = self.renumbered(patched);
        changes.extend(self.moved(patched));
        changes.sort();
        changes
    }

    fn renumbered(&self, patched: &Layouts) -> Vec<LayoutChange> {
        let mut found: BTreeMap<String, LayoutChange> = BTreeMap::new();
        for (name, orig) in self.enumerators.iter().filter(|(name, _)| !counts(name)) {
            let Some(new) = patched.enumerators.get(name).filter(|new| new.value != orig.value) else {
                continue;
            };
            let of = new.of.as_ref().map_or_else(|| name.clone(), |of| format!("enum {of}"));
            let change = found.entry(of.clone()).or_insert_with(|| LayoutChange {
                name: of,
                file: new.file.clone(),
                line: new.line,
                differences: Vec::new(),
            });
            let difference = format!("`{name}` goes from {} to {}", orig.value, new.value);
            change.differences.push(difference);
        }
        found
            .into_values()
            .map(|change| LayoutChange {
                differences: shortened(change.differences),
                ..change
            })
            .collect()
    }

    fn moved(&self, patched: &Layouts) -> Vec<LayoutChange> {
        let both = self.aggregates.iter().filter_map(|(name, orig)| {
            let patched = without_aliases(orig, patched.aggregates.get(name)?);
            Some((name, orig, patched))
        });
        let changed: Vec<_> = both
            .filter(|(_, orig, patched)| orig.size != patched.size || orig.members != patched.members)
            .collect();
        let names: BTreeSet<&str> = changed.iter().map(|(name, ..)| name.as_str()).collect();
        let own = changed
            .iter()
            .filter(|(_, orig, patched)| !follows(orig, patched, &names));
        own.map(|(name, orig, patched)| LayoutChange {
            name: (*name).clone(),
            file: patched.file.clone(),
            line: patched.line,
            differences: differences(orig, patched),
        })
        .collect()
    }
}

/// Whether the same members lie elsewhere because one of them has a type that changed.
fn follows(orig: &Layout, patched: &Layout, changed: &BTreeSet<&str>) -> bool {
    let same = |(a, b): (&Member, &Member)| a.name == b.name && a.kind == b.kind;
    let has_changed = |member: &Member| changed.contains(member.kind.rsplit(']').next().unwrap_or_default());
    orig.members.len() == patched.members.len()
        && orig.members.iter().zip(&patched.members).all(same)
        && orig.members.iter().any(has_changed)
}

/// The patched layout without new names for what the original has, and has still, under another: a union laid over a
/// member changes nothing.
fn without_aliases(orig: &Layout, patched: &Layout) -> Layout {
    let named = |layout: &Layout, name: &str| layout.members.iter().any(|one| one.name == name);
    let is_alias = |member: &Member| {
        let same = |old: &&Member| (old.at, old.bits, &old.kind) == (member.at, member.bits, &member.kind);
        let mut old = orig.members.iter().filter(same);
        !named(orig, &member.name) && old.any(|old| named(patched, &old.name))
    };
    let mut layout = patched.clone();
    layout.members.retain(|member| !is_alias(member));
    layout
}

fn differences(orig: &Layout, patched: &Layout) -> Vec<String> {
    let mut found = Vec::new();
    if orig.size != patched.size {
        found.push(format!("its size goes from {} to {}", orig.size, patched.size));
    }
    let before: BTreeMap<&str, &Member> = orig.members.iter().map(|one| (one.name.as_str(), one)).collect();
    let after: BTreeSet<&str> = patched.members.iter().map(|one| one.name.as_str()).collect();
    let gone = orig.members.iter().filter(|one| !after.contains(one.name.as_str()));
    found.extend(gone.map(|one| format!("`{}` is gone", one.name)));
    for member in &patched.members {
        found.extend(match before.get(member.name.as_str()) {
            None => Some(format!("`{}` is new at {}", member.name, bytes(member.at))),
            Some(old) if (old.bits, &old.kind) != (member.bits, &member.kind) => {
                Some(format!("`{}` was {} and is {}", member.name, shown(old), shown(member)))
            }
            Some(old) if old.at != member.at => Some(format!(
                "`{}` moves from {} to {}",
                member.name,
                bytes(old.at),
                bytes(member.at)
            )),
            Some(_) => None,
        });
    }
    if found.is_empty() {
        found.push("its members stand in another order".to_owned());
    }
    shortened(found)
}

fn shortened(mut differences: Vec<String>) -> Vec<String> {
    let more = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    differences
}

fn counts(enumerator: &str) -> bool {
    let mut words = enumerator.split('_');
    words.any(|word| COUNTERS.iter().any(|counter| word.eq_ignore_ascii_case(counter)))
}

fn shown(member: &Member) -> String {
    format!("{} ({})", member.kind, bytes(member.bits))
}

/// Bits as bytes, with what is left.
fn bytes(bits: u64) -> String {
    match bits % 8 {
        0 => (bits / 8).to_string(),
        rest => format!("{}.{rest}", bits / 8),
    }
}
