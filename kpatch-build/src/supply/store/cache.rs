//! A cache of compiler and linker results, each under a hash of everything it depends on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::digest::hex;
use super::{files_below, touch};
use crate::sh;

/// A SHA-256 of content.
pub type Hash = [u8; 32];

/// A cache in one directory. Several runs may use it at once: entries appear by rename and never change.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// A cache at this directory, which need not exist.
    pub fn new(root: &Path) -> Cache {
        Cache {
            root: root.to_path_buf(),
        }
    }

    /// The directory of an entry. If the entry is missing, `make` fills a new directory. An entry whose content is not what
    /// was put there counts as missing: a damaged disk must not become a damaged livepatch.
    pub fn get(&self, area: &str, key: &Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        if let Some(entry) = self.find(area, key)? {
            return Ok(entry);
        }
        let area = self.root.join(area);
        let entry = area.join(key.name());
        fs::create_dir_all(&area).with_context(|| format!("cannot make {}", area.display()))?;
        let fresh = tempfile::Builder::new()
            .prefix(".making-")
            .tempdir_in(&area)
            .context("cannot make a folder")?;
        let _temporary = sh::temporary(fresh.path());
        make(fresh.path())?;
        let sum = digest(fresh.path()).with_context(|| format!("cannot read {}", fresh.path().display()))?;
        fs::write(fresh.path().join(SUM), sum).with_context(|| format!("cannot write {}", fresh.path().display()))?;
        flush(fresh.path()).with_context(|| format!("cannot write {}", fresh.path().display()))?;
        match fs::rename(fresh.path(), &entry) {
            // The folder was renamed, so there is nothing left to remove.
            Ok(()) => drop(fresh.keep()),
            // Another run was faster; its entry has the same content.
            Err(_) if entry.is_dir() => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", entry.display())),
        }
        Ok(entry)
    }

    /// The directory of an entry if it is there and sound. A damaged one is removed.
    pub fn find(&self, area: &str, key: &Key) -> Result<Option<PathBuf>> {
        let entry = self.root.join(area).join(key.name());
        if !entry.is_dir() {
            return Ok(None);
        }
        if is_sound(&entry) {
            touch(&entry);
            return Ok(Some(entry));
        }
        self.forget(area, key)?;
        Ok(None)
    }

    /// Removes an entry that is no longer of use, if no other run was faster.
    pub fn forget(&self, area: &str, key: &Key) -> Result<()> {
        let entry = self.root.join(area).join(key.name());
        discard(&entry).with_context(|| format!("cannot discard {}", entry.display()))
    }
}

/// The file of an entry that has the digest of the others.
const SUM: &str = ".sha256";

/// Whether an entry has the content that it was made with.
fn is_sound(entry: &Path) -> bool {
    let recorded = fs::read_to_string(entry.join(SUM));
    matches!((recorded, digest(entry)), (Ok(recorded), Ok(found)) if recorded == found)
}

/// Digest over the names and contents of an entry's files, in hexadecimal.
fn digest(entry: &Path) -> std::io::Result<String> {
    let mut files = files_below(entry, &|_| true)?;
    files.sort();
    let mut key = Key::default();
    for file in files.iter().filter(|file| **file != entry.join(SUM)) {
        let name = file.strip_prefix(entry).unwrap_or(file);
        key = key.bytes(name.as_os_str().as_encoded_bytes()).bytes(&fs::read(file)?);
    }
    Ok(key.name())
}

