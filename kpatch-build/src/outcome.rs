//! How a run ends: the error kinds that have an exit code of their own, and the exit codes.

use std::io::{self, ErrorKind};

use kpatch_core::Refusal;

/// Everything that was asked for was done.
pub const EXIT_OK: u8 = 0;
/// Something failed: a build step, a boot, a behaviour check.
pub const EXIT_FAILED: u8 = 1;
/// The patch was refused; the refusals say why and what to do.
pub const EXIT_REFUSED: u8 = 2;
/// The patch changes nothing that runs.
pub const EXIT_NO_CHANGE: u8 = 3;
/// The command line was wrong (what clap uses, too).
pub const EXIT_USAGE: u8 = 64;
/// Not the patch but the surroundings: a missing tool, no disk space, a download that failed.
pub const EXIT_INFRASTRUCTURE: u8 = 69;

/// An error that decides the exit code. Anything else that reaches `main` is [`EXIT_FAILED`].
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The patch cannot become a livepatch as it stands.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// The patch changes nothing that runs.
    #[error("no functional change: {0}")]
    NoChange(String),
    /// The surroundings failed, not the patch.
    #[error("infrastructure: {0}")]
    Infrastructure(String),
    /// The command line asks for something that there is not.
    #[error("{0}")]
    Usage(String),
}

impl Ending {
    /// One refusal, as an error to return.
    pub fn refused(refusal: Refusal) -> anyhow::Error {
        anyhow::Error::new(Ending::Refused(vec![refusal]))
    }

    /// An infrastructure failure, as an error to return.
    pub fn infrastructure(what: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Ending::Infrastructure(what.into()))
    }

    /// A wrong command line, as an error to return.
    pub fn usage(what: impl Into<String>) -> anyhow::Error {
        anyhow::Error::new(Ending::Usage(what.into()))
    }
}

/// An error that brings its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Coded {
    /// The exit code.
    pub code: u8,
    /// For people.
    pub text: String,
}

/// The exit code that belongs to an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(coded) = error.downcast_ref::<Coded>() {
        return coded.code;
    }
    match error.downcast_ref::<Ending>() {
        Some(Ending::Refused(_)) => EXIT_REFUSED,
        Some(Ending::NoChange(_)) => EXIT_NO_CHANGE,
        Some(Ending::Infrastructure(_)) => EXIT_INFRASTRUCTURE,
        Some(Ending::Usage(_)) => EXIT_USAGE,
        None if is_disk_full(error) => EXIT_INFRASTRUCTURE,
        None => EXIT_FAILED,
    }
}

/// Whether some file could not be written for want of room, wherever that was.
fn is_disk_full(error: &anyhow::Error) -> bool {
    let full = |kind| matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| full(error.kind()))
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_full_disk_is_no_fault_of_the_patch() {
        let code = |kind: ErrorKind| {
            let written: Result<(), io::Error> = Err(kind.into());
            exit_code(&written.context("cannot write x.ko").unwrap_err())
        };
        assert_eq!(code(ErrorKind::StorageFull), EXIT_INFRASTRUCTURE);
        assert_eq!(code(ErrorKind::QuotaExceeded), EXIT_INFRASTRUCTURE);
        assert_eq!(code(ErrorKind::InvalidData), EXIT_FAILED);
    }

    #[test]
    fn a_wrong_command_line_has_one_code_whoever_finds_it() {
        assert_eq!(exit_code(&Ending::usage("there is no kernel 5.0")), EXIT_USAGE);
    }
}
