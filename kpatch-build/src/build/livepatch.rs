//! One livepatch, from patch files to a checked module: the steps of `build-patch` without the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kpatch_core::Ignored;
use kpatch_core::resolve::{PatchedFunction, Target};
use kpatch_core::{ObjectName, Patch, Refusal, names};
use kpatch_runtime::about::About;

use crate::build::applied::Applied;
use crate::build::begun::{self, Begun};
use crate::build::callers::Scene;
use crate::build::compare::{self, Before};
use crate::build::early;
use crate::build::fates::Fate;
use crate::build::inlining::Trail;
use crate::build::kbuild::{Kbuild, ModuleFolder, stubs};
use crate::build::kernel_symbols::KernelSymbols;
use crate::build::layouts;
use crate::build::module::{self, Linking, Module, identity};
use crate::build::on_stack;
use crate::build::pairs::{Cause, Pairs, UnitPair};
use crate::build::patchset::title;
use crate::build::recompile::ChangedTu;
use crate::build::recompile::affected::{Affected, Counts};
use crate::build::series::{self, Old, Replaced};
use crate::build::site::Site;
use crate::build::stock::{Proven, ShippedFiles};
use crate::build::timings::Timings;
use crate::build::way::{self, Compiled, Way};
use crate::kernel::{Kernel, KernelBuild};
use crate::progress::Progress;

pub use crate::build::shipped::Shipped;
pub use compare::is_news;

/// What to build.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The kernel it is for.
    pub kernel: Kernel<'a>,
    /// The folder whose modules are patched, if they were built outside of the kernel's tree.
    pub module_dir: Option<&'a ModuleFolder>,
    /// The patches, in order; they become one module.
    pub patches: &'a [PathBuf],
    /// Module name.
    pub name: &'a str,
    /// Whether it replaces all livepatches that are there already.
    pub replace: bool,
    /// Modules of livepatches whose place it takes, so that what they did must be taken over.
    pub replaces: &'a [PathBuf],
    /// Structures that may lie otherwise and tables of functions that may change, since the user answers for them.
    pub accept: &'a [String],
    /// Leave out what the patches change in files that are not part of this kernel, instead of refusing it.
    pub skip_unbuilt: bool,
    /// Compile every file that reads what changes, and not only those that can be affected.
    pub all_readers: bool,
    /// How many lines of context at either end of a hunk may differ.
    pub fuzz: usize,
    /// Patches of the series that are not among these, for what the livepatch says of itself.
    pub left_out: &'a [Fate],
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
    /// What the module carries about itself.
    pub about: About,
    /// What becomes of the livepatches whose place it takes.
    pub replaces: Vec<Replaced>,
    /// How many files read what changes, and how many of them had to be compiled.
    pub readers: Counts,
    /// Of a series each patch, in and out; nothing if there was only one.
    pub series: Vec<Fate>,
    /// Of a series the patches of each function, in the order of the functions.
    pub causes: Vec<Vec<String>>,
    /// Why each unit was looked at.
    pub units: Vec<(String, String)>,
    /// What was ignored before the differ, in words.
    pub notes: Vec<String>,
    /// Warnings of the compiler that the patch causes.
    pub warnings: Vec<String>,
    /// What would have been refused, but for the user's answering for it.
    pub accepted: Vec<Refusal>,
    /// For a stock kernel: what was proven of the touched files.
    pub shipped: Vec<Shipped>,
    /// How long each step took.
    pub timings: Vec<(String, Duration)>,
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
/// [`Refused`](crate::outcome::Ending::Refused) and [`NoChange`](crate::outcome::Ending::NoChange) with what the patch's
/// author must know; anything else is a failure.
pub fn build(request: &Request<'_>, progress: &dyn Progress) -> Result<Livepatch> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(request.jobs).build();
    let pool = pool.context("cannot start threads")?;
    pool.install(|| steps(request, progress))
}

/// The way of a patch, from its files to the module.
fn steps(request: &Request<'_>, progress: &dyn Progress) -> Result<Livepatch> {
    let mut timings = Timings::default();
    let olds = series::read(request.replaces, request.kernel.release())?;
    let begun = Begun::new(request, progress, &mut timings)?;
    let work = request.work.join("pairs");
    let mut site = Site::new(&begun.kbuild, &begun.kernel.vmlinux, &work, request.cache, progress)?;
    site.hashes = begun.hashes;
    let applied = timings.of("apply the patch", || {
        Applied::new(&site, request.patches, request.skip_unbuilt, request.fuzz)
    })?;
    let rest = Rest {
        request,
        site: &site,
        applied: &applied,
        olds: &olds,
        kernel: &begun.kernel,
        edited: &begun.edited,
        too_many: begun.too_many.as_ref(),
    };
    let made = rest.make(begun.image, begun.linking, timings);
    made.map_err(|error| applied.causes.told(error, None))
}

/// What comes after patches were applied.
struct Rest<'r> {
    request: &'r Request<'r>,
    site: &'r Site<'r>,
    applied: &'r Applied,
    olds: &'r [Old],
    kernel: &'r KernelBuild,
    edited: &'r BTreeSet<String>,
    too_many: Option<&'r Refusal>,
}

