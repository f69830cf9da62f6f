//! A cache of results that can be made again: shards, native objects, proofs.
//!
//! Every entry is `objects/<area>/<key>`. It appears in one step, so readers see it complete. Users name and fill the
//! entries; the store only ensures that none is removed while a run uses the cache.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Guard;

/// The cache, locked against `gc`.
#[derive(Debug)]
pub struct Objects {
    root: PathBuf,
    _guard: Guard,
}

impl Objects {
    pub(super) fn new(root: PathBuf, guard: Guard) -> Self {
        Objects { root, _guard: guard }
    }

    /// The folder. Users name their entries themselves, two levels deep.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Marks an entry as used now. If this fails, the entry is merely removed sooner.
pub fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}
