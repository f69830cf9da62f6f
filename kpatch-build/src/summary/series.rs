//! What of a series is in the livepatch, and which of its patches is in which function.

use std::ops::Deref;

use kpatch_core::resolve::PatchedFunction;
use serde::Serialize;

use crate::build::fates::{Fate, State};

/// A patched function, and the patches of the series whose change it has.
#[derive(Debug, Clone, Serialize)]
pub struct Patched {
    #[serde(flatten)]
    function: PatchedFunction,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<String>,
}

impl Patched {
    /// The functions with their patches; `causes` has those of each, or nothing if there is no series.
    pub fn of(functions: &[PatchedFunction], causes: &[Vec<String>]) -> Vec<Patched> {
        let patches = causes.iter().cloned().chain(std::iter::repeat(Vec::new()));
        let functions = functions.iter().cloned().zip(patches);
        functions
            .map(|(function, patches)| Patched { function, patches })
            .collect()
    }
}

impl Deref for Patched {
    type Target = PatchedFunction;

    fn deref(&self) -> &PatchedFunction {
        &self.function
    }
}

/// The lines about a series: those that are out, and how many are in; with `all` those that are in, too.
pub fn lines(series: &[Fate], all: bool) -> Vec<String> {
    if series.is_empty() {
        return Vec::new();
    }
    let out = series.iter().filter(|fate| fate.state == State::Out).count();
    let inside = series.len() - out;
    let mut lines = vec![format!(
        "series      {inside} of {} patches in, {out} left out",
        series.len()
    )];
    // A long list of what went well hides what did not.
    const MANY: usize = 30;
    let shown = |fate: &&Fate| all || fate.state == State::Out || inside <= MANY;
    let line = |fate: &Fate| {
        let state = match fate.state {
            State::In => "in ",
            State::Out => "out",
        };
        format!("  {state}       {}: {}: {}", fate.patch, fate.titled(), fate.told())
    };
    lines.extend(series.iter().filter(shown).map(line));
    if inside > MANY && !all {
        lines.push("  those that are in: --explain lists them".to_owned());
    }
    lines
}
