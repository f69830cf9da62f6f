//! Which trials a run has: cases and places combined, filtered, and cut into shards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;

use crate::corpus::{self, Case};
use crate::project;
use kpatch_build::outcome::Ending;
use kpatch_build::supply::place::Place;

/// One case at one place.
#[derive(Debug, Clone)]
pub struct Trial {
    pub axis: Place,
    pub case: Case,
}

impl Trial {
    /// e.g. `6.12/x86_64/clang-19/small/string-literal`
    pub fn name(&self) -> String {
        format!("{}/{}", self.axis, self.case.name)
    }
}

/// Which cases are wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub parts: Vec<String>,
    /// Patterns of names; without parts and patterns all cases of the corpus are wanted, unless folders are named.
    pub globs: Vec<String>,
    /// Folders of single cases, wherever they are.
    pub folders: Vec<PathBuf>,
    /// Only the cases marked quick. A folder that is named is meant whatever it says.
    pub quick: bool,
    /// Only a part of the trials.
    pub shard: Option<Shard>,
}

impl Wanted {
    /// Takes what somebody typed for a pattern of names, or for the folder of a case: names have no `/`.
    pub fn add(&mut self, typed: &str) {
        if typed.contains('/') || Path::new(typed).join(corpus::DESCRIPTION).is_file() {
            self.folders.push(typed.into());
        } else {
            self.globs.push(typed.to_owned());
        }
    }

    fn cases(&self) -> Result<Vec<Case>> {
        let mut cases = self
            .folders
            .iter()
            .map(|folder| corpus::load_one(folder))
            .collect::<Result<Vec<_>>>()?;
        let by_name = !self.parts.is_empty() || !self.globs.is_empty();
        if by_name || self.folders.is_empty() {
            let named = |case: &Case| {
                !by_name
                    || self.parts.iter().any(|part| case.name.contains(part))
                    || self.globs.iter().any(|glob| matches(glob, &case.name))
            };
            let all = corpus::load_all(&corpus_folder())?;
            cases.extend(
                all.into_iter()
                    .filter(|case| named(case) && (case.quick || !self.quick)),
            );
        }
        let mut names = BTreeSet::new();
        match cases.iter().find(|case| !names.insert(&case.name)) {
            Some(case) => Err(Ending::usage(format!("two of the cases are called {}", case.name))),
            None => Ok(cases),
        }
    }
}

/// A part of the trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 on.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(index, count)| {
            let (index, count) = (index.parse().ok()?, count.parse().ok()?);
            (1 <= index && index <= count).then_some(Shard { index, count })
        });
        parts.ok_or_else(|| format!("`{text}` is not a part such as 2/3"))
    }
}

/// The folder of the corpus.
pub fn corpus_folder() -> PathBuf {
    project::root().join("testdata/corpus")
}

/// Whether a case is one of the corpus, whose snapshots are kept.
pub fn is_of_corpus(case: &Case) -> bool {
    let corpus = corpus_folder().canonicalize();
    let parent = case.dir.parent().map(Path::canonicalize).transpose();
    corpus.ok() == parent.ok().flatten()
}

/// The trials that are wanted, in the order of the places, then of the cases.
pub fn trials(wanted: &Wanted, axes: &[Place]) -> Result<Vec<Trial>> {
    let cases = wanted.cases()?;
    let mut trials = Vec::new();
    for axis in axes {
        let chosen = cases.iter().filter(|case| case.is_for(axis));
        trials.extend(chosen.map(|case| Trial {
            axis: axis.clone(),
            case: case.at(axis),
        }));
    }
    if trials.is_empty() {
        return Err(Ending::usage("no case fits these options, so nothing would be tested"));
    }
    Ok(wanted.shard.map_or(trials.clone(), |shard| of_shard(trials, shard)))
}

/// Every n-th trial, so that expensive neighbours are spread.
fn of_shard(trials: Vec<Trial>, shard: Shard) -> Vec<Trial> {
    let own = |index: &usize| index % shard.count == shard.index - 1;
    trials
        .into_iter()
        .enumerate()
        .filter(|(index, _)| own(index))
        .map(|(_, trial)| trial)
        .collect()
}

/// Whether a name matches a pattern in which `*` stands for any characters and `?` for one.
pub fn matches(glob: &str, name: &str) -> bool {
    let mut rest = glob.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.into_iter().any(|at| matches(rest.as_str(), &name[at..]))
        }
        Some(wanted) => {
            let mut name = name.chars();
            let got = name.next();
            got.is_some_and(|got| wanted == '?' || wanted == got) && matches(rest.as_str(), name.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored() {
        for (glob, name, expected) in [
            ("real-*", "real-prctl-auxv", true),
            ("real-*", "unreal-x", false),
            ("*-auxv", "real-prctl-auxv", true),
            ("new-dat?", "new-data", true),
            ("new-dat?", "new-dat", false),
            ("new", "new-data", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(glob, name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn shards_count_from_one() {
        assert_eq!("2/3".parse(), Ok(Shard { index: 2, count: 3 }));
        for bad in ["0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_is_told_from_a_pattern() {
        let mut wanted = Wanted::default();
        for typed in ["real-*", "./saved", "saved/", "/tmp/saved"] {
            wanted.add(typed);
        }
        assert_eq!((wanted.globs.len(), wanted.folders.len()), (1, 3));
    }

    #[test]
    fn a_folder_that_is_named_is_all_there_is() {
        let one = corpus_folder().join("string-literal");
        let mut wanted = Wanted {
            quick: true,
            ..Wanted::default()
        };
        wanted.add(&one.display().to_string());
        let cases = wanted.cases().expect("it is there");
        assert_eq!(cases.len(), 1);
        assert!(is_of_corpus(&cases[0]));
        wanted.globs.push("string-lit*".into());
        wanted.quick = false;
        assert!(wanted.cases().unwrap_err().to_string().contains("two of the cases"));
    }

    #[test]
    fn shards_cover_everything_once() {
        let axis = kpatch_build::supply::place::Place {
            series: "6.12".into(),
            version: "6.12.107".into(),
            arch: kpatch_build::kernel::Arch::X86_64,
            toolchain: "clang-19".into(),
            config: "small".into(),
        };
        let cases = corpus::load_all(&corpus_folder()).expect("the corpus is well formed");
        let all: Vec<Trial> = cases
            .into_iter()
            .map(|case| Trial {
                axis: axis.clone(),
                case,
            })
            .collect();
        let mut seen: Vec<String> = (1..=3)
            .flat_map(|index| of_shard(all.clone(), Shard { index, count: 3 }))
            .map(|trial| trial.name())
            .collect();
        seen.sort();
        let mut expected: Vec<String> = all.iter().map(Trial::name).collect();
        expected.sort();
        assert_eq!(seen, expected);
    }
}
