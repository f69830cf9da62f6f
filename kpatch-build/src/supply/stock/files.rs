//! Packages that the user has already: nothing is looked up, and nothing is downloaded. Nobody signed them for us, so
//! whether they belong to the kernel that runs is the user's to say; that they belong to each other, the proof shows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::packages::{Index, Package, Whence};
use crate::outcome::Ending;
use crate::sh;
use crate::supply::store::hash_file;

/// What the address of such a package starts with.
const SCHEME: &str = "file://";

/// The packages of kernels among files and in folders.
///
/// # Errors
/// A usage error for a file that is no package.
pub fn index(paths: &[PathBuf]) -> Result<Index> {
    let mut index = Index::from(Whence::Files);
    for file in listed(paths)?.iter().filter(|file| has_ending(file, "deb")) {
        add(&mut index, file)?;
    }
    Ok(index)
}

/// The packages among files and in folders, those of a folder by name.
///
/// # Errors
/// A usage error for a file that is no package.
pub fn listed(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let is_package = |file: &Path| has_ending(file, "deb") || has_ending(file, "rpm");
    let mut files = Vec::new();
    for path in paths {
        let wrong = |why: String| Ending::usage(format!("--packages {}: {why}", path.display()));
        let found = path.canonicalize().map_err(|error| wrong(error.to_string()))?;
        if found.is_dir() {
            let entries = fs::read_dir(&found).with_context(|| format!("cannot list {}", found.display()))?;
            let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            inside.retain(|file| is_package(file));
            inside.sort();
            files.extend(inside);
        } else if is_package(&found) {
            files.push(found);
        } else {
            return Err(wrong("neither a .deb nor a .rpm file".to_owned()));
        }
    }
    Ok(files)
}

/// The release that these packages are of.
///
/// # Errors
/// A usage error if there is none or more than one.
pub fn only_release(index: &Index) -> Result<String> {
    match index.releases()[..] {
        [release] => Ok(release.to_owned()),
        [] => Err(Ending::usage("--packages: no linux-image package is among them")),
        ref several => Err(Ending::usage(format!(
            "--packages: which kernel? Name one of them with --kernel: {}",
            several.join(", ")
        ))),
    }
}

/// The file of a package that comes from here.
pub fn file_of(package: &Package) -> Option<&Path> {
    package.uri.strip_prefix(SCHEME).map(Path::new)
}

/// Whether a file's name ends so behind its last dot.
pub fn has_ending(file: &Path, ending: &str) -> bool {
    file.extension().is_some_and(|extension| extension == ending)
}

fn add(index: &mut Index, file: &Path) -> Result<()> {
    let control = sh::output(sh::command("dpkg-deb").arg("-f").arg(file))
        .map_err(|error| Ending::usage(format!("--packages {}: {error}", file.display())))?;
    let size = file.metadata().map(|meta| meta.len());
    let size = size.with_context(|| format!("cannot look at {}", file.display()))?;
    let sum = hash_file(file)?;
    let (folder, name) = (file.parent().unwrap_or(file), file.file_name().unwrap_or_default());
    let uri = format!("{SCHEME}{}", folder.display());
    let name = name.to_string_lossy();
    index.add(
        &uri,
        &format!(
            "{}\nFilename: {name}\nSize: {size}\nSHA256: {sum}\n",
            control.trim_end()
        ),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package with nothing in it.
    fn put(folder: &Path, name: &str, more: &str) -> PathBuf {
        let tree = folder.join(name);
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {name}\nVersion: 6.1.170-3\nArchitecture: all\nMaintainer: a test <t@example.org>\n{more}Description: x\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        let file = folder.join(format!("{name}.deb"));
        sh::output(sh::command("dpkg-deb").arg("-b").args([&tree, &file])).unwrap();
        fs::remove_dir_all(&tree).unwrap();
        file
    }

    #[test]
    fn packages_of_a_kernel_are_found_in_folders_and_by_name() {
        if sh::find("dpkg-deb").is_none() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for folder in [&one, &two] {
            fs::create_dir(folder).unwrap();
        }
        put(&one, "linux-image-6.1.0-47-amd64", "Built-Using: linux (= 6.1.170-3)\n");
        put(
            &one,
            "linux-headers-6.1.0-47-amd64",
            "Source: linux\nDepends: linux-kbuild-6.1\n",
        );
        put(&one, "linux-kbuild-6.1", "Source: linux\n");
        put(&one, "bash", "");
        let source = put(&two, "linux-source-6.1", "Source: linux\n");
        let found = index(&[one.clone(), source.clone()]).unwrap();
        let release = only_release(&found).unwrap();
        assert_eq!(release, "6.1.0-47-amd64");
        let packages = super::super::packages::choose(&found, &release, None).unwrap();
        assert_eq!(
            file_of(&packages.source),
            Some(source.canonicalize().unwrap().as_path())
        );
        assert_eq!(packages.source.sha256, hash_file(&source).unwrap());
        let lacks =
            super::super::packages::choose(&index(std::slice::from_ref(&one)).unwrap(), &release, None).unwrap_err();
        assert!(
            lacks.to_string().contains("linux-source-6.1") && lacks.to_string().contains("--packages"),
            "{lacks}"
        );
        let usage = |paths: &[PathBuf]| {
            let error = index(paths)
                .and_then(|index| only_release(&index).map(drop))
                .unwrap_err();
            (crate::outcome::exit_code(&error), error.to_string())
        };
        assert_eq!(usage(&[source]).0, crate::outcome::EXIT_USAGE);
        let rpm = folder.path().join("kernel.rpm");
        fs::write(&rpm, "x").unwrap();
        assert_eq!(usage(&[rpm]).0, crate::outcome::EXIT_USAGE);
        assert_eq!(usage(&[folder.path().join("gone")]).0, crate::outcome::EXIT_USAGE);
        put(&two, "linux-image-6.1.0-48-amd64", "");
        assert!(usage(&[one, two]).1.contains("6.1.0-48-amd64"));
    }
}
