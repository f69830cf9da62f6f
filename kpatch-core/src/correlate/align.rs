//! Two versions of a function side by side: which reference of the one is which of the other.
//!
//! References to what is already known (functions, strings, paired variables) are landmarks. A variable that stands
//! between the same landmarks on both sides is the same, whatever its counter.

use std::collections::BTreeSet;

use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Object, Reloc, Target};

use super::Pairing;

/// More cells than these take too long; of such functions nothing is paired.
const MOST_CELLS: usize = 4_000_000;

/// What a reference leads to.
#[derive(PartialEq, Eq)]
enum Mark<'d> {
    /// A string, from the place on.
    Text(&'d [u8]),
    /// A name: of another file, or of a function without a twin.
    Name(&'d str),
    /// Twins, by the original.
    Twin(Id<Orig, Atom>),
}

/// One reference of a function.
enum Step<'d, S> {
    Landmark(Mark<'d>),
    /// A variable that waits for its twin, with the name of its group; a constant also with its content.
    Open(&'d str, Id<S, Atom>, Option<&'d [u8]>),
}

/// The open variables that stand at the same place on both sides, in order of use.
pub fn open_pairs<'d>(
    (orig, function): (&Object<'d, Orig>, Id<Orig, Atom>),
    (patched, twin): (&Object<'d, Patched>, Id<Patched, Atom>),
    pairing: &Pairing,
) -> Vec<(Id<Orig, Atom>, Id<Patched, Atom>)> {
    let orig_steps = steps(orig, function, |atom| pairing.patched_of[atom].map(|_| atom));
    let patched_steps = steps(patched, twin, |atom| pairing.orig_of[atom]);
    // Most functions did not change.
    let all = 0..orig_steps.len();
    if orig_steps.len() == patched_steps.len()
        && all
            .clone()
            .all(|step| weight(&orig_steps, &patched_steps, step, step) > 0)
    {
        let open = |step: usize| match (&orig_steps[step], &patched_steps[step]) {
            (Step::Open(_, orig_atom, _), Step::Open(_, patched_atom, _)) => Some((*orig_atom, *patched_atom)),
            _ => None,
        };
        return all.filter_map(open).collect();
    }
    if orig_steps.len().saturating_mul(patched_steps.len()) > MOST_CELLS {
        return Vec::new();
    }
    let best = table(&orig_steps, &patched_steps);
    // Of several ways that are as good, one takes what comes first on each side and one what comes last: what both have
    // in common does not depend on the choice.
    let early = walk(&orig_steps, &patched_steps, &best, true);
    let late: BTreeSet<_> = walk(&orig_steps, &patched_steps, &best, false).into_iter().collect();
    early.into_iter().filter(|pair| late.contains(pair)).collect()
}

/// The open variables that one of the best ways through the table pairs.
fn walk(
    orig_steps: &[Step<'_, Orig>],
    patched_steps: &[Step<'_, Patched>],
    best: &[Vec<u32>],
    early: bool,
) -> Vec<(Id<Orig, Atom>, Id<Patched, Atom>)> {
    let (mut orig_at, mut patched_at) = (0, 0);
    let mut pairs = Vec::new();
    while orig_at < orig_steps.len() && patched_at < patched_steps.len() {
        let here = best[orig_at][patched_at];
        let both = weight(orig_steps, patched_steps, orig_at, patched_at);
        let is_match = both > 0 && here == both + best[orig_at + 1][patched_at + 1];
        let (skip_orig, skip_patched) = (
            here == best[orig_at + 1][patched_at],
            here == best[orig_at][patched_at + 1],
        );
        if is_match && (early || !(skip_orig || skip_patched)) {
            if let (Step::Open(_, orig_atom, _), Step::Open(_, patched_atom, _)) =
                (&orig_steps[orig_at], &patched_steps[patched_at])
            {
                pairs.push((*orig_atom, *patched_atom));
            }
            (orig_at, patched_at) = (orig_at + 1, patched_at + 1);
        } else if skip_orig && (early || !skip_patched) {
            orig_at += 1;
        } else {
            patched_at += 1;
        }
    }
    pairs
}

/// The references of a function in order. `twin` gives the original of what is paired.
fn steps<'d, S: Side>(
    object: &Object<'d, S>,
    function: Id<S, Atom>,
    twin: impl Fn(Id<S, Atom>) -> Option<Id<Orig, Atom>>,
) -> Vec<Step<'d, S>> {
    let relocs = object.relocs(function).iter();
    relocs.filter_map(|reloc| step(object, reloc, &twin)).collect()
}

fn step<'d, S: Side>(
    object: &Object<'d, S>,
    reloc: &Reloc<S>,
    twin: &impl Fn(Id<S, Atom>) -> Option<Id<Orig, Atom>>,
) -> Option<Step<'d, S>> {
    let (atom, delta) = match reloc.target {
        Target::Atom { atom, delta } => (atom, delta),
        Target::Extern { symbol, .. } => {
            let name = names::unpromoted(object.symbols[symbol].name);
            return Some(Step::Landmark(Mark::Name(name)));
        }
        Target::Absolute(_) => return None,
    };
    match (object.atoms[atom].kind, twin(atom)) {
        (AtomKind::Function | AtomKind::Object, Some(twin)) => Some(Step::Landmark(Mark::Twin(twin))),
        (AtomKind::Function, None) => Some(Step::Landmark(Mark::Name(names::stable(object.name(atom)?)))),
        (AtomKind::Object, None) => {
            let content = object.class(atom).is_constant().then(|| object.bytes(atom));
            Some(Step::Open(names::stable(object.name(atom)?), atom, content))
        }
        (AtomKind::String, _) => {
            let from = usize::try_from(delta).ok()?;
            Some(Step::Landmark(Mark::Text(object.bytes(atom).get(from..)?)))
        }
        _ => None,
    }
}

