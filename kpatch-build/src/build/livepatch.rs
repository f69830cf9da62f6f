//! One livepatch, from patch files to a checked module: the steps of `build-patch` without the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kpatch_core::Ignored;
use kpatch_core::resolve::PatchedFunction;
use kpatch_core::{Input, Patch, Refusal, Stop, names};

use crate::build::accepted;
use crate::build::kbuild::Kbuild;
use crate::build::layouts;
use crate::build::module::{self, Linking, Module};
use crate::build::no_lto;
use crate::build::pairs::{self, Cause, Pairs, UnitPair};
use crate::build::target::{self, TargetFiles};
use crate::kernel::KernelBuild;
use crate::outcome::Ending;

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
    /// Structures that may lie otherwise and tables of functions that may change, since the user answers for them.
    pub accept: &'a [String],
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
    /// What would have been refused, but for the user's answering for it.
    pub accepted: Vec<Refusal>,
    /// How long each step took.
    pub timings: Vec<(String, Duration)>,
}

impl Livepatch {
    /// The redirected functions.
    pub fn functions(&self) -> &[PatchedFunction] {
        &self.patch.functions
    }

    /// Their names, for people: `object:function`, without promotion suffix.
    pub fn function_names(&self) -> Vec<String> {
        let name = |function: &PatchedFunction| format!("{}:{}", function.object, names::unpromoted(&function.name));
        self.functions().iter().map(name).collect()
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
    progress("reading the kernel build");
    let started = Instant::now();
    let kbuild = Kbuild::read(request.kernel)?;
    let mut timings = vec![("read the build".to_owned(), started.elapsed())];
    let folder = request.work.join("module");
    if let Some(refusal) = module::taken(request.kernel, request.name)? {
        return Err(Ending::refused(refusal));
    }
    let linking = (!request.dry_run).then(|| {
        Linking::start(&module::Start {
            kernel: request.kernel,
            compiler: &kbuild.compiler,
            name: request.name,
            work: &folder,
            jobs: request.jobs,
        })
    });
    let linking = linking.transpose()?;
    let pairs = pairs::native_pairs(
        request.kernel,
        kbuild,
        request.patches,
        &request.work.join("pairs"),
        request.cache,
        request.jobs,
        progress,
    )?;
    timings.extend(pairs.timings.iter().cloned());
    progress("comparing the objects");
    let started = Instant::now();
    let files = TargetFiles::read(request.kernel, &pairs)?;
    let target = files.target()?;
    timings.push(("read the kernel's symbols".into(), started.elapsed()));
    let started = Instant::now();
    let layouts = pairs.layouts.iter();
    let layouts = layouts.map(|change| layouts::refusal(change, request.accept));
    let (mut accepted, against) = accepted::split(layouts, request.accept);
    let patch = all_refusals(compare(&pairs, &target, request.accept), against)?;
    accepted.extend(patch.accepted.iter().cloned());
    let unused = accepted::unused(request.accept, &accepted);
    if !unused.is_empty() {
        return Err(Ending::Refused(unused).into());
    }
    timings.push((format!("compare ({} units)", pairs.pairs.len()), started.elapsed()));
    let mut module = None;
    if let Some(linking) = linking {
        progress("linking the module");
        let started = Instant::now();
        let finished = module::Request {
            patch: &patch,
            target: &target,
            name: request.name,
            replace: request.replace,
            vermagic: files.vermagic.as_deref(),
            work: &folder,
        };
        module = Some(module::build(linking, &finished)?);
        timings.push(("link, convert and check the module".into(), started.elapsed()));
    }
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
        accepted,
        timings,
    })
}

/// All that speaks against a livepatch at once: what the differ found, and what else was found before it.
fn all_refusals(compared: Result<Patch>, against: Vec<Refusal>) -> Result<Patch> {
    let mut refusals = against;
    let patch = match compared {
        Ok(patch) => Some(patch),
        Err(error) => match error.downcast::<Ending>()? {
            Ending::Refused(more) => {
                refusals.extend(more);
                None
            }
            other => return Err(other.into()),
        },
    };
    patch
        .filter(|_| refusals.is_empty())
        .ok_or_else(|| Ending::Refused(refusals).into())
}

fn compare(pairs: &Pairs, target: &kpatch_core::resolve::Target<'_>, accept: &[String]) -> Result<Patch> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let bytes: Vec<[Option<Vec<u8>>; 3]> = pairs
        .pairs
        .iter()
        .map(|pair| {
            Ok([
                pair.orig.as_ref().map(read).transpose()?,
                Some(read(&pair.patched)?),
                pair.shipped.as_ref().map(read).transpose()?,
            ])
        })
        .collect::<Result<_>>()?;
    let inputs: Vec<Input<'_>> = pairs
        .pairs
        .iter()
        .zip(&bytes)
        .map(|(pair, [orig, patched, shipped])| Input {
            name: pair.unit.clone(),
            parent: target::object_name(&pair.parent),
            orig: orig.as_deref(),
            patched: patched.as_deref().unwrap_or_default(),
            shipped: shipped.as_deref(),
        })
        .collect();
    kpatch_core::build_patch(&inputs, target, accept).map_err(|stop| match stop {
        Stop::NoChange(ignored) => {
            let left = ignored
                .iter()
                .filter(|ignored| is_news(ignored))
                .map(|one| format!("\n  {}: {}: {}", one.unit, one.name, one.why));
            let notes = pairs.notes.iter().map(|note| format!("\n  {note}"));
            let why = format!(
                "no function does anything else{}",
                left.chain(notes).collect::<String>()
            );
            Ending::NoChange(why).into()
        }
        Stop::Refused(refusals) => {
            let refusals = refusals.into_iter().map(no_lto::nops::in_inline_assembly).collect();
            Ending::Refused(pairs.trail.explain(refusals)).into()
        }
        Stop::Failed(error) => anyhow::Error::new(error),
    })
}

/// Whether something that was left out tells a person anything. What `__ADDRESSABLE()` of include/linux/compiler.h makes
/// so that a static function is kept has a number in its name, does nothing, and shows up whenever a number before it
/// changes.
pub fn is_news(ignored: &Ignored) -> bool {
    !ignored.name.starts_with("__UNIQUE_ID___addressable_")
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
