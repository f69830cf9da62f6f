//! A livepatch as a package of a distribution: bound to one release of the kernel, in effect once it is installed, and
//! gone once it is removed.
//!
//! What the scripts of a package do is done by the runtime program, on which it depends. The archives themselves are made by
//! `dpkg-deb` and `rpmbuild`; equal input gives equal bytes.

mod deb;
mod rpm;

use std::path::Path;

use anyhow::{Context, Result};
use kpatch_runtime::module::ModuleFile;
use object::{Architecture, Object as _};

use crate::outcome::Ending;
use crate::sh;

pub use deb::deb;
pub use rpm::rpm;

/// The package of the program that loads livepatches.
const RUNTIME: &str = "kpatch-rs-runtime";
/// Where packages put livepatches: the program looks there.
const FOLDER: &str = "usr/lib/kpatch";
/// The time of all files of a package unless SOURCE_DATE_EPOCH says otherwise: 2020-01-01. What a package has is decided by
/// the module alone.
const EPOCH: &str = "1577836800";

/// A livepatch and what its package says.
pub struct Package {
    /// The module.
    pub module: ModuleFile,
    /// First part of the package's name.
    pub series: String,
    /// Its version.
    pub version: String,
    /// Who is responsible for it.
    pub maintainer: String,
}

impl Package {
    /// The package of a module.
    ///
    /// # Errors
    /// A wrong command line: not a livepatch, or a name or version that packages cannot have.
    pub fn new(module: &Path, series: &str, version: &str, maintainer: &str) -> Result<Self> {
        let module = ModuleFile::read(module).map_err(|error| Ending::usage(error.to_string()))?;
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
        Ok(Package {
            module,
            series: series.to_owned(),
            version: version.to_owned(),
            maintainer: maintainer.to_owned(),
        })
    }

    /// The name of the package. One release of the kernel has one series of livepatches, each replacing the one before.
    fn name(&self) -> String {
        let plain = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '+' | '.' | '-') => c,
            _ => '-',
        };
        format!("{}-{}", self.series, self.module.release)
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

/// A program that makes packages.
fn tool(name: &str, package: &str) -> Result<std::process::Command> {
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

#[cfg(test)]
mod tests;
