//! Which kernel a command is about, as the user names it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::arch_parser;
use crate::kernel::Arch;
use crate::outcome::Ending;
use crate::program;
use crate::supply::Options;
use crate::supply::place::{Choice, Own, Pinned};
use crate::supply::stock::{self, ByHand, Parts, Stock};

/// The name of the kernel that this machine runs.
const RUNNING: &str = "running";

const KERNEL: &str = "Kernel";
const OWN: &str = "Your own kernel";
const ELSEWHERE: &str = "A kernel from elsewhere";

/// Which kernel, out of the manifests in kernels/.
#[derive(Debug, Clone, Args)]
pub struct PinnedKernel {
    /// Kernel series or exact version, e.g. 6.12 or 6.12.107; or a distribution's kernel by its release as `uname -r`
    /// prints it, or `running` for this machine's
    #[arg(long, value_name = "SERIES|VERSION|RELEASE", help_heading = KERNEL)]
    pub kernel: Option<String>,
    /// Configuration variant
    #[arg(long, value_name = "NAME", env = "KPATCH_CONFIG", default_value = "small", help_heading = KERNEL)]
    pub config: String,
    /// Processor architecture
    #[arg(long, value_parser = arch_parser(), env = "KPATCH_ARCH", default_value = "x86_64", help_heading = KERNEL)]
    pub arch: Arch,
    /// Toolchain [default: the configuration's first]
    #[arg(long, value_name = "NAME", env = "KPATCH_TOOLCHAIN", help_heading = KERNEL)]
    pub toolchain: Option<String>,
    /// Use the archive's current version if the pinned one is gone
    #[arg(long, help_heading = KERNEL)]
    pub allow_version_drift: bool,
    /// Build the kernel through a compiler cache, e.g. ccache or sccache
    #[arg(long, value_name = "PROGRAM", env = "KPATCH_LAUNCHER", help_heading = KERNEL)]
    pub launcher: Option<String>,
}

/// A kernel that the user has built.
#[derive(Debug, Clone, Args)]
pub struct OwnKernel {
    /// Source tree of a kernel you built; with --image or --packages, of that kernel
    #[arg(long, value_name = "DIR", conflicts_with = "kernel", help_heading = OWN)]
    pub source: Option<PathBuf>,
    /// Build directory of that kernel (the O= folder, or the source tree itself)
    #[arg(long, value_name = "DIR", conflicts_with = "kernel", requires = "source", help_heading = OWN)]
    pub build_dir: Option<PathBuf>,
    /// Unstripped vmlinux of that kernel [default: vmlinux in the build directory, if there is one]
    #[arg(long, value_name = "FILE", help_heading = OWN)]
    pub vmlinux: Option<PathBuf>,
}

impl OwnKernel {
    /// The user's own kernel, if it was named.
    pub fn choice(&self) -> Option<Own> {
        Some(Own {
            source: self.source.clone()?,
            build: self.build_dir.clone(),
            vmlinux: self.vmlinux.clone(),
        })
    }
}

impl PinnedKernel {
    /// Which kernel this is; the user's own comes first if it is named.
    pub fn choice(&self, own: Option<&OwnKernel>) -> Result<Choice> {
        if let Some(own) = own.and_then(OwnKernel::choice) {
            return match (&own.vmlinux, &own.build) {
                (Some(_), None) => Err(Ending::usage("--vmlinux needs --build-dir")),
                _ => Ok(Choice::Own(own)),
            };
        }
        if own.is_some_and(|own| own.vmlinux.is_some()) {
            return Err(Ending::usage("--vmlinux is for a kernel of your own, with --build-dir"));
        }
        match self.kernel.as_deref() {
            Some(name) if name == RUNNING || stock::is_release(name) => self.stock(name).map(Choice::Stock),
            _ => self.pinned().map(Choice::Pinned),
        }
    }

    fn stock(&self, name: &str) -> Result<Stock> {
        if self.arch != Arch::X86_64 {
            let text = format!("--kernel {name}: kernels of distributions are supported for x86_64 only");
            return Err(Ending::usage(text));
        }
        Ok(Stock {
            release: (name != RUNNING).then(|| name.to_owned()),
            ..Stock::default()
        })
    }

