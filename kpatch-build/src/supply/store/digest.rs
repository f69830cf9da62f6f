//! Hashes of files, and of the inputs that make a key.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::place;

/// The SHA-256 of a file, in lower-case hexadecimal.
pub fn hash_file(path: &Path) -> Result<String> {
    let hash = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(&hasher.finalize())),
                length => hasher.update(&buffer[..length]),
            }
        }
    };
    hash().with_context(|| format!("cannot hash {}", path.display()))
}

/// Bytes as lower case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes named inputs. Lengths are hashed, too, so that no two lists of inputs look the same.
pub struct InputHasher(Sha256);

impl InputHasher {
    /// Starts with the name of what the key is for, and the version of the recipe.
    pub fn new(recipe: &str) -> Self {
        InputHasher(Sha256::new()).input("recipe", recipe.as_bytes())
    }

    /// Adds one named input; both lengths are hashed as well.
    #[must_use]
    pub fn input(mut self, name: &str, value: &[u8]) -> Self {
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// The key: 64 hexadecimal digits.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// The hashes of many files, by path relative to a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileHashes(BTreeMap<String, String>);

impl FileHashes {
    /// Hashes the files of a tree whose names `wanted` accepts.
    pub fn of(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Self> {
        let files = place::files_below(folder, wanted).with_context(|| format!("cannot list {}", folder.display()))?;
        let hash = |file: &PathBuf| Ok((place::below(folder, file), hash_file(file)?));
        Ok(FileHashes(files.par_iter().map(hash).collect::<Result<_>>()?))
    }

    /// The names of files that are missing or differ.
    pub fn differences(&self, folder: &Path) -> Vec<String> {
        let differs = |(name, hash): &(&String, &String)| hash_file(&folder.join(name)).ok().as_ref() != Some(*hash);
        self.0
            .par_iter()
            .filter(differs)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// One hash over all files: that of the list that `sha256sum` would print, sorted by name.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, hash) in &self.0 {
            hasher.update(format!("{hash}  {name}\n"));
        }
        hex(&hasher.finalize())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_where_an_input_ends() {
        let one = InputHasher::new("r1").input("a", b"bc").finish();
        let two = InputHasher::new("r1").input("ab", b"c").finish();
        assert_ne!(one, two);
        assert_ne!(one, InputHasher::new("r2").input("a", b"bc").finish());
        assert_eq!(one, InputHasher::new("r1").input("a", b"bc").finish());
    }

    #[test]
    fn file_hash_is_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc");
        std::fs::write(&file, "abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_file(&file).unwrap(), expected);
    }

    #[test]
    fn changed_and_missing_files_are_differences() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.o", "b.o", "c.o", "d.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let hashes = FileHashes::of(folder.path(), &|name| name.ends_with(".o")).unwrap();
        assert_eq!(hashes.0.len(), 3);
        assert!(hashes.differences(folder.path()).is_empty());
        let digest = hashes.digest();
        std::fs::write(folder.path().join("a.o"), "x").unwrap();
        std::fs::remove_file(folder.path().join("b.o")).unwrap();
        assert_eq!(hashes.differences(folder.path()), ["a.o", "b.o"]);
        let now = FileHashes::of(folder.path(), &|name| name.ends_with(".o")).unwrap();
        assert_ne!(now.digest(), digest);
    }
}
