//! Tells how a change got into a function that the patch does not mention.
//!
//! A refusal for a function that the author never touched is a riddle. The compiler knows the answer: asked again, it
//! says what it inlined into what. Only refusals pay for that, and if the answer has no way from an edited function to
//! the refused one, nothing is claimed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use kpatch_core::{Refusal, Subject, names};
use rayon::prelude::*;

use crate::build::patchset::apply::Patched;
use crate::build::patchset::functions;
use crate::build::recompile::Rerun;
use crate::sh;

/// What is known about the way of a change.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Functions whose text the patch changes.
    pub edited: BTreeSet<String>,
    /// The functions in whose bodies all changed lines are, by file and name; `None` if lines changed elsewhere, too.
    pub in_bodies: Option<BTreeSet<(String, String)>>,
    /// How the patched objects were made.
    pub runs: Vec<Rerun>,
}

/// Callees by the function they were inlined into.
type Edges = BTreeMap<String, BTreeSet<String>>;

impl Trail {
    /// That of patched files, whose originals are in this tree.
    pub fn of(files: &Patched, source: &Path, runs: Vec<Rerun>) -> Self {
        Trail {
            edited: functions::edited(files),
            in_bodies: functions::in_bodies_of(files, |path| fs::read(source.join(path)).ok()),
            runs,
        }
    }

    /// Adds the way of the change to refusals of functions that the patch does not edit.
    pub fn explain(&self, refusals: Vec<Refusal>) -> Vec<Refusal> {
        let is_riddle = |refusal: &Refusal| {
            let symbol = refusal.at.symbol.as_deref().map(plain);
            symbol.is_some_and(|symbol| !self.edited.contains(symbol))
        };
        if self.edited.is_empty() || !refusals.iter().any(is_riddle) {
            return refusals;
        }
        let edges = self.edges();
        let way = |refusal: &Refusal| {
            let symbol = refusal.at.symbol.as_deref().map_or("", plain);
            chain(symbol, &edges, &self.edited).filter(|_| is_riddle(refusal))
        };
        let found = refusals.into_iter().map(|refusal| (way(&refusal), refusal));
        together(found.collect())
    }

    /// Asks the compilers what they inlined.
    pub fn inlined(&self) -> Inlined {
        Inlined(self.edges())
    }

    /// A compiler that cannot be asked knows nothing: the refusal stands without it.
    fn edges(&self) -> Edges {
        let texts: Vec<String> = self.runs.par_iter().filter_map(remarks).collect();
        let mut edges = Edges::new();
        for (callee, caller) in texts.iter().flat_map(|text| text.lines()).filter_map(inlined) {
            edges.entry(caller.to_owned()).or_default().insert(callee.to_owned());
        }
        edges
    }
}

/// What was inlined into what.
#[derive(Debug, Clone, Default)]
pub struct Inlined(Edges);

impl Inlined {
    /// Those of the edited functions whose code is in a function, through whatever others.
    pub fn edited_in(&self, function: &str, edited: &BTreeSet<String>) -> BTreeSet<String> {
        let mut seen = BTreeSet::from([function.to_owned()]);
        let mut open = vec![function.to_owned()];
        while let Some(one) = open.pop() {
            for callee in self.0.get(&one).into_iter().flatten() {
                if seen.insert(callee.clone()) {
                    open.push(callee.clone());
                }
            }
        }
        seen.remove(function);
        seen.intersection(edited).cloned().collect()
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

/// The shortest way from an edited function into `into`, the edited one first.
fn chain(into: &str, edges: &Edges, edited: &BTreeSet<String>) -> Option<Vec<String>> {
    let mut queue = VecDeque::from([vec![into.to_owned()]]);
    let mut seen = BTreeSet::from([into.to_owned()]);
    while let Some(way) = queue.pop_front() {
        let last = way.last().expect("a way has its start");
        if way.len() > 1 && edited.contains(last) {
            return Some(way.into_iter().rev().collect());
        }
        for callee in edges.get(last).into_iter().flatten() {
            if seen.insert(callee.clone()) {
                queue.push_back(way.iter().cloned().chain([callee.clone()]).collect());
            }
        }
    }
    None
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
    use kpatch_core::codes;

    use super::*;

    fn edges(text: &str) -> Edges {
        let mut edges = Edges::new();
        for (callee, caller) in text.lines().filter_map(inlined) {
            edges.entry(caller.to_owned()).or_default().insert(callee.to_owned());
        }
        edges
    }

    #[test]
    fn the_way_leads_from_the_edited_function_to_the_refused_one() {
        let edges = edges(
            "a.c:1:2: remark: 'helper.llvm.77' inlined into 'middle' with (cost=5) at callsite middle:1:2; [-Rpass=inline]\n\
             <unknown>:0:0: remark: 'middle' inlined into 'setup' with (cost=always)\n noise\n",
        );
        let edited = BTreeSet::from(["helper".to_owned()]);
        let way = chain("setup", &edges, &edited).unwrap();
        assert_eq!(
            in_words(&way),
            "`helper` is inlined into `middle` and `middle` is inlined into `setup`"
        );
        assert_eq!(chain("helper", &edges, &edited), None);
        assert_eq!(chain("other", &edges, &edited), None);
    }

    #[test]
    fn all_edited_functions_in_a_function_are_found() {
        let edges = edges(
            "x: remark: 'a' inlined into 'm' with\nx: remark: 'm' inlined into 'f' with\nx: remark: 'b' inlined into 'f' with\n",
        );
        let edited = BTreeSet::from(["a", "b", "c", "f"].map(str::to_owned));
        assert_eq!(
            Inlined(edges).edited_in("f", &edited),
            BTreeSet::from(["a", "b"].map(str::to_owned))
        );
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
        assert_eq!(chain("a", &edges, &BTreeSet::from(["z".to_owned()])), None);
    }
}