impl Rest<'_> {
    fn make(&self, image: Option<Vec<u8>>, linking: Option<Linking>, mut timings: Timings) -> Result<Livepatch> {
        let Rest {
            request,
            site,
            applied,
            olds,
            kernel,
            edited,
            too_many,
        } = *self;
        let (kbuild, progress) = (site.kbuild, site.progress);
        let way = way::of(site);
        let accept = accepted_changes(request, olds);
        let (mut compiled, readers) = compile(request, site, &*way, applied, &accept, too_many, &mut timings)?;

        let shipped = read_shipped(
            request,
            image,
            kbuild,
            &changed_or(edited, &compiled.changed),
            &mut timings,
        )?;
        let prove = |files| prove(files, kbuild, edited, &mut compiled, progress, &mut timings);
        let proven = shipped.as_ref().map(prove).transpose()?;
        let started = Instant::now();
        let declared = layouts::changed(site, &applied.files, &compiled.changed, &*compiled.again)?;
        let on_stack = on_stack::look(site, applied, &*compiled.again, &declared.layouts)?;
        timings.add("compare declarations", started);

        let mut pairs = Pairs::of(
            site,
            &*way,
            &compiled.changed,
            [&applied.notes[..], &compiled.notes].concat(),
        )?;
        timings.extend(std::mem::take(&mut pairs.timings));
        let reruns = [compiled.reruns, std::mem::take(&mut pairs.reruns)].concat();
        let trail = Trail::of(&applied.files, &kbuild.trees.source, reruns);

        progress.message("reading the kernel's symbols");
        let started = Instant::now();
        let (symbols, target, vermagic, build_ids);
        match (&shipped, &proven) {
            (Some(files), Some(proven)) => {
                target = proven.target(files)?;
                vermagic = files.vermagic.as_deref();
                build_ids = files.build_ids();
            }
            _ => {
                symbols = KernelSymbols::read(kernel, request.module_dir, &pairs)?;
                target = symbols.target()?;
                vermagic = symbols.vermagic.as_deref();
                build_ids = symbols.build_ids();
            }
        }
        timings.add("read the kernel's symbols", started);

        progress.message("comparing the objects");
        let before = Before::new(&declared, &on_stack, &trail, &accept);
        let scene = Scene {
            site,
            way: &*way,
            changed: &compiled.changed,
            target: &target,
        };
        let compared = scene.compare(&mut pairs, &before, &mut timings);
        let (mut patch, mut accepted) = compared.map_err(|error| applied.causes.told(error, Some(&trail)))?;
        let (series, causes) = told_series(request, &patch, applied, &trail, &mut timings)?;

        let beside = Beside {
            olds,
            vermagic,
            build_ids: &build_ids,
        };
        let (about, answered) = beside.introduce(request, &mut patch, &target, &series)?;
        accepted.extend(answered);
        let finished = module::Request {
            patch: &patch,
            target: &target,
            name: request.name,
            about: &about,
            replace: request.replace,
            vermagic,
            late_calls: stubs::can_be_late(&kbuild.config, &kernel.source),
            baseline_log: kernel.log.as_deref(),
            work: &begun::module_folder(request),
        };
        let link = |linking| link(linking, &finished, progress, &mut timings);
        let module = linking.map(link).transpose()?;
        Ok(Livepatch {
            replaces: what_becomes(olds, &patch, module.as_ref())?,
            module,
            readers,
            series,
            causes,
            units: units(&pairs.pairs),
            notes: pairs.notes,
            warnings: [&applied.fuzzy[..], &compiled.warnings].concat(),
            accepted,
            shipped: proven.map(|proven| proven.summary).unwrap_or_default(),
            timings: timings.into_steps(),
            patch,
            about,
        })
    }
}

/// Compiles what the patches touch and can affect.
fn compile<'c>(
    request: &Request<'_>,
    site: &Site<'_>,
    way: &'c dyn Way,
    applied: &'c Applied,
    accept: &[String],
    too_many: Option<&Refusal>,
    timings: &mut Timings,
) -> Result<(Compiled<'c>, Counts)> {
    let affected = timings.of("find what can be affected", || {
        Affected::of(site, applied, request.all_readers)
    })?;
    affected.reasons().iter().for_each(|why| site.progress.detail(why));
    if let Some(too_many) = too_many {
        return Err(early::instead(site, way, applied, &affected, accept, too_many)?.into());
    }
    if !request.all_readers {
        timings.of("look at a few of them first", || {
            early::look(site, way, applied, &affected, accept)
        })?;
    }
    let started = Instant::now();
    let compiled = way.compile(applied, &affected)?;
    let readers = affected.counts(compiled.changed.len());
    timings.add(format!("compile ({readers})"), started);
    if readers.is_wide() {
        site.progress.note(&readers.to_string());
    }
    Ok((compiled, readers))
}

