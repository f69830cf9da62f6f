//! Building a livepatch from source patches, and proving it in a booted machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Context;
use super::package::Wanted;
use super::save_case::{self, Saving};
use crate::build::fates::{Fate, ReleaseNote, State};
use crate::build::kbuild::{ModuleFolder, folder};
use crate::build::livepatch::{self, Livepatch};
use crate::build::module::{self, Key, Signature, Signer};
use crate::build::{intake, leave_out, patchset, suggest};
use crate::cli::{BuildArgs, jobs};
use crate::kernel::Kernel;
use crate::outcome::Ending;
use crate::output::{self, folder_of, install, try_target};
use crate::progress::Progress;
use crate::prove::guest::{self, Guest, Setup};
use crate::prove::proof::{self, Proof};
use crate::prove::vm::Meaning;
use crate::summary::{Boot, Placed, Shown, Summary};
use crate::supply::place::Choice;
use crate::supply::store::{Guard, Store};
use crate::supply::{self, Supply};
use crate::ui::{Phase, Ui};

/// Finds out what a proof needs from the patch files, where somebody keeps that beside them. `kpatch` has nothing of
/// the kind; the test harness knows the cases of its corpus.
pub type FindSetup<'a> = &'a dyn Fn(&[PathBuf]) -> Result<Option<Setup>>;

/// Which version of the builder this is.
pub const VERSION: &str = concat!("kpatch ", env!("CARGO_PKG_VERSION"));

/// What the program around `build` knows and this crate does not.
pub struct Around<'a> {
    /// What a proof of these patches needs.
    pub find_setup: FindSetup<'a>,
    /// Which state of the program it is.
    pub tool: &'a dyn Fn() -> Result<String>,
}

impl Default for Around<'_> {
    fn default() -> Self {
        Around {
            find_setup: &|_| Ok(None),
            tool: &|| Ok(VERSION.to_owned()),
        }
    }
}

/// Runs `build`.
pub fn run(args: &BuildArgs, context: &Context<'_>, around: &Around<'_>) -> Result<()> {
    let ui = context.ui;
    let store = context.store()?;
    let work = store.scratch(args.keep)?;
    let taken = intake::take(args.given(), work.path())?;
    taken.notes.iter().for_each(|note| ui.note(note));
    let patches = taken.patches;
    if args.digest {
        return digest(args, context, &patches);
    }
    args.save_case.as_deref().map(save_case::check_folder).transpose()?;
    let wanted = Wanted::of_build(&args.package)?;
    let of_package = wanted.as_ref().map(Wanted::module_name);
    let asked = args.name.as_deref().or(of_package.as_deref());
    let name = module_name(asked, &args.output, &named_by(args, &patches))?;
    let target = target(&args.output, &name)?;
    let _output = if args.dry_run {
        None
    } else {
        try_target(&target)?;
        Some(claim(&store, &target)?)
    };
    args.release_note.as_deref().map(try_target).transpose()?;
    let key = key(args)?;
    let setup = setup(args, &name, around.find_setup)?;
    args.module_dir.as_deref().map(ModuleFolder::find).transpose()?;
    let options = args.kernel.options(jobs(args.jobs), args.install_deps, args.boot);
    let choice = args.choice()?;
    let supplied = supply::kernel_for(&patches, &choice, &options, context.catalog, &|| context.store(), ui)?;
    let folder = module_dir(args, supplied.kernel())?;
    let source = source(folder.as_ref(), supplied.kernel());
    let signer = signer(args, key.as_ref(), supplied.kernel())?;
    let cache = context.objects(&store)?;
    let kernel = (supplied.kernel(), folder.as_ref());
    let request = request(args, kernel, &patches, &name, work.path(), cache.root());
    let save = |outcome: Option<save_case::Outcome>, series: &[Fate]| {
        let Some(folder) = &args.save_case else { return };
        let saving = Saving {
            folder,
            kernel: supplied.kernel(),
            config: match &choice {
                Choice::Pinned(_) => args.kernel.config.as_str(),
                Choice::Own(_) | Choice::Stock(_) => save_case::OWN,
            },
            patches: &patches,
            left_out: left_out(series),
            accept: &args.accept,
            replace: !args.no_replace,
            setup: &setup,
            tool: String::new(),
            folders: &[work.path(), store.root()],
        };
        save(saving, outcome, around, context);
    };
    let built = ui.phase("build the livepatch", |phase| timed(args, &request, phase));
    let built = built.inspect_err(|error| save(save_case::Outcome::of_error(error), &[]));
    let built = built.map_err(|error| suggested(args, context, &patches, &source, error))?;
    let module = built.module.as_ref().map(|module| module.path.as_path());
    let signature = module
        .zip(signer)
        .map(|(module, signer)| signer.sign(module))
        .transpose()?;
    let boot = match module {
        Some(module) if args.boot => {
            let finished = Finished {
                livepatch: &built,
                module,
                name: &name,
                folder: folder.as_ref(),
                setup: &setup,
                signature: signature.as_ref(),
            };
            Some(boot(args, context, &supplied, &store, &finished)?)
        }
        _ => None,
    };
    let outcome = save_case::Outcome::of_livepatch(&built, boot.as_ref());
    save(Some(outcome), &built.series);
    let proof = boot.as_ref().map(Boot::meaning);
    let placed = module.map_or(Ok(Placed::Nowhere), |module| place(module, target, proof))?;
    let packaged = packages(wanted.as_ref(), &placed, ui);
    let shown = Shown::on_standard_output(args.explain, context.common.verbose);
    let digest = of_built(&built, &patches, supplied.kernel(), &source, args)?;
    release_note(args, &name, &built, &patches, supplied.kernel(), &digest)?;
    let summary = Summary::of(&name, &built, &placed, boot.as_ref(), ui.phases())
        .signed(signature)
        .packaged(&packaged)
        .digest(digest)
        .shown(shown);
    match context.common.json {
        true => ui.document(&summary)?,
        false => ui.say(&summary),
    }
    if work.is_kept() {
        ui.note(format!("work folder: {}", work.path().display()));
    }
    packaged?;
    boot.map_or(Ok(()), |boot| boot.verdict())
}

