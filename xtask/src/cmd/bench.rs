//! How long a livepatch takes, phase by phase, and how that compares with building the kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::Context;
use crate::cli::BenchPatchArgs;
use crate::corpus::{self, Case, Expect};
use crate::project;
use kpatch_build::build::livepatch::{self, Livepatch};
use kpatch_build::build::module;
use kpatch_build::cli::jobs;
use kpatch_build::kernel::Kernel;
use kpatch_build::supply;
use kpatch_build::supply::baseline::Baseline;
use kpatch_build::supply::place::Place;
use kpatch_build::ui::{Ui, seconds};

/// One changed file, a file whose importers change, a widely included header, and a module: what users wait for. Those that the
/// kernel has.
const DEFAULT_CASES: &[&str] = &[
    "live-pointer",
    "string-literal",
    "thinlto-many-importers",
    "header-inline",
    "module-before",
];

/// Times of one case, in seconds.
#[derive(Debug, Serialize)]
struct Times {
    case: String,
    runs: u32,
    /// The first run, which may have had to fill caches.
    first: f64,
    /// Median of all later runs, or the first if there was no other.
    median: f64,
    /// Median of each phase.
    phases: BTreeMap<String, f64>,
    /// Time to build the kernel divided by the median.
    baseline_ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: String,
    jobs: usize,
    baseline_seconds: Option<f64>,
    cases: Vec<Times>,
}

pub fn patch(args: &BenchPatchArgs, context: &Context<'_>) -> Result<()> {
    let options = args.kernel.options(jobs(args.jobs), false, false);
    let choice = args.kernel.choice(None)?;
    let baseline = supply::kernel(&choice, &options, context.catalog, &|| context.store(), context.ui)?;
    let (_, place) = context.catalog.place(&args.kernel.pinned()?)?;
    let mut cases = Vec::new();
    for case in selected(args, &place)? {
        cases.push(measure(&case, args, &baseline, context)?);
    }
    let report = Report {
        kernel: baseline.kernel.id.clone(),
        jobs: jobs(args.jobs),
        baseline_seconds: baseline.build_seconds,
        cases,
    };
    if context.common.json {
        context.ui.json(&report)
    } else {
        context.ui.say(&report);
        Ok(())
    }
}

fn selected(args: &BenchPatchArgs, place: &Place) -> Result<Vec<Case>> {
    let all = corpus::load_all(&project::root().join("testdata/corpus"))?;
    let here = |name: &&str| all.iter().any(|case| case.name == **name && case.is_for(place));
    let wanted: Vec<&str> = if args.cases.is_empty() {
        DEFAULT_CASES.iter().copied().filter(here).collect()
    } else {
        args.cases.iter().map(String::as_str).collect()
    };
    let find = |name: &&str| {
        let case = all.iter().find(|case| case.name == **name && case.is_for(place));
        let case = case.map(|case| case.at(place));
        case.filter(|case| case.module_dir.is_none() && matches!(case.expect, Expect::Patched(_)))
            .with_context(|| format!("`{name}` is no case of the corpus that builds a livepatch for this kernel"))
    };
    ensure!(
        !wanted.is_empty(),
        "none of {} is for {place}",
        DEFAULT_CASES.join(", ")
    );
    wanted.iter().map(find).collect()
}

fn measure(case: &Case, args: &BenchPatchArgs, baseline: &Baseline, context: &Context<'_>) -> Result<Times> {
    let store = context.store()?;
    let cache = context.objects(&store)?;
    let (mut totals, mut phases): (Vec<f64>, BTreeMap<String, Vec<f64>>) = (Vec::new(), BTreeMap::new());
    let kernel = Kernel::Recorded(&baseline.kernel);
    for _ in 0..args.runs.max(1) {
        let work = store.scratch(false)?;
        let jobs = jobs(args.jobs);
        let (took, built) = timed(case, kernel, cache.root(), work.path(), false, jobs, context.ui)?;
        totals.push(took);
        for (phase, took) in built.timings {
            phases.entry(phase).or_default().push(took.as_secs_f64());
        }
    }
    let first = totals[0];
    let median = median(if totals.len() > 1 { &totals[1..] } else { &totals });
    Ok(Times {
        case: case.name.clone(),
        runs: args.runs.max(1),
        first,
        median,
        phases: phases
            .into_iter()
            .map(|(phase, times)| (phase, self::median(&times)))
            .collect(),
        baseline_ratio: baseline.build_seconds.map(|baseline| baseline / median),
    })
}

/// Builds a case once, and says how many seconds that took.
pub(super) fn timed(
    case: &Case,
    kernel: Kernel<'_>,
    cache: &Path,
    work: &Path,
    all_readers: bool,
    jobs: usize,
    ui: &Ui,
) -> Result<(f64, Livepatch)> {
    let request = livepatch::Request {
        kernel,
        module_dir: None,
        patches: &case.patches,
        name: &module::livepatch_name(&case.patches),
        replace: true,
        replaces: &[],
        accept: &case.accept,
        skip_unbuilt: false,
        all_readers,
        fuzz: 0,
        left_out: &[],
        dry_run: false,
        work,
        cache,
        jobs,
    };
    let with = if all_readers { " with all readers" } else { "" };
    let title = format!("{}{with}", case.name);
    let started = Instant::now();
    let built = ui.phase(&title, |phase| livepatch::build(&request, phase))?;
    Ok((started.elapsed().as_secs_f64(), built))
}

/// The value in the middle.
pub(super) fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |time: f64| seconds(Duration::from_secs_f64(time));
        let baseline = self.baseline_seconds.map_or("not recorded".into(), shown);
        writeln!(
            f,
            "kernel {}, {} jobs, baseline build {baseline}",
            self.kernel, self.jobs
        )?;
        for case in &self.cases {
            let ratio = case.baseline_ratio.map_or(String::new(), |ratio| {
                format!(", {ratio:.0} times faster than the baseline")
            });
            writeln!(
                f,
                "\n{}: first {}, median {} of {} runs{ratio}",
                case.case,
                shown(case.first),
                shown(case.median),
                case.runs
            )?;
            for (phase, time) in &case.phases {
                writeln!(
                    f,
                    "  {:>8}  {:>4.0} %  {phase}",
                    shown(*time),
                    100.0 * time / case.median
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
