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
