//! Which program this is: what a message calls it when it names a command that helps.

use std::sync::OnceLock;

/// A program of this crate, or one that has its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// How it is started.
    pub name: &'static str,
    /// What its command for building a livepatch is called.
    pub build: &'static str,
}

/// The program of this crate.
pub const KPATCH: Program = Program {
    name: "kpatch",
    build: "build",
};

/// The commands out of a checkout.
pub const XTASK: Program = Program {
    name: "cargo xtask",
    build: "build-patch",
};

/// Set at most once, by `main`, before anything else: the name of a program does not change while it runs, and handing it
/// to each place that may have something to say would tell nobody more.
static THIS: OnceLock<Program> = OnceLock::new();

/// Says that this is not `kpatch`. Only the first call counts.
pub fn is(program: Program) {
    THIS.get_or_init(|| program);
}

/// Which program this is.
pub fn this() -> Program {
    THIS.get().copied().unwrap_or(KPATCH)
}

/// A command of this program, as one would type it.
pub fn command(words: &str) -> String {
    format!("{} {words}", this().name)
}
