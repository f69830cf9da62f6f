//! Runs cases of the corpus from patch to booted proof and says what became of each.
//!
//! A case at a place (kernel, architecture, toolchain, configuration) is a trial. [`cases`] takes the trials of one
//! place through the pipeline, [`judge`] and [`snapfile`] say what became of each, [`verdicts`] shows them as tests of the standard
//! harness, and [`record`] is what remains for the report.

pub mod axis;
pub mod built;
mod cases;
mod judge;
mod module_dir;
pub mod mutants;
mod outcome;
mod rebuilt;
pub mod record;
pub mod select;
pub mod snapfile;
mod snapshot;
pub mod untouched;
pub mod verdicts;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use kpatch_core::names;

use self::built::Built;
use self::judge::Verdict;
use self::record::{AxisRecord, CaseRecord, FunctionRecord, PatchText, PlanRecord, Timing, millis};
use self::snapfile::{Compared, Snapshots};
use self::verdicts::Verdicts;
use crate::corpus::{Case, Expect, Origin};
use crate::pipeline::{Booted, Pipeline, own_plans};
use kpatch_build::kernel::Kernel;
use kpatch_build::outcome::Ending;
use kpatch_build::prove::vm::CaseReport;
use kpatch_build::sh;
use kpatch_build::supply::Supply;
use kpatch_build::supply::place::Place;
use kpatch_build::supply::store::Store;
use kpatch_build::ui::{Phase, Ui, seconds};

pub use outcome::{ALL, Outcome};

/// What the cases of one place have in common.
pub struct Run<'a> {
    pub axis: &'a Place,
    pub supply: &'a Supply,
    /// Where failed cases are kept.
    pub store: &'a Store,
    /// A folder for this run alone.
    pub work: &'a Path,
    /// A folder that runs share.
    pub cache: &'a Path,
    /// How many processors to use.
    pub jobs: usize,
    /// Whether to boot.
    pub boot: bool,
    /// Whether to write snapshots.
    pub bless: bool,
    /// Whether good modules are damaged afterwards.
    pub mutants: bool,
    /// Whether the whole work folder will be kept anyway.
    pub keep: bool,
    /// Where verdicts are put up.
    pub verdicts: &'a Verdicts,
    pub ui: &'a Ui,
    /// Whether lines about single cases are wanted.
    pub lines: bool,
}

/// A case that is through.
struct Through<'c> {
    built: Built<'c>,
    record: CaseRecord,
    boot: Option<BootFacts>,
}

/// What a boot says about the machine.
struct BootFacts {
    folder: PathBuf,
    boots: usize,
    seconds: f64,
    accelerator: String,
}

/// What a place gave.
pub struct AxisResult {
    pub axis: AxisRecord,
    /// Its cases, in the order of their names.
    pub cases: Vec<CaseRecord>,
    pub mutants: Vec<record::MutantRecord>,
}

