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
mod boot;
mod borders;
mod closure;
mod detours;
mod memory;
mod outlive;
mod patchable;
mod red_zones;
mod renamed;
mod tables;
pub(crate) mod untraced;
pub(crate) mod values;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::Author;
use crate::arch::{DetourCode, RuntimeConst};
use crate::compare::{Difference, UnitVerdicts, Verdict};
use crate::error::{Refusal, Stop};
use crate::group::{Group, ObjectName, Place, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::ignored::Ignored;

pub(crate) use patchable::{tracing_call, tracing_site};

pub use crate::codes::select::{
    AMBIGUOUS, AMBIGUOUS_FUNCTION, BPF_IDENTIFIERS, DATA_CHANGED, DATA_MOVED, DATA_RESIZED, EXPORTED_UNTRACED,
    FUNCTION_RENAMED, INIT_CODE, INIT_REFERENCE, NAME_MOVED, NAME_TAKEN, NO_FTRACE_SITE, OPERATIONS_CHANGED,
    ORPHAN_PART, OUTLIVES, RUNTIME_CONSTANT, SHORT_BRANCH, UNACCOUNTED, UNCLEAR_ADDRESS, UNKNOWN_SECTION,
    UNSEEN_OLD_CODE, VARIABLE_RENAMED,
};
/// Why something is in the livepatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Reason {
    /// Its twin does something else.
    Changed {
        /// The first difference from the original.
        #[serde(flatten)]
        difference: Difference,
    },
    /// It does the same as before and calls this, which changed and cannot be traced.
    Calls {
        /// Name of the function that it calls.
        name: String,
    },
    /// It is new and this refers to it.
    NewFor {
        /// Name of the atom that refers to it.
        name: String,
    },
    /// It has no name of its own and this refers to it.
    CopiedFor {
        /// Name of the atom that refers to it.
        name: String,
    },
    /// The author wants it called when the livepatch is loaded or unloaded.
    Callback,
    /// It is new and global: another object of the livepatch may use it.
    NewGlobal,
    /// It is an entry that belongs to this.
    EntryOf {
        /// Name of the function or variable that the entry belongs to.
        name: String,
    },
}

impl Reason {
    /// What needs it, if that is why it is in.
    pub fn user(&self) -> Option<&str> {
        match self {
            Reason::NewFor { name } | Reason::CopiedFor { name } | Reason::EntryOf { name } => Some(name),
            Reason::Changed { .. } | Reason::Calls { .. } | Reason::Callback | Reason::NewGlobal => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Changed { difference } => write!(f, "changed: {difference}"),
            Reason::Calls { name } => write!(f, "calls {name}, which cannot be traced"),
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
        /// The unit that the atom is in.
        unit: UnitId,
        /// The original atom that the reference leads to.
        atom: Id<Orig, Atom>,
        /// Bytes from its anchor.
        delta: i64,
    },
    /// To something by its global name.
    Name {
        /// The name to look up in the kernel.
        name: &'d str,
        /// Distance in bytes from the symbol.
        delta: i64,
    },
    /// A number that is no address.
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
    /// Calls behind a function's code, where its jumps lead.
    pub detours: Vec<Detour<'d>>,
}

/// A call at the end of a function that takes the place of jumps to another one, so that the function stays on the stack.
pub struct Detour<'d> {
    /// The code.
    pub code: DetourCode,
    /// Where its relocations lead, in their order.
    pub links: Vec<Link<'d>>,
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
    /// What the kernel must redirect: changed functions, and callers of those that it cannot redirect.
    pub functions: Vec<(UnitId, Id<Patched, Atom>)>,
    /// Changed functions and callers of theirs that only callers reach, since the tracer cannot redirect them.
    pub carried: Vec<(UnitId, Id<Patched, Atom>)>,
    /// Variables that have another number while the livepatch is there.
    pub values: Vec<values::NewValue>,
    /// Differences that the livepatch need not carry.
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
    /// Whether modules may use this name of the kernel image.
    fn exports(&self, name: &str) -> bool;
    /// Whether a pointer to a function must lead to the patched side's own copy, since the kernel's cannot be called
    /// through one.
    fn needs_copy(&self, unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> bool;
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

    fn exports(&self, _: &str) -> bool {
        false
    }

    fn needs_copy(&self, _: &Unit<'_>, _: Id<Orig, Atom>, _: Id<Patched, Atom>) -> bool {
        false
    }
}

/// How the selected code becomes a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// objtool runs on the linked module: code may be added.
    Objtool,
    /// objtool has run, and its tables are copied.
    Copied,
}

