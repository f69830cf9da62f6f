//! A distribution's own kernel, out of its packages: nothing is built, nothing is installed.

pub mod vmlinuz;

use std::path::PathBuf;

use crate::kernel::Arch;

/// A distribution's kernel, unpacked into the store: everything that building and proving a livepatch for it needs.
/// Read only.
#[derive(Debug, Clone)]
pub struct StockKernel {
    /// As `uname -r` prints it: `6.1.0-47-cloud-amd64`.
    pub release: String,
    /// Version of the source package: `6.1.170-3`.
    pub version: String,
    /// Architecture.
    pub arch: Arch,
    /// Unpacked source tree (with the distribution's patches), complete enough to compile what the configuration has.
    pub source: PathBuf,
    /// Object folder in which kbuild can compile one file or link a module: `.config`, `include/`, `arch/`, `scripts/`,
    /// `tools/`, `Module.symvers`. It has no vmlinux and no objects.
    pub objects: PathBuf,
    /// Compressed image as shipped.
    pub vmlinuz: PathBuf,
    /// `lib/modules/RELEASE` as shipped; modules may be compressed (`.ko`, `.ko.xz`, `.ko.zst`).
    pub modules: PathBuf,
    /// Unstripped image from the debug package, if the user gave one.
    pub vmlinux: Option<PathBuf>,
    /// How the compiler of CC_VERSION_TEXT is started.
    pub tools: Tools,
    /// Build id of the image in hex, from its ELF note; names the folder in the store.
    pub build_id: String,
}

/// The exact compiler of a stock kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// Folders in front of PATH: wrappers that enter the unpacked compiler root, or nothing for the machine's own.
    pub path: Vec<PathBuf>,
    /// Arguments for make: `CC=gcc-12`, maybe `CROSS_COMPILE=…`, `HOSTCC=…`.
    pub make: Vec<String>,
}
