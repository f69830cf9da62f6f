//! Variables that begin with another number with the patch. The running kernel has its own value in them, so the change is
//! refused; but whoever accepts one by name gets it set while the livepatch is there.
//!
//! Setting it is one comparison and exchange: what somebody else has written stays. That takes a number as wide as the
//! processor exchanges at once, in memory that can be written and of which there is one.

use std::collections::BTreeSet;

use super::{Finish, patchable};
use crate::Author;
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::Refusal;
use crate::group::{Group, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::read::{Memory, Object};

/// A variable to set.
pub struct NewValue {
    /// The unit that has it.
    pub unit: UnitId,
    /// The kernel's variable.
    pub orig: Id<Orig, Atom>,
    /// The same in the patched object.
    pub patched: Id<Patched, Atom>,
    /// Bytes of the number.
    pub size: u8,
    /// What the kernel began with.
    pub from: u64,
    /// What the patch begins with.
    pub to: u64,
}

/// What becomes of the variables that the author accepts.
#[derive(Default)]
pub struct Values {
    /// Those to set.
    pub new: Vec<NewValue>,
    /// What would have been refused of these.
    pub accepted: Vec<Refusal>,
    /// Those that cannot be set.
    pub refusals: Vec<Refusal>,
}

impl Values {
    /// The patched variables that are set.
    pub fn atoms(&self) -> BTreeSet<(UnitId, Id<Patched, Atom>)> {
        self.new.iter().map(|value| (value.unit, value.patched)).collect()
    }
}

/// Looks at the variables that are accepted by name.
pub fn judge(group: &Group<'_>, verdicts: &[UnitVerdicts], author: &Author<'_>, finish: Finish) -> Values {
    let mut values = Values::default();
    for (index, (unit, verdicts)) in group.units.iter().zip(verdicts).enumerate() {
        for (atom, verdict) in verdicts.of.iter() {
            let Verdict::Changed(difference) = verdict else {
                continue;
            };
            let refusal = patchable::refuse(unit, atom, difference);
            let Some(refusal) = refusal.filter(|refusal| patchable::is_named(refusal, author.accepted)) else {
                continue;
            };
            match value(index, unit, atom, finish) {
                Ok(value) => {
                    values.new.push(value);
                    values.accepted.push(refusal);
                }
                Err(why) => {
                    let why = format!("{}; it is accepted, and cannot be set for you: {why}", refusal.why);
                    values.refusals.push(Refusal { why, ..refusal });
                }
            }
        }
    }
    values
}

fn value(index: UnitId, unit: &Unit<'_>, patched: Id<Patched, Atom>, finish: Finish) -> Result<NewValue, String> {
    let orig = unit.pairing.orig_of[patched].ok_or("the kernel has none")?;
    if finish == Finish::Copied {
        return Err("the objects that are written here bring no callbacks of their own".into());
    }
    for memory in [unit.orig.memory(orig), unit.patched.memory(patched)] {
        match memory {
            Memory::Plain => {}
            Memory::PerCpu => return Err("each processor has its own copy, and so has one that comes later".into()),
            Memory::Sealed => return Err("the kernel cannot write it any more (const or __ro_after_init)".into()),
            Memory::Init | Memory::Thread | Memory::Named(_) => {
                return Err("it is in memory of a kind of its own".into());
            }
        }
    }
    if !unit.orig.relocs(orig).is_empty() || !unit.patched.relocs(patched).is_empty() {
        return Err("it holds an address".into());
    }
    let (from, to) = (number(&unit.orig, orig), number(&unit.patched, patched));
    let (Some((size, from)), Some((_, to))) = (from, to) else {
        return Err("it is no number of 1, 2, 4 or 8 bytes at a place that suits it".into());
    };
    Ok(NewValue {
        unit: index,
        orig,
        patched,
        size,
        from,
        to,
    })
}

/// The number that a variable begins with, and its width in bytes. No bytes stand for zeros.
fn number<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> Option<(u8, u64)> {
    let row = &object.atoms[atom];
    let size = object.size(atom);
    let width = u8::try_from(size).ok().filter(|width| [1, 2, 4, 8].contains(width))?;
    let aligned = row.start.is_multiple_of(size) && object.sections[row.section].sh_addralign.is_multiple_of(size);
    let mut bytes = object.bytes(atom).get(..size as usize).unwrap_or_default().to_vec();
    bytes.resize(size as usize, 0);
    if !object.arch.facts().big_endian {
        bytes.reverse();
    }
    let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    aligned.then_some((width, value))
}
