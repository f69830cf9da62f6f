//! Loading: the module goes in, its transition is waited for, and if that stalls everything is as before.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::about::About;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::livepatch::State;
use crate::machine::Machine;
use crate::module::ModuleFile;
use crate::transition::{self, Blocker, Waited};
use crate::unload;

/// What became of a livepatch that is in effect now.
#[derive(Debug, Serialize)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// It was in effect before.
    pub already: bool,
    /// How long it took.
    pub seconds: f64,
    /// Livepatches that it has taken the place of, which are out of memory now.
    pub replaced: Vec<String>,
    /// Those of them that stay in memory, unused, and why.
    pub left_behind: Vec<String>,
}

/// Loads a livepatch and waits until it is in effect. If the transition is not over within the limit, it is turned round
/// and the module removed, so that what was in effect before is so again.
///
/// # Errors
/// [`Error::Usage`] for a module of another kernel, [`Error::Environment`] where the machine cannot, and
/// [`Error::Failed`] with the kernel's own words or the tasks that hold it up.
pub fn load(machine: &Machine, kernel: &dyn Kernel, file: &ModuleFile, limit: Duration) -> Result<Loaded> {
    let begun = kernel.elapsed();
    let before = machine.livepatches()?;
    // Asked now: a livepatch that was replaced is a module as any other.
    let abouts: BTreeMap<String, About> = before
        .iter()
        .filter_map(|old| Some((old.name.clone(), machine.about(&old.name).ok()??)))
        .collect();
    for_this_kernel(machine, file)?;
    for_these_objects(machine, file)?;
    let already = match machine.livepatch(&file.name) {
        Some(livepatch) => {
            same_content(machine, file)?;
            if livepatch.state == State::Disabled {
                let enabled = machine.write_attribute(kernel, &file.name, "enabled", "1");
                enabled.map_err(|error| Error::Failed(format!("cannot enable {}: {error}", file.name)))?;
            }
            livepatch.state == State::InEffect
        }
        None => {
            insert(machine, kernel, file)?;
            false
        }
    };
    match transition::until_in_effect(machine, kernel, &file.name, limit) {
        Waited::Done => {}
        Waited::TurnedRound => {
            let text = format!("{}: its transition was turned round by somebody else", file.name);
            return Err(Error::Failed(text));
        }
        Waited::Stalled(blockers) => return Err(take_back(machine, kernel, file, limit, &blockers)),
    }
    let mut loaded = Loaded {
        name: file.name.clone(),
        already,
        seconds: 0.0,
        replaced: Vec::new(),
        left_behind: Vec::new(),
    };
    for old in before.iter().filter(|old| old.name != file.name) {
        if machine.livepatch(&old.name).is_none() {
            match remove_replaced(machine, kernel, &old.name, abouts.get(&old.name)) {
                Ok(()) => loaded.replaced.push(old.name.clone()),
                Err(error) => loaded.left_behind.push(error.to_string()),
            }
        }
    }
    loaded.seconds = kernel.elapsed().saturating_sub(begun).as_secs_f64();
    Ok(loaded)
}

/// Removes the module of a livepatch that another one took the place of, if it is known that nothing can still use it.
fn remove_replaced(machine: &Machine, kernel: &dyn Kernel, name: &str, about: Option<&About>) -> Result<()> {
    match about {
        Some(about) if about.keep.is_empty() => unload::remove_module(machine, kernel, name),
        Some(about) => Err(Error::Failed(unload::kept(name, &about.keep))),
        None => {
            let text = format!("{name} stays in memory: it does not say whether the kernel may still use it");
            Err(Error::Failed(text))
        }
    }
}

fn for_this_kernel(machine: &Machine, file: &ModuleFile) -> Result<()> {
    let running = machine.release()?;
    if file.release == running {
        return Ok(());
    }
    let (name, release) = (&file.name, &file.release);
    let text = format!("{name} is for {release}, and this machine runs {running}");
    Err(Error::Usage(text))
}

