//! Builds livepatches for Linux kernels and proves each one in a booted machine: a library, and the program `kpatch`.
//!
//! ```text
//!  kernel name or path                                                            commands/, cli/
//!    │ supply     from the store, fetched and built, or the user's    Baseline, KernelBuild    supply/
//!    ▼
//!  patch files
//!    │ kbuild     what the build compiled, how, into what             Kbuild, Tu               build/kbuild/
//!    │ patchset   parsed, judged, applied to copies                   PatchSet, Scope, Applied build/patchset/
//!    │ recompile  both sides; the original must reproduce             ChangedTu                build/recompile/
//!    │ layouts    structures, from DWARF of both sides                LayoutChange             build/layouts.rs
//!    │ thinlto    thin links and back ends; or no_lto: objects        Pairs                    build/pairs.rs
//!    │ kpatch-core: compare, select, resolve, emit                    Patch                    build/livepatch.rs
//!    ▼ module     kbuild and objtool, convert, check                  Module, Livepatch        build/module/
//!  a .ko
//!    ▼ prove      boot, check, load, check, unload, check             BootReport               prove/
//! ```
//!
//! The layers, each of which may use those above it in this table (`tests/house_rules.rs`). [`prove`] needs nothing of
//! [`build`] but where a build keeps its modules ([`build::kbuild::modules`]):
//!
//! | layer | gives | with |
//! |---|---|---|
//! | [`supply`] | a kernel | [`supply::Baseline`] |
//! | [`build`] | the livepatch | [`build::livepatch::Livepatch`] |
//! | [`prove`] | what a machine shows before, with and after it | [`prove::vm::BootReport`] |
//! | [`package`] | a livepatch as a package | [`package::Package`] |
//! | `summary`, `commands`, `cli` | what a person reads, and what can be typed (feature `cli`) | |
//!
//! Below all of them: [`sh`] starts programs, [`ui`] speaks to the user, [`progress`] is what long work tells it,
//! [`yaml`] reads files, [`kernel`] says what a kernel is, [`output`] puts files where they were asked for, and [`outcome`]
//! says how a run ends.
//!
//! A livepatch from another program: [`supply::kernel`] for the kernel, [`build::livepatch::build`] for the module.

pub mod kernel;
pub mod outcome;
pub mod output;
pub mod program;
pub mod progress;
pub mod sh;
pub mod ui;
pub mod yaml;

pub mod supply;

pub mod build;

pub mod prove;

pub mod package;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod commands;
#[cfg(feature = "cli")]
pub mod run;
#[cfg(feature = "cli")]
pub mod summary;
