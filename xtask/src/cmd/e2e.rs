//! The cases of the corpus, from patch to booted proof.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Context;
use crate::cli::{E2eArgs, E2eCommand, E2eRunArgs};
use crate::corpus::{Case, Expect};
use crate::e2e::axis;
use crate::e2e::record::{FORMAT, RunRecord};
use crate::e2e::select::{self, Trial};
use crate::e2e::snapfile::{self, Snapshots};
use crate::e2e::verdicts::{self, Verdicts};
use crate::e2e::{AxisResult, OWN, Outcome, Run, STOCK, untouched};
use crate::project;
use crate::report::{self, clock};
use kpatch_build::cli::jobs;
use kpatch_build::kernel::Kernel;
use kpatch_build::outcome::{Coded, Ending};
use kpatch_build::supply::place::{Choice, Place};
use kpatch_build::supply::stock::Stock;
use kpatch_build::supply::store::Store;
use kpatch_build::supply::{self, Options, Supply};

/// How many cases a CI job should have at most.
const CASES_PER_SHARD: usize = 40;

/// Runs `e2e` and what is behind it.
pub fn run(args: &E2eArgs, context: &Context<'_>) -> Result<()> {
    match &args.command {
        Some(E2eCommand::Compare(args)) => compare(&args.case, &args.left, &args.right, context),
        Some(E2eCommand::Merge(args)) => report::merge(&args.results, args.matrix.as_deref(), &args.report, context.ui),
        None if args.run.list => list(&args.run, context),
        None => trials(&args.run, context),
    }
}

fn trials(args: &E2eRunArgs, context: &Context<'_>) -> Result<()> {
    snapfile::check_bless(args.bless)?;
    let started = Instant::now();
    // Before anything long begins: the checkout may be another one at the end.
    let tool = project::identity()?;
    let store = context.store()?;
    let own = own_kernel(args, context)?;
    let axes = match &own {
        Some(supplied) => vec![own_axis(supplied)],
        None => places(args, context)?,
    };
    let trials = select::trials(&wanted(args), &axes)?;
    let work = store.scratch(args.keep)?;
    let names: Vec<String> = trials.iter().map(Trial::name).collect();
    let arguments = verdicts::arguments(&args.libtest, &work.path().join("trials.log"), names.len());
    let verdicts = Verdicts::default();
    if arguments.list {
        // A list has no verdict.
        let _ = libtest_mimic::run(&arguments, verdicts.trials(&names));
        return Ok(());
    }
    let chosen = verdicts::chosen(&names, &arguments);
    let trials: Vec<Trial> = trials
        .into_iter()
        .filter(|trial| chosen.contains(&trial.name()))
        .collect();
    let runner = Runner {
        args,
        context,
        store: &store,
        work: work.path(),
        verdicts: &verdicts,
        own: own.as_ref(),
    };
    let results = std::thread::scope(|scope| {
        let harness = scope.spawn(|| libtest_mimic::run(&arguments, verdicts.trials(&chosen)));
        let results = runner.all(&axes, &trials);
        verdicts.close();
        drop(harness.join());
        results
    })?;
    let record = record(results, args, tool, started);
    finish(&record, args, context)
}

/// The places that the command line names.
fn places(args: &E2eRunArgs, context: &Context<'_>) -> Result<Vec<Place>> {
    let which = "which kernel? Name one with --kernel, or `all`; `cargo xtask kernel list` shows them";
    let kernel = args.kernel.as_deref().ok_or_else(|| Ending::usage(which))?;
    if let Some(place) = axis::stock(kernel) {
        if args.mutants || args.kill > 0 {
            let text =
                format!("--mutants and --kill need a kernel that was built here, and {kernel} is a distribution's");
            return Err(Ending::usage(text));
        }
        return Ok(vec![place]);
    }
    let wanted = axis::Wanted {
        kernel,
        arch: &args.arch,
        toolchain: &args.toolchain,
        config: &args.config,
    };
    axis::places(wanted, context.catalog)
}

/// The cases that the command line names.
fn wanted(args: &E2eRunArgs) -> select::Wanted {
    let mut wanted = select::Wanted {
        parts: args.cases.clone(),
        quick: args.quick,
        shard: args.shard,
        ..select::Wanted::default()
    };
    for typed in &args.named {
        wanted.add(typed);
    }
    wanted
}

