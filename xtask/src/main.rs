//! `cargo xtask …`: builds livepatches for real kernels and proves them in booted machines.

mod kernel;
mod outcome;
mod vm;

fn main() {}
