//! Downloads packages side by side. What an interrupted run has fetched already is not fetched again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use super::packages::Package;
use crate::sh;
use crate::supply::apt::PrivateApt;
use crate::supply::store::hash_file;
use crate::ui::{Phase, size};

/// Between two looks at how large the files are.
const LOOK: Duration = Duration::from_millis(250);

/// Where a package is, or will be. The name is its checksum, so that a half of one version is never taken for another's.
pub fn place(folder: &Path, package: &Package) -> PathBuf {
    folder.join(format!("{}.deb", package.sha256))
}

/// Downloads these packages into `folder` and hands each to `then` as soon as it is there. Every package has a thread of
/// its own, which downloads and goes on with it.
pub fn download(
    apt: &PrivateApt,
    packages: &[&Package],
    folder: &Path,
    phase: &Phase,
    then: &(dyn Fn(&Package, &Path) -> Result<()> + Sync),
) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let total: u64 = packages.iter().map(|package| package.size).sum();
    phase.expect_of("download", "MB", total / MB);
    let running = AtomicUsize::new(packages.len());
    let one = |package: &Package| {
        let file = place(folder, package);
        let done = fetch(apt, package, &file).and_then(|()| then(package, &file));
        running.fetch_sub(1, Ordering::SeqCst);
        done
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = packages.iter().map(|package| scope.spawn(|| one(package))).collect();
        let mut shown = 0;
        while running.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(LOOK);
            let here: u64 = packages.iter().map(|package| so_far(folder, package)).sum();
            phase.steps((here / MB).saturating_sub(shown));
            shown = shown.max(here / MB);
            if here == total {
                phase.message("unpacking");
            }
        }
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Vec<_>>().into_iter().collect()
    })
}

const MB: u64 = 1_000_000;

fn so_far(folder: &Path, package: &Package) -> u64 {
    let file = place(folder, package).metadata();
    file.map_or(0, |meta| meta.len().min(package.size))
}

fn fetch(apt: &PrivateApt, package: &Package, file: &Path) -> Result<()> {
    let is_whole = || file.metadata().is_ok_and(|meta| meta.len() == package.size);
    if is_whole() && hash_file(file).is_ok_and(|sum| sum == package.sha256) {
        return Ok(());
    }
    apt.fetch(&package.uri, &package.sha256, file)
}

/// What will be downloaded, for people: `linux-source-6.1 139 MB, …`.
pub fn announced(packages: &[&Package]) -> String {
    let each = packages
        .iter()
        .map(|package| format!("{} {} ({})", package.name, package.version, size(package.size)));
    each.collect::<Vec<_>>().join(", ")
}

/// Unpacks a package into a folder, as dpkg does, but installs nothing.
pub fn unpack(package: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    sh::output(sh::command("dpkg-deb").arg("-x").args([package, into])).map(drop)
}
