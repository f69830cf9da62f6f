//! Packages from suites that are not in the machine's apt sources, without root and without a change to the system.
//!
//! apt accepts private lists, sources and caches. The archive's address and signing keys are the machine's: this takes
//! the entry for its Debian archive and replaces only the suite.

mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::outcome::Ending;
use crate::sh;

/// Prefixes of those apt settings that concern reaching the archive, proxies above all. Nothing else is copied: hooks
/// that run after an update or an install are for the system's lists.
const CARRIED_SETTINGS: &[&str] = &["Acquire::http", "Acquire::Check-", "Acquire::Force", "Acquire::Retries"];

/// Settings of a private apt that is kept.
const LASTING: &str = "Acquire::GzipIndexes \"true\";\nDir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n";

/// apt's program for single steps, such as one download. It is not in PATH.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// Where packages come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Archive {
    /// The archive of this machine's own packages.
    #[default]
    Machine,
    /// An archive that the user names by an entry in apt's one-line format; only the entry's suite is replaced.
    Named(String),
}

/// An apt with private lists.
#[derive(Debug)]
pub struct PrivateApt {
    config: PathBuf,
    log: PathBuf,
}

impl PrivateApt {
    /// Sets up a private apt in an empty folder and reads the lists of these suites.
    pub fn new(folder: &Path, suites: &[&str]) -> Result<Self> {
        Self::set_up(folder, suites, &Archive::Machine, None)
    }

    /// The same with another archive than the machine's.
    pub fn from_archive(folder: &Path, suites: &[&str], archive: &Archive) -> Result<Self> {
        Self::set_up(folder, suites, archive, None)
    }

    /// The same for packages of another architecture, by Debian's name for it. Its packages cannot be installed.
    pub fn of_architecture(folder: &Path, suites: &[&str], architecture: &str) -> Result<Self> {
        Self::set_up(folder, suites, &Archive::Machine, Some(architecture))
    }

    fn set_up(folder: &Path, suites: &[&str], archive: &Archive, architecture: Option<&str>) -> Result<Self> {
        let mut text = String::new();
        for suite in suites {
            text.push_str(&sources::render(&entry(archive, suite)?, suite, architecture));
        }
        let apt = Self::written(folder, &text, "", architecture)?;
        let updated = sh::run_logged(apt.command("apt-get").args(["-q", "update"]), &apt.log);
        updated.map_err(|error| Ending::infrastructure(format!("cannot read the package archive: {error}")))?;
        Ok(apt)
    }

    fn written(folder: &Path, sources: &str, more: &str, architecture: Option<&str>) -> Result<Self> {
        let parts = folder.join("sources.d");
        for needed in [
            &parts,
            &folder.join("lists/partial"),
            &folder.join("cache/archives/partial"),
        ] {
            std::fs::create_dir_all(needed).with_context(|| format!("cannot create {}", needed.display()))?;
        }
        write(&parts.join("archive.sources"), sources)?;
        let apt = PrivateApt {
            config: folder.join("apt.conf"),
            log: folder.join("apt.log"),
        };
        let dump = sh::output(sh::command("apt-config").arg("dump"))?;
        write(&apt.config, &format!("{}{more}", settings(folder, &dump, architecture)))?;
        Ok(apt)
    }

    /// Sets up a private apt for the packages of a Debian release, by its code name, in a folder that is kept. What the
    /// machine's sources have for it comes along, such as an archive of old versions. The lists stay compressed, and apt
    /// keeps no cache of them: they are read by [`PrivateApt::lists`].
    ///
    /// Lists that were read before are good enough where the archive cannot be reached; then the reason is returned.
    pub fn lasting(folder: &Path, codename: &str) -> Result<(Self, Option<String>)> {
        let known = machine_sources()?;
        let text = sources::release(&known, &debian_codename()?, codename);
        if text.is_empty() {
            return Err(no_archive(codename));
        }
        let apt = Self::written(folder, &text, LASTING, None)?;
        let updated = sh::run_logged(apt.command("apt-get").args(["-q", "update"]), &apt.log);
        match updated {
            Ok(()) => Ok((apt, None)),
            Err(error) if sh::was_interrupted() => Err(error),
            // Also where one suite of several is missing: not every release has backports.
            Err(error) if apt.lists().is_ok_and(|lists| !lists.is_empty()) => Ok((apt, Some(error.to_string()))),
            Err(error) => Err(Ending::infrastructure(format!(
                "cannot read the package archive: {error}"
            ))),
        }
    }

