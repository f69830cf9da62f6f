//! Functions that a task may still run when the kernel no longer counts it.
//!
//! A transition is over when no task in the list runs the old code (kernel/livepatch/transition.c,
//! `klp_try_complete_transition`). A task that ends leaves that list in `release_task()` and goes on for a while:
//! whatever is on its stack then stays in use, and once the livepatch's module is removed the task runs freed memory.
//! What is on the stack of an ending task are functions that do not return, and those that take it off the list. Neither
//! is found by its name, but by its code: it has no way back to its caller, or it is a step of such a function that calls
//! `release_task()`, or one behind that step.

use std::collections::BTreeSet;

use super::OUTLIVES;
use crate::arch::Use;
use crate::error::Refusal;
use crate::group::{Group, Meaning, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::names;
use crate::read::{AtomKind, Class, Object, Target};

type Key = (UnitId, Id<Patched, Atom>);

/// The function that takes a task off the list (kernel/exit.c, all versions).
const RELEASE: &str = "release_task";

/// A refusal for each changed function that outlives the transition.
pub fn check(group: &Group<'_>, functions: &[Key]) -> Vec<Refusal> {
    let mut ends = BTreeSet::new();
    for (index, unit) in group.units.iter().enumerate() {
        // Decoding is not free: where nothing takes a task off the list, only what changed is looked at.
        let object = &unit.patched;
        let all = object.symbols.iter().any(|(_, symbol)| symbol.name == RELEASE);
        let changed: BTreeSet<_> = functions.iter().filter(|(of, _)| *of == index).collect();
        if all || !changed.is_empty() {
            let wanted = |atom| all || changed.contains(&(index, atom));
            ends.extend(never_return(object, &wanted).into_iter().map(|atom| (index, atom)));
        }
    }
    let steps = steps(group, &ends);
    let refuse = |key: &Key| {
        let object = &group.units[key.0].patched;
        // A function and its parts change together.
        if object.is_part(key.1) {
            return None;
        }
        let key = *key;
        let name = object.name(key.1).map_or("?", names::unpromoted);
        let why = if ends.contains(&key) {
            "it does not return"
        } else if name == RELEASE || steps.contains(&key) {
            "a task that ends runs it when it is off the list of tasks"
        } else {
            return None;
        };
        let why = format!("{why}, so it may still run when the livepatch is gone");
        Some(Refusal::new(OUTLIVES, object.subject(key.1), why).hint(format!(
            "change a function that it calls before; or accept it with --accept {name}, and the module can never be \
             removed"
        )))
    };
    functions.iter().filter_map(refuse).collect()
}

/// The wanted functions of an object that have no way back to their caller.
fn never_return(object: &Object<'_, Patched>, wanted: &dyn Fn(Id<Patched, Atom>) -> bool) -> Vec<Id<Patched, Atom>> {
    let parts = object.parts();
    let functions = object.atoms.iter().filter(|(id, row)| {
        let whole = row.kind == AtomKind::Function && !object.is_part(*id);
        whole && wanted(*id) && object.class(*id) != Class::Init
    });
    let endless = functions.filter(|(id, _)| {
        let own = parts.iter().filter(|(parent, _)| parent == id).map(|(_, part)| *part);
        let all: BTreeSet<Id<Patched, Atom>> = own.chain([*id]).collect();
        all.iter().all(|atom| !leaves(object, *atom, &all))
    });
    endless.map(|(id, _)| id).collect()
}

/// Whether code can go back to the caller of its function, or on to another function in its place. `own` are the parts of
/// the function.
fn leaves(object: &Object<'_, Patched>, atom: Id<Patched, Atom>, own: &BTreeSet<Id<Patched, Atom>>) -> bool {
    let row = &object.atoms[atom];
    let code = object.bytes(atom);
    let code = code.get((row.anchor - row.start) as usize..).unwrap_or_default();
    let relocs = object.relocs(atom).iter().filter(|reloc| reloc.offset >= row.anchor);
    let relocs: Vec<_> = relocs.collect();
    let offsets: Vec<u64> = relocs.iter().map(|reloc| reloc.offset - row.anchor).collect();
    // An architecture that cannot tell is taken to return.
    let Some(exits) = object.arch.exits(code, &offsets) else {
        return true;
    };
    let mut jumps = exits.jumps.iter().map(|index| &relocs[*index].target);
    let inside = |target: &Target<Patched>| matches!(target, Target::Atom { atom, .. } if own.contains(atom));
    exits.returns || code.is_empty() || jumps.any(|target| !inside(target))
}

/// The functions of the patched units that an ending function calls and that take the task off the list, and those that
/// only it calls behind them.
fn steps(group: &Group<'_>, ends: &BTreeSet<Key>) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    for (unit, end) in ends {
        let mut released = false;
        for reloc in group.units[*unit].patched.relocs(*end) {
            if reloc.usage != Use::Branch {
                continue;
            }
            let Meaning::Here(place) = group.patched_meaning(*unit, &reloc.target) else {
                continue;
            };
            let callee = (place.unit, place.atom);
            released |= place.delta == 0 && releases(group, callee);
            if released && !ends.contains(&callee) && callers(group, callee) == BTreeSet::from([(*unit, *end)]) {
                found.insert(callee);
            }
        }
    }
    found
}

/// Whether a function is the one that takes a task off the list, or calls it.
fn releases(group: &Group<'_>, (unit, atom): Key) -> bool {
    let object = &group.units[unit].patched;
    let named = |of: UnitId, target: &Target<Patched>| match group.patched_meaning(of, target) {
        Meaning::Here(place) => group.units[place.unit].patched.name(place.atom) == Some(RELEASE),
        Meaning::Elsewhere { name, .. } => name == RELEASE,
        Meaning::Absolute(_) => false,
    };
    let mut calls = object.relocs(atom).iter().filter(|reloc| reloc.usage == Use::Branch);
    object.name(atom) == Some(RELEASE) || calls.any(|reloc| named(unit, &reloc.target))
}

/// The functions of the patched units that refer to a function.
fn callers(group: &Group<'_>, callee: Key) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    for (index, unit) in group.units.iter().enumerate() {
        for (id, _) in unit.patched.atoms.iter().filter(|(_, row)| row.kind != AtomKind::Entry) {
            let refers = unit.patched.relocs(id).iter().any(|reloc| {
                matches!(group.patched_meaning(index, &reloc.target), Meaning::Here(place) if (place.unit, place.atom) == callee)
            });
            if refers && (index, id) != callee {
                found.insert((index, id));
            }
        }
    }
    found
}
