//! Building a livepatch from a source patch.

use anyhow::Result;

use super::Context;
use crate::cli::BuildPatchArgs;
use crate::outcome::Ending;

/// Runs `build-patch`.
pub fn run(_args: &BuildPatchArgs, _context: &Context<'_>) -> Result<()> {
    Err(Ending::infrastructure("build-patch is not part of this version"))
}
