//! Building a livepatch from a source patch.

use anyhow::Result;

use super::{Context, kernel};
use crate::cli::BuildPatchArgs;
use crate::outcome::Ending;

/// Runs `build-patch`.
pub fn run(args: &BuildPatchArgs, context: &Context<'_>) -> Result<()> {
    let (jobs, install_deps, boot) = (args.jobs, args.install_deps, args.boot);
    let request = kernel::Request {
        pinned: &args.kernel,
        own: Some(&args.own),
        jobs,
        install_deps,
        boot,
    };
    let baseline = kernel::resolve(request, context)?;
    let release = &baseline.kernel.release;
    Err(Ending::infrastructure(format!(
        "build-patch is not part of this version (kernel found: {release})"
    )))
}
