//! How a program of this crate begins and ends: interrupts, exit code, and a JSON document at every ending.

use std::process::ExitCode;

use anyhow::Result;
use clap::error::ErrorKind;

use crate::cli::Common;
use crate::commands::Context;
use crate::outcome::{self, Ending, Kind};
use crate::sh;
use crate::summary::Summary;
use crate::supply::manifest::Catalog;
use crate::ui::Ui;

/// Runs a command with the kernels built into this program, or those of `--kernels`.
pub fn program(common: &Common, command: impl FnOnce(&Context<'_>) -> Result<()>) -> ExitCode {
    program_with(common, Catalog::BuiltIn, command)
}

/// Runs a command with these kernels, unless `--kernels` names others.
pub fn program_with(common: &Common, catalog: Catalog, command: impl FnOnce(&Context<'_>) -> Result<()>) -> ExitCode {
    let ui = match &common.events {
        None => Ui::new(common.json, common.verbose),
        Some(to) => match Ui::with_events(common.json, common.verbose, to) {
            Ok(ui) => ui,
            Err(error) => return ended(&Ui::new(common.json, common.verbose), &error),
        },
    };
    // Events on standard output have the document among them.
    let common = Common {
        json: ui.wants_json(),
        ..common.clone()
    };
    let catalog = common.kernels.clone().map_or(catalog, Catalog::Folder);
    let context = Context {
        common: &common,
        catalog: &catalog,
        ui: &ui,
    };
    let ran = sh::handle_interrupts().and_then(|()| command(&context));
    match ran.and_then(|()| ui.delivered()) {
        Ok(()) => {
            ui.ended(outcome::EXIT_OK);
            // The last event is written after all others were asked for.
            match ui.delivered() {
                Ok(()) => ExitCode::from(outcome::EXIT_OK),
                Err(error) => ended(&ui, &error),
            }
        }
        Err(error) => ended(&ui, &error),
    }
}

/// Shows the error that ends a run. Whoever asked for JSON gets a document also where nothing came of the run.
pub fn ended(ui: &Ui, error: &anyhow::Error) -> ExitCode {
    ui.error(error);
    let code = outcome::exit_code(error);
    end_in_json(ui, error, Kind::of(error));
    ui.ended(code);
    ExitCode::from(code)
}

fn end_in_json(ui: &Ui, error: &anyhow::Error, kind: Kind) {
    if ui.wants_json() && !ui.gave_json() {
        // A document that cannot be written changes nothing any more: the exit code tells the same.
        let _ = ui.document(Summary::of_error(error, kind, ui.phases()));
    }
}

/// Shows an error that was found before the command line was read.
pub fn early_problem(error: &anyhow::Error) -> ExitCode {
    ended(&Ui::new(looks_like_json(), false), error)
}

/// Whether JSON was asked for, by the look of the command line: what was typed is not understood yet, or not at all.
fn looks_like_json() -> bool {
    let mut options = std::env::args_os().take_while(|word| word != "--");
    options.any(|word| word == "--json")
}

/// Shows what is wrong with the command line, or the help that was asked for.
pub fn command_line_problem(error: &clap::Error) -> ExitCode {
    // Nothing can be done about a closed output.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::from(outcome::EXIT_OK),
        _ => {
            if looks_like_json() {
                let text = error.to_string();
                let text = text.trim().trim_start_matches("error: ");
                end_in_json(&Ui::new(true, false), &Ending::usage(text), Kind::Usage);
            }
            ExitCode::from(outcome::EXIT_USAGE)
        }
    }
}
