//! A series without the patches that cannot be livepatched.
//!
//! The whole series is tried first. Each refusal is put down to its patch, that patch is dropped as a whole, and the rest is
//! tried again; compilations are kept, so another round costs what has changed. Where several patches may be behind a
//! refusal all of them go, and come back one half after the other as far as that builds. The number of rounds is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kpatch_core::Refusal;

use crate::build::causes::CausedBy;
use crate::build::fates::{Because, Fate, State, Told};
use crate::build::livepatch::{self, Livepatch, Request};
use crate::build::patchset::{self, DOES_NOT_APPLY, NOTHING_TO_ACCEPT, Side, origins};
use crate::outcome::{self, Ending, Kind};
use crate::progress::Progress;
use crate::ui::count;

/// How often a series is tried.
pub const MOST_ROUNDS: usize = 24;

/// The longest reason that is told.
const MAX_WHY: usize = 240;

/// Builds what of the series can be built.
///
/// # Errors
/// As [`livepatch::build`], with [`Told`] where patches were left out by then; the refusals if no patch is left, or if the
/// rounds are used up.
pub fn build(request: &Request<'_>, progress: &dyn Progress) -> Result<Livepatch> {
    let started = Instant::now();
    let mut search = Search::new(request, progress)?;
    let built = search.run();
    let fates = search.fates();
    match built {
        Ok(mut built) => {
            let rounds = search.rounds;
            built.notes.extend(std::mem::take(&mut search.notes));
            let all = started.elapsed();
            let last: Duration = built.timings.iter().map(|(_, took)| *took).sum();
            if rounds > 1 {
                let step = format!("{} before", count(rounds - 1, "attempt", "attempts"));
                built.timings.insert(0, (step, all.saturating_sub(last)));
            }
            built.series = merged(fates, &built.series);
            Ok(built)
        }
        Err(error) if fates.iter().any(|fate| fate.state == State::Out) => {
            let text = format!("{} left out", outs(&fates));
            Err(error.context(Told { text, series: fates }))
        }
        Err(error) => Err(error),
    }
}

/// The smallest set of patches without which the rest of a refused series can be built, as a context of the refusal. Each
/// of them is refused by itself, or needs one that is.
pub fn explain(request: &Request<'_>, refused: anyhow::Error, progress: &dyn Progress) -> anyhow::Error {
    if Kind::of(&refused) != Kind::Refused && !refused.is::<CausedBy>() {
        return refused;
    }
    let dry = Request {
        dry_run: true,
        ..*request
    };
    match build(&dry, progress) {
        Ok(built) => {
            let text = format!("the rest can be built without {}", outs(&built.series));
            refused.context(Told {
                text,
                series: built.series,
            })
        }
        // What is known of the refused series is still true.
        Err(_) => refused,
    }
}

/// The patches that are out, in words.
fn outs(fates: &[Fate]) -> String {
    let out = fates.iter().filter(|fate| fate.state == State::Out);
    let names: Vec<&str> = out.map(|fate| fate.patch.as_str()).collect();
    names.join(", ")
}

/// The fates of all, with what the build says of those that are in.
fn merged(all: Vec<Fate>, built: &[Fate]) -> Vec<Fate> {
    let mut known = built.iter().filter(|fate| fate.state == State::In);
    let with = |fate: Fate| match fate.state {
        State::Out => fate,
        State::In => Fate {
            patched: known.next().map(|built| built.patched.clone()).unwrap_or_default(),
            ..fate
        },
    };
    all.into_iter().map(with).collect()
}

/// A patch that is out.
#[derive(Debug, Clone)]
struct Out {
    because: Because,
    /// Others that may be to blame instead; it may come back.
    shared: bool,
}

struct Search<'a> {
    request: &'a Request<'a>,
    progress: &'a dyn Progress,
    all: Vec<Fate>,
    changes: Vec<Changes>,
    out: BTreeMap<usize, Out>,
    accept: Vec<String>,
    rounds: usize,
    notes: Vec<String>,
}

/// What a patch names.
#[derive(Default)]
struct Changes {
    files: BTreeSet<String>,
    words: BTreeSet<String>,
}

/// What is to go after a round, and why.
type Verdict = BTreeMap<usize, Out>;

impl<'a> Search<'a> {
    fn new(request: &'a Request<'a>, progress: &'a dyn Progress) -> Result<Self> {
        Ok(Search {
            all: Fate::of_all(request.patches)?,
            changes: request.patches.iter().map(Changes::of).collect(),
            out: BTreeMap::new(),
            accept: request.accept.to_vec(),
            rounds: 0,
            notes: Vec::new(),
            request,
            progress,
        })
    }

    fn fates(&self) -> Vec<Fate> {
        let fate = |(index, fate): (usize, &Fate)| match self.out.get(&index) {
            None => fate.clone(),
            Some(out) => Fate {
                state: State::Out,
                because: Some(out.because.clone()),
                ..fate.clone()
            },
        };
        self.all.iter().enumerate().map(fate).collect()
    }

