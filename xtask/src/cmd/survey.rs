//! How much of the difference of two releases can be livepatched.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Context;
use crate::cli::SurveyArgs;
use crate::project;
use crate::report;
use crate::survey::{self, About, Changed, Piece, Pieces, Record, Results, Run, Survey};
use kpatch_build::build::kbuild::Kbuild;
use kpatch_build::cli::jobs;
use kpatch_build::outcome::Ending;
use kpatch_build::supply::baseline::Baseline;
use kpatch_build::supply::fetch;
use kpatch_build::supply::place::{Choice, Pinned, Place};
use kpatch_build::supply::store::{Store, StoredSource};
use kpatch_build::supply::{self, Options};

pub fn run(args: &SurveyArgs, context: &Context<'_>) -> Result<()> {
    let ui = context.ui;
    let store = context.store()?;
    let newer = newer(args, &store, context)?;
    let baseline = baseline(args, context)?;
    let cache = context.objects(&store)?;
    let tool = project::identity()?;
    let results = Results::open(cache.root(), &baseline.kernel.id, &newer.sha256[..16], &tool)?;
    let changed: Vec<Changed> = ui.phase("compare the sources", |_| {
        results.remembered("difference", || {
            survey::difference(&baseline.kernel.source, &newer.tree)
        })
    })?;
    let kbuild = Kbuild::read(&baseline.kernel)?;
    let pieces = Pieces::find(&baseline.kernel.source, &newer.tree, changed, &kbuild);
    anyhow::ensure!(
        !pieces.pieces.is_empty(),
        "nothing of the difference between {} and {} is part of this kernel",
        args.from,
        args.to
    );
    let chosen = chosen(args, &pieces);
    if let Some(folder) = &args.series {
        let count = survey::write_series(&pieces, &chosen, folder)?;
        ui.note(format!(
            "{count} patches are in {}, of {} of {} files; `cargo xtask build-patch {} --kernel {} --config {} --leave-out-refused` makes one livepatch of them",
            folder.display(),
            chosen.len(),
            pieces.pieces.len(),
            folder.display(),
            args.from,
            args.config
        ));
        return Ok(());
    }
    let known = results.records(args.reuse)?;
    let todo = todo(args, &chosen, &known);
    ui.note(format!(
        "{} files differ, this kernel is made of {} of them; {} are known, {} to try",
        pieces.changed.len(),
        pieces.pieces.len(),
        chosen.iter().filter(|piece| known.contains_key(&piece.file)).count(),
        todo.len()
    ));
    if !todo.is_empty() {
        let work = store.scratch(false)?;
        ui.phase(&format!("try {} files", todo.len()), |phase| {
            phase.expect_steps(todo.iter().map(|piece| survey::weight(piece)).sum());
            let run = Run {
                baseline: &baseline,
                pieces: &pieces,
                results: &results,
                work: work.path(),
                cache: cache.root(),
                jobs: jobs(args.jobs),
                boot: !args.no_boot,
                widest: args.widest,
                tool: &tool,
                phase,
            };
            run.all(&todo, &known)
        })?;
    }
    let survey = summary(
        args,
        &context.catalog.place(&pinned(args))?.1,
        &baseline,
        &pieces,
        &chosen,
        &results,
    )?;
    finish(&survey, args, context)
}

/// The source of the release with the changes.
fn newer(args: &SurveyArgs, store: &Store, context: &Context<'_>) -> Result<StoredSource> {
    let (manifest, version) = context.catalog.find(&args.to)?;
    fetch::source(store, &manifest, &version, false, context.ui)
}

fn baseline(args: &SurveyArgs, context: &Context<'_>) -> Result<Baseline> {
    let options = Options {
        jobs: jobs(args.jobs),
        install_deps: args.install_deps,
        boot: !args.no_boot,
        allow_version_drift: false,
        launcher: None,
    };
    let choice = Choice::Pinned(pinned(args));
    supply::kernel(&choice, &options, context.catalog, &|| context.store(), context.ui)
}

fn pinned(args: &SurveyArgs) -> Pinned {
    Pinned {
        kernel: args.from.clone(),
        config: args.config.clone(),
        arch: args.arch,
        toolchain: args.toolchain.clone(),
    }
}

/// The pieces that are asked for.
fn chosen<'p>(args: &SurveyArgs, pieces: &'p Pieces) -> Vec<&'p Piece> {
    let narrow = |piece: &&Piece| args.widest.is_none_or(|most| piece.units.len() <= most);
    let sample = survey::sample(&pieces.pieces, args.limit);
    sample.into_iter().filter(narrow).collect()
}

/// Those of them that have to be tried, in an order in which a run that is cut short says something about the whole tree:
/// the quick ones first, since they are most of them, and those of a size mixed.
fn todo<'p>(
    args: &SurveyArgs,
    chosen: &[&'p Piece],
    known: &std::collections::BTreeMap<String, Record>,
) -> Vec<&'p Piece> {
    if args.known {
        return Vec::new();
    }
    let is_known = |piece: &Piece| {
        let record = known.get(&piece.file);
        record.is_some_and(|record| {
            let narrow = args.widest.is_none() && record.codes.iter().any(|code| code == survey::TOO_WIDE);
            let to_boot = !args.no_boot && record.outcome == survey::Outcome::Built;
            !narrow && !to_boot
        })
    };
    let mut todo: Vec<&Piece> = chosen.iter().copied().filter(|piece| !is_known(piece)).collect();
    todo.sort_by_key(|piece| survey::turn(piece));
    todo
}

fn summary(
    args: &SurveyArgs,
    place: &Place,
    baseline: &Baseline,
    pieces: &Pieces,
    chosen: &[&Piece],
    results: &Results,
) -> Result<Survey> {
    let mut known = results.records(args.reuse)?;
    let found: Vec<Record> = chosen.iter().filter_map(|piece| known.remove(&piece.file)).collect();
    let not_judged = chosen.len() - found.len();
    // A file that needs a header which was left out says nothing about livepatches.
    let judged = |record: &Record| record.codes.iter().all(|code| code != survey::TOO_WIDE);
    let records: Vec<Record> = found.into_iter().filter(judged).collect();
    if records.is_empty() {
        return Err(Ending::infrastructure("no file was judged yet: run it without --known"));
    }
    let about = About {
        from: args.from.clone(),
        to: args.to.clone(),
        place: format!("{}/{}/{}", place.arch, place.toolchain, place.config),
        build: baseline.kernel.id.clone(),
        changed: pieces.changed.len(),
        in_kernel: pieces.pieces.len(),
        left_out: pieces.pieces.len() - not_judged - records.len(),
        not_judged,
        tools: records.iter().map(|record| record.tool.clone()).collect(),
    };
    Ok(Survey::of(about, records))
}

fn finish(survey: &Survey, args: &SurveyArgs, context: &Context<'_>) -> Result<()> {
    if let Some(file) = &args.csv {
        write(file, &survey::csv(survey))?;
    }
    if let Some(folder) = &args.report {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let json = serde_json::to_string_pretty(survey).context("cannot write down the survey")?;
        write(&folder.join("survey.csv"), &survey::csv(survey))?;
        write(&folder.join("survey.json"), &json)?;
        let page = folder.join(report::PAGE);
        write(&page, &survey::page(survey))?;
        context.ui.note(format!("the report is {}", page.display()));
    }
    if context.common.json {
        context.ui.json(survey)?;
    } else {
        context.ui.say(survey);
    }
    let bad = survey.count(survey::Outcome::Misbehaved);
    anyhow::ensure!(
        bad == 0,
        "{bad} modules were built and misbehaved when they were loaded"
    );
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
