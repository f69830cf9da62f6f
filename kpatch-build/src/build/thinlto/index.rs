//! The change oracle: a link that stops after its summaries, done for the original and for the patched bitcode.
//!
//! For each module the linker writes a shard: what it may import, from which version of the other module, and every fact
//! about symbols that the optimiser will rely on. Same bitcode and same shard therefore mean same machine code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::imports;
use super::view::View;
use crate::build::kbuild::distributed;
use crate::sh;
use crate::supply::store::cache::{Hashes, Key};

/// The outcome of an index-only link.
#[derive(Debug, Clone)]
pub struct Index {
    /// Where the shards are.
    folder: PathBuf,
    /// The program that lists a shard, if the link did not write down what each module imports.
    lister: Option<String>,
    /// Bitcode modules in link order.
    pub order: Vec<String>,
}

const SHARDS: &str = "shards";
const ORDER: &str = "order";

/// Everything an index depends on.
pub fn key(view: &View, linker: &str, hashes: &Hashes) -> Result<Key> {
    use rayon::prelude::*;
    let inputs: Result<Vec<_>> = view
        .link
        .inputs
        .par_iter()
        .map(|input| Ok((input, hashes.of(&view.targets[&input.path])?)))
        .collect();
    let mut key = Key::new("index 1").text(linker).words(view.link.flags.iter());
    for (input, hash) in inputs? {
        key = key
            .text(&input.path)
            .text(input.lazy.as_deref().unwrap_or_default())
            .bytes(&hash);
    }
    Ok(key)
}

/// Links up to the summaries and leaves the outcome in `folder`.
pub fn make(view: &View, folder: &Path) -> Result<()> {
    let shards = folder.join(SHARDS);
    fs::create_dir_all(&shards).with_context(|| format!("cannot make {}", shards.display()))?;
    let (inputs, list) = (folder.join("inputs"), folder.join("list"));
    fs::write(&inputs, view.arguments().join("\n")).with_context(|| format!("cannot write {}", inputs.display()))?;
    let mut command = sh::command(&view.link.linker);
    // The work is serial; more threads only contend for the address space (0.16 s instead of 0.45 s in the kernel).
    command
        .args(&view.link.flags)
        .arg("--threads=1")
        .current_dir(&view.root);
    command
        .arg(format!("--thinlto-index-only={}", list.display()))
        .arg("--thinlto-emit-imports-files");
    // Names in the view are relative, so an empty old prefix is that of each of them.
    command.arg(format!("--thinlto-prefix-replace=;{}/", shards.display()));
    command
        .arg(format!("@{}", inputs.display()))
        .arg("-o")
        .arg(folder.join("unused.o"));
    sh::output(&mut command).context("the thin link failed")?;
    let order = order(
        &fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?,
        &shards,
    )?;
    if order.is_empty() {
        bail!("the thin link of {} inputs found no bitcode", view.link.inputs.len());
    }
    fs::write(folder.join(ORDER), order.join("\n")).context("cannot write the link order")
}

fn order(list: &str, shards: &Path) -> Result<Vec<String>> {
    let prefix = format!("{}/", shards.display());
    let strip = |line: &str| line.strip_prefix(&prefix).map(str::to_owned);
    list.lines()
        .map(|line| strip(line).with_context(|| format!("`{line}` in the list of linked files")))
        .collect()
}

impl Index {
    /// Opens what [`make`] left.
    pub fn open(folder: &Path) -> Result<Index> {
        let path = folder.join(ORDER);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Index {
            folder: folder.join(SHARDS),
            lister: None,
            order: text.lines().map(str::to_owned).collect(),
        })
    }

    /// The index of the image that the build itself has made and kept. `lister` is the program that lists a shard.
    pub fn of_build(build: &Path, lister: String) -> Result<Index> {
        let order = distributed::order(build)?;
        if order.is_empty() {
            bail!("the link of {} found no bitcode", build.display());
        }
        Ok(Index {
            folder: build.to_path_buf(),
            lister: Some(lister),
            order,
        })
    }

    /// The shard of a module.
    pub fn shard(&self, unit: &str) -> PathBuf {
        self.folder.join(format!("{unit}.thinlto.bc"))
    }

    /// The modules a module imports from.
    pub fn imports(&self, unit: &str) -> Result<BTreeSet<String>> {
        if let Some(lister) = &self.lister {
            let listing = imports::listing(lister, &self.shard(unit))?;
            return Ok(imports::sources(&listing, unit));
        }
        let path = self.folder.join(format!("{unit}.imports"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Modules of this link, the patched one, whose shard is not the one the original link made.
    pub fn differing(&self, orig: &Index) -> Result<BTreeSet<String>> {
        let mut differing = BTreeSet::new();
        for unit in &self.order {
            let (patched, orig) = (self.shard(unit), orig.shard(unit));
            let patched = fs::read(&patched).with_context(|| format!("cannot read {}", patched.display()))?;
            if !fs::read(orig).is_ok_and(|orig| orig == patched) {
                differing.insert(unit.clone());
            }
        }
        Ok(differing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(units: &[(&str, &str)]) -> (tempfile::TempDir, Index) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(SHARDS)).unwrap();
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        fs::write(folder.path().join(ORDER), names.join("\n")).unwrap();
        let index = Index::open(folder.path()).unwrap();
        for (name, text) in units {
            fs::write(index.shard(name), text).unwrap();
        }
        (folder, index)
    }

    #[test]
    fn shards_that_differ_or_are_new_are_found() {
        let (_one, orig) = index(&[("a.o", "1"), ("b.o", "1")]);
        let (_two, patched) = index(&[("a.o", "1"), ("b.o", "2"), ("c.o", "1")]);
        assert_eq!(
            patched.differing(&orig).unwrap(),
            BTreeSet::from(["b.o".to_owned(), "c.o".to_owned()])
        );
    }

    #[test]
    fn the_index_of_a_build_is_where_its_objects_are() {
        let build = tempfile::tempdir().unwrap();
        fs::write(build.path().join("vmlinux.thinlto-index"), "fs/a.o\nb.o\n").unwrap();
        let index = Index::of_build(build.path(), "llvm-dis".into()).unwrap();
        assert_eq!(index.order, ["fs/a.o", "b.o"]);
        assert_eq!(index.shard("fs/a.o"), build.path().join("fs/a.o.thinlto.bc"));
        fs::write(build.path().join("vmlinux.thinlto-index"), "").unwrap();
        assert!(Index::of_build(build.path(), "llvm-dis".into()).is_err());
    }

    #[test]
    fn the_order_is_relative_to_the_view() {
        assert_eq!(
            order("/t/s/fs/a.o\n/t/s/b.o\n", Path::new("/t/s")).unwrap(),
            ["fs/a.o", "b.o"]
        );
        assert!(order("/elsewhere/a.o\n", Path::new("/t/s")).is_err());
    }
}
