//! Differences that a livepatch need not carry.

use serde::Serialize;

/// A difference that does not matter, and why not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Ignored {
    /// The unit.
    pub unit: String,
    /// What.
    pub name: String,
    /// Why.
    pub why: String,
}