impl Run<'_> {
    pub fn cases(&self, cases: &[Case]) -> Result<AxisResult> {
        let started = Instant::now();
        let through: Mutex<Vec<Through<'_>>> = Mutex::new(Vec::new());
        let name = format!("{} cases on {}", cases.len(), self.axis);
        self.ui.phase(&name, |phase| {
            phase.expect_steps(cases.len() as u64);
            cases::run(&self.pipeline(phase), self.boot, cases, &|built, booted| {
                if sh::was_interrupted() {
                    return;
                }
                let one = self.judge(built, booted);
                self.tell(&one, phase);
                through.lock().unwrap_or_else(PoisonError::into_inner).push(one);
            });
            anyhow::ensure!(!sh::was_interrupted(), "interrupted");
            Ok(())
        })?;
        let mut through = through.into_inner().unwrap_or_else(PoisonError::into_inner);
        through.sort_by(|a, b| a.record.case.cmp(&b.record.case));
        let seconds = started.elapsed().as_secs_f64();
        let mutants = if let (true, Kernel::Recorded(kernel)) = (self.mutants, self.supply.kernel()) {
            let name = format!("mutants on {}", self.axis);
            self.ui.phase(&name, |phase| {
                let good = through
                    .iter()
                    .filter(|one| one.record.outcome == Outcome::Passed && one.built.case.stalls.is_none());
                let good: Vec<&Built<'_>> = good.map(|one| &one.built).collect();
                mutants::run(&self.pipeline(phase), kernel, &good, phase)
            })?
        } else {
            Vec::new()
        };
        self.keep_failed(&mut through)?;
        Ok(AxisResult {
            axis: self.about(&through, seconds),
            cases: through.into_iter().map(|one| one.record).collect(),
            mutants,
        })
    }

    fn pipeline<'p>(&'p self, phase: &'p Phase) -> Pipeline<'p> {
        Pipeline {
            kernel: self.supply.kernel(),
            image: self.supply.image(),
            work: self.work,
            cache: self.cache,
            jobs: self.jobs,
            phase,
        }
    }

    fn about(&self, through: &[Through<'_>], seconds: f64) -> AxisRecord {
        let mut boots: Vec<&BootFacts> = Vec::new();
        for boot in through.iter().filter_map(|one| one.boot.as_ref()) {
            if !boots.iter().any(|known| known.folder == boot.folder) {
                boots.push(boot);
            }
        }
        AxisRecord {
            axis: self.axis.clone(),
            release: self.supply.kernel().release().to_owned(),
            build: match self.supply.kernel() {
                Kernel::Recorded(kernel) => kernel.id.clone(),
                Kernel::Stock(kernel) => kernel.build_id.clone(),
            },
            baseline_seconds: match self.supply {
                Supply::Recorded(baseline) => baseline.build_seconds,
                Supply::Stock(_) => None,
            },
            seconds,
            boots: boots.iter().map(|boot| boot.boots).sum(),
            boot_seconds: boots.first().map_or(0.0, |boot| boot.seconds),
            accelerator: boots.first().map_or_else(String::new, |boot| boot.accelerator.clone()),
        }
    }

    fn judge<'c>(&self, built: Built<'c>, booted: Option<Booted>) -> Through<'c> {
        let case = built.case;
        let (report, boot) = match booted {
            None => (None, None),
            Some(Booted {
                report: Ok(report),
                folder,
            }) => {
                let boot = BootFacts {
                    folder,
                    boots: report.boots,
                    seconds: report.boot_seconds,
                    accelerator: format!("{:?}", report.accel).to_uppercase(),
                };
                (Some(Ok(report)), Some(boot))
            }
            Some(Booted { report: Err(error), .. }) => (Some(Err(error)), None),
        };
        let machine = report.as_ref().and_then(|report| report.as_ref().ok());
        let mut verdict = match &report {
            Some(Err(error)) if error.is::<Ending>() => Verdict::new(Outcome::Infrastructure, format!("{error:#}")),
            Some(Err(error)) => Verdict::new(
                Outcome::Infrastructure,
                format!("the machine could not be run: {error:#}"),
            ),
            _ => judge::case(&built, machine, self.boot),
        };
        let plans = machine.map(|report| own_plans(&case.name, report)).unwrap_or_default();
        let snapshot = match snapshot::text(&built.result, built.then.as_ref().map(|(_, then)| then), &plans) {
            Ok(text) => text.unwrap_or_default(),
            Err(error) => {
                verdict = Verdict::new(
                    Outcome::BuildFailed,
                    format!("the module cannot be described: {error:#}"),
                );
                String::new()
            }
        };
        let is_compared = self.boot && select::is_of_corpus(case);
        if verdict.outcome.is_good() && verdict.outcome != Outcome::KnownBad && is_compared {
            verdict = self.compare(case, &snapshot, verdict);
        }
        let record = self.record(&built, verdict, &plans, snapshot);
        Through { built, record, boot }
    }

    fn compare(&self, case: &Case, text: &str, good: Verdict) -> Verdict {
        let root = snapfile::folder();
        match Snapshots::of(&root, self.axis, self.bless).compare(&case.name, text) {
            Ok(Compared::Equal | Compared::Blessed | Compared::NewPlace) => good,
            Ok(Compared::Differs(text)) => Verdict::new(Outcome::SnapshotDiffers, text),
            Err(error) => Verdict::new(Outcome::SnapshotDiffers, format!("{error:#}")),
        }
    }

    fn record(&self, built: &Built<'_>, verdict: Verdict, plans: &[&CaseReport], snapshot: String) -> CaseRecord {
        let case = built.case;
        let livepatch = built.result.as_ref().ok();
        let plans: Vec<PlanRecord> = plans.iter().map(|plan| PlanRecord::of(plan)).collect();
        let refusals = match built
            .result
            .as_ref()
            .err()
            .and_then(|error| error.downcast_ref::<Ending>())
        {
            Some(Ending::Refused(refusals)) => refusals.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let timings = livepatch
            .map(|livepatch| livepatch.timings.as_slice())
            .unwrap_or_default();
        CaseRecord {
            axis: self.axis.clone(),
            case: case.name.clone(),
            why: why(case),
            expected: expectation(case),
            outcome: verdict.outcome,
            detail: verdict.detail,
            reproduce: self.reproduce(case),
            kept: None,
            patches: patches(case).map(|path| patch_text(&path)).collect(),
            functions: livepatch.map(functions).unwrap_or_default(),
            snapshot,
            refusals,
            steps: timings
                .iter()
                .map(|(name, took)| Timing {
                    name: name.clone(),
                    ms: millis(*took),
                })
                .collect(),
            build_ms: millis(built.took),
            guest_ms: plans.iter().flat_map(|plan| &plan.steps).map(|step| step.ms).sum(),
            plans,
        }
    }

    fn reproduce(&self, case: &Case) -> String {
        let name = if select::is_of_corpus(case) {
            case.name.clone()
        } else {
            case.dir.display().to_string()
        };
        if let (OWN, Kernel::Recorded(kernel)) = (self.axis.toolchain.as_str(), self.supply.kernel()) {
            let (source, build) = (kernel.source.display(), kernel.build.display());
            return format!("cargo xtask e2e --case {name} --source {source} --build-dir {build} --keep");
        }
        let Place {
            version,
            toolchain,
            config,
            ..
        } = self.axis;
        if toolchain == STOCK {
            return format!("cargo xtask e2e --case {name} --kernel {version} --keep");
        }
        let arch = self.axis.arch.name();
        let place = format!("--kernel {version} --arch {arch} --toolchain {toolchain} --config {config}");
        format!("cargo xtask e2e --case {name} {place} --keep")
    }

    /// Puts the verdict up and shows it.
    fn tell(&self, one: &Through<'_>, phase: &Phase) {
        let record = &one.record;
        let good = record.outcome.is_good();
        let name = format!("{}/{}", self.axis, record.case);
        let verdict = if good {
            Ok(())
        } else {
            Err(format!(
                "{}\n{}\nreproduce: {}",
                record.outcome.shown(),
                record.detail,
                record.reproduce
            ))
        };
        self.verdicts.put(name, verdict);
        phase.step();
        if !self.lines {
            return;
        }
        let (build, guest) = (time(record.build_ms), time(record.guest_ms));
        let outcome = record.outcome.shown();
        phase.line(&format!(
            "{outcome:<21} {:<28} build {build:>7}  guest {guest:>7}",
            record.case
        ));
        if !good {
            for line in record.detail.lines() {
                phase.line(&format!("    {line}"));
            }
            phase.line(&format!("    reproduce: {}", record.reproduce));
        }
    }

    /// Moves the folders of failed cases to where the end of the run does not remove them.
    fn keep_failed(&self, through: &mut [Through<'_>]) -> Result<()> {
        let failed: Vec<&mut Through<'_>> = through.iter_mut().filter(|one| !one.record.outcome.is_good()).collect();
        if failed.is_empty() {
            return Ok(());
        }
        let kept = if self.keep {
            None
        } else {
            Some(self.store.work_dir(true)?)
        };
        for one in failed {
            let own = self.work.join(&one.record.case);
            let boot = one.boot.as_ref().map(|boot| boot.folder.as_path());
            match &kept {
                None => one.record.kept = Some(own.display().to_string()),
                Some(kept) => {
                    for folder in [Some(own.as_path()), boot]
                        .into_iter()
                        .flatten()
                        .filter(|folder| folder.is_dir())
                    {
                        copy(folder, kept.path())?;
                    }
                    one.record.kept = Some(kept.path().join(&one.record.case).display().to_string());
                }
            }
            if let Some(kept) = one.record.kept.as_ref().filter(|_| self.lines) {
                self.ui.note(format!("{}: the work folder is {kept}", one.record.case));
            }
        }
        Ok(())
    }
}

/// What the toolchain and configuration of a kernel are called that somebody else built.
pub const OWN: &str = "own";

/// What the toolchain of a distribution's kernel is called. The configuration has the name of the flavour.
pub const STOCK: &str = "stock";

fn copy(folder: &Path, into: &Path) -> Result<()> {
    sh::output(sh::command("cp").arg("-a").arg("--").arg(folder).arg(into))
        .with_context(|| format!("cannot keep {}", folder.display()))
        .map(drop)
}

fn time(ms: u64) -> String {
    seconds(std::time::Duration::from_millis(ms))
}

/// Why the case exists, and where it was seen first if it was saved there.
fn why(case: &Case) -> String {
    let Some(origin) = &case.origin else {
        return case.why.clone();
    };
    let Origin {
        tool,
        outcome,
        release,
        config,
        config_sha256,
        compiler,
        linker,
        ..
    } = origin;
    let config = format!("{config} ({})", config_sha256.get(..12).unwrap_or(config_sha256));
    format!(
        "{} There: {outcome}, on Linux {release}, configuration {config}, {compiler}, {linker}; tool {tool}.",
        case.why
    )
}

/// What the case expects, in words.
fn expectation(case: &Case) -> String {
    match &case.expect {
        Expect::Patched(objects) => {
            let list = objects.iter().map(|(object, functions)| {
                let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
                match functions.is_empty() {
                    true => format!("no function, and has callbacks for {object}"),
                    false => format!("{} in {object}", functions.join(", ")),
                }
            });
            format!("a livepatch that replaces {}", list.collect::<Vec<_>>().join(", and "))
        }
        Expect::Refused(codes) => {
            let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
            format!("a refusal with {}", codes.join(" and "))
        }
        Expect::NoChange => "the verdict that nothing that runs changes".to_owned(),
        Expect::BootOnly => "the verdict that nothing but boot code changes".to_owned(),
        Expect::Built => "a livepatch".to_owned(),
    }
}

fn functions(livepatch: &kpatch_build::build::livepatch::Livepatch) -> Vec<FunctionRecord> {
    let record = |function: &kpatch_core::resolve::PatchedFunction| FunctionRecord {
        object: function.object.to_string(),
        name: names::unpromoted(&function.name).to_owned(),
        sympos: function.sympos.0,
        reason: function.reason.to_string(),
    };
    livepatch.functions().iter().map(record).collect()
}

/// All patches of a case.
fn patches(case: &Case) -> impl Iterator<Item = PathBuf> {
    let then = case.then.iter().flat_map(|then| then.patches.clone());
    crate::corpus::patch_files(&case.patches).into_iter().chain(then)
}

fn patch_text(path: &Path) -> PatchText {
    PatchText {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        // The case has been read before, so the file is there; a report without it is better than no report.
        text: std::fs::read(path).map_or_else(
            |error| error.to_string(),
            |text| String::from_utf8_lossy(&text).into_owned(),
        ),
    }
}
