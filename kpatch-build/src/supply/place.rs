//! The choice of a kernel: what the user names, and the place of the matrix that it means.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::manifest::{Catalog, Manifest};
use crate::kernel::Arch;
use crate::supply::stock::Stock;

/// A kernel as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// A kernel of the manifests.
    Pinned(Pinned),
    /// A kernel that the user has built.
    Own(Own),
    /// A kernel as a distribution ships it.
    Stock(Stock),
}

/// A kernel of the manifests as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Series or version: `6.12`, `6.12.107`.
    pub kernel: String,
    /// Name of the configuration, e.g. `small`.
    pub config: String,
    /// Architecture of the kernel.
    pub arch: Arch,
    /// Name of the toolchain; `None` for the configuration's first.
    pub toolchain: Option<String>,
}

/// A kernel that the user has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Source tree that the kernel was built from.
    pub source: PathBuf,
    /// Build directory; `None` if it is the source tree.
    pub build: Option<PathBuf>,
    /// Unstripped image; `None` for `vmlinux` in the build directory.
    pub vmlinux: Option<PathBuf>,
}

/// One place of the matrix: a fully specified kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Kernel series, e.g. `6.12`.
    pub series: String,
    /// Kernel version, e.g. `6.12.107`.
    pub version: String,
    /// Architecture of the kernel.
    pub arch: Arch,
    /// Name of the toolchain, e.g. `clang-19`.
    pub toolchain: String,
    /// Name of the configuration, e.g. `small`.
    pub config: String,
}

impl fmt::Display for Place {
    /// Shows the series and not the version, so that the name stays when a newer version is pinned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.series, self.arch, self.toolchain, self.config)
    }
}

impl Place {
    /// The place as a choice.
    pub fn pinned(&self) -> Pinned {
        Pinned {
            kernel: self.version.clone(),
            config: self.config.clone(),
            arch: self.arch,
            toolchain: Some(self.toolchain.clone()),
        }
    }
}

impl Catalog {
    /// The manifest and the place that a choice means. An unknown kernel, architecture, configuration or toolchain is a
    /// usage error that lists the known ones.
    pub fn place(&self, pinned: &Pinned) -> Result<(Manifest, Place)> {
        let (manifest, version) = self.find(&pinned.kernel)?;
        let variant = manifest.config(pinned.arch, &pinned.config)?;
        let toolchain = manifest
            .arch(pinned.arch)?
            .toolchain_name(variant, pinned.toolchain.as_deref())?
            .to_owned();
        let place = Place {
            series: manifest.series.clone(),
            version,
            arch: pinned.arch,
            toolchain,
            config: pinned.config.clone(),
        };
        Ok((manifest, place))
    }

    /// Every place of a kernel, in the order of its manifest.
    pub fn places(manifest: &Manifest, version: &str) -> Vec<Place> {
        let mut places = Vec::new();
        for (arch, of_arch) in &manifest.arches {
            for (config, variant) in &of_arch.configs {
                places.extend(variant.toolchains.iter().map(|toolchain| Place {
                    series: manifest.series.clone(),
                    version: version.to_owned(),
                    arch: *arch,
                    toolchain: toolchain.clone(),
                    config: config.clone(),
                }));
            }
        }
        places
    }
}
