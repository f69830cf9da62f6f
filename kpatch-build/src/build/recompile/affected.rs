//! Which of the files that read a changed header can be affected by the change at all.
//!
//! A file is affected only if something in it depends on what changes. Names say so: a macro, function, type or variable
//! has an effect where it is mentioned and nowhere else, so a file that mentions none of the names whose meaning changes,
//! directly or through what else mentions them, compiles to what it was. [docs/decisions/wide-patches.md] says what this
//! rests on, and what is not decided by names.

mod change;
mod declare;
mod index;
mod paste;
mod pieces;
mod reach;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Result;
use rayon::prelude::*;

use self::change::{Change, change};
use self::index::Index;
use self::reach::{Places, Reach};
use crate::build::applied::Applied;
use crate::build::kbuild::{Kbuild, TreePath, Tu};
use crate::build::patchset::line::Line;
use crate::build::site::Site;
use crate::ui::count;

use super::left_out;

/// The units that a patch touches, sorted.
#[derive(Debug, Default)]
pub struct Affected {
    /// Why a unit may change: those to compile.
    suspects: BTreeMap<String, String>,
    /// Units that cannot change, but are compiled to see that the changed headers compile.
    witnesses: BTreeSet<String>,
    /// Units that cannot change.
    clear: BTreeSet<String>,
}

/// How much of the work was spared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Files that read what the patch changes.
    pub readers: usize,
    /// Those that can be affected.
    pub suspects: usize,
    /// Files that were compiled.
    pub compiled: usize,
    /// Those whose object changed.
    pub changed: usize,
}

impl Counts {
    /// Whether files were left out, or there are so many that it is worth a word.
    pub fn is_wide(&self) -> bool {
        self.readers > self.compiled || self.readers > MANY
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts {
            readers,
            suspects,
            compiled,
            changed,
        } = self;
        let readers = count(*readers, "file reads", "files read");
        write!(
            f,
            "{readers} what changes: {suspects} can be affected, {compiled} compiled, {changed} changed"
        )
    }
}

/// More files than a person expects.
const MANY: usize = 25;

impl Affected {
    /// Sorts what a patch touches. With `all`, everything counts as affected.
    pub fn of(site: &Site<'_>, applied: &Applied, all: bool) -> Result<Affected> {
        let kbuild = site.kbuild;
        let mut affected = Affected::default();
        let mut readers: Vec<(&Tu, &[String])> = Vec::new();
        for (object, via) in &applied.scope.touched {
            let tu = kbuild.tu(object)?;
            if left_out(kbuild, tu).is_some() {
                continue;
            }
            let why = if all {
                Some("all readers were asked for")
            } else if !via.iter().all(|path| is_header(path)) || is_own(kbuild, tu, via) {
                Some("it is changed itself")
            } else {
                None
            };
            match why {
                Some(why) => drop(affected.suspects.insert(object.clone(), why.to_owned())),
                None => readers.push((tu, via)),
            }
        }
        if !readers.is_empty() {
            affected.judge(site, applied, &readers)?;
        }
        Ok(affected)
    }

    fn judge(&mut self, site: &Site<'_>, applied: &Applied, readers: &[(&Tu, &[String])]) -> Result<()> {
        site.progress.message("looking for files that can be affected");
        let index = Index::of(site)?;
        let places = Places::of(&index);
        let headers: BTreeSet<&String> = readers.iter().flat_map(|(_, via)| via.iter()).collect();
        let changes: BTreeMap<&String, Change> = headers
            .into_iter()
            .map(|path| (path, of_file(site, &index, path, applied.files.get(path))))
            .collect();
        let ways: BTreeSet<&[String]> = readers.iter().map(|(_, via)| *via).collect();
        let together = |via: &&[String]| {
            let mut change = Change::default();
            via.iter()
                .filter_map(|path| changes.get(path))
                .for_each(|one| change.add(one));
            (via.to_vec(), change)
        };
        let ways: BTreeMap<Vec<String>, Change> = ways.iter().map(together).collect();
        let reaches: BTreeMap<&[String], Reach<'_>> = ways
            .par_iter()
            .map(|(via, change)| (via.as_slice(), Reach::of(&index, &places, change)))
            .collect();
        let judged = readers.par_iter().map(|(tu, via)| {
            let why = match (index.files_of(tu), tu.recorded(), reaches.get(via)) {
                (Some(files), Ok(recorded), Some(reach)) => reach.why(&files, &recorded.compiler),
                _ => Some("not all that it reads is known".to_owned()),
            };
            (tu.object.clone(), why)
        });
        let judged: Vec<(String, Option<String>)> = judged.collect();
        for (object, why) in judged {
            match why {
                Some(why) => drop(self.suspects.insert(object, why)),
                None => drop(self.clear.insert(object)),
            }
        }
        self.choose_witnesses(site.kbuild, readers);
        Ok(())
    }

    /// Of each changed header that no suspect reads one reader is compiled, the one that reads least.
    fn choose_witnesses(&mut self, kbuild: &Kbuild, readers: &[(&Tu, &[String])]) {
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        for (tu, via) in readers {
            if self.suspects.contains_key(&tu.object) && tu.kind == kbuild.kind_of_c() {
                seen.extend(*via);
            }
        }
        let all: BTreeSet<&String> = readers.iter().flat_map(|(_, via)| via.iter()).collect();
        for header in all {
            if seen.contains(header) {
                continue;
            }
            let fit = readers.iter().filter(|(tu, via)| {
                via.contains(header) && tu.kind == kbuild.kind_of_c() && self.clear.contains(&tu.object)
            });
            if let Some((tu, via)) = fit.min_by_key(|(tu, _)| (tu.deps().count(), &tu.object)) {
                self.witnesses.insert(tu.object.clone());
                seen.extend(*via);
            }
        }
        self.clear.retain(|object| !self.witnesses.contains(object));
    }

    /// Whether a unit cannot change, and need not be compiled.
    pub fn is_clear(&self, object: &str) -> bool {
        self.clear.contains(object)
    }

    /// How many files there are to compile.
    pub fn to_compile(&self) -> usize {
        self.suspects.len() + self.witnesses.len()
    }

    /// What there is to count, given how many files changed.
    pub fn counts(&self, changed: usize) -> Counts {
        Counts {
            readers: self.to_compile() + self.clear.len(),
            suspects: self.suspects.len(),
            compiled: self.to_compile(),
            changed,
        }
    }

    /// Units that can be affected, and why.
    pub fn suspects(&self) -> impl Iterator<Item = (&str, &str)> {
        self.suspects
            .iter()
            .map(|(object, why)| (object.as_str(), why.as_str()))
    }
}

fn is_header(path: &str) -> bool {
    path.ends_with(".h")
}

fn is_own(kbuild: &Kbuild, tu: &Tu, via: &[String]) -> bool {
    matches!(kbuild.trees.place(&tu.source), TreePath::Source(source) if via.contains(&source))
}

/// What the change of one header means.
fn of_file(site: &Site<'_>, index: &Index, path: &str, patched: Option<&Option<Vec<Line>>>) -> Change {
    let orig = fs::read(site.kbuild.trees.source.join(path));
    match (orig, patched) {
        (Ok(orig), Some(Some(lines))) => change(index, &orig, lines),
        _ => Change::of_all("it is made or removed"),
    }
}
