//! Unloading: the livepatch is disabled, its transition waited for, and its module removed, unless something may still
//! use it.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::livepatch::State;
use crate::machine::Machine;
use crate::transition::{self, Waited};

/// The kernel gives back the last reference of a livepatch in a work item of its own, shortly after its transition.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// What became of a livepatch that is not in effect any more.
#[derive(Debug, Serialize)]
pub struct Unloaded {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Why its module stays in memory, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// Disables a livepatch, waits, and removes its module. If the kernel may have the address of a function of it, the module
/// stays in memory, unless `remove_kept` says otherwise. Modules of other builders do not tell, and are removed.
///
/// # Errors
/// [`Error::NotThere`] if no such livepatch is loaded; [`Error::Covered`] if another one lies on top of it;
/// [`Error::Failed`] if its transition stalls (it is then turned round, and in effect again).
pub fn unload(
    machine: &Machine,
    kernel: &dyn Kernel,
    name: &str,
    remove_kept: bool,
    limit: Duration,
) -> Result<Unloaded> {
    let begun = kernel.elapsed();
    match machine.livepatch(name) {
        Some(livepatch) => disable(machine, kernel, name, livepatch.state, limit)?,
        None if machine.has_module(name) => {}
        None => return Err(Error::NotThere(format!("no livepatch called {name} is loaded"))),
    }
    let stays = stays(machine, name).filter(|_| !remove_kept).or_else(|| {
        let removed = remove_module(machine, kernel, name);
        removed.err().map(|error| error.to_string())
    });
    Ok(Unloaded {
        name: name.to_owned(),
        seconds: kernel.elapsed().saturating_sub(begun).as_secs_f64(),
        stays,
    })
}

/// Why the module of a livepatch is not to be removed although it is off, if so. What cannot be read is taken for the worst.
pub fn stays(machine: &Machine, name: &str) -> Option<String> {
    match machine.about(name) {
        Ok(None) => None,
        Ok(Some(about)) => (!about.keep.is_empty()).then(|| kept(name, &about.keep)),
        Err(why) => Some(format!(
            "{name} stays in memory: {why}, so nobody knows whether the kernel may still use it"
        )),
    }
}

/// Why the module of a livepatch stays although it is off.
pub fn kept(name: &str, keep: &[String]) -> String {
    let functions = keep.join(", ");
    format!("{name} stays in memory: the kernel may still have the address of {functions}")
}

fn disable(machine: &Machine, kernel: &dyn Kernel, name: &str, state: State, limit: Duration) -> Result<()> {
    if matches!(state, State::InEffect | State::Enabling) {
        let turned = machine.write_attribute(kernel, name, "enabled", "0");
        turned.map_err(|error| cannot_disable(machine, name, &error))?;
    }
    match transition::until_off(machine, kernel, name, limit) {
        Waited::Done => Ok(()),
        Waited::TurnedRound => {
            let text = format!("{name}: somebody else enabled it again meanwhile");
            Err(Error::Failed(text))
        }
        Waited::Stalled(blockers) => {
            let held = transition::held_by(&blockers);
            let seconds = limit.as_secs();
            let back = machine.write_attribute(kernel, name, "enabled", "1");
            let now = match back {
                Ok(()) => "it is enabled again",
                Err(_) => "it is still being disabled",
            };
            let text = format!("{name}: not every task had changed over within {seconds} s; {now}. Held up by {held}");
            Err(Error::Failed(text))
        }
    }
}

/// Only the livepatch on top can be disabled, and nothing while a transition is under way (kernel/livepatch/core.c,
/// `enabled_store`).
fn cannot_disable(machine: &Machine, name: &str, error: &io::Error) -> Error {
    let others = machine.livepatches().unwrap_or_default();
    let under_way = others
        .iter()
        .find(|other| other.name != name && matches!(other.state, State::Enabling | State::Disabling));
    let cannot = |why: &str| format!("cannot disable {name}: {why}");
    match (under_way, error.raw_os_error()) {
        (Some(other), _) => Error::Failed(cannot(&format!("the transition of {} is under way", other.name))),
        (None, Some(code)) if code == rustix::io::Errno::BUSY.raw_os_error() => {
            Error::Covered(cannot("another livepatch lies on top of it; unload that first"))
        }
        _ => Error::Failed(cannot(&error.to_string())),
    }
}

/// Removes a module that nobody uses any more.
///
/// # Errors
/// [`Error::Failed`] if somebody still holds it.
pub fn remove_module(machine: &Machine, kernel: &dyn Kernel, name: &str) -> Result<()> {
    let begun = kernel.elapsed();
    loop {
        let Err(error) = kernel.remove(name) else { return Ok(()) };
        let busy = error.kind() == io::ErrorKind::WouldBlock || error.kind() == io::ErrorKind::ResourceBusy;
        if busy && kernel.elapsed().saturating_sub(begun) < PATIENCE {
            kernel.sleep(PAUSE);
            continue;
        }
        if error.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error()) {
            return Ok(());
        }
        let why = match machine.references(name) {
            Some(1..) if busy => "it holds itself, or somebody else does".to_owned(),
            _ => error.to_string(),
        };
        return Err(Error::Failed(format!("{name} stays in memory: {why}")));
    }
}
