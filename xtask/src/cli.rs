//! The command line: what can be typed. Nothing here touches the world.

mod e2e;
mod survey;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kpatch_build::cli::{BuildArgs, Common, DoctorArgs, KernelCommand, PinnedKernel, StoreCommand};

pub use e2e::{E2eArgs, E2eCommand, E2eRunArgs};
pub use survey::SurveyArgs;

/// Builds livepatches for Linux kernels, proves each one in a booted machine, and tests the tool that does it
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What is true of every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands: those of `kpatch`, and those of the harness.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a livepatch module from source patches
    BuildPatch(Box<BuildArgs>),
    /// Check that this machine has what is needed, and say how to get the rest
    Doctor(DoctorArgs),
    /// Manage the store: sources, kernel builds, caches
    #[command(subcommand)]
    Store(StoreCommand),
    /// The kernels that livepatches can be built for
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Measure
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Build, boot and judge the cases of testdata/corpus
    E2e(E2eArgs),
    /// Try how much of the difference of two releases can be livepatched, file by file
    Survey(SurveyArgs),
}

/// `bench …`.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// How long build-patch takes for the cases of the corpus, phase by phase
    Patch(BenchPatchArgs),
    /// How long comparing two builds of the whole image takes, against merely reading and hashing them
    Differ(BenchDifferArgs),
    /// How long patches of widely read headers take, against compiling all files that read them
    Wide(BenchWideArgs),
}

/// `bench differ`.
#[derive(Debug, Clone, Args)]
pub struct BenchDifferArgs {
    /// Source patch that makes the second build differ [default: one of the corpus]
    pub patch: Option<PathBuf>,
    /// The kernel.
    #[command(flatten)]
    pub kernel: PinnedKernel,
    /// Runs of each measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Instead: time kpatch's create-diff-object beside ours, over the pairs of a folder
    #[arg(long, value_name = "PROGRAM", requires = "peer_objects")]
    pub peer: Option<PathBuf>,
    /// The folder of the pairs, NAME.orig.o and NAME.patched.o, there or one folder deeper
    ///
    /// An expectations.yaml in it may name the pairs instead, with variables for both programs:
    /// `pairs: [{case: x86_64/NAME, env: {JUMP_STRUCT_SIZE: 16}}]`.
    #[arg(long, value_name = "DIR", requires = "peer")]
    pub peer_objects: Option<PathBuf>,
}

/// `bench patch`.
#[derive(Debug, Clone, Args)]
pub struct BenchPatchArgs {
    /// Only the cases whose name contains one of these
    pub cases: Vec<String>,
    /// The kernel.
    #[command(flatten)]
    pub kernel: PinnedKernel,
    /// Runs of each case
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Jobs at a time [default: number of processors]
    #[arg(long, short, env = "KPATCH_JOBS", value_parser = kpatch_build::cli::parse_jobs)]
    pub jobs: Option<usize>,
}

/// `bench wide`.
#[derive(Debug, Clone, Args)]
pub struct BenchWideArgs {
    /// The kernel.
    #[command(flatten)]
    pub kernel: PinnedKernel,
    /// Runs after the first one of each case
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Compile only what can be affected; else each case is built with all readers, too, which takes minutes
    #[arg(long)]
    pub skip_all_readers: bool,
    /// Jobs at a time [default: number of processors]
    #[arg(long, short, env = "KPATCH_JOBS", value_parser = kpatch_build::cli::parse_jobs)]
    pub jobs: Option<usize>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
