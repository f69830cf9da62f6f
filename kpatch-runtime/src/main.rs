//! `kpatch` for machines that run livepatches and build none.

use std::process::ExitCode;

use clap::Parser;
use kpatch_runtime::cli::Cli;
use kpatch_runtime::commands;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed output.
            let _ = error.print();
            return match error.kind() {
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(kpatch_runtime::error::EXIT_USAGE),
            };
        }
    };
    commands::main(&cli.command, cli.json)
}
