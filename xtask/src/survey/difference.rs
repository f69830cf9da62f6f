//! Which files two source trees do not have in common.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Both trees have it, with different content.
    Modified,
    /// Only the newer tree has it.
    New,
    /// Only the older tree has it.
    Deleted,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Changed {
    /// Path relative to the tree.
    pub path: String,
    pub change: Change,
}

/// All files that differ, by path. Symbolic links are left out: nothing is compiled that is not found as a file, too.
pub fn difference(old: &Path, new: &Path) -> Result<Vec<Changed>> {
    let (before, after) = rayon::join(|| files(old), || files(new));
    let (before, after) = (before?, after?);
    let all: Vec<&String> = before.union(&after).collect();
    let of = |path: &&String| -> Result<Option<Changed>> {
        let change = match (before.contains(*path), after.contains(*path)) {
            (true, true) if same(&old.join(path), &new.join(path))? => return Ok(None),
            (true, true) => Change::Modified,
            (false, _) => Change::New,
            (true, false) => Change::Deleted,
        };
        Ok(Some(Changed {
            path: (*path).clone(),
            change,
        }))
    };
    let found = all.par_iter().map(of).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

fn same(a: &Path, b: &Path) -> Result<bool> {
    let size = |path: &Path| -> Result<u64> {
        let meta = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(meta.len())
    };
    if size(a)? != size(b)? {
        return Ok(false);
    }
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(read(a)? == read(b)?)
}

fn files(root: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let kind = entry.file_type().context("cannot tell what a file is")?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let relative = path.strip_prefix(root).context("a file outside its tree")?;
                let name = relative
                    .to_str()
                    .with_context(|| format!("{} is no text", path.display()))?;
                found.insert(name.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        put(
            old.path(),
            &[("a/same.c", "1"), ("a/other.c", "1"), ("gone.h", ""), ("size.c", "1")],
        );
        put(
            new.path(),
            &[("a/same.c", "1"), ("a/other.c", "2"), ("b/new.h", ""), ("size.c", "11")],
        );
        let found = difference(old.path(), new.path()).unwrap();
        let shown: Vec<(&str, Change)> = found.iter().map(|one| (one.path.as_str(), one.change)).collect();
        let expected = [
            ("a/other.c", Change::Modified),
            ("b/new.h", Change::New),
            ("gone.h", Change::Deleted),
            ("size.c", Change::Modified),
        ];
        assert_eq!(shown, expected);
    }
}
