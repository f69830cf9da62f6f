//! The only place where other programs are started.

use std::ffi::OsStr;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// A program with its arguments still to be added.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    command
}

/// Runs a command and returns what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let (status, out, err) = captured(command)?;
    if !status.success() {
        bail!("{command:?} failed with {status}:\n{err}");
    }
    Ok(out)
}

/// Runs a command whose failure is an answer: exit status, standard output and standard error.
pub fn captured(command: &mut Command) -> Result<(ExitStatus, String, String)> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status, text(output.stdout), text(output.stderr)))
}
