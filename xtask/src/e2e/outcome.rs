//! What can become of a case, what each outcome is called, and the exit code that a run ends with.

use serde::{Deserialize, Serialize};

use kpatch_build::outcome::{EXIT_ENVIRONMENT, EXIT_OK};

/// What became of a case, with a stable name in JSON and tables. Ordered from good to bad: a run ends with the code of
/// its worst outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Built as expected, and proven in the guest.
    Passed,
    /// Built as expected; nobody asked for a boot.
    Built,
    /// Refused with exactly the expected codes.
    RefusedAsExpected,
    /// Found to change nothing, as expected.
    NoChangeAsExpected,
    /// Found to change boot code only, as expected.
    BootOnlyAsExpected,
    /// Known to fail, and it failed.
    KnownBad,
    /// The environment failed, so nothing was learnt.
    Infrastructure,
    /// Known to fail, and it passed: the note must go.
    UnexpectedPass,
    /// Everything is as the case says, but something else changed since the snapshot was made.
    SnapshotDiffers,
    /// It was refused, built or found without change against the expectation, or refused with other codes.
    WrongRefusal,
    /// It was built, but other functions are patched than the case says, other patches left out, or more files compiled.
    WrongFunctions,
    /// A step of the build failed.
    BuildFailed,
    /// The finished module breaks a rule of the kernel's.
    StaticCheckFailed,
    /// The check script itself is broken, so it says nothing about the patch.
    CheckBroken,
    /// The kernel refused the module, or did not register what it promises.
    LoadFailed,
    /// The livepatch could not be switched off or removed.
    UnloadFailed,
    /// Tasks never reached the new code.
    TransitionStalled,
    /// The guest saw another behaviour.
    BehaviourWrong,
    /// The kernel warned, or is tainted.
    KernelComplained,
    /// A step or the machine did not come to an end.
    Hang,
    /// The machine panicked or vanished.
    Panic,
}

/// All outcomes, in their order.
pub const ALL: [Outcome; 21] = [
    Outcome::Passed,
    Outcome::Built,
    Outcome::RefusedAsExpected,
    Outcome::NoChangeAsExpected,
    Outcome::BootOnlyAsExpected,
    Outcome::KnownBad,
    Outcome::Infrastructure,
    Outcome::UnexpectedPass,
    Outcome::SnapshotDiffers,
    Outcome::WrongRefusal,
    Outcome::WrongFunctions,
    Outcome::BuildFailed,
    Outcome::StaticCheckFailed,
    Outcome::CheckBroken,
    Outcome::LoadFailed,
    Outcome::UnloadFailed,
    Outcome::TransitionStalled,
    Outcome::BehaviourWrong,
    Outcome::KernelComplained,
    Outcome::Hang,
    Outcome::Panic,
];

impl Outcome {
    /// Whether the case is as it should be.
    pub fn is_good(self) -> bool {
        self <= Outcome::KnownBad
    }

    /// What it is called for people; bad ones in capitals, so that they are seen in a long list.
    pub fn shown(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Built => "built",
            Outcome::RefusedAsExpected => "refused as expected",
            Outcome::NoChangeAsExpected => "no change as expected",
            Outcome::BootOnlyAsExpected => "boot only as expected",
            Outcome::KnownBad => "known bad",
            Outcome::Infrastructure => "INFRASTRUCTURE",
            Outcome::UnexpectedPass => "UNEXPECTED PASS",
            Outcome::SnapshotDiffers => "SNAPSHOT DIFFERS",
            Outcome::WrongRefusal => "WRONG REFUSAL",
            Outcome::WrongFunctions => "WRONG FUNCTIONS",
            Outcome::BuildFailed => "BUILD FAILED",
            Outcome::StaticCheckFailed => "STATIC CHECK FAILED",
            Outcome::CheckBroken => "CHECK BROKEN",
            Outcome::LoadFailed => "LOAD FAILED",
            Outcome::UnloadFailed => "UNLOAD FAILED",
            Outcome::TransitionStalled => "TRANSITION STALLED",
            Outcome::BehaviourWrong => "BEHAVIOUR WRONG",
            Outcome::KernelComplained => "KERNEL COMPLAINED",
            Outcome::Hang => "HANG",
            Outcome::Panic => "PANIC",
        }
    }

    /// The exit code of a run whose worst outcome this is.
    pub fn exit_code(self) -> u8 {
        match self {
            good if good.is_good() => EXIT_OK,
            Outcome::Infrastructure => EXIT_ENVIRONMENT,
            Outcome::UnexpectedPass => 10,
            Outcome::SnapshotDiffers => 11,
            Outcome::WrongRefusal => 12,
            Outcome::WrongFunctions => 13,
            Outcome::BuildFailed => 14,
            Outcome::StaticCheckFailed => 15,
            Outcome::CheckBroken => 16,
            Outcome::LoadFailed => 17,
            Outcome::UnloadFailed => 18,
            Outcome::TransitionStalled => 19,
            Outcome::BehaviourWrong => 20,
            Outcome::KernelComplained => 21,
            Outcome::Hang => 22,
            _ => 23,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bad_outcome_has_an_exit_code_of_its_own() {
        let bad: Vec<Outcome> = ALL.into_iter().filter(|outcome| !outcome.is_good()).collect();
        let codes: BTreeSet<u8> = bad.iter().map(|outcome| outcome.exit_code()).collect();
        assert_eq!(codes.len(), bad.len());
        assert!(!codes.contains(&EXIT_OK));
        assert!(
            ALL.into_iter()
                .filter(|outcome| outcome.is_good())
                .all(|o| o.exit_code() == EXIT_OK)
        );
    }

    #[test]
    fn they_are_listed_in_their_order_once() {
        assert!(ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