    /// The lists of packages that were read: where their packages come from, and the list itself.
    pub fn lists(&self) -> Result<Vec<(String, PathBuf)>> {
        let format = [
            "indextargets",
            "--format",
            "$(REPO_URI) $(FILENAME)",
            "Created-By: Packages",
        ];
        let targets = sh::output(self.command("apt-get").args(format))?;
        let split = targets.lines().filter_map(|line| line.split_once(' '));
        let lists = split.map(|(uri, file)| (uri.to_owned(), PathBuf::from(file)));
        Ok(lists.filter(|(_, file)| file.is_file()).collect())
    }

    /// The contents of a list.
    pub fn list(&self, file: &Path) -> Result<String> {
        sh::output(self.command(HELPER).arg("cat-file").arg(file))
    }

    /// Fetches a file that a list named, and goes on where an earlier attempt stopped. apt checks the contents.
    pub fn fetch(&self, uri: &str, sha256: &str, into: &Path) -> Result<()> {
        let wanted = format!("SHA256:{sha256}");
        let fetched = sh::output(self.command(HELPER).args(["download-file", uri]).arg(into).arg(&wanted));
        fetched.map(drop).map_err(|error| match sh::was_interrupted() {
            true => error,
            false => Ending::infrastructure(format!("cannot download {uri}: {error}")),
        })
    }

    /// Downloads packages with all that they depend on, as if nothing were installed. Returns the files. The first of
    /// them names the folder in which an interrupted download is continued.
    pub fn closure(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        let mut download = self.command("apt-get");
        let folder = self.config.with_file_name("closures").join(packages[0]);
        let partial = folder.join("partial");
        std::fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let archives = format!("Dir::Cache::archives={}", folder.display());
        // Nothing is installed, so there is nothing to lock.
        let options = [
            "Dir::State::status=/dev/null",
            "Debug::NoLocking=1",
            "APT::Install-Recommends=0",
            &archives,
        ];
        download.args(options.iter().flat_map(|option| ["-o", option]));
        download.args(["-q", "-y", "--download-only", "install"]).args(packages);
        let fetched = sh::run_logged(&mut download, &self.log);
        fetched.map_err(|error| match sh::was_interrupted() {
            true => error,
            false => Ending::infrastructure(format!("cannot download {}: {error}", packages.join(" "))),
        })?;
        let found = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut files: Vec<_> = found.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "deb"));
        files.sort();
        Ok(files)
    }

    /// The versions of a package that the suites offer, newest first.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let listed = sh::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(madison_versions(&listed))
    }

    /// Fetches a package file into a folder. apt checks it against the signed lists.
    pub fn download(&self, package: &str, version: &str, into: &Path) -> Result<PathBuf> {
        let wanted = format!("{package}={version}");
        let fetched = sh::run_logged(
            self.command("apt-get")
                .args(["-q", "download", &wanted])
                .current_dir(into),
            &self.log,
        );
        fetched.map_err(|error| Ending::infrastructure(format!("cannot download {wanted}: {error}")))?;
        let found = std::fs::read_dir(into).with_context(|| format!("cannot read {}", into.display()))?;
        let mut files = found.flatten().map(|entry| entry.path());
        let file = files.find(|file| file.extension().is_some_and(|extension| extension == "deb"));
        file.with_context(|| {
            format!(
                "apt-get download {wanted} succeeded but left no package in {}",
                into.display()
            )
        })
    }

    /// An apt command that sees only the private lists.
    pub fn command(&self, program: &str) -> Command {
        let mut command = sh::command(program);
        command.env("APT_CONFIG", &self.config);
        command
    }

    /// The configuration file, for commands that sudo starts with a cleared environment.
    pub fn config(&self) -> &Path {
        &self.config
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn settings(folder: &Path, dump: &str, architecture: Option<&str>) -> String {
    let carried = |line: &&str| CARRIED_SETTINGS.iter().any(|prefix| line.starts_with(prefix));
    let mut text: String = dump.lines().filter(carried).map(|line| format!("{line}\n")).collect();
    let folder = folder.display();
    text.push_str(&format!(
        "Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{folder}/sources.d\";\n\
         Dir::State::lists \"{folder}/lists\";\nDir::Cache \"{folder}/cache\";\n\
         Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n"
    ));
    if let Some(name) = architecture {
        // Packages of this machine must not count as installed.
        text.push_str(&format!(
            "APT::Architecture \"{name}\";\nAPT::Architectures {{ \"{name}\"; }};\nDir::State::status \"/dev/null\";\n"
        ));
    }
    text
}

/// The version column of `apt-cache madison`: package | version | where from.
fn madison_versions(listed: &str) -> Vec<String> {
    let mut versions: Vec<String> = Vec::new();
    for line in listed.lines().filter(|line| !line.trim_end().ends_with("Sources")) {
        let version = line.split('|').nth(1).map(str::trim).unwrap_or_default();
        if !version.is_empty() && versions.last().is_none_or(|last| last != version) {
            versions.push(version.to_owned());
        }
    }
    versions
}

/// The release this machine runs, e.g. `bookworm`.
pub fn debian_codename() -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    codename_of(&text).ok_or_else(|| Ending::infrastructure("not a Debian system, so Debian packages cannot be used"))
}

