//! What the compiler says, in terms of the patch: paths as the patch has them, lines of the patched file, and where the
//! patch file has these lines.
//!
//! The compiler is shown patched files under the names of the unpatched ones, so by itself it names a file of the source
//! tree, and a line that looks different there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use crate::build::patchset::apply::Patched;
use crate::build::patchset::{FileChange, PatchSet, Side};
use crate::outcome::Ending;

/// Where patch files have the lines that they add: by path in the source tree, then by line of the patched file.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<String, BTreeMap<u32, Added>>);

/// A line that a patch adds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Added {
    patch: String,
    hunk: usize,
    /// 1-based, in the patch file.
    line: usize,
    text: Vec<u8>,
}

/// Something that the compiler says of a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Diagnostic {
    path: String,
    line: u32,
    /// With the kind before it: `warning: unused variable 'x' [-Wunused-variable]`.
    text: String,
}

impl Places {
    /// Finds the added lines of the patched files in the patches.
    pub fn of(set: &PatchSet, files: &Patched) -> Places {
        let mut places = BTreeMap::new();
        for (path, lines) in files {
            let Some(lines) = lines else { continue };
            let known: Vec<Added> = set
                .files
                .iter()
                .filter(|change| change.path == *path)
                .flat_map(added)
                .collect();
            let new: Vec<(u32, &[u8])> = (1..)
                .zip(lines)
                .filter(|(_, line)| line.origin.is_none())
                .map(|(number, line)| (number, line.text.as_slice()))
                .collect();
            let in_order = known.len() == new.len();
            let place = |(index, (number, text)): (usize, &(u32, &[u8]))| {
                let found = if in_order {
                    known.get(index)
                } else {
                    // A later patch has changed lines of an earlier one: the last one with this text stayed.
                    known.iter().rev().find(|added| added.text == *text)
                };
                found.map(|added| (*number, added.clone()))
            };
            places.insert(path.clone(), new.iter().enumerate().filter_map(place).collect());
        }
        Places(places)
    }

    /// The error of a compiler with its messages in terms of the patch. `roots` are folders with the source tree as the
    /// compiler was shown it. An error of the environment stays as it is.
    pub fn explain(&self, error: anyhow::Error, roots: &[String]) -> anyhow::Error {
        if error.is::<Ending>() {
            return error;
        }
        let mut text = without_roots(&format!("{error:#}"), roots);
        let errors = text.lines().filter_map(diagnostic);
        let errors = errors.filter(|one| !one.text.starts_with("warning: "));
        let told: BTreeSet<(String, u32)> = errors.map(|one| (one.path, one.line)).collect();
        for (path, line) in told {
            text.extend(
                self.told(&path, line)
                    .map(|place| format!("\n{path}:{line} is {place}")),
            );
        }
        anyhow!(text)
    }

    /// Where the patch has a line, or what of it comes before that line.
    fn told(&self, path: &str, line: u32) -> Option<String> {
        let (at, added) = self.0.get(path)?.range(..=line).next_back()?;
        let Added {
            patch,
            hunk,
            line: number,
            text,
        } = added;
        let place = if *at == line { "" } else { "after " };
        let text = String::from_utf8_lossy(text);
        Some(format!("{place}{patch}:{number} (hunk {hunk}): +{}", text.trim_end()))
    }

    /// The warnings that the patch causes, from what the compiler said of the unpatched and of the patched file.
    pub fn caused(&self, before: &str, after: &str, roots: &[String]) -> Vec<String> {
        let read = |text: &str| {
            let text = without_roots(text, roots);
            let found = text.lines().filter_map(diagnostic);
            found
                .filter(|one| one.text.starts_with("warning: "))
                .collect::<Vec<_>>()
        };
        let mut known: BTreeMap<(String, String), usize> = BTreeMap::new();
        for one in read(before) {
            *known.entry((one.path, one.text)).or_default() += 1;
        }
        let mut caused = Vec::new();
        for one in read(after) {
            match known.get_mut(&(one.path.clone(), one.text.clone())) {
                Some(count) if *count > 0 => *count -= 1,
                _ => caused.push(self.shown(&one)),
            }
        }
        caused
    }

    fn shown(&self, one: &Diagnostic) -> String {
        let Diagnostic { path, line, text } = one;
        let place = self.0.get(path).and_then(|lines| lines.get(line));
        let place = place.map(|added| format!(" ({}:{}, hunk {})", added.patch, added.line, added.hunk));
        format!("{path}:{line}: {text}{}", place.unwrap_or_default())
    }
}

