//! A Debian package, by dpkg-deb.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use object::Architecture;

use super::{Format, Package, RUNTIME, epoch, processor, set_times, wrapped};
use crate::outcome::Ending;
use crate::output::install;
use crate::sh;

/// Makes the package in this folder, with a folder for the way there.
pub(super) fn make(package: &Package<'_>, folder: &Path, work: &Path) -> Result<PathBuf> {
    let tree = work.join("deb");
    let name = package.name();
    let put = |relative: &str, bytes: &[u8], mode: u32| -> Result<()> {
        let path = tree.join(relative);
        let cannot = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(&tree)).with_context(cannot)?;
        fs::write(&path, bytes).with_context(cannot)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).with_context(cannot)
    };
    put(&package.place(), package.module.image(), 0o644)?;
    let documents = format!("usr/share/doc/{name}");
    put(&format!("{documents}/copyright"), copyright().as_bytes(), 0o644)?;
    put(&format!("{documents}/changelog.gz"), &changelog(package)?, 0o644)?;
    put("DEBIAN/control", control(package)?.as_bytes(), 0o644)?;
    let script =
        |condition: &str, what: &str| format!("#!/bin/sh\nset -e\n\nif {condition}; then\n{}fi\n", indented(what));
    let upgrade = script("[ \"$1\" = upgrade ]", &package.before_upgrade());
    put("DEBIAN/preinst", upgrade.as_bytes(), 0o755)?;
    let after = script("[ \"$1\" = configure ]", &package.after_installation());
    put("DEBIAN/postinst", after.as_bytes(), 0o755)?;
    // On an upgrade the new livepatch replaces the old one, which stays in effect until then.
    let before = script("[ \"$1\" = remove ]", &package.before_removal());
    put("DEBIAN/prerm", before.as_bytes(), 0o755)?;
    let after_all = script("[ \"$1\" = remove ]", &package.after_removal());
    put("DEBIAN/postrm", after_all.as_bytes(), 0o755)?;
    put("DEBIAN/md5sums", sums(&tree)?.as_bytes(), 0o644)?;
    // Folders as everybody may see them, whatever the umask is.
    open_folders(&tree)?;
    set_times(&tree)?;

    let file = format!("{name}_{}_{}.deb", package.version, architecture(package)?);
    let made = work.join(&file);
    let mut command = Format::Deb.tool()?;
    command
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&tree)
        .arg(&made);
    sh::output(&mut command).context("cannot make the package")?;
    install(&made, folder.join(file))
}

fn open_folders(folder: &Path) -> Result<()> {
    let cannot = || format!("cannot look through {}", folder.display());
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).with_context(cannot)?;
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.is_dir() {
            open_folders(&path)?;
        }
    }
    Ok(())
}

/// The sums by which dpkg finds damaged files.
fn sums(tree: &Path) -> Result<String> {
    let mut command = sh::command("find");
    command
        .current_dir(tree)
        .args(["usr", "-type", "f", "-exec", "md5sum", "{}", "+"]);
    let sums = sh::output(&mut command).context("cannot sum up the files of the package")?;
    let mut lines: Vec<&str> = sums.lines().collect();
    lines.sort_by_key(|line| line.split_once("  ").map(|(_, path)| path));
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// Debian's name of the processor.
fn architecture(package: &Package<'_>) -> Result<&'static str> {
    name_of(processor(&package.module)?)
}

pub(super) fn name_of(processor: Architecture) -> Result<&'static str> {
    match processor {
        Architecture::X86_64 => Ok("amd64"),
        Architecture::PowerPc64 => Ok("ppc64el"),
        Architecture::Aarch64 => Ok("arm64"),
        Architecture::S390x => Ok("s390x"),
        other => Err(Ending::usage(format!("no Debian package for {other:?}"))),
    }
}

fn control(package: &Package<'_>) -> Result<String> {
    let release = &package.module.release;
    let mut text = String::new();
    _ = writeln!(text, "Package: {}", package.name());
    _ = writeln!(text, "Version: {}", package.version);
    _ = writeln!(text, "Architecture: {}", architecture(package)?);
    _ = writeln!(text, "Maintainer: {}", package.release.maintainer);
    _ = writeln!(text, "Section: kernel\nPriority: optional");
    // The image of a release has one of two names, depending on who signed it for the firmware.
    let image = release.replace('_', "-").to_ascii_lowercase();
    _ = writeln!(
        text,
        "Depends: {RUNTIME}, linux-image-{image} | linux-image-{image}-unsigned"
    );
    _ = writeln!(text, "Description: {}", package.summary());
    for line in package.description() {
        match line.as_str() {
            "" => text.push_str(" .\n"),
            line => _ = writeln!(text, " {line}"),
        }
    }
    Ok(text)
}

fn copyright() -> String {
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\n\
     Copyright: since 1991 the authors of the Linux kernel, and those of the patches in this module\nLicense: GPL-2.0-only\n \
     On Debian systems the text of the GNU General Public License version 2 is in\n \
     /usr/share/common-licenses/GPL-2.\n"
        .to_owned()
}

fn changelog(package: &Package<'_>) -> Result<Vec<u8>> {
    let time = jiff::Timestamp::from_second(epoch()?.into()).context("SOURCE_DATE_EPOCH is no time")?;
    let date = time.strftime("%a, %d %b %Y %H:%M:%S +0000");
    let (name, version, maintainer) = (package.name(), &package.version, &package.release.maintainer);
    let mut text = format!("{name} ({version}) unstable; urgency=medium\n\n");
    for fix in &package.module.about.fixes {
        for line in wrapped(fix) {
            _ = writeln!(text, "  {line}");
        }
    }
    if package.module.about.fixes.is_empty() {
        text.push_str("  * A livepatch.\n");
    }
    _ = writeln!(text, "\n -- {maintainer}  {date}");
    // No name and no time: equal input gives equal bytes.
    let mut packed = GzBuilder::new().write(Vec::new(), Compression::best());
    packed.write_all(text.as_bytes())?;
    Ok(packed.finish()?)
}
