//! Files that the user asked for, such as modules and packages: each is put in its place in one step, so that nobody ever
//! finds half a file, and what is there stays until then.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::outcome::Ending;

/// What a livepatch needs at least, about. Whether there is that much room is tried before anything long begins.
const ROOM: usize = 64 * 1024;

/// The folder of a file.
pub fn folder_of(target: &Path) -> &Path {
    let folder = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Whether a file can be written there, or in the nearest folder above it that is there. Nothing is left behind.
///
/// # Errors
/// The surroundings: no permission, or no room.
pub fn try_target(target: &Path) -> Result<()> {
    let folder = folder_of(target).ancestors().find(|folder| folder.exists());
    let folder = folder.unwrap_or(Path::new("."));
    let tried = new_file(folder).and_then(|mut file| {
        file.write_all(&[0; ROOM])?;
        file.as_file().sync_data()
    });
    tried.map_err(|error| cannot_write(folder, &error))
}

/// Copies a finished file to its place, whose folder is made if need be.
///
/// # Errors
/// The surroundings: no permission, or no room.
pub fn install(made: &Path, target: PathBuf) -> Result<PathBuf> {
    let bytes = fs::read(made).with_context(|| format!("cannot read {}", made.display()))?;
    write(&bytes, &target)?;
    Ok(target)
}

/// Writes a file, whose folder is made if need be.
///
/// # Errors
/// The surroundings: no permission, or no room.
pub fn write(bytes: &[u8], target: &Path) -> Result<()> {
    let folder = folder_of(target);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let written = new_file(folder).and_then(|mut file| {
        file.write_all(bytes)?;
        file.persist(target).map_err(|error| error.error)
    });
    written.map(drop).map_err(|error| cannot_write(folder, &error))
}

/// A temporary file that everybody may read who may read files of this user; by itself it would be private.
fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

fn cannot_write(folder: &Path, error: &io::Error) -> anyhow::Error {
    Ending::infrastructure(format!("cannot write to {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_readable_as_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "x").unwrap();
        let target = folder.path().join("new/a.ko");
        try_target(&target).unwrap();
        assert!(!folder.path().join("new").exists(), "trying leaves nothing behind");
        install(&plain, target.clone()).unwrap();
        let mode = |file: &Path| fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode(&target), mode(&plain));
        assert_eq!(fs::read(&target).unwrap(), b"x");
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_in_is_found_out() {
        let error = try_target(Path::new("/proc/1/x.ko")).unwrap_err();
        assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_ENVIRONMENT);
    }
}
