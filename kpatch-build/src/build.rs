//! From patch files and a kernel to the module of a livepatch.

mod acceptance;
mod applied;
mod callers;
mod compare;
mod inlining;
pub mod kbuild;
pub mod kernel_symbols;
mod layouts;
pub mod livepatch;
pub mod module;
pub mod no_lto;
mod on_stack;
pub mod pairs;
pub mod patchset;
pub mod recompile;
pub mod series;
pub mod site;
pub mod stock;
pub mod suggest;
pub mod thinlto;
pub mod timings;
pub mod way;
