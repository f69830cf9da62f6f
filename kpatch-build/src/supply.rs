//! Supplies kernels: manifests name them, sources are fetched and verified, and each build is made once and kept.

pub mod apt;
pub mod baseline;
pub mod deps;
pub mod fetch;
pub mod guest_busybox;
pub mod manifest;
pub mod place;
pub mod stock;
pub mod store;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::kernel::{Arch, Kernel};
use crate::outcome::Ending;
use crate::sh;
use crate::ui::Ui;
use manifest::Catalog;
use place::{Choice, Pinned};
use store::Store;

pub use baseline::Baseline;

/// A kernel that a livepatch can be built for: with the records of its build, or as a distribution ships it.
#[derive(Debug)]
pub enum Supply {
    /// From the store, or the user's own.
    Recorded(Baseline),
    /// Out of a distribution's packages.
    Stock(stock::Supplied),
}

impl Supply {
    /// The kernel.
    pub fn kernel(&self) -> Kernel<'_> {
        match self {
            Supply::Recorded(baseline) => Kernel::Recorded(&baseline.kernel),
            Supply::Stock(supplied) => Kernel::Stock(&supplied.kernel),
        }
    }

    /// The image that QEMU boots, if there is one.
    pub fn image(&self) -> Option<&Path> {
        match self {
            Supply::Recorded(baseline) => baseline.image.as_deref(),
            Supply::Stock(supplied) => Some(&supplied.kernel.vmlinuz),
        }
    }
}

/// Finds the kernel that these patches are for. One of a distribution is fetched, and nothing is built.
pub fn kernel_for(
    patches: &[PathBuf],
    choice: &Choice,
    options: &Options,
    catalog: &Catalog,
    store: &dyn Fn() -> Result<Store>,
    ui: &Ui,
) -> Result<Supply> {
    let Choice::Stock(wanted) = choice else {
        return kernel(choice, options, catalog, store, ui).map(Supply::Recorded);
    };
    stock::expect_machine()?;
    let mut needed = vec![deps::stock_job()];
    needed.extend(wanted.has_rpm().then(deps::rpm_job));
    needed.extend(options.boot.then(|| deps::boot_job(Arch::X86_64)));
    deps::ensure(&needed, options.install_deps, ui)?;
    let supplied = stock::supply(&store()?, wanted, patches, ui)?;
    for note in &supplied.notes {
        ui.note(note);
    }
    Ok(Supply::Stock(supplied))
}

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
        Choice::Stock(stock) => {
            let name = stock.release.as_deref().unwrap_or("the running kernel");
            let text = format!("{name} is a distribution's kernel; this needs one that was built here");
            Err(Ending::usage(text))
        }
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
