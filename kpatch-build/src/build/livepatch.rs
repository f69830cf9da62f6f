//! One livepatch, from patch files to a checked module: the steps of `build-patch` without the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kpatch_core::Ignored;
use kpatch_core::located::Located;
use kpatch_core::resolve::{PatchedFunction, Target};
use kpatch_core::{ObjectName, Patch, Refusal, names};

use crate::build::applied::Applied;
use crate::build::callers;
use crate::build::compare::{self, Before};
use crate::build::inlining::Trail;
use crate::build::kbuild::Kbuild;
use crate::build::kernel_symbols::KernelSymbols;
use crate::build::layouts;
use crate::build::module::{self, Linking, Module};
use crate::build::pairs::{Cause, Pairs, UnitPair};
use crate::build::recompile::ChangedTu;
use crate::build::site::Site;
use crate::build::stock::{Prepared, ShippedFiles};
use crate::build::timings::Timings;
use crate::build::way::{self, Way};
use crate::kernel::{Kernel, KernelBuild};
use crate::outcome::Ending;
use crate::progress::Progress;

pub use compare::is_news;

/// What to build.
pub struct Request<'a> {
    /// The kernel it is for.
    pub kernel: Kernel<'a>,
    /// The patches, in order; they become one module.
    pub patches: &'a [PathBuf],
    /// Module name.
    pub name: &'a str,
    /// Whether it replaces all livepatches that are there already.
    pub replace: bool,
    /// Structures that may lie otherwise and tables of functions that may change, since the user answers for them.
    pub accept: &'a [String],
    /// Leave out what the patches change in files that are not part of this kernel, instead of refusing it.
    pub skip_unbuilt: bool,
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
    /// For a stock kernel: what was proven of the touched files.
    pub shipped: Vec<Shipped>,
    /// How long each step took.
    pub timings: Vec<(String, Duration)>,
}

/// How much of a touched file is the code that a stock kernel ships.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shipped {
    /// Source relative to the source tree.
    pub source: String,
    /// What it is part of.
    pub object: ObjectName,
    /// How many functions of it the kernel has. All are proven to be the compiled ones.
    pub functions: usize,
    /// Functions that differ, or that the kernel does not have: name, and why that is as it should be.
    pub explained: Vec<(String, String)>,
    /// Bytes of data and tables that are the kernel's.
    pub data: u64,
}

impl Shipped {
    /// In this form.
    pub fn of(source: String, object: &ObjectName, located: &Located) -> Self {
        let explained = located.explained.iter();
        Shipped {
            source,
            object: object.clone(),
            functions: located.functions,
            explained: explained
                .map(|one| (one.function.clone(), one.why.to_owned()))
                .collect(),
            data: located.data,
        }
    }
}

impl std::fmt::Display for Shipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (functions, source) = (self.functions, &self.source);
        write!(
            f,
            "{functions} of {functions} functions of {source} are those of the running kernel"
        )?;
        for (function, why) in &self.explained {
            write!(f, "; {function}: {why}")?;
        }
        Ok(())
    }
}

impl Livepatch {
    /// The redirected functions.
    pub fn functions(&self) -> &[PatchedFunction] {
        &self.patch.functions
    }