    /// The kernel of the manifests.
    pub fn pinned(&self) -> Result<Pinned> {
        let kernel = self.kernel.clone().ok_or_else(|| {
            Ending::usage(format!(
                "no kernel given: pass --kernel (`{}` shows them) or --source",
                program::command("kernel list")
            ))
        })?;
        Ok(Pinned {
            kernel,
            config: self.config.clone(),
            arch: self.arch,
            toolchain: self.toolchain.clone(),
        })
    }

    /// How it is to be supplied.
    pub fn options(&self, jobs: usize, install_deps: bool, boot: bool) -> Options {
        Options {
            jobs,
            install_deps,
            boot,
            allow_version_drift: self.allow_version_drift,
            launcher: self.launcher.clone(),
        }
    }
}

/// A kernel that others built, from what the user has of it.
#[derive(Debug, Clone, Args)]
pub struct ElsewhereKernel {
    /// Take a distribution's kernel from these .deb or .rpm files, or from those in this folder, instead of the archives:
    /// image, modules, headers and source, which may be named with --source instead; may be given several times
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "build_dir", help_heading = KERNEL)]
    pub packages: Vec<PathBuf>,
    /// Take a kernel that was built elsewhere, as you have unpacked it: its vmlinuz, and with --source its source
    #[arg(long, value_name = "FILE", requires_all = ["modules", "headers", "source"], conflicts_with_all = ["build_dir", "packages"], help_heading = ELSEWHERE)]
    pub image: Option<PathBuf>,
    /// Its modules: the folder lib/modules/RELEASE
    #[arg(long, value_name = "DIR", requires = "image", help_heading = ELSEWHERE)]
    pub modules: Option<PathBuf>,
    /// What its modules are built against: configuration, generated headers, Module.symvers, scripts, tools/objtool
    #[arg(long, value_name = "DIR", requires = "image", help_heading = ELSEWHERE)]
    pub headers: Option<PathBuf>,
}

impl ElsewhereKernel {
    /// A kernel that is in no archive of Debian's.
    fn by_hand(&self, own: &OwnKernel) -> Option<ByHand> {
        let source = own.source.clone();
        if let (Some(image), Some(modules), Some(headers), Some(source)) =
            (&self.image, &self.modules, &self.headers, &source)
        {
            return Some(ByHand::Parts(Parts {
                image: image.clone(),
                modules: modules.clone(),
                headers: headers.clone(),
                kbuild: None,
                source: source.clone(),
            }));
        }
        let is_it = !self.packages.is_empty() && (source.is_some() || stock::has_rpm(&self.packages));
        is_it.then(|| ByHand::Packages {
            files: self.packages.clone(),
            source,
        })
    }

    /// Which kernel this is.
    pub fn choice(&self, kernel: &PinnedKernel, own: &OwnKernel) -> Result<Choice> {
        if let Some(by_hand) = self.by_hand(own) {
            if let Some(name) = &kernel.kernel {
                let text = format!("--kernel {name}: the packages say which kernel they are of; leave it out");
                return Err(Ending::usage(text));
            }
            if own.vmlinux.is_some() {
                return Err(Ending::usage("--vmlinux is for a kernel of your own, with --build-dir"));
            }
            if kernel.arch != Arch::X86_64 {
                let arch = kernel.arch;
                let text = format!("--arch {arch}: kernels that were built elsewhere are supported for x86_64 only");
                return Err(Ending::usage(text));
            }
            return Ok(Choice::Stock(Stock {
                by_hand: Some(by_hand),
                ..Stock::default()
            }));
        }
        if self.packages.is_empty() {
            return kernel.choice(Some(own));
        }
        let mut stock = match kernel.kernel.as_deref() {
            None => Stock::default(),
            Some(name) if name != RUNNING && stock::is_release(name) => kernel.stock(name)?,
            Some(name) => {
                let text = format!("--kernel {name}: with --packages this is a release, as `uname -r` prints it");
                return Err(Ending::usage(text));
            }
        };
        stock.packages.clone_from(&self.packages);
        Ok(Choice::Stock(stock))
    }
}
