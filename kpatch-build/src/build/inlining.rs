//! Tells how a change got into a function that the patch does not mention.
//!
//! A refusal for a function that the author never touched is a riddle. The compiler knows the answer: asked again, it
//! says what it inlined into what. Only who wants to know pays for that, and first for the files that are likely to have the
//! answer: that of the function itself, then those that the patch edits. If the answer has no way from an edited function to
//! the refused one, nothing is claimed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use kpatch_core::{Refusal, Subject, names};
use rayon::prelude::*;

use crate::build::patchset::apply::Patched;
use crate::build::patchset::{functions, origins};
use crate::build::recompile::Rerun;
use crate::sh;

/// What is known about the way of a change.
#[derive(Debug, Default)]
pub struct Trail {
    /// Functions whose text the patch changes.
    pub edited: BTreeSet<String>,
    /// The functions in whose bodies all changed lines are, by file and name; `None` if lines changed elsewhere, too.
    pub in_bodies: Option<BTreeSet<(String, String)>>,
    runs: Vec<Run>,
}

/// How a patched object was made.
#[derive(Debug)]
struct Run {
    rerun: Rerun,
    /// Its file is one that the patch edits.
    is_edited: bool,
    /// What the compiler says, once it was asked.
    said: OnceLock<Edges>,
}

/// Callees by the function they were inlined into.
type Edges = BTreeMap<String, BTreeSet<String>>;

impl Trail {
    /// That of patched files, whose originals are in this tree, and whose objects were made so.
    pub fn of(files: &Patched, source: &Path, runs: Vec<Rerun>) -> Self {
        let run = |rerun: Rerun| Run {
            is_edited: files.contains_key(&origins::source_of(&rerun.unit)),
            rerun,
            said: OnceLock::new(),
        };
        Trail {
            edited: functions::edited(files),
            in_bodies: functions::in_bodies_of(files, |path| fs::read(source.join(path)).ok()),
            runs: runs.into_iter().map(run).collect(),
        }
    }

    /// Adds the way of the change to refusals of functions that the patch does not edit.
    pub fn explain(&self, refusals: Vec<Refusal>) -> Vec<Refusal> {
        let way = |refusal: Refusal| {
            let symbol = refusal.at.symbol.as_deref().map(plain);
            let riddle = symbol.filter(|symbol| !self.edited.is_empty() && !self.edited.contains(*symbol));
            let unit = refusal.at.file.as_deref();
            let way = riddle.and_then(|symbol| self.first(unit, |inlined| inlined.way(symbol, &self.edited)));
            (way, refusal)
        };
        together(refusals.into_par_iter().map(way).collect())
    }

    /// Those of the edited functions whose code is in a function of this unit, through whatever others.
    pub fn edited_in(&self, unit: Option<&str>, function: &str, edited: &BTreeSet<String>) -> BTreeSet<String> {
        let found = self.first(unit, |inlined| {
            Some(inlined.edited_in(function, edited)).filter(|found| !found.is_empty())
        });
        found.unwrap_or_default()
    }

    /// What is found in what the compiler says of a unit, or else of all files that the patch edits, too, or else of all that
    /// changed, if these are not too many. Into a unit the back end puts others' functions that have theirs inlined already.
    fn first<T>(&self, unit: Option<&str>, find: impl Fn(&Inlined<'_>) -> Option<T>) -> Option<T> {
        let own = |run: &&Run| unit.is_some_and(|unit| run.rerun.unit == unit);
        let near = |run: &&Run| run.is_edited || own(run);
        let few = |_: &&Run| self.runs.len() <= MANY_RUNS;
        let rounds: [&dyn Fn(&&Run) -> bool; 3] = [&own, &near, &few];
        rounds.into_iter().find_map(|round| {
            let runs: Vec<&Run> = self.runs.iter().filter(round).collect();
            find(&Inlined(runs.into_par_iter().map(Run::edges).collect()))
        })
    }
}

/// Of more changed files than this nobody is asked but those that a refusal or the patch is about: each is compiled again.
const MANY_RUNS: usize = 64;

impl Run {
    /// A compiler that cannot be asked knows nothing: the refusal stands without it.
    fn edges(&self) -> &Edges {
        self.said
            .get_or_init(|| edges(&remarks(&self.rerun).unwrap_or_default()))
    }
}

/// What the remarks of a compiler say.
fn edges(remarks: &str) -> Edges {
    let mut edges = Edges::new();
    for (callee, caller) in remarks.lines().filter_map(inlined) {
        edges.entry(caller.to_owned()).or_default().insert(callee.to_owned());
    }
    edges
}

/// What was inlined into what.
struct Inlined<'a>(Vec<&'a Edges>);

