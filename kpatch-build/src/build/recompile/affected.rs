//! Which of the files that read a changed header can be affected by the change at all.
//!
//! A file is affected only if something in it depends on what changes. Names say so: a macro, function, type or variable
//! has an effect where it is mentioned and nowhere else, so a file that mentions none of the names whose meaning changes,
//! directly or through what else mentions them, compiles to what it was. [docs/decisions/wide-patches.md] says what this
//! rests on, and what is not decided by names.

mod change;
mod declare;
pub mod index;
pub mod judge;
mod paste;
mod pieces;
mod reach;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use rayon::prelude::*;

use self::index::Index;
use self::judge::{Reader, of_file};
use crate::build::applied::Applied;
use crate::build::kbuild::{Kbuild, TreePath, Tu};
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

/// So many files show what changed headers declare otherwise, or one for each header if there are more headers.
const SAMPLE: usize = 32;

/// No more than so many files for one header.
const SAMPLE_OF_ONE: usize = 8;

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
        let seen = |(tu, via): &(&'_ Tu, &'_ [String])| {
            let recorded = tu.recorded().ok();
            Reader {
                source: tu.source.clone(),
                files: recorded.as_ref().and(index.files_of(tu)),
                words: recorded.map(|recorded| recorded.compiler).unwrap_or_default(),
                via: via.to_vec(),
            }
        };
        let seen: Vec<Reader> = readers.par_iter().map(seen).collect();
        let headers: BTreeSet<&String> = readers.iter().flat_map(|(_, via)| via.iter()).collect();
        let change = |path: &String| of_file(&index, &site.kbuild.trees.source, path, applied.files.get(path));
        let changes = headers.into_iter().map(|path| (path.clone(), change(path))).collect();
        let judged = judge::judge(&index, &changes, &seen);
        for ((tu, _), verdict) in readers.iter().zip(judged) {
            let object = tu.object.clone();
            let Some(why) = verdict.why else {
                self.clear.insert(object);
                continue;
            };
            if verdict.is_near {
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
        let of_each = (SAMPLE / readers.len().max(1)).clamp(1, SAMPLE_OF_ONE);
        for all in readers.into_values() {
            let near: Vec<&String> = all
                .iter()
                .copied()
                .filter(|object| self.near.contains(*object))
                .collect();
            let of = if near.is_empty() { all } else { near };
            for object in of.iter().step_by(of.len().div_ceil(of_each)) {
                sample.clear.remove(*object);
                sample
                    .suspects
                    .insert((*object).clone(), self.suspects[*object].clone());
            }
        }
        sample
    }

    /// Why units can be affected; see [`judge::reasons`].
    pub fn reasons(&self) -> Vec<String> {
        judge::reasons(
            self.suspects
                .iter()
                .map(|(object, why)| (object.as_str(), why.as_str())),
        )
    }
}

fn is_header(path: &str) -> bool {
    path.ends_with(".h")
}

fn is_own(kbuild: &Kbuild, tu: &Tu, via: &[String]) -> bool {
    matches!(kbuild.trees.place(&tu.source), TreePath::Source(source) if via.contains(&source))
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
        assert!(
            (5..=SAMPLE_OF_ONE).contains(&sample.to_compile()),
            "{}",
            sample.to_compile()
        );
        assert!(
            sample
                .suspects
                .keys()
                .any(|object| object < &"drivers/d10.o".to_owned())
        );
        assert!(sample.suspects.keys().any(|object| object > &"fs".to_owned()));
        assert!(sample.suspects.keys().all(|object| !sample.is_clear(object)));
    }
}
