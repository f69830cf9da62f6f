//! How far a transition is, and which tasks hold it up.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::kernel::Kernel;
use crate::livepatch::{Livepatch, State};
use crate::machine::Machine;
use crate::threads::{self, Thread};

/// As many tasks are named in a message.
const NAMED: usize = 5;

/// How often the kernel is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// A task that has not changed over yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// Its number (a thread's own).
    pub task: u32,
    /// Its name, as ps(1) shows it.
    pub name: String,
    /// `R`, `S`, `D` and so on, as in proc(5).
    pub state: char,
    /// The patched function that it is in, or the one it sleeps in; none if the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Its stack, innermost function first, as far as the kernel tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<String>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Blocker { task, name, state, .. } = self;
        write!(f, "{name} (task {task}, state {state})")?;
        match &self.function {
            Some(function) => write!(f, " in {function}"),
            None => Ok(()),
        }
    }
}

/// What waiting for a transition came to.
#[derive(Debug)]
pub enum Waited {
    /// It is over.
    Done,
    /// It is still under way.
    Stalled(Vec<Blocker>),
    /// It went the other way: somebody turned it round.
    TurnedRound,
}

/// Waits until a livepatch is in effect, at most so long.
pub fn until_in_effect(machine: &Machine, kernel: &dyn Kernel, name: &str, limit: Duration) -> Waited {
    let begun = kernel.elapsed();
    loop {
        match machine.livepatch(name).map(|livepatch| livepatch.state) {
            Some(State::InEffect) => return Waited::Done,
            Some(State::Enabling) => {}
            Some(State::Disabling | State::Disabled) | None => return Waited::TurnedRound,
        }
        if kernel.elapsed().saturating_sub(begun) >= limit {
            return Waited::Stalled(blockers(machine, name));
        }
        kernel.sleep(PAUSE);
    }
}

/// Waits until a livepatch is off. Since 5.1 the kernel forgets a livepatch when its functions are out; before, it keeps
/// it as disabled.
pub fn until_off(machine: &Machine, kernel: &dyn Kernel, name: &str, limit: Duration) -> Waited {
    let begun = kernel.elapsed();
    loop {
        match machine.livepatch(name).map(|livepatch| livepatch.state) {
            None | Some(State::Disabled) => return Waited::Done,
            Some(State::Disabling) => {}
            Some(State::InEffect | State::Enabling) => return Waited::TurnedRound,
        }
        if kernel.elapsed().saturating_sub(begun) >= limit {
            return Waited::Stalled(blockers(machine, name));
        }
        kernel.sleep(PAUSE);
    }
}

/// Asks the kernel to hurry the rest. Kernels before 5.1 have an attribute for it; later ones signal the tasks that are
/// left every 15 seconds on their own (kernel/livepatch/transition.c, `SIGNALS_TIMEOUT`).
pub fn nudge(machine: &Machine, kernel: &dyn Kernel, livepatch: &Livepatch) -> std::io::Result<bool> {
    let has = machine.has_attribute(&livepatch.name, "signal");
    if has {
        machine.write_attribute(kernel, &livepatch.name, "signal", "1")?;
    }
    Ok(has)
}

/// The tasks that a transition waits for: those that are not where it leads (`patch_state` in proc(5): 0 unpatched, 1
/// patched, -1 no transition).
pub fn blockers(machine: &Machine, name: &str) -> Vec<Blocker> {
    let Some(livepatch) = machine.livepatch(name) else {
        return Vec::new();
    };
    let behind = match livepatch.state {
        State::Enabling => "0",
        State::Disabling => "1",
        State::InEffect | State::Disabled => return Vec::new(),
    };
    // The functions that hold a task: those that this one replaces, under their plain names.
    let replaced: Vec<&str> = livepatch.functions.iter().map(|function| &*function.name).collect();
    let held = threads::all(&machine.path("")).into_iter();
    held.filter(|thread| thread.text("patch_state").as_deref() == Some(behind))
        .map(|thread| blocker(&thread, &replaced))
        .collect()
}

/// The tasks in a message, the first few by name.
pub fn held_by(blockers: &[Blocker]) -> String {
    let mut named: Vec<String> = blockers.iter().take(NAMED).map(ToString::to_string).collect();
    match blockers.len().saturating_sub(NAMED) {
        0 => {}
        more => named.push(format!("{more} more")),
    }
    if named.is_empty() {
        return "tasks that have changed over meanwhile".to_owned();
    }
    named.join(", ")
}

fn blocker(thread: &Thread, replaced: &[&str]) -> Blocker {
    let stack = thread.stack().unwrap_or_default();
    let patched = stack.iter().find(|function| replaced.contains(&function.as_str()));
    let waits_in = thread.text("wchan").filter(|name| !name.is_empty() && name != "0");
    let stat = thread.text("stat").unwrap_or_default();
    let state = threads::stat(&stat).and_then(|stat| stat.fields.first()?.chars().next());
    Blocker {
        task: thread.number,
        name: thread.text("comm").unwrap_or_default(),
        state: state.unwrap_or('?'),
        function: patched.cloned().or(waits_in),
        stack,
    }
}
