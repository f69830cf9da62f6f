//! Clones of one function (`f.constprop.3`, `f.constprop.4`).
//!
//! Their numbers move with every clone that the compiler makes before them, so the same number may be another clone, with
//! other parameters. What has the same bytes is the same; a last one on each side is the one that changed; and if both
//! sides have the same numbers, these have not moved. Whatever stays open is new to the comparison, and then its callers
//! are changed, which is more than needed but never wrong. Functions that only a table leads to have no callers: these
//! are paired in their order, and what stays open of them is refused ([`crate::select`]).

use std::collections::BTreeMap;

use super::scopes::Scope;
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
            if let ([orig], [patched]) = (&group.orig[..], &group.patched[..]) {
                self.pairing.pair(*orig, *patched);
            } else {
                self.pair_same_names(&group);
            }
        }
    }

    /// Pairs what was split off or copied from something that was itself (`f.isra.3.part.4`): then more than the last number
    /// has moved.
    pub(super) fn pair_clones_of_clones(&mut self, single: impl Fn(Scope, &'d str) -> bool) {
        let groups = self.open(|scope, name| {
            let wanted = single(scope, name) && names::unnumbered(name).len() < names::stable(name).len();
            wanted.then(|| (scope, names::unnumbered(name)))
        });
        for mut group in groups {
            self.pair_equal_bytes(&mut group);
            if let ([orig], [patched]) = (&group.orig[..], &group.patched[..]) {
                self.pairing.pair(*orig, *patched);
            }
        }
    }

    /// `__UNIQUE_ID_quirk41`: if both sides have equally many, the n-th is the n-th, whatever number it has.
    fn pair_in_order_of_counters(&mut self, group: &mut Candidates) {
        let counter = |name: Option<&str>| names::unique_number(name?);
        let orig_counted: Option<BTreeMap<u64, _>> = group
            .orig
            .iter()
            .map(|id| Some((counter(self.orig.name(*id))?, *id)))
            .collect();
        let patched_counted: Option<BTreeMap<u64, _>> = group
            .patched
            .iter()
            .map(|id| Some((counter(self.patched.name(*id))?, *id)))
            .collect();
        let (Some(orig_counted), Some(patched_counted)) = (orig_counted, patched_counted) else {
            return;
        };
        if orig_counted.len() != patched_counted.len()
            || orig_counted.len() != group.orig.len()
            || patched_counted.len() != group.patched.len()
        {
            return;
        }
        for (orig, patched) in orig_counted.into_values().zip(patched_counted.into_values()) {
            self.pairing.pair(orig, patched);
        }
        group.orig.clear();
        group.patched.clear();
    }

    /// Pairs those whose bytes only one other has, and takes them out of the group.
    fn pair_equal_bytes(&mut self, group: &mut Candidates) {
        let mut by_bytes: BTreeMap<&[u8], Candidates> = BTreeMap::new();
        for orig in &group.orig {
            by_bytes.entry(self.orig.bytes(*orig)).or_default().orig.push(*orig);
        }
        for patched in &group.patched {
            by_bytes
                .entry(self.patched.bytes(*patched))
                .or_default()
                .patched
                .push(*patched);
        }
        for equal in by_bytes.into_values() {
            if let ([orig], [patched]) = (&equal.orig[..], &equal.patched[..]) {
                self.pairing.pair(*orig, *patched);
            }
        }
        group.orig.retain(|orig| self.pairing.patched_of[*orig].is_none());
        group.patched.retain(|patched| self.pairing.orig_of[*patched].is_none());
    }

    fn pair_same_names(&mut self, group: &Candidates) {
        let named = |orig: &Id<Orig, Atom>| Some((names::unpromoted(self.orig.name(*orig)?), *orig));
        let orig_by_name: BTreeMap<&str, Id<Orig, Atom>> = group.orig.iter().filter_map(named).collect();
        let twin = |patched: &Id<Patched, Atom>| {
            let name = names::unpromoted(self.patched.name(*patched)?);
            Some((*orig_by_name.get(name)?, *patched))
        };
        let twins: Vec<_> = group.patched.iter().filter_map(twin).collect();
        if twins.len() == group.orig.len() && twins.len() == group.patched.len() {
            twins
                .into_iter()
                .for_each(|(orig, patched)| self.pairing.pair(orig, patched));
        }
    }
}
