//! A livepatch as a package of a distribution: bound to one release of the kernel, in effect once it is installed, and
//! gone once it is removed.
//!
//! What the scripts of a package do is done by the runtime program, on which it depends. The archives themselves are made by
//! `dpkg-deb` and `rpmbuild`; equal input gives equal bytes.

mod deb;
mod rpm;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use kpatch_runtime::module::ModuleFile;
use object::{Architecture, Object as _};

use crate::outcome::Ending;
use crate::sh;

/// The package of the program that loads livepatches.
const RUNTIME: &str = "kpatch-rs-runtime";
/// Where packages put livepatches: the program looks there.
const FOLDER: &str = "usr/lib/kpatch";
/// The time of all files of a package unless SOURCE_DATE_EPOCH says otherwise: 2020-01-01. What a package has is decided by
/// the module alone.
const EPOCH: &str = "1577836800";

/// Whose packages these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A Debian package.
    Deb,
    /// An RPM package.
    Rpm,
}

impl Format {
    /// Whether this machine can make such packages, which is said before anything long begins.
    ///
    /// # Errors
    /// The surroundings: the program that makes them is not installed.
    pub fn check(self) -> Result<()> {
        self.tool().map(drop)
    }

    /// The program that makes such packages.
    fn tool(self) -> Result<Command> {
        let (name, package) = match self {
            Format::Deb => ("dpkg-deb", "dpkg"),
            Format::Rpm => ("rpmbuild", "rpm"),
        };
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
        if !found {
            let text = format!("{name} is needed to make this package; Debian has it in the package {package}");
            return Err(Ending::infrastructure(text));
        }
        let mut command = sh::command(name);
        command.env("SOURCE_DATE_EPOCH", epoch());
        Ok(command)
    }
}

/// What a package is called, and who made it.
#[derive(Debug, Clone)]
pub struct Release {
    /// First part of the package's name.
    series: String,
    /// Its version.
    version: String,
    /// Who is responsible for it.
    maintainer: String,
}

impl Release {
    /// The maintainer is found in the environment unless one is named.
    ///
    /// # Errors
    /// A wrong command line: a name or version that packages cannot have, or no maintainer.
    pub fn new(series: &str, version: &str, maintainer: Option<&str>) -> Result<Self> {
        let maintainer = maintainer.map_or_else(of_environment, |maintainer| Ok(maintainer.to_owned()))?;
        let is_name = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte);
            text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(plain)
        };
        if !is_name(series) {
            let text = format!("--series {series}: use lower case letters, digits, `+`, `.` and `-`");
            return Err(Ending::usage(text));
        }
        // The `-` parts the version of the thing from that of its package in both formats.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".+~".contains(&byte);
        if !version.starts_with(|first: char| first.is_ascii_digit()) || !version.bytes().all(plain) {
            let text =
                format!("--package-version {version}: begin with a digit; use letters, digits, `.`, `+` and `~`");
            return Err(Ending::usage(text));
        }
        if maintainer.lines().count() != 1 || !maintainer.contains('@') {
            return Err(Ending::usage(format!(
                "--maintainer {maintainer}: use `Name <address>`"
            )));
        }
        Ok(Release {
            series: series.to_owned(),
            version: version.to_owned(),
            maintainer,
        })
    }

    /// The name of a module of this version. Two livepatches of one name cannot be loaded at once, so each version has its
    /// own.
    pub fn module_name(&self) -> String {
        format!("{}_{}", self.series, self.version).replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    }

    /// Whether a module of this name can take the place of that of the version before. The first version has none to replace.
    pub fn can_replace(&self, module: &str) -> bool {
        let version = self.version.replace(['.', '+', '~'], "_");
        self.version == "1" || module.ends_with(&version)
    }
}

/// As for Debian's own tools.
fn of_environment() -> Result<String> {
    match (std::env::var("DEBFULLNAME"), std::env::var("DEBEMAIL")) {
        (Ok(name), Ok(address)) => Ok(format!("{name} <{address}>")),
        _ => Err(Ending::usage(
            "say who is responsible for the package: --maintainer 'Name <address>', or DEBFULLNAME and DEBEMAIL",
        )),
    }
}

