//! What goes into the livepatch, and why; and what cannot.
//!
//! Changed functions are the roots. From them the closure follows every reference: what is new comes along, what has
//! a twin in the kernel is referred to there, what has no name comes along as a copy. Entries of special sections
//! come along with the code they belong to.
//!
//! A pointer to a changed function always means the kernel's own copy. It is tempting to use the new one, but such a
//! pointer may be stored (a timer, a file operation) and then outlives the livepatch; calls through it reach the new
//! code anyway as long as the livepatch is there.

mod account;
mod borders;
mod closure;
mod memory;
mod patchable;
mod renamed;
mod tables;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::arch::RuntimeConst;
use crate::compare::{Difference, UnitVerdicts, Verdict};
use crate::error::{Code, Refusal, Stop};
use crate::group::{Group, ObjectName, Place, UnitId};
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
/// A variable lies in another kind of memory than before, and patched code relies on that.
pub const DATA_MOVED: Code = Code("select.data-moved");
/// A table of functions changed, and objects may hold its address.
pub const OPERATIONS_CHANGED: Code = Code("select.operations-changed");
/// A changed function cannot be redirected.
pub const NO_FTRACE_SITE: Code = Code("select.no-ftrace-site");
/// A part of a function changed, and nobody can tell which function that is.
pub const ORPHAN_PART: Code = Code("select.orphan-part");
/// A global name belongs to another function or variable than before.
pub const NAME_MOVED: Code = Code("select.name-moved");
/// A new global name is one that the kernel has already, for something in another file.
pub const NAME_TAKEN: Code = Code("select.name-taken");
/// A new variable stands where one that vanished stood: it may be the same under another name.
pub const VARIABLE_RENAMED: Code = Code("select.variable-renamed");
/// A new function stands where the address of one was taken that is gone: it may be the same under another name.
pub const FUNCTION_RENAMED: Code = Code("select.function-renamed");
/// A function that may be any of several of the kernel.
pub const AMBIGUOUS_FUNCTION: Code = Code("select.ambiguous-function");
/// A changed static variable that may be any of several.
pub const AMBIGUOUS: Code = Code("select.ambiguous-static");
/// A table that nobody has decided about refers to a changed function.
pub const UNKNOWN_SECTION: Code = Code("select.unknown-section");
/// A constant written at boot is used in a form that a module cannot have.
pub const RUNTIME_CONSTANT: Code = Code("select.runtime-constant");

/// A changed function jumps into its neighbour with a jump too short to be moved.
pub const SHORT_BRANCH: Code = Code("select.short-branch");
/// Something that no step has accounted for: neither in the livepatch, nor the kernel's, nor left out with a reason.
pub const UNACCOUNTED: Code = Code("select.unaccounted");
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

/// The global names of the kernel that runs.
pub(crate) trait KernelNames {
    /// Whether an image has a global symbol of this name.
    fn defines(&self, owner: &ObjectName, name: &str) -> bool;
    /// Whether what is linked into an image can use this name: it is its own, exported, or of the kernel image.
    fn offers(&self, user: &ObjectName, name: &str) -> bool;
}

/// A kernel that nothing is known about.
pub(crate) struct NoKernel;

impl KernelNames for NoKernel {
    fn defines(&self, _: &ObjectName, _: &str) -> bool {
        false
    }

    fn offers(&self, _: &ObjectName, _: &str) -> bool {
        false
    }
}

/// Selects. `others` come along whatever changed, each with its reason; alone they are a livepatch, too. `accepted` names
/// tables of functions that may change, and what is new where something else stood.
///
/// # Errors
/// [`Stop::NoChange`] if there is nothing to select, [`Stop::Refused`] with every reason against it.
pub fn elements<'d>(
    group: &Group<'d>,
    verdicts: &[UnitVerdicts],
    kernel: &dyn KernelNames,
    others: &[(UnitId, Id<Patched, Atom>, Reason)],
    accepted: &[String],
) -> Result<Selection<'d>, Stop> {
    let mut refusals = patchable::check(group, verdicts);
    refusals.extend(renamed::names(group, verdicts, kernel));
    let functions = patchable::changed_functions(group, verdicts);
    let mut ignored = patchable::ignored(group, verdicts);
    let (atoms, more) = closure::close(group, verdicts, kernel, &functions, others);
    refusals.extend(more);
    refusals.extend(tables::unknown(group, verdicts, &atoms));
    refusals.extend(renamed::variables(group, &atoms));
    refusals.extend(renamed::callbacks(group, &atoms));
    refusals.extend(renamed::functions(group, verdicts, &atoms));
    let (moved, stayed) = memory::moved(group, verdicts, &atoms);
    refusals.extend(moved);
    ignored.extend(stayed);
    let (accepted, mut refusals): (Vec<Refusal>, Vec<Refusal>) =
        refusals.into_iter().partition(|refusal| is_accepted(refusal, accepted));
    if !refusals.is_empty() {
        refusals.sort();
        refusals.dedup();
        return Err(Stop::Refused(refusals));
    }
    ignored.extend(account::settle(group, verdicts, &atoms)?);
    ignored.sort();
    ignored.dedup();
    if functions.is_empty() && others.is_empty() {
        return Err(Stop::NoChange(ignored));
    }
    let functions = functions
        .into_iter()
        .filter(|(unit, atom)| !group.units[*unit].patched.is_part(*atom))
        .collect();
    Ok(Selection {
        atoms,
        functions,
        ignored,
        accepted,
    })
}

fn is_accepted(refusal: &Refusal, accepted: &[String]) -> bool {
    [OPERATIONS_CHANGED, VARIABLE_RENAMED, FUNCTION_RENAMED].contains(&refusal.code)
        && accepted.iter().any(|name| refusal.is_about(name))
}

/// The verdict on an atom.
pub(crate) fn verdict(verdicts: &[UnitVerdicts], unit: UnitId, atom: Id<Patched, Atom>) -> &Verdict {
    &verdicts[unit].of[atom]
}

/// Refusals and what was selected so far.
pub(crate) type Closed<'d> = (BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'d>>, Vec<Refusal>);