fn codename_of(os_release: &str) -> Option<String> {
    let field = |name: &str| {
        let value = os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(|value| value.trim_matches('"').to_owned())
    };
    (field("ID")? == "debian").then(|| field("VERSION_CODENAME"))?
}

/// The entry to take a suite from.
fn entry(archive: &Archive, suite: &str) -> Result<sources::Stanza> {
    match archive {
        Archive::Machine => {
            let known = machine_sources()?;
            let found = sources::choose(&known, &debian_codename()?, suite);
            found.cloned().ok_or_else(|| no_archive(suite))
        }
        Archive::Named(line) => match <[_; 1]>::try_from(sources::parse_one_line(line)) {
            Ok([stanza]) => Ok(stanza),
            Err(_) => Err(Ending::infrastructure(format!(
                "invalid apt entry `{line}`; expected `deb [options] URI suite main`"
            ))),
        },
    }
}

fn no_archive(suite: &str) -> anyhow::Error {
    Ending::infrastructure(format!(
        "no entry for the Debian archive in apt's sources, needed for {suite}"
    ))
}

fn machine_sources() -> Result<Vec<sources::Stanza>> {
    let query = [
        "shell",
        "LIST",
        "Dir::Etc::sourcelist/f",
        "PARTS",
        "Dir::Etc::sourceparts/d",
    ];
    let answer = sh::output(sh::command("apt-config").args(query))?;
    let value = |name: &str| {
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        PathBuf::from(line.unwrap_or_default().trim_matches('\''))
    };
    let mut files = vec![value("LIST")];
    let parts = std::fs::read_dir(value("PARTS")).into_iter().flatten().flatten();
    files.extend(parts.map(|entry| entry.path()));
    files.sort();
    let mut stanzas = Vec::new();
    for file in files {
        // Not every machine has every file, and some files only root can read.
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => stanzas.extend(sources::parse_deb822(&text)),
            Some("list") => stanzas.extend(sources::parse_one_line(&text)),
            _ => {}
        }
    }
    Ok(stanzas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_listed_once_each() {
        let listed = "linux-source-6.12 | 6.12.117-1~deb12u1 | http://mirror.example/debian-security bookworm-security/main amd64 Packages\n\
                      linux-source-6.12 | 6.12.117-1~deb12u1 | http://mirror.example/debian bookworm/main amd64 Packages\n\
                      linux-source-6.12 | 6.12.107-1~deb12u1 | http://mirror.example/debian-security bookworm-security/main amd64 Packages\n\
                      linux-6.12 | 6.12.99-1 | http://mirror.example/debian bookworm/main Sources\n";
        assert_eq!(madison_versions(listed), ["6.12.117-1~deb12u1", "6.12.107-1~deb12u1"]);
        assert!(madison_versions("").is_empty());
    }

    #[test]
    fn proxies_are_carried_over_and_hooks_are_not() {
        let dump = "Acquire::http::Proxy \"http://proxy.example\";\nAPT::Update::Post-Invoke:: \"rm -f x\";\n\
                    DPkg::Post-Invoke:: \"rm -f y\";\nAcquire::Check-Valid-Until \"false\";\n";
        let text = settings(Path::new("/private"), dump, None);
        assert!(text.contains("proxy.example") && text.contains("Check-Valid-Until") && !text.contains("rm -f"));
        assert!(text.contains("Dir::State::lists \"/private/lists\";") && !text.contains("APT::Architecture"));
        let foreign = settings(Path::new("/private"), dump, Some("ppc64el"));
        assert!(foreign.contains("APT::Architecture \"ppc64el\";"), "{foreign}");
    }

    #[test]
    fn codename_is_debians_only() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename_of(debian).as_deref(), Some("bookworm"));
        assert_eq!(codename_of("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
    }
}
