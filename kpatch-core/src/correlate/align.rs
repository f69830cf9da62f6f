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
    let ours = steps(orig, function, |atom| pairing.patched_of[atom].map(|_| atom));
    let theirs = steps(patched, twin, |atom| pairing.orig_of[atom]);
    // Most functions did not change.
    let all = 0..ours.len();
    if ours.len() == theirs.len() && all.clone().all(|step| weight(&ours, &theirs, step, step) > 0) {
        let open = |step: usize| match (&ours[step], &theirs[step]) {
            (Step::Open(_, from, _), Step::Open(_, to, _)) => Some((*from, *to)),
            _ => None,
        };
        return all.filter_map(open).collect();
    }
    if ours.len().saturating_mul(theirs.len()) > MOST_CELLS {
        return Vec::new();
    }
    let best = table(&ours, &theirs);
    // Of several ways that are as good, one takes what comes first on each side and one what comes last: what both have
    // in common does not depend on the choice.
    let early = walk(&ours, &theirs, &best, true);
    let late: BTreeSet<_> = walk(&ours, &theirs, &best, false).into_iter().collect();
    early.into_iter().filter(|pair| late.contains(pair)).collect()
}

/// The open variables that one of the best ways through the table pairs.
fn walk(
    ours: &[Step<'_, Orig>],
    theirs: &[Step<'_, Patched>],
    best: &[Vec<u32>],
    early: bool,
) -> Vec<(Id<Orig, Atom>, Id<Patched, Atom>)> {
    let (mut one, mut other) = (0, 0);
    let mut pairs = Vec::new();
    while one < ours.len() && other < theirs.len() {
        let here = best[one][other];
        let both = weight(ours, theirs, one, other);
        let is_match = both > 0 && here == both + best[one + 1][other + 1];
        let (skip_one, skip_other) = (here == best[one + 1][other], here == best[one][other + 1]);
        if is_match && (early || !(skip_one || skip_other)) {
            if let (Step::Open(_, from, _), Step::Open(_, to, _)) = (&ours[one], &theirs[other]) {
                pairs.push((*from, *to));
            }
            (one, other) = (one + 1, other + 1);
        } else if skip_one && (early || !skip_other) {
            one += 1;
        } else {
            other += 1;
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
fn weight(ours: &[Step<'_, Orig>], theirs: &[Step<'_, Patched>], one: usize, other: usize) -> u32 {
    match (&ours[one], &theirs[other]) {
        (Step::Landmark(one), Step::Landmark(other)) if one == other => match one {
            Mark::Text(_) => 6,
            Mark::Name(_) | Mark::Twin(_) => 2,
        },
        // A constant with another content is another, or has changed: its place does not tell.
        (Step::Open(from, _, Some(one)), Step::Open(to, _, Some(other))) => 6 * u32::from(from == to && one == other),
        (Step::Open(from, _, None), Step::Open(to, _, None)) if from == to => {
            let same = |one: Option<&Step<'_, Orig>>, other: Option<&Step<'_, Patched>>| match (one, other) {
                (Some(Step::Landmark(one)), Some(Step::Landmark(other))) => one == other,
                _ => false,
            };
            let behind = same(ours.get(one + 1), theirs.get(other + 1));
            1 + 2 * u32::from(behind)
        }
        _ => 0,
    }
}

/// For each pair of places the most that can be the same from there on (longest common subsequence).
fn table(ours: &[Step<'_, Orig>], theirs: &[Step<'_, Patched>]) -> Vec<Vec<u32>> {
    let mut best = vec![vec![0; theirs.len() + 1]; ours.len() + 1];
    for one in (0..ours.len()).rev() {
        for other in (0..theirs.len()).rev() {
            let both = weight(ours, theirs, one, other);
            let with = if both > 0 { both + best[one + 1][other + 1] } else { 0 };
            best[one][other] = with.max(best[one + 1][other]).max(best[one][other + 1]);
        }
    }
    best
}
