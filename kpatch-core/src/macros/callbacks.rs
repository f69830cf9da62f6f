//! Functions of the livepatch that the kernel calls when an object is patched and when it no longer is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{BAD_MACRO, Macros};
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::Refusal;
use crate::group::{Group, ObjectName, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::names;
use crate::read::{AtomKind, CALLBACK_POINTERS, CALLBACK_RECORDS, Class, Object, Target};
use crate::select::Reason;

pub use crate::codes::markers::CALLBACK_TWICE;
/// When a callback is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the object is patched. It may say no.
    PrePatch,
    /// When all tasks run the new code.
    PostPatch,
    /// Before the object is unpatched.
    PreUnpatch,
    /// When no task runs the new code any more.
    PostUnpatch,
}

impl Moment {
    /// In the order of the members of `struct klp_callbacks`: include/linux/livepatch.h (4.15 to 6.18) and
    /// include/linux/livepatch_external.h (6.19).
    pub const ALL: [Moment; 4] = [
        Moment::PrePatch,
        Moment::PostPatch,
        Moment::PreUnpatch,
        Moment::PostUnpatch,
    ];

    /// The member of `struct klp_callbacks`.
    pub fn member(self) -> &'static str {
        match self {
            Moment::PrePatch => "pre_patch",
            Moment::PostPatch => "post_patch",
            Moment::PreUnpatch => "pre_unpatch",
            Moment::PostUnpatch => "post_unpatch",
        }
    }

    /// The moment that a record is for, if it is one: told by its section, or by its section and name.
    pub(super) fn of(section: &str, name: Option<&str>) -> Option<Moment> {
        let is = |text: &str| Moment::ALL.into_iter().find(|moment| text == moment.member());
        if section == CALLBACK_POINTERS {
            let (moment, _) = name?.strip_prefix("__klp_")?.split_once("_callback_")?;
            return is(moment);
        }
        is(section.strip_prefix(CALLBACK_RECORDS)?)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.member())
    }
}

/// A function that the kernel calls at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Callback {
    /// The object whose patching it goes with.
    pub object: ObjectName,
    /// When livepatch calls it.
    pub moment: Moment,
    /// The function's name in the source.
    pub name: String,
    /// The unit that has it.
    pub unit: String,
    /// Symbol in the emitted object that stands at the function.
    pub handle: String,
}

/// Whether a section holds records of callbacks.
pub(super) fn holds_records(section: &str) -> bool {
    section == CALLBACK_POINTERS || section.starts_with(CALLBACK_RECORDS)
}

/// Whether this is the form that create-diff-object passes on to kpatch's driver.
pub(super) fn is_kpatch_form(section: &str) -> bool {
    section.starts_with(CALLBACK_RECORDS)
}

/// The callbacks of a group, and the functions that are selected for them.
#[derive(Debug, Default)]
pub(crate) struct Callbacks {
    all: Vec<(UnitId, Id<Patched, Atom>, Moment)>,
}

impl Callbacks {
    /// Finds the functions that the records of all units name.
    ///
    /// # Errors
    /// [`BAD_MACRO`] for what is no new function that stays, [`CALLBACK_TWICE`] for a second one.
    pub fn of(group: &Group<'_>, verdicts: &[UnitVerdicts], marks: &[Macros]) -> Result<Self, Vec<Refusal>> {
        let mut callbacks = Callbacks::default();
        let mut refusals = Vec::new();
        let mut taken = BTreeSet::new();
        for (unit, marks) in marks.iter().enumerate() {
            let owner = &group.units[unit];
            for (moment, record) in &marks.callbacks {
                let at = || owner.patched.subject(*record);
                match function(&owner.patched, &verdicts[unit], *record) {
                    Err(why) => refusals.push(Refusal::new(BAD_MACRO, at(), why).hint(
                        "a callback is a function that the patch adds, without __init and defined in the same file",
                    )),
                    Ok(_) if !taken.insert((&owner.parent, *moment)) => {
                        let why = format!("{} has another {moment} callback already", owner.parent);
                        let hint = "call both from one function: livepatch has one for each object and moment";
                        refusals.push(Refusal::new(CALLBACK_TWICE, at(), why).hint(hint));
                    }
                    Ok(function) => callbacks.all.push((unit, function, *moment)),
                }
            }
        }
        if refusals.is_empty() {
            Ok(callbacks)
        } else {
            Err(refusals)
        }
    }

    /// What must be in the livepatch for them.
    pub fn roots(&self) -> Vec<(UnitId, Id<Patched, Atom>, Reason)> {
        let root = |(unit, function, _): &(UnitId, _, _)| (*unit, *function, Reason::Callback);
        self.all.iter().map(root).collect()
    }

    /// The names of the symbols that stand at the functions.
    pub fn handles(&self) -> BTreeMap<(UnitId, Id<Patched, Atom>), String> {
        let functions: BTreeSet<_> = self.all.iter().map(|(unit, function, _)| (*unit, *function)).collect();
        let named = |(index, key)| (key, format!("klp_callback_{index}"));
        functions.into_iter().enumerate().map(named).collect()
    }

    /// What the module's table must have.
    pub fn table(&self, group: &Group<'_>) -> Vec<Callback> {
        let handles = self.handles();
        let row = |(unit, function, moment): &(UnitId, Id<Patched, Atom>, Moment)| {
            let owner = &group.units[*unit];
            Callback {
                object: owner.parent.clone(),
                moment: *moment,
                name: names::readable(&owner.patched.label(*function)),
                unit: owner.name.clone(),
                handle: handles[&(*unit, *function)].clone(),
            }
        };
        self.all.iter().map(row).collect()
    }
}

/// The function that a record names, or what is wrong with it.
fn function(
    object: &Object<'_, Patched>,
    verdicts: &UnitVerdicts,
    record: Id<Patched, Atom>,
) -> Result<Id<Patched, Atom>, &'static str> {
    let [reloc] = object.relocs(record) else {
        return Err("it names no function, or more than one");
    };
    let Target::Atom { atom, delta: 0 } = reloc.target else {
        return Err("what it names is not in this file");
    };
    if object.atoms[atom].kind != AtomKind::Function {
        return Err("what it names is no function");
    }
    if object.class(atom) == Class::Init {
        return Err("the function that it names is gone once the livepatch is loaded");
    }
    if verdicts.of[atom] != Verdict::New {
        return Err("the function that it names is one of the kernel's");
    }
    Ok(atom)
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn both_kinds_of_records_tell_their_moment() {
        let of = |section, name| Moment::of(section, Some(name));
        assert_eq!(of(".kpatch.callbacks.post_unpatch", "x"), Some(Moment::PostUnpatch));
        assert_eq!(of(".kpatch.callbacks.sometimes", "x"), None);
        let pointers = ".discard.klp_callback_ptrs";
        assert_eq!(of(pointers, "__klp_pre_patch_callback_vmlinux"), Some(Moment::PrePatch));
        assert_eq!(of(pointers, "__klp_patch_callback_vmlinux"), None);
        assert_eq!(of(".data", "__klp_pre_patch_callback_vmlinux"), None);
    }
}
