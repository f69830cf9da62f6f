//! Differences that a livepatch need not carry.

use serde::Serialize;

/// A difference that does not matter, and why not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ignored {
    /// Name of the unit that differs.
    pub unit: String,
    /// The symbol or section that differs.
    pub name: String,
    /// Why the livepatch need not carry it.
    pub why: String,
}

/// How the reason begins of what the next boot has and this one has not.
pub(crate) const NEXT_BOOT: &str = "takes effect at the next boot";

impl Ignored {
    /// Whether it is boot code or boot data, which has done its work on this machine.
    pub fn is_at_boot(&self) -> bool {
        self.why.starts_with(NEXT_BOOT)
    }
}
