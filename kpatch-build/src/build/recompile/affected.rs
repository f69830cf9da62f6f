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
use crate::build::patchset::scope::Scope;
use crate::build::site::Site;
use crate::ui::count;

use super::left_out;

/// The units that a patch touches, sorted.
#[derive(Debug, Default)]
pub struct Affected {
    /// Why a unit may change: those to compile.
    suspects: BTreeMap<String, String>,
    /// Suspects whose own source mentions what a header changes.
    near: BTreeSet<String>,
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

/// So many files of each changed header show what it declares otherwise.
const SAMPLE: usize = 8;

/// So many of the reasons are told.
const REASONS: usize = 8;

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
            let (why, is_near) = match (index.files_of(tu), tu.recorded(), reaches.get(via)) {
                (Some(files), Ok(recorded), Some(reach)) => {
                    (reach.why(&files, &recorded.compiler), reach.is_near(&tu.source))
                }
                _ => (Some("not all that it reads is known".to_owned()), false),
            };
            (tu.object.clone(), why, is_near)
        });
        let judged: Vec<(String, Option<String>, bool)> = judged.collect();
        for (object, why, is_near) in judged {
            let Some(why) = why else {
                self.clear.insert(object);
                continue;
            };
            if is_near {
                self.near.insert(object.clone());
            }
            self.suspects.insert(object, why);
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

    /// A few of the units to compile for each changed header, as if nothing else could be affected: of those whose own source
    /// mentions the change, or else of all, evenly chosen.
    pub fn sample(&self, kbuild: &Kbuild, scope: &Scope) -> Affected {
        let is_c = |object: &String| kbuild.tus.get(object).is_some_and(|tu| tu.kind == kbuild.kind_of_c());
        let mut readers: BTreeMap<&String, Vec<&String>> = BTreeMap::new();
        for (object, via) in &scope.touched {
            if self.suspects.contains_key(object) && is_c(object) {
                via.iter()
                    .for_each(|path| readers.entry(path).or_default().push(object));
            }
        }
        let mut sample = Affected {
            clear: scope.touched.keys().cloned().collect(),
            ..Affected::default()
        };
        for all in readers.into_values() {
            let near: Vec<&String> = all
                .iter()
                .copied()
                .filter(|object| self.near.contains(*object))
                .collect();
            let of = if near.is_empty() { all } else { near };
            for object in of.iter().step_by(of.len().div_ceil(SAMPLE)) {
                sample.clear.remove(*object);
                sample
                    .suspects
                    .insert((*object).clone(), self.suspects[*object].clone());
            }
        }
        sample
    }

    /// Why units can be affected, with how many share the reason; the most frequent first, and not all.
    pub fn reasons(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for (object, why) in &self.suspects {
            counts.entry(why).or_insert((0, object)).0 += 1;
        }
        let mut counts: Vec<(&str, (usize, &str))> = counts.into_iter().collect();
        counts.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        let rest = counts.len().saturating_sub(REASONS);
        let shown = counts
            .into_iter()
            .take(REASONS)
            .map(|(why, (count, object))| match count {
                1 => format!("{object} can be affected: {why}"),
                more => format!(
                    "{object} and {} can be affected: {why}",
                    self::count(more - 1, "other", "others")
                ),
            });
        let rest = (rest > 0).then(|| format!("and for {}", count(rest, "other reason", "other reasons")));
        shown.chain(rest).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::Fake;

    const ALL: [&str; 5] = [
        "fs/ext4/inode.o",
        "fs/ext4/super.o",
        "fs/open.o",
        "init/main.o",
        "lib/string.o",
    ];

    fn names<'a>(objects: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        objects.into_iter().map(str::to_owned).collect()
    }

    /// Many units that read one header, of which these mention what it changes.
    fn affected(near: &[&str]) -> (Fake, Scope, Affected) {
        let mut fake = Fake::of(b"\x7fELF");
        let tu = fake.kbuild.tus["fs/open.o"].clone();
        let more = (0..40).map(|number| format!("drivers/d{number:02}.o"));
        for object in more.chain(ALL.map(str::to_owned)) {
            fake.kbuild.tus.insert(object, tu.clone());
        }
        let touched = fake.kbuild.tus.keys();
        let touched = touched.map(|object| (object.clone(), vec!["include/linux/a.h".to_owned()]));
        let scope = Scope {
            touched: touched.collect(),
            ..Scope::default()
        };
        let why = |object: &String| (object.clone(), "a.h mentions a".to_owned());
        let affected = Affected {
            suspects: scope.touched.keys().map(why).collect(),
            near: names(near.iter().copied()),
            ..Affected::default()
        };
        (fake, scope, affected)
    }

    #[test]
    fn a_sample_is_of_files_that_mention_the_change_themselves() {
        let (fake, scope, affected) = affected(&ALL);
        let sample = affected.sample(&fake.kbuild, &scope);
        assert_eq!(names(sample.suspects.keys().map(String::as_str)), names(ALL));
        assert_eq!(sample.to_compile() + sample.clear.len(), scope.touched.len());
    }

    #[test]
    fn a_sample_is_spread_over_all_files_if_none_mentions_the_change_itself() {
        let (fake, scope, affected) = affected(&[]);
        let sample = affected.sample(&fake.kbuild, &scope);
        assert!((5..=SAMPLE).contains(&sample.to_compile()), "{}", sample.to_compile());
        assert!(
            sample
                .suspects
                .keys()
                .any(|object| object < &"drivers/d10.o".to_owned())
        );
        assert!(sample.suspects.keys().any(|object| object > &"fs".to_owned()));
        assert!(sample.suspects.keys().all(|object| !sample.is_clear(object)));
    }

    #[test]
    fn reasons_are_told_with_how_many_files_share_them() {
        let why = |object: &str, why: &str| (object.to_owned(), why.to_owned());
        let suspects = [why("a.o", "once"), why("b.o", "often"), why("c.o", "often")];
        let affected = Affected {
            suspects: suspects.into(),
            ..Affected::default()
        };
        let told = ["b.o and 1 other can be affected: often", "a.o can be affected: once"];
        assert_eq!(affected.reasons(), told);
    }
}
