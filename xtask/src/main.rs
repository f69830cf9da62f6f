//! `cargo xtask …`: builds livepatches for real kernels and proves them in booted machines.

mod accepted;
mod apt;
mod baseline;
mod cli;
mod cmd;
mod corpus;
mod deps;
mod e2e;
mod fetch;
mod foreign;
mod guest;
mod inlining;
mod kbuild;
mod kernel;
mod lanes;
mod layouts;
mod livepatch;
mod manifest;
mod module;
mod native;
mod outcome;
mod pairs;
mod patchset;
mod proof;
mod recompile;
mod report;
mod sh;
mod store;
mod summary;
mod survey;
mod target;
mod thinlto;
mod ui;
mod vm;
mod yaml;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::ui::Ui;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return command_line_problem(&error),
    };
    let ui = Ui::new(cli.common.json, cli.common.verbose);
    match sh::handle_interrupts().and_then(|()| cmd::run(&cli, &ui)) {
        Ok(()) => ExitCode::from(outcome::EXIT_OK),
        Err(error) => {
            ui::show_error(&error);
            let asked_to_end = sh::was_interrupted();
            ExitCode::from(if asked_to_end {
                sh::EXIT_INTERRUPTED
            } else {
                outcome::exit_code(&error)
            })
        }
    }
}

fn command_line_problem(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a closed output.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ExitCode::from(outcome::EXIT_OK)
        }
        _ => ExitCode::from(outcome::EXIT_USAGE),
    }
}
