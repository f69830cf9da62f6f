//! A cache of what can be made again: shards, native objects, proofs.
//!
//! Every entry is `objects/<area>/<key>`. It appears in one step, and what is read was written whole. Entries are named
//! and filled by their users; the store only sees to it that none is removed while a run uses the cache.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Guard;

/// The cache, held so that `gc` leaves it alone.
#[derive(Debug)]
pub struct Objects {
    root: PathBuf,
    _guard: Guard,
}

impl Objects {
    pub(super) fn new(root: PathBuf, guard: Guard) -> Self {
        Objects { root, _guard: guard }
    }

    /// The folder, for users that name their entries themselves, two levels deep.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Marks an entry as used now. An entry that cannot be marked is merely removed sooner.
pub fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}
