//! What is new by its name only: a global name that the kernel has already, a variable that had another name, a function
//! that nobody can tell from others. To take such things for new would give the livepatch a second copy of what the
//! kernel goes on using, or lose the change.

use std::collections::BTreeMap;

use super::{AMBIGUOUS_FUNCTION, FUNCTION_RENAMED, KernelNames, NAME_MOVED, NAME_TAKEN, Selected, VARIABLE_RENAMED};
use crate::arch::Use;
use crate::compare::{UnitVerdicts, Verdict};
use crate::error::Refusal;
use crate::group::{Group, Unit, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Class, Object, Target};

/// Global names that mean something else than before.
pub fn names(group: &Group<'_>, verdicts: &[UnitVerdicts], kernel: &dyn KernelNames) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (unit, verdicts) in group.units.iter().zip(verdicts) {
        let moved = unit.pairing.moved.iter();
        refusals.extend(moved.map(|(atom, name)| name_moved(unit, *atom, name)));
        for (atom, verdict) in verdicts.of.iter() {
            if *verdict == Verdict::New {
                refusals.extend(name_taken(unit, atom, kernel));
            }
        }
    }
    refusals
}

/// Nothing in the sections tells that a name went elsewhere, and its users in other files keep what they had.
fn name_moved(unit: &Unit<'_>, atom: Id<Patched, Atom>, name: &str) -> Refusal {
    let why = format!("`{name}` named something else before, and its users in other files would not notice the change");
    Refusal::new(NAME_MOVED, unit.patched.subject(atom).symbol(name), why)
        .hint("keep the name where it is, and change what the function does")
}

/// A definition that went from one file to another, or takes the place of a weak one. Users that are not part of the
/// livepatch stay with the kernel's.
fn name_taken(unit: &Unit<'_>, atom: Id<Patched, Atom>, kernel: &dyn KernelNames) -> Option<Refusal> {
    let object = &unit.patched;
    let row = &object.atoms[atom];
    let mut symbols = row.symbol.iter().chain(&row.aliases).map(|id| &object.symbols[*id]);
    let taken = symbols.find(|symbol| !symbol.is_local() && kernel.defines(&unit.parent, symbol.name))?;
    let why = format!(
        "`{}` is new here, and {} has it from another file, which the rest of the kernel goes on using",
        taken.name, unit.parent
    );
    Some(
        Refusal::new(NAME_TAKEN, object.subject(atom).symbol(taken.name), why)
            .hint("change it in the file that has it, or give the new one a name of its own"),
    )
}

/// New variables that stand in a function where one stood that is gone: the kernel's may have gathered something that
/// a new one lacks.
pub fn variables(group: &Group<'_>, atoms: &BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'_>>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (unit, atom) in atoms.keys() {
        let owner = &group.units[*unit];
        let object = &owner.patched;
        let new = owner.pairing.orig_of[*atom].is_none() && is_variable(object, *atom);
        let once = object.name(*atom).is_some_and(names::is_said_once);
        if !new || once || owner.pairing.ambiguous.contains_key(atom) {
            continue;
        }
        if let Some(former) = former(owner, *atom).or_else(|| pieces(owner, *atom)) {
            let (name, former) = (object.label(*atom), owner.orig.label(former));
            let name = names::readable(&name);
            let why = format!("it is new, and stands where `{former}` stood, whose content it would not have");
            refusals.push(Refusal::new(VARIABLE_RENAMED, object.subject(*atom), why).hint(format!(
                "if it is the same variable, keep its name; if it is another one, accept it with --accept {name}"
            )));
        }
    }
    refusals
}

fn is_variable<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> bool {
    object.atoms[atom].kind == AtomKind::Object && matches!(object.class(atom), Class::Data | Class::PerCpu)
}

/// A variable that vanished, as large as the new one, of which a function had the one and has the other.
fn former(unit: &Unit<'_>, patched: Id<Patched, Atom>) -> Option<Id<Orig, Atom>> {
    let row = &unit.patched.atoms[patched];
    let vanished: Vec<Id<Orig, Atom>> = unit
        .orig
        .atoms
        .iter()
        .filter(|(id, orig)| {
            unit.pairing.patched_of[*id].is_none()
                && is_variable(&unit.orig, *id)
                && unit.orig.class(*id) == unit.patched.class(patched)
                && orig.end - orig.start == row.end - row.start
        })
        .map(|(id, _)| id)
        .collect();
    if vanished.is_empty() {
        return None;
    }
    unit.pairing.orig_of.iter().find_map(|(function, twin)| {
        let twin = twin.filter(|_| refers(&unit.patched, function, patched))?;
        vanished.iter().copied().find(|orig| refers(&unit.orig, twin, *orig))
    })
}

