//! The commands. Each of the harness has a file of its own; the others are those of `kpatch`.

pub mod bench;
pub mod bench_differ;
pub mod bench_peer;
pub mod bench_wide;
pub mod e2e;
pub mod survey;

use anyhow::Result;
use kpatch_build::cli::BuildArgs;
use kpatch_build::commands::{self, Context};
use kpatch_build::supply::place::{Choice, Place};

use crate::cli::{BenchCommand, Command};
use crate::corpus;
use crate::project;

/// Runs the command that was typed.
pub fn run(command: &Command, context: &Context<'_>) -> Result<()> {
    match command {
        Command::BuildPatch(args) => {
            let around = commands::build::Around {
                find_setup: &|patches| corpus::setup(patches, place(args, context)?.as_ref()),
                tool: &|| Ok(format!("{} at {}", commands::build::VERSION, project::identity()?)),
            };
            commands::build::run(args, context, &around)
        }
        Command::Doctor(args) => commands::doctor::run(args, context),
        Command::Store(command) => commands::store::run(command, context),
        Command::Kernel(command) => commands::kernel(command, context),
        Command::Bench(BenchCommand::Patch(args)) => bench::patch(args, context),
        Command::Bench(BenchCommand::Differ(args)) => bench_differ::differ(args, context),
        Command::Bench(BenchCommand::Wide(args)) => bench_wide::wide(args, context),
        Command::E2e(args) => e2e::run(args, context),
        Command::Survey(args) => survey::run(args, context),
    }
}

/// The place of the matrix that a livepatch is built for; the user's own kernel has none.
fn place(args: &BuildArgs, context: &Context<'_>) -> Result<Option<Place>> {
    Ok(match args.kernel.choice(Some(&args.own))? {
        Choice::Own(_) | Choice::Stock(_) => None,
        Choice::Pinned(pinned) => Some(context.catalog.place(&pinned)?.1),
    })
}