impl Inlined<'_> {
    fn into(&self, function: &str) -> impl Iterator<Item = &String> {
        self.0.iter().filter_map(move |edges| edges.get(function)).flatten()
    }

    fn edited_in(&self, function: &str, edited: &BTreeSet<String>) -> BTreeSet<String> {
        let mut seen = BTreeSet::from([function.to_owned()]);
        let mut open = vec![function.to_owned()];
        while let Some(one) = open.pop() {
            for callee in self.into(&one) {
                if seen.insert(callee.clone()) {
                    open.push(callee.clone());
                }
            }
        }
        seen.remove(function);
        seen.intersection(edited).cloned().collect()
    }

    /// The shortest way from an edited function into this one, the edited one first.
    fn way(&self, function: &str, edited: &BTreeSet<String>) -> Option<Vec<String>> {
        let mut queue = VecDeque::from([vec![function.to_owned()]]);
        let mut seen = BTreeSet::from([function.to_owned()]);
        while let Some(way) = queue.pop_front() {
            let last = way.last().expect("a way has its start");
            if way.len() > 1 && edited.contains(last) {
                return Some(way.into_iter().rev().collect());
            }
            for callee in self.into(last) {
                if seen.insert(callee.clone()) {
                    queue.push_back(way.iter().cloned().chain([callee.clone()]).collect());
                }
            }
        }
        None
    }
}

fn remarks(run: &Rerun) -> Option<String> {
    let (program, words) = run.words.split_first()?;
    let mut command = sh::command(program);
    command.args(words).arg("-Rpass=inline").current_dir(&run.folder);
    let (status, _, messages) = sh::captured(&mut command).ok()?;
    status.success().then_some(messages)
}

/// `…: remark: 'callee' inlined into 'caller' with …`, the form of LLVM since version 13.
fn inlined(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once("remark: '")?;
    let (callee, rest) = rest.split_once("' inlined into '")?;
    let (caller, _) = rest.split_once('\'')?;
    Some((plain(callee), plain(caller)))
}

fn plain(name: &str) -> &str {
    names::unpromoted(name)
}

/// From how many functions on one refusal speaks for all that an edited function is inlined into.
const MANY: usize = 3;

/// Refusals with the ways of the change. Those of one file that one edited function causes become one.
fn together(found: Vec<(Option<Vec<String>>, Refusal)>) -> Vec<Refusal> {
    let key = |way: &Option<Vec<String>>, refusal: &Refusal| {
        let from = way.as_ref()?.first()?.clone();
        Some((refusal.code, refusal.at.file.clone(), from))
    };
    let mut groups: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (way, refusal) in &found {
        if let (Some(key), Some(symbol)) = (key(way, refusal), &refusal.at.symbol) {
            groups.entry(key).or_default().push(plain(symbol).to_owned());
        }
    }
    let mut said = BTreeSet::new();
    let mut all = Vec::new();
    for (way, refusal) in found {
        let key = key(&way, &refusal);
        let group = key
            .as_ref()
            .and_then(|key| groups.get(key))
            .filter(|group| group.len() >= MANY);
        match (way, key, group) {
            (Some(way), Some(key), Some(group)) => {
                if said.insert(key) {
                    all.push(for_all(&way[0], group, refusal));
                }
            }
            (Some(way), ..) => all.push(Refusal {
                why: format!("{}; the patch reaches it since {}", refusal.why, in_words(&way)),
                ..refusal
            }),
            (None, ..) => all.push(refusal),
        }
    }
    all
}

/// One refusal for the functions that `edited` is inlined into; the first of them says why.
fn for_all(edited: &str, functions: &[String], first: Refusal) -> Refusal {
    let at = Subject {
        symbol: Some(edited.to_owned()),
        section: None,
        offset: None,
        ..first.at
    };
    let list = functions.join(", ");
    let count = functions.len();
    Refusal {
        why: format!(
            "it is inlined into {count} functions that cannot be patched: {list} (of the first: {})",
            first.why
        ),
        at,
        ..first
    }
}

