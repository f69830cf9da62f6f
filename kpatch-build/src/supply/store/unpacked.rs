//! What was unpacked from packages: a distribution's kernel, a compiler. Each entry is a folder with a record of what it
//! is, made elsewhere in the store and renamed into place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Guard, OnWait, Store, WorkDir, cannot, place};
use crate::outcome::Ending;

/// The record of an entry.
const RECORD: &str = "record.json";

/// An entry. It cannot be removed while this value lives.
#[derive(Debug)]
pub struct Unpacked {
    /// The folder, read-only.
    pub folder: PathBuf,
    _guard: Guard,
}

impl Unpacked {
    /// What it is.
    pub fn record<R: DeserializeOwned>(&self) -> Result<R> {
        read_record(&self.folder)
    }
}

/// An entry under construction, on the file system of the store. Dropping it removes it.
#[derive(Debug)]
pub struct NewUnpacked {
    work: WorkDir,
}

impl NewUnpacked {
    /// The folder to fill.
    pub fn folder(&self) -> &Path {
        self.work.path()
    }
}

impl Store {
    /// The entry of this key.
    pub fn unpacked(&self, key: &str, wait: OnWait<'_>) -> Result<Option<Unpacked>> {
        let folder = self.unpacked_folder(key);
        if !folder.exists() {
            return Ok(None);
        }
        let guard = Guard::shared(&self.unpacked_lock(key), wait)?;
        Ok(folder.exists().then_some(Unpacked { folder, _guard: guard }))
    }

    /// Keys and records of the entries that have a record of this type. Those of other types do not deserialize.
    pub fn unpacked_records<R: DeserializeOwned>(&self) -> Result<Vec<(String, R)>> {
        let names = place::names(&self.root.join("unpacked"))?.into_iter();
        Ok(names
            .filter_map(|name| {
                let record = read_record(&self.unpacked_folder(&name)).ok()?;
                Some((name, record))
            })
            .collect())
    }

    /// A folder to make an entry in.
    pub fn new_unpacked(&self) -> Result<NewUnpacked> {
        self.must_be_writable("these packages")?;
        Ok(NewUnpacked {
            work: self.work_dir(false)?,
        })
    }

    /// Where the entry of a key will be, for those that must know before it is there.
    pub fn unpacked_folder(&self, key: &str) -> PathBuf {
        self.root.join("unpacked").join(key)
    }

    /// Puts a finished entry in place. If another run was first, its entry stays.
    pub fn add_unpacked(
        &self,
        new: NewUnpacked,
        key: &str,
        record: &impl Serialize,
        wait: OnWait<'_>,
    ) -> Result<Unpacked> {
        let folder = self.unpacked_folder(key);
        let text = serde_json::to_vec_pretty(record).context("cannot write the record of an unpacked package")?;
        place::write_whole(&new.folder().join(RECORD), &text)?;
        let entries = std::fs::read_dir(new.folder());
        for entry in entries.map_err(|error| cannot("read a work folder", &error))?.flatten() {
            place::make_read_only(&entry.path())
                .map_err(|error| cannot(&format!("protect {}", entry.path().display()), &error))?;
        }
        let guard = Guard::exclusive(&self.unpacked_lock(key), "storing an unpacked package", wait)?;
        if !folder.exists() {
            new.work.give_to(&folder)?;
        }
        drop(guard);
        let lost = || Ending::infrastructure(format!("{key} disappeared from the store while it was added"));
        self.unpacked(key, wait)?.ok_or_else(lost)
    }

    /// A folder of the store that apt keeps lists and downloads in, and the lock on it.
    pub fn apt_folder(&self, name: &str, wait: OnWait<'_>) -> Result<(PathBuf, Guard)> {
        self.must_be_writable("this kernel")?;
        let guard = Guard::exclusive(&self.lock_file(&format!("apt-{name}")), "reading package lists", wait)?;
        let folder = self.root.join("apt").join(name);
        std::fs::create_dir_all(&folder).map_err(|error| cannot(&format!("create {}", folder.display()), &error))?;
        Ok((folder, guard))
    }

    /// What an entry is, in words; for lists.
    pub(super) fn about_unpacked(&self, key: &str) -> String {
        let record = read_record::<serde_json::Value>(&self.unpacked_folder(key));
        let about = record
            .ok()
            .and_then(|record| Some(record.get("about")?.as_str()?.to_owned()));
        about.unwrap_or_else(|| "unpacked packages".to_owned())
    }

    pub(super) fn unpacked_lock(&self, key: &str) -> PathBuf {
        self.lock_file(&format!("unpacked-{key}"))
    }
}

fn read_record<R: DeserializeOwned>(folder: &Path) -> Result<R> {
    let path = folder.join(RECORD);
    let text = std::fs::read(&path).map_err(|error| cannot(&format!("read {}", path.display()), &error))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize, PartialEq)]
    struct Record {
        about: String,
        number: u32,
    }

    #[test]
    fn an_entry_is_whole_or_not_there_and_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let add = |number: u32| {
            let new = store.new_unpacked().unwrap();
            std::fs::create_dir(new.folder().join("deep")).unwrap();
            std::fs::write(new.folder().join("deep/file"), number.to_string()).unwrap();
            let about = "a test".to_owned();
            store
                .add_unpacked(new, "k", &Record { about, number }, &|_, _| {})
                .unwrap()
        };
        assert!(store.unpacked("k", &|_, _| {}).unwrap().is_none());
        let added = add(1);
        assert_eq!(added.record::<Record>().unwrap().number, 1);
        assert!(
            added
                .folder
                .join("deep/file")
                .metadata()
                .unwrap()
                .permissions()
                .readonly()
        );
        drop(added);
        assert_eq!(add(2).record::<Record>().unwrap().number, 1);
        assert_eq!(store.unpacked_records::<Record>().unwrap().len(), 1);
        assert_eq!(store.about_unpacked("k"), "a test");
        assert!(place::names(&folder.path().join("work")).unwrap().is_empty());
        // Dropping an unfinished one leaves nothing.
        drop(store.new_unpacked().unwrap());
        assert!(place::names(&folder.path().join("work")).unwrap().is_empty());
    }
}
