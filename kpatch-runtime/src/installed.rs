//! Livepatches that are kept on the disk for a kernel, to be loaded at each of its boots.
//!
//! What an administrator installs is in `/var/lib/kpatch/RELEASE`, what packages bring in `/usr/lib/kpatch/RELEASE/SERIES`
//! (or directly in the folder of the release, if a series does not matter). Of two files for one name the administrator's
//! counts. What [`rescue`](crate::rescue) keeps of a series stands in for what its package brings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::machine::{self, Machine};
use crate::module::{self, ModuleFile};

/// Where an administrator's are.
const OWN: &str = "var/lib/kpatch";
/// Where those of packages are.
const OF_PACKAGES: &str = "usr/lib/kpatch";

/// The folder of this program for a release.
pub fn own_folder(machine: &Machine, release: &str) -> PathBuf {
    machine.path(OWN).join(release)
}

/// The folder in which packages bring livepatches for a release.
pub fn package_folder(machine: &Machine, release: &str) -> PathBuf {
    machine.path(OF_PACKAGES).join(release)
}

/// What is installed for a release.
#[derive(Default)]
pub struct Installed {
    /// What is loaded at boot, by name.
    pub files: Vec<ModuleFile>,
    /// What packages brought and is not loaded at boot: it did not take effect, and the version before stands in for it.
    pub held_back: Vec<ModuleFile>,
    /// What was wrong with files that are no livepatches.
    pub wrong: Vec<Error>,
}

/// All livepatches that are installed for a release.
pub fn list(machine: &Machine, release: &str) -> Installed {
    let mut wrong = Vec::new();
    let mut read = |folder: &Path| -> Vec<ModuleFile> {
        let all = modules(folder).into_iter().map(|path| ModuleFile::read(&path));
        all.filter_map(|file| file.map_err(|error| wrong.push(error)).ok())
            .collect()
    };
    let (packages, own) = (package_folder(machine, release), own_folder(machine, release));
    let mut files = read(&packages);
    let mut held_back = Vec::new();
    let series: BTreeSet<String> = [&packages, &own]
        .into_iter()
        .flat_map(|folder| folders(folder))
        .collect();
    for series in series {
        let brought = read(&packages.join(&series));
        let rescued = read(&own.join(&series));
        if rescued.is_empty() {
            files.extend(brought);
        } else {
            files.extend(rescued);
            held_back.extend(brought);
        }
    }
    files.extend(read(&own));
    // Of several of one name the last one counts.
    let by_name: BTreeMap<String, ModuleFile> = files.into_iter().map(|file| (file.name.clone(), file)).collect();
    held_back.retain(|file| !by_name.contains_key(&file.name));
    Installed {
        files: by_name.into_values().collect(),
        held_back,
        wrong,
    }
}

/// The releases for which something is installed.
pub fn releases(machine: &Machine) -> Vec<String> {
    let has_modules = |folder: &Path| {
        let inside = folders(folder).into_iter().map(|series| folder.join(series));
        [folder.to_owned()]
            .into_iter()
            .chain(inside)
            .any(|folder| !modules(&folder).is_empty())
    };
    let releases = [OF_PACKAGES, OWN].into_iter().flat_map(|parent| {
        let parent = machine.path(parent);
        let all = folders(&parent).into_iter();
        all.filter(move |release| has_modules(&parent.join(release)))
    });
    releases.collect::<BTreeSet<String>>().into_iter().collect()
}

/// The installed livepatch of a name, loaded at boot or not.
pub fn find(machine: &Machine, release: &str, name: &str) -> Option<ModuleFile> {
    let installed = list(machine, release);
    let mut all = installed.files.into_iter().chain(installed.held_back);
    all.find(|file| file.name == name)
}

/// That a livepatch of this name is installed for another kernel, as the end of a sentence that says it is not for this one.
pub fn elsewhere(machine: &Machine, release: &str, name: &str) -> String {
    let mut others = releases(machine).into_iter().filter(|other| other != release);
    let found = others.find(|other| find(machine, other, name).is_some());
    found.map_or_else(String::new, |other| format!("; there is one for {other}"))
}

/// The modules in a folder, by their names. What has not been finished begins with a dot.
pub fn modules(folder: &Path) -> Vec<PathBuf> {
    let paths = entries(folder).into_iter().map(|name| folder.join(name));
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "ko") && !path.is_dir())
        .collect()
}

fn folders(folder: &Path) -> Vec<String> {
    let names = entries(folder).into_iter().filter(|name| folder.join(name).is_dir());
    names.filter_map(|name| name.into_string().ok()).collect()
}

fn entries(folder: &Path) -> Vec<std::ffi::OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let mut names: Vec<_> = names
        .filter(|name| !name.as_encoded_bytes().starts_with(b"."))
        .collect();
    names.sort();
    names
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
    if !module::is_release(release) {
        return Err(Error::Usage(format!("{release} is no release of a kernel")));
    }
    let folder = own_folder(machine, release);
    // A file that cannot be read is known by its name only.
    let by_name = [folder.join(format!("{name}.ko"))]
        .into_iter()
        .filter(|path| path.exists());
    let own = list(machine, release).files.into_iter();
    let own = own.filter(|file| file.name == name && file.path.starts_with(&folder));
    if let Some(path) = by_name.chain(own.map(|file| file.path)).next() {
        return machine::remove_durably(&path).map(|()| path);
    }
    Err(match find(machine, release, name) {
        Some(file) => Error::Usage(format!("a package brought {}; remove that", file.path.display())),
        None => {
            let elsewhere = elsewhere(machine, release, name);
            let how = if elsewhere.is_empty() {
                ""
            } else {
                " (--kernel-version)"
            };
            Error::NotThere(format!(
                "no livepatch called {name} is installed for {release}{elsewhere}{how}"
            ))
        }
    })
}
