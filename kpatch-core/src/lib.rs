//! Compares original and patched objects and produces the objects of a livepatch.
//!
//! [`build_patch`] is the whole of it; each phase is a module and each result a type:
//!
//! ```text
//! bytes ── read ──> Object ── correlate ──> Pairing ── compare ──> Verdicts ── select ──> Selection
//!                                                                                            │
//!          module  <── klp::convert ── (link, objtool) ── emit <── Routes <── resolve ───────┘
//! ```
//!
//! There is no process, no network and no clock in here: bytes in, bytes out, the same bytes for the same input.

#![deny(missing_docs)]

pub mod arch;
pub mod compare;
pub mod correlate;
pub mod elf;
pub mod emit;
pub mod error;
pub mod group;
pub mod ids;
pub mod intermediate;
pub mod klp;
pub mod names;
pub mod read;
pub mod report;
pub mod resolve;
pub mod select;
pub mod shipped;

use std::collections::{BTreeMap, BTreeSet};

pub use error::{Code, Error, Refusal, Stop, Subject};
pub use group::{Input, ObjectName};

use emit::Emitted;
use group::Group;
use report::Element;
use resolve::{KlpSymbol, PatchedFunction, Target};
use select::Ignored;

/// A livepatch that has not been linked yet.
#[derive(Debug)]
pub struct Patch {
    /// One object for each unit that has something to say.
    pub objects: Vec<Emitted>,
    /// The functions to redirect.
    pub functions: Vec<PatchedFunction>,
    /// Undefined symbols that stand for symbols of the kernel.
    pub symbols: BTreeMap<String, KlpSymbol>,
    /// Namespaces to import.
    pub namespaces: BTreeSet<String>,
    /// Everything that is in, with the reason.
    pub elements: Vec<Element>,
    /// Differences that were left out, with the reason.
    pub ignored: Vec<Ignored>,
}

/// Compares the units and produces the objects of a livepatch for a kernel.
///
/// # Errors
/// [`Stop::NoChange`] if nothing that runs changed; [`Stop::Refused`] with every reason against it; [`Stop::Failed`]
/// for damaged input.
pub fn build_patch(inputs: &[Input<'_>], target: &Target<'_>) -> Result<Patch, Stop> {
    let group = Group::read(inputs)?;
    let verdicts = compare::group(&group, compare::Lines::Count);
    let selection = select::elements(&group, &verdicts)?;
    let routes = resolve::references(&group, &selection, target)?;
    let objects = emit::objects(&group, &verdicts, &selection, &routes);
    let elements = report::elements(&group, &selection, &routes);
    let mut ignored = selection.ignored;
    ignored.extend(routes.ignored);
    Ok(Patch {
        objects,
        functions: routes.functions.into_values().collect(),
        symbols: routes.symbols,
        namespaces: routes.namespaces,
        elements,
        ignored,
    })
}