/// The lines that one file section adds, in the order of the patched file.
fn added(change: &FileChange) -> impl Iterator<Item = Added> + '_ {
    change.hunks.iter().flat_map(|hunk| {
        let new = hunk.lines.iter().filter(|line| line.side == Side::Patched);
        new.map(|line| Added {
            patch: change.patch.clone(),
            hunk: hunk.number,
            line: line.number,
            text: line.text.clone(),
        })
    })
}

/// Whether a text has a warning at all.
pub fn warns(text: &str) -> bool {
    text.contains("warning: ")
}

fn without_roots(text: &str, roots: &[String]) -> String {
    roots
        .iter()
        .fold(text.to_owned(), |text, root| text.replace(&format!("{root}/"), ""))
}

/// `fs/a.c:12:3: error: text`, with or without a column.
fn diagnostic(line: &str) -> Option<Diagnostic> {
    let kinds = [": error: ", ": fatal error: ", ": warning: "];
    let at = kinds.iter().filter_map(|kind| line.find(kind)).min()?;
    let (place, text) = (&line[..at], &line[at + 2..]);
    let mut parts = place.split(':');
    let path = parts.next()?;
    let number = parts.next()?.parse().ok()?;
    Some(Diagnostic {
        path: path.to_owned(),
        line: number,
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::patchset::apply::Copies;
    use crate::build::patchset::parse::parse;

    /// Places for patches of a file with the lines a, b, c.
    fn places(patches: &[&str]) -> Places {
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("x.c"), "a\nb\nc\n").unwrap();
        let mut copies = Copies::default();
        let mut set = PatchSet { files: Vec::new() };
        for (index, hunks) in patches.iter().enumerate() {
            let text = format!("--- a/x.c\n+++ b/x.c\n{hunks}");
            let change = parse(&format!("{}.patch", index + 1), text.as_bytes())
                .unwrap()
                .remove(0);
            copies.add(source.path(), &change).unwrap();
            set.files.push(change);
        }
        assert!(copies.refusals.is_empty());
        Places::of(&set, &copies.files)
    }

    const TWO: &str = "@@ -1 +1,2 @@\n a\n+A\n@@ -3 +4,2 @@\n-c\n\\ No newline at end of file\n+C\n+D\n";

    #[test]
    fn an_error_is_told_by_line_of_the_patch() {
        let places = places(&["@@ -1 +1,2 @@\n a\n+A\n@@ -3 +4,2 @@\n-c\n+C\n+D\n"]);
        let said = anyhow!("cc failed:\n/s/x.c:2:1: error: no A\n/s/x.c:3: error: what b\n/s/y.c:9:1: error: y");
        let text = format!("{:#}", places.explain(said, &["/s".to_owned()]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "cc failed:",
                "x.c:2:1: error: no A",
                "x.c:3: error: what b",
                "y.c:9:1: error: y",
                "x.c:2 is 1.patch:5 (hunk 1): +A",
                "x.c:3 is after 1.patch:5 (hunk 1): +A",
            ]
        );
        let stays = places.explain(Ending::infrastructure("interrupted"), &[]);
        assert!(stays.is::<Ending>());
    }

    #[test]
    fn marks_in_a_patch_are_lines_of_it() {
        let change = parse("p", format!("--- a/x.c\n+++ b/x.c\n{TWO}").as_bytes())
            .unwrap()
            .remove(0);
        let lines: Vec<usize> = added(&change).map(|added| added.line).collect();
        assert_eq!(lines, [5, 9, 10]);
    }

    #[test]
    fn of_several_patches_the_last_one_with_the_line_has_it() {
        let places = places(&["@@ -1 +1,3 @@\n a\n+A\n+B\n", "@@ -1,3 +1,3 @@\n a\n-A\n+Z\n B\n"]);
        assert_eq!(places.told("x.c", 2).unwrap(), "2.patch:6 (hunk 1): +Z");
        assert_eq!(places.told("x.c", 3).unwrap(), "1.patch:6 (hunk 1): +B");
    }

    #[test]
    fn only_warnings_of_the_patch_are_caused_by_it() {
        let places = places(&["@@ -1 +1,2 @@\n a\n+A\n"]);
        let roots = ["/s".to_owned()];
        let old = "/s/x.c:3:1: warning: old [-Wold]\n";
        let caused = places.caused(
            old,
            "/s/x.c:4:1: warning: old [-Wold]\n/s/x.c:2:7: warning: new\n",
            &roots,
        );
        assert_eq!(caused, ["x.c:2: warning: new (1.patch:5, hunk 1)"]);
        assert_eq!(
            places.caused(old, &format!("{old}{old}"), &roots),
            ["x.c:3: warning: old [-Wold]"]
        );
        assert!(places.caused(old, "/s/x.c:4:1: error: x\n", &roots).is_empty());
    }
}
