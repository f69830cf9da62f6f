//! `cargo xtask …`: the harness that proves the builder on real kernels, and the commands of `kpatch` from a checkout.
//!
//! ```text
//!  cases (testdata/corpus)  ──>  corpus.rs    Case, with variants
//!  places (kernels/*.yaml)  ──>  e2e/axis.rs  Place: kernel, architecture, toolchain, configuration
//!    │ trials: each case at each place               e2e/select.rs
//!    │ build, boot side by side, in batches          pipeline.rs, pipeline/workers.rs
//!    │ judge: outcome and snapshot                   e2e/judge.rs, snapshot.rs, snapfile.rs
//!    │ damage the good modules                       e2e/mutants.rs
//!    ▼ index.html, junit.xml, results.json           report.rs, report/
//! ```
//!
//! `survey` (survey/) takes the difference of two releases apart and tries each file; it shares [`pipeline`]. `bench`
//! (cmd/) measures. Building, booting and the stored kernels are the library's: [`kpatch_build`]. docs/HARNESS.md
//! describes the commands.

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