/// Objects of one name and release may have another content: a kernel that was built again, a module from elsewhere. Those
/// that the machine has must be the ones that the livepatch was built for.
fn for_these_objects(machine: &Machine, file: &ModuleFile) -> Result<()> {
    for (object, wanted) in &file.about.build_ids {
        let has = match object.as_str() {
            "vmlinux" => machine.kernel_build_id(),
            module => machine.module_build_id(module),
        };
        if has.as_ref().is_some_and(|has| has != wanted) {
            let (name, has) = (&file.name, has.unwrap_or_default());
            let text =
                format!("{name} is for another build of {object} (build id {wanted}) than this machine has ({has})");
            return Err(Error::Failed(text));
        }
    }
    Ok(())
}

/// Two builds may have one name; which of them is in effect must not be a matter of luck.
fn same_content(machine: &Machine, file: &ModuleFile) -> Result<()> {
    let loaded = machine.module_build_id(&file.name);
    if loaded.is_none() || file.build_id.is_none() || loaded == file.build_id {
        return Ok(());
    }
    let (name, path) = (&file.name, file.path.display());
    let text = format!(
        "a livepatch called {name} is loaded, and {path} has other content; unload it first, or build the new one under \
         another name so that it can replace it"
    );
    Err(Error::Failed(text))
}

fn insert(machine: &Machine, kernel: &dyn Kernel, file: &ModuleFile) -> Result<()> {
    let name = &file.name;
    // A livepatch that was disabled or replaced is out of the list, but its module may still be in memory.
    if machine.has_module(name) {
        // What the one in memory says counts: another build of that name may keep nothing.
        if let Some(why) = unload::stays(machine, name) {
            return Err(Error::Failed(format!(
                "{why}, so it cannot be loaded again before the next boot"
            )));
        }
        unload::remove_module(machine, kernel, name)?;
    }
    let (inserted, log) = kernel.insert(file.image());
    let Err(error) = inserted else { return Ok(()) };
    let told: Vec<&str> = log
        .iter()
        .map(String::as_str)
        .filter(|line| is_about(line, name))
        .collect();
    let said = match told.as_slice() {
        [] => String::new(),
        lines => format!("; the kernel says: {}", lines.join("; ")),
    };
    let why = unsigned(machine, &error).unwrap_or_default();
    let text = format!("cannot load {name}: {error}{why}{said}");
    Err(match error.kind() {
        std::io::ErrorKind::PermissionDenied => Error::Environment(text),
        _ => Error::Failed(text),
    })
}

/// That a signature is missing, if it is that: kernel/module/signing.c, `module_sig_check()`.
fn unsigned(machine: &Machine, error: &std::io::Error) -> Option<String> {
    let errno = rustix::io::Errno::from_raw_os_error(error.raw_os_error()?);
    matches!(errno, rustix::io::Errno::NOKEY | rustix::io::Errno::KEYREJECTED).then(|| {
        let by = machine
            .wants_signatures()
            .map_or_else(String::new, |by| format!(" ({by})"));
        format!("; this kernel loads only modules that are signed by a key that it knows{by}")
    })
}

/// Whether a line of the kernel's log is about the module that was being loaded.
fn is_about(line: &str, name: &str) -> bool {
    line.contains(name)
        || line.starts_with("livepatch:")
        || line.starts_with("module:")
        || line.starts_with("Lockdown:")
}

/// Turns a transition round that does not end.
fn take_back(
    machine: &Machine,
    kernel: &dyn Kernel,
    file: &ModuleFile,
    limit: Duration,
    blockers: &[Blocker],
) -> Error {
    let name = &file.name;
    let held = transition::held_by(blockers);
    let turned = machine.write_attribute(kernel, name, "enabled", "0");
    let off = turned.is_ok() && matches!(transition::until_off(machine, kernel, name, limit), Waited::Done);
    let removed = off && unload::remove_module(machine, kernel, name).is_ok();
    let now = match removed {
        true => "taken back; what was in effect before is so again",
        false => "and it could not be taken back: the transition is still under way",
    };
    let seconds = limit.as_secs();
    Error::Failed(format!(
        "{name}: not every task had changed over within {seconds} s; {now}. Held up by {held}"
    ))
}
