//! Applies hunks to lines in memory, remembering for each line where in the original it stood.
//!
//! A hunk has to fit exactly, unless the user allows fuzz. It may have moved, because stable kernels differ by lines above
//! it, but only to one place: where two places fit, picking the nearer one would be a guess.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kpatch_core::{Refusal, Subject};

use super::line::{Line, fits};
use super::misfit::explain;
use super::origins::Origins;
use super::{ChangeKind, DOES_NOT_APPLY, FileChange, Hunk, OUTSIDE_TREE, Side};

/// Files after all patches, by path relative to the source tree. Nothing stands for a removed file.
pub type Patched = BTreeMap<String, Option<Vec<Line>>>;

/// Copies of the files that patches change, as far as these are applied.
#[derive(Debug, Default)]
pub struct Copies {
    /// The files.
    pub files: Patched,
    /// Hunks that fit elsewhere than the patch says.
    pub notes: Vec<String>,
    /// Hunks that do not fit.
    pub refusals: Vec<Refusal>,
    /// Which patch has brought what.
    pub origins: Origins,
    /// How many lines of context at either end of a hunk may differ, as `patch` counts fuzz.
    pub fuzz: usize,
}

impl Copies {
    /// Applies one file section on top of everything before it.
    pub fn add(&mut self, source: &Path, change: &FileChange) -> Result<()> {
        if let Some(refusal) = through_link(source, change) {
            self.refusals.push(refusal.caused_by([&change.patch]));
            return Ok(());
        }
        let from = match &change.kind {
            ChangeKind::Renamed(from) | ChangeKind::Copied(from) => from,
            _ => &change.path,
        };
        let orig = match self.files.get(from) {
            Some(file) => file.clone(),
            None => original(&source.join(from))?,
        };
        match apply_change(change, orig.clone(), self.fuzz) {
            Ok((patched, notes)) => {
                self.origins.add(change, orig, self.fuzz);
                if let ChangeKind::Renamed(from) = &change.kind {
                    self.files.insert(from.clone(), None);
                }
                self.files.insert(change.path.clone(), patched);
                self.notes.extend(notes);
            }
            Err(refusal) => self.refusals.push(refusal.caused_by([&change.patch])),
        }
        Ok(())
    }
}

/// A symbolic link on the way would let a patch for the tree read and replace files outside of it.
fn through_link(source: &Path, change: &FileChange) -> Option<Refusal> {
    let from = match &change.kind {
        ChangeKind::Renamed(from) | ChangeKind::Copied(from) => Some(from),
        _ => None,
    };
    for path in [Some(&change.path), from].into_iter().flatten() {
        let mut at = source.to_path_buf();
        for part in path.split('/') {
            at.push(part);
            if fs::symlink_metadata(&at).is_ok_and(|data| data.file_type().is_symlink()) {
                let why = format!("the path goes through the symbolic link {}", at.display());
                let hint = "patch the file the link leads to";
                return Some(Refusal::new(OUTSIDE_TREE, Subject::file(path.clone()), why).hint(hint));
            }
        }
    }
    None
}

/// The lines of a file as it is; nothing if it is not there.
pub fn original(path: &Path) -> Result<Option<Vec<Line>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(lines_of(&bytes))),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Splits a file into numbered lines.
pub fn lines_of(bytes: &[u8]) -> Vec<Line> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    (1..)
        .zip(lines)
        .map(|(number, text)| Line {
            text: text.to_vec(),
            origin: Some(number),
        })
        .collect()
}

type PatchedFile = (Option<Vec<Line>>, Vec<String>);

/// What a change makes of a file, and notes.
pub(super) fn apply_change(change: &FileChange, orig: Option<Vec<Line>>, fuzz: usize) -> Result<PatchedFile, Refusal> {
    let refuse = |why: &str| Refusal::new(DOES_NOT_APPLY, Subject::file(change.path.clone()), why);
    let mut lines = match (&change.kind, orig) {
        (ChangeKind::New, Some(_)) => {
            return Err(
                refuse("the patch makes this file, but the source tree has it already").hint("is it applied already?")
            );
        }
        (ChangeKind::New, None) => return Ok((Some(new_file(change)?), Vec::new())),
        (_, Some(lines)) => lines,
        (_, None) => {
            return Err(refuse("the source tree does not have this file").hint("is the patch for another version?"));
        }
    };
    let notes = apply_hunks(&mut lines, change, fuzz)?;
    if change.kind != ChangeKind::Deleted {
        return Ok((Some(lines), notes));
    }
    if lines.is_empty() {
        Ok((None, notes))
    } else {
        Err(refuse("the patch removes this file, but not all of its lines"))
    }
}

