//! Where cases run: every combination of kernel, architecture, toolchain and configuration that the manifests have.

use std::fmt;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::cli::E2eRunArgs;
use crate::corpus::Place;
use crate::kernel::Arch;
use crate::manifest::{self, Manifest, arch_name};
use crate::outcome::Ending;
use crate::store::InputHasher;

/// One place where cases run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Axis {
    /// e.g. `6.12`
    pub series: String,
    /// e.g. `6.12.107`
    pub version: String,
    /// Architecture.
    pub arch: Arch,
    /// e.g. `clang-19`
    pub toolchain: String,
    /// e.g. `small`
    pub config: String,
}

impl fmt::Display for Axis {
    /// The series and not the version: the name stays when a pin moves on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (series, arch) = (&self.series, arch_name(self.arch));
        write!(f, "{series}/{arch}/{}/{}", self.toolchain, self.config)
    }
}

impl Axis {
    /// The place as cases name it.
    pub fn place(&self) -> Place<'_> {
        Place {
            series: &self.series,
            arch: self.arch,
            toolchain: &self.toolchain,
            config: &self.config,
        }
    }
}

/// All that the command line asks for, in the order of the manifests.
pub fn wanted(args: &E2eRunArgs) -> Result<Vec<Axis>> {
    let kernel = args.kernel.as_deref();
    let which = "which kernel? Name one with --kernel, or `all`; `cargo xtask kernel list` shows them";
    let kernel = kernel.ok_or_else(|| Ending::usage(which))?;
    let kernels: Vec<(Manifest, String)> = if kernel == "all" {
        let with_default = |manifest: Manifest| (manifest.clone(), manifest.default);
        manifest::load_all()?.into_iter().map(with_default).collect()
    } else {
        vec![manifest::find(kernel)?]
    };
    let mut axes: Vec<Axis> = Vec::new();
    for (manifest, version) in &kernels {
        axes.extend(of_kernel(manifest, version));
    }
    let fits = |wanted: &str, have: &str| wanted == "all" || wanted == have;
    axes.retain(|axis| {
        fits(&args.arch, arch_name(axis.arch))
            && fits(&args.toolchain, &axis.toolchain)
            && fits(&args.config, &axis.config)
    });
    if axes.is_empty() {
        let text = "no kernel of the manifests fits --kernel, --arch, --toolchain and --config";
        return Err(Ending::usage(format!(
            "{text}; `cargo xtask kernel list` shows what there is"
        )));
    }
    Ok(axes)
}

fn of_kernel(manifest: &Manifest, version: &str) -> Vec<Axis> {
    let mut axes = Vec::new();
    for (arch, of_arch) in &manifest.arches {
        for (config, variant) in &of_arch.configs {
            for toolchain in &variant.toolchains {
                axes.push(Axis {
                    series: manifest.series.clone(),
                    version: version.to_owned(),
                    arch: *arch,
                    toolchain: toolchain.clone(),
                    config: config.clone(),
                });
            }
        }
    }
    axes
}

/// A name for the kernel build that a CI cache can keep it under: it changes with everything in the manifest that goes
/// into the build. The build itself looks once more, at the versions of the tools, too.
pub fn cache_key(axis: &Axis) -> Result<String> {
    let folder = manifest::project_root().join("kernels");
    let read =
        |path: std::path::PathBuf| std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
    let (manifest, _) = manifest::find(&axis.series)?;
    let name = axis.to_string();
    let text = read(folder.join(format!("{}.yaml", axis.series)))?;
    let mut hasher = InputHasher::new("e2e baseline")
        .input("axis", name.as_bytes())
        .input("manifest", &text);
    for fragment in &manifest.config(axis.arch, &axis.config)?.fragments {
        hasher = hasher.input("fragment", &read(manifest.fragment(fragment))?);
    }
    Ok(format!("{}-{}", name.replace('/', "-"), &hasher.finish()[..16]))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn axes(line: &str) -> Vec<String> {
        let cli = Cli::try_parse_from(["xtask", "e2e"].into_iter().chain(line.split_whitespace())).expect("parses");
        let Command::E2e(args) = cli.command else {
            panic!("it is e2e")
        };
        wanted(&args.run)
            .expect("fits")
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn all_means_every_combination_of_the_manifests() {
        let small = axes("--kernel 6.12");
        assert!(small.contains(&"6.12/x86_64/clang-19/small".to_owned()), "{small:?}");
        let all = axes("--kernel all --arch all --config all");
        assert!(
            all.len() > small.len() && small.iter().all(|axis| all.contains(axis)),
            "{all:?}"
        );
    }

    #[test]
    fn a_cache_key_is_a_file_name() {
        let axis = Axis {
            series: "6.12".into(),
            version: "6.12.107".into(),
            arch: Arch::X86_64,
            toolchain: "clang-19".into(),
            config: "small".into(),
        };
        let key = cache_key(&axis).expect("the manifest is there");
        assert!(
            key.starts_with("6.12-x86_64-clang-19-small-") && !key.contains('/'),
            "{key}"
        );
    }
}
