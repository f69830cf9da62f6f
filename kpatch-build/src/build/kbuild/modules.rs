//! The lists of modules that a build leaves, and the names that the running kernel has for them.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::trees::normalise;

/// The name that the running kernel has for a module, from its file.
pub fn name_of_ko(ko: &Path) -> String {
    ko.file_stem()
        .map(|stem| stem.to_string_lossy().replace('-', "_"))
        .unwrap_or_default()
}

/// The modules of a build in the order of `modules.order`, relative to it and without an ending: `fs/ext4/ext4`. A kernel
/// without modules has no list.
pub fn listed(build: &Path) -> Result<Vec<String>> {
    // Until 6.2 the list names the finished `.ko`, later the object before the last link.
    let stem = |line: &str| {
        let path = normalise(Path::new(line)).to_string_lossy().into_owned();
        let stem = path.strip_suffix(".ko").or_else(|| path.strip_suffix(".o"));
        stem.map(str::to_owned).unwrap_or(path)
    };
    Ok(list(&build.join("modules.order"))?
        .split_whitespace()
        .map(stem)
        .collect())
}

/// The files of the modules of a build, in the same order.
pub fn files(build: &Path) -> Result<Vec<PathBuf>> {
    let stems = listed(build)?.into_iter();
    Ok(stems.map(|stem| build.join(format!("{stem}.ko"))).collect())
}

/// Names of what could be modules and is part of the image (Documentation/kbuild/kbuild.rst, `modules.builtin`).
pub fn built_in(build: &Path) -> Result<BTreeSet<String>> {
    let text = list(&build.join("modules.builtin"))?;
    Ok(text.lines().map(|line| name_of_ko(Path::new(line))).collect())
}

fn list(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_modules_is_read_in_each_of_its_forms() {
        let build = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(build.path().join("modules.order"), text).unwrap();
        for form in ["fs/a.b/x-y.ko\n./fs/z.ko\n", "fs/a.b/x-y.o\nfs/z.o\n"] {
            write(form);
            assert_eq!(listed(build.path()).unwrap(), ["fs/a.b/x-y", "fs/z"]);
            let names: Vec<_> = files(build.path()).unwrap().iter().map(|ko| name_of_ko(ko)).collect();
            assert_eq!(names, ["x_y", "z"]);
        }
    }

    #[test]
    fn a_kernel_without_modules_has_no_lists() {
        let build = tempfile::tempdir().unwrap();
        assert!(listed(build.path()).unwrap().is_empty());
        assert!(built_in(build.path()).unwrap().is_empty());
        // What is there and cannot be read is another matter.
        fs::create_dir(build.path().join("modules.order")).unwrap();
        assert!(listed(build.path()).is_err());
    }

    #[test]
    fn what_is_built_in_goes_by_the_name_of_a_module() {
        let build = tempfile::tempdir().unwrap();
        fs::write(build.path().join("modules.builtin"), "kernel/lib/zstd/zstd-common.ko\n").unwrap();
        assert_eq!(
            built_in(build.path()).unwrap(),
            BTreeSet::from(["zstd_common".to_owned()])
        );
    }
}
