//! Supplies kernels: manifests name them, sources are fetched and verified, and each build is made once and kept.

pub mod apt;
pub mod baseline;
pub mod deps;
pub mod fetch;
pub mod guest_busybox;
pub mod manifest;
pub mod place;
pub mod store;

use anyhow::Result;

use crate::outcome::Ending;
use crate::sh;
use crate::ui::Ui;
use manifest::Catalog;
use place::{Choice, Pinned};
use store::Store;

pub use baseline::Baseline;

/// How to supply a kernel.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of parallel jobs.
    pub jobs: usize,
    /// Whether missing packages may be installed.
    pub install_deps: bool,
    /// Whether the kernel will be booted, which needs more programs.
    pub boot: bool,
    /// Whether another version may be used if the pinned one is no longer available.
    pub allow_version_drift: bool,
    /// A compile cache that compilers are called through, e.g. `ccache`.
    pub launcher: Option<String>,
}

/// Finds the kernel, or fetches and builds it. First checks for the programs that this needs, or installs them.
///
/// Opens the store only for a kernel of the manifests.
pub fn kernel(
    choice: &Choice,
    options: &Options,
    catalog: &Catalog,
    store: &dyn Fn() -> Result<Store>,
    ui: &Ui,
) -> Result<Baseline> {
    match choice {
        Choice::Own(own) => {
            let own = baseline::own_kernel(&own.source, own.build.as_deref(), own.vmlinux.as_deref())?;
            // The tools that built it are there already, or compiling the first file reports what is missing.
            if options.boot {
                deps::ensure(&[deps::boot_job(own.kernel.arch)], options.install_deps, ui)?;
            }
            Ok(own)
        }
        Choice::Pinned(pinned) => pinned_kernel(pinned, options, catalog, store, ui),
    }
}

fn pinned_kernel(
    pinned: &Pinned,
    options: &Options,
    catalog: &Catalog,
    store: &dyn Fn() -> Result<Store>,
    ui: &Ui,
) -> Result<Baseline> {
    if let Some(launcher) = &options.launcher
        && sh::find(launcher).is_none()
    {
        return Err(Ending::usage(format!("--launcher: no program `{launcher}`")));
    }
    let (manifest, place) = catalog.place(pinned)?;
    let toolchain = manifest
        .arch(place.arch)?
        .toolchain(manifest.config(place.arch, &place.config)?, Some(&place.toolchain))?;
    let mut needed = deps::build_jobs(place.arch, toolchain);
    needed.extend(options.boot.then(|| deps::boot_job(place.arch)));
    deps::ensure(&needed, options.install_deps, ui)?;
    baseline::baseline(&store()?, &manifest, &place, options, ui)
}