/// Each patch of a series, those that are in with their functions, and the patches of each function; nothing if there is
/// only one patch and nothing was left out.
fn told_series(
    request: &Request<'_>,
    patch: &Patch,
    applied: &Applied,
    trail: &Trail,
    timings: &mut Timings,
) -> Result<(Vec<Fate>, Vec<Vec<String>>)> {
    if request.patches.len() < 2 && request.left_out.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let started = Instant::now();
    let mut all = Fate::of_all(request.patches)?;
    let causes = match &all[..] {
        [only] => vec![vec![only.patch.clone()]; patch.functions.len()],
        _ => applied.causes.of_functions(&patch.functions, trail),
    };
    all.iter_mut()
        .for_each(|fate| fate.takes_part(&patch.functions, &causes));
    all.extend_from_slice(request.left_out);
    timings.add("find the patch of each function", started);
    Ok((all, causes))
}

/// What the livepatch must get along with, and what tells the kernel's builds apart.
struct Beside<'a> {
    olds: &'a [Old],
    vermagic: Option<&'a str>,
    build_ids: &'a BTreeMap<ObjectName, String>,
}

impl Beside<'_> {
    /// Gives the livepatch its place among the others, and what it says of itself. Gives also what the user answers for.
    fn introduce(
        &self,
        request: &Request<'_>,
        patch: &mut Patch,
        target: &Target<'_>,
        fates: &[Fate],
    ) -> Result<(About, Vec<Refusal>)> {
        series::take_positions(self.olds, &mut patch.functions);
        let mut about = module::about(patch, titles(request.patches)?, self.build_ids);
        about.series = fates.iter().map(Fate::in_module).collect();
        let new = series::New {
            name: request.name,
            patch,
            about: &about,
            vermagic: self.vermagic,
            build_ids: self.build_ids,
        };
        let accepted = series::check(self.olds, &new, request.accept)?;
        let own = identity::symbols(patch, &about, target);
        patch.symbols.extend(own);
        Ok((about, accepted))
    }
}

/// What is accepted of a livepatch by its name is nothing that the differ knows.
fn accepted_changes(request: &Request<'_>, olds: &[Old]) -> Vec<String> {
    let names = request.accept.iter().filter(|name| !series::is_of(olds, name));
    names.cloned().collect()
}

/// What becomes of the livepatches whose place the new one takes.
fn what_becomes(olds: &[Old], patch: &Patch, module: Option<&Module>) -> Result<Vec<Replaced>> {
    let made = module.filter(|_| !olds.is_empty());
    let bytes = made.map(|made| fs::read(&made.path)).transpose();
    let bytes = bytes.context("cannot read the finished module")?;
    Ok(series::replaced(olds, patch, bytes.as_deref()))
}

/// What a stock kernel must be proven to have. What comes out the same with the patch needs no proof.
fn changed_or(edited: &BTreeSet<String>, changed: &[ChangedTu]) -> BTreeSet<String> {
    changed
        .iter()
        .map(|tu| tu.object.clone())
        .chain(edited.clone())
        .collect()
}

/// For a stock kernel: the files that it was shipped as, those that matter.
fn read_shipped(
    request: &Request<'_>,
    image: Option<Vec<u8>>,
    kbuild: &Kbuild,
    units: &BTreeSet<String>,
    timings: &mut Timings,
) -> Result<Option<ShippedFiles>> {
    let (Kernel::Stock(stock), Some(image)) = (request.kernel, image) else {
        return Ok(None);
    };
    let read = || ShippedFiles::read(stock, image, kbuild, units);
    timings.of("read the shipped modules", read).map(Some)
}

/// Proves that a stock kernel has what was compiled, and leaves out objects of which it has nothing.
fn prove<'f>(
    files: &'f ShippedFiles,
    kbuild: &Kbuild,
    edited: &BTreeSet<String>,
    compiled: &mut Compiled<'_>,
    progress: &dyn Progress,
    timings: &mut Timings,
) -> Result<Proven<'f>> {
    progress.message("proving that the touched files are those of the kernel");
    let units = changed_or(edited, &compiled.changed);
    let proven = timings.of("prove the shipped code", || files.prove(kbuild, &units, edited))?;
    compiled.changed.retain(|tu| !proven.absent.contains(&tu.object));
    let notes = proven.absent.iter();
    let notes = notes.map(|object| format!("{object} changes, but the kernel has none of its functions"));
    compiled.notes.extend(notes);
    Ok(proven)
}

fn link(
    linking: Linking,
    request: &module::Request<'_>,
    progress: &dyn Progress,
    timings: &mut Timings,
) -> Result<Module> {
    progress.message("linking the module");
    timings.of("link, convert and check the module", || module::build(linking, request))
}

/// What the patches are called.
fn titles(patches: &[PathBuf]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for path in patches {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        all.extend(title::titles(path, &text));
    }
    Ok(all)
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
        let applied = Applied::new(&site, patches, false, 0)?;
        let affected = Affected::of(&site, &applied, false)?;
        way::of(&site).compile(&applied, &affected)?.changed
    };
    Ok((kbuild, changed))
}

fn units(pairs: &[UnitPair]) -> Vec<(String, String)> {
    pairs.iter().map(|pair| (pair.unit.clone(), cause(pair))).collect()
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
