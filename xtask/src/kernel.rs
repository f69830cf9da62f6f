//! A finished kernel build, as every later step sees it: read only.

use std::path::PathBuf;

/// Processor architecture of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit little-endian PowerPC, ELFv2
    Ppc64le,
}

/// A finished kernel build: made by us in the store, or the user's own. Nothing in it is ever written.
#[derive(Debug, Clone)]
pub struct KernelBuild {
    /// Absolute path of the source tree.
    pub source: PathBuf,
    /// Absolute path of the build directory (the same as `source` for an in-tree build).
    pub build: PathBuf,
    /// The unstripped image whose symbols the running kernel has.
    pub vmlinux: PathBuf,
    /// Architecture.
    pub arch: Arch,
    /// `include/config/kernel.release`, e.g. `6.12.107`.
    pub release: String,
    /// Identity of this build: the store key, or for a user's build a hash over vmlinux and .config.
    pub id: String,
}
