//! `kernel list` and `kernel build`: the baselines that livepatches are built against.

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::cli::{KernelBuildArgs, jobs};
use crate::supply;
use crate::supply::manifest::{self, Manifest};
use crate::supply::store::{Entry, Kind};
use crate::ui::Phases;

#[derive(Serialize)]
struct List<'a> {
    kernels: &'a [Listed],
}

#[derive(Serialize)]
struct Listed {
    series: String,
    version: String,
    default: bool,
    source_in_store: bool,
    variants: Vec<Variant>,
}

#[derive(Serialize)]
struct Variant {
    arch: &'static str,
    config: String,
    about: String,
    builds_in_store: Vec<String>,
}

/// Runs `kernel list`.
pub fn list(context: &Context<'_>) -> Result<()> {
    let entries = context.store()?.entries()?;
    let listed: Vec<Listed> = context
        .catalog
        .load_all()?
        .iter()
        .flat_map(|manifest| listed(manifest, &entries))
        .collect();
    if context.common.json {
        return context.ui.document(List { kernels: &listed });
    }
    for kernel in &listed {
        let default = if kernel.default {
            format!(" (default for {})", kernel.series)
        } else {
            String::new()
        };
        let source = if kernel.source_in_store {
            ", source in the store"
        } else {
            ""
        };
        context.ui.say(format!("{}{default}{source}", kernel.version));
        for variant in &kernel.variants {
            let built = if variant.builds_in_store.is_empty() {
                ""
            } else {
                " [built]"
            };
            context.ui.say(format!(
                "  {} {:10} {}{built}",
                variant.arch, variant.config, variant.about
            ));
        }
    }
    Ok(())
}

fn listed(manifest: &Manifest, entries: &[Entry]) -> Vec<Listed> {
    let of_pin = |pin: &manifest::Pin| {
        let sums = [
            pin.debian.as_ref().map(|one| &one.sha256),
            pin.kernel_org.as_ref().map(|one| &one.sha256),
        ];
        let stored = |entry: &Entry| sums.iter().flatten().any(|sum| sum.as_ref() == entry.name);
        Listed {
            series: manifest.series.clone(),
            version: pin.version.clone(),
            default: pin.version == manifest.default,
            source_in_store: entries.iter().any(stored),
            variants: variants(manifest, &pin.version, entries),
        }
    };
    manifest.pins.iter().map(of_pin).collect()
}

fn variants(manifest: &Manifest, version: &str, entries: &[Entry]) -> Vec<Variant> {
    let mut variants = Vec::new();
    for (arch, of_arch) in &manifest.arches {
        for (config, variant) in &of_arch.configs {
            let prefix = format!("{version}-{}-{config}-", arch.name());
            let builds = entries
                .iter()
                .filter(|entry| entry.kind == Kind::Build && entry.needs.is_some());
            let builds = builds
                .filter(|entry| entry.name.starts_with(&prefix))
                .map(|entry| entry.name.clone());
            variants.push(Variant {
                arch: arch.name(),
                config: config.clone(),
                about: variant.about.clone(),
                builds_in_store: builds.collect(),
            });
        }
    }
    variants
}

#[derive(Serialize)]
struct Built {
    id: String,
    release: String,
    source: String,
    build: String,
    vmlinux: String,
    image: Option<String>,
    phases: Phases,
}

/// Runs `kernel build`.
pub fn build(args: &KernelBuildArgs, context: &Context<'_>) -> Result<()> {
    let options = args.kernel.options(jobs(args.jobs), args.install_deps, false);
    let choice = args.kernel.choice(None)?;
    let made = supply::kernel(&choice, &options, context.catalog, &|| context.store(), context.ui)?;
    let kernel = &made.kernel;
    if context.common.json {
        return context.ui.document(Built {
            id: kernel.id.clone(),
            release: kernel.release.clone(),
            source: kernel.source.display().to_string(),
            build: kernel.build.display().to_string(),
            vmlinux: kernel.vmlinux.display().to_string(),
            image: made.image.as_ref().map(|image| image.display().to_string()),
            phases: context.ui.phases(),
        });
    }
    if context.common.verbose {
        context.ui.summary();
    }
    let (release, build) = (&kernel.release, kernel.build.display());
    context.ui.say(format!("Linux {release}: {build}"));
    Ok(())
}

#[cfg(test)]
pub(super) fn documents() -> Vec<serde_json::Value> {
    use crate::ui::Document;
    let manifests = crate::supply::manifest::Catalog::BuiltIn.load_all().unwrap();
    let kernels: Vec<Listed> = manifests.iter().flat_map(|manifest| listed(manifest, &[])).collect();
    let built = Built {
        id: "6.12-x86_64-small-0".into(),
        release: "6.12.107".into(),
        source: "/s".into(),
        build: "/b".into(),
        vmlinux: "/b/vmlinux".into(),
        image: Some("/b/bzImage".into()),
        phases: Phases::default(),
    };
    vec![
        serde_json::to_value(Document::new(List { kernels: &kernels })).unwrap(),
        serde_json::to_value(Document::new(built)).unwrap(),
    ]
}
