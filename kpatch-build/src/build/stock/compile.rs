//! Lets kbuild compile unpatched files, and keeps what comes out: the next patch for the same kernel finds it again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::make;
use crate::build::kbuild::{Tools, Trees, tu};
use crate::kernel::StockKernel;
use crate::progress::Progress;
use crate::sh;
use crate::supply::store::cache::{Cache, Hashes, Key};

/// The area of the cache.
const AREA: &str = "compiled-by-kbuild";
/// The version of an entry's form.
const VERSION: &str = "compiled by kbuild 1";
/// The object in its entry.
const OBJECT: &str = "object";
/// Its `.cmd` file there.
const COMMAND: &str = "command";
/// The files that it was made from, each with the hash of its content.
const READ: &str = "read";

/// How many files one `make` is given. Before it compiles the first, the kernel's makefile takes a second to ask the
/// compiler questions; after the last, progress is shown.
const AT_ONCE: usize = 32;

/// What compiling takes.
pub struct Compiling<'a> {
    /// The kernel.
    pub stock: &'a StockKernel,
    /// Where its source is, and the folder that kbuild works in.
    pub trees: &'a Trees,
    /// Compiler and linker.
    pub tools: &'a Tools,
    /// Where objects are kept.
    pub cache: &'a Cache,
    /// Hashes of what objects are made from.
    pub hashes: &'a Hashes,
    /// Processors.
    pub jobs: usize,
}