    /// The objects that it registers: with functions, with callbacks, or with both.
    pub fn objects(&self) -> BTreeSet<ObjectName> {
        let functions = self.functions().iter().map(|function| function.object.clone());
        let callbacks = self.patch.callbacks.iter().map(|callback| callback.object.clone());
        functions.chain(callbacks).collect()
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
pub fn build(request: &Request<'_>, progress: &dyn Progress) -> Result<Livepatch> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(request.jobs).build();
    let pool = pool.context("cannot start threads")?;
    pool.install(|| steps(request, progress))
}

/// The way of a patch, from its files to the module.
fn steps(request: &Request<'_>, progress: &dyn Progress) -> Result<Livepatch> {
    let mut timings = Timings::default();
    let (kernel, kbuild) = match request.kernel {
        Kernel::Recorded(kernel) => {
            progress.message("reading the kernel build");
            (kernel.clone(), timings.of("read the build", || Kbuild::read(kernel))?)
        }
        Kernel::Stock(stock) => {
            let folder = request.work.join("kernel");
            let prepare = || Prepared::new(stock, request.patches, &folder, request.jobs, progress);
            let prepared = timings.of("compile as the kernel's build did", prepare)?;
            (prepared.kernel, prepared.kbuild)
        }
    };
    let linking = start_linking(request, &kernel, &kbuild)?;
    let shipped = match request.kernel {
        Kernel::Recorded(_) => None,
        Kernel::Stock(stock) => {
            progress.message("reading the shipped kernel");
            Some(timings.of("read the shipped kernel", || ShippedFiles::read(stock, &kbuild))?)
        }
    };
    let work = request.work.join("pairs");
    let site = Site::new(&kbuild, &kernel.vmlinux, &work, request.cache, progress)?;
    let applied = timings.of("apply the patch", || {
        Applied::new(&site, request.patches, request.skip_unbuilt)
    })?;
    let proven = match &shipped {
        None => None,
        Some(files) => {
            progress.message("proving that the touched files are those of the kernel");
            Some(timings.of("prove the shipped code", || files.prove(&kbuild))?)
        }
    };
    let way = way::of(&site);
    let started = Instant::now();
    let compiled = way.compile(&applied)?;
    let declared = layouts::changed(&site, &applied.files, &compiled.changed, &*compiled.again)?;
    let (touched, changed) = (applied.scope.touched.len(), compiled.changed.len());
    timings.add(format!("compile ({touched} touched, {changed} changed)"), started);

    let notes = [&applied.notes[..], &compiled.notes].concat();
    let mut pairs = Pairs::of(&site, &*way, &compiled.changed, notes)?;
    timings.extend(std::mem::take(&mut pairs.timings));
    let reruns = [compiled.reruns, std::mem::take(&mut pairs.reruns)].concat();
    let trail = Trail::of(&applied.files, &kbuild.trees.source, reruns);

    progress.message("reading the kernel's symbols");
    let started = Instant::now();
    let (files, target, vermagic);
    match (&shipped, &proven) {
        (Some(files), Some(proven)) => {
            target = proven.target(files)?;
            vermagic = files.vermagic.as_deref();
        }
        _ => {
            files = KernelSymbols::read(&kernel, &pairs)?;
            target = files.target()?;
            vermagic = files.vermagic.as_deref();
        }
    }
    timings.add("read the kernel's symbols", started);

    progress.message("comparing the objects");
    let before = Before::new(&declared, &trail, request.accept);
    let (patch, accepted) = compared(
        &site,
        &*way,
        &compiled.changed,
        &mut pairs,
        &target,
        &before,
        &mut timings,
    )?;

    let finish = |linking| {
        progress.message("linking the module");
        let finished = module::Request {
            patch: &patch,
            target: &target,
            name: request.name,
            replace: request.replace,
            vermagic,
            baseline_log: kernel.log.as_deref(),
            work: &module_folder(request),
        };
        timings.of("link, convert and check the module", || {
            module::build(linking, &finished)
        })
    };
    let module = linking.map(finish).transpose()?;
    Ok(Livepatch {
        module,
        units: pairs
            .pairs
            .iter()
            .map(|pair| (pair.unit.clone(), cause(pair)))
            .collect(),
        notes: pairs.notes,
        accepted,
        shipped: proven.map(|proven| proven.summary).unwrap_or_default(),
        timings: timings.into_steps(),
        patch,
    })
}

/// Compares, and once more with the callers in other files if those are missing.
fn compared(
    site: &Site<'_>,
    way: &dyn Way,
    changed: &[ChangedTu],
    pairs: &mut Pairs,
    target: &Target<'_>,
    before: &Before<'_>,
    timings: &mut Timings,
) -> compare::Compared {
    let step = format!("compare ({} units)", pairs.pairs.len());
    let attempt = timings.of(&step, || compare::compare(pairs, target, before));
    let started = Instant::now();
    match callers::again(site, way, changed, pairs, target, before, &attempt)? {
        None => attempt,
        Some(again) => {
            timings.add("callers in other files", started);
            again
        }
    }
}

/// kbuild starts before anything else, since much of what it does depends on no patch; see [`Linking`].
fn start_linking(request: &Request<'_>, kernel: &KernelBuild, kbuild: &Kbuild) -> Result<Option<Linking>> {
    if let Some(refusal) = module::taken(kernel, request.name)? {
        return Err(Ending::refused(refusal));
    }
    if request.dry_run {
        return Ok(None);
    }
    let start = module::Start {
        kernel,
        compiler: &kbuild.compiler,
        path: &kbuild.path,
        make: &kbuild.make,
        name: request.name,
        work: &module_folder(request),
        jobs: request.jobs,
    };
    Linking::start(&start).map(Some)
}

fn module_folder(request: &Request<'_>) -> PathBuf {
    request.work.join("module")
}

/// Compiles what the patches touch, on both sides, and goes no further than the compiler does: with ThinLTO, to bitcode.
pub fn changed_bitcode(
    kernel: &KernelBuild,
    patches: &[PathBuf],
    work: &Path,
    cache: &Path,
) -> Result<(Kbuild, Vec<ChangedTu>)> {
    let kbuild = Kbuild::read(kernel)?;
    let changed = {
        let site = Site::new(&kbuild, &kernel.vmlinux, work, cache, &())?;
        let applied = Applied::new(&site, patches, false)?;
        way::of(&site).compile(&applied)?.changed
    };
    Ok((kbuild, changed))
}

fn cause(pair: &UnitPair) -> String {
    match &pair.cause {
        Cause::Edited => "edited".into(),
        Cause::Includes(header) => format!("includes {header}"),
        Cause::Importer { of } if of.is_empty() => "facts about its symbols changed".into(),
        Cause::Importer { of } => format!("has code of {}", of.join(", ")),
        Cause::Calls => "calls what cannot be traced".into(),
        Cause::New => "new".into(),
    }
}

#[cfg(test)]
mod tests {
    use kpatch_core::located::Explained;

    use super::*;

    #[test]
    fn what_is_proven_is_told_in_numbers_and_exceptions_by_name() {
        let located = Located {
            functions: 133,
            explained: vec![Explained {
                function: "f".into(),
                why: "weak",
            }],
            ..Located::default()
        };
        let shipped = Shipped::of("kernel/sys.c".into(), &ObjectName::vmlinux(), &located);
        assert_eq!(
            shipped.to_string(),
            "133 of 133 functions of kernel/sys.c are those of the running kernel; f: weak"
        );
    }
}