/// LLVM takes a static structure apart where nobody needs it as a whole (GlobalOpt, `name.0`, `name.1`, ...): the whole
/// variable and its pieces are the same.
fn pieces(unit: &Unit<'_>, patched: Id<Patched, Atom>) -> Option<Id<Orig, Atom>> {
    let name = names::stable(unit.patched.name(patched)?);
    let mut gone = unit
        .orig
        .atoms
        .ids()
        .filter(|id| unit.pairing.patched_of[*id].is_none());
    gone.find(|id| is_variable(&unit.orig, *id) && unit.orig.name(*id).map(names::stable) == Some(name))
}

fn refers<S: Side>(object: &Object<'_, S>, from: Id<S, Atom>, to: Id<S, Atom>) -> bool {
    let mut relocs = object.relocs(from).iter();
    relocs.any(|reloc| matches!(reloc.target, Target::Atom { atom, .. } if atom == to))
}

/// New functions whose address a patched function takes where it took that of one that is gone. Whoever keeps it would
/// call into the livepatch, and what it had kept before stays with the kernel's copy.
pub fn callbacks(group: &Group<'_>, atoms: &BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'_>>) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (index, from) in atoms.keys() {
        let unit = &group.units[*index];
        let Some(twin) = unit.pairing.orig_of[*from] else {
            continue;
        };
        let mut former = addresses(&unit.orig, twin).into_iter();
        let Some(former) = former.find(|to| unit.pairing.patched_of[*to].is_none()) else {
            continue;
        };
        let new = addresses(&unit.patched, *from).into_iter();
        for to in new.filter(|to| unit.pairing.orig_of[*to].is_none()) {
            let (from, former) = (unit.patched.label(*from), unit.orig.label(former));
            let label = unit.patched.label(to);
            let name = names::readable(&label);
            let why = format!("it is new, and `{from}` hands out its address instead of that of `{former}`");
            refusals.push(Refusal::new(FUNCTION_RENAMED, unit.patched.subject(to), why).hint(format!(
                "if it is the same function, keep its name; if nobody keeps the address, accept it with --accept {name}"
            )));
        }
    }
    refusals
}

/// The functions whose address an atom has.
fn addresses<S: Side>(object: &Object<'_, S>, from: Id<S, Atom>) -> Vec<Id<S, Atom>> {
    let targets = object.relocs(from).iter().filter_map(|reloc| match reloc.target {
        Target::Atom { atom, delta: 0 } if reloc.usage == Use::Address => Some(atom),
        _ => None,
    });
    targets.filter(|to| is_function(object, *to)).collect()
}

/// New functions that nothing selected refers to, while the kernel has one of the same name but for a counter
/// (`__UNIQUE_ID_quirk41`): a table may lead to them, and a change in one would be lost.
pub fn functions(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    atoms: &BTreeMap<(UnitId, Id<Patched, Atom>), Selected<'_>>,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (index, unit) in group.units.iter().enumerate() {
        let gone: BTreeMap<&str, Id<Orig, Atom>> = unit
            .pairing
            .patched_of
            .iter()
            .filter(|(id, twin)| twin.is_none() && is_function(&unit.orig, *id))
            .filter_map(|(id, _)| Some((names::stable(unit.orig.name(id)?), id)))
            .collect();
        for (atom, verdict) in verdicts[index].of.iter() {
            let lost =
                *verdict == Verdict::New && is_function(&unit.patched, atom) && !atoms.contains_key(&(index, atom));
            let Some(name) = unit.patched.name(atom).filter(|_| lost) else {
                continue;
            };
            if let Some(former) = gone.get(names::stable(name)) {
                let why = format!(
                    "it may be the kernel's `{}`, or another of that name, and nothing in the patched functions tells",
                    unit.orig.label(*former)
                );
                refusals.push(
                    Refusal::new(AMBIGUOUS_FUNCTION, unit.patched.subject(atom), why)
                        .hint("make the change without adding or removing one of these functions"),
                );
            }
        }
    }
    refusals
}

fn is_function<S: Side>(object: &Object<'_, S>, atom: Id<S, Atom>) -> bool {
    object.atoms[atom].kind == AtomKind::Function && object.class(atom) == Class::Text && !object.is_part(atom)
}