impl Compiling<'_> {
    /// Brings these objects into the folder. Gives those that could not be made, with what was said about them.
    pub fn all(&self, objects: &BTreeSet<String>, progress: &dyn Progress) -> Result<BTreeMap<String, String>> {
        let mut wanted = Vec::new();
        for object in objects {
            if !self.restore(object)? {
                wanted.push(object.as_str());
            }
        }
        if wanted.len() > AT_ONCE {
            progress.expect("compile what reads the changed files", wanted.len() as u64);
        }
        let mut missing = BTreeMap::new();
        for some in wanted.chunks(AT_ONCE) {
            progress.message(&format!("compiling {} as the kernel's build did", some.join(", ")));
            let mut make = make::command(self.stock, self.trees, self.jobs, None);
            let (_, out, messages) = sh::captured(make.args(some))?;
            for object in some {
                if self.trees.build.join(object).is_file() {
                    self.keep(object)?;
                } else {
                    let said = format!("{}\n{}", out.trim_end(), messages.trim_end());
                    missing.insert((*object).to_owned(), said);
                }
                if wanted.len() > AT_ONCE {
                    progress.step();
                }
            }
        }
        Ok(missing)
    }

    /// The `.cmd` file of an object.
    fn command(&self, object: &str) -> PathBuf {
        let path = self.trees.build.join(object);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.with_file_name(format!(".{name}.cmd"))
    }

    /// What decides, beside the headers, what comes out. `None` without a source of that name.
    fn key(&self, object: &str) -> Result<Option<Key>> {
        let stem = object.rsplit_once('.').map_or(object, |(stem, _)| stem);
        let sources = ["c", "S"].map(|extension| self.trees.source.join(format!("{stem}.{extension}")));
        let Some(source) = sources.iter().find(|source| source.is_file()) else {
            return Ok(None);
        };
        let key = Key::new(VERSION)
            .text(&self.stock.id)
            .text(&self.tools.compiler)
            .text(&self.tools.linker)
            .words(self.stock.tools.make.iter())
            .bytes(&self.hashes.of(&self.stock.objects.join(".config"))?)
            .bytes(&self.hashes.of(&self.stock.objects.join("tools/objtool/objtool"))?)
            .text(&self.trees.source.to_string_lossy())
            .text(object)
            .bytes(&self.hashes.of(source)?);
        Ok(Some(key))
    }

    /// Takes an object out of the cache, if it is there and all files that it was made from are as they were.
    fn restore(&self, object: &str) -> Result<bool> {
        let Some(key) = self.key(object)? else { return Ok(false) };
        let Some(entry) = self.cache.find(AREA, &key)? else {
            return Ok(false);
        };
        let read = read(&entry.join(READ))?;
        for (hash, spelt) in read.lines().filter_map(|line| line.split_once(' ')) {
            let path = self.trees.absolute(&self.trees.place(spelt));
            if !path.is_file() || self.hashes.text(&path)? != hash {
                self.cache.forget(AREA, &key)?;
                return Ok(false);
            }
        }
        copy(&entry.join(OBJECT), &self.trees.build.join(object))?;
        copy(&entry.join(COMMAND), &self.command(object))?;
        Ok(true)
    }

    /// Puts an object that was just made into the cache.
    fn keep(&self, object: &str) -> Result<()> {
        let command = self.command(object);
        let Some(tu) = tu::one(&self.trees.build, &command)? else {
            return Ok(());
        };
        let Some(key) = self.key(object)? else { return Ok(()) };
        let mut read = String::new();
        for spelt in tu.deps() {
            let path = self.trees.absolute(&self.trees.place(spelt));
            read += &format!("{} {spelt}\n", self.hashes.text(&path)?);
        }
        let entry = self.cache.get(AREA, &key, |folder| {
            copy(&self.trees.build.join(object), &folder.join(OBJECT))?;
            copy(&command, &folder.join(COMMAND))?;
            let list = folder.join(READ);
            fs::write(&list, read).with_context(|| format!("cannot write {}", list.display()))
        });
        entry.map(drop)
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::put;

    #[test]
    fn an_object_is_found_again_until_something_that_it_was_made_from_changes() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let stock = StockKernel::fake(root.path());
        put(root.path(), "objects/.config", b"CONFIG_A=y\n");
        put(root.path(), "objects/tools/objtool/objtool", b"1");
        put(root.path(), "source/fs/a.c", b"a\n");
        put(root.path(), "source/include/a.h", b"a\n");
        put(root.path(), "build/fs/a.o", b"object");
        let header = at("source/include/a.h");
        let record = format!(
            "cmd_fs/a.o := gcc -D__KERNEL__ -c -o fs/a.o {0}\n\nsource_fs/a.o := {0}\n\ndeps_fs/a.o := \\\n  {1} \\\n\n",
            at("source/fs/a.c").display(),
            header.display()
        );
        put(root.path(), "build/fs/.a.o.cmd", record.as_bytes());
        let tools = Tools {
            compiler: "gcc 1".into(),
            linker: "ld 1".into(),
        };
        let cache = Cache::new(&at("cache"));
        let in_folder = |folder: &str, work: &dyn Fn(&Compiling<'_>)| {
            let trees = Trees {
                source: at("source"),
                build: at(folder),
                objects: at(folder),
                recorded: None,
            };
            work(&Compiling {
                stock: &stock,
                trees: &trees,
                tools: &tools,
                cache: &cache,
                hashes: &Hashes::default(),
                jobs: 1,
            });
        };
        let restored = |folder: &str| {
            let found = std::cell::Cell::new(false);
            in_folder(folder, &|compiling| found.set(compiling.restore("fs/a.o").unwrap()));
            found.get()
        };
        assert!(!restored("one"), "nothing is there yet");
        in_folder("build", &|compiling| compiling.keep("fs/a.o").unwrap());
        assert!(restored("two"));
        assert_eq!(fs::read(at("two/fs/a.o")).unwrap(), b"object");
        assert_eq!(fs::read(at("two/fs/.a.o.cmd")).unwrap(), record.as_bytes());
        fs::write(&header, "b\n").unwrap();
        assert!(!restored("three"), "a header changed");
        in_folder("build", &|compiling| compiling.keep("fs/a.o").unwrap());
        assert!(restored("four"), "what was made from the new one takes its place");
        put(root.path(), "objects/.config", b"CONFIG_A=n\n");
        assert!(!restored("five"), "the configuration changed");
        put(root.path(), "objects/.config", b"CONFIG_A=y\n");
        let damaged = crate::supply::store::files_below(&at("cache"), &|name| name == OBJECT).unwrap();
        fs::write(&damaged[0], "damaged").unwrap();
        assert!(!restored("six"), "a damaged entry is none");
        in_folder("build", &|compiling| compiling.keep("fs/a.o").unwrap());
        assert!(restored("seven"), "and is made again");
    }
}
