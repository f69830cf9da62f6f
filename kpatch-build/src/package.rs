//! A livepatch as a package of a distribution: bound to one release of the kernel, in effect once it is installed, and
//! gone once it is removed.
//!
//! What the scripts of a package do is done by the runtime program, on which it depends. The archives themselves are made by
//! `dpkg-deb` and `rpmbuild`; equal input gives equal bytes.

mod deb;
mod rpm;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use kpatch_runtime::about;
use kpatch_runtime::module::ModuleFile;
use object::{Architecture, Object as _};

use crate::outcome::Ending;
use crate::sh;

/// The version of a package if nothing says otherwise.
const FIRST: &str = "1";
/// The package of the program that loads livepatches.
const RUNTIME: &str = "kpatch-rs-runtime";
/// Where packages put livepatches: the program looks there.
const FOLDER: &str = "usr/lib/kpatch";
/// The time of all files of a package unless SOURCE_DATE_EPOCH says otherwise: 2020-01-01. What a package has is decided by
/// the module alone.
const EPOCH: u32 = 1_577_836_800;

/// Whose packages these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// The surroundings: the program that makes them is not installed. A wrong command line: a time that is none.
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
        command.env("SOURCE_DATE_EPOCH", epoch()?.to_string());
        Ok(command)
    }
}

/// What a package is called, and who made it.
#[derive(Debug, Clone)]
pub struct Release {
    /// First part of the package's name.
    series: String,
    /// Its version, if somebody named one.
    version: Option<String>,
    /// Who is responsible for it.
    maintainer: String,
}

impl Release {
    /// The maintainer is found in the environment unless one is named.
    ///
    /// # Errors
    /// A wrong command line: a name or version that packages cannot have, or no maintainer.
    pub fn new(series: &str, version: Option<&str>, maintainer: Option<&str>) -> Result<Self> {
        let maintainer = maintainer.map_or_else(of_environment, |maintainer| Ok(maintainer.to_owned()))?;
        let is_name = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.-".contains(&byte);
            text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(plain)
        };
        // RPM takes no two dots in a row.
        if !is_name(series) || series.contains("..") || !series.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            let text = format!(
                "--series {}: use lower case letters, digits, `+`, `.` and `-`, a letter first and no sign last",
                about::plain(series)
            );
            return Err(Ending::usage(text));
        }
        if let Some(version) = version.filter(|version| !is_version(version)) {
            let text = format!(
                "--package-version {}: begin with a digit; use letters and digits, and `.`, `+` and `~` between them",
                about::plain(version)
            );
            return Err(Ending::usage(text));
        }
        if !is_maintainer(&maintainer) {
            let text = format!("--maintainer {}: use `Name <address>`", about::plain(&maintainer));
            return Err(Ending::usage(text));
        }
        Ok(Release {
            series: series.to_owned(),
            version: version.map(str::to_owned),
            maintainer,
        })
    }

    /// The name of a module of this version. Two livepatches of one name cannot be loaded at once, so each version has its
    /// own.
    pub fn module_name(&self) -> String {
        let version = self.version.as_deref().unwrap_or(FIRST);
        format!("{}_{}", in_name(&self.series), version_in_name(version))
    }

    /// The version of a package of this module: what was named, or what its name says, or the first.
    fn version_of(&self, module: &str) -> String {
        let prefix = in_name(&self.series) + "_";
        let told = || module.strip_prefix(&prefix).and_then(version_from_name);
        self.version.clone().or_else(told).unwrap_or_else(|| FIRST.to_owned())
    }

    /// Whether a module of this name can take the place of that of the version before. The first version has none to replace.
    pub fn can_replace(&self, module: &str) -> bool {
        let version = self.version_of(module);
        version == FIRST || module.ends_with(&format!("_{}", version_in_name(&version)))
    }
}

/// A version that begins with a digit, and in which no two signs follow each other. A `-` would part the version of the
/// thing from that of its package in both formats.
fn is_version(version: &str) -> bool {
    let mut parts = version.split(['.', '+', '~']);
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    version.starts_with(|first: char| first.is_ascii_digit()) && parts.all(plain)
}

/// `Name <address>` in one line.
fn is_maintainer(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && !word.contains(['@', '<', '>', ' ']);
    let address = text.strip_suffix('>').and_then(|text| text.split_once(" <"));
    let is_address = |address: &str| {
        address
            .split_once('@')
            .is_some_and(|(who, where_)| is_word(who) && is_word(where_))
    };
    about::plain(text) == text
        && address.is_some_and(|(name, address)| !name.trim().is_empty() && !name.contains('<') && is_address(address))
}

