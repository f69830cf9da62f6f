//! Where cases run: every combination of kernel, architecture, toolchain and configuration that the manifests have.

use std::path::Path;

use anyhow::Result;

use super::STOCK;
use kpatch_build::kernel::Arch;
use kpatch_build::outcome::Ending;
use kpatch_build::supply::manifest::{Catalog, Manifest};
use kpatch_build::supply::place::Place;
use kpatch_build::supply::stock;
use kpatch_build::supply::store::InputHasher;

/// Which places are wanted; `all` stands for each that there is.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Series or exact version.
    pub kernel: &'a str,
    pub arch: &'a str,
    pub toolchain: &'a str,
    pub config: &'a str,
}

/// All that are wanted, in the order of the manifests.
pub fn places(wanted: Wanted<'_>, catalog: &Catalog) -> Result<Vec<Place>> {
    let kernels: Vec<(Manifest, String)> = if wanted.kernel == "all" {
        let with_default = |manifest: Manifest| (manifest.clone(), manifest.default);
        catalog.load_all()?.into_iter().map(with_default).collect()
    } else {
        vec![catalog.find(wanted.kernel)?]
    };
    let mut axes: Vec<Place> = Vec::new();
    for (manifest, version) in &kernels {
        axes.extend(Catalog::places(manifest, version));
    }
    let fits = |wanted: &str, have: &str| wanted == "all" || wanted == have;
    axes.retain(|axis| {
        fits(wanted.arch, axis.arch.name())
            && fits(wanted.toolchain, &axis.toolchain)
            && fits(wanted.config, &axis.config)
    });
    if axes.is_empty() {
        let text = "no kernel of the manifests fits --kernel, --arch, --toolchain and --config";
        return Err(Ending::usage(format!(
            "{text}; `cargo xtask kernel list` shows what there is"
        )));
    }
    Ok(axes)
}

/// The place of a distribution's kernel, if this is the release of one: `6.1/x86_64/stock/cloud-amd64` for
/// `6.1.0-47-cloud-amd64`. No manifest has it, and a newer upload has the same place.
pub fn stock(release: &str) -> Option<Place> {
    if !stock::is_release(release) {
        return None;
    }
    let series: Vec<&str> = release.split(['.', '-', '+']).take(2).collect();
    let (_, rest) = release.split_once(['-', '+'])?;
    // Debian counts uploads before the flavour: `47-`, `deb13-`.
    let flavour = rest
        .split_once('-')
        .filter(|(count, _)| count.ends_with(|c: char| c.is_ascii_digit()));
    Some(Place {
        series: series.join("."),
        version: release.to_owned(),
        arch: Arch::X86_64,
        toolchain: STOCK.to_owned(),
        config: flavour.map_or(rest, |(_, flavour)| flavour).to_owned(),
    })
}

/// A name for the kernel build that a CI cache can keep it under: it changes with everything in the manifest that goes
/// into the build. The build itself looks once more, at the versions of the tools, too.
pub fn cache_key(axis: &Place, catalog: &Catalog) -> Result<String> {
    if axis.toolchain == STOCK {
        return Ok(format!("stock-{}", axis.version));
    }
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
    use super::*;

    fn axes([kernel, arch, toolchain, config]: [&str; 4]) -> Vec<String> {
        let wanted = Wanted {
            kernel,
            arch,
            toolchain,
            config,
        };
        let places = places(wanted, &Catalog::BuiltIn).expect("fits");
        places.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_means_every_combination_of_the_manifests() {
        let small = axes(["6.12", "x86_64", "all", "small"]);
        assert!(small.contains(&"6.12/x86_64/clang-19/small".to_owned()), "{small:?}");
        let all = axes(["all"; 4]);
        assert!(
            all.len() > small.len() && small.iter().all(|axis| all.contains(axis)),
            "{all:?}"
        );
    }

    #[test]
    fn a_distributions_kernel_has_a_place_by_its_flavour() {
        let place = |release: &str| stock(release).map(|place| place.to_string());
        assert_eq!(
            place("6.1.0-47-cloud-amd64").as_deref(),
            Some("6.1/x86_64/stock/cloud-amd64")
        );
        assert_eq!(
            place("6.12.117+deb13-amd64").as_deref(),
            Some("6.12/x86_64/stock/amd64")
        );
        assert_eq!(place("6.8.0-45-generic").as_deref(), Some("6.8/x86_64/stock/generic"));
        assert_eq!(place("6.12.107"), None);
        assert_eq!(place("all"), None);
        let key = cache_key(&stock("6.1.0-47-amd64").unwrap(), &Catalog::BuiltIn).unwrap();
        assert_eq!(key, "stock-6.1.0-47-amd64");
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