/// Takes an entry out of the way in one step, so that no other run sees half of it.
fn discard(entry: &Path) -> std::io::Result<()> {
    let area = entry.parent().unwrap_or(entry);
    let aside = tempfile::Builder::new().prefix(".damaged-").tempdir_in(area)?;
    match fs::rename(entry, aside.path().join("entry")) {
        // Another run was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Entries with more files than this are flushed with a sync of the whole file system, which is faster.
const FEW: usize = 16;

/// Makes an entry durable before it gets its name, so that a power cut cannot leave a name with nothing behind it.
fn flush(entry: &Path) -> std::io::Result<()> {
    let files = files_below(entry, &|_| true)?;
    if files.len() > FEW {
        return Ok(rustix::fs::syncfs(fs::File::open(entry)?)?);
    }
    let mut all = files.iter().map(PathBuf::as_path).chain([entry]);
    all.try_for_each(|path| fs::File::open(path)?.sync_all())
}

/// Hash of everything a result depends on. Each part is hashed with its length, so that no two lists of parts look the
/// same.
#[derive(Debug, Clone, Default)]
pub struct Key(Sha256);

impl Key {
    /// An empty key. `version` is that of the entry's format.
    pub fn new(version: &str) -> Key {
        Key::default().text(version)
    }

    /// Adds bytes, with their length.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Key {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds text, with its length.
    #[must_use]
    pub fn text(self, text: &str) -> Key {
        self.bytes(text.as_bytes())
    }

    /// Adds a list of words.
    #[must_use]
    pub fn words<'a>(self, words: impl ExactSizeIterator<Item = &'a String>) -> Key {
        let key = self.bytes(&(words.len() as u64).to_le_bytes());
        words.fold(key, |key, word| key.text(word))
    }

    fn name(&self) -> String {
        self.0
            .clone()
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Content hashes of files; each file is read once per run.
#[derive(Debug, Default)]
pub struct Hashes(Mutex<BTreeMap<PathBuf, Hash>>);

impl Hashes {
    /// The hash of a file's content as text.
    pub fn text(&self, path: &Path) -> Result<String> {
        self.of(path).map(|hash| hex(&hash))
    }

    /// The hash of a file's content.
    pub fn of(&self, path: &Path) -> Result<Hash> {
        let known = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(hash) = known().get(path) {
            return Ok(*hash);
        }
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let hash: Hash = Sha256::digest(&bytes).into();
        known().insert(path.to_path_buf(), hash);
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_found_again() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path());
        let key = Key::new("1").text("x");
        let put = |text: &'static str| move |folder: &Path| Ok(fs::write(folder.join("f"), text)?);
        let first = cache.get("a", &key, put("one")).unwrap();
        let second = cache.get("a", &key, put("two")).unwrap();
        assert_eq!(
            (first, fs::read(second.join("f")).unwrap()),
            (second.clone(), b"one".to_vec())
        );
    }

    #[test]
    fn a_damaged_entry_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path());
        let key = Key::new("1").text("x");
        let put = |folder: &Path| Ok(fs::write(folder.join("f"), "good")?);
        let damages: [fn(&Path); 4] = [
            |entry| fs::write(entry.join("f"), "gOod").unwrap(),
            |entry| fs::remove_file(entry.join("f")).unwrap(),
            |entry| fs::write(entry.join("g"), "more").unwrap(),
            |entry| fs::remove_file(entry.join(SUM)).unwrap(),
        ];
        for damage in damages {
            damage(&cache.get("a", &key, put).unwrap());
            let entry = cache.get("a", &key, put).unwrap();
            assert_eq!(fs::read(entry.join("f")).unwrap(), b"good");
            assert!(!entry.join("g").exists());
            let never = |_: &Path| panic!("it is sound");
            cache.get("a", &key, never).unwrap();
            assert_eq!(fs::read_dir(root.path().join("a")).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path());
        assert!(cache.get("a", &Key::new("1"), |_| anyhow::bail!("no")).is_err());
        assert_eq!(cache.find("a", &Key::new("1")).unwrap(), None);
        assert_eq!(fs::read_dir(root.path().join("a")).unwrap().count(), 0);
    }

    #[test]
    fn keys_do_not_run_together() {
        assert_ne!(Key::new("ab").text("c").name(), Key::new("a").text("bc").name());
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (one, two) = (words(&["a", "b"]), words(&["a"]));
        assert_ne!(
            Key::new("").words(one.iter()).name(),
            Key::new("").words(two.iter()).text("b").name()
        );
    }
}
