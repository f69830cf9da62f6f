//! What can be typed behind `survey`.

use std::path::PathBuf;

use clap::Args;

use kpatch_build::kernel::Arch;

/// `survey`.
#[derive(Debug, Clone, Args)]
pub struct SurveyArgs {
    /// The kernel that runs: a version of kernels/, e.g. 6.12.107
    #[arg(long, value_name = "VERSION")]
    pub from: String,
    /// The release with the changes, e.g. 6.12.117
    #[arg(long, value_name = "VERSION")]
    pub to: String,
    /// Configuration variant
    #[arg(long, value_name = "NAME", default_value = "small")]
    pub config: String,
    /// Processor architecture
    #[arg(long, value_enum, default_value = "x86_64")]
    pub arch: Arch,
    /// Toolchain, if not the usual one of the configuration
    #[arg(long, value_name = "NAME")]
    pub toolchain: Option<String>,
    /// Only this many files, spread evenly over the tree
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Leave out files that more than N objects are made from: each is compiled again for such a header
    #[arg(long, value_name = "N")]
    pub widest: Option<usize>,
    /// Build the modules, boot nothing
    #[arg(long)]
    pub no_boot: bool,
    /// Also count what earlier states of this tool found out, except what a repair may have changed
    #[arg(long)]
    pub reuse: bool,
    /// Try nothing: write the files as a series for `build-patch`, one patch each, into this folder, so that they become one
    /// livepatch
    #[arg(long, value_name = "DIR", conflicts_with_all = ["known", "csv", "report", "no_boot"])]
    pub series: Option<PathBuf>,
    /// Try nothing, show what is known
    #[arg(long, conflicts_with = "no_boot")]
    pub known: bool,
    /// Write one line for each file into this file
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the report (HTML, JSON, CSV) into this folder
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Jobs at a time [default: number of processors]
    #[arg(long, short)]
    pub jobs: Option<usize>,
    /// Install missing packages first
    #[arg(long)]
    pub install_deps: bool,
}