    fn inside(&self) -> Vec<usize> {
        (0..self.all.len())
            .filter(|index| !self.out.contains_key(index))
            .collect()
    }

    fn run(&mut self) -> Result<Livepatch> {
        let mut first = None;
        loop {
            let inside = self.inside();
            let error = match self.attempt(&inside) {
                Ok(built) => return Ok(self.put_back(built)),
                Err(error) => error,
            };
            let Some(verdict) = self.verdict(&error, &inside) else {
                return Err(error);
            };
            self.tell(&verdict);
            self.out.extend(verdict);
            // What the whole series is refused for says more than what is left of it.
            let error = first.take().unwrap_or(error);
            if self.inside().is_empty() {
                self.notes.clear();
                return Err(error.context("no patch of the series can be livepatched"));
            }
            if self.rounds >= MOST_ROUNDS {
                return Err(error.context(format!("given up after {MOST_ROUNDS} attempts")));
            }
            first = Some(error);
        }
    }

    fn attempt(&mut self, inside: &[usize]) -> Result<Livepatch> {
        self.rounds += 1;
        let patches: Vec<PathBuf> = inside
            .iter()
            .map(|index| self.request.patches[*index].clone())
            .collect();
        let out: Vec<Fate> = self
            .fates()
            .into_iter()
            .filter(|fate| fate.state == State::Out)
            .collect();
        let work = self.request.work.join(format!("attempt-{}", self.rounds));
        std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let request = Request {
            patches: &patches,
            accept: &self.accept,
            left_out: &out,
            work: &work,
            ..*self.request
        };
        livepatch::build(&request, self.progress)
    }

    fn tell(&self, verdict: &Verdict) {
        for (index, out) in verdict {
            let text = format!("left out: {}: {}", self.all[*index].patch, out.because.why);
            self.progress.note(&text);
        }
    }

    /// What is to go; nothing if no patch is behind the error.
    fn verdict(&mut self, error: &anyhow::Error, inside: &[usize]) -> Option<Verdict> {
        let paths: Vec<PathBuf> = inside
            .iter()
            .map(|index| self.request.patches[*index].clone())
            .collect();
        let names = patchset::names(&paths);
        let numbers = |patches: &[String]| -> Vec<usize> {
            let known = patches
                .iter()
                .filter_map(|name| names.iter().position(|other| other == name));
            known.map(|at| inside[at]).collect()
        };
        if let Some(CausedBy(caused)) = error.downcast_ref() {
            let caused: Vec<(&str, Vec<usize>)> = caused
                .iter()
                .map(|one| (one.text.as_str(), numbers(&one.patches)))
                .collect();
            return self.not_compiling(&caused);
        }
        if Kind::of(error) != Kind::Refused {
            return None;
        }
        let mut refusals: Vec<(&Refusal, Vec<usize>)> = Vec::new();
        for refusal in outcome::refusals(error) {
            // What was accepted may have been of a patch that is out.
            if refusal.code == NOTHING_TO_ACCEPT && !self.out.is_empty() {
                self.accept.retain(|name| !refusal.is_about(name));
                continue;
            }
            let patches = numbers(&refusal.patches);
            if patches.is_empty() {
                return None;
            }
            refusals.push((refusal, patches));
        }
        Some(self.to_go(&refusals))
    }

    /// The patches of refusals that have one cause each. Only if there is none of these, those of the others: what they are
    /// about may be over by then.
    fn to_go(&self, refusals: &[(&Refusal, Vec<usize>)]) -> Verdict {
        let mut verdict = Verdict::new();
        let is_clear = |patches: &[usize]| patches.len() == 1;
        let any_clear = refusals.iter().any(|(_, patches)| is_clear(patches));
        let failed: BTreeSet<usize> = refusals
            .iter()
            .filter(|(refusal, _)| refusal.code == DOES_NOT_APPLY)
            .flat_map(|(_, patches)| patches)
            .copied()
            .collect();
        for (refusal, patches) in refusals.iter().filter(|(_, patches)| !any_clear || is_clear(patches)) {
            for index in patches {
                let out = verdict.entry(*index).or_insert_with(|| Out {
                    because: Because::default(),
                    shared: patches.len() > 1,
                });
                let needs = if refusal.code == DOES_NOT_APPLY {
                    self.before(*index, refusal, &failed)
                } else {
                    Vec::new()
                };
                out.because.add(refusal, needs);
            }
        }
        verdict
    }

