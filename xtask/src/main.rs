//! `cargo xtask …`: builds livepatches for real kernels and proves them in booted machines.

mod kbuild;
mod kernel;
mod outcome;
mod pairs;
mod patchset;
mod recompile;
mod sh;
mod thinlto;
mod vm;

fn main() {}
