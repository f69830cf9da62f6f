//! How a phase or a run ended, in words.

use anyhow::Error;
use serde::Serialize;

use crate::outcome::{self, Ending, Kind};

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseEnd {
    /// Everything that was asked for was done.
    Ok,
    /// It did what it is for, and the result is bad; or it could not do it.
    Failed,
    /// The patch cannot become a livepatch.
    Refused,
    /// There is nothing to patch.
    NoChange,
    /// The user stopped it.
    Interrupted,
}

impl PhaseEnd {
    /// How a phase with this error ended.
    pub fn of(error: &Error) -> Self {
        match Kind::of(error) {
            Kind::Refused => PhaseEnd::Refused,
            Kind::NoChange | Kind::BootOnly => PhaseEnd::NoChange,
            Kind::Interrupted => PhaseEnd::Interrupted,
            Kind::Usage | Kind::Environment | Kind::Defect | Kind::Failed => PhaseEnd::Failed,
        }
    }

    /// The word before the phase's name, and its colour.
    pub(super) fn word(self) -> (&'static str, &'static str) {
        match self {
            PhaseEnd::Ok => ("32", "ok"),
            PhaseEnd::Failed => ("31", "failed"),
            PhaseEnd::Refused => ("33", "refused"),
            PhaseEnd::NoChange => ("36", "done"),
            PhaseEnd::Interrupted => ("33", "stopped"),
        }
    }
}

/// What ended a run, without the word before it.
pub fn told(error: &Error) -> String {
    told_when(error, outcome::was_interrupted())
}

fn told_when(error: &Error, interrupted: bool) -> String {
    match error.downcast_ref::<Ending>() {
        // What stops a run may say how to go on.
        Some(Ending::Infrastructure(what)) if interrupted => what.clone(),
        _ if interrupted => "interrupted".to_owned(),
        _ => format!("{error:#}"),
    }
}

/// The line that ends a run. Only what went wrong is called an error: a patch that changes nothing, or that cannot be
/// livepatched, is an answer, and so is Ctrl-C.
pub(super) fn line(error: &Error) -> (bool, String) {
    line_when(error, outcome::was_interrupted())
}

fn line_when(error: &Error, interrupted: bool) -> (bool, String) {
    let answer = matches!(
        error.downcast_ref::<Ending>(),
        Some(Ending::NoChange(_) | Ending::BootOnly(_) | Ending::Refused(_))
    );
    (!answer && !interrupted, told_when(error, interrupted))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn only_what_went_wrong_is_an_error() {
        let no_change: Error = Ending::NoChange("no function's code changed".into()).into();
        assert_eq!(
            line_when(&no_change, false),
            (false, "no functional change: no function's code changed".into())
        );
        let boot_only: Error = Ending::BootOnly("nothing but boot code changes".into()).into();
        assert!(!line_when(&boot_only, false).0);
        let failed = anyhow::anyhow!("make failed");
        assert_eq!(line_when(&failed, false), (true, "make failed".into()));
    }

    #[test]
    fn an_interrupted_run_says_so_and_nothing_else() {
        let stopped = Ending::infrastructure("interrupted");
        assert_eq!(line_when(&stopped, true), (false, "interrupted".into()));
        let wrapped = Ending::infrastructure("interrupted").context("cannot build");
        assert_eq!(line_when(&wrapped, true), (false, "interrupted".into()));
        assert_eq!(line_when(&anyhow::anyhow!("signal: 9"), true).1, "interrupted");
    }

    #[test]
    fn an_environment_problem_is_called_one() {
        let full = Ending::infrastructure("the disk is full");
        assert_eq!(
            line_when(&full, false),
            (true, "environment problem: the disk is full".into())
        );
        let inner: Result<(), Error> = Err(Ending::infrastructure("x"));
        let text = line_when(&inner.context("cannot boot").unwrap_err(), false).1;
        assert!(text.starts_with("cannot boot: "), "{text}");
    }
}
