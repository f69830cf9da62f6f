//! Judges readers of changed headers by the names in all that they read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rayon::prelude::*;

use super::change::{Change, change};
use super::index::{File, Index};
use super::reach::{Places, Reach};
use crate::build::patchset::line::Line;
use crate::ui::count;

/// So many of the reasons are told.
const REASONS: usize = 8;

/// A file that reads changed headers, or may.
#[derive(Debug)]
pub struct Reader {
    /// The source, as the index has it.
    pub source: String,
    /// All files that it is made from, or may be; nothing if not all are known.
    pub files: Option<Vec<File>>,
    /// The words of its command, of which `-D` is looked at. Words that it does not have do no harm.
    pub words: Vec<String>,
    /// The changed headers.
    pub via: Vec<String>,
}

/// What was found about a reader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it can be affected; nothing if it cannot.
    pub why: Option<String>,
    /// Whether its own source mentions what changes.
    pub is_near: bool,
}

/// The verdicts on readers, in their order. `changes` has what each changed header gives another meaning.
pub fn judge(index: &Index, changes: &BTreeMap<String, Change>, readers: &[Reader]) -> Vec<Verdict> {
    let places = Places::of(index);
    let together = |via: &[String]| {
        let mut sum = Change::default();
        via.iter()
            .filter_map(|path| changes.get(path))
            .for_each(|one| sum.add(one));
        sum
    };
    let ways: BTreeSet<&[String]> = readers.iter().map(|reader| reader.via.as_slice()).collect();
    let ways: BTreeMap<&[String], Change> = ways.into_iter().map(|via| (via, together(via))).collect();
    let reaches: BTreeMap<&[String], Reach<'_>> = ways
        .par_iter()
        .map(|(via, change)| (*via, Reach::of(index, &places, change)))
        .collect();
    let verdict = |reader: &Reader| match (&reader.files, reaches.get(reader.via.as_slice())) {
        (Some(files), Some(reach)) => Verdict {
            why: reach.why(files, &reader.words),
            is_near: reach.is_near(&reader.source),
        },
        _ => Verdict {
            why: Some("not all that it reads is known".to_owned()),
            is_near: false,
        },
    };
    readers.par_iter().map(verdict).collect()
}

/// What the change of one header of the source tree means.
pub fn of_file(index: &Index, source: &Path, path: &str, patched: Option<&Option<Vec<Line>>>) -> Change {
    let orig = fs::read(source.join(path));
    match (orig, patched) {
        (Ok(orig), Some(Some(lines))) => change(index, &orig, lines),
        _ => Change::of_all("it is made or removed"),
    }
}

/// Why objects can be affected, with how many share the reason; the most frequent first, and not all.
pub fn reasons<'a>(suspects: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut counts: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (object, why) in suspects {
        counts.entry(why).or_insert((0, object)).0 += 1;
    }
    let mut counts: Vec<(&str, (usize, &str))> = counts.into_iter().collect();
    counts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let rest = counts.len().saturating_sub(REASONS);
    let shown = counts
        .into_iter()
        .take(REASONS)
        .map(|(why, (number, object))| match number {
            1 => format!("{object} can be affected: {why}"),
            more => format!(
                "{object} and {} can be affected: {why}",
                count(more - 1, "other", "others")
            ),
        });
    let rest = (rest > 0).then(|| format!("and for {}", count(rest, "other reason", "other reasons")));
    shown.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_with_how_many_files_share_them() {
        let told = reasons([("a.o", "once"), ("b.o", "often"), ("c.o", "often")]);
        let expected = ["b.o and 1 other can be affected: often", "a.o can be affected: once"];
        assert_eq!(told, expected);
    }
}
