//! Packages of a kernel by other makers than Debian: RPM packages of a distribution, and what `make bindeb-pkg` and
//! `make rpm-pkg` of the kernel itself make. Names and divisions differ, so all are unpacked into one folder, and the parts
//! are found by where they are installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::by_hand::Parts;
use super::files::has_ending;
use super::{download, files};
use crate::outcome::Ending;
use crate::sh;
use crate::supply::store::{InputHasher, Store, Unpacked, hash_file, require_space};
use crate::ui::{Ui, waiting};

/// Where the packages are unpacked within the entry, and where the source is.
const ROOT: &str = "root";
const SOURCE: &str = "source";

/// Bytes that packages expand to, for each byte of theirs.
const GROWTH: u64 = 8;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    about: String,
    unpacked_files: Vec<String>,
}

/// Whether an RPM package is among these. What cannot be listed is reported when it is read.
pub fn has_rpm(paths: &[PathBuf]) -> bool {
    paths.iter().any(|path| {
        let inside = fs::read_dir(path).into_iter().flatten().flatten();
        let mut all = inside.map(|entry| entry.path()).chain([path.clone()]);
        all.any(|file| has_ending(&file, "rpm"))
    })
}

/// Unpacks the packages into the store, and finds the parts of the kernel among what they install.
///
/// # Errors
/// A usage error that names the part that is in none of them.
pub fn unpacked(store: &Store, paths: &[PathBuf], source: Option<&Path>, ui: &Ui) -> Result<(Parts, Unpacked)> {
    let files = files::listed(paths)?;
    if files.is_empty() {
        return Err(Ending::usage("--packages: no package is there"));
    }
    let mut inputs = InputHasher::new("unpacked packages");
    let mut size = 0;
    for file in &files {
        inputs = inputs.input("package", hash_file(file)?.as_bytes());
        size += file.metadata().map_or(0, |meta| meta.len());
    }
    // The source package is unpacked only for who wants it.
    let inputs = inputs.input("source", &[u8::from(source.is_none())]);
    let key = format!("packages-{}", &inputs.finish()[..16]);
    let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
    let _guard = store.fetch_lock(&key, &wait)?;
    let entry = match store.unpacked(&key, &wait)? {
        Some(entry) => entry,
        None => ui.phase("unpack the packages", |phase| {
            require_space(store.root(), GROWTH * size, "the unpacked packages")?;
            let new = store.new_unpacked()?;
            let root = new.folder().join(ROOT);
            fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
            for file in &files {
                phase.message(&format!("unpacking {}", name_of(file)));
                // In a folder of its own: through a link of one package, another could write anywhere.
                let alone = new.folder().join("alone");
                unpack(file, &alone)?;
                merge(&alone, &root, file)?;
                fs::remove_dir_all(&alone).with_context(|| format!("cannot remove {}", alone.display()))?;
            }
            if source.is_none() {
                phase.message("unpacking the source");
                unpack_source(&root, &new.folder().join(SOURCE))?;
            }
            let record = Record {
                about: format!("packages: {}", names(&files).join(", ")),
                unpacked_files: names(&files),
            };
            store.add_unpacked(new, &key, &record, &wait)
        })?,
    };
    let own = entry.folder.join(SOURCE);
    let parts = parts(&entry.folder.join(ROOT), source.unwrap_or(&own))?;
    Ok((parts, entry))
}

fn names(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|file| name_of(file)).collect()
}

fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// bsdtar reads RPM packages of every compression, and writes nothing outside the folder, nor through a link.
fn unpack(file: &Path, into: &Path) -> Result<()> {
    if has_ending(file, "deb") {
        return download::unpack(file, into);
    }
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut bsdtar = sh::command("bsdtar");
    bsdtar
        .arg("--extract")
        .arg("--no-same-owner")
        .arg("--no-same-permissions");
    bsdtar.arg("--file").arg(file).arg("--directory").arg(into);
    sh::output(&mut bsdtar)
        .map(drop)
        .with_context(|| format!("{} cannot be unpacked", name_of(file)))
}

