//! Manifests, `kernels/*.yaml`: the known kernels, where their sources come from and what builds them.

mod catalog;
mod machine;
mod pins;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::kernel::Arch;
use crate::outcome::Ending;

pub use catalog::Catalog;

/// One kernel series: a file `kernels/<series>.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the series, e.g. `6.12`.
    pub series: String,
    /// The version that `--kernel <series>` means.
    pub default: String,
    /// The pinned versions.
    pub pins: Vec<Pin>,
    /// How it is built, for each architecture.
    pub arches: BTreeMap<Arch, ArchManifest>,
    /// The catalog that the manifest and its fragments come from.
    #[serde(skip)]
    catalog: Catalog,
}

/// One version with its sources.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Kernel version, e.g. `6.12.107`.
    pub version: String,
    /// From a Debian archive.
    pub debian: Option<DebianSource>,
    /// From kernel.org: the archive of the release.
    pub kernel_org: Option<KernelOrgSource>,
}

/// A source package of the form `linux-source-X.Y`: a `.deb` with an archive inside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DebianSource {
    /// Name of the binary package, e.g. `linux-source-6.12`.
    pub package: String,
    /// Exact package version, e.g. `6.12.107-1~deb12u1`.
    pub version: String,
    /// Suite that has it, e.g. `bookworm-security`.
    pub suite: String,
    /// Checksum of the package.
    pub deb_sha256: Sha256,
    /// Path of the source archive inside the package.
    pub member: PathBuf,
    /// Checksum of the archive inside.
    pub sha256: Sha256,
}

/// A release archive on kernel.org, `linux-VERSION.tar.xz`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelOrgSource {
    /// Checksum of the archive.
    pub sha256: Sha256,
}

/// How a series is built for one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchManifest {
    /// The image that QEMU boots.
    pub image: Image,
    /// Toolchains by name, e.g. `clang-19`.
    pub toolchains: BTreeMap<String, Toolchain>,
    /// Configurations by name, e.g. `small`.
    pub configs: BTreeMap<String, ConfigVariant>,
}

/// A compiler, and the make variables that select it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// Arguments of every `make` call, e.g. `LLVM=-19`.
    pub make_variables: Vec<String>,
    /// Programs needed, with the Debian package of each.
    pub programs: BTreeMap<String, String>,
    /// Programs whose version is part of a build's identity.
    pub identity: Vec<String>,
}

/// The image that QEMU boots, and the make target that builds it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The make target, e.g. `bzImage`.
    pub target: String,
    /// The file, relative to the build directory.
    pub path: PathBuf,
}

/// A configuration: a make target that writes a `.config`, and fragments on top of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigVariant {
    /// One sentence for `kernel list`.
    pub about: String,
    /// Names of the toolchains that can build it; the first is the usual one.
    pub toolchains: Vec<String>,
    /// The make target that the configuration starts from, e.g. `allnoconfig`.
    pub base: String,
    /// Files in `kernels/config/`, later ones win.
    pub fragments: Vec<PathBuf>,
    /// Files in `kernels/patches/` that make another source of the version's.
    #[serde(default)]
    pub patches: Vec<PathBuf>,
    /// What the compiler optimises by, from `kernels/profiles/`.
    #[serde(default)]
    pub profiles: Profiles,
    /// About how many lines kbuild prints for a whole build.
    pub steps: u64,
}

/// Names of the profiles that a kernel is built with (Linux 7.3, scripts/Makefile.autofdo and scripts/Makefile.propeller).
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// A sample profile in LLVM's text form, for `CLANG_AUTOFDO_PROFILE`.
    pub samples: Option<PathBuf>,
    /// The start of the names of two files, `…_cc_profile.txt` with the clusters of basic blocks and `…_ld_profile.txt`
    /// with the order of symbols, for `CLANG_PROPELLER_PROFILE_PREFIX`.
    pub propeller: Option<String>,
}

/// The profiles that a kernel is built with, as texts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProfileTexts {
    /// Samples, in LLVM's text form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<String>,
    /// Clusters of basic blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clusters: Option<String>,
    /// The order of symbols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbols: Option<String>,
}

