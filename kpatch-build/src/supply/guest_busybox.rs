//! Programs for guests of another architecture, from Debian packages of that architecture.
//!
//! A private apt, configured for that architecture, fetches the package, and one file of it is kept. Nothing is
//! installed, and the system's package manager does not know of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::kernel::Arch;
use crate::outcome::Ending;
use crate::sh;
use crate::supply::apt::{PrivateApt, debian_codename};

const PACKAGE: &str = "busybox-static";
/// Different versions of the package have it at different paths.
const MEMBERS: [&str; 2] = ["bin/busybox", "usr/bin/busybox"];

/// A static busybox for guests of this architecture, from `cache` or fetched into it; `None` if the host's own works.
pub fn busybox(arch: Arch, cache: &Path) -> Result<Option<PathBuf>> {
    if Some(arch) == Arch::of_this_machine() {
        return Ok(None);
    }
    let debian_name = arch.debian_name();
    let area = cache.join("guest-programs");
    let kept = area.join(format!("busybox-{debian_name}"));
    if kept.is_file() {
        return Ok(Some(kept));
    }
    fs::create_dir_all(&area).with_context(|| format!("cannot make {}", area.display()))?;
    let folder = tempfile::tempdir_in(&area).with_context(|| format!("cannot make a folder in {}", area.display()))?;
    let program = unpacked(debian_name, folder.path())?;
    // Renamed into place, so that a concurrent run never sees a partial file.
    fs::rename(&program, &kept).with_context(|| format!("cannot make {}", kept.display()))?;
    Ok(Some(kept))
}

fn unpacked(architecture: &str, folder: &Path) -> Result<PathBuf> {
    let apt = PrivateApt::of_architecture(folder, &[&debian_codename()?], architecture)?;
    let versions = apt.versions(PACKAGE)?;
    let newest = versions
        .first()
        .ok_or_else(|| Ending::infrastructure(format!("no package {PACKAGE} for {architecture} in the archive")))?;
    let packages = folder.join("packages");
    let contents = folder.join("contents");
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    let package = apt.download(PACKAGE, newest, &packages)?;
    sh::output(sh::command("dpkg-deb").arg("-x").args([&package, &contents]))?;
    let found = MEMBERS
        .iter()
        .map(|member| contents.join(member))
        .find(|path| path.is_file());
    found.with_context(|| format!("{} has no busybox", package.display()))
}
