//! Clones of one function (`f.constprop.3`, `f.constprop.4`).
//!
//! Their numbers move with every clone that the compiler makes before them, so the same number may be another clone, with
//! other parameters. What has the same bytes is the same; a last one on each side is the one that changed; and if both
//! sides have the same numbers, these have not moved. Whatever stays open is new to the comparison, and then its callers
//! are changed, which is more than needed but never wrong. Functions that only a table leads to have no callers: these
//! are paired in their order, and what stays open of them is refused ([`crate::select`]).

use std::collections::BTreeMap;

use super::statics::Counted;
use super::{ByName, Candidates};
use crate::ids::Atom;
use crate::ids::{Id, Orig, Patched};
use crate::names;

impl<'d> ByName<'_, 'd> {
    /// Pairs the functions whose stable names several functions of a scope have. Parts (`.cold`) follow their function.
    pub(super) fn pair_clones(&mut self, counted: &Counted<'d>) {
        let groups = self.open(|scope, name| {
            let stable = names::stable(name);
            let clone = names::cold_parent(name).is_none() && counted.contains(scope, stable);
            clone.then_some((scope, stable))
        });
        for mut group in groups {
            self.pair_in_order_of_counters(&mut group);
            self.pair_equal_bytes(&mut group);
            if let ([one], [other]) = (&group.ours[..], &group.theirs[..]) {
                self.pairing.pair(*one, *other);
            } else {
                self.pair_same_names(&group);
            }
        }
    }

    /// `__UNIQUE_ID_quirk41`: the preprocessor counts up through the file (`__COUNTER__`), so if both sides have equally
    /// many, the n-th is the n-th, whatever number it has.
    fn pair_in_order_of_counters(&mut self, group: &mut Candidates) {
        let counter = |name: Option<&str>| {
            let (_, counted) = names::unpromoted(name?).split_once("__UNIQUE_ID_")?;
            let stem = counted.trim_end_matches(|c: char| c.is_ascii_digit());
            counted[stem.len()..].parse::<u64>().ok()
        };
        let ours: Option<BTreeMap<u64, _>> = group
            .ours
            .iter()
            .map(|id| Some((counter(self.orig.name(*id))?, *id)))
            .collect();
        let theirs: Option<BTreeMap<u64, _>> = group
            .theirs
            .iter()
            .map(|id| Some((counter(self.patched.name(*id))?, *id)))
            .collect();
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            return;
        };
        if ours.len() != theirs.len() || ours.len() != group.ours.len() || theirs.len() != group.theirs.len() {
            return;
        }
        for (one, other) in ours.into_values().zip(theirs.into_values()) {
            self.pairing.pair(one, other);
        }
        group.ours.clear();
        group.theirs.clear();
    }

    /// Pairs those whose bytes only one other has, and takes them out of the group.
    fn pair_equal_bytes(&mut self, group: &mut Candidates) {
        let mut by_bytes: BTreeMap<&[u8], Candidates> = BTreeMap::new();
        for one in &group.ours {
            by_bytes.entry(self.orig.bytes(*one)).or_default().ours.push(*one);
        }
        for other in &group.theirs {
            by_bytes
                .entry(self.patched.bytes(*other))
                .or_default()
                .theirs
                .push(*other);
        }
        for equal in by_bytes.into_values() {
            if let ([one], [other]) = (&equal.ours[..], &equal.theirs[..]) {
                self.pairing.pair(*one, *other);
            }
        }
        group.ours.retain(|one| self.pairing.patched_of[*one].is_none());
        group.theirs.retain(|other| self.pairing.orig_of[*other].is_none());
    }

    fn pair_same_names(&mut self, group: &Candidates) {
        let named = |one: &Id<Orig, Atom>| Some((names::unpromoted(self.orig.name(*one)?), *one));
        let ours: BTreeMap<&str, Id<Orig, Atom>> = group.ours.iter().filter_map(named).collect();
        let twin = |other: &Id<Patched, Atom>| {
            let name = names::unpromoted(self.patched.name(*other)?);
            Some((*ours.get(name)?, *other))
        };
        let twins: Vec<_> = group.theirs.iter().filter_map(twin).collect();
        if twins.len() == group.ours.len() && twins.len() == group.theirs.len() {
            twins.into_iter().for_each(|(one, other)| self.pairing.pair(one, other));
        }
    }
}
