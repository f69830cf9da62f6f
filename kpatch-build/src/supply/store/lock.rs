//! Locks that end with their holder: `flock` on a small file that is never removed.
//!
//! The file says who holds the lock and why, so that a waiting run can report it. Its time stamp is the last use of the
//! entry.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

use super::{OnWait, cannot};
use crate::sh;

const POLL: Duration = Duration::from_millis(100);
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A lock that is held until the value is dropped.
#[derive(Debug)]
pub struct Guard {
    file: File,
    path: PathBuf,
}

impl Guard {
    /// Waits until nobody holds the lock exclusively. In a read-only store the lock is taken without leaving a trace.
    pub fn shared(path: &Path, wait: OnWait<'_>) -> Result<Self> {
        let (file, writable) = match open(path) {
            Ok(file) => (file, true),
            Err(error) => (File::open(path).map_err(|_| error)?, false),
        };
        wait_for(&file, path, File::try_lock_shared, wait)?;
        if writable {
            return Self::held(file, path);
        }
        Ok(Guard {
            file,
            path: path.to_owned(),
        })
    }

    /// Waits until nobody else holds the lock, then notes in the file what it is held for.
    pub fn exclusive(path: &Path, purpose: &str, wait: OnWait<'_>) -> Result<Self> {
        let file = open(path)?;
        wait_for(&file, path, File::try_lock, wait)?;
        let mut guard = Self::held(file, path)?;
        guard.leave_note(&format!("{purpose} (process {})", std::process::id()))?;
        Ok(guard)
    }

    /// Takes the lock only if it is free.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            // Not through `held`: gc asks this way, and that must not count as a use.
            Ok(()) => Ok(Some(Guard {
                file,
                path: path.to_owned(),
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(cannot(&format!("lock {}", path.display()), &error)),
        }
    }

    fn held(file: File, path: &Path) -> Result<Self> {
        file.set_modified(SystemTime::now())
            .map_err(|error| cannot(&format!("touch {}", path.display()), &error))?;
        Ok(Guard {
            file,
            path: path.to_owned(),
        })
    }

    fn leave_note(&mut self, note: &str) -> Result<()> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| self.file.write_all(note.as_bytes()));
        written.map_err(|error| cannot(&format!("write {}", self.path.display()), &error))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread is just starting holds it open, too, until
        // `execve`. If the unlock fails, the last close still releases the lock.
        let _ = self.file.unlock();
    }
}

/// When an entry was last used: the time of its lock file.
pub(super) fn last_use(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|meta| meta.modified()).ok()
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
        .open(path)
        .map_err(|error| cannot(&format!("open {}", path.display()), &error))
}

fn wait_for(
    file: &File,
    path: &Path,
    attempt: impl Fn(&File) -> Result<(), TryLockError>,
    wait: OnWait<'_>,
) -> Result<()> {
    let started = Instant::now();
    let mut next_report = Duration::ZERO;
    loop {
        match attempt(file) {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(cannot(&format!("lock {}", path.display()), &error)),
        }
        if started.elapsed() >= next_report {
            wait(&holder(path), started.elapsed());
            next_report += REPORT_EVERY;
        }
        std::thread::sleep(POLL);
        sh::check()?;
    }
}

fn holder(path: &Path) -> String {
    let mut note = String::new();
    let read = File::open(path).and_then(|mut file| file.read_to_string(&mut note));
    match read {
        Ok(length) if length > 0 => note,
        _ => "another run".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn second_waits_and_is_told_for_what() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let first = Guard::exclusive(&path, "building 6.12", &|_, _| panic!("free")).unwrap();
        assert!(Guard::try_exclusive(&path).unwrap().is_none());
        let reports = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                Guard::exclusive(&path, "the second", &|holder, _| {
                    assert!(holder.starts_with("building 6.12"), "{holder}");
                    reports.fetch_add(1, Ordering::SeqCst);
                })
            });
            while reports.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            drop(first);
            second.join().unwrap().unwrap();
        });
        assert!(Guard::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn readers_share_and_keep_writers_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let never = |_: &str, _: Duration| panic!("readers do not wait for readers");
        let first = Guard::shared(&path, &never).unwrap();
        let second = Guard::shared(&path, &never).unwrap();
        drop(first);
        assert!(Guard::try_exclusive(&path).unwrap().is_none());
        drop(second);
        assert!(Guard::try_exclusive(&path).unwrap().is_some());
    }
    #[test]
    fn a_program_that_is_being_started_does_not_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let guard = Guard::shared(&path, &|_, _| panic!("free")).unwrap();
        let _inherited = guard.file.try_clone().unwrap();
        drop(guard);
        assert!(Guard::try_exclusive(&path).unwrap().is_some());
    }
}
