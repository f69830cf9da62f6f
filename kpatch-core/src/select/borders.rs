//! Where one variable ends and the next begins.
//!
//! Assemblers write a reference to a static variable as a distance from its section. The end of an array, which loops
//! over it compare with, is then the start of whatever variable comes next. In the object both are one address. With the
//! patch they are not if one of the two variables is the kernel's and the other comes along, or if something stands
//! between them that did not before.
//!
//! Compilers put variables into sections of their own, so this concerns those with a section attribute
//! (`.data..read_mostly`, `.data..percpu`).

use crate::arch::Use;
use crate::compare::{UnitVerdicts, Verdict, is_copied};
use crate::group::{Group, Place, UnitId};
use crate::ids::{Atom, Id, Orig, Patched};
use crate::read::{AtomKind, Reloc, Target};
use crate::select::verdict;

/// Bytes of a number or a pointer. No loop runs over what is not larger.
const WORD: u64 = 8;

/// The variable whose end a function may mean by an address that reads as the start of another, if it matters.
///
/// What is accessed is not the end of anything. A loop begins with the address of the array, so a function that does not
/// take it has no use for its end.
pub fn meant_instead(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    from: (UnitId, Id<Patched, Atom>),
    reloc: &Reloc<Patched>,
    place: &Place<Patched>,
) -> Option<Id<Patched, Atom>> {
    let object = &group.units[from.0].patched;
    let address = reloc.by_section && reloc.usage == Use::Address && place.unit == from.0 && place.delta == 0;
    if !address || object.atoms[from.1].kind != AtomKind::Function {
        return None;
    }
    let before = Id::new(place.atom.index().checked_sub(1)?);
    let (row, next) = (&object.atoms[before], &object.atoms[place.atom]);
    let touching = row.section == next.section && row.end == next.start;
    if !touching || row.kind != AtomKind::Object || row.end - row.start <= WORD {
        return None;
    }
    let takes = |reloc: &Reloc<Patched>| {
        matches!(reloc.target, Target::Atom { atom, .. } if atom == before) && reloc.usage == Use::Address
    };
    let apart = !still_touching(group, verdicts, from.0, before, place.atom);
    (apart && object.relocs(from.1).iter().any(takes)).then_some(before)
}

/// Whether both are the kernel's, where one follows the other as well.
fn still_touching(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    unit: UnitId,
    before: Id<Patched, Atom>,
    next: Id<Patched, Atom>,
) -> bool {
    let kernels = |atom: Id<Patched, Atom>| -> Option<Id<Orig, Atom>> {
        let owner = &group.units[unit];
        let changed = matches!(verdict(verdicts, unit, atom), Verdict::Changed(_));
        owner.pairing.orig_of[atom].filter(|twin| !(changed && is_copied(owner, *twin, atom)))
    };
    let (Some(before), Some(next)) = (kernels(before), kernels(next)) else {
        return false;
    };
    let atoms = &group.units[unit].orig.atoms;
    atoms[before].section == atoms[next].section && atoms[before].end == atoms[next].start
}
