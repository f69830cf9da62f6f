//! Why something was not done, and the exit code that says so to a program.

use std::io;
use std::path::Path;

/// It is done, or: the livepatch is in effect.
pub const EXIT_OK: u8 = 0;
/// It failed, or: a transition is under way.
pub const EXIT_FAILED: u8 = 1;
/// The livepatch is not in effect.
pub const EXIT_NOT_IN_EFFECT: u8 = 2;
/// The command line is wrong.
pub const EXIT_USAGE: u8 = 64;
/// This machine cannot do it: no livepatch support, no permission, no room.
pub const EXIT_ENVIRONMENT: u8 = 69;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel or the transition said no.
    #[error("{0}")]
    Failed(String),
    /// Another livepatch lies on top of it and has to go first.
    #[error("{0}")]
    Covered(String),
    /// There is no such livepatch here.
    #[error("{0}")]
    NotThere(String),
    /// What was typed makes no sense here.
    #[error("{0}")]
    Usage(String),
    /// The machine cannot do it.
    #[error("{0}")]
    Environment(String),
}

/// What most functions here return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit code that goes with it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Failed(_) | Error::Covered(_) => EXIT_FAILED,
            Error::NotThere(_) => EXIT_NOT_IN_EFFECT,
            Error::Usage(_) => EXIT_USAGE,
            Error::Environment(_) => EXIT_ENVIRONMENT,
        }
    }

    /// The same with more to say.
    #[must_use]
    pub fn and(self, more: &str) -> Self {
        match self {
            Error::Failed(text) => Error::Failed(text + more),
            Error::Covered(text) => Error::Covered(text + more),
            Error::NotThere(text) => Error::NotThere(text + more),
            Error::Usage(text) => Error::Usage(text + more),
            Error::Environment(text) => Error::Environment(text + more),
        }
    }

    /// The word for programs.
    pub fn outcome(&self) -> &'static str {
        match self {
            Error::Failed(_) | Error::Covered(_) => "failed",
            Error::NotThere(_) => "not-there",
            Error::Usage(_) => "usage",
            Error::Environment(_) => "environment",
        }
    }

    /// A file that could not be read or written.
    pub fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        let text = format!("cannot {what} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Environment(format!("{text} (are you root?)")),
            _ => Error::Environment(text),
        }
    }
}
