//! What becomes of each patch of a series: what it is, whether it is in the livepatch, what it does there, or why it is out.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use kpatch_core::resolve::PatchedFunction;
use kpatch_core::{Code, names};
use kpatch_runtime::about::OfSeries;
use serde::Serialize;

use crate::build::patchset::{self, title::Title};

/// One patch of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// What it is called in messages.
    pub patch: String,
    /// The subject of its mail, or the name of its file.
    pub subject: String,
    /// The commit that it is, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// CVE numbers that it names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<String>,
    /// The commits that brought what it fixes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<String>,
    /// Whether it is in the livepatch.
    pub state: State,
    /// The patched functions that have its change, as `object:function`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patched: Vec<String>,
    /// Why it is out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
}

/// Whether a patch is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is in the livepatch.
    In,
    /// It was left out.
    Out,
}

/// Why a patch is out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Because {
    /// In words, one line.
    pub why: String,
    /// Codes of its refusals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<Code>,
    /// Patches that are out and that it needs, it seems.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

impl Fate {
    /// All patches as they are before anything is known: in.
    pub fn of_all(patches: &[PathBuf]) -> Result<Vec<Fate>> {
        let of = |(path, patch): (&PathBuf, String)| {
            let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let title = Title::of(path, &text);
            Ok(Fate {
                patch,
                subject: title.subject,
                commit: title.commit,
                cves: title.cves,
                fixes: title.fixes,
                state: State::In,
                patched: Vec::new(),
                because: None,
            })
        };
        patches.iter().zip(patchset::names(patches)).map(of).collect()
    }

    /// Notes which of the functions have the change of this patch; `causes` has the patches of each.
    pub fn takes_part(&mut self, functions: &[PatchedFunction], causes: &[Vec<String>]) {
        let own = functions
            .iter()
            .zip(causes)
            .filter(|(_, patches)| patches.contains(&self.patch));
        self.patched = own
            .map(|(function, _)| format!("{}:{}", function.object, names::unpromoted(&function.name)))
            .collect();
    }

    /// As it stands in the module.
    pub fn in_module(&self) -> OfSeries {
        OfSeries {
            subject: self.subject.clone(),
            commit: self.commit.clone(),
            cves: self.cves.clone(),
            left_out: self.because.as_ref().map(|because| because.why.clone()),
        }
    }

    /// Its subject, with the CVE numbers that are not in it.
    pub fn titled(&self) -> String {
        let new: Vec<&str> = self
            .cves
            .iter()
            .map(String::as_str)
            .filter(|cve| !self.subject.contains(cve))
            .collect();
        match new.len() {
            0 => self.subject.clone(),
            _ => format!("{} ({})", self.subject, new.join(", ")),
        }
    }

    /// What it does, or why it is out.
    pub fn told(&self) -> String {
        match (&self.because, self.patched.len()) {
            (Some(because), _) => because.why.clone(),
            (None, 0) => "no function of this kernel changes by it".to_owned(),
            (None, count) => crate::ui::count(count, "function", "functions"),
        }
    }
}

/// What is said of a series whose build ended without a livepatch.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Told {
    /// In words.
    pub text: String,
    /// All its patches.
    pub series: Vec<Fate>,
}

/// The series as a table in Markdown, for a release note.
pub struct ReleaseNote<'a> {
    /// Name of the module.
    pub module: &'a str,
    /// `uname -r` of the kernel.
    pub release: &'a str,
    /// The digest of what the patches that are in do.
    pub digest: Option<&'a str>,
    /// The patches.
    pub series: &'a [Fate],
}

impl fmt::Display for ReleaseNote<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inside, outside): (Vec<&Fate>, Vec<&Fate>) = self.series.iter().partition(|fate| fate.state == State::In);
        writeln!(f, "# {} for Linux {}\n", cell(self.module), cell(self.release))?;
        let out = if outside.is_empty() {
            String::new()
        } else {
            format!(", {} left out", outside.len())
        };
        writeln!(
            f,
            "{} in this livepatch{out}.",
            crate::ui::count(inside.len(), "patch is", "patches are")
        )?;
        if let Some(digest) = self.digest {
            writeln!(f, "\nDigest of the change: `{digest}`")?;
        }
        writeln!(f, "\n| patch | commit | CVE | functions |\n|---|---|---|---|")?;
        for fate in inside {
            let functions: Vec<String> = fate.patched.iter().map(|name| format!("`{}`", cell(name))).collect();
            let functions = if functions.is_empty() {
                fate.told()
            } else {
                functions.join(", ")
            };
            writeln!(f, "{} {functions} |", Row(fate))?;
        }
        if !outside.is_empty() {
            writeln!(
                f,
                "\n## Not in this livepatch\n\n| patch | commit | CVE | why |\n|---|---|---|---|"
            )?;
            for fate in outside {
                writeln!(f, "{} {} |", Row(fate), cell(&fate.told()))?;
            }
        }
        Ok(())
    }
}

struct Row<'a>(&'a Fate);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHORT: usize = 12;
        let commit = self
            .0
            .commit
            .as_deref()
            .map_or("", |commit| &commit[..commit.len().min(SHORT)]);
        write!(
            f,
            "| {} | {commit} | {} |",
            cell(&self.0.subject),
            self.0.cves.join(", ")
        )
    }
}

/// A text that stays in its cell and is shown as it is.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '|' | '<' | '`' | '*' | '[' | ']' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_note_has_what_is_in_and_what_is_out() {
        let fate = |subject: &str, state| Fate {
            patch: "a.patch".into(),
            subject: subject.into(),
            commit: Some("0123456789abcdef0123".into()),
            cves: vec!["CVE-2026-1".into()],
            fixes: Vec::new(),
            state,
            patched: Vec::new(),
            because: None,
        };
        let series = [
            Fate {
                patched: vec!["vmlinux:f".into()],
                ..fate("x: a | b", State::In)
            },
            Fate {
                because: Some(Because {
                    why: "needs a.patch".into(),
                    ..Because::default()
                }),
                ..fate("y", State::Out)
            },
        ];
        let note = ReleaseNote {
            module: "livepatch_1",
            release: "6.12.107",
            digest: Some("00"),
            series: &series,
        };
        insta::assert_snapshot!(note, @r#"
        # livepatch_1 for Linux 6.12.107

        1 patch is in this livepatch, 1 left out.

        Digest of the change: `00`

        | patch | commit | CVE | functions |
        |---|---|---|---|
        | x: a \| b | 0123456789ab | CVE-2026-1 | `vmlinux:f` |

        ## Not in this livepatch

        | patch | commit | CVE | why |
        |---|---|---|---|
        | y | 0123456789ab | CVE-2026-1 | needs a.patch |
        "#);
    }
}
