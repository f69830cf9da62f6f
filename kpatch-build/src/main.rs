//! `kpatch`: builds livepatches for Linux kernels and proves each one in a booted machine.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use kpatch_build::cli::settings::Settings;
use kpatch_build::cli::{BuilderCommand, Cli, Command, CompletionsArgs, ManArgs};
use kpatch_build::commands::build::Around;
use kpatch_build::commands::{self, Context};
use kpatch_build::run;

fn main() -> ExitCode {
    let settings = match Settings::read() {
        Ok(settings) => settings,
        Err(error) => return run::early_problem(&error),
    };
    let matches = settings.apply(Cli::command()).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return run::command_line_problem(&error),
    };
    match &cli.command {
        // These need nothing of the builder, and have exit codes of their own.
        Command::Machine(_) if cli.common.events.is_some() => {
            let text = "--events is for commands that build; this one has --json";
            run::command_line_problem(&Cli::command().error(ErrorKind::ArgumentConflict, text))
        }
        Command::Machine(command) => kpatch_runtime::commands::main(command, cli.common.json),
        Command::Builder(command) => run::program(&cli.common, |context| dispatch(command, &settings, context)),
    }
}

fn dispatch(command: &BuilderCommand, settings: &Settings, context: &Context<'_>) -> Result<()> {
    match command {
        BuilderCommand::Build(args) => commands::build::run(args, context, &Around::default()),
        BuilderCommand::Doctor(args) => commands::doctor::run(args, context),
        BuilderCommand::Store(command) => commands::store::run(command, context),
        BuilderCommand::Kernel(command) => commands::kernel(command, context),
        BuilderCommand::Package(args) => commands::package::run(args, context),
        BuilderCommand::Explain { code } => commands::explain::run(code, context),
        BuilderCommand::Config => commands::config::run(settings, context),
        BuilderCommand::Completions(args) => completions(args, context),
        BuilderCommand::Man(args) => man(args, context),
    }
}

fn completions(args: &CompletionsArgs, context: &Context<'_>) -> Result<()> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    context.ui.say(String::from_utf8_lossy(&script).trim_end());
    Ok(())
}

fn man(args: &ManArgs, context: &Context<'_>) -> Result<()> {
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot make {}", args.folder.display()))?;
    let command = match args.runtime {
        true => kpatch_runtime::cli::Cli::command(),
        false => Cli::command(),
    };
    clap_mangen::generate_to(command, &args.folder)
        .with_context(|| format!("cannot write into {}", args.folder.display()))?;
    context
        .ui
        .note(format!("manual pages written to {}", args.folder.display()));
    Ok(())
}
