//! Hands the pairs to the differ, and puts together all that speaks against a livepatch.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use kpatch_core::resolve::Target;
use kpatch_core::{Author, Ignored, Input, Patch, Refusal, Stop, World};

use crate::build::acceptance;
use crate::build::inlining::Trail;
use crate::build::kernel_symbols;
use crate::build::layouts::{self, Declared};
use crate::build::no_lto;
use crate::build::on_stack::OnStack;
use crate::build::pairs::{Pairs, UnitPair};
use crate::outcome::Ending;

/// What was found out before, and what the user answers for.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// Structures that lie otherwise in memory with the patch, and functions with other parameters.
    pub declared: &'a Declared,
    /// Which of the structures are on stacks only.
    pub on_stack: &'a OnStack,
    /// How the change got where it is.
    pub trail: &'a Trail,
    /// What is accepted by name.
    pub accept: &'a [String],
    /// The whole image, if it was looked at.
    pub world: Option<&'a World<'a>>,
}

impl<'a> Before<'a> {
    /// Before the whole image was looked at.
    pub fn new(declared: &'a Declared, on_stack: &'a OnStack, trail: &'a Trail, accept: &'a [String]) -> Self {
        Before {
            declared,
            on_stack,
            trail,
            accept,
            world: None,
        }
    }
}

/// The livepatch, and what would have been refused but for the user.
pub type Compared = Result<(Patch, Vec<Refusal>)>;

/// Compares all pairs. What would have been refused, but for the user's answering for it, comes along.
///
/// # Errors
/// [`Ending::Refused`] with everything that speaks against the livepatch at once, [`Ending::NoChange`] or [`Ending::BootOnly`].
pub fn compare(pairs: &Pairs, target: &Target<'_>, before: &Before<'_>) -> Compared {
    let prototypes = before.declared.prototypes.iter();
    let signatures = prototypes.filter_map(|change| layouts::signature(change, &target.exports));
    let declared = declared_otherwise(before.declared, before.on_stack, before.accept).chain(signatures);
    let (mut accepted, against) = acceptance::split(declared, before.accept);
    let mut patch = all_refusals(differ(pairs, target, before), against)?;
    let refusals = (before.on_stack).settle(&before.declared.layouts, before.accept, pairs, &mut patch)?;
    if !refusals.is_empty() {
        return Err(Ending::Refused(refusals).into());
    }
    accepted.extend(patch.accepted.iter().cloned());
    let unused = acceptance::unused(before.accept, &accepted);
    if unused.is_empty() {
        Ok((patch, accepted))
    } else {
        Err(Ending::Refused(unused).into())
    }
}

/// Refusals of structures, and of operations of modules, whatever else the patch changes.
pub fn declared_otherwise<'a>(
    declared: &'a Declared,
    on_stack: &'a OnStack,
    accept: &'a [String],
) -> impl Iterator<Item = Refusal> + 'a {
    let structures = declared.layouts.iter();
    let structures = structures.filter_map(|change| on_stack.refusal(change, accept));
    structures.chain(declared.operations.iter().filter_map(layouts::operation))
}

/// What the differ found, and what else was found before it.
fn all_refusals(compared: Result<Patch>, against: Vec<Refusal>) -> Result<Patch> {
    let mut refusals = against;
    let patch = match compared {
        Ok(patch) => Some(patch),
        Err(error) => match error.downcast::<Ending>()? {
            Ending::Refused(more) => {
                refusals.extend(more);
                None
            }
            other => return Err(other.into()),
        },
    };
    patch
        .filter(|_| refusals.is_empty())
        .ok_or_else(|| Ending::Refused(refusals).into())
}

/// The objects of a pair.
pub struct Bytes {
    orig: Option<Vec<u8>>,
    patched: Vec<u8>,
    shipped: Option<Vec<u8>>,
}

impl Bytes {
    /// Those of all pairs.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn of(pairs: &Pairs) -> Result<Vec<Bytes>> {
        pairs.pairs.iter().map(Bytes::read).collect()
    }

    fn read(pair: &UnitPair) -> Result<Bytes> {
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(Bytes {
            orig: pair.orig.as_ref().map(read).transpose()?,
            patched: read(&pair.patched)?,
            shipped: pair.shipped.as_ref().map(read).transpose()?,
        })
    }
}

fn differ(pairs: &Pairs, target: &Target<'_>, before: &Before<'_>) -> Result<Patch> {
    let bytes = Bytes::of(pairs)?;
    let inputs = inputs(pairs, &bytes);
    let author = Author {
        accepted: before.accept,
        edits: before.trail.in_bodies.as_ref(),
        world: before.world,
    };
    kpatch_core::build_patch(&inputs, target, &author).map_err(|stop| match stop {
        Stop::NoChange(ignored) => {
            let why = left_out("no function's code changed", &ignored, &pairs.notes);
            Ending::NoChange(why).into()
        }
        Stop::BootOnly(ignored) => {
            let what = "nothing but boot code changes, and this boot is over; there is nothing to load";
            Ending::BootOnly(left_out(what, &ignored, &pairs.notes)).into()
        }
        Stop::Refused(refusals) => {
            let refusals = refusals.into_iter().map(no_lto::nops::in_inline_assembly).collect();
            Ending::Refused(before.trail.explain(refusals)).into()
        }
        Stop::Failed(error) => anyhow::Error::new(error),
    })
}

/// The pairs as the differ takes them.
pub fn inputs<'a>(pairs: &Pairs, bytes: &'a [Bytes]) -> Vec<Input<'a>> {
    pairs.pairs.iter().zip(bytes).map(input).collect()
}

fn input<'a>((pair, bytes): (&UnitPair, &'a Bytes)) -> Input<'a> {
    Input {
        name: pair.unit.clone(),
        parent: kernel_symbols::object_name(&pair.parent),
        orig: bytes.orig.as_deref(),
        patched: &bytes.patched,
        shipped: bytes.shipped.as_deref(),
    }
}

fn left_out(what: &str, ignored: &[Ignored], notes: &[String]) -> String {
    let left = ignored
        .iter()
        .filter(|ignored| is_news(ignored))
        .map(|one| format!("\n  {}: {}: {}", one.unit, one.name, one.why));
    let notes = notes.iter().map(|note| format!("\n  {note}"));
    left.chain(notes).fold(what.to_owned(), |text, line| text + &line)
}

/// Whether something that was left out tells a person anything. What `__ADDRESSABLE()` of include/linux/compiler.h makes
/// so that a static function is kept has a number in its name, does nothing, and shows up whenever a number before it
/// changes.
pub fn is_news(ignored: &Ignored) -> bool {
    !ignored.name.starts_with("__UNIQUE_ID___addressable_")
}
