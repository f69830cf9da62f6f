//! From patch files and a kernel to the module of a livepatch.

mod acceptance;
mod applied;
mod callers;
pub mod causes;
mod compare;
pub mod fates;
mod inlining;
pub mod intake;
pub mod kbuild;
pub mod kernel_symbols;
mod layouts;
pub mod leave_out;
pub mod livepatch;
pub mod module;
pub mod no_lto;
mod on_stack;
pub mod pairs;
pub mod patchset;
pub mod recompile;
pub mod series;
mod shipped;
pub mod site;
pub mod stock;
pub mod suggest;
pub mod thinlto;
pub mod timings;
pub mod way;
