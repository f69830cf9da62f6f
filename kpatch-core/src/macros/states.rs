//! What the author says a livepatch changes in the system, so that the next one can take it over: `struct klp_state` of
//! include/linux/livepatch.h (5.5 and later), Documentation/livepatch/system-state.rst.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{BAD_MACRO, Macros};
use crate::arch::Arch;
use crate::error::Refusal;
use crate::error::Subject;
use crate::group::Group;

/// The section of the records of kpatch-macros.h, each an id and a version.
pub(super) const STATES: &str = ".kpatch.states";

/// Bytes of a record.
const RECORD: usize = 16;

/// A change of the system that a livepatch declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct State {
    /// Which one it is.
    pub id: u64,
    /// The version of the change.
    pub version: u32,
}

/// The records of a section.
pub(super) fn records(data: &[u8], arch: &dyn Arch) -> Result<Vec<State>, &'static str> {
    let (records, rest) = data.as_chunks::<RECORD>();
    if records.is_empty() || !rest.is_empty() {
        return Err("it is no list of states");
    }
    let record = |record: &[u8; RECORD]| {
        let words = [0, 8].map(|at| {
            let mut word = [0; 8];
            word.copy_from_slice(&record[at..at + 8]);
            match arch.facts().big_endian {
                true => u64::from_be_bytes(word),
                false => u64::from_le_bytes(word),
            }
        });
        let version = u32::try_from(words[1]).map_err(|_| "a version has 32 bits")?;
        match words[0] {
            0 => Err("the number of a state is not 0: the kernel's list ends there"),
            id => Ok(State { id, version }),
        }
    };
    records.iter().map(record).collect()
}

/// The states of all units, by their numbers.
///
/// # Errors
/// [`BAD_MACRO`] for one that is declared twice.
pub(crate) fn of(group: &Group<'_>, marks: &[Macros]) -> Result<Vec<State>, Vec<Refusal>> {
    let mut found: BTreeMap<u64, State> = BTreeMap::new();
    let mut refusals = Vec::new();
    for (unit, marks) in group.units.iter().zip(marks) {
        for state in &marks.states {
            if found.insert(state.id, *state).is_some() {
                let at = Subject::file(&unit.patched.file).section(STATES);
                let why = format!("state {} is declared twice", state.id);
                refusals.push(Refusal::new(BAD_MACRO, at, why).hint("declare it once, in its highest version"));
            }
        }
    }
    if refusals.is_empty() {
        Ok(found.into_values().collect())
    } else {
        Err(refusals)
    }
}
