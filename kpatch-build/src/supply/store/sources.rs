//! Source trees, each under the checksum of its archive. The archive is kept as well: distribution archives drop point
//! releases that people still run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{FileHashes, Guard, OnWait, Store, WorkDir, cannot, hash_file, place};
use crate::outcome::Ending;

/// Holds the digest of the unpacked tree.
const TREE_HASH: &str = "tree.sha256";

/// Where a source came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Kernel version, e.g. `6.12.107`.
    pub version: String,
    /// Its name where it came from, e.g. `linux-source-6.12 6.12.107-1~deb12u1`.
    pub from: String,
}

/// A source tree in the store. It cannot be removed while this value lives.
#[derive(Debug)]
pub struct StoredSource {
    /// Checksum of the archive.
    pub sha256: String,
    /// The unpacked tree, read-only.
    pub tree: PathBuf,
    /// Where it came from.
    pub origin: Origin,
    _guard: Guard,
}

/// A source that is not in the store yet: a folder to make it in, on the same file system.
pub struct SourceSlot {
    work: WorkDir,
}

impl SourceSlot {
    /// Where the archive is to be put.
    pub fn archive(&self) -> PathBuf {
        self.work.path().join("archive.tar.xz")
    }

    /// Where the archive is to be unpacked.
    pub fn tree(&self) -> PathBuf {
        self.work.path().join("tree")
    }

    /// A folder for anything else; it is not kept.
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = self.work.path().join("scratch");
        std::fs::create_dir_all(&path).map_err(|error| cannot(&format!("create {}", path.display()), &error))?;
        Ok(path)
    }
}

impl Store {
    /// A source by the checksum of its archive.
    pub fn source(&self, sha256: &str, wait: OnWait<'_>) -> Result<Option<StoredSource>> {
        let folder = self.source_folder(sha256);
        if !folder.exists() {
            return Ok(None);
        }
        let guard = Guard::shared(&self.source_lock(sha256), wait)?;
        if !folder.exists() {
            return Ok(None);
        }
        let origin = read_origin(&folder)?;
        Ok(Some(StoredSource {
            sha256: sha256.to_owned(),
            tree: folder.join("tree"),
            origin,
            _guard: guard,
        }))
    }

    /// All sources: checksum of the archive, and origin.
    pub fn sources(&self) -> Result<Vec<(String, Origin)>> {
        let names = place::names(&self.root.join("sources"))?;
        names
            .into_iter()
            .map(|name| Ok((name.clone(), read_origin(&self.source_folder(&name))?)))
            .collect()
    }

    /// Prevents other runs from fetching the same version at the same time.
    pub fn fetch_lock(&self, version: &str, wait: OnWait<'_>) -> Result<Guard> {
        Guard::exclusive(
            &self.lock_file(&format!("fetch-{version}")),
            &format!("fetching Linux {version}"),
            wait,
        )
    }

    /// A folder to make a new source in.
    pub fn new_source(&self) -> Result<SourceSlot> {
        self.must_be_writable("this source")?;
        Ok(SourceSlot {
            work: self.work_dir(false)?,
        })
    }

    /// Takes a finished source into the store.
    pub fn add_source(&self, slot: SourceSlot, origin: &Origin, wait: OnWait<'_>) -> Result<StoredSource> {
        let sha256 = hash_file(&slot.archive())?;
        place::make_read_only(&slot.tree()).with_context(|| format!("cannot protect {}", slot.tree().display()))?;
        let text = serde_json::to_vec_pretty(origin).context("cannot write the origin of a source")?;
        place::write_whole(&slot.work.path().join("origin.json"), &text)?;
        place::write_whole(&slot.work.path().join(TREE_HASH), tree_digest(&slot.tree())?.as_bytes())?;
        self.put_source_in_place(slot, &sha256, wait)?;
        let missing =
            || Ending::infrastructure(format!("source {sha256} disappeared from the store while it was added"));
        self.source(&sha256, wait)?.ok_or_else(missing)
    }