/// A livepatch and what its package says.
pub struct Package<'a> {
    /// The module.
    module: ModuleFile,
    /// What it is called.
    release: &'a Release,
}

impl<'a> Package<'a> {
    /// The package of a module.
    ///
    /// # Errors
    /// A wrong command line: not a livepatch.
    pub fn new(module: &Path, release: &'a Release) -> Result<Self> {
        let module = ModuleFile::read(module).map_err(|error| Ending::usage(error.to_string()))?;
        Ok(Package { module, release })
    }

    /// The name of its module.
    pub fn module_name(&self) -> &str {
        &self.module.name
    }

    /// Makes it in this folder.
    ///
    /// # Errors
    /// The surroundings: a program that is missing or fails, no room; or a processor that such packages do not have.
    pub fn make(&self, format: Format, folder: &Path) -> Result<PathBuf> {
        let work = tempfile::tempdir().context("cannot make a temporary folder")?;
        match format {
            Format::Deb => deb::make(self, folder, work.path()),
            Format::Rpm => rpm::make(self, folder, work.path()),
        }
    }

    /// The name of the package. One release of the kernel has one series of livepatches, each replacing the one before.
    fn name(&self) -> String {
        let plain = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '+' | '.' | '-') => c,
            _ => '-',
        };
        format!("{}-{}", self.release.series, self.module.release)
            .chars()
            .map(plain)
            .collect()
    }

    /// Where the module goes, without the leading slash.
    fn place(&self) -> String {
        format!("{FOLDER}/{}/{}.ko", self.module.release, self.module.name)
    }

    fn summary(&self) -> String {
        format!("livepatch of Linux {}", self.module.release)
    }

    /// What is in it, as paragraphs of lines that do not begin with a blank.
    fn description(&self) -> Vec<String> {
        let about = &self.module.about;
        let mut lines = vec![
            "A kernel module that replaces functions of the running kernel. It is".to_owned(),
            "loaded when the package is installed and at each boot of this kernel.".to_owned(),
        ];
        let mut list = |title: &str, items: &[String]| {
            if !items.is_empty() {
                lines.extend([String::new(), title.to_owned()]);
                lines.extend(items.iter().flat_map(|item| wrapped(item)));
            }
        };
        list("Fixes:", &about.fixes);
        list("Replaces:", &about.functions);
        list(
            "Stays in memory when disabled, as the kernel may have the address of:",
            &about.keep,
        );
        lines
    }

    /// What is done once the files are there: the livepatch takes effect if its kernel runs. In a chroot or a container that
    /// is being made nothing runs.
    fn after_installation(&self) -> String {
        let (release, place) = (&self.module.release, self.place());
        format!(
            "if [ \"$(uname -r)\" = '{release}' ] && [ -d /sys/kernel/livepatch ] && [ -d /run/systemd/system ]; then\n    \
             kpatch load '/{place}'\nfi\n"
        )
    }

    /// What is done before the files go for good. Exit code 2 says that it was not loaded.
    fn before_removal(&self) -> String {
        let (release, name) = (&self.module.release, &self.module.name);
        format!(
            "if [ \"$(uname -r)\" = '{release}' ] && [ -d /sys/kernel/livepatch ]; then\n    \
             kpatch unload '{name}' || [ $? = 2 ]\nfi\n"
        )
    }
}

/// An item of a list in lines of a width that packages may have.
fn wrapped(item: &str) -> Vec<String> {
    const WIDTH: usize = 76;
    let mut lines = vec!["*".to_owned()];
    for word in item.split_whitespace() {
        let last = lines.last_mut().expect("there is always one");
        if last.len() > 1 && last.len() + 1 + word.len() > WIDTH {
            lines.push(format!("  {word}"));
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines
}

/// The processor that a module is for.
fn processor(module: &ModuleFile) -> Result<Architecture> {
    let file = object::File::parse(module.image()).context("cannot read the module")?;
    Ok(file.architecture())
}

/// The time of all files.
fn epoch() -> String {
    std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| EPOCH.to_owned())
}

#[cfg(test)]
mod tests;
