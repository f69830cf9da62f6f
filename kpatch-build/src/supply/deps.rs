//! The programs and files that each job needs, and how to get them.

mod host;
mod install;

use std::path::{Path, PathBuf};

use anyhow::Result;
use object::Endianness;
use object::elf::{FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use serde::Serialize;

use crate::kernel::Arch;
use crate::outcome::Ending;
use crate::sh;
use crate::supply::manifest::Toolchain;
use crate::ui::Ui;

pub use host::Host;
pub use install::install;

/// A program or file that must be there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    /// A program in `PATH`.
    Program(String),
    /// One of several programs.
    AnyProgram(Vec<&'static str>),
    /// A statically linked program, for the guest.
    StaticProgram(&'static str),
    /// A file at one of these paths.
    File(Vec<String>),
}

/// A program or file, and the Debian package that provides it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    item: Item,
    /// Debian package that provides it.
    pub package: String,
}

/// A task that needs programs and files, e.g. building a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What `doctor` calls it.
    pub name: String,
    needs: Vec<Need>,
}

impl Need {
    fn is_met(&self) -> bool {
        match &self.item {
            Item::Program(name) => sh::find(name).is_some(),
            Item::AnyProgram(names) => names.iter().any(|name| sh::find(name).is_some()),
            Item::StaticProgram(name) => sh::find(name).is_some_and(|path| is_static(&path)),
            Item::File(places) => places.iter().any(|place| Path::new(place).exists()),
        }
    }

    /// What is missing and the package that has it on this host, for people: `ld.lld-19 (lld-19)`, `make`.
    pub fn with_package(&self, host: Host) -> String {
        match (self.shown(), host.name(&self.package)) {
            (shown, None) => shown,
            (shown, Some(package)) if shown == package => shown,
            (shown, Some(package)) => format!("{shown} ({package})"),
        }
    }

    /// What is missing, for people.
    pub fn shown(&self) -> String {
        match &self.item {
            Item::Program(name) => name.clone(),
            Item::AnyProgram(names) => names.join(" or "),
            Item::StaticProgram(name) => format!("{name} (static)"),
            Item::File(places) => places[0].clone(),
        }
    }
}

impl Job {
    /// The needs that are not met.
    pub fn missing(&self) -> Vec<&Need> {
        self.needs.iter().filter(|need| !need.is_met()).collect()
    }
}

/// Fails unless these jobs can be done. Installs missing packages if `may_install` is set.
pub fn ensure(jobs: &[Job], may_install: bool, ui: &Ui) -> Result<()> {
    if may_install {
        install(&missing_packages(jobs), ui)?;
    }
    verdict(&missing_packages(jobs))
}

/// An error that names the missing packages and the command that installs them.
pub fn verdict(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let command = Host::of_this_machine().install_command(packages);
    Err(Ending::infrastructure(format!(
        "missing packages; install them with: {command}"
    )))
}

/// The jobs of building a kernel and a livepatch for it.
pub fn build_jobs(arch: Arch, toolchain: &Toolchain) -> Vec<Job> {
    vec![fetch_job(), build_job(arch, toolchain)]
}

fn fetch_job() -> Job {
    let mut needs = vec![program("tar", "tar"), program("xz", "xz-utils")];
    needs.push(Need {
        item: Item::AnyProgram(vec!["apt-get", "curl", "wget"]),
        package: "curl".into(),
    });
    Job {
        name: "fetch kernel sources".into(),
        needs,
    }
}

fn build_job(arch: Arch, toolchain: &Toolchain) -> Job {
    let mut needs: Vec<Need> = ["make", "gcc", "flex", "bison", "bc", "perl", "cpio", "pahole"]
        .map(|name| program(name, name))
        .into();
    needs.push(program("depmod", "kmod"));
    needs.push(file(&["/usr/include/stdio.h"], "libc6-dev"));
    needs.push(file(&["/usr/include/libelf.h"], "libelf-dev"));
    needs.push(file(&["/usr/include/openssl/opensslv.h"], "libssl-dev"));
    for (name, package) in &toolchain.programs {
        let need = program(name, package);
        // The compiler of the kernel may be the host's.
        if !needs.contains(&need) {
            needs.push(need);
        }
    }
    Job {
        name: format!(
            "build {} kernels ({})",
            arch.name(),
            toolchain.identity.first().map_or("", String::as_str)
        ),
        needs,
    }
}

/// The job of unpacking a distribution's kernel and of building livepatches for it.
pub fn stock_job() -> Job {
    let mut needs = vec![
        program("apt-get", "apt"),
        program("dpkg-deb", "dpkg"),
        program("xz", "xz-utils"),
    ];
    needs.extend(["tar", "make", "gcc"].map(|name| program(name, name)));
    needs.extend([program("ld", "binutils"), program("unshare", "util-linux")]);
    Job {
        name: "livepatches for a distribution's kernels".into(),
        needs,
    }
}

/// The job of reading RPM packages.
pub fn rpm_job() -> Job {
    Job {
        name: "kernels out of RPM packages".into(),
        needs: vec![program("bsdtar", "libarchive-tools")],
    }
}

