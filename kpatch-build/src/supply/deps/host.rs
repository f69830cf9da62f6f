//! What packages are called on this machine, and the command that installs them.
//!
//! Needs are named by Debian's packages. Other distributions get their own names for what has one that does not depend on
//! the release; a compiler of a certain version has none. Only apt is run by this program.

use std::fmt::Write as _;

use crate::sh;

/// The package manager of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Debian, Ubuntu.
    Apt,
    /// Fedora, RHEL.
    Dnf,
    /// Arch.
    Pacman,
    /// openSUSE, SLES.
    Zypper,
}

/// Debian's name, and those for dnf, pacman and zypper; several words are several packages, none means that no name is
/// known. What is not here is called the same everywhere.
const NAMES: &[(&str, [&str; 3])] = &[
    ("apt", ["apt", "", ""]),
    ("busybox-static", ["busybox", "busybox", "busybox-static"]),
    (
        "libc6-dev",
        ["glibc-devel glibc-static", "glibc", "glibc-devel glibc-devel-static"],
    ),
    ("libelf-dev", ["elfutils-libelf-devel", "libelf", "libelf-devel"]),
    ("libssl-dev", ["openssl-devel", "openssl", "libopenssl-devel"]),
    ("pahole", ["dwarves", "pahole", "dwarves"]),
    ("qemu-system-ppc", ["qemu-system-ppc", "qemu-system-ppc", "qemu-ppc"]),
    ("qemu-system-x86", ["qemu-system-x86", "qemu-system-x86", "qemu-x86"]),
    ("xz-utils", ["xz", "xz", "xz"]),
];

impl Host {
    /// That of this machine; apt if nothing tells.
    pub fn of_this_machine() -> Host {
        let told = std::fs::read_to_string("/etc/os-release").ok();
        let by_name = told.as_deref().and_then(Host::of_release);
        let by_program = || Host::ALL.into_iter().find(|host| sh::find(host.program()).is_some());
        by_name.or_else(by_program).unwrap_or(Host::Apt)
    }

    const ALL: [Host; 4] = [Host::Apt, Host::Dnf, Host::Pacman, Host::Zypper];

    /// From the text of os-release(5): the distribution, else one that it is like.
    fn of_release(text: &str) -> Option<Host> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let names = [field("ID"), field("ID_LIKE")].into_iter().flatten();
        let mut names = names.flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace());
        names.find_map(|name| match name {
            "debian" | "ubuntu" => Some(Host::Apt),
            "fedora" | "rhel" | "centos" => Some(Host::Dnf),
            "arch" => Some(Host::Pacman),
            "suse" | "opensuse" => Some(Host::Zypper),
            _ => None,
        })
    }

    fn program(self) -> &'static str {
        match self {
            Host::Apt => "apt-get",
            Host::Dnf => "dnf",
            Host::Pacman => "pacman",
            Host::Zypper => "zypper",
        }
    }

    /// What a package of Debian is called here; nothing if that is not known.
    pub fn name(self, debian: &str) -> Option<String> {
        let column = match self {
            Host::Apt => return Some(debian.to_owned()),
            Host::Dnf => 0,
            Host::Pacman => 1,
            Host::Zypper => 2,
        };
        match NAMES.iter().find(|(name, _)| *name == debian) {
            Some((_, names)) => Some(names[column].to_owned()).filter(|name| !name.is_empty()),
            // Compilers and what comes with them: one of several versions, or for another architecture.
            None if debian == "util-linux" => Some(debian.to_owned()),
            None => (!debian.contains('-')).then(|| debian.to_owned()),
        }
    }

    /// The command that a user would type, with what it cannot name as a remark.
    pub fn install_command(self, packages: &[String]) -> String {
        let known = packages.iter().filter_map(|package| self.name(package));
        let known = known.collect::<Vec<_>>().join(" ");
        let unknown: Vec<&str> = packages
            .iter()
            .filter(|package| self.name(package).is_none())
            .map(String::as_str)
            .collect();
        let (install, search) = match self {
            Host::Apt => ("sudo apt-get install --no-install-recommends", "apt-file search"),
            Host::Dnf => ("sudo dnf install", "dnf provides"),
            Host::Pacman => ("sudo pacman -S --needed", "pacman -F"),
            Host::Zypper => ("sudo zypper install", "zypper search --provides"),
        };
        let mut command = if known.is_empty() {
            String::new()
        } else {
            format!("{install} {known}")
        };
        if !unknown.is_empty() {
            let gap = if command.is_empty() { "" } else { "  " };
            let all = unknown.join(", ");
            _ = write!(
                command,
                "{gap}# Debian calls the others {all}; `{search}` finds what has a program"
            );
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_itself_or_like_another() {
        for (text, host) in [
            ("ID=debian\n", Some(Host::Apt)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(Host::Apt)),
            ("NAME=Fedora\nID=fedora\n", Some(Host::Dnf)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(Host::Dnf)),
            ("ID=manjaro\nID_LIKE=arch\n", Some(Host::Pacman)),
            (
                "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
                Some(Host::Zypper),
            ),
            ("ID=nixos\n", None),
        ] {
            assert_eq!(Host::of_release(text), host, "{text}");
        }
    }

    #[test]
    fn packages_have_the_names_of_the_host() {
        let packages = ["bc", "clang-19", "libelf-dev", "xz-utils"].map(str::to_owned);
        let command = |host: Host| host.install_command(&packages);
        assert_eq!(
            command(Host::Apt),
            "sudo apt-get install --no-install-recommends bc clang-19 libelf-dev xz-utils"
        );
        let dnf = command(Host::Dnf);
        assert!(
            dnf.starts_with("sudo dnf install bc elfutils-libelf-devel xz  # "),
            "{dnf}"
        );
        assert!(dnf.contains("clang-19"), "{dnf}");
        assert!(command(Host::Pacman).starts_with("sudo pacman -S --needed bc libelf xz  # "));
        assert!(command(Host::Zypper).starts_with("sudo zypper install bc libelf-devel xz  # "));
        assert_eq!(
            Host::Zypper.install_command(&["bc".to_owned()]),
            "sudo zypper install bc"
        );
        assert!(Host::Pacman.install_command(&["apt".to_owned()]).starts_with('#'));
    }
}
