//! How long each phase of a run took, and each step of a phase.

use std::time::Duration;

use serde::Serialize;

/// The phases of one run, in the order they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Phases(Vec<PhaseTime>);

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhaseTime {
    /// Its name, as shown.
    pub name: String,
    /// Wall time in milliseconds.
    pub milliseconds: u64,
    /// What it was made of, where that was timed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepTime>,
}

/// How long a step of a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepTime {
    /// Its name, as shown.
    pub name: String,
    /// Wall time in milliseconds.
    pub milliseconds: u64,
}

impl Phases {
    /// Adds a phase that has ended.
    pub fn record(&mut self, name: impl Into<String>, took: Duration, steps: Vec<StepTime>) {
        self.0.push(PhaseTime {
            name: name.into(),
            milliseconds: milliseconds(took),
            steps,
        });
    }

    /// The phases so far, in their order.
    pub fn times(&self) -> &[PhaseTime] {
        &self.0
    }
}

impl StepTime {
    /// A step that was timed.
    pub fn new(name: impl Into<String>, took: Duration) -> Self {
        StepTime {
            name: name.into(),
            milliseconds: milliseconds(took),
        }
    }
}

pub(super) fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
