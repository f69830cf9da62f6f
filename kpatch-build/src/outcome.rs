//! How a run ends: the error kinds that have an exit code of their own, and the exit codes.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};

use kpatch_core::{Blame, Refusal};

/// Everything that was asked for was done.
pub const EXIT_OK: u8 = 0;
/// Something failed: a build step, a boot, a behaviour check.
pub const EXIT_FAILED: u8 = 1;
/// The patch was refused; the refusals say why and what to do.
pub const EXIT_REFUSED: u8 = 2;
/// The patch changes nothing that runs, or boot code only: there is nothing to load.
pub const EXIT_NO_CHANGE: u8 = 3;
/// The command line was wrong (what clap uses, too).
pub const EXIT_USAGE: u8 = 64;
/// Not the patch but the environment: a missing tool, no disk space, a failed download, a kernel that does not fit.
pub const EXIT_ENVIRONMENT: u8 = 69;
/// A defect of this program: it made a module that the kernel would refuse, or cannot read what a compiler made.
pub const EXIT_DEFECT: u8 = 70;
/// What a shell reports for a program ended by SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Says that a signal asked this run to end; whether one did before.
pub fn interrupt() -> bool {
    INTERRUPTED.swap(true, Ordering::SeqCst)
}

/// Whether a signal asked this run to end.
pub fn was_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// An error that decides the exit code. Anything else that reaches `main` is [`EXIT_FAILED`].
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// There is no livepatch, for these reasons; their codes say who is to blame.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// The patch changes nothing that runs.
    #[error("no functional change: {0}")]
    NoChange(String),
    /// The patch changes boot code only: this boot is over, and the next one has it.
    #[error("takes effect at the next boot: {0}")]
    BootOnly(String),
    /// The environment failed, not the patch.
    #[error("environment problem: {0}")]
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

    /// An environment problem, as an error to return.
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
    /// Exit code of the program, one of the `EXIT_` constants.
    pub code: u8,
    /// Why it ended so, as a sentence for the user.
    pub text: String,
}

/// Why a run did not do what was asked: everybody who judges one matches this, and nobody looks into the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The patch is refused.
    Refused,
    /// The patch changes nothing that runs.
    NoChange,
    /// The patch changes boot code only.
    BootOnly,
    /// The command line is wrong.
    Usage,
    /// The environment is to blame.
    Environment,
    /// This program is to blame.
    Defect,
    /// A build step, a boot or a check failed.
    Failed,
    /// The user ended it.
    Interrupted,
}

impl Kind {
    /// The kind of an error. The only place where an error is looked into.
    pub fn of(error: &anyhow::Error) -> Kind {
        if was_interrupted() {
            return Kind::Interrupted;
        }
        if let Some(core) = error.downcast_ref::<kpatch_core::Error>() {
            return Kind::blamed(core.code.blame());
        }
        match error.downcast_ref::<Ending>() {
            Some(Ending::Refused(refusals)) => {
                let blame = Blame::of(refusals.iter().map(|refusal| refusal.code));
                blame.map_or(Kind::Defect, Kind::blamed)
            }
            Some(Ending::NoChange(_)) => Kind::NoChange,
            Some(Ending::BootOnly(_)) => Kind::BootOnly,
            Some(Ending::Infrastructure(_)) => Kind::Environment,
            Some(Ending::Usage(_)) => Kind::Usage,
            None if is_disk_full(error) => Kind::Environment,
            None => Kind::Failed,
        }
    }

    fn blamed(blame: Blame) -> Kind {
        match blame {
            Blame::Patch => Kind::Refused,
            Blame::Environment => Kind::Environment,
            Blame::Defect => Kind::Defect,
        }
    }

    /// The exit code of a run that ends this way.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Refused => EXIT_REFUSED,
            Kind::NoChange | Kind::BootOnly => EXIT_NO_CHANGE,
            Kind::Usage => EXIT_USAGE,
            Kind::Environment => EXIT_ENVIRONMENT,
            Kind::Defect => EXIT_DEFECT,
            Kind::Failed => EXIT_FAILED,
            Kind::Interrupted => EXIT_INTERRUPTED,
        }
    }

    /// What JSON calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Refused => "refused",
            Kind::NoChange => "no-change",
            Kind::BootOnly => "boot-only",
            Kind::Usage => "usage",
            Kind::Environment => "environment",
            Kind::Defect => "defect",
            Kind::Failed => "failed",
            Kind::Interrupted => "interrupted",
        }
    }
}

/// What speaks against the patch, the environment or this program, with codes; nothing for other errors.
pub fn refusals(error: &anyhow::Error) -> &[Refusal] {
    match error.downcast_ref::<Ending>() {
        Some(Ending::Refused(refusals)) => refusals,
        _ => &[],
    }
}

/// The exit code that belongs to an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let coded = error.downcast_ref::<Coded>();
    coded.map_or_else(|| Kind::of(error).exit_code(), |coded| coded.code)
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
        assert_eq!(code(ErrorKind::StorageFull), EXIT_ENVIRONMENT);
        assert_eq!(code(ErrorKind::QuotaExceeded), EXIT_ENVIRONMENT);
        assert_eq!(code(ErrorKind::InvalidData), EXIT_FAILED);
    }

    #[test]
    fn the_codes_of_refusals_decide() {
        use kpatch_core::{Code, Subject, codes};
        let code = |codes: &[Code]| {
            let refusals = codes.iter().map(|code| Refusal::new(*code, Subject::default(), "why"));
            exit_code(&Ending::Refused(refusals.collect()).into())
        };
        assert_eq!(code(&[codes::select::DATA_CHANGED]), EXIT_REFUSED);
        assert_eq!(code(&[codes::environment::FULL_LTO]), EXIT_ENVIRONMENT);
        assert_eq!(
            code(&[codes::select::DATA_CHANGED, codes::klp::INCOMPLETE]),
            EXIT_DEFECT
        );
        assert_eq!(code(&[codes::klp::LATE_RELOCATION]), EXIT_REFUSED);
        // A refusal without a reason is our mistake.
        assert_eq!(code(&[]), EXIT_DEFECT);
    }

    #[test]
    fn boot_code_alone_has_a_name_of_its_own_and_is_no_failure() {
        let ending: anyhow::Error = Ending::BootOnly("nothing but boot code changes".into()).into();
        assert_eq!(
            (Kind::of(&ending).name(), exit_code(&ending)),
            ("boot-only", EXIT_NO_CHANGE)
        );
        assert!(refusals(&ending).is_empty());
    }

    #[test]
    fn a_wrong_command_line_has_one_code_whoever_finds_it() {
        assert_eq!(exit_code(&Ending::usage("there is no kernel 5.0")), EXIT_USAGE);
    }
}
