//! Where cases run: every combination of kernel, architecture, toolchain and configuration that the manifests have.

use std::path::Path;

use anyhow::Result;

use crate::cli::E2eRunArgs;
use kpatch_build::outcome::Ending;
use kpatch_build::supply::manifest::{Catalog, Manifest};
use kpatch_build::supply::place::Place;
use kpatch_build::supply::store::InputHasher;

/// All that the command line asks for, in the order of the manifests.
pub fn wanted(args: &E2eRunArgs, catalog: &Catalog) -> Result<Vec<Place>> {
    let kernel = args.kernel.as_deref();
    let which = "which kernel? Name one with --kernel, or `all`; `cargo xtask kernel list` shows them";
    let kernel = kernel.ok_or_else(|| Ending::usage(which))?;
    let kernels: Vec<(Manifest, String)> = if kernel == "all" {
        let with_default = |manifest: Manifest| (manifest.clone(), manifest.default);
        catalog.load_all()?.into_iter().map(with_default).collect()
    } else {
        vec![catalog.find(kernel)?]
    };
    let mut axes: Vec<Place> = Vec::new();
    for (manifest, version) in &kernels {
        axes.extend(Catalog::places(manifest, version));
    }
    let fits = |wanted: &str, have: &str| wanted == "all" || wanted == have;
    axes.retain(|axis| {
        fits(&args.arch, axis.arch.name()) && fits(&args.toolchain, &axis.toolchain) && fits(&args.config, &axis.config)
    });
    if axes.is_empty() {
        let text = "no kernel of the manifests fits --kernel, --arch, --toolchain and --config";
        return Err(Ending::usage(format!(
            "{text}; `cargo xtask kernel list` shows what there is"
        )));
    }
    Ok(axes)
}

/// A name for the kernel build that a CI cache can keep it under: it changes with everything in the manifest that goes
/// into the build. The build itself looks once more, at the versions of the tools, too.
pub fn cache_key(axis: &Place, catalog: &Catalog) -> Result<String> {
    let (manifest, _) = catalog.find(&axis.series)?;
    let name = axis.to_string();
    let text = catalog.read(Path::new(&format!("{}.yaml", axis.series)))?;
    let mut hasher = InputHasher::new("e2e baseline")
        .input("axis", name.as_bytes())
        .input("manifest", text.as_bytes());
    for fragment in &manifest.config(axis.arch, &axis.config)?.fragments {
        hasher = hasher.input("fragment", manifest.fragment(fragment)?.as_bytes());
    }
    Ok(format!("{}-{}", name.replace('/', "-"), &hasher.finish()[..16]))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use kpatch_build::kernel::Arch;

    fn axes(line: &str) -> Vec<String> {
        let cli = Cli::try_parse_from(["xtask", "e2e"].into_iter().chain(line.split_whitespace())).expect("parses");
        let Command::E2e(args) = cli.command else {
            panic!("it is e2e")
        };
        wanted(&args.run, &Catalog::BuiltIn)
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
        let axis = Place {
            series: "6.12".into(),
            version: "6.12.107".into(),
            arch: Arch::X86_64,
            toolchain: "clang-19".into(),
            config: "small".into(),
        };
        let key = cache_key(&axis, &Catalog::BuiltIn).expect("the manifest is there");
        assert!(
            key.starts_with("6.12-x86_64-clang-19-small-") && !key.contains('/'),
            "{key}"
        );
    }
}
