//! From patch files and a kernel to the module of a livepatch.

mod accepted;
mod inlining;
pub mod kbuild;
mod layouts;
pub mod livepatch;
pub mod module;
pub mod no_lto;
pub mod pairs;
pub mod patchset;
pub mod recompile;
pub mod target;
pub mod thinlto;
