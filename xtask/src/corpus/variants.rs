//! What of a case is otherwise for one kernel series: another context of the patch, other functions, other modules.
//!
//! A variant says only what differs. Together with the rest of the description it must be a case by itself, and it is
//! checked as one.

use serde::Deserialize;

use super::{Description, Expectation, KnownBad, Modules, ThenDescription};

/// The parts that a variant can exchange. Each is exchanged as a whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Override {
    patches: Option<Vec<String>>,
    expect: Option<Expectation>,
    check: Option<String>,
    program: Option<String>,
    modules: Option<Modules>,
    then: Option<ThenDescription>,
    known_bad: Option<KnownBad>,
}

impl Override {
    fn is_empty(&self) -> bool {
        let guest = self.check.is_some() || self.program.is_some() || self.modules.is_some() || self.then.is_some();
        !guest && self.patches.is_none() && self.expect.is_none() && self.known_bad.is_none()
    }
}

impl Description {
    /// The description as it is for a series.
    pub(super) fn on(&self, series: &str) -> Description {
        let mut whole = self.clone();
        whole.variants.clear();
        let Some(other) = self.variants.get(series).cloned() else {
            return whole;
        };
        if other.expect.as_ref().is_some_and(|expect| expect.patched.is_none()) {
            // What is not patched is not booted either.
            (whole.check, whole.program, whole.then) = (None, None, None);
            whole.modules = Modules::default();
        }
        whole.patches = other.patches.unwrap_or(whole.patches);
        whole.expect = other.expect.unwrap_or(whole.expect);
        whole.check = other.check.or(whole.check);
        whole.program = other.program.or(whole.program);
        whole.modules = other.modules.unwrap_or(whole.modules);
        whole.then = other.then.or(whole.then);
        whole.known_bad = other.known_bad.or(whole.known_bad);
        whole
    }

    /// The description without its variants, then each of them.
    pub(super) fn everywhere(&self) -> impl Iterator<Item = Description> {
        let common = std::iter::once(self.on(""));
        common.chain(self.variants.keys().map(|series| self.on(series)))
    }

    /// The files that are named.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        let then = self.then.iter().flat_map(|then| &then.patches);
        let patches = self.patches.iter().chain(then).chain(&self.program);
        patches.map(String::as_str).chain(self.scripts())
    }

    /// The files that the guest runs.
    pub(super) fn scripts(&self) -> impl Iterator<Item = &str> {
        let then = self.then.iter().map(|then| &then.check);
        self.check.iter().chain(then).map(String::as_str)
    }
}

/// Variants for kernels that the case is not for, and such that change nothing.
pub(super) fn problems(description: &Description) -> Vec<String> {
    let mut problems = Vec::new();
    for (series, other) in &description.variants {
        if !description.kernels.contains(series) {
            problems.push(format!("variant {series}: `kernels` does not have this series"));
        }
        if other.is_empty() {
            problems.push(format!("variant {series}: it changes nothing"));
        }
    }
    problems
}
