//! The object folder of a stock kernel, made of what `linux-headers` and `linux-kbuild` ship: kbuild can compile a file
//! or link a module there, without `modules_prepare`.
//!
//! The configuration is that of the headers: the one in `/boot` lacks the settings that depend on where it was built.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use kpatch_core::{Refusal, Subject, codes};

use crate::outcome::Ending;
use crate::sh;
use crate::supply::store::files_below;

/// What the headers of a release hold for it.
const OF_HEADERS: [&str; 4] = [".config", "Module.symvers", "include", "arch"];

/// What the build programs of a series hold.
const OF_KBUILD: [&str; 2] = ["scripts", "tools"];

/// Programs that are only a choice among those for several processors, and the one for x86-64.
const LAUNCHERS: [(&str, &str); 2] = [
    ("scripts/mod/modpost", "scripts/mod/modpost.real-lsb-64"),
    ("tools/objtool/objtool", "tools/objtool/objtool.real-x86"),
];

/// Files that make compares with their inputs: they must not look older than these.
const FRESH: [&str; 3] = [
    "include/config/auto.conf",
    "include/config/auto.conf.cmd",
    "include/generated/autoconf.h",
];

/// Makes the object folder out of the unpacked packages, whose files it takes. `source` is where the source tree will
/// lie when it is used.
pub fn make(headers: &Path, kbuild: &Path, release: &str, source: &Path, objects: &Path) -> Result<()> {
    let headers = headers.join("usr/src").join(format!("linux-headers-{release}"));
    let kbuild = only_folder(&kbuild.join("usr/lib"), "linux-kbuild-")?;
    fs::create_dir_all(objects).with_context(|| format!("cannot make {}", objects.display()))?;
    let named = |folder: &Path, names: &[&str]| names.iter().map(|name| folder.join(name)).collect::<Vec<_>>();
    for from in named(&headers, &OF_HEADERS)
        .into_iter()
        .chain(named(&kbuild, &OF_KBUILD))
    {
        let name = from.file_name().unwrap_or_default();
        fs::rename(&from, objects.join(name)).with_context(|| format!("the package has no {}", from.display()))?;
    }
    finish(objects, source)
}

/// What kbuild has made for a configuration. Folders of headers often have all others, too, which are those of the source.
const GENERATED: [&str; 5] = [
    "Module.symvers",
    "include/config",
    "include/generated",
    "arch/x86/include/generated",
    "arch/x86/module.lds",
];

/// Makes the object folder out of a folder that modules are built against, which stays as it is, and the configuration.
/// `kbuild` has the build programs if they are not there.
pub fn copy(headers: &Path, config: &Path, kbuild: Option<&Path>, source: &Path, objects: &Path) -> Result<()> {
    copy_tree(config, &objects.join(".config"), 0)?;
    for name in GENERATED.iter().filter(|name| headers.join(name).exists()) {
        copy_tree(&headers.join(name), &objects.join(name), 0)?;
    }
    for name in OF_KBUILD {
        copy_tree(&kbuild.unwrap_or(headers).join(name), &objects.join(name), 0)?;
    }
    finish(objects, source)
}

/// No such folder is deeper; a loop of links must not hang.
const DEEPEST: usize = 40;

/// Copies what is there, links as what they lead to. `scripts` has links to sources that packages leave out.
fn copy_tree(from: &Path, to: &Path, depth: usize) -> Result<()> {
    ensure!(depth < DEEPEST, "{} has too many levels", from.display());
    let cannot = || format!("cannot copy {}", from.display());
    let meta = match from.metadata() {
        Ok(meta) => meta,
        Err(error) if depth > 0 && error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(cannot),
    };
    ensure!(
        meta.is_dir() || meta.is_file(),
        "{} is neither a file nor a folder",
        from.display()
    );
    if !meta.is_dir() {
        let folder = to.parent().unwrap_or(to);
        fs::create_dir_all(folder).with_context(cannot)?;
        return fs::copy(from, to).map(drop).with_context(cannot);
    }
    fs::create_dir_all(to).with_context(cannot)?;
    for entry in fs::read_dir(from).with_context(cannot)? {
        let name = entry.with_context(cannot)?.file_name();
        copy_tree(&from.join(&name), &to.join(&name), depth + 1)?;
    }
    Ok(())
}

