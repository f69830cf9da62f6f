//! `kernel list` and `kernel build`: the baselines that livepatches are built against.

use anyhow::Result;
use serde::Serialize;

use super::{Context, doctor};
use crate::baseline::{self, Baseline, Wanted};
use crate::cli::{KernelBuildArgs, OwnKernel, PinnedKernel, jobs};
use crate::corpus::{Case, Place};
use crate::deps;
use crate::manifest::{self, Manifest, arch_name};
use crate::outcome::Ending;
use crate::sh;
use crate::store::{Entry, Kind};
use crate::ui::Phases;

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
    let listed: Vec<Listed> = manifest::load_all()?
        .iter()
        .flat_map(|manifest| listed(manifest, &entries))
        .collect();
    if context.common.json {
        return context.ui.json(&listed);
    }
    for kernel in &listed {
        let default = if kernel.default {
            format!(" (what {} stands for)", kernel.series)
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
            let prefix = format!("{version}-{}-{config}-", arch_name(*arch));
            let builds = entries
                .iter()
                .filter(|entry| entry.kind == Kind::Build && entry.needs.is_some());
            let builds = builds
                .filter(|entry| entry.name.starts_with(&prefix))
                .map(|entry| entry.name.clone());
            variants.push(Variant {
                arch: arch_name(*arch),
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
    let (jobs, install_deps) = (args.jobs, args.install_deps);
    let made = resolve(
        Request {
            pinned: &args.kernel,
            own: None,
            jobs,
            install_deps,
            boot: false,
        },
        context,
    )?;
    let kernel = &made.kernel;
    if context.common.json {
        return context.ui.json(&Built {
            id: kernel.id.clone(),
            release: kernel.release.clone(),
            source: kernel.source.display().to_string(),
            build: kernel.build.display().to_string(),
            vmlinux: kernel.vmlinux.display().to_string(),
            image: made.image.as_ref().map(|image| image.display().to_string()),
            phases: context.ui.phases(),
        });
    }
    context.ui.summary();
    context
        .ui
        .say(format!("Linux {} is in {}", kernel.release, kernel.build.display()));
    Ok(())
}

/// The kernel that a command is to work on, as the command line has it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// One of ours.
    pub pinned: &'a PinnedKernel,
    /// The user's own, which comes first if it is named.
    pub own: Option<&'a OwnKernel>,
    /// Jobs at a time.
    pub jobs: Option<usize>,
    /// Whether missing packages may be installed.
    pub install_deps: bool,
    /// Whether the kernel will be booted, which needs more programs.
    pub boot: bool,
}

/// A case of the corpus as it is at this kernel; unchanged for a kernel that the user has built.
pub fn case_at(case: &Case, pinned: &PinnedKernel) -> Result<Case> {
    let Some(name) = &pinned.kernel else {
        return Ok(case.clone());
    };
    let manifest = manifest::find(name)?.0;
    let variant = manifest.config(pinned.arch.into(), &pinned.config)?;
    let toolchain = pinned.toolchain.as_ref().or(variant.toolchains.first());
    Ok(case.at(&Place {
        series: &manifest.series,
        arch: pinned.arch.into(),
        toolchain: toolchain.map_or("", String::as_str),
        config: &pinned.config,
    }))
}

/// Finds the kernel, or fetches and builds it. The programs that takes are looked for, or installed, first.
pub fn resolve(request: Request<'_>, context: &Context<'_>) -> Result<Baseline> {
    if let Some((own, source)) = request.own.and_then(|own| Some((own, own.source.as_deref()?))) {
        let own = baseline::own_kernel(source, own.build_dir.as_deref(), own.vmlinux.as_deref())?;
        // What built it is there already, or compiling the first file will say what is missing.
        if request.boot {
            doctor::ensure(&[deps::boot_job(own.kernel.arch)], request.install_deps, context)?;
        }
        return Ok(own);
    }
    let pinned = request.pinned;
    let name = pinned.kernel.clone();
    let wanted = Wanted {
        kernel: name.ok_or_else(|| {
            Ending::usage("which kernel? Name one with --kernel; `cargo xtask kernel list` shows them")
        })?,
        config: pinned.config.clone(),
        arch: pinned.arch.into(),
        toolchain: pinned.toolchain.clone(),
        allow_version_drift: pinned.allow_version_drift,
        launcher: pinned.launcher.clone(),
    };
    if let Some(launcher) = &wanted.launcher
        && sh::find(launcher).is_none()
    {
        return Err(Ending::usage(format!("--launcher: there is no program `{launcher}`")));
    }
    let manifest = manifest::find(&wanted.kernel)?.0;
    let arch = manifest.arch(wanted.arch)?;
    let toolchain = arch.toolchain(
        manifest.config(wanted.arch, &wanted.config)?,
        wanted.toolchain.as_deref(),
    )?;
    let mut needed = deps::build_jobs(wanted.arch, toolchain);
    needed.extend(request.boot.then(|| deps::boot_job(wanted.arch)));
    doctor::ensure(&needed, request.install_deps, context)?;
    baseline::baseline(&context.store()?, &wanted, jobs(request.jobs), context.ui)
}