fn new_file(change: &FileChange) -> Result<Vec<Line>, Refusal> {
    let lines = change.hunks.iter().flat_map(|hunk| &hunk.lines);
    let added = lines.clone().filter(|line| line.side == Side::Patched);
    if change.hunks.len() > 1 || lines.count() != added.clone().count() {
        let why = "the patch makes this file, but also expects lines to be there";
        return Err(Refusal::new(DOES_NOT_APPLY, Subject::file(change.path.clone()), why));
    }
    Ok(added
        .map(|line| Line {
            text: line.text.clone(),
            origin: None,
        })
        .collect())
}

fn apply_hunks(lines: &mut Vec<Line>, change: &FileChange, most_fuzz: usize) -> Result<Vec<String>, Refusal> {
    // How far the file has grown, and how far hunks were found from where the patch said.
    let (mut grown, mut moved) = (0, 0);
    let mut floor = 0;
    let mut notes = Vec::new();
    for hunk in &change.hunks {
        let expected = add(hunk.orig_start.saturating_sub(1), grown + moved);
        let Found { at, fuzz, core } = find_with_fuzz(lines, hunk, expected, floor, most_fuzz)
            .map_err(|places| explain(lines, change, hunk, expected, &places))?;
        // What fuzz takes off in front is no offset.
        let offset = distance(expected, at) - distance(0, core.start);
        let place = || format!("{}: hunk {} of {}", change.path, hunk.number, change.patch);
        if offset != 0 {
            notes.push(format!("{} fits {offset:+} lines from where the patch says", place()));
            moved += offset;
        }
        if fuzz > 0 {
            notes.push(format!("{} {FUZZY} {fuzz} only: look at it", place()));
        }
        let hunk_lines = &hunk.lines[core];
        let replaced = splice(lines, hunk_lines, at);
        let orig = hunk_lines.iter().filter(|line| line.side != Side::Patched).count();
        grown += distance(orig, replaced);
        floor = at + replaced;
    }
    Ok(notes)
}

/// What the note of a hunk with fuzz has, and no other.
const FUZZY: &str = "fits with fuzz";

/// Whether a note is about a hunk that fits with fuzz only.
pub fn is_fuzzy(note: &str) -> bool {
    note.contains(FUZZY)
}

/// Where a hunk goes.
struct Found {
    at: usize,
    fuzz: usize,
    /// The lines of the hunk that stand there.
    core: std::ops::Range<usize>,
}

/// The one place a hunk fits with the least fuzz; else all places without any. A place with less fuzz is better than any
/// with more, but of several with the same none is.
fn find_with_fuzz(
    lines: &[Line],
    hunk: &Hunk,
    expected: usize,
    floor: usize,
    most_fuzz: usize,
) -> Result<Found, Vec<usize>> {
    let exact = match find(lines, &hunk.orig().collect::<Vec<_>>(), expected, floor) {
        Ok(at) => {
            let core = 0..hunk.lines.len();
            return Ok(Found { at, fuzz: 0, core });
        }
        Err(places) => places,
    };
    if exact.len() > 1 {
        return Err(exact);
    }
    for fuzz in 1..=most_fuzz {
        let core = core(hunk, fuzz);
        let part = &hunk.lines[core.clone()];
        let orig = part.iter().filter(|line| line.side != Side::Patched);
        let orig: Vec<&[u8]> = orig.map(|line| line.text.as_slice()).collect();
        match find(lines, &orig, expected + core.start, floor) {
            Ok(at) => return Ok(Found { at, fuzz, core }),
            Err(places) if places.len() > 1 => return Err(places),
            Err(_) => {}
        }
    }
    Err(exact)
}

/// The lines of a hunk that fuzz leaves. Fuzz takes lines of context off the end that has more first, so that a hunk at the
/// start or the end of a file keeps what it has there; as `patch` does it.
pub(super) fn core(hunk: &Hunk, fuzz: usize) -> std::ops::Range<usize> {
    let is_context = |line: &&super::HunkLine| line.side == Side::Both;
    let front = hunk.lines.iter().take_while(is_context).count();
    let back = hunk.lines.iter().rev().take_while(is_context).count();
    let longest = front.max(back);
    let off = |context: usize| (fuzz + context).saturating_sub(longest).min(context);
    let (start, end) = (off(front), hunk.lines.len() - off(back));
    start..end.max(start)
}

