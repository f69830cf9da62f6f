//! The commands. Each of the harness has a file of its own; the others are those of `kpatch`.

pub mod bench;
pub mod bench_differ;
pub mod bench_peer;
pub mod e2e;
pub mod survey;

use anyhow::Result;
use kpatch_build::commands::{self, Context};

use crate::cli::{BenchCommand, Command};
use crate::corpus;

/// Runs the command that was typed.
pub fn run(command: &Command, context: &Context<'_>) -> Result<()> {
    match command {
        Command::BuildPatch(args) => {
            commands::build::run(args, context, &|patches| corpus::setup(patches, args, context.catalog))
        }
        Command::Doctor(args) => commands::doctor::run(args, context),
        Command::Store(command) => commands::store::run(command, context),
        Command::Kernel(command) => commands::kernel(command, context),
        Command::Bench(BenchCommand::Patch(args)) => bench::patch(args, context),
        Command::Bench(BenchCommand::Differ(args)) => bench_differ::differ(args, context),
        Command::E2e(args) => e2e::run(args, context),
        Command::Survey(args) => survey::run(args, context),
    }
}
