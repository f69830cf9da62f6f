//! Pointers to functions: proven to be good for a call, not assumed.
//!
//! A pointer that the livepatch stores is called later, by anybody. Where indirect calls are checked (IBT, FineIBT,
//! kCFI) a function of the kernel can be their target only if its own file or somebody in the kernel takes its address;
//! a livepatch that is the first to do so gets a pointer that kills the machine at the first call. What the patched
//! units define is then brought along as a copy (see [`crate::select`]); anything else is refused here.
//!
//! Calls and jumps do not land anywhere that is checked, so they need no proof.

use std::collections::{BTreeMap, BTreeSet};

use super::landings::{Checks, Flaw};
use super::{INDIRECT_TARGET, Image, ImageId, KlpSymbol, Route, Target};
use crate::arch::Use;
use crate::error::Refusal;
use crate::group::{Group, Meaning, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::names;
use crate::read::{AtomKind, Reloc};

type Key = (UnitId, Id<Patched, Atom>);

impl Target<'_> {
    /// What the kernel checks at an indirect call, by the image that a function is in.
    fn checks(&self, image: &Image<'_>) -> Checks {
        self.vmlinux.checks().or(image.checks())
    }

    /// Why a function of the kernel must not be called through a pointer; nothing if that is not known.
    pub(crate) fn flaw(&self, image: &Image<'_>, id: ImageId, hash: Option<u32>) -> Option<Flaw> {
        image.flaw(id, self.checks(image), hash)
    }

    /// Whether a pointer must lead to the patched side's own copy, since the kernel's cannot be called through one.
    pub(super) fn needs_copy(&self, unit: &Unit<'_>, orig: Id<Orig, Atom>, patched: Id<Patched, Atom>) -> bool {
        let (before, after) = (unit.orig.entry(orig), unit.patched.entry(patched));
        if before.pad < after.pad || after.hash.is_some() && before.hash != after.hash {
            return true;
        }
        let Some(image) = self.image(&unit.parent) else {
            return false;
        };
        let symbol = image.of_atom(unit, orig);
        symbol.is_some_and(|id| self.flaw(image, id, after.hash).is_some())
    }
}

/// What the pointers of a livepatch lead to.
pub struct Pointers<'a, 'd> {
    pub group: &'a Group<'d>,
    pub target: &'a Target<'d>,
    pub symbols: &'a BTreeMap<String, KlpSymbol>,
}

impl Pointers<'_, '_> {
    /// Every pointer in an atom that must not be called. What has no route is refused already. `addressed` collects
    /// functions without a landing pad whose address the original code takes all the same: it has another use for it
    /// than a call.
    pub fn check(&self, key: Key, routes: &[Option<Route>], addressed: &mut BTreeSet<String>) -> Vec<Refusal> {
        let object = &self.group.units[key.0].patched;
        let row = &object.atoms[key.1];
        // Rows of tables describe code; nobody calls what they point at.
        if row.kind == AtomKind::Entry {
            return Vec::new();
        }
        let mut refusals = Vec::new();
        for (reloc, route) in object.relocs(key.1).iter().zip(routes) {
            let Some(Route::Symbol { name, delta: 0 }) = route else {
                continue;
            };
            let Some(flaw) = self.flaw(key.0, reloc, name) else {
                continue;
            };
            let readable = names::readable(self.symbols.get(name).map_or(name, |symbol| &symbol.name));
            if flaw != Flaw::Sealed && self.is_taken_before(key.0, reloc) {
                addressed.insert(self.symbols.get(name).map_or(name, |symbol| &symbol.name).clone());
                continue;
            }
            let at = object.subject(key.1).offset(reloc.offset.saturating_sub(row.anchor));
            let why = format!("it takes the address of `{readable}`, and an indirect call of that is fatal: {flaw}");
            refusals.push(Refusal::new(INDIRECT_TARGET, at, why).hint(format!(
                "take the address of a new function instead that only calls `{readable}`"
            )));
        }
        refusals
    }

    fn flaw(&self, unit: UnitId, reloc: &Reloc<Patched>, name: &str) -> Option<Flaw> {
        if reloc.usage != Use::Address {
            return None;
        }
        let (image, id) = match self.symbols.get(name) {
            Some(symbol) => {
                let image = self.target.image(&symbol.owner)?;
                (image, image.find(&symbol.name, symbol.sympos)?)
            }
            None => {
                let image = self.target.image(&self.target.exports.get(name)?.owner)?;
                (image, *image.global(name).first()?)
            }
        };
        self.target.flaw(image, id, self.expected(unit, reloc))
    }

    /// The hash that the code expects: of the definition that the patched units have, or what the compiler noted about
    /// the declaration.
    fn expected(&self, unit: UnitId, reloc: &Reloc<Patched>) -> Option<u32> {
        match self.group.patched_meaning(unit, &reloc.target) {
            Meaning::Here(place) => self.group.units[place.unit].patched.entry(place.atom).hash,
            Meaning::Elsewhere { name, .. } => self.group.units[unit].patched.declared_hash(name),
            Meaning::Absolute(_) => None,
        }
    }

    /// Whether the original code of some unit takes the same address.
    fn is_taken_before(&self, unit: UnitId, reloc: &Reloc<Patched>) -> bool {
        let meant = self.group.patched_meaning(unit, &reloc.target);
        let same = |of: UnitId, other: &Reloc<Orig>| {
            other.usage == Use::Address
                && match (&meant, self.group.orig_meaning(of, &other.target)) {
                    (Meaning::Elsewhere { name, .. }, Meaning::Elsewhere { name: before, delta: 0 }) => *name == before,
                    (Meaning::Here(place), Meaning::Here(before)) => {
                        let pairing = &self.group.units[place.unit].pairing;
                        before.unit == place.unit
                            && before.delta == 0
                            && pairing.orig_of[place.atom] == Some(before.atom)
                    }
                    _ => false,
                }
        };
        self.group.units.iter().enumerate().any(|(of, unit)| {
            let atoms = unit.orig.atoms.iter();
            let live = atoms.filter(|(_, row)| row.kind != AtomKind::Entry);
            live.flat_map(|(id, _)| unit.orig.relocs(id))
                .any(|other| same(of, other))
        })
    }
}
