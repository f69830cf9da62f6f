//! Installs packages, also on a machine that mixes suites.
//!
//! A machine whose `qemu-utils` comes from backports refuses to install `qemu-system-x86` from the release itself: the
//! two must have the same version, and apt reports held broken packages. Such packages come from backports instead.

use std::path::Path;

use anyhow::{Context, Result};

use super::Host;
use crate::outcome::Ending;
use crate::sh;
use crate::supply::apt::{PrivateApt, debian_codename};
use crate::ui::Ui;

/// The result of a simulated installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Possible,
    /// The package lists do not have the package: they are old or empty.
    Unknown,
    /// Versions conflict.
    Conflict,
    Other,
}

/// Installs packages, as root or through sudo without a password.
pub fn install(packages: &[String], ui: &Ui) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let host = Host::of_this_machine();
    if host != Host::Apt {
        let command = host.install_command(packages);
        let text = format!("--install-deps works with apt only; install the missing packages with: {command}");
        return Err(Ending::infrastructure(text));
    }
    let prefix = privilege(packages)?;
    ui.phase(&format!("install {}", packages.join(" ")), |_| {
        if trial(packages)? == Answer::Unknown {
            run(&prefix, &["apt-get", "-q", "update"].map(str::to_owned))?;
        }
        let (plain, conflicting) = partition(packages, trial)?;
        if !plain.is_empty() {
            install_from(&prefix, None, &plain)?;
        }
        if !conflicting.is_empty() {
            install_from_backports(&prefix, &conflicting)
        } else {
            Ok(())
        }
    })
}

/// The prefix of a command that needs root: nothing, or sudo.
fn privilege(packages: &[String]) -> Result<Vec<String>> {
    if rustix::process::geteuid().is_root() {
        return Ok(Vec::new());
    }
    if sh::find("sudo").is_some() && sh::captured(sh::command("sudo").args(["-n", "true"]))?.0.success() {
        return Ok(vec!["sudo".into(), "-n".into()]);
    }
    let command = Host::Apt.install_command(packages);
    Err(Ending::infrastructure(format!(
        "installing packages needs root; run: {command}"
    )))
}

fn trial(packages: &[String]) -> Result<Answer> {
    let mut command = sh::command("apt-get");
    command
        .args(["-s", "-q", "install", "--no-install-recommends"])
        .args(packages);
    let (status, out, err) = sh::captured(&mut command)?;
    Ok(if status.success() {
        Answer::Possible
    } else {
        judge(&format!("{out}\n{err}"))
    })
}

fn judge(text: &str) -> Answer {
    let any = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if any(&[
        "Unable to locate package",
        "has no installation candidate",
        "Couldn't find any package",
    ]) {
        Answer::Unknown
    } else if any(&["held broken packages", "unmet dependencies"]) {
        Answer::Conflict
    } else {
        Answer::Other
    }
}

/// Splits the packages into those that install normally and those in conflict. Any other answer of apt is an error.
fn partition(packages: &[String], trial: impl Fn(&[String]) -> Result<Answer>) -> Result<(Vec<String>, Vec<String>)> {
    if trial(packages)? == Answer::Possible {
        return Ok((packages.to_vec(), Vec::new()));
    }
    let (mut plain, mut conflicting) = (Vec::new(), Vec::new());
    for package in packages {
        match trial(std::slice::from_ref(package))? {
            Answer::Possible => plain.push(package.clone()),
            Answer::Conflict => conflicting.push(package.clone()),
            Answer::Unknown => {
                let what = format!("apt has no package `{package}`; is this Debian, with complete sources?");
                return Err(Ending::infrastructure(what));
            }
            Answer::Other => {
                let what = format!("apt cannot install `{package}`; see `apt-get -s install {package}`");
                return Err(Ending::infrastructure(what));
            }
        }
    }
    Ok((plain, conflicting))
}

/// Installs normally, or from a suite that only a private apt configuration has.
fn install_from(prefix: &[String], suite: Option<(&Path, &str)>, packages: &[String]) -> Result<()> {
    let mut words = vec!["env".to_owned(), "DEBIAN_FRONTEND=noninteractive".to_owned()];
    // sudo clears the environment, so the variable must follow it.
    words.extend(suite.map(|(config, _)| format!("APT_CONFIG={}", config.display())));
    words.extend(["apt-get", "-y", "-q", "install", "--no-install-recommends"].map(str::to_owned));
    words.extend(suite.map(|(_, name)| format!("--target-release={name}")));
    words.extend(packages.iter().cloned());
    run(prefix, &words)
}

fn install_from_backports(prefix: &[String], packages: &[String]) -> Result<()> {
    let codename = debian_codename()?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let suites = ["", "-updates", "-security", "-backports"].map(|suffix| format!("{codename}{suffix}"));
    let apt = PrivateApt::new(folder.path(), &suites.each_ref().map(String::as_str))?;
    install_from(prefix, Some((apt.config(), &suites[3])), packages)
}

fn run(prefix: &[String], words: &[String]) -> Result<()> {
    let mut all = prefix.iter().chain(words);
    let program = all.next().context("an empty command")?;
    let done = sh::output(sh::command(program).args(all));
    done.map(drop)
        .map_err(|error| Ending::infrastructure(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: &str = "Some packages could not be installed. This may mean that you have\n\
        requested an impossible situation or if you are using the unstable\n\
        distribution that some required packages have not yet been created\n\
        or been moved out of Incoming.\n\
        The following packages have unmet dependencies:\n \
        qemu-system-x86 : Depends: qemu-system-common (= 1:7.2+dfsg-7+deb12u18+b3) but 1:10.0.2+ds-2+deb13u1~bpo12+1 is to be installed\n\
        E: Unable to correct problems, you have held broken packages.\n";

    #[test]
    fn what_apt_says_is_understood() {
        assert_eq!(judge("E: Unable to locate package lld-19\n"), Answer::Unknown);
        assert_eq!(
            judge("E: Package 'lld-19' has no installation candidate\n"),
            Answer::Unknown
        );
        assert_eq!(judge(HELD), Answer::Conflict);
        assert_eq!(
            judge("E: Could not get lock /var/lib/dpkg/lock-frontend\n"),
            Answer::Other
        );
    }

    #[test]
    fn only_the_packages_in_conflict_come_from_backports() {
        let packages = ["bc", "qemu-system-x86"].map(str::to_owned);
        let trial = |asked: &[String]| {
            let held = asked.iter().any(|package| package.starts_with("qemu"));
            Ok(if held { judge(HELD) } else { Answer::Possible })
        };
        let (plain, conflicting) = partition(&packages, trial).unwrap();
        assert_eq!(
            (plain.as_slice(), conflicting.as_slice()),
            (&packages[..1], &packages[1..])
        );
    }

    #[test]
    fn a_package_that_stays_unknown_is_named() {
        let error = partition(&["nope".to_owned()], |_| Ok(Answer::Unknown)).unwrap_err();
        assert!(error.to_string().contains("`nope`"), "{error}");
    }
}