/// Selects. `others` come along whatever changed, each with its reason; alone they are a livepatch, too.
///
/// # Errors
/// [`Stop::NoChange`] if there is nothing to select, [`Stop::BootOnly`] if boot code changes and nothing else,
/// [`Stop::Refused`] with every reason against it.
pub fn elements<'d>(
    group: &Group<'d>,
    verdicts: &[UnitVerdicts],
    kernel: &dyn KernelNames,
    others: &[(UnitId, Id<Patched, Atom>, Reason)],
    author: &Author<'_>,
    finish: Finish,
) -> Result<Selection<'d>, Stop> {
    let mut refusals = patchable::check(group, verdicts, author.accepted);
    let values = values::judge(group, verdicts, author, finish);
    refusals.extend(values.refusals.iter().cloned());
    refusals.extend(renamed::names(group, verdicts, kernel));
    let untraced = untraced::reach(group, verdicts, kernel, author);
    refusals.extend(untraced.refusals.iter().cloned());
    let changed = patchable::changed_functions(group, verdicts);
    let functions: Vec<_> = changed.into_iter().chain(untraced.callers.keys().copied()).collect();
    let mut ignored = patchable::ignored(group, verdicts);
    let (mut atoms, more) = closure::close(group, verdicts, kernel, &functions, &untraced, others);
    refusals.extend(more);
    refusals.extend(tables::unknown(group, verdicts, &atoms));
    refusals.extend(outlive::check(group, &functions));
    refusals.extend(renamed::variables(group, &atoms));
    refusals.extend(renamed::callbacks(group, &atoms));
    refusals.extend(renamed::functions(group, verdicts, &atoms));
    let (moved, stayed) = memory::moved(group, verdicts, &atoms);
    refusals.extend(moved);
    ignored.extend(stayed);
    let counts = !functions.is_empty() || !others.is_empty() || !values.new.is_empty();
    let boot = boot::judge(group, verdicts, author, finish, counts);
    refusals.extend(boot.refusals);
    let whole = functions
        .into_iter()
        .filter(|(unit, atom)| !group.units[*unit].patched.is_part(*atom));
    let (carried, functions): (Vec<_>, Vec<_>) = whole.partition(|key| untraced.carried.contains(key));
    refusals.extend(detours::make(group, &mut atoms, &functions, &untraced.carried, finish));
    let (mut accepted, mut refusals): (Vec<Refusal>, Vec<Refusal>) = refusals
        .into_iter()
        .partition(|refusal| is_accepted(refusal, author.accepted));
    if !refusals.is_empty() {
        refusals.sort();
        refusals.dedup();
        return Err(Stop::Refused(refusals));
    }
    ignored.extend(tables::dead(group));
    ignored.extend(red_zones::missing(group, &atoms));
    ignored.extend(account::settle(group, verdicts, &atoms, &values.atoms())?);
    ignored.sort();
    ignored.dedup();
    accepted.extend(values.accepted);
    if !counts && boot.differs {
        return Err(Stop::BootOnly(ignored));
    }
    if !counts {
        return Err(Stop::NoChange(ignored));
    }
    Ok(Selection {
        atoms,
        functions,
        carried,
        values: values.new,
        ignored,
        accepted,
    })
}

fn is_accepted(refusal: &Refusal, accepted: &[String]) -> bool {
    ([
        OPERATIONS_CHANGED,
        OUTLIVES,
        VARIABLE_RENAMED,
        FUNCTION_RENAMED,
        UNSEEN_OLD_CODE,
        EXPORTED_UNTRACED,
        INIT_CODE,
    ]
    .contains(&refusal.code)
        || tables::is_row_of_called(refusal))
        && accepted.iter().any(|name| refusal.is_about(name))
}

/// The verdict on an atom.
pub(crate) fn verdict(verdicts: &[UnitVerdicts], unit: UnitId, atom: Id<Patched, Atom>) -> &Verdict {
    &verdicts[unit].of[atom]
}

/// Refusals and what was selected so far.
pub(crate) type Closed<'d> = (BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'d>>, Vec<Refusal>);