/// What is done whichever way the files came there.
fn finish(objects: &Path, source: &Path) -> Result<()> {
    for (launcher, real) in LAUNCHERS {
        if objects.join(real).is_file() {
            let moved = fs::rename(objects.join(real), objects.join(launcher));
            moved.with_context(|| format!("cannot rename {real}"))?;
        }
    }
    // kbuild takes its own scripts from the source; copies of them here would be of the version of linux-kbuild.
    for file in files(&objects.join("scripts"))? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("Makefile") || name.ends_with(".sh") || name == "Kbuild.include" {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    // `modules_prepare` makes this one out of `arch/x86/kernel/../module.lds.S`.
    let script = objects.join("arch/x86/module.lds");
    if script.is_file() {
        let copied = fs::copy(&script, objects.join("scripts/module.lds"));
        copied.with_context(|| format!("cannot copy {}", script.display()))?;
    }
    write_makefile(objects, source)?;
    freshen(objects)
}

/// The Makefile that a separate object folder has.
pub fn write_makefile(objects: &Path, source: &Path) -> Result<()> {
    let path = objects.join("Makefile");
    let text = format!("include {}/Makefile\n", source.display());
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Gives everything one time and what make compares a later one.
fn freshen(objects: &Path) -> Result<()> {
    let command = objects.join(FRESH[1]);
    if !command.exists() {
        fs::write(&command, "").with_context(|| format!("cannot write {}", command.display()))?;
    }
    let now = SystemTime::now();
    let set = |path: &Path, time| {
        let done = fs::File::options()
            .write(true)
            .open(path)
            .and_then(|file| file.set_modified(time));
        done.with_context(|| format!("cannot set the time of {}", path.display()))
    };
    for file in files(objects)? {
        set(&file, now - Duration::from_secs(60))?;
    }
    FRESH.iter().try_for_each(|name| set(&objects.join(name), now))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    files_below(folder, &|_| true).with_context(|| format!("cannot read {}", folder.display()))
}

fn only_folder(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(prefix)
    });
    found
        .next()
        .with_context(|| format!("the package has no {prefix}* in {}", folder.display()))
}

/// The configuration of an object folder.
pub fn configuration(objects: &Path) -> Result<String> {
    let path = objects.join(".config");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The value of a setting, without quotes.
pub fn setting<'a>(configuration: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix('=');
    configuration
        .lines()
        .find_map(value)
        .map(|value| value.trim_matches('"'))
}

/// Refuses a kernel that cannot load livepatches, whatever else is true of it.
pub fn expect_livepatch(configuration: &str, release: &str) -> Result<()> {
    if setting(configuration, "CONFIG_LIVEPATCH") == Some("y") {
        return Ok(());
    }
    let why = format!("{release} was built without CONFIG_LIVEPATCH");
    Err(Ending::refused(Refusal::new(
        codes::environment::NO_LIVEPATCH,
        Subject::default(),
        why,
    )))
}

/// Whether the build programs run on this machine: those of a newer release want a newer C library.
fn programs_run_here(objects: &Path) -> Result<bool> {
    // Without arguments it prints its usage; the loader fails before that.
    let (_, _, errors) = sh::captured(&mut sh::command(objects.join("tools/objtool/objtool")))?;
    Ok(!errors.contains("GLIBC") && !errors.contains("error while loading shared libraries"))
}

/// Sees to it that the build programs run on this machine; `enter` starts programs of the kernel's own release.
pub fn make_programs_run(objects: &Path, enter: Option<&Path>) -> Result<()> {
    if programs_run_here(objects)? {
        return Ok(());
    }
    let enter = enter.ok_or_else(|| Ending::infrastructure("the kernel's objtool does not run on this machine"))?;
    wrap_programs(objects, enter)
}

/// Puts a script in the place of each build program that starts it through `enter`.
fn wrap_programs(objects: &Path, enter: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for folder in OF_KBUILD {
        for file in files(&objects.join(folder))? {
            let start = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            if !start.starts_with(b"\x7fELF") {
                continue;
            }
            let mut real = file.clone().into_os_string();
            real.push(".bin");
            fs::rename(&file, &real).with_context(|| format!("cannot rename {}", file.display()))?;
            let text = format!("#!/bin/sh\nexec '{}' \"$0.bin\" \"$@\"\n", enter.display());
            let written =
                fs::write(&file, text).and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)));
            written.with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
