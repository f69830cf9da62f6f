//! The cases as trials of the standard test harness: each waits until the run has a verdict for it.
//!
//! The harness brings filters, lists and output formats that people and tools know. The run itself decides what is
//! built and booted when, so a trial is nothing but a wait.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use libtest_mimic::{Arguments, Failed};

/// The verdicts so far; an empty text is a good one.
#[derive(Default)]
struct State {
    of: BTreeMap<String, Result<(), String>>,
    /// Nothing more will come.
    closed: bool,
}

/// Verdicts as they come in, shared by the run and the trials that wait for them.
#[derive(Clone, Default)]
pub struct Verdicts(Arc<(Mutex<State>, Condvar)>);

impl Verdicts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a verdict up.
    pub fn put(&self, name: String, verdict: Result<(), String>) {
        self.lock().of.insert(name, verdict);
        self.0.1.notify_all();
    }

    /// Says that nothing more will come: who still waits has failed.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.1.notify_all();
    }

    fn wait(&self, name: &str) -> Result<(), Failed> {
        let mut verdicts = self.lock();
        loop {
            if let Some(verdict) = verdicts.of.get(name) {
                return verdict.clone().map_err(Failed::from);
            }
            if verdicts.closed {
                return Err("the run ended before this case had its turn".into());
            }
            verdicts = self.0.1.wait(verdicts).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The trials of these names.
    pub fn trials(&self, names: &[String]) -> Vec<libtest_mimic::Trial> {
        let trial = |name: &String| {
            let (verdicts, own) = (self.clone(), name.clone());
            libtest_mimic::Trial::test(name, move || verdicts.wait(&own))
        };
        names.iter().map(trial).collect()
    }
}

/// The harness's options. Without any from the command line its output goes to a file: we have a display of our own.
pub fn arguments(options: &[String], log: &Path, trials: usize) -> Arguments {
    let mut arguments = Arguments::from_iter(std::iter::once("e2e").chain(options.iter().map(String::as_str)));
    if options.is_empty() {
        arguments.logfile = Some(log.to_string_lossy().into_owned());
    }
    // Waiting costs nothing, and a trial that is through should be told at once.
    arguments.test_threads.get_or_insert(trials.clamp(1, 64));
    arguments
}

/// Those of the names that the options leave over.
pub fn chosen(names: &[String], arguments: &Arguments) -> Vec<String> {
    let verdicts = Verdicts::default();
    let left = verdicts
        .trials(names)
        .into_iter()
        .filter(|trial| !arguments.is_filtered_out(trial));
    left.map(|trial| trial.name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["a/one", "a/two", "b/one"].map(str::to_owned).to_vec()
    }

    #[test]
    fn each_trial_gets_its_verdict() {
        let verdicts = Verdicts::default();
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = arguments(&[], &folder.path().join("log"), 3);
        verdicts.put("a/one".into(), Ok(()));
        verdicts.put("a/two".into(), Err("no".into()));
        verdicts.close();
        let conclusion = libtest_mimic::run(&arguments, verdicts.trials(&names()));
        assert_eq!((conclusion.num_passed, conclusion.num_failed), (1, 2));
    }

    #[test]
    fn filters_are_those_of_the_harness() {
        let log = Path::new("log");
        let left = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
            chosen(&names(), &arguments(&options, log, 3))
        };
        assert_eq!(left(&["one"]), ["a/one", "b/one"]);
        assert_eq!(left(&["--exact", "a/two"]), ["a/two"]);
        assert_eq!(left(&["--skip", "one"]), ["a/two"]);
        assert_eq!(left(&[]).len(), 3);
    }
}
