//! Says why a hunk does not fit and what would make it fit: this is what the author of a backport needs most.

use kpatch_core::{Refusal, Subject};

use super::line::{Line, fits};
use super::{DOES_NOT_APPLY, FileChange, Hunk, Side};

/// The refusal for a hunk that fits in no place or in several.
pub fn explain(lines: &[Line], change: &FileChange, hunk: &Hunk, expected: usize, places: &[usize]) -> Refusal {
    let (why, hint) = reason(lines, hunk, expected, places);
    let at = Subject::file(change.path.clone()).line(u32::try_from(hunk.orig_start).unwrap_or(u32::MAX));
    let why = format!("hunk {} ({} line {}) {why}", hunk.number, change.patch, hunk.patch_line);
    Refusal::new(DOES_NOT_APPLY, at, why).hint(hint)
}

fn reason(lines: &[Line], hunk: &Hunk, expected: usize, places: &[usize]) -> (String, &'static str) {
    let patched: Vec<&[u8]> = hunk.patched().collect();
    let orig: Vec<&[u8]> = hunk.orig().collect();
    if orig.is_empty() {
        return (
            "has no line to recognise its place by".into(),
            "make the patch with context lines (`diff -U3`)",
        );
    }
    if places.len() > 1 {
        let why = format!(
            "does not fit at line {} and fits at {}",
            expected + 1,
            line_list(places)
        );
        return (
            why,
            "make the patch again from this source, or with more context (`git diff -U10`)",
        );
    }
    if !patched.is_empty() && (0..lines.len()).any(|at| fits(lines, &patched, at)) && patched != orig {
        return (
            "does not fit; its new lines are in the file already".into(),
            "is the patch applied already?",
        );
    }
    if (0..lines.len()).any(|at| fits_but_for_line_ends(lines, &orig, at)) {
        return (
            "differs from the file only in line endings".into(),
            "convert the line endings of the patch",
        );
    }
    if let Some((fuzz, at)) = with_fuzz(lines, hunk) {
        let why = format!("fits at line {} only with {fuzz} context lines ignored", at + 1);
        return (
            why,
            "the context changed: look at it, then make the patch again from this source, or allow that with `--fuzz`",
        );
    }
    (
        "does not fit anywhere".into(),
        "make the patch for this version of the source",
    )
}

fn line_list(places: &[usize]) -> String {
    const SHOWN: usize = 5;
    let numbers: Vec<_> = places.iter().take(SHOWN).map(|at| (at + 1).to_string()).collect();
    match &numbers[..] {
        [first, last] if places.len() == 2 => format!("lines {first} and {last}"),
        _ if places.len() > SHOWN => format!("lines {} and {} more", numbers.join(", "), places.len() - SHOWN),
        _ => format!("lines {}", numbers.join(", ")),
    }
}

fn fits_but_for_line_ends(lines: &[Line], orig: &[&[u8]], at: usize) -> bool {
    let there = &lines[at..];
    there.len() >= orig.len()
        && there
            .iter()
            .zip(orig)
            .all(|(line, orig)| line.text.trim_ascii_end() == orig.trim_ascii_end())
}

/// The most context lines GNU patch ignores by default.
const MOST_FUZZ: usize = 2;

/// Where the hunk would fit with outer context lines ignored. Only reported here: a changed context is where
/// backports go wrong silently, so the user has to ask for fuzz.
fn with_fuzz(lines: &[Line], hunk: &Hunk) -> Option<(usize, usize)> {
    let context = |line: &&super::HunkLine| line.side == Side::Both;
    let leading = hunk.lines.iter().take_while(context).count();
    let trailing = hunk.lines.iter().rev().take_while(context).count();
    let orig: Vec<&[u8]> = hunk.orig().collect();
    (1..=MOST_FUZZ).find_map(|fuzz| {
        let (front, back) = (leading.min(fuzz), trailing.min(fuzz));
        let core = orig
            .get(front..orig.len().checked_sub(back)?)
            .filter(|core| !core.is_empty())?;
        (0..lines.len()).find(|at| fits(lines, core, *at)).map(|at| (fuzz, at))
    })
}

#[cfg(test)]
mod tests {
    use super::super::apply::lines_of;
    use super::super::parse::parse;
    use super::*;

    fn why(before: &[u8], body: &str) -> String {
        let patch = format!("--- a/x.c\n+++ b/x.c\n{body}");
        let change = parse("fix.patch", patch.as_bytes()).unwrap().remove(0);
        explain(&lines_of(before), &change, &change.hunks[0], 0, &[]).to_string()
    }

    const BODY: &str = "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n";

    #[test]
    fn each_reason_is_told_apart() {
        insta::assert_snapshot!("misfit_nowhere", why(b"x\n", BODY));
        insta::assert_snapshot!("misfit_applied", why(b"0\na\nB\nc\n", BODY));
        insta::assert_snapshot!("misfit_line_ends", why(b"a\r\nb\r\nc\r\n", BODY));
        insta::assert_snapshot!("misfit_fuzz", why(b"q\nb\nc\n", BODY));
        insta::assert_snapshot!("misfit_no_context", why(b"q\n", "@@ -1,0 +2 @@\n+x\n"));
    }
}
