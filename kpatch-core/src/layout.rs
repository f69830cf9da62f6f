//! How structures and unions lie in memory, and what a patch changes about that.
//!
//! A livepatch exchanges code, while the objects that the running kernel has made stay as they are: new code that
//! expects a member where old objects have none reads and writes what belongs to somebody else. The machine code shows
//! only offsets, so the question is put to the debugging information of a unit compiled both ways.
//!
//! Only types of the whole file count. One that is declared inside a function lives on its stack, and goes with it.

mod dwarf;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::error::Error;

/// So many differences of one structure are named; when one member moves, all behind it move as well.
const NAMED: usize = 4;

/// The structures and unions of one unit, by name: `struct sock`, `union sigval`, or the name of a typedef for one
/// without a name of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layouts(BTreeMap<String, Layout>);

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

/// A structure that lies otherwise in the patched unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LayoutChange {
    /// As in `struct sock`.
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

    /// What lies otherwise in the patched unit. A structure that differs only because one in it does is left out.
    pub fn changes(&self, patched: &Layouts) -> Vec<LayoutChange> {
        let both = self.0.iter().filter_map(|(name, orig)| {
            let patched = patched.0.get(name)?;
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
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
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