/// Writes the run down as a case. A run has its own ending, which a case that cannot be written does not change.
fn save(mut saving: Saving<'_>, outcome: Option<save_case::Outcome>, around: &Around<'_>, context: &Context<'_>) {
    let Some(outcome) = outcome else {
        context
            .ui
            .warn("nothing was learnt about the patch, so no case was saved");
        return;
    };
    let saved = (around.tool)().and_then(|tool| {
        saving.tool = tool;
        saving.save(&outcome)
    });
    let folder = saving.folder.display();
    match saved {
        Ok(()) => context.ui.note(format!(
            "the case is in {folder}; `cargo xtask e2e --case {folder} --kernel …` runs it"
        )),
        Err(error) => context.ui.warn(format!("the case could not be saved: {error:#}")),
    }
}

/// What to build, for a kernel or for modules in a folder that were built for it.
fn request<'a>(
    args: &'a BuildArgs,
    (kernel, module_dir): (Kernel<'a>, Option<&'a ModuleFolder>),
    patches: &'a [PathBuf],
    name: &'a str,
    work: &'a Path,
    cache: &'a Path,
) -> livepatch::Request<'a> {
    livepatch::Request {
        kernel,
        module_dir,
        patches,
        name,
        replace: !args.no_replace,
        replaces: &args.replaces,
        accept: &args.accept,
        skip_unbuilt: args.skip_unbuilt,
        all_readers: args.compile_all_readers,
        fuzz: usize::from(args.fuzz),
        left_out: &[],
        dry_run: args.dry_run,
        work,
        cache,
        jobs: jobs(args.jobs),
    }
}

/// The folder whose modules are patched, if one was named.
fn module_dir(args: &BuildArgs, kernel: Kernel<'_>) -> Result<Option<ModuleFolder>> {
    match (&args.module_dir, kernel) {
        (None, _) => Ok(None),
        (Some(given), Kernel::Recorded(kernel)) => ModuleFolder::open(given, kernel).map(Some),
        (Some(_), Kernel::Stock(kernel)) => Err(folder::no_records(&kernel.release)),
    }
}

/// Where the sources are that are patched.
fn source(folder: Option<&ModuleFolder>, kernel: Kernel<'_>) -> PathBuf {
    folder.map_or_else(|| kernel.source().to_owned(), |folder| folder.trees().source)
}

/// Builds, and notes how long each step took.
fn timed(args: &BuildArgs, request: &livepatch::Request<'_>, phase: &Phase) -> Result<Livepatch> {
    let built = attempt(args, request, phase)?;
    for (step, took) in &built.timings {
        phase.record(step, *took);
    }
    Ok(built)
}

