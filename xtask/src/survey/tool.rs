//! Which state of this tool a result comes from.

use std::path::Path;

use anyhow::{Context, Result};

use kpatch_build::sh;
use kpatch_build::supply::store::hash_file;

/// The commit that is checked out, with the hash of the program: the one says to people what it is, the other is true
/// also if the program was not built again since the last commit.
pub fn identity() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut git = sh::command("git");
    git.arg("-C").arg(root).args(["rev-parse", "--short=12", "HEAD"]);
    let commit = sh::output(&mut git).unwrap_or_else(|_| "unknown".to_owned());
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(format!("{}-{}", commit.trim(), &hash_file(&program)?[..8]))
}