/// How much it counts that two references are the same: a string tells more than the calls around it, and an open variable
/// of one group little, but for what stands behind it (in front of the first stands the call of the tracer, always).
fn weight(
    orig_steps: &[Step<'_, Orig>],
    patched_steps: &[Step<'_, Patched>],
    orig_at: usize,
    patched_at: usize,
) -> u32 {
    match (&orig_steps[orig_at], &patched_steps[patched_at]) {
        (Step::Landmark(orig), Step::Landmark(patched)) if orig == patched => match orig {
            Mark::Text(_) => 6,
            Mark::Name(_) | Mark::Twin(_) => 2,
        },
        // A constant with another content is another, or has changed: its place does not tell.
        (Step::Open(orig_name, _, Some(orig)), Step::Open(patched_name, _, Some(patched))) => {
            6 * u32::from(orig_name == patched_name && orig == patched)
        }
        (Step::Open(orig_name, _, None), Step::Open(patched_name, _, None)) if orig_name == patched_name => {
            let same = |orig: Option<&Step<'_, Orig>>, patched: Option<&Step<'_, Patched>>| match (orig, patched) {
                (Some(Step::Landmark(orig)), Some(Step::Landmark(patched))) => orig == patched,
                _ => false,
            };
            let behind = same(orig_steps.get(orig_at + 1), patched_steps.get(patched_at + 1));
            1 + 2 * u32::from(behind)
        }
        _ => 0,
    }
}

/// For each pair of places the most that can be the same from there on (longest common subsequence).
fn table(orig_steps: &[Step<'_, Orig>], patched_steps: &[Step<'_, Patched>]) -> Vec<Vec<u32>> {
    let mut best = vec![vec![0; patched_steps.len() + 1]; orig_steps.len() + 1];
    for orig_at in (0..orig_steps.len()).rev() {
        for patched_at in (0..patched_steps.len()).rev() {
            let both = weight(orig_steps, patched_steps, orig_at, patched_at);
            let with = if both > 0 {
                both + best[orig_at + 1][patched_at + 1]
            } else {
                0
            };
            best[orig_at][patched_at] = with
                .max(best[orig_at + 1][patched_at])
                .max(best[orig_at][patched_at + 1]);
        }
    }
    best
}