    fn put_source_in_place(&self, slot: SourceSlot, sha256: &str, wait: OnWait<'_>) -> Result<()> {
        let folder = self.source_folder(sha256);
        // Checked before taking the lock as well: readers of this source, in this process, too, may hold it for long.
        if folder.exists() {
            return Ok(());
        }
        let _guard = Guard::exclusive(&self.source_lock(sha256), "storing a source", wait)?;
        if folder.exists() {
            return Ok(());
        }
        let scratch = slot.work.path().join("scratch");
        place::remove(&scratch, &self.root.join("trash"))?;
        slot.work.give_to(&folder)
    }

    /// What is wrong with a source, if anything.
    pub(super) fn damage_of_source(&self, sha256: &str) -> Result<Option<&'static str>> {
        let folder = self.source_folder(sha256);
        if hash_file(&folder.join("archive.tar.xz"))? != sha256 {
            return Ok(Some("archive changed"));
        }
        let path = folder.join(TREE_HASH);
        let recorded =
            std::fs::read_to_string(&path).map_err(|error| cannot(&format!("read {}", path.display()), &error))?;
        Ok((tree_digest(&folder.join("tree"))? != recorded.trim()).then_some("files of the tree changed"))
    }

    pub(super) fn source_folder(&self, sha256: &str) -> PathBuf {
        self.root.join("sources").join(sha256)
    }

    pub(super) fn source_lock(&self, sha256: &str) -> PathBuf {
        self.lock_file(&format!("source-{sha256}"))
    }
}

fn tree_digest(tree: &Path) -> Result<String> {
    Ok(FileHashes::of(tree, &|_| true)?.digest())
}

fn read_origin(folder: &Path) -> Result<Origin> {
    let path = folder.join("origin.json");
    let text = std::fs::read(&path).map_err(|error| cannot(&format!("read {}", path.display()), &error))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(store: &Store, text: &str) -> StoredSource {
        let slot = store.new_source().unwrap();
        std::fs::write(slot.archive(), text).unwrap();
        std::fs::create_dir_all(slot.tree().join("init")).unwrap();
        std::fs::write(slot.tree().join("init/main.c"), text).unwrap();
        let origin = Origin {
            version: "6.12.1".into(),
            from: "test".into(),
        };
        store.add_source(slot, &origin, &|_, _| {}).unwrap()
    }

    #[test]
    fn a_source_is_found_under_the_checksum_of_its_archive() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let added = add(&store, "abc");
        assert!(added.sha256.starts_with("ba7816bf"));
        assert_eq!(std::fs::read(added.tree.join("init/main.c")).unwrap(), b"abc");
        assert!(
            added
                .tree
                .join("init/main.c")
                .metadata()
                .unwrap()
                .permissions()
                .readonly()
        );
        assert_eq!(store.damage_of_source(&added.sha256).unwrap(), None);
        assert_eq!(add(&store, "abc").sha256, added.sha256);
        assert_eq!(store.sources().unwrap().len(), 1);
        assert!(store.source("0000", &|_, _| {}).unwrap().is_none());
        assert!(place::names(&folder.path().join("trash")).unwrap().is_empty());
    }

    #[test]
    fn a_changed_tree_and_a_changed_archive_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let added = add(&store, "abc");
        let file = added.tree.join("init/main.c");
        let mut permissions = file.metadata().unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
        std::fs::set_permissions(&file, permissions).unwrap();
        std::fs::write(&file, "abd").unwrap();
        assert_eq!(
            store.damage_of_source(&added.sha256).unwrap(),
            Some("files of the tree changed")
        );
        std::fs::write(store.source_folder(&added.sha256).join("archive.tar.xz"), "x").unwrap();
        assert_eq!(store.damage_of_source(&added.sha256).unwrap(), Some("archive changed"));
    }
}
