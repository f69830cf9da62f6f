//! A cache of files and folders that can be made again: shards, native objects, proofs.
//!
//! Every entry is `objects/<2 characters>/<key>`. It appears in one step, and what is read was written whole.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::{Guard, cannot, place};

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

    /// A cached file.
    pub fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path(key);
        match std::fs::read(&path) {
            Ok(bytes) => {
                touch(&path);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot(&format!("read {}", path.display()), &error)),
        }
    }

    /// Puts a file into the cache.
    pub fn put_bytes(&self, key: &str, bytes: &[u8]) -> Result<()> {
        place::write_whole(&self.ready_path(key)?, bytes)
    }

    /// A cached folder.
    pub fn get_dir(&self, key: &str) -> Option<PathBuf> {
        let path = self.path(key);
        touch(&path);
        path.is_dir().then_some(path)
    }

    /// Puts a folder into the cache: `fill` makes its contents. If another run was first, its folder is taken.
    pub fn put_dir(&self, key: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let path = self.ready_path(key)?;
        let folder = path.parent().unwrap_or(&self.root);
        let made = tempfile::Builder::new().prefix(".new-").tempdir_in(folder);
        let made = made.map_err(|error| cannot(&format!("make a folder in {}", folder.display()), &error))?;
        fill(made.path())?;
        let opened = File::open(made.path()).with_context(|| format!("cannot open {}", made.path().display()))?;
        rustix::fs::syncfs(&opened).map_err(|error| cannot(&format!("flush {}", folder.display()), &error.into()))?;
        match std::fs::rename(made.path(), &path) {
            // The name is in place now: there is nothing left to remove.
            Ok(()) => drop(made.keep()),
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(cannot(&format!("put {} in place", path.display()), &error)),
        }
        Ok(path)
    }

    fn path(&self, key: &str) -> PathBuf {
        // Keys are hexadecimal; the first two digits spread them over 256 folders.
        let split = key.len().min(2);
        self.root.join(&key[..split]).join(key)
    }

    fn ready_path(&self, key: &str) -> Result<PathBuf> {
        let path = self.path(key);
        let folder = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder).map_err(|error| cannot(&format!("create {}", folder.display()), &error))?;
        Ok(path)
    }
}

/// Marks an entry as used now. An entry that cannot be marked is merely removed sooner.
fn touch(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = file.set_modified(SystemTime::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn files_and_folders_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Store::open(Some(folder.path())).unwrap().objects(&|_, _| {}).unwrap();
        assert_eq!(objects.get_bytes("abcd").unwrap(), None);
        objects.put_bytes("abcd", b"x").unwrap();
        assert_eq!(objects.get_bytes("abcd").unwrap().as_deref(), Some(&b"x"[..]));
        assert!(objects.get_dir("ef01").is_none());
        let fill = |path: &Path| Ok(std::fs::write(path.join("f"), "y")?);
        let path = objects.put_dir("ef01", fill).unwrap();
        assert_eq!(objects.put_dir("ef01", fill).unwrap(), path);
        assert_eq!(std::fs::read(objects.get_dir("ef01").unwrap().join("f")).unwrap(), b"y");
        assert_eq!(place::names(&folder.path().join("objects/ef")).unwrap(), ["ef01"]);
    }

    #[test]
    fn a_failed_fill_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Store::open(Some(folder.path())).unwrap().objects(&|_, _| {}).unwrap();
        assert!(objects.put_dir("ef01", |_| anyhow::bail!("no")).is_err());
        assert!(objects.get_dir("ef01").is_none());
        assert_eq!(std::fs::read_dir(folder.path().join("objects/ef")).unwrap().count(), 0);
    }
}
