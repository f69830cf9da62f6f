//! The only place where other programs are started.
//!
//! A kernel build reads dozens of environment variables, and one stray `KCFLAGS` makes a kernel that no recorded
//! input explains. So children get a short list of variables and nothing else. They also run in a process group of
//! their own and are told to stop when this program dies, so that an interrupted run leaves no compiler behind.

mod interrupt;
mod running;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

pub use crate::outcome::was_interrupted;
pub use interrupt::{Temporary, check, handle_interrupts, temporary};
pub use running::{Running, start};

use crate::outcome::Ending;
use crate::program;

/// Variables a child may see. All else is dropped: make takes every environment variable for one of its own.
///
/// `LD_LIBRARY_PATH` is left out on purpose: cargo points it at the Rust toolchain, which has an LLVM library too.
const KEPT_VARIABLES: &[&str] = &[
    "HOME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "USER",
    "XDG_RUNTIME_DIR",
];

/// How much of a log an error repeats.
const TAIL_LINES: usize = 20;

/// A program with its arguments still to be added: clean environment, own process group, no standard input.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one place the rule points to")]
    let command = Command::new(program);
    harden(command)
}

/// An xshell for building command lines with `cmd!`; run them through [`prepare`].
pub fn shell() -> Result<xshell::Shell> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place the rule points to")]
    xshell::Shell::new().context("cannot find the current directory")
}

/// Turns a `cmd!(…)` into a command with the same guarantees as [`command`].
pub fn prepare(cmd: xshell::Cmd<'_>) -> Command {
    harden(Command::from(cmd))
}

fn harden(mut command: Command) -> Command {
    let chosen: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in std::env::vars_os() {
        if !chosen.contains(&name) && !name.to_str().is_some_and(child_may_see) {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
    let parent = getpid();
    // SAFETY: the closure runs between fork and exec and makes two system calls; it neither allocates nor locks.
    unsafe { command.pre_exec(move || die_with(parent)) };
    command
}

/// Asks for SIGTERM at the death of the parent *thread*. SIGTERM and not SIGKILL, because make passes it on to what
/// it has started; after SIGKILL the inner makes of a kernel build would carry on to the end.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // The parent may have died before the request was in place.
    if getppid() != Some(parent) {
        return Err(io::Error::from(io::ErrorKind::Interrupted));
    }
    Ok(())
}

fn child_may_see(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    KEPT_VARIABLES.contains(&name) || lower.ends_with("_proxy") || name.starts_with("SSL_CERT_")
}

/// Runs a command with all its output appended to a log file.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = open_log(log, command)?;
    let second = file
        .try_clone()
        .with_context(|| format!("cannot share {}", log.display()))?;
    command.stdout(file).stderr(second);
    let status = run(command)?;
    if !status.success() {
        return Err(failed(failure(command, status, Some(log), &tail_of_file(log))));
    }
    Ok(())
}

/// Runs a command and returns what it wrote to standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let (status, out, err) = captured(command)?;
    if !status.success() {
        let shown = if err.trim().is_empty() { &out } else { &err };
        return Err(failed(failure(command, status, None, &last_lines(shown))));
    }
    Ok(out)
}

/// Runs a command and returns the bytes of its standard output.
pub fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let output = wait(command)?;
    if !output.status.success() {
        let tail = last_lines(&String::from_utf8_lossy(&output.stderr));
        return Err(failed(failure(command, output.status, None, &tail)));
    }
    Ok(output.stdout)
}

/// Runs a command whose failure is an answer: exit status, standard output and standard error.
pub fn captured(command: &mut Command) -> Result<(ExitStatus, String, String)> {
    let output = wait(command)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status, text(output.stdout), text(output.stderr)))
}

fn wait(command: &mut Command) -> Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command)?;
    let watched = interrupt::watch(child.id());
    let output = child
        .wait_with_output()
        .with_context(|| format!("cannot read from {}", shown(command)))?;
    drop(watched);
    interrupt::check()?;
    Ok(output)
}

