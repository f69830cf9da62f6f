//! What is remembered of one file.

use serde::{Deserialize, Serialize};

/// The format of the file; another one is not read.
pub const FORMAT: u32 = 1;

/// What became of a change, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Built, loaded, every task switched over, patched, switched off and removed, with a clean kernel log.
    Livepatchable,
    /// Built; nothing was booted.
    Built,
    /// Nothing that runs differs.
    NoChange,
    /// Only boot code differs, which the next boot has.
    BootOnly,
    /// Refused, with codes.
    Refused,
    /// Does not compile, not even with the changes that the compiler asks for.
    NeedsOthers,
    /// Built and loaded, but a task that never leaves a patched function kept the transition from ending.
    Stalled,
    /// Failed without a refusal, or the finished module broke a rule: a defect of this tool until shown otherwise.
    Failed,
    /// Built, and then the kernel or the machine said no: the worst there is.
    Misbehaved,
}

/// All outcomes, in their order.
pub const ALL: [Outcome; 9] = [
    Outcome::Livepatchable,
    Outcome::Built,
    Outcome::NoChange,
    Outcome::BootOnly,
    Outcome::Refused,
    Outcome::NeedsOthers,
    Outcome::Stalled,
    Outcome::Failed,
    Outcome::Misbehaved,
];

impl Outcome {
    pub fn shown(self) -> &'static str {
        match self {
            Outcome::Livepatchable => "livepatchable",
            Outcome::Built => "built, not booted",
            Outcome::NoChange => "no change in this kernel",
            Outcome::BootOnly => "takes effect at the next boot",
            Outcome::Refused => "refused",
            Outcome::NeedsOthers => "needs other files",
            Outcome::Stalled => "transition stalls",
            Outcome::Failed => "failed",
            Outcome::Misbehaved => "misbehaved when loaded",
        }
    }

    /// For programs; also the class of its colour.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Livepatchable => "livepatchable",
            Outcome::Built => "built",
            Outcome::NoChange => "no-change",
            Outcome::BootOnly => "boot-only",
            Outcome::Refused => "refused",
            Outcome::NeedsOthers => "needs-others",
            Outcome::Stalled => "stalled",
            Outcome::Failed => "failed",
            Outcome::Misbehaved => "misbehaved",
        }
    }

    /// Whether a repaired tool may come to another result.
    pub fn is_worth_another_try(self) -> bool {
        matches!(self, Outcome::Built | Outcome::Failed | Outcome::Misbehaved)
    }
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// Path relative to the source tree.
    pub file: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Codes of the refusals or of the failure, each once.
    pub codes: Vec<String>,
    /// Other files whose changes had to come along, because it does not compile without them.
    pub with: Vec<String>,
    /// The redirected functions: `object:function`.
    pub functions: Vec<String>,
    /// Objects of the kernel that the file is part of.
    pub units: usize,
    /// Refusals, or what went wrong, in words.
    pub detail: String,
    /// Seconds from the patch to the module.
    pub seconds: f64,
    /// Seconds in the booted machine.
    pub guest_seconds: f64,
    /// Which state of this tool found it out.
    pub tool: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_file() {
        for outcome in ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }
}
