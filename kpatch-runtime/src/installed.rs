//! Livepatches that are kept on the disk for a kernel, to be loaded at each of its boots.
//!
//! What an administrator installs is in `/var/lib/kpatch/RELEASE`, what packages bring in `/usr/lib/kpatch/RELEASE`. Of two
//! files for one name the administrator's counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::{self, Machine};
use crate::module::ModuleFile;

/// Where an administrator's are.
const OWN: &str = "var/lib/kpatch";
/// Where those of packages are.
const OF_PACKAGES: &str = "usr/lib/kpatch";

/// The folder of this program for a release.
pub fn own_folder(machine: &Machine, release: &str) -> PathBuf {
    machine.path(OWN).join(release)
}

/// All livepatches that are installed for a release, by name, and what was wrong with files that are none.
pub fn list(machine: &Machine, release: &str) -> (Vec<ModuleFile>, Vec<Error>) {
    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    for parent in [OF_PACKAGES, OWN] {
        for path in modules(&machine.path(parent).join(release)) {
            match ModuleFile::read(&path) {
                Ok(file) => _ = found.insert(file.name.clone(), file),
                Err(error) => wrong.push(error),
            }
        }
    }
    (found.into_values().collect(), wrong)
}

/// The releases for which something is installed.
pub fn releases(machine: &Machine) -> Vec<String> {
    let folders = [OF_PACKAGES, OWN].into_iter().flat_map(|parent| {
        let entries = fs::read_dir(machine.path(parent)).into_iter().flatten().flatten();
        entries
            .filter(|entry| !modules(&entry.path()).is_empty())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
    });
    folders.collect::<BTreeSet<String>>().into_iter().collect()
}

/// The installed livepatch of a name.
pub fn find(machine: &Machine, release: &str, name: &str) -> Option<ModuleFile> {
    let (installed, _) = list(machine, release);
    installed.into_iter().find(|file| file.name == name)
}

fn modules(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut modules: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "ko"))
        .collect();
    modules.sort();
    modules
}

/// Keeps a copy of a livepatch for a release. The file is there as a whole or not at all, also after a power cut.
///
/// # Errors
/// [`Error::Usage`] for a module of another release.
pub fn install(machine: &Machine, release: &str, file: &ModuleFile) -> Result<PathBuf> {
    if file.release != release {
        let text = format!("{} is for {}, not for {release}", file.path.display(), file.release);
        return Err(Error::Usage(text));
    }
    let path = own_folder(machine, release).join(format!("{}.ko", file.name));
    machine::write_durably(&path, file.image())?;
    Ok(path)
}

/// Removes the copy.
///
/// # Errors
/// [`Error::NotThere`] if there is none; [`Error::Usage`] if a package brought it.
pub fn uninstall(machine: &Machine, release: &str, name: &str) -> Result<PathBuf> {
    let path = own_folder(machine, release).join(format!("{name}.ko"));
    match fs::symlink_metadata(&path) {
        Ok(_) => machine::remove_durably(&path).map(|()| path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(match find(machine, release, name) {
            Some(file) => Error::Usage(format!("a package brought {}; remove that", file.path.display())),
            None => {
                let others = releases(machine).into_iter();
                let mut others = others.filter(|other| find(machine, other, name).is_some());
                let elsewhere = others.next().map_or_else(String::new, |other| {
                    format!("; there is one for {other} (--kernel-version {other})")
                });
                Error::NotThere(format!(
                    "no livepatch called {name} is installed for {release}{elsewhere}"
                ))
            }
        }),
        Err(error) => Err(Error::file("look at", &path, &error)),
    }
}
