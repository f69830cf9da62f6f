//! A finished kernel build, as every later step sees it: read only.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Processor architecture of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit little-endian PowerPC, ELFv2
    Ppc64le,
    /// 64-bit little-endian Arm
    Arm64,
    /// 64-bit IBM Z, big endian
    S390x,
}

impl Arch {
    /// Every architecture that a kernel can be built for.
    pub const ALL: [Arch; 4] = [Arch::X86_64, Arch::Ppc64le, Arch::Arm64, Arch::S390x];

    /// Its name here, in manifests and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Ppc64le => "ppc64le",
            Arch::Arm64 => "arm64",
            Arch::S390x => "s390x",
        }
    }

    /// That of this machine; nothing if no kernels are built for such machines.
    pub fn of_this_machine() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "powerpc64" if cfg!(target_endian = "little") => Some(Arch::Ppc64le),
            "aarch64" => Some(Arch::Arm64),
            "s390x" => Some(Arch::S390x),
            _ => None,
        }
    }

    /// What the names of GNU's programs for it begin with, where they are not the machine's own, and a `-` behind it.
    pub fn triplet(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-linux-gnu",
            Arch::Ppc64le => "powerpc64le-linux-gnu",
            Arch::Arm64 => "aarch64-linux-gnu",
            Arch::S390x => "s390x-linux-gnu",
        }
    }

    /// What Debian calls it.
    pub fn debian_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Ppc64le => "ppc64el",
            Arch::Arm64 => "arm64",
            Arch::S390x => "s390x",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Arch::ALL.into_iter().find(|arch| arch.name() == name);
        known.ok_or_else(|| {
            let names = Arch::ALL.map(Arch::name).join(", ");
            format!("unknown architecture `{name}`; known: {names}")
        })
    }
}

/// A kernel that a livepatch is made for.
#[derive(Debug, Clone, Copy)]
pub enum Kernel<'a> {
    /// With the records of how it was built.
    Recorded(&'a KernelBuild),
    /// As a distribution ships it.
    Stock(&'a StockKernel),
}

impl<'a> Kernel<'a> {
    /// As `uname -r` prints it.
    pub fn release(self) -> &'a str {
        match self {
            Kernel::Recorded(kernel) => &kernel.release,
            Kernel::Stock(kernel) => &kernel.release,
        }
    }

    /// Architecture.
    pub fn arch(self) -> Arch {
        match self {
            Kernel::Recorded(kernel) => kernel.arch,
            Kernel::Stock(kernel) => kernel.arch,
        }
    }

    /// The source tree.
    pub fn source(self) -> &'a Path {
        match self {
            Kernel::Recorded(kernel) => &kernel.source,
            Kernel::Stock(kernel) => &kernel.source,
        }
    }

    /// The folder with `.config` that kbuild works in: the build directory, or what stands for it.
    pub fn objects(self) -> &'a Path {
        match self {
            Kernel::Recorded(kernel) => &kernel.build,
            Kernel::Stock(kernel) => &kernel.objects,
        }
    }
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
    /// Architecture that the kernel was built for.
    pub arch: Arch,
    /// `include/config/kernel.release`, e.g. `6.12.107`.
    pub release: String,
    /// Identity of this build: the store key, or for a user's build a hash over vmlinux and .config.
    pub id: String,
    /// What the tools said while it was built; `None` if nobody kept it.
    pub log: Option<PathBuf>,
}

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
    /// How the compiler of CC_VERSION_TEXT is started.
    pub tools: Tools,
    /// Build id of the image in hex, from its ELF note.
    pub build_id: String,
    /// Tells it from every other kernel and state of a source tree, for what is kept between runs: the build id, and for a
    /// source of the user's what that looks like.
    pub id: String,
}

#[cfg(test)]
impl StockKernel {
    /// One whose parts are in folders of their names in `root`.
    pub fn fake(root: &Path) -> StockKernel {
        StockKernel {
            release: "6.1".into(),
            version: "6.1-1".into(),
            arch: Arch::X86_64,
            source: root.join("source"),
            objects: root.join("objects"),
            vmlinuz: root.join("vmlinuz"),
            modules: root.join("modules"),
            tools: Tools::default(),
            build_id: "0".into(),
            id: "0".into(),
        }
    }
}

/// The exact compiler of a stock kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    /// Folders in front of PATH: wrappers that enter the unpacked compiler root, or nothing for the machine's own.
    pub path: Vec<PathBuf>,
    /// Arguments for make: `CC=gcc-12`, maybe `CROSS_COMPILE=…`, `HOSTCC=…`.
    pub make: Vec<String>,
}
