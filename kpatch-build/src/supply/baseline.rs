//! The kernel that a livepatch is built against: one from the store, or the user's own.
//!
//! An ordinary out-of-tree build makes the stored one, once for each set of inputs (source, configuration, toolchain,
//! recipe). From then on it is only read.

mod config;
mod launcher;
mod make;
mod own;
mod profiles;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::kernel::{Arch, KernelBuild};
use crate::outcome::Ending;
use crate::program;
use crate::sh;
use crate::supply::Options;
use crate::supply::fetch;
use crate::supply::manifest::{ArchManifest, ConfigVariant, Manifest, Toolchain};
use crate::supply::place::Place;
use crate::supply::store::{
    BuildInputs, BuildSlot, NewBuild, OpenBuild, Store, StoredSource, is_disk_full, require_space,
};
use crate::ui::{Ui, waiting};

use launcher::Launched;

pub use own::own_kernel;

/// Increased when this module makes different builds from the same inputs.
const RECIPE: u32 = 1;

/// Disk space in bytes for the objects, the link and the images of the largest configuration.
const SPACE_FOR_A_BUILD: u64 = 4_000_000_000;

/// A kernel to build livepatches against.
#[derive(Debug)]
pub struct Baseline {
    /// Where source, build directory and vmlinux are.
    pub kernel: KernelBuild,
    /// The image that QEMU boots, if there is one.
    pub image: Option<PathBuf>,
    /// How long the kernel took to build in seconds, if it is a stored one.
    pub build_seconds: Option<f64>,
    /// Locks: source and build stay in the store while this value lives.
    _held: Option<(StoredSource, OpenBuild)>,
}

/// Finds a baseline in the store, or fetches and builds it.
pub(super) fn baseline(
    store: &Store,
    manifest: &Manifest,
    place: &Place,
    options: &Options,
    ui: &Ui,
) -> Result<Baseline> {
    let arch = manifest.arch(place.arch)?;
    let variant = manifest.config(place.arch, &place.config)?;
    let toolchain = arch.toolchain(variant, Some(&place.toolchain))?;
    let source = fetch::source(store, manifest, &place.version, options.allow_version_drift, ui)?;
    let source = fetch::patched(store, source, &manifest.patches(variant)?, ui)?;
    let recipe = Recipe {
        manifest,
        arch,
        variant,
        toolchain,
        place,
        // The launcher does not change the result, so it is no input of the build.
        launcher: options.launcher.as_deref(),
        source: &source,
    };
    let inputs = recipe.inputs()?;
    ui.detail(format!("toolchain: {}", inputs.toolchain.join("; ")));
    loop {
        let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
        match store.build(&inputs, &wait)? {
            BuildSlot::Ready(open) => {
                let log = store.log(&open.key);
                return Ok(finished(arch, place.arch, source, open, log));
            }
            BuildSlot::Empty(new) => recipe.build(store, &inputs, *new, options.jobs, ui)?,
        }
    }
}

fn finished(manifest: &ArchManifest, arch: Arch, source: StoredSource, open: OpenBuild, log: PathBuf) -> Baseline {
    let kernel = KernelBuild {
        source: source.tree.clone(),
        build: open.build.clone(),
        vmlinux: open.build.join("vmlinux"),
        arch,
        release: open.release.clone(),
        id: open.key.clone(),
        log: Some(log).filter(|log| log.is_file()),
    };
    let image = open.build.join(&manifest.image.path);
    Baseline {
        kernel,
        image: Some(image),
        build_seconds: open.build_seconds,
        _held: Some((source, open)),
    }
}

struct Recipe<'a> {
    manifest: &'a Manifest,
    arch: &'a ArchManifest,
    variant: &'a ConfigVariant,
    toolchain: &'a Toolchain,
    place: &'a Place,
    launcher: Option<&'a str>,
    source: &'a StoredSource,
}

impl Recipe<'_> {
    fn inputs(&self) -> Result<BuildInputs> {
        let profiles = self.manifest.profiles(self.variant)?;
        let mut make_variables = self.toolchain.make_variables.clone();
        make_variables.extend(profiles::make_variables(&profiles));
        Ok(BuildInputs {
            recipe: RECIPE,
            version: self.source.origin.version.clone(),
            arch: self.place.arch.name().to_owned(),
            config: self.place.config.clone(),
            source_sha256: self.source.sha256.clone(),
            config_base: self.variant.base.clone(),
            fragments: self.fragments()?,
            profiles,
            make_variables,
            targets: self.targets(),
            toolchain: self.versions()?,
        })
    }

    fn fragments(&self) -> Result<Vec<String>> {
        let names = self.variant.fragments.iter();
        names.map(|name| self.manifest.fragment(name)).collect()
    }

    fn targets(&self) -> Vec<String> {
        let mut targets = vec!["vmlinux".to_owned(), "modules".to_owned()];
        if !targets.contains(&self.arch.image.target) {
            targets.push(self.arch.image.target.clone());
        }
        targets
    }

    /// The first line that each tool prints about itself.
    fn versions(&self) -> Result<Vec<String>> {
        let version = |program: &String| {
            let text = sh::output(sh::command(program).arg("--version"))?;
            let line = text.lines().next().unwrap_or_default();
            Ok(format!("{program}: {line}"))
        };
        self.toolchain.identity.iter().map(version).collect()
    }

    fn build(&self, store: &Store, inputs: &BuildInputs, new: NewBuild, jobs: usize, ui: &Ui) -> Result<()> {
        require_space(store.root(), SPACE_FOR_A_BUILD, "a kernel build")?;
        let log = store.log(&inputs.key()?);
        // Drop the log of an earlier attempt.
        std::fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        let launched = match self.launcher {
            Some(launcher) => Some(Launched::new(launcher, &self.toolchain.identity)?),
            None => None,
        };
        let make = make::Make {
            source: &self.source.tree,
            build: new.build(),
            variables: &inputs.make_variables,
            log,
            environment: match &launched {
                Some(launched) => launched.environment(std::env::vars_os())?,
                None => Vec::new(),
            },
        };
        let started = std::time::Instant::now();
        let built = profiles::write(&inputs.profiles, self.toolchain, &make)
            .and_then(|()| self.configure_and_build(&make, inputs, jobs, ui));
        if let Err(error) = built {
            return Err(if is_disk_full(store.root()) {
                disk_full(&error)
            } else {
                error
            });
        }
        launched.as_ref().map_or(Ok(()), Launched::expect_used)?;
        let release = make.release()?;
        ui.phase("record the build", |_| new.finish(&release, started.elapsed()))
    }

    fn configure_and_build(&self, make: &make::Make<'_>, inputs: &BuildInputs, jobs: usize, ui: &Ui) -> Result<()> {
        let about = format!("{} {}", inputs.version, inputs.config);
        ui.phase(&format!("configure Linux {about}"), |_| {
            config::configure(make, &inputs.config_base, &inputs.fragments)
        })?;
        ui.phase(&format!("build Linux {about}"), |phase| {
            phase.expect_of("compile", "files", self.variant.steps);
            make.build(&inputs.targets, jobs, phase)
        })?;
        make.expect_files([
            "vmlinux".as_ref(),
            "Module.symvers".as_ref(),
            self.arch.image.path.as_path(),
        ])
    }
}

fn disk_full(error: &anyhow::Error) -> anyhow::Error {
    let needed = crate::ui::size(SPACE_FOR_A_BUILD);
    Ending::infrastructure(format!(
        "disk full: a kernel build needs {needed}; `{}` makes room\n{error:#}",
        program::command("store gc")
    ))
}
