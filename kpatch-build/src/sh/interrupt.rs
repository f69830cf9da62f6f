//! Ctrl-C, SIGTERM and SIGHUP: stop the children, then let the ordinary error path clean up.
//!
//! Children run in process groups of their own, so the terminal's Ctrl-C does not reach them. A first signal kills the
//! groups that are running; the call that waits for them then returns an error, and temporary folders go as their owners
//! do. Work of this program's own asks now and then. If that takes too long, or at a second signal, the program removes
//! the temporary folders and ends at once.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::outcome::{self, EXIT_INTERRUPTED, Ending};

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
static TEMPORARY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// How long the program has to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// How often children are looked for meanwhile: a thread may have been just about to start one.
const AGAIN: Duration = Duration::from_millis(20);

/// Starts to listen for SIGINT, SIGTERM and SIGHUP. Called once, by `main`.
pub fn handle_interrupts() -> Result<()> {
    let mut wanted = vec![SIGINT, SIGTERM];
    // Under nohup(1) a lost terminal is no reason to end.
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted).context("cannot listen for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if outcome::interrupt() {
                leave();
            }
            std::thread::spawn(leave_soon);
        }
    });
    Ok(())
}

/// Whether this process was started with a signal ignored (proc_pid_status(5)).
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn leave_soon() {
    let until = Instant::now() + GRACE;
    while Instant::now() < until {
        kill_running();
        std::thread::sleep(AGAIN);
    }
    leave()
}

fn leave() -> ! {
    kill_running();
    for folder in lock(&TEMPORARY).iter() {
        // What another thread is still writing to is removed by the next run.
        let _ = std::fs::remove_dir_all(folder);
    }
    // Nothing can be done about a closed output.
    let _ = writeln!(std::io::stderr(), "interrupted");
    std::process::exit(EXIT_INTERRUPTED.into())
}

/// Counts a folder as temporary until the returned value is dropped: it goes, too, if the program has to end at once.
pub fn temporary(folder: &Path) -> Temporary {
    lock(&TEMPORARY).insert(folder.to_owned());
    Temporary(folder.to_owned())
}

/// See [`temporary`].
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        lock(&TEMPORARY).remove(&self.0);
    }
}

/// An error if the run was asked to end. For work that takes long and starts no program.
pub fn check() -> Result<()> {
    if outcome::was_interrupted() {
        return Err(Ending::infrastructure("interrupted"));
    }
    Ok(())
}

/// Counts a child's process group as running until the returned value is dropped.
pub(super) fn watch(group: u32) -> Watched {
    lock(&RUNNING).insert(group);
    Watched(group)
}

pub(super) struct Watched(u32);

impl Drop for Watched {
    fn drop(&mut self) {
        lock(&RUNNING).remove(&self.0);
    }
}

fn kill_running() {
    let groups = lock(&RUNNING);
    let groups = groups.iter().filter_map(|group| i32::try_from(*group).ok());
    for group in groups.filter_map(Pid::from_raw) {
        // A group that has just ended by itself is no failure.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
