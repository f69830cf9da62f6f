//! What the author of a patch says about it with macros that leave marks in the object: what to leave out of the
//! comparison, and what to call when the livepatch is loaded and unloaded.
//!
//! The marks are those of kpatch-macros.h, so that patches written with it keep their meaning.

use std::collections::BTreeSet;

use super::BAD_MACRO;
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::{Error, Subject};
use crate::group::Unit;
use crate::ids::{Atom, Id, Patched};
use crate::ignored::Ignored;
use crate::names;
use crate::read::{AtomKind, Object, Target};

const IGNORED_FUNCTIONS: &str = ".kpatch.ignore.functions";
const IGNORED_SECTIONS: &str = ".kpatch.ignore.sections";
const CALLBACKS: &str = ".kpatch.callbacks.";
/// KPATCH_FORCE_UNSAFE(): functions to redirect even while a task runs them.
const FORCED: &str = ".kpatch.force";

/// Everything the author said.
#[derive(Debug, Default)]
pub struct Macros {
    functions: BTreeSet<Id<Patched, Atom>>,
    sections: BTreeSet<String>,
    /// Records of callbacks: (section, atom).
    pub callbacks: Vec<(String, Id<Patched, Atom>)>,
    forced: Vec<String>,
    /// Namespaces to import, in the object's order.
    pub namespaces: Vec<String>,
}

/// Reads the marks of a unit.
///
/// # Errors
/// [`BAD_MACRO`] for a mark that points at nothing of the kind it is for.
pub fn read(unit: &Unit<'_>) -> Result<Macros, Error> {
    let object = &unit.patched;
    let mut macros = Macros::default();
    for (id, section) in object.sections.iter() {
        let bad = |offset: u64, why: &str| {
            let at = Subject::file(&object.file).section(section.name).offset(offset);
            Error::new(BAD_MACRO, at, why)
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
            name if name.starts_with(CALLBACKS) => {
                let atoms = object.sections[id].atoms.clone().map(Id::new);
                let records = atoms.filter(|atom| !object.relocs(*atom).is_empty());
                macros.callbacks.extend(records.map(|atom| (name.to_owned(), atom)));
            }
            FORCED => {
                for reloc in &section.relocs {
                    match reloc.target {
                        Target::Atom { atom, .. } => macros.forced.push(names::readable(&object.label(atom))),
                        _ => return Err(bad(reloc.offset, "it names no function of this file")),
                    }
                }
            }
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
    /// Takes back what the comparison found where the author wants it overlooked.
    pub fn apply(&self, unit: &Unit<'_>, verdicts: &mut UnitVerdicts) -> Vec<Ignored> {
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