/// The error for a command that failed with this text. A full disk is the environment's fault, whoever ran into it.
pub fn failed(text: String) -> anyhow::Error {
    // The words of strerror(3) for ENOSPC and EDQUOT; LC_ALL is C.
    let full = ["No space left on device", "Disk quota exceeded"];
    if full.iter().any(|words| text.contains(words)) {
        Ending::infrastructure(text)
    } else {
        anyhow!(text)
    }
}

/// Runs a command with its output appended to a log file and each line also given to `on_line` at once.
pub fn run_streamed(command: &mut Command, log: &Path, on_line: &mut dyn FnMut(&str)) -> Result<()> {
    let mut file = open_log(log, command)?;
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    command
        .stdout(writer.try_clone().context("cannot share a pipe")?)
        .stderr(writer);
    let mut child = spawn(command)?;
    let watched = interrupt::watch(child.id());
    // The command owns the writing ends: while it keeps them, the reader never sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let copied = copy_lines(BufReader::new(reader), &mut file, on_line);
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", shown(command)))?;
    drop(watched);
    interrupt::check()?;
    copied.with_context(|| format!("cannot write {}", log.display()))?;
    if !status.success() {
        return Err(failed(failure(command, status, Some(log), &tail_of_file(log))));
    }
    Ok(())
}

/// Copies line by line. After a failed write it goes on reading, for a full pipe would stop the child for ever.
fn copy_lines(mut from: impl BufRead, to: &mut File, on_line: &mut dyn FnMut(&str)) -> io::Result<()> {
    let mut result = Ok(());
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        if result.is_ok() {
            result = to.write_all(&line);
        }
        on_line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    result
}

fn run(command: &mut Command) -> Result<ExitStatus> {
    let mut child = spawn(command)?;
    let watched = interrupt::watch(child.id());
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for {}", shown(command)))?;
    drop(watched);
    interrupt::check()?;
    Ok(status)
}

fn spawn(command: &mut Command) -> Result<Child> {
    interrupt::check()?;
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if find(command.get_program()).is_none() => {
            missing(&command.get_program().to_string_lossy())
        }
        _ => anyhow::Error::new(error).context(format!("cannot start {}", shown(command))),
    })
}

fn missing(program: &str) -> anyhow::Error {
    Ending::infrastructure(format!(
        "`{program}` is not installed; `{}` names the package",
        program::command("doctor")
    ))
}

fn open_log(log: &Path, command: &Command) -> Result<File> {
    let mut file = OpenOptions::new().create(true).append(true).open(log);
    if let Ok(file) = &mut file {
        writeln!(file, "$ {}", shown(command)).with_context(|| format!("cannot write {}", log.display()))?;
    }
    file.with_context(|| format!("cannot open {}", log.display()))
}

/// The command line, as an error or a log shows it.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    let quoted = words.iter().map(|word| quoted(&word.to_string_lossy()));
    quoted.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./,:@%^~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn failure(command: &Command, status: ExitStatus, log: Option<&Path>, tail: &str) -> String {
    let mut text = format!("{} failed: {status}", shown(command));
    if let Some(log) = log {
        text.push_str(&format!("; log: {}", log.display()));
    }
    if !tail.is_empty() {
        text.push('\n');
        text.push_str(tail);
    }
    text
}

fn tail_of_file(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => format!("(the log cannot be read: {error})"),
    }
}

fn last_lines(text: &str) -> String {
    let mut last = VecDeque::with_capacity(TAIL_LINES);
    for line in text.lines() {
        if last.len() == TAIL_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.into_iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `PATH` with these folders in front; `None` if there are none.
pub fn path_with(folders: &[PathBuf]) -> Option<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().cloned().chain(std::env::split_paths(&path));
    (!folders.is_empty()).then(|| std::env::join_paths(all).ok()).flatten()
}

/// Where a program is, looking through `PATH` and then the folders that only root has there.
pub fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let program = Path::new(program.as_ref());
    if program.components().count() > 1 {
        return is_executable(program).then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// A program that must be there.
pub fn require(program: &str) -> Result<PathBuf> {
    find(program).ok_or_else(|| missing(program))
}

#[cfg(test)]
mod tests;
