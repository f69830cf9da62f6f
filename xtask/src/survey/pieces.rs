//! Cuts a difference into patches: one for each changed file that the kernel was made of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::difference::{Change, Changed};
use kpatch_build::build::kbuild::{Kbuild, Kind, TreePath};
use kpatch_build::build::patchset::scope::reached;
use kpatch_build::sh;

/// A changed file that the kernel was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Path relative to the source tree.
    pub file: String,
    /// The objects of the kernel that were made from it.
    pub units: BTreeSet<String>,
}

/// A difference, as one kernel build sees it.
#[derive(Debug)]
pub struct Pieces {
    /// The older source, that of the kernel.
    pub old: PathBuf,
    /// The newer source.
    pub new: PathBuf,
    /// All changed files.
    pub changed: BTreeMap<String, Change>,
    /// Those that the kernel was made of, by path.
    pub pieces: Vec<Piece>,
    /// The changed source of each object, for those that have one.
    pub source_of: BTreeMap<String, String>,
}

impl Pieces {
    pub fn find(old: &Path, new: &Path, changed: Vec<Changed>, kbuild: &Kbuild) -> Self {
        let changed: BTreeMap<String, Change> = changed.into_iter().map(|one| (one.path, one.change)).collect();
        let there = changed.iter().filter(|(_, change)| **change != Change::New);
        let there: BTreeSet<String> = there.map(|(path, _)| path.clone()).collect();
        let (mut units, mut source_of) = (BTreeMap::<String, BTreeSet<String>>::new(), BTreeMap::new());
        for (object, files) in reached(kbuild, &there) {
            let Some(tu) = kbuild.tus.get(&object) else { continue };
            if matches!(tu.kind, Kind::Host | Kind::Generated) {
                continue;
            }
            for file in files {
                if kbuild.trees.place(&tu.source) == TreePath::Source(file.clone()) {
                    source_of.insert(object.clone(), file.clone());
                }
                units.entry(file).or_default().insert(object.clone());
            }
        }
        let pieces = units.into_iter().map(|(file, units)| Piece { file, units });
        Pieces {
            old: old.to_owned(),
            new: new.to_owned(),
            pieces: pieces.collect(),
            changed,
            source_of,
        }
    }

    /// The change of some files as one patch.
    pub fn patch(&self, files: &BTreeSet<String>) -> Result<String> {
        let mut text = String::new();
        for file in files {
            text.push_str(&self.patch_of(file)?);
        }
        Ok(text)
    }

    fn patch_of(&self, file: &str) -> Result<String> {
        let change = self
            .changed
            .get(file)
            .with_context(|| format!("{file} does not differ"))?;
        let label = |side: &str, missing: Change| {
            if *change == missing {
                "/dev/null".to_owned()
            } else {
                format!("{side}/{file}")
            }
        };
        let mut command = sh::command("diff");
        // Without the text of both sides in full, the lines of the functions are enough to find the place.
        command.args([
            "-u",
            "-N",
            "-p",
            "--label",
            &label("a", Change::New),
            "--label",
            &label("b", Change::Deleted),
        ]);
        command.arg(self.old.join(file)).arg(self.new.join(file));
        let (status, out, messages) = sh::captured(&mut command)?;
        // 1 says that there are differences, which is what was promised.
        anyhow::ensure!(
            status.code() == Some(1),
            "diff of {file} ended with {status}: {messages}"
        );
        Ok(format!("diff --git a/{file} b/{file}\n{}{out}", mode(*change)))
    }
}

fn mode(change: Change) -> &'static str {
    match change {
        Change::Modified => "",
        Change::New => "new file mode 100644\n",
        Change::Deleted => "deleted file mode 100644\n",
    }
}

/// At most `limit` of them, evenly over the tree, so that a part says something about the whole. The same pieces every
/// time, so that a later run with a larger part can use what this one finds.
pub fn sample(pieces: &[Piece], limit: Option<usize>) -> Vec<&Piece> {
    let count = pieces.len();
    let limit = limit.unwrap_or(count).min(count);
    (0..limit).map(|index| &pieces[index * count / limit]).collect()
}

/// The place of a piece in the order of trying: by size, and those of a size mixed over the tree, the same way each time.
pub fn turn(piece: &Piece) -> (u32, u64, &str) {
    // FNV-1a: any function will do that neighbours in the tree do not share.
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = piece.file.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    // Up to seven objects are one size: what is the same for every piece takes longer.
    let size = (piece.units.len() / 8 + 1).ilog2();
    (size, mixed, &piece.file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_and_never_repeats() {
        let piece = |index: usize| Piece {
            file: format!("{index:02}"),
            units: BTreeSet::new(),
        };
        let pieces: Vec<Piece> = (0..10).map(piece).collect();
        let names = |limit| -> Vec<String> { sample(&pieces, limit).iter().map(|piece| piece.file.clone()).collect() };
        assert_eq!(names(Some(3)), ["00", "03", "06"]);
        assert_eq!(names(Some(99)).len(), 10);
        assert_eq!(names(None).len(), 10);
        assert!(names(Some(0)).is_empty());
    }

    #[test]
    fn quick_pieces_come_first_and_neighbours_are_parted() {
        let piece = |file: &str, units: usize| Piece {
            file: file.to_owned(),
            units: (0..units).map(|index| index.to_string()).collect(),
        };
        let mut pieces: Vec<Piece> = (0..20).map(|index| piece(&format!("fs/{index:02}.c"), 1)).collect();
        let in_order = pieces.clone();
        pieces.push(piece("a.h", 500));
        pieces.sort_by(|a, b| turn(a).cmp(&turn(b)));
        assert_eq!(pieces.pop().map(|piece| piece.file).as_deref(), Some("a.h"));
        assert_ne!(pieces, in_order);
    }

    #[test]
    fn patches_have_both_names_or_none() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(old.path().join("a.c"), "1\n").unwrap();
        std::fs::write(new.path().join("a.c"), "2\n").unwrap();
        std::fs::write(new.path().join("n.h"), "3\n").unwrap();
        let changed = [("a.c", Change::Modified), ("n.h", Change::New)];
        let pieces = Pieces {
            old: old.path().to_owned(),
            new: new.path().to_owned(),
            changed: changed.map(|(path, change)| (path.to_owned(), change)).into(),
            pieces: Vec::new(),
            source_of: BTreeMap::new(),
        };
        let text = pieces.patch(&["a.c".to_owned(), "n.h".to_owned()].into()).unwrap();
        for line in ["--- a/a.c", "+++ b/a.c", "--- /dev/null", "+++ b/n.h", "+3"] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
        assert!(pieces.patch(&["b.c".to_owned()].into()).is_err());
    }
}
