//! Building a livepatch from source patches, and proving it in a booted machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Context, kernel};
use crate::baseline::Baseline;
use crate::cli::{BuildPatchArgs, jobs};
use crate::corpus::{self, Case};
use crate::guest::{self, Guest};
use crate::livepatch::{self, Livepatch};
use crate::module;
use crate::outcome::Ending;
use crate::proof::{self, Proof};
use crate::store::Store;
use crate::summary::{Boot, Summary};

/// Runs `build-patch`.
pub fn run(args: &BuildPatchArgs, context: &Context<'_>) -> Result<()> {
    let ended = build(args, context);
    if let (Err(error), true) = (&ended, context.common.json) {
        context.ui.json(&Summary::of_error(error, context.ui.phases()))?;
    }
    ended
}

fn build(args: &BuildPatchArgs, context: &Context<'_>) -> Result<()> {
    let ui = context.ui;
    let store = context.store()?;
    let patches = existing(&args.patches)?;
    let case = proof_case(args, &patches)?;
    let wanted = kernel::Request {
        pinned: &args.kernel,
        own: Some(&args.own),
        jobs: args.jobs,
        install_deps: args.install_deps,
        boot: args.boot,
    };
    let baseline = kernel::resolve(wanted, context)?;
    let work = store.scratch(args.keep)?;
    let cache = store.objects(&|holder, _| ui.note(format!("waiting for {holder}")))?;
    let name = match &args.name {
        Some(name) => module::checked_name(name)?,
        None => module::module_name(&patches),
    };
    let request = livepatch::Request {
        kernel: &baseline.kernel,
        patches: &patches,
        name: &name,
        replace: !args.no_replace,
        accept: &args.accept,
        dry_run: args.dry_run,
        work: work.path(),
        cache: cache.root(),
        jobs: jobs(args.jobs),
    };
    let built = ui.phase("build the livepatch", |phase| {
        livepatch::build(&request, &|text| phase.message(text))
    })?;
    for (step, took) in &built.timings {
        ui.record(&format!("  {step}"), *took);
    }
    let path = built
        .module
        .as_ref()
        .map(|module| install(&module.path, &args.output, &name))
        .transpose()?;
    let boot = match &path {
        Some(module) if args.boot => {
            let finished = Finished {
                livepatch: &built,
                module,
                name: &name,
                case: case.as_ref(),
            };
            Some(boot(args, context, &baseline, &store, &finished)?)
        }
        _ => None,
    };
    let summary = Summary::of(&built, path.as_deref(), boot.as_ref(), args.explain, ui.phases());
    if context.common.json {
        ui.json(&summary)?
    } else {
        ui.say(&summary)
    }
    if work.is_kept() {
        ui.note(format!("the work folder is {}", work.path().display()));
    }
    boot.map_or(Ok(()), |boot| boot.verdict())
}

/// Absolute paths of the patches, so that a missing file is named before anything long begins.
fn existing(patches: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let find = |path: &PathBuf| {
        path.canonicalize()
            .with_context(|| format!("cannot find the patch {}", path.display()))
    };
    patches.iter().map(find).collect()
}

/// The corpus case that a patch belongs to brings its own check.
fn proof_case(args: &BuildPatchArgs, patches: &[PathBuf]) -> Result<Option<Case>> {
    match patches {
        [first, ..] if args.boot && args.check.is_none() => {
            let case = corpus::case_of_patch(first)?;
            case.map(|case| kernel::case_at(&case, &args.kernel)).transpose()
        }
        _ => Ok(None),
    }
}

/// Puts the module where it was asked for, in one step, so that nobody ever loads half a file.
fn install(module: &Path, output: &Path, name: &str) -> Result<PathBuf> {
    let target = match output.extension() {
        Some(extension) if extension == "ko" => output.to_owned(),
        _ => output.join(format!("{name}.ko")),
    };
    let folder = target
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let new =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("cannot write in {}", folder.display()))?;
    fs::write(new.path(), bytes).with_context(|| format!("cannot write {}", new.path().display()))?;
    new.persist(&target)
        .with_context(|| format!("cannot write {}", target.display()))?;
    Ok(target)
}

/// A module that is to be proven.
struct Finished<'a> {
    livepatch: &'a Livepatch,
    module: &'a Path,
    name: &'a str,
    case: Option<&'a Case>,
}

fn boot(
    args: &BuildPatchArgs,
    context: &Context<'_>,
    baseline: &Baseline,
    store: &Store,
    finished: &Finished<'_>,
) -> Result<Boot> {
    let case = finished.case;
    let image = baseline
        .image
        .as_deref()
        .ok_or_else(|| Ending::infrastructure("this kernel has no image that can be booted: build its bzImage"))?;
    let work = store.scratch(args.keep)?;
    let cache = store.objects(&|holder, _| context.ui.note(format!("waiting for {holder}")))?;
    let guest = Guest {
        kernel: &baseline.kernel,
        image,
        work: work.path(),
        cache: cache.root(),
    };
    let files = guest::case_files(case, &guest)?;
    let check = args.check.as_deref().or(case.and_then(|case| case.check.as_deref()));
    let check = check.map(|check| {
        check
            .canonicalize()
            .with_context(|| format!("cannot find {}", check.display()))
    });
    let modules = match case {
        Some(case) => guest.case_modules(case)?,
        None => guest.modules_of(finished.livepatch.functions())?,
    };
    let proof = Proof {
        name: case.map_or(finished.name, |case| &case.name),
        ko: finished.module,
        module: finished.name,
        functions: finished.livepatch.functions(),
        check: check.transpose()?.as_deref().map(Path::to_owned),
        files: &files,
        before: &modules.before,
        after: &modules.after,
        reload: &[],
        then: None,
        shared: false,
    };
    let plans = proof::plans(&proof, work.path())?;
    let report = context
        .ui
        .phase("boot and prove", |phase| guest.run(plans, &|text| phase.message(text)))?;
    Ok(Boot::of(&report, proof.check.is_some()))
}