fn in_name(text: &str) -> String {
    text.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// A version in the name of a module. Each sign has a number of `_` of its own, so that no two versions have one name.
fn version_in_name(version: &str) -> String {
    version.replace('+', "___").replace('~', "__").replace('.', "_")
}

fn version_from_name(name: &str) -> Option<String> {
    let version = name.replace("___", "+").replace("__", "~").replace('_', ".");
    is_version(&version).then_some(version)
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
    version: String,
}

impl<'a> Package<'a> {
    /// The package of a module.
    ///
    /// # Errors
    /// A wrong command line: not a livepatch.
    pub fn new(module: &Path, release: &'a Release) -> Result<Self> {
        let module = ModuleFile::read(module).map_err(|error| Ending::usage(error.to_string()))?;
        let version = release.version_of(&module.name);
        Ok(Package {
            module,
            release,
            version,
        })
    }

    /// The name of its module.
    pub fn module_name(&self) -> &str {
        &self.module.name
    }

    /// The file of the module.
    pub fn file(&self) -> &Path {
        &self.module.path
    }

    /// Makes it in this folder.
    ///
    /// # Errors
    /// The surroundings: a program that is missing or fails, no room; or a processor that such packages do not have.
    pub fn make(&self, format: Format, folder: &Path) -> Result<PathBuf> {
        let work = work()?;
        match format {
            Format::Deb => deb::make(self, folder, work.path()),
            Format::Rpm => rpm::make(self, folder, work.path()),
        }
    }

    /// The name of the package. One release of the kernel has one series of livepatches, each replacing the one before.
    pub fn name(&self) -> String {
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
        format!("{}/{}.ko", self.folder(), self.module.name)
    }

    /// The folder of the series.
    fn folder(&self) -> String {
        format!("{FOLDER}/{}/{}", self.module.release, self.release.series)
    }

    /// A call of the runtime program. All that is put into the script are names without any sign that a shell knows.
    fn step(&self, step: &str) -> String {
        let (release, series) = (&self.module.release, &self.release.series);
        format!("kpatch package-step {step} --kernel-version '{release}' --series '{series}'")
    }

    /// What is done before the files of the version before go: what is in effect is kept until this one is. At a first
    /// installation the program need not be there yet, and there is nothing to keep.
    fn before_upgrade(&self) -> String {
        let step = self.step("before-upgrade");
        format!("if command -v kpatch > /dev/null; then\n    {step}\nfi\n")
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

    /// What is done once the files are there: the livepatch takes effect if its kernel runs, or what was in effect stays so.
    fn after_installation(&self) -> String {
        format!("{} '{}'\n", self.step("after-install"), self.module.name)
    }

    /// What is done once the files are gone. dpkg leaves out the script before, if the package was unpacked and no more; then
    /// what was in effect before is still kept.
    fn after_removal(&self) -> String {
        let (step, kept) = (self.step("before-removal"), self.kept());
        format!("if [ -d '{kept}' ] && command -v kpatch > /dev/null; then\n    {step}\nfi\n")
    }

    /// Where the program keeps what was in effect before an upgrade.
    fn kept(&self) -> String {
        format!("/var/lib/kpatch/{}/{}", self.module.release, self.release.series)
    }

    /// What is done before the files go for good. Without the program nothing can be unloaded, and that must not keep the
    /// package from being removed.
    fn before_removal(&self) -> String {
        let (step, name) = (self.step("before-removal"), &self.module.name);
        let kept = self.kept();
        format!(
            "if command -v kpatch > /dev/null; then\n    {step}\nelse\n    \
             echo 'kpatch is not installed: {name} stays loaded until the next boot, if it is' >&2\n    \
             rm -rf '{kept}'\nfi\n"
        )
    }
}

/// A folder for the way to a package. The programs that make packages read its path as part of scripts.
fn work() -> Result<tempfile::TempDir> {
    let is_plain = |path: &Path| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
        path.as_os_str().as_encoded_bytes().iter().all(plain)
    };
    let made = match std::env::temp_dir() {
        folder if is_plain(&folder) => tempfile::tempdir_in(folder),
        _ => tempfile::tempdir_in("/tmp"),
    };
    made.context("cannot make a temporary folder")
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

/// The time of all files, in seconds since 1970. RPM has 32 bits for it.
fn epoch() -> Result<u32> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else {
        return Ok(EPOCH);
    };
    seconds(&text.to_string_lossy())
}

fn seconds(text: &str) -> Result<u32> {
    text.parse().map_err(|_| {
        let text = about::plain(text);
        Ending::usage(format!(
            "SOURCE_DATE_EPOCH={text}: use whole seconds since 1970, up to {}",
            u32::MAX
        ))
    })
}

/// Gives everything in a folder the time of a package.
fn set_times(folder: &Path) -> Result<()> {
    let cannot = || format!("cannot set the times in {}", folder.display());
    let time = UNIX_EPOCH + Duration::from_secs(epoch()?.into());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        match path.is_dir() {
            true => set_times(&path)?,
            false => set_time(&path, time).with_context(cannot)?,
        }
    }
    set_time(folder, time).with_context(cannot)
}

fn set_time(path: &Path, time: SystemTime) -> std::io::Result<()> {
    fs::File::open(path)?.set_modified(time)
}

#[cfg(test)]
pub(crate) use tests::module_for_tests;
#[cfg(test)]
mod tests;
