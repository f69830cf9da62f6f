//! Keeps what the compiler made of patched files, so that a run that was stopped, or is repeated, does only the rest.
//!
//! A kept object stands for a compilation only if that would make it again. So an entry belongs to a compiler
//! ([`compiler`]) and a command, and lists every file that the compiler read, with its content, and which files it found
//! in one folder of several ([`reads`]). Whatever reads more than such a list can show is compiled each time. The
//! environment is no part of it: children of this program see none of the variables that a compiler listens to.

mod compiler;
mod reads;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use memchr::memmem;

use self::reads::{Reads, Seen};
use crate::build::kbuild::tu::is_bitcode;
use crate::build::no_lto::view::dependencies;
use crate::build::site::Site;
use crate::supply::store::cache::Key;

/// The area of the cache.
const AREA: &str = "compiled";
/// The form of an entry. Raise it when anything about keys or entries changes.
const VERSION: &str = "compiled 1";
/// Files of an entry.
const OBJECT: &str = "object.o";
const MESSAGES: &str = "messages";
const READS: &str = "reads.json";
/// Stands for the work folder of a run, which has another name each time.
const WORK: &str = "<work>";

/// The compilations of one run.
#[derive(Debug, Default)]
pub struct Kept {
    /// Patched files that the compiler is shown with an overlay, by their path in the source tree.
    overlaid: BTreeSet<String>,
    compiler: OnceLock<Option<Vec<String>>>,
    seen: Seen,
}

/// One compilation.
pub struct Compilation<'a> {
    /// The object that is made, relative to the build directory.
    pub object: &'a str,
    /// The command, with `out` as its output.
    pub words: &'a [String],
    /// The output.
    pub out: &'a Path,
    /// What is done besides running the command, such as what follows it.
    pub besides: &'a [String],
    /// The folder of the work folder that has the patched files as this compilation sees them.
    pub content: &'a str,
    /// Those of them that the unpatched file is known to read.
    pub via: &'a [String],
}

/// What came of a compilation that succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Made {
    /// What the compiler said.
    pub messages: String,
    /// Whether an earlier run has done it.
    pub kept: bool,
}

impl Made {
    /// What was made by this run.
    pub fn now(messages: String) -> Made {
        Made { messages, kept: false }
    }
}

impl Kept {
    /// `overlaid` are the paths of patched files that the compiler is shown with an overlay.
    pub fn new(overlaid: &BTreeSet<String>) -> Kept {
        Kept {
            overlaid: overlaid.clone(),
            ..Kept::default()
        }
    }

    /// Takes what an earlier run has made, or has `make` run the command and keeps what comes of it. `make` gets the command
    /// to run, and gives what was said.
    pub fn compile(
        &self,
        site: &Site<'_>,
        one: &Compilation<'_>,
        make: impl FnOnce(&[String]) -> Result<String>,
    ) -> Result<Made> {
        let compiler = self.compiler.get_or_init(|| compiler::identity(site.kbuild));
        let (Some(compiler), Some(words)) = (compiler, listing_everything(one.words)) else {
            return make(one.words).map(Made::now);
        };
        let key = key(site, one, compiler, &words);
        let reads = Reads {
            site,
            overlaid: &self.overlaid,
            content: one.content,
            words: &words,
            seen: &self.seen,
        };
        if let Some(entry) = site.cache.find(AREA, &key)? {
            match taken(&entry, one, &reads) {
                Some(messages) => return Ok(Made { messages, kept: true }),
                None => site.cache.forget(AREA, &key)?,
            }
        }
        let messages = make(&words)?;
        if let Some(list) = list(one, &reads)? {
            let keep = |folder: &Path| {
                fs::copy(one.out, folder.join(OBJECT))?;
                fs::write(folder.join(MESSAGES), neutral(&messages, &site.work))?;
                Ok(fs::write(folder.join(READS), &list)?)
            };
            // A run that cannot keep what it has made has made it all the same.
            drop(site.cache.get(AREA, &key, keep));
        }
        Ok(Made::now(messages))
    }
}

/// What there is to know before anything was read.
fn key(site: &Site<'_>, one: &Compilation<'_>, compiler: &[String], words: &[String]) -> Key {
    let trees = &site.kbuild.trees;
    let neutral: Vec<String> = words.iter().map(|word| neutral(word, &site.work)).collect();
    Key::new(VERSION)
        .words(compiler.iter())
        .text(&trees.spelt().to_string_lossy())
        .text(&trees.build.to_string_lossy())
        .text(one.object)
        .words(neutral.iter())
        .words(one.besides.iter())
        .bytes(&patched_content(site, one))
}

/// Tells versions of a patch from each other, so that they are kept side by side. Whether an entry fits is seen from what
/// its compilation read.
fn patched_content(site: &Site<'_>, one: &Compilation<'_>) -> Vec<u8> {
    let folder = site.work.join(one.content);
    let hashes = one
        .via
        .iter()
        .filter_map(|path| site.hashes.of(&folder.join(path)).ok());
    hashes.flatten().collect()
}

/// The same text in every run.
fn neutral(text: &str, work: &Path) -> String {
    text.replace(work.to_string_lossy().as_ref(), WORK)
}

/// The text as it is in this run.
fn of_this_run(text: &str, work: &Path) -> String {
    text.replace(WORK, work.to_string_lossy().as_ref())
}

/// The command with a list of all files, where the kernel's leaves out those of system folders. Nothing if it makes no
/// list, or reads what no list has.
fn listing_everything(words: &[String]) -> Option<Vec<String>> {
    if words.iter().any(|word| compiler::reads_unlisted(word)) {
        return None;
    }
    let mut lists = 0;
    let words = words.iter().map(|word| {
        let to = word.strip_prefix("-Wp,-MMD,").or_else(|| word.strip_prefix("-Wp,-MD,"));
        lists += usize::from(to.is_some());
        to.map_or_else(|| word.clone(), |to| format!("-Wp,-MD,{to}"))
    });
    let words = words.collect();
    (lists == 1).then_some(words)
}

fn list_of(out: &Path) -> PathBuf {
    PathBuf::from(format!("{}.d", out.display()))
}

/// Puts a kept object in its place if it fits; what was said when it was made.
fn taken(entry: &Path, one: &Compilation<'_>, reads: &Reads<'_>) -> Option<String> {
    let list = fs::read(entry.join(READS)).ok()?;
    let messages = fs::read_to_string(entry.join(MESSAGES)).ok()?;
    let names = reads.if_unchanged(&list)?;
    fs::copy(entry.join(OBJECT), one.out).ok()?;
    let work = &reads.site.work;
    fs::write(list_of(one.out), format!("kept: {}\n", names.join(" "))).ok()?;
    Some(of_this_run(&messages, work))
}

/// The list to keep with an object; nothing if the object cannot be kept.
fn list(one: &Compilation<'_>, reads: &Reads<'_>) -> Result<Option<Vec<u8>>> {
    let path = list_of(one.out);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let names: Vec<&str> = dependencies(&text).collect();
    // Another run has another work folder: an object with this one's name in it is not what that run would make. Bitcode
    // hides its text.
    let object = fs::read(one.out).with_context(|| format!("cannot read {}", one.out.display()))?;
    let work = reads.site.work.to_string_lossy();
    let hidden = is_bitcode(one.out)? && names.iter().any(|name| name.starts_with(&*work));
    if hidden || memmem::find(&object, work.as_bytes()).is_some() {
        return Ok(None);
    }
    Ok(reads.list(&names))
}

#[cfg(test)]
mod tests;
