//! A kernel that the user has built: read, never written.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Baseline, config};
use crate::kernel::{Arch, KernelBuild};
use crate::outcome::Ending;
use crate::supply::store::{InputHasher, hash_file};

/// Takes a finished build as the baseline. `build` is `None` if the kernel was built in its source tree.
pub fn own_kernel(source: &Path, build: Option<&Path>, vmlinux: Option<&Path>) -> Result<Baseline> {
    let source = existing(source, "the source tree")?;
    let build = build.map_or_else(|| Ok(source.clone()), |build| existing(build, "the build directory"))?;
    let vmlinux = existing(vmlinux.unwrap_or(&build.join("vmlinux")), "the image with symbols")?;
    existing(&source.join("Kbuild"), "the top of a kernel's source tree")?;
    let dot_config = existing(&build.join(".config"), "the configuration")?;
    let release = existing(
        &build.join("include/config/kernel.release"),
        "the release of a finished build",
    )?;
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
    };
    let image = Some(image).filter(|path| path.is_file());
    let kernel = KernelBuild {
        source,
        build,
        vmlinux,
        arch,
        release: release.trim().to_owned(),
        id,
    };
    Ok(Baseline {
        kernel,
        image,
        build_seconds: None,
        _held: None,
    })
}

fn existing(path: &Path, what: &str) -> Result<PathBuf> {
    let found = path.canonicalize();
    found.map_err(|error| Ending::infrastructure(format!("{what} is needed at {}: {error}", path.display())))
}

fn unsupported(path: &Path) -> anyhow::Error {
    Ending::infrastructure(format!(
        "{} is not for x86_64 or little-endian 64-bit PowerPC",
        path.display()
    ))
}

fn arch_of(text: &str) -> Option<Arch> {
    let settings = config::settings(text);
    let on = |name: &str| settings.get(name) == Some(&"y");
    if on("CONFIG_X86_64") {
        Some(Arch::X86_64)
    } else if on("CONFIG_PPC64") && on("CONFIG_CPU_LITTLE_ENDIAN") {
        Some(Arch::Ppc64le)
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
    }

    #[test]
    fn an_unfinished_build_is_refused_by_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let error = own_kernel(folder.path(), None, None).unwrap_err().to_string();
        assert!(error.contains("vmlinux"), "{error}");
    }
}
