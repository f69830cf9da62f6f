//! `cargo xtask …`: the commands of `kpatch` out of this checkout, and the harness that proves them on real kernels.

mod cli;
mod cmd;
mod corpus;
mod e2e;
mod lanes;
mod project;
mod report;
mod survey;

use std::process::ExitCode;

use clap::Parser;
use kpatch_build::supply::manifest::Catalog;
use kpatch_build::{program, run};

use crate::cli::Cli;

fn main() -> ExitCode {
    program::is(program::XTASK);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return run::command_line_problem(&error),
    };
    let kernels = Catalog::Folder(project::root().join("kernels"));
    run::program_with(&cli.common, kernels, |context| cmd::run(&cli.command, context))
}
