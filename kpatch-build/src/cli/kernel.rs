//! `cargo xtask kernel …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::PinnedKernel;
use crate::supply::fetch::{AUTOSIGNER, MIRROR};

/// `kernel …`.
#[derive(Debug, Subcommand)]
pub enum KernelCommand {
    /// List the pinned versions, their configurations, and what of them is in the store
    List,
    /// Fetch, configure and build a kernel into the store; nothing if it is there
    Build(KernelBuildArgs),
    /// Pin a version, or make a manifest for a series that has none
    Add(KernelAddArgs),
    /// Pin the newest version that the archive has of each series, and say which pins have left it
    Update(KernelUpdateArgs),
    /// Take a source tree of this machine into the store
    Import(KernelImportArgs),
}

/// `kernel build`.
#[derive(Debug, Clone, Args)]
pub struct KernelBuildArgs {
    /// The kernel.
    #[command(flatten)]
    pub kernel: PinnedKernel,
    /// Jobs at a time [default: number of processors]
    #[arg(long, short)]
    pub jobs: Option<usize>,
    /// Install missing packages first
    #[arg(long)]
    pub install_deps: bool,
}

/// Which archive of packages to look into.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArgs {
    /// An entry of apt's one-line format to take packages from instead of the machine's archive; only its suite is
    /// exchanged, e.g. "deb [signed-by=/keys.gpg] http://mirror.example/debian x main"
    #[arg(long, value_name = "ENTRY")]
    pub archive: Option<String>,
}

/// `kernel add`.
#[derive(Debug, Clone, Args)]
pub struct KernelAddArgs {
    /// A series without a manifest, e.g. 6.18, or an exact version, e.g. 6.12.117
    #[arg(value_name = "SERIES|VERSION")]
    pub kernel: String,
    /// Suites to look into [default: those of all manifests]
    #[arg(long = "suite", value_name = "NAME")]
    pub suites: Vec<String>,
    /// The series whose toolchains and configurations a new manifest takes over [default: the nearest]
    #[arg(long, value_name = "SERIES")]
    pub like: Option<String>,
    /// The archive of packages.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Take an exact version from kernel.org instead; its signed list of checksums vouches for it
    #[arg(long, requires = "keyring", conflicts_with_all = ["suites", "archive"])]
    pub kernel_org: bool,
    /// Keyring with the key that signs the list, not armoured
    #[arg(long, value_name = "FILE", requires = "kernel_org")]
    pub keyring: Option<PathBuf>,
    /// Fingerprint of that key [default: the one of kernel.org]
    #[arg(long, value_name = "FINGERPRINT", requires = "kernel_org", default_value = AUTOSIGNER, hide_default_value = true)]
    pub signer: String,
    /// Folder that has v6.x
    #[arg(long, value_name = "URL", requires = "kernel_org", default_value = MIRROR)]
    pub mirror: String,
}

/// `kernel update`.
#[derive(Debug, Clone, Args)]
pub struct KernelUpdateArgs {
    /// Only this series [default: all]
    pub series: Option<String>,
    /// Only say what there is
    #[arg(long)]
    pub check: bool,
    /// The archive of packages.
    #[command(flatten)]
    pub archive: ArchiveArgs,
}

/// `kernel import`.
#[derive(Debug, Clone, Args)]
pub struct KernelImportArgs {
    /// An archive that tar can read, a source tree, or a git repository
    #[arg(value_name = "ARCHIVE|DIR")]
    pub from: PathBuf,
    /// Take this revision of the repository, and not its working tree
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
}
