//! How long a livepatch takes.

use anyhow::Result;

use super::Context;
use crate::cli::BenchPatchArgs;
use crate::outcome::Ending;

/// Runs `bench patch`.
pub fn patch(_args: &BenchPatchArgs, _context: &Context<'_>) -> Result<()> {
    Err(Ending::infrastructure("bench patch is not part of this version"))
}
