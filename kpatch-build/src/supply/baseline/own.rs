//! A kernel that the user has built: read, never written.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Baseline, config};
use crate::kernel::{Arch, KernelBuild};
use crate::outcome::Ending;
use crate::supply::store::{InputHasher, hash_file};

/// Takes a finished build as the baseline. `build` is `None` if the kernel was built in its source tree.
pub fn own_kernel(source: &Path, build: Option<&Path>, vmlinux: Option<&Path>) -> Result<Baseline> {
    let source = existing(source, || format!("no source tree {}", source.display()))?;
    existing(&source.join("Kbuild"), || {
        format!("{} is not a kernel source tree", source.display())
    })?;
    let build = match build {
        Some(build) => existing(build, || format!("no build directory {}", build.display()))?,
        None => source.clone(),
    };
    let vmlinux = match vmlinux {
        Some(vmlinux) => existing(vmlinux, || format!("no {}", vmlinux.display()))?,
        None => existing(&build.join("vmlinux"), || {
            format!("no vmlinux in {}; build the kernel or pass --vmlinux", build.display())
        })?,
    };
    let of_build = |file: &str| {
        existing(&build.join(file), || {
            format!("no {file} in {}; build the kernel there", build.display())
        })
    };
    let dot_config = of_build(".config")?;
    let release = of_build("include/config/kernel.release")?;
    let release = std::fs::read_to_string(&release).with_context(|| format!("cannot read {}", release.display()))?;
    let config_text = std::fs::read(&dot_config).with_context(|| format!("cannot read {}", dot_config.display()))?;
    let arch = arch_of(&String::from_utf8_lossy(&config_text)).ok_or_else(|| unsupported(&dot_config))?;
    let id = InputHasher::new("own kernel")
        .input("vmlinux", hash_file(&vmlinux)?.as_bytes())
        .input(".config", &config_text)
        .finish();
    let image = match arch {
        Arch::X86_64 => build.join("arch/x86/boot/bzImage"),
        Arch::Ppc64le => vmlinux.clone(),
        Arch::Arm64 => build.join("arch/arm64/boot/Image"),
        Arch::S390x => build.join("arch/s390/boot/bzImage"),
    };
    let image = Some(image).filter(|path| path.is_file());
    let kernel = KernelBuild {
        source,
        build,
        vmlinux,
        arch,
        release: release.trim().to_owned(),
        id,
        log: None,
    };
    Ok(Baseline {
        kernel,
        image,
        build_seconds: None,
        _held: None,
    })
}

fn existing(path: &Path, missing: impl Fn() -> String) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| {
        Ending::infrastructure(match error.kind() {
            ErrorKind::NotFound => missing(),
            _ => format!("cannot read {}: {error}", path.display()),
        })
    })
}

fn unsupported(path: &Path) -> anyhow::Error {
    Ending::infrastructure(format!("{}: neither x86_64, ppc64le, arm64 nor s390x", path.display()))
}

fn arch_of(text: &str) -> Option<Arch> {
    let settings = config::settings(text);
    let on = |name: &str| settings.get(name) == Some(&"y");
    if on("CONFIG_X86_64") {
        Some(Arch::X86_64)
    } else if on("CONFIG_PPC64") && on("CONFIG_CPU_LITTLE_ENDIAN") {
        Some(Arch::Ppc64le)
    } else if on("CONFIG_ARM64") && !on("CONFIG_CPU_BIG_ENDIAN") {
        Some(Arch::Arm64)
    } else if on("CONFIG_S390") && on("CONFIG_64BIT") {
        Some(Arch::S390x)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architecture_is_in_the_configuration() {
        assert_eq!(arch_of("CONFIG_X86=y\nCONFIG_X86_64=y\n"), Some(Arch::X86_64));
        assert_eq!(
            arch_of("CONFIG_PPC64=y\nCONFIG_CPU_LITTLE_ENDIAN=y\n"),
            Some(Arch::Ppc64le)
        );
        assert_eq!(arch_of("CONFIG_PPC64=y\n"), None);
        assert_eq!(arch_of("CONFIG_ARM64=y\n"), Some(Arch::Arm64));
        assert_eq!(arch_of("CONFIG_ARM64=y\nCONFIG_CPU_BIG_ENDIAN=y\n"), None);
        assert_eq!(arch_of("CONFIG_S390=y\nCONFIG_64BIT=y\n"), Some(Arch::S390x));
    }

    #[test]
    fn an_unfinished_build_is_refused_by_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let error = || own_kernel(folder.path(), None, None).unwrap_err().to_string();
        assert!(error().contains("is not a kernel source tree"), "{}", error());
        std::fs::write(folder.path().join("Kbuild"), "").unwrap();
        assert!(error().contains("build the kernel or pass --vmlinux"), "{}", error());
        std::fs::write(folder.path().join("vmlinux"), "").unwrap();
        assert!(error().contains("no .config in "), "{}", error());
    }
}
