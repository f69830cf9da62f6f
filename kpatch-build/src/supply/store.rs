//! The store: sources, kernel builds and small cached objects, each under the hash of what made it.
//!
//! Two guarantees. An entry under a key is complete: it is renamed into place in one step or, if it must be made in
//! place, guarded by a marker that is removed last. And every user of an entry holds a lock on it, which the kernel
//! releases if the process dies. So a killed run leaves nothing that a later run cannot repair.
//!
//! ```text
//! sources/<sha256>/{archive.tar.xz, tree/, origin.json}
//! builds/<version>-<arch>-<config>-<hash>/{build/, manifest.json, files.json}
//! objects/<area>/<key>          files and folders that can be made again in seconds
//! unpacked/<key>/               kernels and compilers of a distribution, out of its packages
//! apt/                          package lists and unfinished downloads of a private apt
//! work/                         folders of runs under way that are kept or too large for memory
//! locks/ logs/ trash/
//! ```

mod builds;
pub mod cache;
mod digest;
mod housekeeping;
mod lock;
mod memory;
mod objects;
mod place;
mod sources;
mod space;
mod unpacked;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

pub use builds::{BuildInputs, BuildSlot, NewBuild, OpenBuild};
pub use digest::{FileHashes, InputHasher, hash_file};
pub use housekeeping::{Entry, GcPolicy, Kind, Problem};
pub use lock::Guard;
pub use objects::{Objects, touch};
pub use place::files_below;
pub use sources::{Origin, SourceSlot, StoredSource};
pub use space::{is_disk_full, require_space};
pub use unpacked::{NewUnpacked, Unpacked};
pub use work::WorkDir;

use crate::outcome::Ending;

/// A store on disk.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    /// Where this run writes: the store itself, or the user's own one if the store is shared and read-only.
    own: PathBuf,
}

/// Called while waiting for a lock: who holds it, and how long the wait has been.
pub type OnWait<'a> = &'a dyn Fn(&str, Duration);

impl Store {
    /// Opens the chosen store, or the one in the user's cache folder, and creates it if needed.
    ///
    /// A chosen store that cannot be written to is shared: its kernels are used, and what this run makes goes to the store in
    /// the user's cache folder.
    pub fn open(chosen: Option<&Path>) -> Result<Self> {
        match chosen {
            Some(root) if is_read_only(root) => Self::shared(root, &default_root()?),
            Some(root) => Self::writable(root),
            None => Self::writable(&default_root()?),
        }
    }

    fn shared(root: &Path, own: &Path) -> Result<Self> {
        let own = Self::writable(own)?.root;
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Store { root, own })
    }

    fn writable(root: &Path) -> Result<Self> {
        for folder in [
            "sources", "builds", "objects", "unpacked", "apt", "work", "locks", "logs", "trash",
        ] {
            let folder = root.join(folder);
            std::fs::create_dir_all(&folder)
                .map_err(|error| cannot(&format!("create {}", folder.display()), &error))?;
        }
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            // Backup programs look for the first line.
            let text = "Signature: 8a477f597d28d172789f06886806bc55\n# Made by kpatch; can be made again.\n";
            std::fs::write(&tag, text).map_err(|error| cannot(&format!("write {}", tag.display()), &error))?;
        }
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Store {
            own: root.clone(),
            root,
        })
    }

    /// An error if what is missing would have to be made in a store that is read-only.
    fn must_be_writable(&self, what: &str) -> Result<()> {
        if self.own == self.root {
            return Ok(());
        }
        Err(Ending::infrastructure(format!(
            "the store {} is read-only and does not have {what}: add it there, or use another --store",
            self.root.display()
        )))
    }

    /// The folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of the log of a long step. Logs outlive the entries that they are about.
    pub fn log(&self, name: &str) -> PathBuf {
        self.own.join("logs").join(format!("{name}.log"))
    }

    /// The cache of small objects. While it is held, `gc` leaves the cache alone.
    pub fn objects(&self, wait: OnWait<'_>) -> Result<Objects> {
        let guard = Guard::shared(&self.own.join("locks").join("objects.lock"), wait)?;
        Ok(Objects::new(self.own.join("objects"), guard))
    }

    /// A fresh folder for one run, removed when the value is dropped, or by the next run if this one is killed.
    pub fn work_dir(&self, keep: bool) -> Result<WorkDir> {
        WorkDir::create(&self.own.join("work"), keep)
    }

    /// The same for temporary work: in memory if there is room, else in the store. Work that is kept goes to the store,
    /// so that it survives a reboot.
    pub fn scratch(&self, keep: bool) -> Result<WorkDir> {
        if let Some(folder) = memory::folder() {
            // First, since the leftovers of a killed run may occupy the room.
            work::sweep(&folder)?;
            if !keep && memory::has_room(&folder) {
                return WorkDir::create(&folder, keep);
            }
        }
        self.work_dir(keep)
    }

    /// Keeps other runs from writing this file, given by its absolute path; nothing if one of them is about to.
    pub fn output_lock(&self, file: &Path) -> Result<Option<Guard>> {
        let hash = InputHasher::new("output")
            .input("path", file.as_os_str().as_encoded_bytes())
            .finish();
        Guard::try_exclusive(&self.own.join("locks").join(format!("output-{}.lock", &hash[..16])))
    }

    fn lock_file(&self, name: &str) -> PathBuf {
        self.root.join("locks").join(format!("{name}.lock"))
    }
}

/// Whether this is a store that this user cannot write to.
fn is_read_only(root: &Path) -> bool {
    let is_store = root.join("CACHEDIR.TAG").is_file() && root.join("builds").is_dir();
    is_store && rustix::fs::access(root.join("builds"), rustix::fs::Access::WRITE_OK).is_err()
}

fn default_root() -> Result<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // XDG base directory specification: ignore a relative path.
    let cache = set("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    let cache = cache.or_else(|| set("HOME").map(|home| home.join(".cache")));
    cache
        .map(|cache| cache.join("kpatch"))
        .ok_or_else(|| Ending::infrastructure("neither HOME nor XDG_CACHE_HOME is set; pass --store"))
}

/// An I/O error of the store: always a problem of the environment, never of the patch.
fn cannot(what: &str, error: &std::io::Error) -> anyhow::Error {
    Ending::infrastructure(format!("cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_store_is_read_and_what_is_made_goes_elsewhere() {
        let (shared, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Store::writable(shared.path()).unwrap();
        let store = Store::shared(shared.path(), own.path()).unwrap();
        let inside = |path: &Path| path.starts_with(own.path().canonicalize().unwrap());
        assert!(inside(&store.log("x")));
        assert!(inside(store.work_dir(false).unwrap().path()));
        let objects = store.objects(&|_, _| {}).unwrap();
        assert!(inside(objects.root()));
        assert!(store.new_source().is_err() && store.new_unpacked().is_err());
        assert!(store.apt_folder("bookworm", &|_, _| {}).is_err());
        let first = store.output_lock(Path::new("/a/b.ko")).unwrap();
        assert!(first.is_some() && store.output_lock(Path::new("/a/b.ko")).unwrap().is_none());
        assert!(store.output_lock(Path::new("/a/c.ko")).unwrap().is_some());
        assert!(!is_read_only(shared.path()) && !is_read_only(&own.path().join("nothing")));
    }
}