    /// The patches before this one that are out, or going, and that touch the file to which this one does not apply.
    fn before(&self, index: usize, refusal: &Refusal, failed: &BTreeSet<usize>) -> Vec<String> {
        let Some(file) = &refusal.at.file else {
            return Vec::new();
        };
        let gone = (0..index).filter(|other| self.out.contains_key(other) || failed.contains(other));
        let needed = gone.filter(|other| self.changes[*other].files.contains(file));
        needed.map(|other| self.all[other].patch.clone()).collect()
    }

    /// The patches of files that do not compile: those of one patch each, or, if there are none of these, all.
    fn not_compiling(&self, caused: &[(&str, Vec<usize>)]) -> Option<Verdict> {
        let mut verdict = Verdict::new();
        let any_clear = caused.iter().any(|(_, patches)| patches.len() == 1);
        for (text, patches) in caused.iter().filter(|(_, patches)| !any_clear || patches.len() == 1) {
            let because = self.does_not_compile(text);
            for index in patches {
                verdict.entry(*index).or_insert_with(|| Out {
                    because: because.clone(),
                    shared: patches.len() > 1,
                });
            }
        }
        (!verdict.is_empty()).then_some(verdict)
    }

    fn does_not_compile(&self, text: &str) -> Because {
        let errors = || text.lines().filter(|line| line.contains("error: "));
        let named: BTreeSet<&str> = errors().flat_map(origins::quoted).collect();
        let has = |index: &&usize| named.iter().any(|name| self.changes[**index].words.contains(*name));
        let needs = self.out.keys().filter(has);
        let needs: Vec<String> = needs.map(|index| self.all[*index].patch.clone()).collect();
        let said = errors().next().unwrap_or_default().trim();
        let why = match &needs[..] {
            [] => format!("does not compile: {said}"),
            needs => format!("does not compile without {}: {said}", needs.join(", ")),
        };
        Because {
            why: shortened(&why),
            codes: Vec::new(),
            needs,
        }
    }

    /// Patches that went since they were among several that may have been to blame come back, as far as the rest still
    /// builds: all but the half that does not, and so on.
    fn put_back(&mut self, built: Livepatch) -> Livepatch {
        let shared = self.out.iter().filter(|(_, out)| out.shared).map(|(index, _)| *index);
        let mut best = built;
        let mut open: Vec<Vec<usize>> = vec![shared.collect()];
        while let Some(group) = open.pop() {
            if group.is_empty() {
                continue;
            }
            if self.rounds >= MOST_ROUNDS || outcome::was_interrupted() {
                let names: Vec<&str> = group.iter().map(|index| self.all[*index].patch.as_str()).collect();
                let note = format!(
                    "{} may be harmless: not tried again, after {MOST_ROUNDS} attempts",
                    names.join(", ")
                );
                self.notes.push(note);
                continue;
            }
            let held: Vec<(usize, Out)> = group.iter().filter_map(|index| self.out.remove_entry(index)).collect();
            let inside = self.inside();
            match self.attempt(&inside) {
                Ok(built) => best = built,
                Err(error) => {
                    let why = self.verdict(&error, &inside).unwrap_or_default();
                    self.out.extend(held);
                    if let [only] = group[..] {
                        let known = why.get(&only).filter(|out| !out.because.why.is_empty());
                        if let (Some(out), Some(place)) = (known, self.out.get_mut(&only)) {
                            place.because = out.because.clone();
                        }
                        continue;
                    }
                    let (front, back) = group.split_at(group.len() / 2);
                    open.extend([back.to_vec(), front.to_vec()]);
                }
            }
        }
        best
    }
}

impl Because {
    /// Adds a refusal. The first one is told.
    fn add(&mut self, refusal: &Refusal, needs: Vec<String>) {
        if self.why.is_empty() {
            let text = match &needs[..] {
                [] => refusal.to_string(),
                needs => format!("does not apply without {}", needs.join(", ")),
            };
            self.why = shortened(text.lines().next().unwrap_or_default());
        }
        if !self.codes.contains(&refusal.code) {
            self.codes.push(refusal.code);
        }
        for name in needs {
            if !self.needs.contains(&name) {
                self.needs.push(name);
            }
        }
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_WHY).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl Changes {
    /// Those of a patch file; none if it cannot be read, which is refused elsewhere.
    fn of(path: &PathBuf) -> Changes {
        let Ok(set) = patchset::read(std::slice::from_ref(path)) else {
            return Changes::default();
        };
        let lines = set
            .files
            .iter()
            .flat_map(|change| &change.hunks)
            .flat_map(|hunk| &hunk.lines);
        let mut words = BTreeSet::new();
        for line in lines.filter(|line| line.side != Side::Both) {
            let text = String::from_utf8_lossy(&line.text);
            words.extend(
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .map(str::to_owned),
            );
        }
        Changes {
            files: set.files.into_iter().map(|change| change.path).collect(),
            words,
        }
    }
}

/// What a series is refused for, if it is.
pub fn is_answer(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Ending::Refused(_))) || error.is::<CausedBy>()
}