fn in_words(way: &[String]) -> String {
    let steps: Vec<String> = way
        .windows(2)
        .map(|pair| format!("`{}` is inlined into `{}`", pair[0], pair[1]))
        .collect();
    steps.join(" and ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use kpatch_core::codes;

    use super::*;

    fn way(function: &str, edges: &Edges, edited: &[&str]) -> Option<Vec<String>> {
        Inlined(vec![edges]).way(function, &edited.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn the_way_leads_from_the_edited_function_to_the_refused_one() {
        let edges = edges(
            "a.c:1:2: remark: 'helper.llvm.77' inlined into 'middle' with (cost=5) at callsite middle:1:2; [-Rpass=inline]\n\
             <unknown>:0:0: remark: 'middle' inlined into 'setup' with (cost=always)\n noise\n",
        );
        let found = way("setup", &edges, &["helper"]).unwrap();
        assert_eq!(
            in_words(&found),
            "`helper` is inlined into `middle` and `middle` is inlined into `setup`"
        );
        assert_eq!(way("helper", &edges, &["helper"]), None);
        assert_eq!(way("other", &edges, &["helper"]), None);
    }

    #[test]
    fn all_edited_functions_in_a_function_are_found() {
        let edges = edges(
            "x: remark: 'a' inlined into 'm' with\nx: remark: 'm' inlined into 'f' with\nx: remark: 'b' inlined into 'f' with\n",
        );
        let edited = BTreeSet::from(["a", "b", "c", "f"].map(str::to_owned));
        assert_eq!(
            Inlined(vec![&edges]).edited_in("f", &edited),
            BTreeSet::from(["a", "b"].map(str::to_owned))
        );
    }

    #[test]
    fn the_file_itself_is_asked_first_and_then_those_that_the_patch_edits() {
        let run = |unit: &str, is_edited: bool, text: Option<&str>| Run {
            rerun: Rerun {
                unit: unit.to_owned(),
                folder: PathBuf::new(),
                words: Vec::new(),
            },
            is_edited,
            said: text.map(edges).map_or_else(OnceLock::new, OnceLock::from),
        };
        let trail = Trail {
            runs: vec![
                run("a.o", false, Some("x: remark: 'helper' inlined into 'f' with\n")),
                run(
                    "b.o",
                    true,
                    Some("x: remark: 'other' inlined into 'f' with\nx: remark: 'other' inlined into 'g' with\n"),
                ),
                run("c.o", false, None),
            ],
            ..Trail::default()
        };
        let edited = BTreeSet::from(["helper", "other"].map(str::to_owned));
        let of = |unit: &str, function: &str| {
            trail
                .edited_in(Some(unit), function, &edited)
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(of("a.o", "f"), ["helper"]);
        assert_eq!(of("a.o", "g"), ["other"]);
        assert!(trail.runs[2].said.get().is_none(), "nobody had to ask for it");
        assert_eq!(of("b.o", "h"), [""; 0]);
        assert!(trail.runs[2].said.get().is_some());
    }

    #[test]
    fn one_refusal_speaks_for_the_many_functions_that_one_helper_is_in() {
        let refusal = |symbol: &str, way: &[&str]| {
            let at = Subject::file("lib/a.o").symbol(symbol);
            let way = (!way.is_empty()).then(|| way.iter().map(|name| (*name).to_owned()).collect());
            (way, Refusal::new(codes::select::NO_FTRACE_SITE, at, "no site"))
        };
        let few = together(vec![refusal("f", &["h", "f"]), refusal("g", &["h", "g"])]);
        assert_eq!(few.len(), 2);
        assert!(few[0].why.ends_with("`h` is inlined into `f`"), "{}", few[0].why);
        let many = together(vec![
            refusal("f", &["h", "f"]),
            refusal("g.llvm.7", &["h", "g"]),
            refusal("x", &[]),
            refusal("i", &["h", "f", "i"]),
        ]);
        assert_eq!(many.len(), 2);
        assert_eq!(many[0].at.symbol.as_deref(), Some("h"));
        assert!(many[0].why.contains("into 3 functions"), "{}", many[0].why);
        assert!(many[0].why.contains(": f, g, i ("), "{}", many[0].why);
        assert_eq!(many[1].at.symbol.as_deref(), Some("x"));
    }

    #[test]
    fn circles_end() {
        let edges = edges("x: remark: 'a' inlined into 'b' with\nx: remark: 'b' inlined into 'a' with\n");
        assert_eq!(way("a", &edges, &["z"]), None);
    }
}
