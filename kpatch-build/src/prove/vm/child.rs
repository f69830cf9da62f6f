//! A child process that cannot outlive its parent: QEMU.
//!
//! An orphaned emulator would use a processor for ever, so it must die with its parent, however that ends: by a return,
//! a panic, an interrupt or SIGKILL.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use anyhow::Context;

use crate::outcome::Ending;
use crate::sh;

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct ChildGuard {
    child: Child,
}

/// Starts a program that the kernel kills when the calling thread ends. Standard output and error go to a log file.
pub fn spawn(program: &str, args: Vec<OsString>, log: &Path) -> anyhow::Result<ChildGuard> {
    // Checked first: setpriv would report a missing program only in the log.
    if on_path(program).is_none() {
        return Err(Ending::infrastructure(format!("{program} is not installed")));
    }
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let both = file.try_clone().with_context(|| format!("open {}", log.display()))?;
    // setpriv (util-linux) sets the parent-death signal and then becomes the program.
    let mut command = sh::command("setpriv");
    command.args(["--pdeathsig", "KILL", program]).args(args);
    let child = command.stdin(Stdio::null()).stdout(file).stderr(both).spawn();
    Ok(ChildGuard {
        child: child.with_context(|| format!("start setpriv (util-linux) for {program}"))?,
    })
}

impl ChildGuard {
    /// The exit status once it has ended. An error if this run was asked to end.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        sh::check()?;
        self.child.try_wait().context("ask for the state of a child process")
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // Both fail only if the child has already been reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last lines of a log file; empty when it cannot be read.
pub fn log_tail(log: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Path of a program, looked up in `PATH`.
pub fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
