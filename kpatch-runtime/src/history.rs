//! What was done with livepatches on this machine, one line of JSON each.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::machine::Machine;

/// One thing that was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Seconds since 1970, UTC.
    pub time: u64,
    /// The release of the kernel.
    pub release: String,
    /// The boot it belongs to.
    pub boot_id: String,
    /// `load`, `unload`, `left-out`.
    pub action: String,
    /// The livepatch.
    pub name: String,
    /// `ok`, or what went wrong.
    pub outcome: String,
}

/// Writes down what came of an action. Where that is not possible nothing is lost but the memory of it.
pub fn record<T>(machine: &Machine, kernel: &dyn Kernel, action: &str, name: &str, result: &Result<T>) {
    let since = kernel.wall_clock().duration_since(UNIX_EPOCH).unwrap_or_default();
    let entry = Entry {
        time: since.as_secs(),
        release: machine.release().unwrap_or_default(),
        boot_id: machine.boot_id().unwrap_or_default(),
        action: action.to_owned(),
        name: name.to_owned(),
        outcome: match result {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("failed: {error}"),
        },
    };
    let _ = append(machine, &entry);
}

fn append(machine: &Machine, entry: &Entry) -> io::Result<()> {
    let path = path(machine);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    // One write of one line: two programs at once do not mix theirs. What was done should be known after a crash, too.
    let mut file = fs::File::options().append(true).create(true).open(path)?;
    file.write_all(&line)?;
    file.sync_data()
}

/// All entries, oldest first, and how many lines are none: a power cut leaves half a line.
pub fn read(machine: &Machine) -> Result<(Vec<Entry>, usize)> {
    let path = path(machine);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        bytes => bytes.map_err(|error| Error::file("read", &path, &error))?,
    };
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let (good, bad): (Vec<_>, Vec<_>) = lines.map(serde_json::from_slice).partition(std::result::Result::is_ok);
    Ok((good.into_iter().flatten().collect(), bad.len()))
}

fn path(machine: &Machine) -> PathBuf {
    machine.path("var/lib/kpatch/history.jsonl")
}
