//! `store ls`, `store gc` and `store verify`: lists entries, removes idle ones, finds damaged ones.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::Serialize;

use super::{Guard, Store, place, work};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A kernel source tree with its archive.
    Source,
    /// A kernel build, finished or not.
    Build,
    /// A distribution's kernel or compiler, unpacked.
    Unpacked,
    /// Lists and downloads of a private apt.
    Apt,
    /// A cached file or folder.
    Object,
    /// A work folder that was kept, or is in use.
    Work,
    /// Something that could not be removed at once.
    Trash,
}

/// One thing in the store.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// What kind of entry it is.
    pub kind: Kind,
    /// Its name: a checksum, a key, a folder name.
    pub name: String,
    /// What it is in words, e.g. the source package or `kernel build`.
    pub about: String,
    /// Disk space it takes.
    pub bytes: u64,
    /// Seconds since it was last used.
    pub idle_seconds: u64,
    /// For a build: the source it was made from, which must stay as long as the build does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<String>,
    #[serde(skip)]
    path: PathBuf,
}

/// What `gc` removes.
#[derive(Debug, Clone, Copy)]
pub struct GcPolicy {
    /// Everything idle for longer than this.
    pub older_than: Duration,
    /// Then the longest idle, until the store has at most this many bytes.
    pub max_size: Option<u64>,
}

/// A problem that `verify` found.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Name of the damaged entry.
    pub name: String,
    /// What is wrong with it, and what to do.
    pub what: String,
}

impl Store {
    /// Everything in the store.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (sha256, origin) in self.sources()? {
            let path = self.source_folder(&sha256);
            entries.push(entry(Kind::Source, sha256.clone(), path, &self.source_lock(&sha256)).about(origin.from));
        }
        for key in place::names(&self.root.join("builds"))? {
            entries.push(self.build_entry(key));
        }
        for key in place::names(&self.root.join("unpacked"))? {
            let about = self.about_unpacked(&key);
            let (path, lock) = (self.unpacked_folder(&key), self.unpacked_lock(&key));
            entries.push(entry(Kind::Unpacked, key, path, &lock).about(about));
        }
        for name in place::names(&self.root.join("apt"))? {
            let (path, lock) = (
                self.root.join("apt").join(&name),
                self.lock_file(&format!("apt-{name}")),
            );
            entries.push(entry(Kind::Apt, name, path, &lock).about("package lists and downloads"));
        }
        for kind in [Kind::Object, Kind::Work, Kind::Trash] {
            let folder = self.root.join(folder_of(kind));
            for path in loose_entries(kind, &folder)? {
                entries.push(entry(kind, place::below(&folder, &path), path, Path::new("")));
            }
        }
        entries.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(entries)
    }

    fn build_entry(&self, key: String) -> Entry {
        let new = entry(
            Kind::Build,
            key.clone(),
            self.build_folder(&key),
            &self.build_lock(&key),
        );
        match self.source_of_build(&key) {
            Ok(source) if self.is_complete(&key) => Entry {
                needs: Some(source),
                ..new
            }
            .about("kernel build"),
            _ => new.about("kernel build, incomplete"),
        }
    }

    /// What the policy would remove.
    pub fn gc_plan(&self, policy: GcPolicy) -> Result<Vec<Entry>> {
        Ok(plan(self.entries()?, policy))
    }

    /// Removes an entry, unless someone is using it: then `false`.
    pub fn remove(&self, entry: &Entry) -> Result<bool> {
        let lock = match entry.kind {
            Kind::Source => self.source_lock(&entry.name),
            Kind::Build => self.build_lock(&entry.name),
            Kind::Unpacked => self.unpacked_lock(&entry.name),
            Kind::Apt => self.lock_file(&format!("apt-{}", entry.name)),
            Kind::Object => self.lock_file("objects"),
            Kind::Work if work::is_in_use(&entry.path) => return Ok(false),
            Kind::Work => self.lock_file("work"),
            Kind::Trash => {
                let removed = place::remove_for_good(&entry.path);
                removed.map_err(|error| super::cannot(&format!("remove {}", entry.path.display()), &error))?;
                return Ok(true);
            }
        };
        let Some(_guard) = Guard::try_exclusive(&lock)? else {
            return Ok(false);
        };
        place::remove(&entry.path, &self.root.join("trash"))?;
        Ok(true)
    }

    /// Hashes sources and finished builds again. `progress` gets the name of each entry.
    pub fn verify(&self, progress: &dyn Fn(&str)) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for (sha256, origin) in self.sources()? {
            progress(&origin.from);
            if let Some(what) = self.damage_of_source(&sha256)? {
                let folder = self.source_folder(&sha256);
                let what = format!("{what}; remove {} to fetch it again", folder.display());
                problems.push(Problem { name: sha256, what });
            }
        }
        for key in place::names(&self.root.join("builds"))? {
            progress(&key);
            // The next run that needs an unfinished build repairs it.
            if self.is_complete(&key) {
                problems.extend(self.problem_of_build(&key)?);
            }
        }
        Ok(problems)
    }

    fn problem_of_build(&self, key: &str) -> Result<Option<Problem>> {
        let damage = self.damage_of_build(key)?;
        let Some(first) = damage.first() else { return Ok(None) };
        let folder = self.build_folder(key);
        let what = format!(
            "{} changed or missing, first {first}; remove {}",
            crate::ui::count(damage.len(), "file", "files"),
            folder.display()
        );
        Ok(Some(Problem {
            name: key.to_owned(),
            what,
        }))
    }
}

