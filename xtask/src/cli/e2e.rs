//! What can be typed behind `e2e`: it is longer than all other commands together.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::e2e::select::Shard;
use kpatch_build::cli::OwnKernel;

/// `e2e`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct E2eArgs {
    /// Something to do with the results of earlier runs.
    #[command(subcommand)]
    pub command: Option<E2eCommand>,
    /// What to run.
    #[command(flatten)]
    pub run: E2eRunArgs,
}

/// `e2e …` without building anything.
#[derive(Debug, Clone, Subcommand)]
pub enum E2eCommand {
    /// Show how the snapshots of one case differ between two kernels, architectures, toolchains or configurations
    Compare(CompareArgs),
    /// Put the results of several shards together, and fail if one is missing
    Merge(MergeArgs),
}

/// `e2e compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Name of the case
    pub case: String,
    /// One side, e.g. 6.12/x86_64/clang-19/small
    pub left: String,
    /// The other side
    pub right: String,
}

/// `e2e merge`.
#[derive(Debug, Clone, Args)]
pub struct MergeArgs {
    /// The results.json of each shard, or folders that contain them
    #[arg(required = true)]
    pub results: Vec<PathBuf>,
    /// The matrix that was run, as `e2e --list --json` printed it
    #[arg(long, value_name = "FILE")]
    pub matrix: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "DIR")]
    pub report: PathBuf,
}

/// `e2e` as a run.
#[derive(Debug, Clone, Args)]
pub struct E2eRunArgs {
    /// Only the cases whose name contains one of these
    pub cases: Vec<String>,
    /// Only the cases whose name matches one of these patterns, with * and ?, or the case in this folder
    #[arg(long = "case", value_name = "GLOB|DIR")]
    pub named: Vec<String>,
    /// Kernel series or exact version, or `all` kernels of the manifests; or the release of a distribution's kernel
    #[arg(long, value_name = "SERIES|VERSION|RELEASE|all")]
    pub kernel: Option<String>,
    /// Processor architecture, or `all`
    #[arg(long, value_name = "NAME|all", default_value = "x86_64")]
    pub arch: String,
    /// Toolchain as in `e2e --list`, or `all`
    #[arg(long, value_name = "NAME|all", default_value = "all")]
    pub toolchain: String,
    /// Configuration variant, or `all`
    #[arg(long, value_name = "NAME|all", default_value = "small")]
    pub config: String,
    /// Take the version the archive has when the pinned one has left it
    #[arg(long)]
    pub allow_version_drift: bool,
    /// Build kernels through a compiler cache, e.g. ccache or sccache
    #[arg(long, value_name = "PROGRAM")]
    pub launcher: Option<String>,
    /// The user's own kernel instead.
    #[command(flatten)]
    pub own: OwnKernel,
    /// Only the cases marked quick
    #[arg(long)]
    pub quick: bool,
    /// Only this part of the trials, e.g. 2/3
    #[arg(long, value_name = "I/N", value_parser = str::parse::<Shard>)]
    pub shard: Option<Shard>,
    /// Print what would run; with --json as the matrix of a CI workflow
    #[arg(long)]
    pub list: bool,
    /// Write the snapshots instead of comparing with them
    #[arg(long)]
    pub bless: bool,
    /// Write the report (HTML, JSON, JUnit XML, Markdown) into this folder
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Damage the good modules one rule at a time, and show that each damaged one is caught
    #[arg(long, conflicts_with_all = ["no_boot", "bless"])]
    pub mutants: bool,
    /// Also kill build-patch at this many random moments, and check that source tree and build directory are untouched
    #[arg(long, value_name = "RUNS", default_value_t = 0)]
    pub kill: u32,
    /// Build the modules, boot nothing
    #[arg(long)]
    pub no_boot: bool,
    /// Keep the work folders; those of failed cases are kept anyway
    #[arg(long)]
    pub keep: bool,
    /// Jobs at a time [default: number of processors]
    #[arg(long, short)]
    pub jobs: Option<usize>,
    /// Install missing packages first
    #[arg(long)]
    pub install_deps: bool,
    /// Options of the standard test harness: --exact, --skip, --format, a filter …
    #[arg(last = true, value_name = "TEST OPTIONS")]
    pub libtest: Vec<String>,
}
