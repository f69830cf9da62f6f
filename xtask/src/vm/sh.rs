//! Runs QEMU and the compiler for the guest program.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context;

/// Runs a command to its end with both outputs in a log file; an error shows where it is and how it ends.
pub fn run_logged(command: &mut Command, log: &Path) -> anyhow::Result<()> {
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let both = file
        .try_clone()
        .with_context(|| format!("open {}", log.display()))?;
    let shown = format!("{command:?}");
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(both)
        .status();
    let status = status.with_context(|| format!("start {shown}"))?;
    if status.success() {
        return Ok(());
    }
    anyhow::bail!(
        "{shown}: {status}; the log is {}\n{}",
        log.display(),
        tail(log, 20)
    )
}

/// The last lines of a log file; empty when it cannot be read.
pub fn tail(log: &Path, count: usize) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A child that cannot outlive its value, this thread, or this process.
#[derive(Debug)]
pub struct Tied {
    child: Child,
}

/// Starts a command that the kernel kills when the calling thread ends, however it ends. It stays in our process
/// group, so an interrupt from the terminal reaches it directly.
pub fn spawn_tied(command: &mut Command, log: &Path) -> anyhow::Result<Tied> {
    let program = command.get_program().to_owned();
    anyhow::ensure!(
        on_path(Path::new(&program)).is_some(),
        "{} is not installed",
        program.display()
    );
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let both = file
        .try_clone()
        .with_context(|| format!("open {}", log.display()))?;
    // setpriv (util-linux) sets the parent-death signal and becomes the program: no unsafe code of ours.
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL"])
        .arg(&program)
        .args(command.get_args());
    let child = tied.stdin(Stdio::null()).stdout(file).stderr(both).spawn();
    Ok(Tied {
        child: child
            .with_context(|| format!("start setpriv (util-linux) for {}", program.display()))?,
    })
}

impl Tied {
    /// The exit status once it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .context("ask for the state of a child process")
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // Both fail only when the child has already been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program is, looked up as the shell would.
pub fn on_path(program: &Path) -> Option<PathBuf> {
    if program.is_absolute() {
        return program.is_file().then(|| program.to_owned());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
