//! Whether code can reach what it refers to from where a livepatch lies.
//!
//! What was in the same file, or in the same image, may now be in another module. Where functions share a module
//! pointer, a call that leaves the module needs more than one that stays in it, and data of another module cannot be
//! named by its distance from that pointer.

use super::{NO_MODULE_POINTER, NO_RESTORE, Route, SIBLING_CALL, TOO_FAR};
use crate::arch::{BadExit, RelocKind, Use};
use crate::codes::Code;
use crate::error::Refusal;
use crate::group::{Group, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::names;
use crate::read::{AtomKind, Object, Reloc};

/// Everything in an atom that cannot be reached the way it is written; what has no route is refused already.
pub fn check(group: &Group<'_>, key: (UnitId, Id<Patched, Atom>), routes: &[Option<Route>]) -> Vec<Refusal> {
    let object = &group.units[key.0].patched;
    let relocs = object.relocs(key.1).iter().zip(routes);
    relocs
        .filter_map(|(reloc, route)| refuse(object, key.1, reloc, route.as_ref()?))
        .collect()
}

fn refuse(
    object: &Object<'_, Patched>,
    atom: Id<Patched, Atom>,
    reloc: &Reloc<Patched>,
    route: &Route,
) -> Option<Refusal> {
    let Route::Symbol { name, delta } = route else {
        return None;
    };
    let arch = object.arch;
    if arch.facts().loader.is_own_in_each_module(name) {
        return None;
    }
    let readable = names::readable(name);
    let row = &object.atoms[atom];
    let refusal = |code: Code, why: String, hint: &str| {
        let at = object.subject(atom).offset(reloc.offset.saturating_sub(row.anchor));
        Some(Refusal::new(code, at, why).hint(hint))
    };
    if matches!(reloc.kind, RelocKind::TocRelative { .. }) && !reloc.by_slot {
        let why = format!("`{readable}` is named by its distance from the TOC");
        return refusal(TOO_FAR, why, "compile both sides with -mcmodel=small or -mcmodel=large");
    }
    if reloc.usage != Use::Branch || arch.facts().tracing.is_callee(name) {
        return None;
    }
    match arch.check_exit(object.bytes(atom), reloc.offset - row.start) {
        Err(BadExit::NoRestore) => {
            let why = format!("no nop follows the call of `{readable}`, which is outside the livepatch");
            return refusal(
                NO_RESTORE,
                why,
                "compile both sides with a nop behind each call of a function",
            );
        }
        Err(BadExit::NotACall) => {
            let why = format!("it jumps to `{readable}`, which is outside the livepatch");
            return refusal(SIBLING_CALL, why, "compile both sides with -fno-optimize-sibling-calls");
        }
        Ok(()) => {}
    }
    if !arch.facts().has_module_pointer {
        return None;
    }
    if *delta != 0 {
        let why = format!("it branches into `{readable}`, which is outside the livepatch");
        return refusal(SIBLING_CALL, why, "change the code so that it calls functions only");
    }
    // A part split off a function runs with what its function has set up.
    let part = object.is_part(atom);
    let bare = row.kind == AtomKind::Function && !part && object.local_entry(atom) == 0;
    let why = || format!("it calls `{readable}` without having set up r2, which the way there is computed from");
    if bare {
        refusal(NO_MODULE_POINTER, why(), "call it from another function")
    } else {
        None
    }
}