/// Moves what one package has to what others have.
///
/// # Errors
/// A usage error for a file that two packages have with different contents.
fn merge(from: &Path, to: &Path, package: &Path) -> Result<()> {
    let cannot = || format!("cannot merge {} into {}", from.display(), to.display());
    let Ok(there) = to.symlink_metadata() else {
        return fs::rename(from, to).with_context(cannot);
    };
    let here = from.symlink_metadata().with_context(cannot)?;
    if here.is_dir() && there.is_dir() {
        for entry in fs::read_dir(from).with_context(cannot)? {
            let name = entry.with_context(cannot)?.file_name();
            merge(&from.join(&name), &to.join(&name), package)?;
        }
        return Ok(());
    }
    let is_same = match (here.is_symlink(), there.is_symlink()) {
        (true, true) => fs::read_link(from).ok() == fs::read_link(to).ok(),
        (false, false) => here.is_file() && there.is_file() && fs::read(from).ok() == fs::read(to).ok(),
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    let name = name_of(to);
    Err(Ending::usage(format!(
        "--packages: {} has a {name} that another of the packages has otherwise; give those of one kernel",
        name_of(package)
    )))
}

/// Unpacks the archive of a source package: one archive, and no patches whose order only its spec file knows.
fn unpack_source(root: &Path, into: &Path) -> Result<()> {
    let places = [root.to_owned(), root.join("usr/src")];
    let entries = places
        .iter()
        .flat_map(|place| fs::read_dir(place).into_iter().flatten());
    let entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let is_archive = |name: &str| name.starts_with("linux") && name.contains(".tar");
    let mut archives = entries.iter().filter(|file| is_archive(&name_of(file)));
    let advice = "unpack the source as its package builds it (`rpmbuild -bp`, or the .deb of the source), and pass it with --source";
    let (Some(archive), None) = (archives.next(), archives.next()) else {
        return Err(Ending::usage(format!(
            "--packages: no source package is among them; {advice}"
        )));
    };
    let has_text = |file: &Path| file.metadata().is_ok_and(|meta| meta.len() > 0);
    if let Some(patch) = entries.iter().find(|file| has_ending(file, "patch") && has_text(file)) {
        let name = name_of(patch);
        return Err(Ending::usage(format!(
            "--packages: the source package has patches, such as {name}; {advice}"
        )));
    }
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut tar = sh::command("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(into);
    tar.args(["--strip-components", "1", "--no-same-owner"]);
    sh::output(&mut tar).map(drop)
}

/// The parts of one kernel in the root of unpacked packages.
fn parts(root: &Path, source: &Path) -> Result<Parts> {
    let lacks = |what: &str| Ending::usage(format!("--packages: no package among them has {what}"));
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place));
    let modules = only(&modules, "modules", |folder| folder.join("modules.builtin").is_file())?;
    let modules = modules.ok_or_else(|| lacks("the modules (lib/modules/RELEASE)"))?;
    let release = name_of(&modules);
    let images = [
        modules.join("vmlinuz"),
        root.join(format!("boot/vmlinuz-{release}")),
        root.join(format!("usr/lib/modules/{release}/vmlinuz")),
    ];
    let image = images.into_iter().find(|path| path.is_file());
    let headers = [
        root.join(format!("usr/src/linux-headers-{release}")),
        root.join(format!("usr/src/kernels/{release}")),
        root.join("usr/src"),
    ];
    let is_headers = |folder: &&PathBuf| folder.join("Module.symvers").is_file();
    let below = fs::read_dir(&headers[2]).into_iter().flatten().flatten();
    let mut named = headers.into_iter().chain(below.map(|entry| entry.path()));
    let headers = named.find(|folder| is_headers(&folder));
    let kbuild = only(&[root.join("usr/lib")], "build programs", |folder| {
        name_of(folder).starts_with("linux-kbuild-")
    })?;
    Ok(Parts {
        image: image.ok_or_else(|| lacks(&format!("the image of {release} (vmlinuz)")))?,
        headers: headers.ok_or_else(|| lacks(&format!("the headers of {release} (kernel-devel, linux-headers)")))?,
        modules,
        kbuild,
        source: source.to_owned(),
    })
}

