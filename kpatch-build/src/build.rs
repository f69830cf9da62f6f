//! From patch files and a kernel to the module of a livepatch.

mod accepted;
mod applied;
mod compare;
mod inlining;
pub mod kbuild;
mod layouts;
pub mod livepatch;
pub mod module;
pub mod no_lto;
pub mod pairs;
pub mod patchset;
pub mod recompile;
pub mod site;
pub mod stock;
pub mod target;
pub mod thinlto;
pub mod timings;
pub mod way;
