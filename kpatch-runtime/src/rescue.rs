//! What was in effect before a package was upgraded, kept until its new version is.
//!
//! Package managers remove the files of the old version before anybody knows whether the new livepatch takes effect. So the
//! old module is copied to `/var/lib/kpatch/RELEASE/SERIES` before. While there is such a copy it is what a boot loads, and
//! what the package brings is held back; so whatever a power cut interrupts, a boot has the livepatch that was known to work.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::installed;
use crate::machine::{self, Machine};
use crate::module::ModuleFile;

/// The copies of a series of livepatches, for one release of the kernel.
pub struct Rescue {
    folder: PathBuf,
    of_package: PathBuf,
}

impl Rescue {
    /// Of this series, which is the name of a folder.
    pub fn new(machine: &Machine, release: &str, series: &str) -> Self {
        Rescue {
            folder: installed::own_folder(machine, release).join(series),
            of_package: installed::package_folder(machine, release).join(series),
        }
    }

    /// Of the series to which a file belongs, if a package brought it.
    pub fn of_file(machine: &Machine, file: &ModuleFile) -> Option<Self> {
        let packages = installed::package_folder(machine, &file.release);
        let series = file.path.parent()?.strip_prefix(packages).ok()?.to_str()?;
        (!series.is_empty()).then(|| Rescue::new(machine, &file.release, series))
    }

    /// Keeps what the package has, unless something is kept already: then that was in effect, and what the package has was
    /// not. All copies are there at once.
    pub fn keep(&self) -> Result<()> {
        let old = installed::modules(&self.of_package);
        if old.is_empty() || !installed::modules(&self.folder).is_empty() {
            return Ok(());
        }
        let new = self.hidden("new");
        remove(&new)?;
        for path in &old {
            let bytes = fs::read(path).map_err(|error| Error::file("read", path, &error))?;
            machine::write_durably(&new.join(path.file_name().unwrap_or_default()), &bytes)?;
        }
        // It has no modules.
        remove(&self.folder)?;
        rename(&new, &self.folder)
    }

    /// Forgets what was kept: from now on what the package has is loaded at boot.
    pub fn forget(&self) -> Result<()> {
        let old = self.hidden("old");
        remove(&old)?;
        if self.folder.is_dir() {
            rename(&self.folder, &old)?;
        }
        remove(&old)?;
        remove(&self.hidden("new"))
    }

    /// The names of what is kept.
    pub fn kept(&self) -> Vec<String> {
        names(&self.folder)
    }

    /// The names of all that is kept or in the package.
    pub fn all(&self) -> Vec<String> {
        let mut all = names(&self.folder);
        all.extend(names(&self.of_package));
        all.sort();
        all.dedup();
        all
    }

    /// The file of a module in the package.
    pub fn in_package(&self, name: &str) -> PathBuf {
        self.of_package.join(format!("{name}.ko"))
    }

    /// A folder that nobody takes for a series.
    fn hidden(&self, what: &str) -> PathBuf {
        let series = self.folder.file_name().unwrap_or_default().to_string_lossy();
        self.folder.with_file_name(format!(".{series}.{what}"))
    }
}

/// A file that cannot be read has the name of its module all the same, most likely.
fn names(folder: &Path) -> Vec<String> {
    let name = |path: PathBuf| match ModuleFile::read(&path) {
        Ok(file) => Some(file.name),
        Err(_) => Some(path.file_stem()?.to_str()?.to_owned()),
    };
    installed::modules(folder).into_iter().filter_map(name).collect()
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", folder, &error)),
        _ => Ok(()),
    }
}

/// Renames a folder so that it survives a power cut.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().unwrap_or(Path::new("/"));
    let renamed = fs::rename(from, to).and_then(|()| fs::File::open(parent)?.sync_all());
    renamed.map_err(|error| Error::file("write", to, &error))
}
