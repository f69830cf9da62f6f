//! Patched functions in which a task sleeps for long.
//!
//! A transition waits for every task that is inside a patched function (kernel/livepatch/transition.c,
//! `klp_check_stack`). One that waits there for an event, or a kernel thread whose loop it is, can hold it up for as long as
//! it likes. Whether a function does so stands in its code: which functions of the kernel it calls, itself or through others
//! of the compared units. Waits that end by themselves soon (a lock, a page from the disk) are not meant.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::arch::Use;
use crate::group::{Group, Meaning, ObjectName, UnitId};
use crate::ids::{Atom, Id, Orig, Patched, Side};
use crate::names;
use crate::read::{AtomKind, Object, Target};
use crate::resolve::PatchedFunction;

/// What the loop of a kernel thread asks for (include/linux/kthread.h, include/linux/freezer.h).
const THREAD: [&str; 5] = [
    "kthread_should_stop",
    "kthread_should_park",
    "kthread_freezable_should_stop",
    "kthread_parkme",
    "set_freezable",
];

/// Where the kernel puts a task to sleep until something happens (include/linux/sched.h, wait.h, swait.h, completion.h).
const WAITS: [&str; 4] = ["schedule", "wait_woken", "msleep", "msleep_interruptible"];

/// Starts of the names of others: each comes with and without a time limit, with and without signals.
const WAITS_LIKE: [&str; 8] = [
    "schedule_timeout",
    "schedule_hrtimeout",
    "wait_for_completion",
    "prepare_to_wait",
    "prepare_to_swait",
    "do_wait_intr",
    "__wait_on_bit",
    "out_of_line_wait_on_",
];

/// A patched function in which a task sleeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sleeps {
    /// The object that has the function.
    pub object: ObjectName,
    /// Its name.
    pub name: String,
    /// Whether it is the loop of a kernel thread.
    pub thread: bool,
    /// Whether only the new code sleeps, so that it is the way back that it holds up.
    pub new_code_only: bool,
    /// What puts it to sleep.
    pub calls: BTreeSet<String>,
}

/// The patched functions that sleep, in unit and section order.
pub fn sleeps(group: &Group<'_>, functions: &BTreeMap<(UnitId, Id<Patched, Atom>), PatchedFunction>) -> Vec<Sleeps> {
    let row = |(&(unit, patched), function): (&(UnitId, Id<Patched, Atom>), &PatchedFunction)| {
        let old = group.units[unit].pairing.orig_of[patched];
        let old = old.map_or_else(Found::default, |old| in_old_code(group, (unit, old)));
        let new_code_only = old.calls.is_empty();
        let found = match new_code_only {
            true => in_new_code(group, (unit, patched)),
            false => old,
        };
        (!found.calls.is_empty()).then(|| Sleeps {
            object: function.object.clone(),
            name: names::unpromoted(&function.name).to_owned(),
            thread: found.thread,
            new_code_only,
            calls: found.calls,
        })
    };
    functions.iter().filter_map(row).collect()
}

/// What was found in a function and in what it calls.
#[derive(Default)]
struct Found {
    thread: bool,
    calls: BTreeSet<String>,
}

impl Found {
    fn note(&mut self, name: &str) {
        let thread = THREAD.contains(&name);
        let waits = WAITS.contains(&name) || WAITS_LIKE.iter().any(|start| name.starts_with(start));
        if thread || waits {
            self.thread |= thread;
            self.calls.insert(name.to_owned());
        }
    }
}

fn in_old_code(group: &Group<'_>, function: (UnitId, Id<Orig, Atom>)) -> Found {
    let object = |unit: UnitId| &group.units[unit].orig;
    reached(function, &object, &|unit, target| group.orig_meaning(unit, target))
}

fn in_new_code(group: &Group<'_>, function: (UnitId, Id<Patched, Atom>)) -> Found {
    let object = |unit: UnitId| &group.units[unit].patched;
    reached(function, &object, &|unit, target| group.patched_meaning(unit, target))
}

/// Follows calls from a function through the compared units.
fn reached<'g, 'd: 'g, S: Side>(
    function: (UnitId, Id<S, Atom>),
    object: &dyn Fn(UnitId) -> &'g Object<'d, S>,
    meaning: &dyn Fn(UnitId, &Target<S>) -> Meaning<'d, S>,
) -> Found {
    let mut found = Found::default();
    let mut seen = BTreeSet::from([function]);
    let mut open = vec![function];
    while let Some((unit, atom)) = open.pop() {
        let own = object(unit);
        found.note(own.name(atom).map_or("", names::unpromoted));
        for reloc in own.relocs(atom).iter().filter(|reloc| reloc.usage == Use::Branch) {
            match meaning(unit, &reloc.target) {
                Meaning::Elsewhere { name, .. } => found.note(names::unpromoted(name)),
                Meaning::Here(place) => {
                    let key = (place.unit, place.atom);
                    let is_code = object(key.0).atoms[key.1].kind == AtomKind::Function;
                    if is_code && seen.insert(key) {
                        open.push(key);
                    }
                }
                Meaning::Absolute(_) => {}
            }
        }
    }
    found
}
