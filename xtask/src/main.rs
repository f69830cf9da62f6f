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
use crate::outcome::Ending;
use crate::summary::Summary;
use crate::ui::Ui;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return command_line_problem(&error),
    };
    let ui = Ui::new(cli.common.json, cli.common.verbose);
    let run = sh::handle_interrupts().and_then(|()| cmd::run(&cli, &ui));
    match run.and_then(|()| ui.delivered()) {
        Ok(()) => ExitCode::from(outcome::EXIT_OK),
        Err(error) => {
            ui::show_error(&error);
            let code = if sh::was_interrupted() {
                sh::EXIT_INTERRUPTED
            } else {
                outcome::exit_code(&error)
            };
            if cli.common.json {
                end_in_json(&ui, &error, code);
            }
            ExitCode::from(code)
        }
    }
}

/// Whoever asked for JSON gets a document also where nothing came of the run.
fn end_in_json(ui: &Ui, error: &anyhow::Error, code: u8) {
    if !ui.gave_json() {
        // A document that cannot be written changes nothing any more: the exit code tells the same.
        let _ = ui.json(&Summary::of_error(error, code, ui.phases()));
    }
}

fn command_line_problem(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a closed output.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            ExitCode::from(outcome::EXIT_OK)
        }
        _ => {
            // What was typed is not understood, so this is only known by its look.
            let mut options = std::env::args_os().take_while(|word| word != "--");
            if options.any(|word| word == "--json") {
                let text = error.to_string();
                let text = text.trim().trim_start_matches("error: ");
                end_in_json(&Ui::new(true, false), &Ending::usage(text), outcome::EXIT_USAGE);
            }
            ExitCode::from(outcome::EXIT_USAGE)
        }
    }
}
