//! Ctrl-C and SIGTERM: stop the children, then let the ordinary error path clean up.
//!
//! Children run in process groups of their own, so the terminal's Ctrl-C does not reach them. A first signal kills
//! the groups that are running; the call that waits for them then returns an error, and temporary folders go as
//! their owners do. With no child running, or at a second signal, the program ends at once.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::outcome::{self, EXIT_INTERRUPTED, Ending};

static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Starts to listen for SIGINT and SIGTERM. Called once, by `main`.
pub fn handle_interrupts() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if outcome::interrupt() || !kill_running() {
                std::process::exit(EXIT_INTERRUPTED.into());
            }
        }
    });
    Ok(())
}

pub(super) fn check() -> Result<()> {
    if outcome::was_interrupted() {
        return Err(Ending::infrastructure("interrupted"));
    }
    Ok(())
}

/// Counts a child's process group as running until the returned value is dropped.
pub(super) fn watch(group: u32) -> Watched {
    running().insert(group);
    Watched(group)
}

pub(super) struct Watched(u32);

impl Drop for Watched {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

fn kill_running() -> bool {
    let groups = running();
    for group in groups
        .iter()
        .filter_map(|group| i32::try_from(*group).ok())
        .filter_map(Pid::from_raw)
    {
        // A group that has just ended by itself is no failure.
        let _ = kill_process_group(group, Signal::KILL);
    }
    !groups.is_empty()
}

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
