//! The source tree out of its package, without what a livepatch for this processor never compiles.
//!
//! A whole tree takes 1.5 GB. Most of it is documentation, other architectures and large families of drivers; without
//! those it is a third. Headers and Makefiles of the drivers are always there, since others include them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::download;
use crate::sh;

/// The compressed tree within an entry of the store; the rest of it is unpacked when a patch wants it.
pub const ARCHIVE: &str = "source.tar.xz";

/// Folders in `arch` for other processors than x86.
const OTHER_ARCHES: [&str; 21] = [
    "alpha",
    "arc",
    "arm",
    "arm64",
    "csky",
    "h8300",
    "hexagon",
    "ia64",
    "loongarch",
    "m68k",
    "microblaze",
    "mips",
    "nios2",
    "openrisc",
    "parisc",
    "powerpc",
    "riscv",
    "s390",
    "sh",
    "sparc",
    "xtensa",
];

/// Folders that nothing of the kernel itself is compiled from.
const NEVER: [&str; 7] = [
    "Documentation/devicetree",
    "Documentation/translations",
    "tools/testing",
    "tools/perf",
    "tools/power",
    "tools/memory-model",
    "samples",
];

/// Folders whose C files are unpacked when a patch touches them. They are two thirds of the drivers.
const RARE: [&str; 8] = [
    "drivers/gpu",
    "drivers/infiniband",
    "drivers/media",
    "drivers/net/ethernet",
    "drivers/net/wireless",
    "drivers/scsi",
    "drivers/staging",
    "sound",
];

/// Headers that only the C files beside them include: registers of graphics processors, a quarter of the tree.
const RARE_HEADERS: [&str; 1] = ["drivers/gpu/drm/amd/include"];

/// How much of a source tree is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Without the C files of rarely patched drivers.
    Usual,
    /// All that can be compiled for the processor.
    Whole,
}

impl Extent {
    /// What patches need that touch these files, named from the top of the tree.
    pub fn for_files<'a>(mut files: impl Iterator<Item = &'a str>) -> Extent {
        let below = |file: &str, folder: &str| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let is_rare = |file: &str| RARE.iter().any(|folder| below(file, folder));
        // Any driver may include a header.
        match files.any(|file| is_rare(file) || file.ends_with(".h")) {
            true => Extent::Whole,
            false => Extent::Usual,
        }
    }

    /// What is left out of an archive whose files lie below `top`, as patterns of tar.
    fn left_out(self, top: &str) -> Vec<String> {
        let arches = OTHER_ARCHES.iter().map(|arch| format!("{top}/arch/{arch}"));
        let mut patterns: Vec<String> = arches
            .chain(NEVER.iter().map(|folder| format!("{top}/{folder}")))
            .collect();
        if self == Extent::Usual {
            patterns.extend(RARE.iter().map(|folder| format!("{top}/{folder}/*.c")));
            patterns.extend(RARE_HEADERS.iter().map(|folder| format!("{top}/{folder}")));
        }
        patterns
    }
}

/// Takes the archive out of a source package and puts it at `archive`. `scratch` is a folder for this alone.
pub fn take_archive(package: &Path, name: &str, scratch: &Path, archive: &Path) -> Result<()> {
    download::unpack(package, scratch)?;
    let inside = scratch.join("usr/src").join(format!("{name}.tar.xz"));
    std::fs::rename(&inside, archive).with_context(|| format!("{name} has no {}", inside.display()))?;
    std::fs::remove_dir_all(scratch).with_context(|| format!("cannot remove {}", scratch.display()))
}

/// Unpacks the archive of the source package `name` into a new folder.
pub fn unpack(archive: &Path, name: &str, extent: Extent, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut tar = sh::command("tar");
    // One block of the archive is 24 MB, so that xz can use every processor.
    tar.args(["--extract", "--use-compress-program", "xz -T0", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(into)
        .args([
            "--strip-components",
            "1",
            "--no-same-owner",
            "--anchored",
            "--wildcards",
            "--wildcards-match-slash",
        ]);
    for pattern in extent.left_out(name) {
        tar.arg(format!("--exclude={pattern}"));
    }
    sh::output(&mut tar)?;
    let makefile = into.join("Makefile");
    anyhow::ensure!(
        makefile.is_file(),
        "{} is no kernel source: it has no Makefile",
        archive.display()
    );
    Ok(())
}

/// The files that a patch names, from the top of the tree: what follows `--- a/` and `+++ b/`.
pub fn files_of_patches(patches: &[PathBuf]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for patch in patches {
        let text = std::fs::read(patch).with_context(|| format!("cannot read {}", patch.display()))?;
        files.extend(files_of_patch(&String::from_utf8_lossy(&text)));
    }
    Ok(files)
}

fn files_of_patch(text: &str) -> Vec<String> {
    let named = |line: &str| {
        let rest = line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ "))?;
        let path = rest.split(['\t', ' ']).next()?;
        Some(path.split_once('/')?.1.to_owned())
    };
    text.lines().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_of_a_rare_driver_or_a_header_needs_the_whole_tree() {
        let of = |text: &str| Extent::for_files(files_of_patch(text).iter().map(String::as_str));
        assert_eq!(of("--- a/fs/exec.c\n+++ b/fs/exec.c\n@@ -1 +1 @@\n"), Extent::Usual);
        assert_eq!(
            of("--- a/drivers/net/tun.c\t2020\n+++ b/drivers/net/tun.c\n"),
            Extent::Usual
        );
        assert_eq!(of("--- a/soundx/a.c\n"), Extent::Usual);
        assert_eq!(of("--- a/fs/internal.h\n"), Extent::Whole);
        assert_eq!(of("--- /dev/null\n+++ b/drivers/net/ethernet/a/b.c\n"), Extent::Whole);
        assert_eq!(of("--- old/sound/core/a.c\t2020\n"), Extent::Whole);
    }

    #[test]
    fn the_patterns_of_tar_leave_headers_and_this_processor() {
        let usual = Extent::Usual.left_out("linux-source-6.1");
        assert!(usual.contains(&"linux-source-6.1/sound/*.c".to_owned()));
        assert!(
            !usual
                .iter()
                .any(|pattern| pattern.ends_with("arch/x86") || pattern.ends_with("*.h"))
        );
        assert!(Extent::Whole.left_out("x").iter().all(|pattern| !pattern.contains('*')));
    }
}
