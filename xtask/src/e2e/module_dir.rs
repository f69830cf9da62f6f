//! Modules outside of the kernel's tree: a case has their sources, and they are built as anybody builds them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::untouched;
use kpatch_build::build::kbuild::{self, ModuleFolder};
use kpatch_build::build::module::toolchain;
use kpatch_build::kernel::Kernel;
use kpatch_build::sh;

/// Does something that must leave the folder as it is, to the change time of every file.
pub fn unwritten<T>(folder: Option<&ModuleFolder>, work: &dyn Fn() -> Result<T>) -> Result<T> {
    let Some(folder) = folder else { return work() };
    let path = [folder.path.as_path()];
    let before = untouched::traces(&path, true)?;
    let done = work();
    untouched::compare(&before, &untouched::traces(&path, true)?, "building the livepatch")?;
    done
}

/// Copies the sources into the work folder of the case and builds them there, with the compiler of the kernel.
pub fn build(kernel: Kernel<'_>, source: &Path, work: &Path, jobs: usize) -> Result<ModuleFolder> {
    let Kernel::Recorded(kernel) = kernel else {
        bail!(
            "{} can be built for kernels with a build directory only",
            source.display()
        );
    };
    fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    let folder = work.join("module-dir");
    sh::output(sh::command("cp").arg("-r").arg("--").arg(source).arg(&folder))
        .with_context(|| format!("cannot copy {}", source.display()))?;
    let mut make = sh::command("make");
    make.arg("-C")
        .arg(&kernel.build)
        .args(toolchain(kernel.arch, &kbuild::compiler_of(&kernel.build)?))
        .arg(format!("M={}", folder.display()))
        .arg(format!("-j{jobs}"))
        .arg("modules");
    sh::output(&mut make).with_context(|| format!("cannot build {}", source.display()))?;
    ModuleFolder::open(&folder, kernel)
}
