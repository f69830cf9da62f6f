//! Tells how a change got into a function that the patch does not mention.
//!
//! A refusal for a function that the author never touched is a riddle. The compiler knows the answer: asked again, it
//! says what it inlined into what. Only refusals pay for that, and if the answer has no way from an edited function to
//! the refused one, nothing is claimed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kpatch_core::{Refusal, names};
use rayon::prelude::*;

use crate::build::recompile::Rerun;
use crate::sh;

/// What is known about the way of a change.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// Functions whose text the patch changes.
    pub edited: BTreeSet<String>,
    /// How the patched objects were made.
    pub runs: Vec<Rerun>,
}

/// Callees by the function they were inlined into.
type Edges = BTreeMap<String, BTreeSet<String>>;

impl Trail {
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
        let explained =
            |refusal: Refusal| match chain(refusal.at.symbol.as_deref().map_or("", plain), &edges, &self.edited) {
                Some(way) if is_riddle(&refusal) => Refusal {
                    why: format!("{}; the patch reaches it since {}", refusal.why, in_words(&way)),
                    ..refusal
                },
                _ => refusal,
            };
        refusals.into_iter().map(explained).collect()
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
    fn circles_end() {
        let edges = edges("x: remark: 'a' inlined into 'b' with\nx: remark: 'b' inlined into 'a' with\n");
        assert_eq!(chain("a", &edges, &BTreeSet::from(["z".to_owned()])), None);
    }
}
