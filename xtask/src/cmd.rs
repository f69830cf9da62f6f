//! The commands. Each has a file of its own; this one only says which is which.

pub mod bench;
pub mod bench_differ;
pub mod bench_peer;
pub mod build_patch;
pub mod doctor;
pub mod e2e;
pub mod kernel;
pub mod pins;
pub mod store;
pub mod survey;

use anyhow::Result;

use crate::cli::{BenchCommand, Cli, Command, Common, KernelCommand};
use crate::store::Store;
use crate::ui::Ui;

/// What every command gets.
pub struct Context<'a> {
    /// Options of every command.
    pub common: &'a Common,
    /// How to speak.
    pub ui: &'a Ui,
}

impl Context<'_> {
    /// The store that was asked for. Opened by the commands that use it, so that the others work without one.
    pub fn store(&self) -> Result<Store> {
        Store::open(self.common.store.as_deref())
    }
}

/// Runs the command that was typed.
pub fn run(cli: &Cli, ui: &Ui) -> Result<()> {
    let context = Context {
        common: &cli.common,
        ui,
    };
    match &cli.command {
        Command::BuildPatch(args) => build_patch::run(args, &context),
        Command::Doctor(args) => doctor::run(args, &context),
        Command::Store(command) => store::run(command, &context),
        Command::Kernel(KernelCommand::List) => kernel::list(&context),
        Command::Kernel(KernelCommand::Build(args)) => kernel::build(args, &context),
        Command::Kernel(KernelCommand::Add(args)) => pins::add(args, &context),
        Command::Kernel(KernelCommand::Update(args)) => pins::update(args, &context),
        Command::Kernel(KernelCommand::Import(args)) => pins::import(args, &context),
        Command::Bench(BenchCommand::Patch(args)) => bench::patch(args, &context),
        Command::Bench(BenchCommand::Differ(args)) => bench_differ::differ(args, &context),
        Command::E2e(args) => e2e::run(args, &context),
        Command::Survey(args) => survey::run(args, &context),
    }
}
