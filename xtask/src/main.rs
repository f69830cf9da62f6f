//! `cargo xtask …`: the commands of `kpatch` out of this checkout, and the harness that proves them on real kernels.

mod cli;
mod cmd;
mod corpus;
mod e2e;
mod pipeline;
mod project;
mod report;
mod survey;

use std::process::ExitCode;

use clap::Parser;
use kpatch_build::run;
use kpatch_build::supply::manifest::Catalog;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return run::command_line_problem(&error),
    };
    let kernels = Catalog::Folder(project::root().join("kernels"));
    run::program_with(&cli.common, kernels, |context| cmd::run(&cli.command, context))
}
