//! Building a livepatch from a source patch.

use anyhow::Result;

use super::{Context, kernel};
use crate::cli::BuildPatchArgs;
use crate::outcome::Ending;

/// Runs `build-patch`.
pub fn run(args: &BuildPatchArgs, context: &Context<'_>) -> Result<()> {
    let baseline = kernel::resolve(&args.kernel, Some(&args.own), args.jobs, args.install_deps, context)?;
    let release = &baseline.kernel.release;
    Err(Ending::infrastructure(format!(
        "build-patch is not part of this version (kernel found: {release})"
    )))
}
