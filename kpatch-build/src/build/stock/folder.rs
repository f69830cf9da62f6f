//! A folder that looks like the build directory of a stock kernel, in which kbuild can write.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::kernel::StockKernel;

/// What kbuild only reads when it compiles one file or links a module.
const READ_ONLY: [&str; 4] = ["include", "scripts", "tools", "source"];
/// No object folder is deeper; a loop of links must not hang.
const DEEPEST: usize = 40;

/// Makes the folder: real directories, and in them links to the files of the kernel's object folder. The lists of
/// modules come from where the modules are.
pub fn make(stock: &StockKernel, folder: &Path) -> Result<PathBuf> {
    fill(&stock.objects, folder, 0)?;
    for list in ["modules.order", "modules.builtin"] {
        let (from, to) = (stock.modules.join(list), folder.join(list));
        if from.is_file() && to.symlink_metadata().is_err() {
            link(&from, &to)?;
        }
    }
    let folder = folder.canonicalize();
    folder.context("cannot find the folder that kbuild is to work in")
}

fn fill(from: &Path, to: &Path, depth: usize) -> Result<()> {
    if depth > DEEPEST {
        bail!("{} has too many levels", from.display());
    }
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        let (name, kind) = (entry.file_name(), entry.file_type());
        let kind = kind.with_context(|| format!("cannot look at {}", entry.path().display()))?;
        let stays = depth == 0 && name.to_str().is_some_and(|name| READ_ONLY.contains(&name));
        if kind.is_dir() && !stays {
            fill(&entry.path(), &to.join(name), depth + 1)?;
        } else {
            link(&entry.path(), &to.join(name))?;
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<()> {
    let from = from
        .canonicalize()
        .with_context(|| format!("cannot find {}", from.display()))?;
    symlink(&from, to).with_context(|| format!("cannot make a link at {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::put;

    #[test]
    fn kbuild_writes_beside_the_kernels_files_and_never_into_its_folders() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        put(root.path(), "objects/include/a.h", b"a");
        put(root.path(), "objects/arch/x86/b.h", b"b");
        put(root.path(), "objects/Makefile", b"include x");
        put(root.path(), "modules/modules.order", b"kernel/fs/a.ko\n");
        let stock = StockKernel::fake(root.path());
        let made = make(&stock, &at("work/kernel")).unwrap();
        assert!(made.join("include").is_symlink());
        assert!(!made.join("arch/x86").is_symlink() && made.join("arch/x86/b.h").is_symlink());
        assert_eq!(fs::read(made.join("modules.order")).unwrap(), b"kernel/fs/a.ko\n");
        put(&made, "arch/x86/c.o", b"c");
        put(&made, "fs/d.o", b"d");
        assert!(!at("objects/arch/x86/c.o").exists() && !at("objects/fs").exists());
    }
}