impl Entry {
    fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }
}

fn entry(kind: Kind, name: String, path: PathBuf, lock: &Path) -> Entry {
    let idle = SystemTime::now()
        .duration_since(place::last_use(lock, &path))
        .unwrap_or_default();
    let bytes = place::disk_usage(&path);
    Entry {
        kind,
        name,
        about: String::new(),
        bytes,
        idle_seconds: idle.as_secs(),
        needs: None,
        path,
    }
}

fn folder_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "sources",
        Kind::Build => "builds",
        Kind::Unpacked => "unpacked",
        Kind::Apt => "apt",
        Kind::Object => "objects",
        Kind::Work => "work",
        Kind::Trash => "trash",
    }
}

fn loose_entries(kind: Kind, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths: Vec<_> = place::names(folder)?.iter().map(|name| folder.join(name)).collect();
    if kind == Kind::Object {
        let mut deeper = Vec::new();
        for path in paths.iter().filter(|path| path.is_dir()) {
            // Hidden ones are what killed runs have begun.
            deeper.extend(place::all_names(path)?.iter().map(|name| path.join(name)));
        }
        paths = deeper;
    }
    Ok(paths)
}

/// Chooses what to delete: first by age, then by size, longest idle first. A source stays as long as a build uses it.
fn plan(mut entries: Vec<Entry>, policy: GcPolicy) -> Vec<Entry> {
    // At equal age, delete builds first: a source can go once no build uses it.
    entries.sort_by_key(|entry| (std::cmp::Reverse(entry.idle_seconds), entry.kind == Kind::Source));
    let mut going: Vec<Entry> = Vec::new();
    let old = |entry: &Entry| entry.kind == Kind::Trash || entry.idle_seconds > policy.older_than.as_secs();
    take(&mut entries, &mut going, |entry, _| old(entry));
    if let Some(max) = policy.max_size {
        take(&mut entries, &mut going, |_, left| left > max);
    }
    going
}

/// Moves the chosen entries from one list to the other. Runs twice, since deleting a build can free its source.
fn take(staying: &mut Vec<Entry>, going: &mut Vec<Entry>, chosen: impl Fn(&Entry, u64) -> bool) {
    let mut left: u64 = staying.iter().map(|entry| entry.bytes).sum();
    for _ in 0..2 {
        let needed: BTreeSet<String> = staying.iter().filter_map(|entry| entry.needs.clone()).collect();
        staying.retain(|entry| {
            let goes = !needed.contains(&entry.name) && chosen(entry, left);
            if goes {
                left -= entry.bytes;
                going.push(entry.clone());
            }
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, name: &str, bytes: u64, idle_seconds: u64, needs: Option<&str>) -> Entry {
        let needs = needs.map(str::to_owned);
        Entry {
            kind,
            name: name.into(),
            about: String::new(),
            bytes,
            idle_seconds,
            needs,
            path: PathBuf::new(),
        }
    }

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    fn sample() -> Vec<Entry> {
        vec![
            entry(Kind::Source, "s1", 100, 500, None),
            entry(Kind::Source, "s2", 100, 500, None),
            entry(Kind::Build, "b1", 50, 10, Some("s1")),
            entry(Kind::Build, "b2", 50, 400, Some("s2")),
            entry(Kind::Trash, "t", 1, 0, None),
        ]
    }

    #[test]
    fn old_things_go_but_not_the_source_of_a_build_that_stays() {
        let policy = GcPolicy {
            older_than: Duration::from_secs(300),
            max_size: None,
        };
        let mut gone = names(&plan(sample(), policy)).join(" ");
        gone.push(' ');
        assert!(
            ["b2 ", "s2 ", "t "].iter().all(|name| gone.contains(name)) && !gone.contains("1 "),
            "{gone}"
        );
    }

    #[test]
    fn the_longest_idle_go_until_the_size_is_met() {
        let policy = GcPolicy {
            older_than: Duration::from_secs(10_000),
            max_size: Some(260),
        };
        let entries = plan(sample(), policy);
        assert_eq!(names(&entries), ["t", "b2"]);
    }

    #[test]
    fn what_is_in_use_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path())).unwrap();
        let objects = store.objects(&|_, _| {}).unwrap();
        let entry = objects.root().join("ab/abcd");
        std::fs::create_dir_all(entry.parent().unwrap()).unwrap();
        std::fs::write(&entry, b"x").unwrap();
        std::fs::create_dir(objects.root().join("ab/.making-x")).unwrap();
        let work = store.work_dir(false).unwrap();
        let entries = store.entries().unwrap();
        assert_eq!(names(&entries)[..2], ["ab/.making-x", "ab/abcd"]);
        assert!(entries.iter().all(|entry| !store.remove(entry).unwrap()));
        drop((objects, work));
        assert!(entries[..2].iter().all(|entry| store.remove(entry).unwrap()) && !entry.exists());
    }
}
