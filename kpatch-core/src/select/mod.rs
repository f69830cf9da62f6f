//! What goes into the livepatch, and why; and what cannot.
//!
//! Changed functions are the roots. From them the closure follows every reference: what is new comes along, what has
//! a twin in the kernel is referred to there, what has no name comes along as a copy. Entries of special sections
//! come along with the code they belong to.
//!
//! A pointer to a changed function always means the kernel's own copy. It is tempting to use the new one, but such a
//! pointer may be stored (a timer, a file operation) and then outlives the livepatch; calls through it reach the new
//! code anyway as long as the livepatch is there.

mod borders;
mod closure;
mod patchable;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::arch::RuntimeConst;
use crate::compare::{Difference, UnitVerdicts, Verdict};
use crate::error::{Code, Refusal, Stop};
use crate::group::{Group, Place, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::ignored::Ignored;

pub(crate) use patchable::{tracing_call, tracing_site};

/// Code or data that is gone after boot was changed.
pub const INIT_CODE: Code = Code("select.init-code");
/// New code refers to something that is gone after boot.
pub const INIT_REFERENCE: Code = Code("select.init-reference");
/// A variable's initial content changed.
pub const DATA_CHANGED: Code = Code("select.data-changed");
/// A variable's size changed.
pub const DATA_RESIZED: Code = Code("select.data-resized");
/// A table of functions changed, and objects may hold its address.
pub const OPERATIONS_CHANGED: Code = Code("select.operations-changed");
/// A changed function cannot be redirected.
pub const NO_FTRACE_SITE: Code = Code("select.no-ftrace-site");
/// A changed static variable that may be any of several.
pub const AMBIGUOUS: Code = Code("select.ambiguous-static");
/// A table that nobody has decided about refers to a changed function.
pub const UNKNOWN_SECTION: Code = Code("select.unknown-section");
/// A constant written at boot is used in a form that a module cannot have.
pub const RUNTIME_CONSTANT: Code = Code("select.runtime-constant");

/// A changed function jumps into its neighbour with a jump too short to be moved.
pub const SHORT_BRANCH: Code = Code("select.short-branch");
/// An address that may be the end of one variable or the start of the next, which are apart with the patch.
pub const UNCLEAR_ADDRESS: Code = Code("select.unclear-address");

/// Why something is in the livepatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Reason {
    /// Its twin does something else.
    Changed {
        /// The first difference.
        #[serde(flatten)]
        difference: Difference,
    },
    /// It is new and this refers to it.
    NewFor {
        /// Who.
        name: String,
    },
    /// It has no name of its own and this refers to it.
    CopiedFor {
        /// Who.
        name: String,
    },
    /// The author wants it called when the livepatch is loaded or unloaded.
    Callback,
    /// It is new and global: another object of the livepatch may use it.
    NewGlobal,
    /// It is an entry that belongs to this.
    EntryOf {
        /// Whose.
        name: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Changed { difference } => write!(f, "changed: {difference}"),
            Reason::NewFor { name } => write!(f, "new, used by {name}"),
            Reason::CopiedFor { name } => write!(f, "copied for {name}"),
            Reason::Callback => f.write_str("callback"),
            Reason::NewGlobal => f.write_str("new and global"),
            Reason::EntryOf { name } => write!(f, "entry of {name}"),
        }
    }
}

/// Where a reference of the livepatch leads.
#[derive(Clone, Copy)]
pub enum Link<'d> {
    /// Into the livepatch itself.
    InPatch(Place<Patched>),
    /// To the kernel's copy of something the group knows.
    Twin {
        /// Its unit.
        unit: UnitId,
        /// It.
        atom: Id<Orig, Atom>,
        /// Bytes from its anchor.
        delta: i64,
    },
    /// To something by its global name.
    Name {
        /// The name.
        name: &'d str,
        /// Bytes from it.
        delta: i64,
    },
    /// A number.
    Absolute(i64),
}

/// One atom of the livepatch.
pub struct Selected<'d> {
    /// Why it is in.
    pub reason: Reason,
    /// Where its relocations lead, in their order.
    pub links: Vec<Link<'d>>,
    /// Instructions that must differ from the compiler's.
    pub rewrites: Vec<Rewrite<'d>>,
}

/// An instruction that must differ from the compiler's, with the reference that it then has.
pub struct Rewrite<'d> {
    /// The new bytes and their relocation.
    pub code: RuntimeConst<'d>,
    /// Where the relocation leads.
    pub link: Link<'d>,
}

/// What goes into the livepatch.
pub struct Selection<'d> {
    /// By unit and atom.
    pub atoms: BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'d>>,
    /// The changed functions: what the kernel must redirect.
    pub functions: Vec<(UnitId, Id<Patched, Atom>)>,
    /// Differences left out.
    pub ignored: Vec<Ignored>,
    /// What would have been refused, but was accepted.
    pub accepted: Vec<Refusal>,
}

/// Selects. `accepted` names tables of functions that may change.
///
/// # Errors
/// [`Stop::NoChange`] if no function changed, [`Stop::Refused`] with every reason against it.
pub fn elements<'d>(group: &Group<'d>, verdicts: &[UnitVerdicts], accepted: &[String]) -> Result<Selection<'d>, Stop> {
    elements_with(group, verdicts, &[], accepted)
}

/// The same, with others that come along whatever changed, each with its reason.
///
/// # Errors
/// As [`elements`]; these alone are a livepatch, too.
pub fn elements_with<'d>(
    group: &Group<'d>,
    verdicts: &[UnitVerdicts],
    others: &[(UnitId, Id<Patched, Atom>, Reason)],
    accepted: &[String],
) -> Result<Selection<'d>, Stop> {
    let (accepted, mut refusals): (Vec<Refusal>, Vec<Refusal>) = patchable::check(group, verdicts)
        .into_iter()
        .partition(|refusal| is_accepted(refusal, accepted));
    let functions = patchable::changed_functions(group, verdicts);
    let ignored = patchable::ignored(group, verdicts);
    if functions.is_empty() && refusals.is_empty() && others.is_empty() {
        return Err(Stop::NoChange(ignored));
    }
    let (atoms, more) = closure::close(group, verdicts, &functions, others);
    refusals.extend(more);
    refusals.extend(patchable::unknown_tables(group, &atoms));
    if !refusals.is_empty() {
        refusals.sort();
        refusals.dedup();
        return Err(Stop::Refused(refusals));
    }
    let functions = functions
        .into_iter()
        .filter(|(unit, atom)| !patchable::is_cold_part(group, *unit, *atom))
        .collect();
    Ok(Selection {
        atoms,
        functions,
        ignored,
        accepted,
    })
}

fn is_accepted(refusal: &Refusal, accepted: &[String]) -> bool {
    refusal.code == OPERATIONS_CHANGED && accepted.iter().any(|name| refusal.is_about(name))
}

/// The verdict on an atom.
pub(crate) fn verdict(verdicts: &[UnitVerdicts], unit: UnitId, atom: Id<Patched, Atom>) -> &Verdict {
    &verdicts[unit].of[atom]
}

/// Refusals and what was selected so far.
pub(crate) type Closed<'d> = (BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'d>>, Vec<Refusal>);