/// The results of all places become one record.
fn record(results: Vec<AxisResult>, args: &E2eRunArgs, tool: String, started: Instant) -> RunRecord {
    let mut record = RunRecord {
        format: FORMAT,
        command: std::env::args()
            .skip(1)
            .fold("cargo xtask".to_owned(), |line, word| line + " " + &word),
        shard: args
            .shard
            .map_or_else(|| "1/1".to_owned(), |shard| format!("{}/{}", shard.index, shard.count)),
        jobs: jobs(args.jobs),
        date: clock::now(),
        tool,
        host: std::env::consts::ARCH.to_owned(),
        seconds: 0.0,
        axes: Vec::new(),
        cases: Vec::new(),
        mutants: Vec::new(),
    };
    for result in results {
        record.axes.push(result.axis);
        record.cases.extend(result.cases);
        record.mutants.extend(result.mutants);
    }
    record.seconds = started.elapsed().as_secs_f64();
    record
}

fn finish(record: &RunRecord, args: &E2eRunArgs, context: &Context<'_>) -> Result<()> {
    if let Some(folder) = &args.report {
        report::write(record, folder)?;
        context
            .ui
            .note(format!("the report is {}", folder.join("index.html").display()));
    }
    if context.common.json {
        context.ui.json(record)?;
    } else if args.libtest.is_empty() {
        context.ui.say(counts(record));
        context.ui.summary();
    }
    verdict(record)
}

/// What a run works with.
struct Runner<'a> {
    args: &'a E2eRunArgs,
    context: &'a Context<'a>,
    store: &'a Store,
    work: &'a Path,
    verdicts: &'a Verdicts,
    own: Option<&'a Supply>,
}

impl Runner<'_> {
    fn all(&self, axes: &[Place], trials: &[Trial]) -> Result<Vec<AxisResult>> {
        let mut results = Vec::new();
        for axis in axes {
            let cases: Vec<Case> = trials
                .iter()
                .filter(|trial| trial.axis == *axis)
                .map(|trial| trial.case.clone())
                .collect();
            if cases.is_empty() {
                continue;
            }
            match self.own {
                Some(own) => results.push(self.place(axis, own, &cases)?),
                None => results.push(self.place(axis, &self.supply(axis, &cases)?, &cases)?),
            }
        }
        Ok(results)
    }

    fn supply(&self, axis: &Place, cases: &[Case]) -> Result<Supply> {
        let choice = if axis.toolchain == STOCK {
            Choice::Stock(Stock {
                release: Some(axis.version.clone()),
                ..Stock::default()
            })
        } else {
            Choice::Pinned(axis.pinned())
        };
        // How much of a distribution's source is unpacked follows from what is patched.
        let patches: Vec<_> = cases
            .iter()
            .flat_map(|case| crate::corpus::patch_files(&case.patches))
            .collect();
        supply(&choice, &patches, self.args, self.context)
    }

    fn place(&self, axis: &Place, supplied: &Supply, cases: &[Case]) -> Result<AxisResult> {
        let ui = self.context.ui;
        let cache = self.context.objects(self.store)?;
        let work = self.work.join(axis.to_string().replace('/', "-"));
        std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let run = Run {
            axis,
            supply: supplied,
            store: self.store,
            work: &work,
            cache: cache.root(),
            jobs: jobs(self.args.jobs),
            boot: !self.args.no_boot,
            bless: self.args.bless,
            mutants: self.args.mutants,
            keep: self.args.keep,
            verdicts: self.verdicts,
            ui,
            lines: self.args.libtest.is_empty(),
        };
        let result = run.cases(cases)?;
        if let (true, Kernel::Recorded(kernel)) = (self.args.kill > 0, supplied.kernel()) {
            let patch = killed_patch(cases)?;
            ui.phase("kill build-patch at random moments", |phase| {
                untouched::kill(kernel, patch, &work, self.args.kill, phase)
            })?;
        }
        Ok(result)
    }
}

/// The user's own kernel, if it was named.
fn own_kernel(args: &E2eRunArgs, context: &Context<'_>) -> Result<Option<Supply>> {
    let own = args.own.choice();
    own.map(|own| supply(&Choice::Own(own), &[], args, context)).transpose()
}

fn supply(choice: &Choice, patches: &[PathBuf], args: &E2eRunArgs, context: &Context<'_>) -> Result<Supply> {
    let options = Options {
        jobs: jobs(args.jobs),
        install_deps: args.install_deps,
        boot: !args.no_boot,
        allow_version_drift: args.allow_version_drift,
        launcher: args.launcher.clone(),
    };
    supply::kernel_for(
        patches,
        choice,
        &options,
        context.catalog,
        &|| context.store(),
        context.ui,
    )
}

