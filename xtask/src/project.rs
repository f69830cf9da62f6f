//! The checkout that this program was built from: it has the corpus, the snapshots and the manifests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use kpatch_build::sh;
use kpatch_build::supply::store::hash_file;

pub fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`; the compiled-in value serves when the program is started by hand.
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(Path::to_owned).unwrap_or(package)
}

/// Which state of the tool this is: the commit that is checked out, with the hash of the program: the one says to people what it is, the other is true
/// also if the program was not built again since the last commit.
pub fn identity() -> Result<String> {
    let mut git = sh::command("git");
    git.arg("-C").arg(root()).args(["rev-parse", "--short=12", "HEAD"]);
    let commit = sh::output(&mut git).unwrap_or_else(|_| "unknown".to_owned());
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(format!("{}-{}", commit.trim(), &hash_file(&program)?[..8]))
}
