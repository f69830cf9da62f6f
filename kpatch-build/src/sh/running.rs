//! A program that works in the background while this one goes on.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{interrupt, shown, spawn};

/// A running program and all it has started. Dropping it ends them.
///
/// It also ends with the thread that started it, so the two belong in one thread.
pub struct Running {
    child: Child,
    watched: Option<interrupt::Watched>,
    shown: String,
}

/// Starts a command with its two outputs in files.
pub fn start(command: &mut Command, out: &Path, err: &Path) -> Result<Running> {
    let file = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
    command.stdout(file(out)?).stderr(file(err)?);
    let child = spawn(command)?;
    Ok(Running {
        watched: Some(interrupt::watch(child.id())),
        shown: shown(command),
        child,
    })
}

impl Running {
    /// Waits for the end.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let status = self.child.wait();
        self.watched = None;
        interrupt::check()?;
        status.with_context(|| format!("cannot wait for {}", self.shown))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A child that has been waited for is not signalled: its number may be another program's by now.
        if self.watched.take().is_none() {
            return;
        }
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // A group that has just ended by itself is no failure.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    #[test]
    fn output_and_status_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        let running = start(command("sh").args(["-c", "echo a; echo b >&2; exit 3"]), &out, &err).unwrap();
        assert_eq!(running.wait().unwrap().code(), Some(3));
        assert_eq!(std::fs::read_to_string(out).unwrap(), "a\n");
        assert_eq!(std::fs::read_to_string(err).unwrap(), "b\n");
    }

    #[test]
    fn dropping_ends_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (out, err) = (folder.path().join("out"), folder.path().join("err"));
        let script = "sleep 60 & echo $!; wait";
        let running = start(command("sh").args(["-c", script]), &out, &err).unwrap();
        let grandchild = loop {
            let text = std::fs::read_to_string(&out).unwrap();
            if let Some(line) = text.lines().next() {
                break line.to_owned();
            }
            std::thread::yield_now();
        };
        drop(running);
        let state = || std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        // What its new parent has not waited for yet is dead all the same.
        while !(state().is_empty() || state().contains(") Z ")) {
            std::thread::yield_now();
        }
    }
}