/// Builds all patches, or what of them can be built.
fn attempt(args: &BuildArgs, request: &livepatch::Request<'_>, progress: &dyn Progress) -> Result<Livepatch> {
    if args.leave_out_refused {
        return leave_out::build(request, progress);
    }
    let built = livepatch::build(request, progress);
    match built {
        Err(error) if args.explain && request.patches.len() > 1 && leave_out::is_answer(&error) => {
            Err(leave_out::explain(request, error, progress))
        }
        built => built,
    }
}

/// The places of the patches that are out.
fn left_out(series: &[Fate]) -> Vec<usize> {
    let all = series.iter().enumerate();
    all.filter(|(_, fate)| fate.state == State::Out)
        .map(|(index, _)| index)
        .collect()
}

/// Prints the digest of the patches and does nothing else.
fn digest(args: &BuildArgs, context: &Context<'_>, patches: &[PathBuf]) -> Result<()> {
    let options = args.kernel.options(jobs(args.jobs), args.install_deps, false);
    let choice = args.choice()?;
    let store = &|| context.store();
    let supplied = supply::kernel_for(patches, &choice, &options, context.catalog, store, context.ui)?;
    let folder = module_dir(args, supplied.kernel())?;
    let source = source(folder.as_ref(), supplied.kernel());
    let digest = patchset::digest::of(supplied.kernel(), &source, patches, usize::from(args.fuzz))?;
    if context.common.json {
        context.ui.document(&Digest { digest })?;
    } else {
        context.ui.say(&digest);
    }
    Ok(())
}

/// What `--digest` prints.
#[derive(Debug, Serialize)]
struct Digest {
    digest: String,
}

/// The digest of the patches that are in the livepatch.
fn of_built(
    built: &Livepatch,
    patches: &[PathBuf],
    kernel: Kernel<'_>,
    source: &Path,
    args: &BuildArgs,
) -> Result<String> {
    let is_in = |index: usize| built.series.get(index).is_none_or(|fate| fate.state == State::In);
    let inside = patches.iter().enumerate().filter(|(index, _)| is_in(*index));
    let inside: Vec<PathBuf> = inside.map(|(_, path)| path.clone()).collect();
    patchset::digest::of(kernel, source, &inside, usize::from(args.fuzz))
}

/// Writes the table of patches. A single patch has one row.
fn release_note(
    args: &BuildArgs,
    module: &str,
    built: &Livepatch,
    patches: &[PathBuf],
    kernel: Kernel<'_>,
    digest: &str,
) -> Result<()> {
    let Some(file) = &args.release_note else { return Ok(()) };
    let series = match &built.series[..] {
        [] => {
            let mut all = Fate::of_all(patches)?;
            for fate in &mut all {
                let own = vec![vec![fate.patch.clone()]; built.functions().len()];
                fate.takes_part(built.functions(), &own);
            }
            all
        }
        series => series.to_vec(),
    };
    let note = ReleaseNote {
        module,
        release: kernel.release(),
        digest: Some(digest),
        series: &series,
    };
    output::write(note.to_string().as_bytes(), file)
}

/// What the module is called after: what was given, or, for what came through a pipe, the patch.
fn named_by(args: &BuildArgs, patches: &[PathBuf]) -> Vec<PathBuf> {
    let names = intake::name_of(args.given());
    let is_piped = |path: &PathBuf| path == Path::new("-") || path.starts_with("/dev") || path.starts_with("/proc");
    if names.iter().any(is_piped) {
        patches.to_vec()
    } else {
        names
    }
}

/// The error that ends the run, with the place of the suggestion if one was asked for and there is one. What is wrong with that
/// does not hide why the patch is refused.
fn suggested(
    args: &BuildArgs,
    context: &Context<'_>,
    patches: &[PathBuf],
    source: &Path,
    error: anyhow::Error,
) -> anyhow::Error {
    if !args.suggest {
        return error;
    }
    let folder = beside(&args.patches, &args.output);
    match suggest::beside(&error, patches, source, &folder) {
        Ok(Some(told)) => told,
        Ok(None) => {
            context.ui.note("--suggest: nothing can be derived for this");
            error
        }
        Err(why) => {
            context.ui.warn(format!("--suggest: {why:#}"));
            error
        }
    }
}

