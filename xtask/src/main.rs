//! `cargo xtask …`: builds livepatches for real kernels and proves them in booted machines.

mod corpus;
mod kernel;
mod outcome;
mod yaml;

fn main() {}
