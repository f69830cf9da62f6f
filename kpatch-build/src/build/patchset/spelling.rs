//! Patches that are right and spelt another way than git spells them: paths without `a/` and `b/`, CRLF line endings.
//!
//! Both are read as they are meant where the tree leaves no doubt, and said. Anything else stays as it was and is judged
//! like any other patch.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::parse::check_path;
use super::{ChangeKind, FileChange, PatchSet};

/// Reads the patches as they are meant for this source tree. The notes tell what was read differently.
pub fn as_meant(set: PatchSet, source: &Path) -> (PatchSet, Vec<String>) {
    let mut notes = Vec::new();
    let without_prefix: BTreeSet<String> = without_prefix(&set, source);
    for patch in &without_prefix {
        notes.push(format!("{patch} was applied with -p0: its paths have no a/ and b/"));
    }
    let mut converted = BTreeSet::new();
    let mut files = Vec::new();
    for mut change in set.files {
        if without_prefix.contains(&change.patch)
            && let Some(spelt) = change.spelt.take()
        {
            change.path = spelt;
        }
        if change.crlf && !has_crlf(&source.join(&change.path)) {
            converted.insert(change.patch.clone());
            with_lf(&mut change);
        }
        files.push(change);
    }
    notes.extend(
        converted
            .into_iter()
            .map(|patch| format!("{patch} has CRLF line endings, which the source does not have: read as LF")),
    );
    (PatchSet { files }, notes)
}

/// The patch files whose paths start at the top of the tree as they are spelt.
///
/// All files that such a patch does not make must be there under the spelt name, and none under the name without its first
/// folder: then one reading fits, and the other does not.
fn without_prefix(set: &PatchSet, source: &Path) -> BTreeSet<String> {
    let names: BTreeSet<&String> = set.files.iter().map(|change| &change.patch).collect();
    let is_there = |path: &str| check_path(path).is_ok() && source.join(path).is_file();
    let fits = |patch: &&String| {
        let of_patch = set.files.iter().filter(|change| change.patch == **patch);
        let mut old = of_patch
            .filter(|change| matches!(change.kind, ChangeKind::Modified | ChangeKind::Deleted))
            .peekable();
        old.peek().is_some()
            && old.all(|change| !is_there(&change.path) && change.spelt.as_deref().is_some_and(is_there))
    };
    let safe = |patch: &&String| {
        let of_patch = set.files.iter().filter(|change| change.patch == **patch);
        let mut spelt = of_patch.filter_map(|change| change.spelt.as_deref());
        spelt.all(|path| check_path(path).is_ok())
    };
    names
        .into_iter()
        .filter(|patch| fits(patch) && safe(patch))
        .cloned()
        .collect()
}

fn has_crlf(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.windows(2).any(|two| two == b"\r\n"))
}

fn with_lf(change: &mut FileChange) {
    for line in change.hunks.iter_mut().flat_map(|hunk| &mut hunk.lines) {
        if line.text.ends_with(b"\r\n") {
            line.text.truncate(line.text.len() - 2);
            line.text.push(b'\n');
        } else if line.text.ends_with(b"\r") {
            line.text.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    const FIX: &str = "--- fs/a.c\n+++ fs/a.c\n@@ -1 +1 @@\n-a\n+b\n--- /dev/null\n+++ fs/new.h\n@@ -0,0 +1 @@\n+x\n";

    fn meant(text: &str, there: &[(&str, &str)]) -> (PatchSet, Vec<String>) {
        let tree = tempfile::tempdir().unwrap();
        for (path, content) in there {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let files = parse("fix.patch", text.as_bytes()).unwrap();
        as_meant(PatchSet { files }, tree.path())
    }

    fn paths(set: &PatchSet) -> Vec<&str> {
        set.files.iter().map(|change| change.path.as_str()).collect()
    }

    #[test]
    fn paths_without_a_prefix_are_taken_where_only_they_fit() {
        let (set, notes) = meant(FIX, &[("fs/a.c", "a\n")]);
        assert_eq!(paths(&set), ["fs/a.c", "fs/new.h"]);
        assert_eq!(notes.len(), 1);
        let (set, notes) = meant(FIX, &[("fs/a.c", "a\n"), ("a.c", "a\n")]);
        assert_eq!((paths(&set), notes.len()), (vec!["a.c", "new.h"], 0));
        let (set, _) = meant(FIX, &[]);
        assert_eq!(paths(&set), ["a.c", "new.h"]);
    }

    #[test]
    fn one_file_that_is_not_there_keeps_the_whole_patch_as_it_is() {
        let text = format!("{FIX}--- fs/b.c\n+++ fs/b.c\n@@ -1 +1 @@\n-a\n+b\n");
        let (set, notes) = meant(&text, &[("fs/a.c", "a\n")]);
        assert_eq!((paths(&set), notes.len()), (vec!["a.c", "new.h", "b.c"], 0));
    }

    #[test]
    fn a_spelt_name_stays_in_the_tree() {
        let text = format!("{FIX}--- /dev/null\n+++ ../x.h\n@@ -0,0 +1 @@\n+x\n");
        let (set, notes) = meant(&text, &[("fs/a.c", "a\n")]);
        assert_eq!((paths(&set), notes.len()), (vec!["a.c", "new.h", "x.h"], 0));
    }

    #[test]
    fn carriage_returns_of_the_mail_go_and_those_of_the_file_stay() {
        let lines = |set: &PatchSet| -> Vec<Vec<u8>> {
            let hunk = &set.files[0].hunks[0];
            hunk.lines.iter().map(|line| line.text.clone()).collect()
        };
        let git = "--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-a\n+b\n";
        let mailed = git.replace('\n', "\r\n");
        let (set, notes) = meant(&mailed, &[("fs/a.c", "a\n")]);
        assert_eq!((lines(&set), notes.len()), (vec![b"a\n".to_vec(), b"b\n".to_vec()], 1));
        let (set, notes) = meant(&mailed, &[("fs/a.c", "a\r\n")]);
        assert_eq!((lines(&set)[0].clone(), notes.len()), (b"a\r\n".to_vec(), 0));
        let for_crlf = git.replace("a\n+b\n", "a\r\n+b\r\n");
        let (set, notes) = meant(&for_crlf, &[("fs/a.c", "a\n")]);
        assert_eq!((lines(&set)[0].clone(), notes.len()), (b"a\r\n".to_vec(), 0));
    }
}
