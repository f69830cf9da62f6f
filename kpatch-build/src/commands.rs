//! The commands of `kpatch`. Each has a file of its own; this one only says what all of them get.

pub mod build;
pub mod config;
mod distro;
pub mod doctor;
pub mod explain;
pub mod kernel;
pub mod package;
mod pins;
pub mod save_case;
pub mod store;

use anyhow::Result;

use crate::cli::{Common, KernelCommand};
use crate::supply::manifest::Catalog;
use crate::supply::store::{Objects, Store};
use crate::ui::{Ui, waiting};

/// What every command gets.
pub struct Context<'a> {
    /// Options of every command.
    pub common: &'a Common,
    /// The kernels that can be named.
    pub catalog: &'a Catalog,
    /// Where messages and progress go.
    pub ui: &'a Ui,
}

impl Context<'_> {
    /// The store that was asked for. Opened by the commands that use it, so that the others work without one.
    pub fn store(&self) -> Result<Store> {
        Store::open(self.common.store.as_deref())
    }

    /// The cache of what can be made again, held for as long as the value lives.
    pub fn objects(&self, store: &Store) -> Result<Objects> {
        store.objects(&|holder, so_far| self.ui.note(waiting(holder, so_far)))
    }
}

/// Runs `kernel …`.
pub fn kernel(command: &KernelCommand, context: &Context<'_>) -> Result<()> {
    match command {
        KernelCommand::List(args) if args.distro => distro::list(context),
        KernelCommand::List(_) => kernel::list(context),
        KernelCommand::Build(args) => kernel::build(args, context),
        KernelCommand::Add(args) => pins::add(args, context),
        KernelCommand::Update(args) => pins::update(args, context),
        KernelCommand::Import(args) => pins::import(args, context),
    }
}

#[cfg(test)]
mod contract;
