//! `kernel …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PinnedKernel;
use crate::supply::fetch::{AUTOSIGNER, MIRROR};

/// `kernel …`.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// List the pinned versions, their configurations, and which are built
    List(KernelListArgs),
    /// Fetch, configure and build a kernel; does nothing if it is in the store
    Build(KernelBuildArgs),
    /// Pin a version, or create the manifest of a new series
    Add(KernelAddArgs),
    /// Pin the archive's newest version of each series, and list pins that are gone from it
    Update(KernelUpdateArgs),
    /// Add a local source tree to the store
    Import(KernelImportArgs),
}

/// `kernel list`.
#[derive(Debug, Clone, Args)]
pub struct KernelListArgs {
    /// List the kernels that the distribution's archives have now instead, which `--kernel RELEASE` takes
    #[arg(long)]
    pub distro: bool,
}

/// `kernel build`.
#[derive(Debug, Clone, Args)]
pub struct KernelBuildArgs {
    /// The kernel.
    #[command(flatten)]
    pub kernel: PinnedKernel,
    /// Parallel jobs [default: number of processors]
    #[arg(long, short, env = "KPATCH_JOBS", value_parser = super::parse_jobs)]
    pub jobs: Option<usize>,
    /// Install missing packages first
    #[arg(long)]
    pub install_deps: bool,
}

/// Which archive of packages to look into.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArgs {
    /// Take packages from this apt one-line entry instead of the machine's archive; its suite is
    /// replaced, e.g. "deb [signed-by=/keys.gpg] http://mirror.example/debian x main"
    #[arg(long, value_name = "ENTRY")]
    pub archive: Option<String>,
}

/// `kernel add`.
#[derive(Debug, Clone, Args)]
pub struct KernelAddArgs {
    /// A series without a manifest, e.g. 6.18, or an exact version, e.g. 6.12.117
    #[arg(value_name = "SERIES|VERSION")]
    pub kernel: String,
    /// Suites to search [default: those of all manifests]
    #[arg(long = "suite", value_name = "NAME")]
    pub suites: Vec<String>,
    /// Series to copy toolchains and configurations from [default: the nearest]
    #[arg(long, value_name = "SERIES")]
    pub like: Option<String>,
    /// The archive of packages.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Take an exact version from kernel.org, verified by its signed checksums
    #[arg(long, requires = "keyring", conflicts_with_all = ["suites", "archive"])]
    pub kernel_org: bool,
    /// Keyring with the signing key, not armoured
    #[arg(long, value_name = "FILE", requires = "kernel_org")]
    pub keyring: Option<PathBuf>,
    /// Fingerprint of that key [default: kernel.org's]
    #[arg(long, value_name = "FINGERPRINT", requires = "kernel_org", default_value = AUTOSIGNER, hide_default_value = true)]
    pub signer: String,
    /// Folder that contains v6.x
    #[arg(long, value_name = "URL", requires = "kernel_org", default_value = MIRROR)]
    pub mirror: String,
}

/// `kernel update`.
#[derive(Debug, Clone, Args)]
pub struct KernelUpdateArgs {
    /// Only this series [default: all]
    pub series: Option<String>,
    /// Only report, pin nothing
    #[arg(long)]
    pub check: bool,
    /// The archive of packages.
    #[command(flatten)]
    pub archive: ArchiveArgs,
}

/// `kernel import`.
#[derive(Debug, Clone, Args)]
pub struct KernelImportArgs {
    /// A tar archive, a source tree, or a git repository
    #[arg(value_name = "ARCHIVE|DIR")]
    pub from: PathBuf,
    /// Take this git revision instead of the working tree
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
}
