//! Snapshots as files: read, compared, and written only when somebody asks for it.
//!
//! The files have the format of the insta crate, so that its tools and its users' habits work on them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::project;
use kpatch_build::supply::place::Place;

/// What `insta` writes into a snapshot of ours.
const SOURCE: &str = "source: xtask/src/e2e/snapshot.rs";

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// The same text.
    Equal,
    /// Written, because that was asked for.
    Blessed,
    /// Nobody has blessed anything of this place yet.
    NewPlace,
    /// Another text, or none although there are others of this place: what is different.
    Differs(String),
}

/// The folder of all snapshots.
pub fn folder() -> PathBuf {
    project::root().join("testdata/snapshots")
}

/// Whether writing is out of the question: a snapshot that CI writes proves nothing.
pub fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// Refuses to bless where nobody would see what changed.
pub fn check_bless(bless: bool) -> Result<()> {
    if bless && is_ci() {
        bail!("snapshots are not written on CI: bless on your machine and commit what changed");
    }
    Ok(())
}

/// The snapshots of one place.
pub struct Snapshots {
    folder: PathBuf,
    bless: bool,
}

impl Snapshots {
    /// Those of an axis below `root`.
    pub fn of(root: &Path, axis: &Place, bless: bool) -> Self {
        let folder = root.join(axis.to_string());
        Snapshots { folder, bless }
    }

    /// Those of a place by its name, to be read only.
    pub fn at(root: &Path, place: &str) -> Self {
        let folder = root.join(place);
        Snapshots { folder, bless: false }
    }

    /// Compares a text with the snapshot of a case, or writes it.
    pub fn compare(&self, case: &str, text: &str) -> Result<Compared> {
        let path = self.path(case);
        let old = read(&path)?;
        if old.as_deref() == Some(text.trim()) {
            return Ok(Compared::Equal);
        }
        if self.bless {
            write(&path, case, text)?;
            return Ok(Compared::Blessed);
        }
        Ok(match old {
            Some(old) => Compared::Differs(diff(&old, text.trim(), "snapshot", "now")),
            None if !self.folder.is_dir() => Compared::NewPlace,
            None => Compared::Differs(format!("there is no {}; --bless writes it", path.display())),
        })
    }

    /// The snapshot of a case.
    pub fn read(&self, case: &str) -> Result<String> {
        let path = self.path(case);
        read(&path)?.with_context(|| format!("there is no {}", path.display()))
    }

    fn path(&self, case: &str) -> PathBuf {
        self.folder.join(format!("{case}.snap"))
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let body = text.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    let (_, body) = body.with_context(|| format!("{} is not a snapshot", path.display()))?;
    Ok(Some(body.trim().to_owned()))
}

fn write(path: &Path, case: &str, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let text = format!("---\n{SOURCE}\nexpression: {case}\n---\n{}\n", text.trim());
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Two texts side by side in one: common lines as they are, others with `-` and `+`, under the heading they belong to.
pub fn diff(left: &str, right: &str, left_name: &str, right_name: &str) -> String {
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let lengths = common_lengths(&left, &right);
    let mut text = format!("--- {left_name}\n+++ {right_name}\n");
    let (mut i, mut j) = (0, 0);
    let (mut heading, mut shown) = ("", "");
    while i < left.len() || j < right.len() {
        let (sign, line) = if i < left.len() && j < right.len() && left[i] == right[j] {
            (i, j) = (i + 1, j + 1);
            (' ', left[i - 1])
        } else if j == right.len() || i < left.len() && lengths[i + 1][j] >= lengths[i][j + 1] {
            i += 1;
            ('-', left[i - 1])
        } else {
            j += 1;
            ('+', right[j - 1])
        };
        if sign == ' ' {
            heading = if line.starts_with(' ') { heading } else { line };
            continue;
        }
        if heading != shown && !heading.is_empty() {
            text += &format!("  {heading}\n");
            shown = heading;
        }
        text += &format!("{sign} {line}\n");
    }
    text
}

/// For each pair of suffixes the length of their longest common subsequence.
fn common_lengths(left: &[&str], right: &[&str]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; right.len() + 1]; left.len() + 1];
    for i in (0..left.len()).rev() {
        for j in (0..right.len()).rev() {
            lengths[i][j] = if left[i] == right[j] {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis() -> Place {
        Place {
            series: "6.12".into(),
            version: "6.12.107".into(),
            arch: kpatch_build::kernel::Arch::X86_64,
            toolchain: "clang-19".into(),
            config: "small".into(),
        }
    }

    #[test]
    fn insta_reads_what_is_written() {
        let root = tempfile::tempdir().expect("a folder");
        let text = "verdict: patched\n\nfunctions\n  vmlinux f,0: changed\n";
        let compared = Snapshots::of(root.path(), &axis(), true).compare("one", text);
        assert_eq!(compared.expect("written"), Compared::Blessed);
        let folder = root.path().join(axis().to_string());
        insta::with_settings!({snapshot_path => &folder, prepend_module_to_snapshot => false}, {
            insta::assert_snapshot!("one", text);
        });
    }

    #[test]
    fn a_change_is_told_and_only_blessing_writes() {
        let root = tempfile::tempdir().expect("a folder");
        let place = |bless| Snapshots::of(root.path(), &axis(), bless);
        assert_eq!(place(false).compare("one", "a").expect("compared"), Compared::NewPlace);
        assert_eq!(place(true).compare("one", "a\nb").expect("compared"), Compared::Blessed);
        assert_eq!(
            place(false).compare("one", "a\nb\n").expect("compared"),
            Compared::Equal
        );
        let Compared::Differs(text) = place(false).compare("one", "a\nc").expect("compared") else {
            panic!("it differs")
        };
        assert!(text.contains("- b\n+ c\n"), "{text}");
        assert!(matches!(
            place(false).compare("two", "a").expect("compared"),
            Compared::Differs(_)
        ));
    }

    #[test]
    fn a_diff_names_the_heading() {
        let text = diff("functions\n  f\n  g\nload\n  x", "functions\n  f\nload\n  x", "a", "b");
        assert_eq!(text, "--- a\n+++ b\n  functions\n-   g\n");
    }
}
