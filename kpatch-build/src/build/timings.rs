//! How long the steps of a run took.

use std::time::{Duration, Instant};

/// Steps with their times, in the order in which they ended.
#[derive(Debug, Clone, Default)]
pub struct Timings(Vec<(String, Duration)>);

impl Timings {
    /// Takes the time of a step.
    pub fn of<T>(&mut self, step: &str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = work();
        self.add(step, started);
        result
    }

    /// Adds a step that ends now: what it is called may depend on what came out.
    pub fn add(&mut self, step: impl Into<String>, started: Instant) {
        self.0.push((step.into(), started.elapsed()));
    }

    /// Adds what was timed elsewhere.
    pub fn extend(&mut self, more: Timings) {
        self.0.extend(more.0);
    }

    /// All of them.
    pub fn into_steps(self) -> Vec<(String, Duration)> {
        self.0
    }
}
