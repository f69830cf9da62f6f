//! Creates and removes files and folders in single steps.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{cannot, lock, space};

/// Writes a file so that a reader sees all of it or nothing, even after a power cut.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    });
    written.map_err(|error| space::explain(&format!("write {}", path.display()), &error, bytes.len() as u64))
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file or folder: renames it into the trash, then deletes it.
///
/// A compiler of a killed run may still write below the folder. It uses relative paths, so it follows the rename and
/// cannot create files where the next build is made.
pub(super) fn remove(path: &Path, trash: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let grave = tempfile::Builder::new().prefix("gone-").tempdir_in(trash);
    let grave = grave.map_err(|error| cannot(&format!("use {}", trash.display()), &error))?;
    let moved = std::fs::rename(path, grave.path().join("it"));
    moved.map_err(|error| cannot(&format!("remove {}", path.display()), &error))?;
    // What cannot be removed now stays in the trash, which the next gc empties.
    let grave = grave.keep();
    let _ = remove_for_good(&grave);
    Ok(())
}

/// Removes a folder tree, read-only folders included.
pub(super) fn remove_for_good(path: &Path) -> io::Result<()> {
    make_folders_writable(path)?;
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn make_folders_writable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut permissions = folder.symlink_metadata()?.permissions();
    if permissions.mode() & 0o700 != 0o700 {
        permissions.set_mode(permissions.mode() | 0o700);
        std::fs::set_permissions(folder, permissions)?;
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_folders_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes write permission from a tree. Symbolic links are left alone.
pub(super) fn make_read_only(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let meta = path.symlink_metadata()?;
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            make_read_only(&entry?.path())?;
        }
    }
    let mut permissions = meta.permissions();
    permissions.set_mode(permissions.mode() & !0o222);
    std::fs::set_permissions(path, permissions)
}

/// Disk space of a tree in bytes. Files that vanish meanwhile are not counted.
pub(super) fn disk_usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = path.symlink_metadata() else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| disk_usage(&entry.path())).sum::<u64>()
}

/// Names in a folder, sorted, without hidden ones.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = all_names(folder)?;
    names.retain(|name| !name.starts_with('.'));
    Ok(names)
}

/// Names in a folder, sorted.
pub(super) fn all_names(folder: &Path) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    };
    let mut names = read().map_err(|error| cannot(&format!("read {}", folder.display()), &error))?;
    names.sort();
    Ok(names)
}

/// When the entry with this lock was last used; for entries without a lock, when it was made.
pub(super) fn last_use(lock: &Path, entry: &Path) -> std::time::SystemTime {
    let made = || entry.symlink_metadata().and_then(|meta| meta.modified()).ok();
    lock::last_use(lock).or_else(made).unwrap_or(std::time::UNIX_EPOCH)
}

/// The path of `file` below `root`, as text.
pub(super) fn below(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).to_string_lossy().into_owned()
}

/// Every regular file of a tree that `wanted` accepts by name, sorted.
pub fn files_below(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    collect(folder, wanted, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), wanted, found)?;
        } else if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(())
}