/// The folder in which the author's last patch is; for one that came through a pipe, that of the module.
fn beside(patches: &[PathBuf], output: &Path) -> PathBuf {
    let file = patches.last().filter(|path| path.is_file());
    let folder = match file {
        Some(file) => file.parent(),
        None if output.is_dir() => Some(output),
        None => output.parent(),
    };
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// What the proof needs: the check of the command line, or what is known for these patches.
fn setup(args: &BuildArgs, name: &str, find: FindSetup<'_>) -> Result<Setup> {
    let named = || Setup {
        name: name.to_owned(),
        ..Setup::default()
    };
    match &args.check {
        Some(check) => {
            let found = check.canonicalize();
            let wrong = |why: String| Ending::usage(format!("--check {}: {why}", check.display()));
            let found = found.map_err(|error| wrong(error.to_string()))?;
            if !found.is_file() {
                return Err(wrong("not a file".to_owned()));
            }
            Ok(Setup {
                check: Some(found),
                ..named()
            })
        }
        None if args.boot => {
            let files = args.patches.iter().filter(|path| path.exists());
            let files: Vec<PathBuf> = files.filter_map(|path| path.canonicalize().ok()).collect();
            Ok(find(&files)?.unwrap_or_else(named))
        }
        None => Ok(named()),
    }
}

/// The name of the module. Whoever names its file removes it by that name.
fn module_name(asked: Option<&str>, output: &Path, patches: &[PathBuf]) -> Result<String> {
    let of_file = output
        .extension()
        .is_some_and(|extension| extension == "ko")
        .then(|| output.file_stem());
    match (asked, of_file.flatten()) {
        (Some(name), _) => module::checked_name(name),
        (None, Some(stem)) => module::checked_name(&stem.to_string_lossy()),
        (None, None) => Ok(module::livepatch_name(patches)),
    }
}

/// Where the module goes.
fn target(output: &Path, name: &str) -> Result<PathBuf> {
    if output.extension().is_some_and(|extension| extension == "ko") {
        if output.is_dir() {
            let text = format!("--output {}: ends in .ko but is a folder", output.display());
            return Err(Ending::usage(text));
        }
        return Ok(output.to_owned());
    }
    if output.exists() && !output.is_dir() {
        let text = format!("--output {}: neither a folder nor a .ko file", output.display());
        return Err(Ending::usage(text));
    }
    Ok(output.join(format!("{name}.ko")))
}

/// Takes the place of the module for this run: of two runs with one place the second would replace what the first reported.
fn claim(store: &Store, target: &Path) -> Result<Guard> {
    let absolute = std::path::absolute(target).with_context(|| format!("cannot resolve {}", target.display()))?;
    let taken = || {
        let text = format!(
            "another run is building {} now: wait for it, or use another --output",
            target.display()
        );
        Ending::infrastructure(text)
    };
    store.output_lock(&absolute)?.ok_or_else(taken)
}

/// Puts the module where it was asked for, once the proof has nothing against it. One that failed, or could not be
/// tried, lies beside that place for whoever wants to know why, under a name that nobody loads by accident; what is
/// there under the good name stays.
fn place(module: &Path, target: PathBuf, proof: Option<Meaning>) -> Result<Placed> {
    let suffix = match proof {
        None | Some(Meaning::Success) => return install(module, target).map(Placed::Installed),
        Some(Meaning::Failure) => "failed",
        Some(Meaning::Infrastructure) => "unproven",
    };
    let earlier = target.exists();
    let mut aside = target.into_os_string();
    aside.push(".");
    aside.push(suffix);
    install(module, aside.into()).map(|path| Placed::Aside { path, earlier })
}

/// The packages of a module that is in its place.
fn packages(wanted: Option<&Wanted>, placed: &Placed, ui: &Ui) -> Result<Vec<PathBuf>> {
    match (wanted, placed) {
        (Some(wanted), Placed::Installed(module)) => wanted.make(module, folder_of(module), ui),
        _ => Ok(Vec::new()),
    }
}

/// The key that somebody named.
fn key(args: &BuildArgs) -> Result<Option<Key>> {
    let key = args.sign_key.as_deref();
    key.map(|key| Key::new(key, args.sign_cert.as_deref())).transpose()
}

/// Who signs the module, if anybody. What the kernel lacks for signatures is said before anything is built.
fn signer<'a>(args: &BuildArgs, key: Option<&'a Key>, kernel: Kernel<'a>) -> Result<Option<Signer<'a>>> {
    if args.sig_enforce && !module::knows_signatures(kernel)? {
        let why = "--sig-enforce: this kernel is built without CONFIG_MODULE_SIG and looks at no signature";
        return Err(Ending::infrastructure(why));
    }
    key.map(|key| Signer::new(key, kernel)).transpose()
}

/// A module that is to be proven.
struct Finished<'a> {
    livepatch: &'a Livepatch,
    module: &'a Path,
    name: &'a str,
    /// The folder whose modules it patches.
    folder: Option<&'a ModuleFolder>,
    setup: &'a Setup,
    /// Who signed it.
    signature: Option<&'a Signature>,
}