/// The folder in one of these places that is one of a kind.
fn only(places: &[PathBuf], what: &str, is_it: impl Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
    let entries = places
        .iter()
        .flat_map(|place| fs::read_dir(place).into_iter().flatten());
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| is_it(path));
    match (found.next(), found.next()) {
        (Some(one), Some(other)) => Err(Ending::usage(format!(
            "--packages: {what} of two kernels, {} and {}; give those of one",
            name_of(&one),
            name_of(&other)
        ))),
        (one, _) => Ok(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{EXIT_USAGE, exit_code};

    fn put(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn usage(error: &anyhow::Error) -> String {
        assert_eq!(exit_code(error), EXIT_USAGE, "{error:#}");
        error.to_string()
    }

    #[test]
    fn parts_are_found_where_packages_install_them() {
        let rpm = ["lib/modules/6.12.1-1.fc42/", "usr/src/kernels/6.12.1-1.fc42/"];
        let deb = ["lib/modules/6.12.1/", "usr/src/linux-headers-6.12.1/"];
        for [modules, headers] in [rpm, deb] {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            let found = || parts(root, Path::new("/s"));
            assert!(usage(&found().unwrap_err()).contains("modules"));
            put(root, &format!("{modules}modules.builtin"), "");
            assert!(usage(&found().unwrap_err()).contains("vmlinuz"));
            let release = modules.split('/').nth(2).unwrap();
            match headers.contains("kernels") {
                true => put(root, &format!("{modules}vmlinuz"), ""),
                false => put(root, &format!("boot/vmlinuz-{release}"), ""),
            }
            assert!(usage(&found().unwrap_err()).contains("kernel-devel"));
            put(root, &format!("{headers}Module.symvers"), "");
            let parts = found().unwrap();
            assert_eq!(parts.headers, root.join(headers.trim_end_matches('/')));
            assert_eq!((parts.source, parts.kbuild), (PathBuf::from("/s"), None));
            put(root, "lib/modules/5.10/modules.builtin", "");
            assert!(usage(&found().unwrap_err()).contains("two kernels"));
        }
    }

    #[test]
    fn a_source_whose_patches_only_its_spec_file_orders_is_the_users_to_unpack() {
        let folder = tempfile::tempdir().unwrap();
        let (root, into) = (folder.path().join("root"), folder.path().join("source"));
        fs::create_dir(&root).unwrap();
        let unpacked = || unpack_source(&root, &into);
        assert!(usage(&unpacked().unwrap_err()).contains("no source package"));
        put(folder.path(), "tree/linux/kernel/fork.c", "int x;\n");
        let mut tar = sh::command("tar");
        tar.arg("-C").arg(folder.path().join("tree")).arg("-czf");
        sh::output(tar.arg(root.join("linux.tar.gz")).arg("linux")).unwrap();
        put(&root, "diff.patch", "");
        unpacked().unwrap();
        assert!(into.join("kernel/fork.c").is_file());
        put(&root, "patch-6.12-redhat.patch", "--- a\n");
        assert!(usage(&unpacked().unwrap_err()).contains("rpmbuild"));
    }

    #[test]
    fn packages_are_merged_and_never_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        put(folder.path(), "root/usr/a", "a");
        put(folder.path(), "one/usr/a", "a");
        put(folder.path(), "one/usr/b", "b");
        let merged = |from: &str| merge(&at(from), &at("root"), Path::new("x.deb"));
        merged("one").unwrap();
        assert_eq!(fs::read_to_string(at("root/usr/b")).unwrap(), "b");
        put(folder.path(), "two/usr/b", "other");
        assert!(usage(&merged("two").unwrap_err()).contains("x.deb"));
        fs::create_dir(at("victim")).unwrap();
        std::os::unix::fs::symlink(at("victim"), at("root/lib")).unwrap();
        put(folder.path(), "three/lib/c", "c");
        usage(&merged("three").unwrap_err());
        assert!(!at("victim/c").exists());
    }

    #[test]
    fn only_packages_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let one = folder.path().join("kernel.rpm");
        assert!(!has_rpm(&[folder.path().to_owned()]));
        put(folder.path(), "kernel.rpm", "x");
        put(folder.path(), "notes.txt", "x");
        assert!(has_rpm(&[folder.path().to_owned()]) && has_rpm(std::slice::from_ref(&one)));
        let listed = |path: &Path| files::listed(&[path.to_owned()]);
        assert_eq!(listed(folder.path()).unwrap(), [one.canonicalize().unwrap()]);
        usage(&listed(&folder.path().join("notes.txt")).unwrap_err());
        usage(&listed(&folder.path().join("gone")).unwrap_err());
    }
}
