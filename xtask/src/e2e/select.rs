//! Which trials a run has: cases and places combined, filtered, and cut into shards.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::{E2eRunArgs, Shard};
use crate::corpus::{self, Case};
use crate::project;
use kpatch_build::outcome::Ending;
use kpatch_build::supply::place::Place;

/// One case at one place.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Where.
    pub axis: Place,
    /// What.
    pub case: Case,
}

impl Trial {
    /// e.g. `6.12/x86_64/clang-19/small/string-literal`
    pub fn name(&self) -> String {
        format!("{}/{}", self.axis, self.case.name)
    }
}

/// The folder of the corpus.
pub fn corpus_folder() -> PathBuf {
    project::root().join("testdata/corpus")
}

/// The trials that the command line asks for, in the order of the places, then of the cases.
pub fn trials(args: &E2eRunArgs, axes: &[Place]) -> Result<Vec<Trial>> {
    let cases = corpus::load_all(&corpus_folder())?;
    let named = |case: &Case| {
        let all = args.cases.is_empty() && args.globs.is_empty();
        all || args.cases.iter().any(|part| case.name.contains(part))
            || args.globs.iter().any(|glob| matches(glob, &case.name))
    };
    let mut trials = Vec::new();
    for axis in axes {
        let fits = |case: &&Case| case.kernels.contains(&axis.series) && case.arches.contains(&axis.arch);
        let chosen = cases
            .iter()
            .filter(fits)
            .filter(|case| named(case) && (case.quick || !args.quick));
        trials.extend(chosen.map(|case| Trial {
            axis: axis.clone(),
            case: case.at(axis),
        }));
    }
    if trials.is_empty() {
        return Err(Ending::usage(
            "no case of the corpus fits these options, so nothing would be tested",
        ));
    }
    Ok(args.shard.map_or(trials.clone(), |shard| of_shard(trials, shard)))
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