fn boot(
    args: &BuildArgs,
    context: &Context<'_>,
    supplied: &Supply,
    store: &Store,
    finished: &Finished<'_>,
) -> Result<Boot> {
    let setup = finished.setup;
    let work = store.scratch(args.keep)?;
    let cache = context.objects(store)?;
    let mut guest = Guest::new(supplied.kernel(), supplied.image(), work.path(), cache.root())?;
    guest.others = finished
        .folder
        .map(ModuleFolder::with_others)
        .transpose()?
        .unwrap_or_default();
    let program = setup.program.as_deref();
    let files = program
        .map(|source| guest::probe(&setup.name, source, &guest))
        .transpose()?;
    let files: Vec<_> = files.into_iter().collect();
    let modules = guest.modules(&setup.before, &setup.after, &finished.livepatch.objects())?;
    // A build directory has its modules as they were linked: they are signed when they are installed.
    let are_signed = matches!(supplied.kernel(), Kernel::Stock(_)) || modules.is_empty();
    if args.sig_enforce && !are_signed {
        let why = "--sig-enforce: the proof needs modules of this build, and they are not signed";
        return Err(Ending::infrastructure(why));
    }
    // Whoever signs with a key that the kernel knows wants a machine that demands it to take the module.
    let is_known = finished.signature.is_some_and(|signature| signature.built_in);
    guest.signatures_enforced = args.sig_enforce || (is_known && are_signed);
    let proof = Proof {
        name: &setup.name,
        ko: finished.module,
        module: finished.name,
        functions: finished.livepatch.functions(),
        callbacks: &finished.livepatch.patch.callbacks,
        permanent: finished.livepatch.patch.is_permanent(),
        check: setup.check.clone(),
        during: setup.during.as_ref(),
        reports: &setup.reports,
        files: &files,
        before: &modules.before,
        after: &modules.after,
        rebuilt: &[],
        reload: &[],
        then: None,
        shared: false,
    };
    let plans = proof::plans(&proof, work.path())?;
    let report = context.ui.phase("boot and prove", |phase| {
        let report = guest.run(plans, &|text| phase.message(text))?;
        if report.meaning() != Meaning::Success {
            phase.fail();
        }
        Ok(report)
    })?;
    Ok(Boot::of(&report, proof.check.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_a_proven_module_gets_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let built = folder.path().join("built");
        fs::write(&built, "x").unwrap();
        let target = folder.path().join("a.ko");
        let placed = |proof| place(&built, target.clone(), proof).unwrap();
        let aside = |suffix| folder.path().join(format!("a.ko.{suffix}"));
        let set_aside = |suffix, earlier| Placed::Aside {
            path: aside(suffix),
            earlier,
        };
        assert_eq!(placed(Some(Meaning::Failure)), set_aside("failed", false));
        assert_eq!(placed(Some(Meaning::Infrastructure)), set_aside("unproven", false));
        assert!(!target.exists() && aside("failed").is_file() && aside("unproven").is_file());
        assert_eq!(placed(Some(Meaning::Success)), Placed::Installed(target.clone()));
        assert_eq!(placed(Some(Meaning::Failure)), set_aside("failed", true));
        assert!(target.is_file(), "what an earlier run made stays");
        fs::remove_file(&target).unwrap();
        assert_eq!(placed(None), Placed::Installed(target.clone()));
        assert!(target.is_file());
    }

    #[test]
    fn a_module_is_called_like_its_file_unless_it_is_named() {
        let name = |asked, output: &str| module_name(asked, Path::new(output), &["fix.patch".into()]);
        assert_eq!(name(None, "o").unwrap(), "livepatch_fix");
        assert_eq!(name(None, "o/b1.ko").unwrap(), "b1");
        assert_eq!(name(Some("mine"), "o/b1.ko").unwrap(), "mine");
        let error = name(None, "o/bad name!.ko").unwrap_err();
        assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_USAGE);
    }

    #[test]
    fn an_output_is_a_folder_or_a_module() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(target(folder.path(), "m").unwrap(), folder.path().join("m.ko"));
        assert_eq!(target(Path::new("x.ko"), "m").unwrap(), Path::new("x.ko"));
        fs::create_dir(folder.path().join("d.ko")).unwrap();
        assert!(target(&folder.path().join("d.ko"), "m").is_err());
        assert!(target(Path::new("/dev/null"), "m").is_err());
    }
}