impl ProfileTexts {
    /// Whether the kernel is built without profiles.
    pub fn is_empty(&self) -> bool {
        *self == ProfileTexts::default()
    }
}

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Sha256(String);

impl TryFrom<String> for Sha256 {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Sha256(text))
        } else {
            Err(format!("`{text}` is not a SHA-256 in lower-case hexadecimal"))
        }
    }
}

impl AsRef<str> for Sha256 {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Manifest {
    fn check(&self) -> Result<()> {
        ensure!(
            self.pin(&self.default).is_some(),
            "`default: {}` is not one of the pins",
            self.default
        );
        for pin in &self.pins {
            let of_series = pin
                .version
                .strip_prefix(&self.series)
                .is_some_and(|rest| rest.starts_with('.'));
            ensure!(of_series, "pin {} is not of series {}", pin.version, self.series);
            ensure!(
                pin.debian.is_some() || pin.kernel_org.is_some(),
                "pin {} has no source",
                pin.version
            );
        }
        for arch in self.arches.values() {
            arch.check()?;
        }
        for (name, config) in self.arches.values().flat_map(|arch| &arch.configs) {
            for fragment in &config.fragments {
                self.fragment(fragment)
                    .with_context(|| format!("configuration {name}"))?;
            }
            self.patches(config).with_context(|| format!("configuration {name}"))?;
            self.profiles(config).with_context(|| format!("configuration {name}"))?;
        }
        Ok(())
    }

    /// The pin of an exact version.
    pub fn pin(&self, version: &str) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.version == version)
    }

    /// The text of a configuration fragment.
    pub fn fragment(&self, name: &Path) -> Result<String> {
        self.catalog.read(&Path::new("config").join(name))
    }

    /// Names and texts of the patches of a configuration.
    pub fn patches(&self, config: &ConfigVariant) -> Result<Vec<(String, String)>> {
        let read = |name: &PathBuf| {
            let text = self.catalog.read(&Path::new("patches").join(name))?;
            Ok((name.display().to_string(), text))
        };
        config.patches.iter().map(read).collect()
    }

    /// Texts of the profiles of a configuration.
    pub fn profiles(&self, config: &ConfigVariant) -> Result<ProfileTexts> {
        let read = |name: &Path| self.catalog.read(&Path::new("profiles").join(name));
        let part = |prefix: &String, part: &str| read(format!("{prefix}_{part}_profile.txt").as_ref());
        let Profiles { samples, propeller } = &config.profiles;
        let propeller = propeller.as_ref();
        Ok(ProfileTexts {
            samples: samples.as_deref().map(read).transpose()?,
            clusters: propeller.map(|prefix| part(prefix, "cc")).transpose()?,
            symbols: propeller.map(|prefix| part(prefix, "ld")).transpose()?,
        })
    }

    /// How the series is built for an architecture.
    pub fn arch(&self, arch: Arch) -> Result<&ArchManifest> {
        let Some(found) = self.arches.get(&arch) else {
            let known = self
                .arches
                .keys()
                .map(|arch| arch.name())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(Ending::usage(format!(
                "no {1} kernels in series {0}; known: {known}",
                self.series,
                arch.name()
            )));
        };
        Ok(found)
    }

    /// A configuration variant by name.
    pub fn config(&self, arch: Arch, name: &str) -> Result<&ConfigVariant> {
        let configs = &self.arch(arch)?.configs;
        configs.get(name).ok_or_else(|| {
            let (arch, known) = (arch.name(), configs.keys().cloned().collect::<Vec<_>>().join(", "));
            Ending::usage(format!("no configuration `{name}` for {arch}; known: {known}"))
        })
    }
}

impl ArchManifest {
    /// The toolchain for a variant: the one asked for, or the variant's first.
    pub fn toolchain(&self, variant: &ConfigVariant, asked: Option<&str>) -> Result<&Toolchain> {
        let name = self.toolchain_name(variant, asked)?;
        // `check` has verified that a configuration names only known toolchains.
        self.toolchains
            .get(name)
            .with_context(|| format!("no toolchain `{name}`"))
    }