/// The job of booting a kernel.
pub fn boot_job(arch: Arch) -> Job {
    boot_job_on(Arch::of_this_machine(), arch)
}

/// The job of booting a kernel on a machine of `own`.
fn boot_job_on(own: Option<Arch>, arch: Arch) -> Job {
    let triplet = arch.triplet();
    let mut needs = vec![match arch {
        Arch::X86_64 => program("qemu-system-x86_64", "qemu-system-x86"),
        Arch::Ppc64le => program("qemu-system-ppc64", "qemu-system-ppc"),
        Arch::Arm64 => program("qemu-system-aarch64", "qemu-system-arm"),
        Arch::S390x => program("qemu-system-s390x", "qemu-system-misc"),
    }];
    if own == Some(arch) {
        needs.push(Need {
            item: Item::StaticProgram("busybox"),
            package: "busybox-static".into(),
        });
        needs.push(program("gcc", "gcc"));
        let debian = format!("/usr/lib/{triplet}/libc.a");
        needs.push(file(&[&debian, "/usr/lib/libc.a", "/usr/lib64/libc.a"], "libc6-dev"));
    } else {
        // The guest's busybox does not run on this machine: it is unpacked into the store (`crate::supply::guest_busybox`).
        let (gcc, debian_name) = (format!("{triplet}-gcc"), arch.debian_name());
        // The names of packages have no `_`.
        needs.push(program(&gcc, &format!("gcc-{}", triplet.replace('_', "-"))));
        let libc = format!("/usr/{triplet}/lib/libc.a");
        needs.push(file(&[&libc], &format!("libc6-dev-{debian_name}-cross")));
        needs.push(program("dpkg-deb", "dpkg"));
    }
    Job {
        name: format!("boot {} kernels", arch.name()),
        needs,
    }
}

fn program(name: &str, package: &str) -> Need {
    Need {
        item: Item::Program(name.to_owned()),
        package: package.to_owned(),
    }
}

fn file(places: &[&str], package: &str) -> Need {
    Need {
        item: Item::File(places.iter().map(|place| (*place).to_owned()).collect()),
        package: package.to_owned(),
    }
}

/// Whether a program is statically linked: the guest has no libraries.
fn is_static(path: &PathBuf) -> bool {
    let Ok(bytes) = std::fs::read(path) else { return false };
    let bytes = bytes.as_slice();
    let header = FileHeader64::<Endianness>::parse(bytes);
    let headers = header.and_then(|header| {
        let endian = header.endian()?;
        let segments = header.program_headers(endian, bytes)?;
        Ok(segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP))
    });
    headers.unwrap_or(false)
}

/// The packages that provide the unmet needs, each once, sorted.
pub fn missing_packages(jobs: &[Job]) -> Vec<String> {
    let mut packages: Vec<String> = jobs
        .iter()
        .flat_map(Job::missing)
        .map(|need| need.package.clone())
        .collect();
    packages.sort();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_named_once() {
        let absent = |package: &str| program("no-such-program-here", package);
        let jobs = [
            Job {
                name: "a".into(),
                needs: vec![absent("zz"), program("sh", "dash"), absent("aa")],
            },
            Job {
                name: "b".into(),
                needs: vec![absent("zz")],
            },
        ];
        assert_eq!(missing_packages(&jobs), ["aa", "zz"]);
    }

    #[test]
    fn a_guest_of_another_architecture_needs_a_cross_compiler() {
        let packages = |own: Arch, arch: Arch| {
            let job = boot_job_on(Some(own), arch);
            job.needs.into_iter().map(|need| need.package).collect::<Vec<_>>()
        };
        let own = ["qemu-system-arm", "busybox-static", "gcc", "libc6-dev"];
        assert_eq!(packages(Arch::Arm64, Arch::Arm64), own);
        let cross = [
            "qemu-system-x86",
            "gcc-x86-64-linux-gnu",
            "libc6-dev-amd64-cross",
            "dpkg",
        ];
        assert_eq!(packages(Arch::Arm64, Arch::X86_64), cross);
        let cross = [
            "qemu-system-ppc",
            "gcc-powerpc64le-linux-gnu",
            "libc6-dev-ppc64el-cross",
            "dpkg",
        ];
        assert_eq!(packages(Arch::X86_64, Arch::Ppc64le), cross);
    }

    #[test]
    fn a_package_is_named_if_its_name_is_another() {
        assert_eq!(program("make", "make").with_package(Host::Apt), "make");
        assert_eq!(program("depmod", "kmod").with_package(Host::Apt), "depmod (kmod)");
        assert_eq!(program("xz", "xz-utils").with_package(Host::Dnf), "xz");
        assert_eq!(program("clang-19", "clang-19").with_package(Host::Zypper), "clang-19");
    }

    #[test]
    fn one_of_several_is_enough() {
        let any = |names: &[&'static str]| Need {
            item: Item::AnyProgram(names.to_vec()),
            package: "x".into(),
        };
        assert!(any(&["no-such-program-here", "sh"]).is_met());
        assert!(!any(&["no-such-program-here"]).is_met());
    }

    #[test]
    fn a_shell_script_is_no_static_program() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("busybox");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert!(!is_static(&script));
    }
}
