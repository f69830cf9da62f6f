//! What the service does at boot: load what is installed, but not what an earlier boot did not survive.

use super::{Several, load_one};
use crate::answer::Answer;
use crate::cli::AutoloadArgs;
use crate::error::{EXIT_OK, Error, Result};
use crate::guard::Guard;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::{history, installed};

/// A word of the kernel's command line that keeps all livepatches out, for a boot in need.
const OFF: &str = "kpatch=off";

/// Runs `autoload`.
pub fn run(args: &AutoloadArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let release = machine.release()?;
    let guard = Guard::new(machine, &release);
    if args.healthy {
        guard.healthy()?;
        let line = "this boot is healthy".to_owned();
        return Ok(Answer::new(vec![line], serde_json::json!({ "healthy": true }), EXIT_OK));
    }
    for suspect in guard.after_last_boot()? {
        let why: Result<()> = Err(Error::Failed("the boot that loaded it ended badly".to_owned()));
        history::record(machine, kernel, "left-out", &suspect.name, &why);
    }
    if machine.command_line()?.iter().any(|word| word == OFF) {
        let line = format!("no livepatch is loaded: the kernel's command line has {OFF}");
        return Ok(Answer::new(vec![line], serde_json::json!({ "off": true }), EXIT_OK));
    }
    let installed = installed::list(machine, &release);
    let mut several = Several::of(&installed);
    let mut to_load = Vec::new();
    for file in installed.files {
        match guard.leaves_out(&file)? {
            true => several.left_out.push(file.name),
            false => to_load.push(file),
        }
    }
    for (index, file) in to_load.iter().enumerate() {
        guard.note_down(&to_load[..index], Some(file))?;
        match load_one(machine, kernel, file, args.limit.time()) {
            Ok(loaded) => several.loaded.push(loaded),
            Err(error) => several.errors.push(error.to_string()),
        }
    }
    if !to_load.is_empty() {
        guard.note_down(&to_load, None)?;
    }
    Ok(several.answer())
}
