//! Whether a livepatch does what it should: a kernel boots in QEMU, and a plan loads, checks and unloads it.

pub mod guest;
pub mod proof;
pub mod vm;
