//! Which state of this tool a result comes from.

use std::path::Path;

use anyhow::{Context, Result};

use crate::sh;
use crate::store::hash_file;

/// The commit if what runs is that commit, else the commit with the hash of the program.
pub fn identity() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let git = |arguments: &[&str]| sh::output(sh::command("git").arg("-C").arg(root).args(arguments)).ok();
    let commit = git(&["rev-parse", "--short=12", "HEAD"]);
    let clean =
        git(&["status", "--porcelain", "--", "..", ":!../docs"]).is_some_and(|changes| changes.trim().is_empty());
    if let (Some(commit), true) = (&commit, clean) {
        return Ok(commit.trim().to_owned());
    }
    let program = std::env::current_exe().context("cannot find this program")?;
    let hash = hash_file(&program)?;
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    Ok(format!("{}-{}", commit.trim(), &hash[..8]))
}
