//! Disk space: checked before a long step, and named in errors when it has run out.

use std::io;
use std::path::Path;

use anyhow::Result;

use super::cannot;
use crate::outcome::Ending;
use crate::program;
use crate::ui::size;

/// With fewer free bytes than this, a failed step is blamed on the full disk.
const AS_GOOD_AS_FULL: u64 = 50_000_000;

/// Fails unless the file system of `folder` has room for `bytes`.
pub fn require_space(folder: &Path, bytes: u64, purpose: &str) -> Result<()> {
    let free = free(folder)?;
    if free < bytes {
        return Err(Ending::infrastructure(format!(
            "{purpose} needs {} in {}, {} free; make room with `{}` or pass another --store",
            size(bytes),
            folder.display(),
            size(free),
            program::command("store gc"),
        )));
    }
    Ok(())
}

/// Whether the file system of `folder` is full, as far as a compiler is concerned.
pub fn is_disk_full(folder: &Path) -> bool {
    free(folder).is_ok_and(|free| free < AS_GOOD_AS_FULL)
}

fn free(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder);
    let stat = stat.map_err(|error| cannot(&format!("get free space of {}", folder.display()), &error.into()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// An I/O error, with the amount that was needed if the disk is full.
pub(super) fn explain(what: &str, error: &io::Error, bytes: u64) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ending::infrastructure(format!(
            "cannot {what}: disk full, {} needed; make room with `{}`",
            size(bytes),
            program::command("store gc")
        )),
        _ => cannot(what, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_says_how_much_is_needed() {
        let error = require_space(Path::new("/"), u64::MAX, "a kernel build")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a kernel build needs") && error.contains("GB"),
            "{error}"
        );
        require_space(Path::new("/"), 0, "nothing").unwrap();
    }

    #[test]
    fn a_full_disk_is_named() {
        let error = explain("write x", &io::Error::from(io::ErrorKind::StorageFull), 5_000_000).to_string();
        assert!(error.contains("disk full, 5 MB needed"), "{error}");
    }
}
