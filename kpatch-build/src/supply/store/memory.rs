//! A folder in memory for the work of one run.
//!
//! A thin link writes two small files for each translation unit, several thousand in all. On a disk that takes most of
//! its time. So the work goes to the system's memory file system if there is plenty of room, and to the store
//! otherwise. This needs no set-up, and works in a small container, too.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The memory file system of POSIX shared memory (shm_open(3)).
const SHARED_MEMORY: &str = "/dev/shm";

/// `TMPFS_MAGIC` of include/uapi/linux/magic.h.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Bytes that must be free in the file system: an edited header of a large kernel takes about a gigabyte for both
/// sides.
const ROOM: u64 = 2_000_000_000;

/// Bytes of memory that must be available: the folder uses memory, and so do the compilers.
const MEMORY: u64 = 4_000_000_000;

/// The user's private folder in memory, created if needed; `None` if the system has no such file system.
pub(super) fn folder() -> Option<PathBuf> {
    private(Path::new(SHARED_MEMORY)).filter(|folder| is_tmpfs(folder))
}

/// Whether the folder has room for a run, and the machine has memory for the programs of the run.
pub(super) fn has_room(folder: &Path) -> bool {
    let memory = available().and_then(|free| Some(free.min(within_control_group()?)));
    room(folder) >= ROOM && memory.is_some_and(|memory| memory >= MEMORY)
}

fn is_tmpfs(path: &Path) -> bool {
    // The field has another type on s390x.
    rustix::fs::statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(TMPFS_MAGIC))
}

fn room(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// A folder below `parent` that no other user can read, write or have created.
///
/// All users can write to the memory file system, so a folder of that name may belong to another user or be a symbolic
/// link.
fn private(parent: &Path) -> Option<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let path = parent.join(format!("kpatch-{user}"));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    let known = matches!(&made, Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists);
    if made.is_err() && !known {
        return None;
    }
    let meta = path.symlink_metadata().ok()?;
    let ours = meta.is_dir() && meta.uid() == user && meta.mode() & 0o077 == 0;
    ours.then_some(path)
}

fn available() -> Option<u64> {
    available_in(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

/// `MemAvailable` in bytes (proc_meminfo(5)).
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Bytes of memory that the container may still use; `u64::MAX` without a limit.
fn within_control_group() -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(name)).ok();
    let v2 = limit_of(read("memory.max"), read("memory.current"));
    let v1 = limit_of(
        read("memory/memory.limit_in_bytes"),
        read("memory/memory.usage_in_bytes"),
    );
    Some(v2.unwrap_or(u64::MAX).min(v1.unwrap_or(u64::MAX)))
}

fn limit_of(limit: Option<String>, used: Option<String>) -> Option<u64> {
    let limit: u64 = limit?.trim().parse().ok()?;
    let used: u64 = used?.trim().parse().ok()?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_ours_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = private(parent.path()).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(private(parent.path()), Some(path));
    }

    #[test]
    fn a_folder_that_others_can_reach_is_not_used() {
        let parent = tempfile::tempdir().unwrap();
        let path = private(parent.path()).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o770)).unwrap();
        assert_eq!(private(parent.path()), None);
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink(parent.path(), &path).unwrap();
        assert_eq!(private(parent.path()), None);
    }

    #[test]
    fn memory_and_limits_are_read() {
        assert_eq!(
            available_in("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(available_in("MemTotal: 9 kB\n"), None);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(limit_of(text("100\n"), text("30\n")), Some(70));
        assert_eq!(limit_of(text("max\n"), text("30\n")), None);
    }
}
