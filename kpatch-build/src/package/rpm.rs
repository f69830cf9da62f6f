//! An RPM package, by rpmbuild.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::Architecture;

use super::{FOLDER, Format, Package, RUNTIME, epoch, processor};
use crate::outcome::Ending;
use crate::output::install;
use crate::sh;

/// Makes the package in this folder, with a folder for the way there.
pub(super) fn make(package: &Package<'_>, folder: &Path, work: &Path) -> Result<PathBuf> {
    let work = work.join("rpm");
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let module = work.join("module.ko");
    fs::write(&module, package.module.image()).with_context(|| format!("cannot write {}", module.display()))?;
    let spec = work.join("package.spec");
    fs::write(&spec, text(package, &module)?).with_context(|| format!("cannot write {}", spec.display()))?;
    let architecture = architecture(package)?;
    let mut command = Format::Rpm.tool()?;
    // What its user has set up must not matter.
    command.env("HOME", &work);
    command.arg("-bb").arg("--target").arg(architecture);
    for (name, value) in [
        ("_topdir", work.join("top").to_string_lossy().as_ref()),
        ("_rpmdir", work.join("made").to_string_lossy().as_ref()),
        ("_rpmfilename", "made.rpm"),
        ("_tmppath", work.join("temporary").to_string_lossy().as_ref()),
        // Equal input gives equal bytes.
        ("_buildhost", "kpatch"),
        ("use_source_date_epoch_as_buildtime", "1"),
        ("clamp_mtime_to_source_date_epoch", "1"),
        // The module is finished, and maybe signed: nothing may touch it.
        ("__os_install_post", "%{nil}"),
        ("__strip", "/bin/true"),
        ("debug_package", "%{nil}"),
        ("_build_id_links", "none"),
    ] {
        command.arg("--define").arg(format!("{name} {value}"));
    }
    command.arg(&spec);
    sh::output(&mut command).context("cannot make the package")?;
    let target = folder.join(format!("{}-{}-1.{architecture}.rpm", package.name(), package.version));
    install(&work.join("made/made.rpm"), target)
}

/// The name of the processor in the world of RPM.
fn architecture(package: &Package<'_>) -> Result<&'static str> {
    name_of(processor(&package.module)?)
}

pub(super) fn name_of(processor: Architecture) -> Result<&'static str> {
    match processor {
        Architecture::X86_64 => Ok("x86_64"),
        Architecture::PowerPc64 => Ok("ppc64le"),
        Architecture::Aarch64 => Ok("aarch64"),
        Architecture::S390x => Ok("s390x"),
        other => Err(Ending::usage(format!("no RPM package for {other:?}"))),
    }
}

/// What stands for a release of the kernel. Its packages say so under a name made for this; a release that RPM does not take
/// for a version, since it has more than one `-`, is known by the file of its image.
pub(super) fn kernel(release: &str) -> String {
    match release.matches('-').count() {
        0 | 1 => format!("kernel-uname-r = {release}"),
        _ => format!("/lib/modules/{release}/vmlinuz"),
    }
}

/// A text of somebody else in a spec. A `%` would begin a macro; what is left of it at the begin of a line is read as a
/// condition or a section, so a line does not begin with one.
fn plain(text: &str) -> String {
    let line = |line: &str| {
        let words = line.trim_start();
        let blanks = &line[..line.len() - words.len()];
        let mark = if words.starts_with('%') { "'" } else { "" };
        format!("{blanks}{mark}{}", words.replace('%', "%%"))
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The spec. All names in it are plain, and the texts are made so.
fn text(package: &Package<'_>, module: &Path) -> Result<String> {
    let (name, version, folder, place) = (package.name(), &package.version, package.folder(), package.place());
    let (summary, maintainer) = (plain(&package.summary()), plain(&package.release.maintainer));
    let description = plain(&package.description().join("\n"));
    let (upgrade, after, before) = (
        package.before_upgrade(),
        package.after_installation(),
        package.before_removal(),
    );
    let (release, time) = (&package.module.release, epoch()?);
    let (kernel, module) = (kernel(release), module.display());
    // `$1` of a scriptlet is how many versions of the package are there afterwards: 0 is a removal, 2 an upgrade.
    Ok(format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: {summary}\nLicense: GPL-2.0-only\nPackager: {maintainer}\n\
         Requires: {RUNTIME}, {kernel}\nRequires(pre,post,preun): {RUNTIME}\nAutoReqProv: no\n\n\
         %description\n{description}\n\n\
         %install\ninstall -D -m 644 '{module}' '%{{buildroot}}/{place}'\n\
         find '%{{buildroot}}' -exec touch -h -d @{time} '{{}}' +\n\n\
         %files\n%dir /{FOLDER}\n%dir /{FOLDER}/{release}\n%dir /{folder}\n/{place}\n\n\
         %pre\nif [ \"$1\" -gt 1 ]; then\n{upgrade}fi\n\
         %post\n{after}\n%preun\nif [ \"$1\" = 0 ]; then\n{before}fi\n"
    ))
}
