//! Jumps from redirected functions to carried ones become calls.
//!
//! Before livepatch takes code away it looks at the stack of each task for the functions that it redirects
//! (kernel/livepatch/transition.c, `klp_check_stack_func`, 6.1 to 7.3). It does not know the functions that they call: it
//! relies on the caller's being on the stack below them. After a jump it is not, and a task that sleeps in the function
//! behind it runs freed memory once the module is gone. So such a jump goes to a call behind the caller's own code, within
//! its symbol, from where livepatch measures the function (kernel/livepatch/core.c, `klp_init_object_loaded`).

use std::collections::{BTreeMap, BTreeSet};

use super::{Detour, Finish, Link, OUTLIVES, Selected};
use crate::arch::{CodePiece, Leads, Use};
use crate::error::Refusal;
use crate::group::{Group, Place, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::names;
use crate::read::{AtomKind, Object, Target};

type Key = (UnitId, Id<Patched, Atom>);
type Atoms<'d> = BTreeMap<Key, Selected<'d>>;

/// Makes the detours of all redirected functions, and refuses the jumps that cannot have one.
pub fn make<'d>(
    group: &Group<'d>,
    atoms: &mut Atoms<'d>,
    functions: &[Key],
    carried: &BTreeSet<Key>,
    finish: Finish,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if carried.is_empty() {
        return refusals;
    }
    for function in functions {
        for (from, index, to) in jumps(group, atoms, *function, carried) {
            match detour(group, atoms, *function, to, finish) {
                Some(place) if from.1 == function.1 || group.units[from.0].patched.is_part(from.1) => {
                    if let Some(selected) = atoms.get_mut(&from) {
                        selected.links[index] = Link::InPatch(place);
                    }
                }
                _ => refusals.push(refuse(group, *function, to)),
            }
        }
    }
    refusals
}

/// The jumps to carried functions in a redirected one, in its parts and in code that replaces some of it: where each is,
/// which of the references there, and where it leads.
fn jumps(group: &Group<'_>, atoms: &Atoms<'_>, function: Key, carried: &BTreeSet<Key>) -> Vec<(Key, usize, Key)> {
    let object = &group.units[function.0].patched;
    let parts = object.parts();
    let own = parts
        .iter()
        .filter(|(parent, _)| *parent == function.1)
        .map(|(_, part)| *part);
    let own: BTreeSet<Id<Patched, Atom>> = own.chain([function.1]).collect();
    let mut code: Vec<Id<Patched, Atom>> = own.iter().copied().collect();
    for (key, _) in atoms.iter().filter(|(key, _)| key.0 == function.0) {
        let piece = object.atoms[key.1].kind == AtomKind::Piece;
        code.extend((piece && replaces(object, key.1, &own)).then_some(key.1));
    }
    let mut found = Vec::new();
    for from in code {
        let Some(selected) = atoms.get(&(function.0, from)) else {
            continue;
        };
        let start = object.atoms[from].start;
        for (index, (reloc, link)) in object.relocs(from).iter().zip(&selected.links).enumerate() {
            let Link::InPatch(place) = link else { continue };
            let to = (place.unit, place.atom);
            let leaves = reloc.usage == Use::Branch && !object.arch.is_call(object.bytes(from), reloc.offset - start);
            if leaves && carried.contains(&to) {
                found.push(((function.0, from), index, to));
            }
        }
    }
    found
}

/// Whether a piece is replacement code for some of a function, by its code or a row about it.
fn replaces(object: &Object<'_, Patched>, piece: Id<Patched, Atom>, own: &BTreeSet<Id<Patched, Atom>>) -> bool {
    object.atoms.ids().any(|atom| {
        let about =
            own.contains(&atom) || crate::compare::owner(object, atom).is_some_and(|owner| own.contains(&owner));
        let leads = |target: &Target<Patched>| matches!(target, Target::Atom { atom, .. } if *atom == piece);
        about && object.relocs(atom).iter().any(|reloc| leads(&reloc.target))
    })
}

/// The place of a call of one function behind another's code. A jump leaves the stack as it was, so what the function
/// finds there in front of its return address would be elsewhere behind a call.
fn detour<'d>(
    group: &Group<'d>,
    atoms: &mut Atoms<'d>,
    function: Key,
    to: Key,
    finish: Finish,
) -> Option<Place<Patched>> {
    let object = &group.units[function.0].patched;
    if finish != Finish::Objtool
        || !object
            .arch
            .has_all_arguments_in_registers(&pieces(&group.units[to.0].patched, to.1))
    {
        return None;
    }
    let row = &object.atoms[function.1];
    let place = |length: usize| Place {
        unit: function.0,
        atom: function.1,
        delta: (row.end - row.anchor) as i64 + length as i64,
    };
    let detours = &mut atoms.get_mut(&function)?.detours;
    let mut length = 0;
    for known in detours.iter() {
        if matches!(known.links.first(), Some(Link::InPatch(place)) if (place.unit, place.atom) == to) {
            return Some(place(length));
        }
        length += known.code.bytes.len();
    }
    let refers = |name: &str| object.symbols.iter().any(|(_, symbol)| symbol.name == name);
    let code = object.arch.detour(&refers)?;
    let entry = Place {
        unit: to.0,
        atom: to.1,
        delta: 0,
    };
    let back = code.back.as_ref().map(|(_, name)| Link::Name { name, delta: 0 });
    let links = [Link::InPatch(entry)].into_iter().chain(back).collect();
    detours.push(Detour { code, links });
    Some(place(length))
}

/// The code of a function and its parts.
fn pieces<'d>(object: &Object<'d, Patched>, function: Id<Patched, Atom>) -> Vec<CodePiece<'d>> {
    let parts = object.parts();
    let own = parts
        .iter()
        .filter(|(parent, _)| *parent == function)
        .map(|(_, part)| *part);
    let own: Vec<Id<Patched, Atom>> = [function].into_iter().chain(own).collect();
    let leads = |target: &Target<Patched>| match *target {
        Target::Atom { atom, delta } => match own.iter().position(|own| *own == atom) {
            Some(piece) if delta >= 0 => Leads::Inside(piece, delta as u64),
            _ => Leads::Out(object.name(atom).unwrap_or_default()),
        },
        Target::Extern { symbol, .. } => Leads::Out(object.symbols[symbol].name),
        Target::Absolute(_) => Leads::Out(""),
    };
    let piece = |atom: &Id<Patched, Atom>| {
        let row = &object.atoms[*atom];
        let relocs = object.relocs(*atom).iter();
        let branches = relocs.filter(|reloc| reloc.usage == Use::Branch && reloc.offset >= row.anchor);
        CodePiece {
            code: object
                .bytes(*atom)
                .get((row.anchor - row.start) as usize..)
                .unwrap_or_default(),
            branches: branches
                .map(|reloc| (reloc.offset - row.anchor, leads(&reloc.target)))
                .collect(),
        }
    };
    own.iter().map(piece).collect()
}

fn refuse(group: &Group<'_>, function: Key, to: Key) -> Refusal {
    let object = &group.units[to.0].patched;
    let name = object.name(to.1).map_or("?", names::unpromoted);
    let by = names::readable(&group.units[function.0].patched.label(function.1));
    let why = format!("`{by}` goes on to it by a jump, so a task may still run it when the livepatch is gone");
    Refusal::new(OUTLIVES, object.subject(to.1), why).hint(format!(
        "let `{by}` do something after the call; or accept it with --accept {name}, and the module can never be removed"
    ))
}