fn add(number: usize, signed: i64) -> usize {
    let sum = i64::try_from(number).unwrap_or(i64::MAX).saturating_add(signed);
    usize::try_from(sum).unwrap_or(0)
}

fn distance(from: usize, to: usize) -> i64 {
    let signed = |number| i64::try_from(number).unwrap_or(i64::MAX);
    signed(to) - signed(from)
}

/// The one place where these lines are; else all places.
fn find(lines: &[Line], orig: &[&[u8]], expected: usize, floor: usize) -> Result<usize, Vec<usize>> {
    if orig.is_empty() {
        // Without a line to compare nothing says that this is the right place.
        return Err(Vec::new());
    }
    if expected >= floor && fits(lines, orig, expected) {
        return Ok(expected);
    }
    let places: Vec<usize> = (floor..lines.len()).filter(|at| fits(lines, orig, *at)).collect();
    if let [only] = places[..] { Ok(only) } else { Err(places) }
}

/// Exchanges the original side for the patched one and returns how many lines that is. Unchanged lines keep their origin.
fn splice(lines: &mut Vec<Line>, hunk: &[super::HunkLine], at: usize) -> usize {
    let mut end = at;
    let mut patched = Vec::new();
    for line in hunk {
        match line.side {
            Side::Patched => patched.push(Line {
                text: line.text.clone(),
                origin: None,
            }),
            Side::Orig => end += 1,
            Side::Both => {
                patched.push(lines[end].clone());
                end += 1;
            }
        }
    }
    let count = patched.len();
    lines.splice(at..end, patched);
    count
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn apply(orig: &str, patch: &str) -> Result<(String, Vec<String>), Refusal> {
        apply_with(orig, patch, 0)
    }

    fn apply_with(orig: &str, patch: &str, fuzz: usize) -> Result<(String, Vec<String>), Refusal> {
        let change = parse("p", patch.as_bytes()).unwrap().remove(0);
        let (lines, notes) = apply_change(&change, Some(lines_of(orig.as_bytes())), fuzz)?;
        let bytes = lines
            .unwrap_or_default()
            .into_iter()
            .flat_map(|line| line.text)
            .collect();
        Ok((String::from_utf8(bytes).unwrap(), notes))
    }

    const HEAD: &str = "--- a/x.c\n+++ b/x.c\n";

    #[test]
    fn hunks_apply_in_place_and_origins_survive() {
        let patch = format!("{HEAD}@@ -1,2 +1,3 @@\n a\n+A\n b\n@@ -4,2 +5,1 @@\n-d\n e\n");
        let change = parse("p", patch.as_bytes()).unwrap().remove(0);
        let (lines, notes) = apply_change(&change, Some(lines_of(b"a\nb\nc\nd\ne\n")), 0).unwrap();
        let origins: Vec<_> = lines.unwrap().into_iter().map(|line| line.origin).collect();
        assert_eq!(origins, [Some(1), None, Some(2), Some(3), Some(5)]);
        assert!(notes.is_empty());
    }

    #[test]
    fn a_moved_hunk_is_found_and_carries_the_next_one() {
        let patch = format!("{HEAD}@@ -1,2 +1,2 @@\n a\n-b\n+B\n@@ -4,2 +4,2 @@\n x\n-y\n+Y\n");
        let (text, notes) = apply("0\n0\na\nb\nc\nx\ny\nx\ny\n", &patch).unwrap();
        assert_eq!(text, "0\n0\na\nB\nc\nx\nY\nx\ny\n");
        assert_eq!(notes, ["x.c: hunk 1 of p fits +2 lines from where the patch says"]);
    }

    #[test]
    fn several_places_are_no_place() {
        let patch = format!("{HEAD}@@ -1,2 +1,2 @@\n x\n-y\n+Y\n");
        let refusal = apply("0\nx\ny\nx\ny\n", &patch).unwrap_err();
        assert_eq!(refusal.code, DOES_NOT_APPLY);
        assert!(refusal.why.contains("lines 2 and 4"), "{}", refusal.why);
    }

    #[test]
    fn fuzz_takes_context_off_only_as_far_as_it_is_allowed() {
        let patch = format!("{HEAD}@@ -1,5 +1,5 @@\n a\n b\n-c\n+C\n d\n e\n");
        assert!(apply("A\nb\nc\nd\ne\n", &patch).is_err());
        let (text, notes) = apply_with("A\nb\nc\nd\ne\n", &patch, 1).unwrap();
        assert_eq!(text, "A\nb\nC\nd\ne\n");
        assert_eq!(notes, ["x.c: hunk 1 of p fits with fuzz 1 only: look at it"]);
        let (_, notes) = apply_with("0\nA\nb\nc\nd\ne\n", &patch, 1).unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(apply_with("A\nB\nc\nd\ne\n", &patch, 1).is_err());
        assert_eq!(apply_with("A\nB\nc\nd\ne\n", &patch, 2).unwrap().0, "A\nB\nC\nd\ne\n");
        // Two places with the same fuzz, of which neither is where the patch says.
        assert!(apply_with("0\nA\nB\nc\nd\ne\nA\nb\nc\nd\ne\n", &patch, 2).is_ok());
        assert!(apply_with("0\nA\nb\nc\nd\ne\nA\nb\nc\nd\ne\n", &patch, 2).is_err());
        // Fuzz never leaves nothing to compare.
        assert!(apply_with("q\n", &format!("{HEAD}@@ -1,2 +1,3 @@\n a\n+x\n b\n"), 9).is_err());
    }

    #[test]
    fn the_shorter_context_of_a_hunk_stays_until_both_are_as_short() {
        let patch = format!("{HEAD}@@ -1,4 +1,4 @@\n-a\n+A\n b\n c\n d\n");
        let change = parse("p", patch.as_bytes()).unwrap().remove(0);
        let cores: Vec<_> = (0..5).map(|fuzz| core(&change.hunks[0], fuzz)).collect();
        assert_eq!(cores, [0..5, 0..4, 0..3, 0..2, 0..2]);
    }

    #[test]
    fn hunks_do_not_fit_before_earlier_ones() {
        let patch = format!("{HEAD}@@ -3 +3 @@\n-c\n+C\n@@ -5 +5 @@\n-a\n+A\n");
        assert!(apply("a\nb\nc\nd\ne\n", &patch).is_err());
    }

    #[test]
    fn bytes_are_bytes() {
        let patch = b"--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n \xe9\r\n-b\n\\ No newline at end of file\n+B\n".to_vec();
        let change = parse("p", &patch).unwrap().remove(0);
        let (lines, _) = apply_change(&change, Some(lines_of(b"\xe9\r\nb")), 0).unwrap();
        assert_eq!(lines.unwrap().concat_text(), b"\xe9\r\nB\n");
    }

    trait ConcatText {
        fn concat_text(&self) -> Vec<u8>;
    }

    impl ConcatText for Vec<Line> {
        fn concat_text(&self) -> Vec<u8> {
            self.iter().flat_map(|line| line.text.clone()).collect()
        }
    }

    #[test]
    fn new_deleted_and_missing_files() {
        let new = "--- /dev/null\n+++ b/x.c\n@@ -0,0 +1 @@\n+x\n";
        assert!(apply("x\n", new).unwrap_err().why.contains("has it already"));
        let gone = "--- a/x.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n";
        assert_eq!(apply("x\n", gone).unwrap().0, "");
        assert!(apply("x\ny\n", gone).unwrap_err().why.contains("not all of its lines"));
    }

    #[test]
    fn a_second_patch_sees_the_first() {
        let source = tempfile::tempdir().unwrap();
        fs::write(source.path().join("x.c"), "a\nb\n").unwrap();
        let mut applied = Copies::default();
        for patch in ["@@ -1,2 +1,3 @@\n a\n+1\n b\n", "@@ -1,3 +1,3 @@\n a\n-1\n+2\n b\n"] {
            let change = parse("p", format!("{HEAD}{patch}").as_bytes()).unwrap().remove(0);
            applied.add(source.path(), &change).unwrap();
        }
        assert!(applied.refusals.is_empty());
        assert_eq!(applied.files["x.c"].as_ref().unwrap().concat_text(), b"a\n2\nb\n");
        assert_eq!(fs::read(source.path().join("x.c")).unwrap(), b"a\nb\n");
    }

    #[test]
    fn links_are_not_followed() {
        let (source, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("x.c"), "a\n").unwrap();
        std::os::unix::fs::symlink(outside.path(), source.path().join("fs")).unwrap();
        let change = parse("p", b"--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1 +1 @@\n-a\n+b\n")
            .unwrap()
            .remove(0);
        let mut applied = Copies::default();
        applied.add(source.path(), &change).unwrap();
        assert_eq!(applied.refusals[0].code, OUTSIDE_TREE);
    }
}
