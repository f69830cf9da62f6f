//! One livepatch, from patch files to a checked module: the steps of `build-patch` without the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kpatch_core::resolve::PatchedFunction;
use kpatch_core::select::Ignored;
use kpatch_core::{Input, Patch, Stop};

use crate::kernel::KernelBuild;
use crate::module::{self, Module};
use crate::outcome::Ending;
use crate::pairs::{self, Cause, Pairs, UnitPair};
use crate::target::{self, TargetFiles};

/// What to build.
pub struct Request<'a> {
    /// The kernel it is for.
    pub kernel: &'a KernelBuild,
    /// The patches, in order; they become one module.
    pub patches: &'a [PathBuf],
    /// Module name.
    pub name: &'a str,
    /// Whether it replaces all livepatches that are there already.
    pub replace: bool,
    /// Stop before the module: only the verdict is wanted.
    pub dry_run: bool,
    /// A folder for this run alone.
    pub work: &'a Path,
    /// A folder that runs share.
    pub cache: &'a Path,
    /// How many processors to use.
    pub jobs: usize,
}

/// A finished livepatch.
#[derive(Debug)]
pub struct Livepatch {
    /// The module; `None` after a dry run.
    pub module: Option<Module>,
    /// What the differ decided.
    pub patch: Patch,
    /// Why each unit was looked at.
    pub units: Vec<(String, String)>,
    /// What was ignored before the differ, in words.
    pub notes: Vec<String>,
    /// How long each step took.
    pub timings: Vec<(String, Duration)>,
}

impl Livepatch {
    /// The redirected functions.
    pub fn functions(&self) -> &[PatchedFunction] {
        &self.patch.functions
    }

    /// Differences that the differ left out.
    pub fn ignored(&self) -> &[Ignored] {
        &self.patch.ignored
    }
}

/// Builds.
///
/// # Errors
/// [`Ending::Refused`] and [`Ending::NoChange`] with what the patch's author must know; anything else is a failure.
pub fn build(request: &Request<'_>, progress: &dyn Fn(&str)) -> Result<Livepatch> {
    let pairs = pairs::native_pairs(
        request.kernel,
        request.patches,
        &request.work.join("pairs"),
        request.cache,
        request.jobs,
        progress,
    )?;
    let mut timings = pairs.timings.clone();
    progress("comparing the objects");
    let started = Instant::now();
    let files = TargetFiles::read(request.kernel, &pairs)?;
    let target = files.target()?;
    timings.push(("read the kernel's symbols".into(), started.elapsed()));
    let started = Instant::now();
    let patch = compare(&pairs, &target)?;
    timings.push((format!("compare ({} units)", pairs.pairs.len()), started.elapsed()));
    let module = if request.dry_run {
        None
    } else {
        progress("linking the module");
        let started = Instant::now();
        let module = module::build(&module::Request {
            kernel: request.kernel,
            compiler: &pairs.compiler,
            patch: &patch,
            target: &target,
            name: request.name,
            replace: request.replace,
            vermagic: files.vermagic.as_deref(),
            work: &request.work.join("module"),
            jobs: request.jobs,
        })?;
        timings.push(("link, convert and check the module".into(), started.elapsed()));
        Some(module)
    };
    let units = pairs
        .pairs
        .iter()
        .map(|pair| (pair.unit.clone(), cause(pair)))
        .collect();
    Ok(Livepatch {
        module,
        patch,
        units,
        notes: pairs.notes,
        timings,
    })
}

fn compare(pairs: &Pairs, target: &kpatch_core::resolve::Target<'_>) -> Result<Patch> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let bytes: Vec<(Option<Vec<u8>>, Vec<u8>)> = pairs
        .pairs
        .iter()
        .map(|pair| Ok((pair.orig.as_ref().map(read).transpose()?, read(&pair.patched)?)))
        .collect::<Result<_>>()?;
    let inputs: Vec<Input<'_>> = pairs
        .pairs
        .iter()
        .zip(&bytes)
        .map(|(pair, (orig, patched))| Input {
            name: pair.unit.clone(),
            parent: target::object_name(&pair.parent),
            orig: orig.as_deref(),
            patched,
            shipped: None,
        })
        .collect();
    kpatch_core::build_patch(&inputs, target).map_err(|stop| match stop {
        Stop::NoChange => Ending::NoChange("no function does anything else".into()).into(),
        Stop::Refused(refusals) => Ending::Refused(pairs.trail.explain(refusals)).into(),
        Stop::Failed(error) => anyhow::Error::new(error),
    })
}

fn cause(pair: &UnitPair) -> String {
    match &pair.cause {
        Cause::Edited => "edited".into(),
        Cause::Includes(header) => format!("includes {header}"),
        Cause::Importer { of } if of.is_empty() => "facts about its symbols changed".into(),
        Cause::Importer { of } => format!("has code of {}", of.join(", ")),
        Cause::New => "new".into(),
    }
}
