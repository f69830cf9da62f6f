//! Proves a livepatch: boots its kernel in QEMU, and loads, checks and unloads it there.

pub mod guest;
pub mod proof;
pub mod vm;