    /// The name of that toolchain.
    pub fn toolchain_name<'v>(&self, variant: &'v ConfigVariant, asked: Option<&str>) -> Result<&'v str> {
        let found = match asked {
            Some(name) => variant.toolchains.iter().find(|known| *known == name),
            None => variant.toolchains.first(),
        };
        found.map(String::as_str).ok_or_else(|| {
            let (asked, known) = (asked.unwrap_or("any"), variant.toolchains.join(", "));
            Ending::usage(format!(
                "toolchain `{asked}` cannot build this configuration; known: {known}"
            ))
        })
    }

    /// With the toolchains as this machine has them.
    fn on_this_machine(&mut self, arch: Arch) {
        let own = Arch::of_this_machine();
        let toolchains = std::mem::take(&mut self.toolchains).into_iter();
        self.toolchains = toolchains
            .map(|(name, toolchain)| (name, toolchain.on(own, arch)))
            .collect();
    }

    fn check(&self) -> Result<()> {
        for (name, config) in &self.configs {
            ensure!(!config.toolchains.is_empty(), "configuration {name} names no toolchain");
            for toolchain in &config.toolchains {
                let known = self.toolchains.contains_key(toolchain);
                ensure!(known, "configuration {name}: no toolchain `{toolchain}`");
            }
        }
        for (name, toolchain) in &self.toolchains {
            for program in &toolchain.identity {
                let needed = toolchain.programs.contains_key(program);
                ensure!(needed, "toolchain {name}: `{program}` is not among its programs");
            }
        }
        Ok(())
    }
}

/// Sort key of a version: 6.12 comes after 6.1, and 6.12.107 after 6.12.99.
pub fn version_key(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn manifests_of_this_project_load() {
        let (manifest, version) = Catalog::BuiltIn.find("6.12").unwrap();
        assert_eq!(version, manifest.default);
        assert!(manifest.config(Arch::X86_64, "small").is_ok());
        let error = manifest.config(Arch::Ppc64le, "distro").unwrap_err().to_string();
        assert!(error.contains("for ppc64le; known: small"), "{error}");
        assert_eq!(Catalog::BuiltIn.find("6.12.1").unwrap().1, "6.12.1");
        assert_eq!(Catalog::BuiltIn.find("6.1").unwrap().0.series, "6.1");
        assert!(Catalog::BuiltIn.find("5.10").unwrap_err().to_string().contains("6.12"));
    }

    #[test]
    fn a_configuration_takes_its_own_toolchains_only() {
        let (manifest, _) = Catalog::BuiltIn.find("6.12").unwrap();
        let arch = manifest.arch(Arch::X86_64).unwrap();
        let small = manifest.config(Arch::X86_64, "small").unwrap();
        assert_eq!(arch.toolchain(small, None).unwrap().make_variables[0], "LLVM=-19");
        assert!(arch.toolchain(small, Some("clang-19")).is_ok());
        let error = arch.toolchain(small, Some("gcc")).unwrap_err().to_string();
        assert!(error.contains("clang-19"), "{error}");
    }

    #[test]
    fn toolchains_that_are_named_are_there() {
        let mut arch = Catalog::BuiltIn
            .find("6.12")
            .unwrap()
            .0
            .arches
            .remove(&Arch::Ppc64le)
            .unwrap();
        assert!(arch.check().is_ok());
        arch.toolchains.clear();
        assert!(arch.check().unwrap_err().to_string().contains("`gcc`"));
    }

    #[test]
    fn unknown_keys_and_bad_checksums_are_errors() {
        assert!(
            yaml::parse::<KernelOrgSource>("sha256: abc")
                .unwrap_err()
                .to_string()
                .contains("SHA-256")
        );
        let good = "a".repeat(64);
        assert!(yaml::parse::<KernelOrgSource>(&format!("sha256: {good}")).is_ok());
        let error = yaml::parse::<KernelOrgSource>(&format!("sha256: {good}\nsha265: {good}")).unwrap_err();
        assert!(error.to_string().contains("sha265"), "{error}");
    }

    #[test]
    fn versions_sort_by_number() {
        assert!(version_key("6.12.107") > version_key("6.12.99"));
        assert!(version_key("6.12") > version_key("6.1"));
    }
}
