//! Builds livepatches for Linux kernels and proves each one in a booted machine.
//!
//! The way of a patch, storey by storey. Each storey uses only those above it in this list:
//!
//! | storey | gives | with |
//! |---|---|---|
//! | [`supply`] | a kernel: out of the store, fetched and built, or the user's own | [`supply::Baseline`] |
//! | [`build`] | the livepatch: patch → recompiled files → pairs of objects → `kpatch-core` → module | [`build::livepatch::Livepatch`] |
//! | [`prove`] | what a machine that boots the kernel shows before, with and after the livepatch | [`prove::vm::BootReport`] |
//! | `summary`, `commands`, `cli` | what a person reads, and what can be typed (feature `cli`) | |
//!
//! Below all of them: [`sh`] starts programs, [`ui`] speaks to the user, [`progress`] is what long work tells it, [`yaml`] reads files, [`kernel`] says what a
//! kernel is, and [`outcome`] how a run ends.

pub mod kernel;
pub mod outcome;
pub mod program;
pub mod progress;
pub mod sh;
pub mod ui;
pub mod yaml;

pub mod supply;

pub mod build;

pub mod prove;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod commands;
#[cfg(feature = "cli")]
pub mod run;
#[cfg(feature = "cli")]
pub mod summary;
