//! Where results wait for the next run: one file each, written in one step, so that whatever ends a run loses only what
//! was not finished.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::record::{FORMAT, Record};

/// A folder of results.
#[derive(Debug)]
pub struct Results {
    root: PathBuf,
    /// The state of the tool that runs.
    tool: String,
}

impl Results {
    /// The results for a kernel build and a newer source. `cache` is the store's folder of small objects.
    pub fn open(cache: &Path, build: &str, newer: &str, tool: &str) -> Result<Self> {
        let root = cache.join("survey").join(format!("{build}-{newer}"));
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Results {
            root,
            tool: tool.to_owned(),
        })
    }

    /// What is known, by file. Results of other states of the tool count only if `reuse` says so, and never those
    /// that a repair may have changed.
    pub fn records(&self, reuse: bool) -> Result<BTreeMap<String, Record>> {
        let mut found = BTreeMap::new();
        for tool in self.tools()? {
            let own = tool == self.tool;
            if !own && !reuse {
                continue;
            }
            for record in self.of_tool(&tool)? {
                let counts = own || !record.outcome.is_worth_another_try();
                // Results of the tool that runs are the last to come.
                if record.format == FORMAT && counts {
                    found.insert(record.file.clone(), record);
                }
            }
        }
        Ok(found)
    }

    /// The states of the tool that left results, the one that runs last, before it the older ones by age.
    fn tools(&self) -> Result<Vec<String>> {
        let mut tools = Vec::new();
        let entries = fs::read_dir(&self.root).with_context(|| format!("cannot list {}", self.root.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", self.root.display()))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let age = entry.metadata().and_then(|meta| meta.modified()).ok();
                tools.push((age, entry.file_name().to_string_lossy().into_owned()));
            }
        }
        tools.sort();
        let mut tools: Vec<String> = tools.into_iter().map(|(_, tool)| tool).collect();
        tools.retain(|tool| *tool != self.tool);
        tools.push(self.tool.clone());
        Ok(tools)
    }

    fn of_tool(&self, tool: &str) -> Result<Vec<Record>> {
        let folder = self.root.join(tool);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot list {}", folder.display()))?
                .path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.extend(read::<Record>(&path)?);
            }
        }
        Ok(found)
    }

    pub fn put(&self, record: &Record) -> Result<()> {
        let folder = self.root.join(&self.tool);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        self.write(&format!("{}/{}.json", self.tool, name(&record.file)), record)
    }

    /// Something that takes long to find out and is the same for every run.
    pub fn remembered<T: Serialize + DeserializeOwned>(
        &self,
        what: &str,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let file = format!("{what}.json");
        if let Some(known) = read(&self.root.join(&file))? {
            return Ok(known);
        }
        let made = make()?;
        self.write(&file, &made)?;
        Ok(made)
    }

    fn write(&self, file: &str, value: &impl Serialize) -> Result<()> {
        let path = self.root.join(file);
        let text = serde_json::to_vec_pretty(value).context("cannot write down a result")?;
        let folder = path.parent().unwrap_or(&self.root);
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut new| {
            new.write_all(&text)?;
            new.as_file().sync_all()?;
            new.persist(&path).map_err(|error| error.error)
        });
        written
            .map(drop)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A name for a file of a source tree that is one component, and no other file's.
pub fn name(file: &str) -> String {
    file.replace('_', "__").replace('/', "_s_").replace('.', "_d_")
}

/// What a file holds; nothing if there is none or if it is not of this format.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Outcome;
    use super::*;

    fn record(file: &str, outcome: Outcome) -> Record {
        Record {
            format: FORMAT,
            file: file.into(),
            outcome,
            codes: Vec::new(),
            with: Vec::new(),
            functions: Vec::new(),
            units: 1,
            detail: String::new(),
            seconds: 1.0,
            guest_seconds: 0.0,
            tool: "t".into(),
        }
    }

    #[test]
    fn another_state_of_the_tool_counts_only_if_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let old = Results::open(folder.path(), "build", "new", "old").unwrap();
        old.put(&record("a/b.c", Outcome::Refused)).unwrap();
        old.put(&record("a/c.c", Outcome::Misbehaved)).unwrap();
        let now = Results::open(folder.path(), "build", "new", "now").unwrap();
        assert!(now.records(false).unwrap().is_empty());
        let known: Vec<String> = now.records(true).unwrap().into_keys().collect();
        assert_eq!(known, ["a/b.c"]);
        now.put(&record("a/c.c", Outcome::Failed)).unwrap();
        now.put(&record("a/b.c", Outcome::Livepatchable)).unwrap();
        let known = now.records(true).unwrap();
        assert_eq!(known["a/c.c"].outcome, Outcome::Failed);
        assert_eq!(known["a/b.c"].outcome, Outcome::Livepatchable);
    }

    #[test]
    fn half_a_result_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::open(folder.path(), "build", "new", "t").unwrap();
        results.put(&record("a.c", Outcome::Refused)).unwrap();
        let file = results.root.join("t").join(format!("{}.json", name("a.c")));
        let text = fs::read(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        assert!(results.records(false).unwrap().is_empty());
    }

    #[test]
    fn no_two_files_share_a_name() {
        assert_ne!(name("a/b_c.h"), name("a/b/c.h"));
        assert_ne!(name("a_s_b"), name("a/b"));
    }
}
