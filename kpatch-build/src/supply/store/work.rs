//! A folder for one run. If the run is killed, the next one removes it.
//!
//! The run holds a lock on the folder itself. A killed run loses the lock, and so the next run knows what to remove.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{cannot, place};
use crate::sh::{self, Temporary};

const RUNNING: &str = "run-";
const KEPT: &str = "kept-";

/// A folder of this run.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    keep: bool,
    lock: File,
    /// Nothing if it is to outlive the run.
    temporary: Option<Temporary>,
}

impl WorkDir {
    pub(super) fn create(work: &Path, keep: bool) -> Result<Self> {
        sweep(work)?;
        let prefix = if keep { KEPT } else { RUNNING };
        loop {
            let made = tempfile::Builder::new().prefix(prefix).tempdir_in(work);
            let path = made
                .map_err(|error| cannot(&format!("make a folder in {}", work.display()), &error))?
                .keep();
            if let Some(lock) = lock_if_alive(&path)? {
                let temporary = (!keep).then(|| sh::temporary(&path));
                return Ok(WorkDir {
                    path,
                    keep,
                    lock,
                    temporary,
                });
            }
            // The sweep of another run came between making and locking: that folder is gone.
        }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Releases the folder and renames it to `place` in one step.
    pub(super) fn give_to(mut self, place: &Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let step = || -> std::io::Result<()> {
            // Work folders are private; entries of the store are for everyone who may use the store.
            std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o755))?;
            rustix::fs::syncfs(&self.lock)?;
            std::fs::rename(&self.path, place)
        };
        step().map_err(|error| cannot(&format!("put {} in place", place.display()), &error))?;
        self.keep = true;
        self.temporary = None;
        Ok(())
    }

    /// Whether the folder will outlive the run.
    pub fn is_kept(&self) -> bool {
        self.keep
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep {
            // The next run removes what cannot be removed now.
            let _ = place::remove_for_good(&self.path);
        }
    }
}

/// Locks a folder, unless another process has it or has removed it.
fn lock_if_alive(path: &Path) -> Result<Option<File>> {
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(cannot(&format!("lock {}", path.display()), &error)),
    }
    let locked = folder
        .metadata()
        .with_context(|| format!("cannot look at {}", path.display()))?;
    let still_there = path.metadata().is_ok_and(|named| named.ino() == locked.ino());
    Ok(still_there.then_some(folder))
}

/// Removes the folders of runs that were killed.
pub(super) fn sweep(work: &Path) -> Result<()> {
    for name in place::names(work)?.iter().filter(|name| name.starts_with(RUNNING)) {
        let path = work.join(name);
        if let Some(_dead) = lock_if_alive(&path)? {
            place::remove_for_good(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whether a run is using the folder.
pub(super) fn is_in_use(path: &Path) -> bool {
    !matches!(lock_if_alive(path), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_folders_stay_and_dead_ones_go() {
        let work = tempfile::tempdir().unwrap();
        let live = WorkDir::create(work.path(), false).unwrap();
        let dead = work.path().join("run-dead");
        std::fs::create_dir_all(dead.join("deep")).unwrap();
        let kept = WorkDir::create(work.path(), true).unwrap();
        assert!(live.path().is_dir() && !dead.exists());
        assert!(is_in_use(live.path()));
        let (live_path, kept_path) = (live.path().to_owned(), kept.path().to_owned());
        drop((live, kept));
        assert!(!live_path.exists() && kept_path.is_dir() && !is_in_use(&kept_path));
    }
}
