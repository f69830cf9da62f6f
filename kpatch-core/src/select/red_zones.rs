//! Variables and constants of the livepatch that KASAN does not watch the borders of.
//!
//! In a kernel with KASAN each file registers its variables when it is loaded. The list has all of the file's, those that stay
//! the kernel's as well, and a livepatch has none of its own. Its memory counts as accessible then: nothing is reported
//! that is right, and nothing that is wrong by a few bytes behind a new variable. Whoever boots a fix on such a
//! kernel to see whether it is right must know that.

use std::collections::BTreeMap;

use super::Selected;
use crate::group::{Group, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::ignored::Ignored;
use crate::names;
use crate::read::AtomKind;

const WHY: &str = "new in a kernel with KASAN: it has no red zone, so accesses behind its end are not reported";

/// A line for each variable of the livepatch in a file that registers its own.
pub fn missing(group: &Group<'_>, atoms: &BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'_>>) -> Vec<Ignored> {
    let new = atoms.keys().filter(|(unit, atom)| {
        let object = &group.units[*unit].patched;
        object.registers && object.atoms[*atom].kind == AtomKind::Object
    });
    new.map(|(unit, atom)| Ignored {
        unit: group.units[*unit].name.clone(),
        name: names::readable(&group.units[*unit].patched.label(*atom)),
        why: WHY.to_owned(),
    })
    .collect()
}
