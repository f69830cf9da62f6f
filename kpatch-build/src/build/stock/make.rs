//! How kbuild is started for a stock kernel, whose packages have no build directory.

use std::path::Path;
use std::process::Command;

use crate::build::kbuild::Trees;
use crate::kernel::{Arch, StockKernel};
use crate::sh;

/// `make` with the top Makefile, so far as it can run: it would first look after the configuration and the build's own
/// programs, for which the packages do not have all sources. What it sets up before that is set up here, and both steps
/// count as done. Goals are still to be added.
pub fn command(stock: &StockKernel, trees: &Trees, jobs: usize, more: Option<&Path>) -> Command {
    let source = trees.source.display();
    let mut make = sh::command("make");
    make.current_dir(&trees.build)
        .env("sub_make_done", "1")
        .env("abs_srctree", &trees.source)
        .env("abs_objtree", &trees.build)
        // Under these names since 6.13.
        .env("srcroot", &trees.source)
        .env("objtree", ".")
        .env("quiet", "quiet_")
        .env("Q", "@")
        .args([
            "-k",
            "-rR",
            "--no-print-directory",
            &format!("-j{jobs}"),
            &format!("--include-dir={source}"),
        ])
        .args(["-f", &format!("{source}/Makefile")])
        .args(more.into_iter().flat_map(|more| [Path::new("-f"), more]))
        .args(["-o", "prepare", "-o", "scripts"])
        .args(&stock.tools.make)
        .arg(match stock.arch {
            Arch::X86_64 => "ARCH=x86",
            Arch::Ppc64le => "ARCH=powerpc",
            Arch::Arm64 => "ARCH=arm64",
            Arch::S390x => "ARCH=s390",
        })
        .arg(format!("KERNELRELEASE={}", stock.release));
    if let Some(path) = sh::path_with(&stock.tools.path) {
        make.env("PATH", path);
    }
    make
}
