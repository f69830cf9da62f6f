//! What the author of a patch says about it with macros that leave marks in the object: what to leave out of the
//! comparison, and what to call when the livepatch is loaded and unloaded.
//!
//! The marks are those of kpatch-macros.h and of the kernel's livepatch_helpers.h (6.19), so that patches written with
//! them keep their meaning.

mod callbacks;
mod states;

use std::collections::BTreeSet;

use crate::compare::{UnitVerdicts, Verdict};
use crate::error::{Refusal, Subject};
use crate::group::Unit;
use crate::ids::{Atom, Id, Patched};
use crate::ignored::Ignored;
use crate::names;
use crate::read::{AtomKind, Object, Target, is_mark};

pub(crate) use callbacks::Callbacks;
pub use callbacks::{CALLBACK_TWICE, Callback, Moment};
pub use states::State;
pub(crate) use states::of as states;

pub use crate::codes::markers::BAD_MACRO;
const IGNORED_FUNCTIONS: &str = ".kpatch.ignore.functions";
const IGNORED_SECTIONS: &str = ".kpatch.ignore.sections";
/// KPATCH_FORCE_UNSAFE(): functions to redirect even while a task runs them.
const FORCED: &str = ".kpatch.force";

/// Everything the author said.
#[derive(Debug, Default)]
pub struct Macros {
    functions: BTreeSet<Id<Patched, Atom>>,
    sections: BTreeSet<String>,
    /// Records of callbacks, with the moment that each is for.
    pub callbacks: Vec<(Moment, Id<Patched, Atom>)>,
    forced: Vec<String>,
    /// States of the system.
    pub states: Vec<State>,
    /// Namespaces to import, in the object's order.
    pub namespaces: Vec<String>,
}

/// Reads the marks of a unit.
///
/// # Errors
/// [`BAD_MACRO`] for a mark that points at nothing of the kind it is for.
pub fn read(unit: &Unit<'_>) -> Result<Macros, Refusal> {
    let object = &unit.patched;
    let mut macros = Macros::default();
    for (id, section) in object.sections.iter() {
        let bad = |offset: u64, why: &str| {
            let at = Subject::file(&object.file).section(section.name).offset(offset);
            Refusal::new(BAD_MACRO, at, why).hint("use the macro as its header says, for what the same file has")
        };
        match section.name {
            IGNORED_FUNCTIONS => {
                for reloc in &section.relocs {
                    match reloc.target {
                        Target::Atom { atom, .. } if object.atoms[atom].kind == AtomKind::Function => {
                            macros.functions.insert(atom);
                        }
                        _ => return Err(bad(reloc.offset, "it names no function of this file")),
                    }
                }
            }
            IGNORED_SECTIONS => {
                for reloc in &section.relocs {
                    let name = string(object, &reloc.target).ok_or_else(|| bad(reloc.offset, "it names no string"))?;
                    let name = name.strip_prefix(".rela").filter(|_| name != ".rela").unwrap_or(name);
                    if !object.sections.iter().any(|(_, section)| section.name == name) {
                        return Err(bad(reloc.offset, "the section that it names does not exist"));
                    }
                    macros.sections.insert(name.to_owned());
                }
            }
            name if callbacks::holds_records(name) => {
                let atoms = object.sections[id].atoms.clone().map(Id::new);
                let records: Vec<_> = atoms.filter(|atom| !object.relocs(*atom).is_empty()).collect();
                if records.is_empty() && section.sh_size > 0 {
                    return Err(bad(0, "it names no function"));
                }
                for record in records {
                    let moment = Moment::of(name, object.name(record))
                        .ok_or_else(|| bad(object.atoms[record].start, "there is no such moment for a callback"))?;
                    macros.callbacks.push((moment, record));
                }
            }
            FORCED => {
                for reloc in &section.relocs {
                    match reloc.target {
                        Target::Atom { atom, .. } => macros.forced.push(names::readable(&object.label(atom))),
                        _ => return Err(bad(reloc.offset, "it names no function of this file")),
                    }
                }
            }
            states::STATES => {
                let read = match section.relocs.is_empty() {
                    true => states::records(section.data, object.arch),
                    false => Err("its numbers are not known before it is linked"),
                };
                macros.states.extend(read.map_err(|why| bad(0, why))?);
            }
            name if is_mark(name) => return Err(bad(0, "no macro is known that leaves this mark")),
            ".modinfo" => macros.namespaces.extend(namespaces(section.data)),
            _ => {}
        }
    }
    Ok(macros)
}

