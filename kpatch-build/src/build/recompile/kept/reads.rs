//! What a compilation read: its files with their contents, and what there was beside them.
//!
//! An `#include` is looked for in one folder after the other, and a file that appears in an earlier one is read from then
//! on, although nothing that was read before has changed. So a list also has those files that lie where one that was
//! read could have been found, and a file more or less there is a change.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::{neutral, of_this_run};
use crate::build::kbuild::TreePath;
use crate::build::kbuild::trees::normalise;
use crate::build::site::Site;

/// Words in a source that make a compilation depend on more than on listed files: the clock, the time of a file, files
/// that the assembler reads, files that are only asked for.
const UNLISTED: [&[u8]; 7] = [
    b"__DATE__",
    b"__TIME__",
    b"__TIMESTAMP__",
    b".incbin",
    b"#embed",
    b"__has_embed",
    b"__has_include",
];

/// Options with a folder in which includes are looked for.
const FOLDERS: [&str; 4] = ["-I", "-iquote", "-isystem", "-idirafter"];

/// Looks at what one compilation reads.
pub(super) struct Reads<'a> {
    pub site: &'a Site<'a>,
    pub overlaid: &'a BTreeSet<String>,
    pub content: &'a str,
    pub words: &'a [String],
    pub seen: &'a Seen,
}

/// What is the same for all compilations of a run, by path.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether a file is there.
    there: Memory,
    /// Whether a file has words in it that make its reader depend on more.
    unlisted: Memory,
    /// What a folder has in it.
    names: Mutex<BTreeMap<PathBuf, Names>>,
}

type Names = Arc<HashSet<OsString>>;

#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<PathBuf, bool>>);

impl Memory {
    fn of(&self, path: &Path, find: impl FnOnce(&Path) -> bool) -> bool {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known().get(path) {
            return *answer;
        }
        let answer = find(path);
        known().insert(path.to_owned(), answer);
        answer
    }
}

/// The list of an entry.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct List {
    /// Files as the compiler named them, and their contents.
    files: Vec<(String, String)>,
    /// Files that are where another one could have been found.
    beside: BTreeSet<String>,
}

impl Reads<'_> {
    /// The list for these files, as bytes; nothing if the compilation depends on more.
    pub fn list(&self, names: &[&str]) -> Option<Vec<u8>> {
        let has_words = |path: &Path| {
            fs::read(path).map_or(true, |text| {
                UNLISTED.iter().any(|word| memmem::find(&text, word).is_some())
            })
        };
        let mut files = Vec::new();
        for name in names {
            let path = self.path(name);
            if self.seen.unlisted.of(&path, has_words) {
                return None;
            }
            let hash = self.site.hashes.text(&path).ok()?;
            files.push((neutral(name, &self.site.work), hash));
        }
        let beside = self.beside(names);
        let list = serde_json::to_vec(&List { files, beside }).ok()?;
        (!names.is_empty()).then_some(list)
    }

    /// The names of a list's files, if all of it is still so.
    pub fn if_unchanged(&self, list: &[u8]) -> Option<Vec<String>> {
        let list: List = serde_json::from_slice(list).ok()?;
        let mut names = Vec::new();
        for (name, hash) in &list.files {
            let name = of_this_run(name, &self.site.work);
            if self.site.hashes.text(&self.path(&name)).ok()? != *hash {
                return None;
            }
            names.push(name);
        }
        let shown: Vec<&str> = names.iter().map(String::as_str).collect();
        (self.beside(&shown) == list.beside).then_some(names)
    }

    /// Where the content of a file is that the compiler read by this name.
    fn path(&self, name: &str) -> PathBuf {
        let trees = &self.site.kbuild.trees;
        if let TreePath::Source(path) = trees.place(name)
            && self.overlaid.contains(&path)
        {
            return self.site.work.join(self.content).join(path);
        }
        let path = trees.on_disk(name);
        // Behind a link `..` leads elsewhere, and a view of the tree gets fewer links as a run goes on.
        if name.contains("..") {
            path.canonicalize().unwrap_or(path)
        } else {
            path
        }
    }

    fn exists(&self, path: &Path) -> bool {
        let overlaid = match self.site.kbuild.trees.place(&path.to_string_lossy()) {
            TreePath::Source(path) => self.overlaid.contains(&path),
            TreePath::Build(_) | TreePath::Elsewhere(_) => false,
        };
        let on_disk = self.site.kbuild.trees.on_disk(&path.to_string_lossy());
        overlaid || self.seen.there.of(&on_disk, Path::exists)
    }

    /// For each file that was found in a folder of the command: the same name in the folders before it, and in all those
    /// of files that may include it.
    fn beside(&self, names: &[&str]) -> BTreeSet<String> {
        let with_names = |folder: PathBuf| {
            let names = self.names(&folder);
            (folder, names)
        };
        let folders: Vec<(PathBuf, Names)> = self.folders().into_iter().map(with_names).collect();
        let quoting: BTreeSet<PathBuf> = names.iter().filter_map(|name| self.folder(name)).collect();
        let quoting: Vec<(PathBuf, Names)> = quoting.into_iter().map(with_names).collect();
        let mut beside = BTreeSet::new();
        for name in names {
            let absolute = self.absolute(name);
            // An include with `..` in it is found under a name that still has it.
            let spelt = name.contains("..").then(|| self.site.kbuild.trees.build.join(name));
            let found = [Some(&absolute), spelt.as_ref()].into_iter().flatten();
            for (found, (at, (folder, _))) in
                found.flat_map(|path| folders.iter().enumerate().map(move |at| (path, at)))
            {
                let Ok(asked) = found.strip_prefix(folder) else {
                    continue;
                };
                let Some(first) = asked.iter().next() else { continue };
                // Hundreds of files and folders make many pairs, and hardly any folder has such a name at all.
                let can_have = |names: &Names| names.contains(first) || first == "..";
                let places = folders[..at]
                    .iter()
                    .chain(&quoting)
                    .filter(|(_, names)| can_have(names));
                let places = places.map(|(folder, _)| normalise(&folder.join(asked)));
                let others = places.filter(|path| *path != absolute && self.exists(path));
                beside.extend(others.map(|path| neutral(&path.to_string_lossy(), &self.site.work)));
            }
        }
        beside
    }

    /// What is in a folder, with what the patch adds to it.
    fn names(&self, folder: &Path) -> Names {
        let known = || self.seen.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = known().get(folder) {
            return Arc::clone(names);
        }
        let trees = &self.site.kbuild.trees;
        let there = fs::read_dir(trees.on_disk(&folder.to_string_lossy()))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: HashSet<OsString> = there.map(|entry| entry.file_name()).collect();
        if let TreePath::Source(folder) = trees.place(&folder.to_string_lossy()) {
            let below = self
                .overlaid
                .iter()
                .filter_map(|path| Path::new(path).strip_prefix(&folder).ok());
            names.extend(below.filter_map(|path| path.iter().next().map(OsString::from)));
        }
        let names = Arc::new(names);
        known().insert(folder.to_owned(), Arc::clone(&names));
        names
    }

    fn absolute(&self, name: &str) -> PathBuf {
        normalise(&self.site.kbuild.trees.build.join(name))
    }

    fn folder(&self, name: &str) -> Option<PathBuf> {
        self.absolute(name).parent().map(Path::to_owned)
    }

    /// The folders of the command in their order.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            for option in FOLDERS {
                match word.strip_prefix(option) {
                    Some("") => folders.extend(words.next().map(|folder| self.absolute(folder))),
                    Some(folder) => folders.push(self.absolute(folder)),
                    None => continue,
                }
                break;
            }
        }
        folders
    }
}
