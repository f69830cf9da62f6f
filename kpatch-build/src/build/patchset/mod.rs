//! Reads patch files, applies them to copies, and sorts out which of the changed files a livepatch can be made from.
//!
//! Everything works on bytes: kernel sources have Latin-1 names in comments, carriage returns and missing last newlines.

#![allow(
    clippy::result_large_err,
    reason = "a refusal ends the run, so its size costs nothing"
)]

pub mod apply;
pub mod declarations;
pub mod digest;
pub mod dropped;
pub mod functions;
pub mod lexer;
pub mod line;
pub mod lines;
pub mod makefile;
pub mod misfit;
pub mod origins;
pub mod parse;
pub mod scope;
pub mod shadow;
pub mod spelling;
pub mod title;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use kpatch_core::{Refusal, Subject};

use crate::outcome::Ending;

pub use kpatch_core::codes::patch::{
    ASSEMBLY, BINARY, BOOT, DOES_NOT_APPLY, EMPTY, FILE_KIND, HOST_TOOL, KCONFIG, MAKEFILE, MALFORMED, NOT_BUILT,
    NOTHING_TO_ACCEPT, OUTSIDE_TREE, PURGATORY, REALMODE, REMOVED, VDSO,
};
/// The files that one or more patches change, in the order of the patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchSet {
    /// One entry for each file section; a file may occur again in a later patch.
    pub files: Vec<FileChange>,
}

/// What one patch does to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Path relative to the source tree, after the change.
    pub path: String,
    /// The same path as the patch spells it, before its first component was taken off, if it names one.
    pub spelt: Option<String>,
    /// What happens to the file as a whole.
    pub kind: ChangeKind,
    /// What happens to its lines.
    pub hunks: Vec<Hunk>,
    /// The patch file, for messages; each of several has another name.
    pub patch: String,
    /// Which of the patches it is of, from 0.
    pub number: usize,
    /// Whether all lines of the patch file end in CRLF, its headers, too: then something converted it on its way.
    pub crlf: bool,
}

/// What happens to a file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It existed and goes on to exist.
    Modified,
    /// It is made.
    New,
    /// It is removed.
    Deleted,
    /// It gets another name; this was the old one.
    Renamed(String),
    /// It is made as a copy of this file.
    Copied(String),
    /// Only its permissions change.
    ModeOnly,
}

/// One `@@` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// 1-based number of the hunk in its file section.
    pub number: usize,
    /// First line of the original side, 1-based.
    pub orig_start: usize,
    /// Line of the `@@` in the patch file, 1-based.
    pub patch_line: usize,
    /// The lines, both sides.
    pub lines: Vec<HunkLine>,
}

/// One line of a hunk with its own line end, if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HunkLine {
    /// Which sides have it.
    pub side: Side,
    /// Line of the patch file, 1-based.
    pub number: usize,
    /// Its bytes.
    pub text: Vec<u8>,
}

/// Which side of a change a line is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Unchanged.
    Both,
    /// Removed.
    Orig,
    /// Added.
    Patched,
}

impl Hunk {
    /// The lines that have to be there already.
    pub fn orig(&self) -> impl Iterator<Item = &[u8]> {
        self.lines
            .iter()
            .filter(|line| line.side != Side::Patched)
            .map(|line| line.text.as_slice())
    }

    /// The lines that are there afterwards.
    pub fn patched(&self) -> impl Iterator<Item = &[u8]> {
        self.lines
            .iter()
            .filter(|line| line.side != Side::Orig)
            .map(|line| line.text.as_slice())
    }
}

/// What a text without any change may be, and what to do about it.
fn instead_of_a_patch(text: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(text);
    let names = || {
        let lines = text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let is_patch = |line: &str| {
        let name = line.split_whitespace().next().unwrap_or(line);
        name.ends_with(".patch") || name.ends_with(".diff")
    };
    let encoded = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("content-transfer-encoding") && value.trim().eq_ignore_ascii_case("base64")
    };
    if names().next().is_some() && names().all(is_patch) {
        "this is a list of patches, such as the `series` of quilt: give the patches themselves, in this order"
    } else if text.lines().any(encoded) {
        "this is a mail encoded in base64: let `git mailinfo` or the mail program decode it first"
    } else {
        "is it a unified diff, as `git diff` or `diff -u` writes it?"
    }
}

/// What patch files are called in messages: each by its name, or, where two have one name, with as much before it as tells
/// them apart.
pub fn names(patches: &[PathBuf]) -> Vec<String> {
    let shown = |path: &PathBuf, parts: usize| -> String {
        let all: Vec<_> = path.iter().collect();
        let last: PathBuf = all[all.len().saturating_sub(parts)..].iter().collect();
        last.to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = patches.iter().map(|path| shown(path, 1)).collect();
    let deepest = patches.iter().map(|path| path.iter().count()).max().unwrap_or(0);
    for parts in 2..=deepest {
        let twice = twice(&names);
        if twice.is_empty() {
            return names;
        }
        for index in twice {
            names[index] = shown(&patches[index], parts);
        }
    }
    // The same file again.
    for index in twice(&names) {
        names[index] = format!("{} (patch {})", names[index], index + 1);
    }
    names
}

/// The places of names that others have, too.
fn twice(names: &[String]) -> Vec<usize> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        places.entry(name).or_default().push(index);
    }
    places
        .into_values()
        .filter(|places| places.len() > 1)
        .flatten()
        .collect()
}

/// Reads patch files; several are one change, applied in the order given.
pub fn read(patches: &[PathBuf]) -> Result<PatchSet> {
    let (mut files, mut refusals) = (Vec::new(), Vec::new());
    for (number, (path, name)) in patches.iter().zip(names(patches)).enumerate() {
        let text = fs::read(path).with_context(|| format!("cannot read the patch {}", path.display()))?;
        let refusal = match parse::parse(&name, &text) {
            Ok(found) if found.is_empty() => {
                let at = Subject::file(&name);
                Refusal::new(EMPTY, at, "the patch changes no file").hint(instead_of_a_patch(&text))
            }
            Ok(found) => {
                files.extend(found.into_iter().map(|change| FileChange { number, ..change }));
                continue;
            }
            Err(refusal) => refusal,
        };
        let of_several = patches.len() > 1;
        refusals.push(if of_several { refusal.caused_by([name]) } else { refusal });
    }
    if patches.is_empty() {
        refusals.push(Refusal::new(EMPTY, Subject::default(), "no patch was given"));
    }
    if refusals.is_empty() {
        Ok(PatchSet { files })
    } else {
        Err(Ending::Refused(refusals).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_patch_has_a_name_of_its_own() {
        let of = |paths: &[&str]| names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of(&["/x/a.patch", "/x/b.patch"]), ["a.patch", "b.patch"]);
        assert_eq!(
            of(&["/x/1/a.patch", "/x/2/a.patch", "/x/b.patch"]),
            ["1/a.patch", "2/a.patch", "b.patch"]
        );
        assert_eq!(of(&["a.patch", "a.patch"]), ["a.patch (patch 1)", "a.patch (patch 2)"]);
    }

    #[test]
    fn what_is_no_patch_is_told_by_its_looks() {
        for (text, word) in [
            ("# fixes\nfix-a.patch\nfix-b.diff -p1\n", "series"),
            ("From: a\nContent-Transfer-Encoding: BASE64\n\nZGlm\n", "base64"),
            ("", "unified"),
            ("fix a.patch\n", "unified"),
        ] {
            let hint = instead_of_a_patch(text.as_bytes());
            assert!(hint.contains(word), "{text}: {hint}");
        }
    }
}