fn string<'d>(object: &Object<'d, Patched>, target: &Target<Patched>) -> Option<&'d str> {
    let Target::Atom { atom, delta } = *target else {
        return None;
    };
    let bytes = object.bytes(atom).get(usize::try_from(delta).ok()?..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&bytes[..end]).ok()
}

/// `import_ns=NAME`, in built-in code behind the object's name.
fn namespaces(modinfo: &[u8]) -> Vec<String> {
    let entries = modinfo
        .split(|byte| *byte == 0)
        .filter_map(|entry| std::str::from_utf8(entry).ok());
    let named = entries.filter_map(|entry| entry.split_once("import_ns=").map(|(_, name)| name.to_owned()));
    named.collect()
}

impl Macros {
    /// Refuses marks that only [`crate::build_patch`] understands: kpatch's driver would not see them.
    ///
    /// # Errors
    /// [`BAD_MACRO`].
    pub fn check_form(&self, unit: &Unit<'_>) -> Result<(), Refusal> {
        let object = &unit.patched;
        let section = |record: &Id<Patched, Atom>| object.sections[object.atoms[*record].section].name;
        if !self.states.is_empty() {
            let at = Subject::file(&object.file).section(states::STATES);
            let hint = "give the states to the module's own source";
            return Err(Refusal::new(BAD_MACRO, at, "kpatch's driver does not know states").hint(hint));
        }
        let other = |(_, record): &&(Moment, Id<Patched, Atom>)| !callbacks::is_kpatch_form(section(record));
        match self.callbacks.iter().find(other) {
            None => Ok(()),
            Some((_, record)) => {
                let why = "kpatch's driver does not know this form of a callback";
                Err(Refusal::new(BAD_MACRO, object.subject(*record), why).hint("use the macros of kpatch-macros.h"))
            }
        }
    }

    /// Takes back what the comparison found where the author wants it overlooked.
    pub fn apply(&self, unit: &Unit<'_>, verdicts: &mut UnitVerdicts) -> Vec<Ignored> {
        if self.functions.is_empty() && self.sections.is_empty() && self.forced.is_empty() {
            return Vec::new();
        }
        let object = &unit.patched;
        let mut named = self.functions.clone();
        named.extend(
            object
                .parts()
                .iter()
                .filter(|(parent, _)| self.functions.contains(parent))
                .map(|pair| pair.1),
        );
        // Only kpatch's own core module could be forced; livepatch waits for each task (kernel/livepatch/transition.c).
        let mut ignored: Vec<Ignored> = self
            .forced
            .iter()
            .map(|name| Ignored {
                unit: unit.name.clone(),
                name: name.clone(),
                why: "livepatch cannot be forced for one function: KPATCH_FORCE_UNSAFE does nothing".to_owned(),
            })
            .collect();
        for id in object.atoms.ids() {
            let section = object.sections[object.atoms[id].section].name;
            let by_section = self.sections.contains(section);
            if !(by_section || named.contains(&id)) || !matches!(verdicts.of[id], Verdict::Changed(_)) {
                continue;
            }
            verdicts.of[id] = Verdict::Same;
            verdicts.overlooked.insert(id);
            let by = if by_section {
                "the author ignores its section"
            } else {
                "the author ignores it"
            };
            ignored.push(Ignored {
                unit: unit.name.clone(),
                name: names::readable(&object.label(id)),
                why: by.to_owned(),
            });
        }
        ignored
    }
}