fn own_axis(supplied: &Supply) -> Place {
    let kernel = supplied.kernel();
    let series: Vec<&str> = kernel.release().split(['.', '-']).take(2).collect();
    Place {
        series: series.join("."),
        version: kernel.release().to_owned(),
        arch: kernel.arch(),
        toolchain: OWN.to_owned(),
        config: OWN.to_owned(),
    }
}

/// Any patch that builds will do; the first is taken so that a run can be repeated.
fn killed_patch(cases: &[Case]) -> Result<&Path> {
    let simple = |case: &&Case| {
        let is_one = case.patches.len() == 1 && case.patches[0].is_file();
        matches!(case.expect, Expect::Patched(_)) && is_one && case.module_dir.is_none()
    };
    let case = cases.iter().find(simple);
    case.map(|case| case.patches[0].as_path())
        .ok_or_else(|| Ending::infrastructure("--kill needs a case that builds a livepatch from one patch"))
}

/// How often each outcome came, in their order.
fn counts(record: &RunRecord) -> String {
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    for case in &record.cases {
        *counts.entry(case.outcome).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(outcome, count)| format!("{count} {}", outcome.shown()))
        .collect();
    let mut text = format!("{} cases: {}", record.cases.len(), counts.join(", "));
    if !record.mutants.is_empty() {
        let caught = record.mutants.iter().filter(|mutant| mutant.caught.is_some()).count();
        text += &format!("\n{} mutants: {caught} caught", record.mutants.len());
    }
    text
}

fn verdict(record: &RunRecord) -> Result<()> {
    let bad: Vec<_> = record.cases.iter().filter(|case| !case.outcome.is_good()).collect();
    let survivors: Vec<_> = record.mutants.iter().filter(|mutant| mutant.caught.is_none()).collect();
    if let Some(worst) = bad.iter().map(|case| case.outcome).max() {
        let names: Vec<&str> = bad.iter().map(|case| case.case.as_str()).collect();
        let (count, all) = (bad.len(), record.cases.len());
        let text = format!("{count} of {all} results are not as expected: {}", names.join(", "));
        let code = worst.exit_code();
        return Err(Coded { code, text }.into());
    }
    if let Some(first) = survivors.first() {
        let (case, damage) = (&first.case, &first.damage);
        anyhow::bail!("{} mutants survived, the first is {damage} of {case}", survivors.len());
    }
    Ok(())
}

/// One job of a CI matrix.
#[derive(Debug, Serialize)]
struct Job {
    kernel: String,
    arch: &'static str,
    toolchain: String,
    config: String,
    shard: String,
    /// For file and artifact names.
    id: String,
    /// Name of the kernel build in a cache.
    cache: String,
    cases: usize,
}

#[derive(Debug, Serialize)]
struct Matrix {
    include: Vec<Job>,
}

fn list(args: &E2eRunArgs, context: &Context<'_>) -> Result<()> {
    let axes = places(args, context)?;
    let trials = select::trials(&wanted(args), &axes)?;
    if !context.common.json {
        for trial in &trials {
            context.ui.say(trial.name());
        }
        return Ok(());
    }
    let mut include = Vec::new();
    for axis in &axes {
        let cases = trials.iter().filter(|trial| trial.axis == *axis).count();
        let shards = cases.div_ceil(CASES_PER_SHARD);
        for shard in 1..=shards {
            let id = format!("{}-{shard}-of-{shards}", axis.to_string().replace('/', "-"));
            include.push(Job {
                kernel: axis.version.clone(),
                arch: axis.arch.name(),
                toolchain: axis.toolchain.clone(),
                config: axis.config.clone(),
                shard: format!("{shard}/{shards}"),
                id,
                cache: axis::cache_key(axis, context.catalog)?,
                // Every n-th case belongs to a shard.
                cases: (cases + shards - shard) / shards,
            });
        }
    }
    context.ui.json(&Matrix { include })
}

/// Shows how two snapshots of a case differ.
fn compare(case: &str, left: &str, right: &str, context: &Context<'_>) -> Result<()> {
    let root = snapfile::folder();
    let read = |place: &str| Snapshots::at(&root, place).read(case);
    let (old, new) = (read(left)?, read(right)?);
    if old == new {
        context.ui.say(format!("{case} is the same on {left} and {right}"));
    } else {
        context.ui.say(snapfile::diff(&old, &new, left, right).trim_end());
    }
    Ok(())
}
