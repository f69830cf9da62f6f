//! The cases of the corpus, from patch to booted proof.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::{Context, kernel};
use crate::cli::{E2eArgs, jobs};
use crate::corpus::{self, Case, Expect};
use crate::e2e::{CaseResult, Outcome, Run, untouched};
use crate::kernel::KernelBuild;
use crate::manifest;
use crate::outcome::Ending;
use crate::ui::seconds;

/// Runs `e2e`.
pub fn run(args: &E2eArgs, context: &Context<'_>) -> Result<()> {
    let store = context.store()?;
    let wanted = kernel::Request {
        pinned: &args.kernel,
        own: Some(&args.own),
        jobs: args.jobs,
        install_deps: args.install_deps,
        boot: !args.no_boot,
    };
    let baseline = kernel::resolve(wanted, context)?;
    let cases = selected(args, &baseline.kernel)?;
    let work = store.work_dir(args.keep)?;
    let cache = store.objects(&|holder, _| context.ui.note(format!("waiting for {holder}")))?;
    let run = Run {
        baseline: &baseline,
        work: work.path(),
        cache: cache.root(),
        jobs: jobs(args.jobs),
        boot: !args.no_boot,
        ui: context.ui,
    };
    let results = run.cases(&cases)?;
    if args.kill > 0 {
        let patch = killed_patch(&cases)?;
        let kernel = &baseline.kernel;
        context.ui.phase("kill build-patch at random moments", |phase| {
            untouched::kill(kernel, patch, work.path(), args.kill, phase)
        })?;
    }
    if context.common.json {
        context.ui.json(&results)?;
    } else {
        context.ui.say(table(&results, args));
        context.ui.summary();
    }
    verdict(&results)
}

/// Any patch that builds will do; the first is taken so that a run can be repeated.
fn killed_patch(cases: &[Case]) -> Result<&Path> {
    let simple = |case: &&Case| matches!(case.expect, Expect::Patched(_)) && case.patches.len() == 1;
    let case = cases.iter().find(simple);
    case.map(|case| case.patches[0].as_path())
        .ok_or_else(|| Ending::infrastructure("--kill needs a case that builds a livepatch from one patch"))
}

fn selected(args: &E2eArgs, kernel: &KernelBuild) -> Result<Vec<Case>> {
    let series: Vec<&str> = kernel.release.split(['.', '-']).take(2).collect();
    let series = series.join(".");
    let all = corpus::load_all(&manifest::project_root().join("testdata/corpus"))?;
    let named = |case: &Case| args.cases.is_empty() || args.cases.iter().any(|name| case.name.contains(name));
    let fits = |case: &Case| case.kernels.contains(&series) && case.arches.contains(&kernel.arch);
    let cases: Vec<Case> = all
        .into_iter()
        .filter(|case| named(case) && fits(case) && (case.quick || !args.quick))
        .collect();
    if cases.is_empty() {
        return Err(Ending::infrastructure(
            "no case of the corpus fits these options, so nothing would be tested",
        ));
    }
    Ok(cases)
}

fn table(results: &[CaseResult], args: &E2eArgs) -> String {
    let mut text = String::new();
    for result in results {
        let name = name_of(result.outcome);
        let build = seconds(std::time::Duration::from_millis(
            u64::try_from(result.build_ms).unwrap_or(u64::MAX),
        ));
        let guest = seconds(std::time::Duration::from_millis(
            u64::try_from(result.guest_ms).unwrap_or(u64::MAX),
        ));
        let functions = result.functions.len();
        _ = writeln!(
            text,
            "{name:<22} {:<28} build {build:>7}  guest {guest:>7}  {functions} functions",
            result.name
        );
        if !result.outcome.is_good() {
            for line in result.detail.lines() {
                _ = writeln!(text, "    {line}");
            }
            let kernel = args.kernel.kernel.as_deref().unwrap_or_default();
            _ = writeln!(
                text,
                "    reproduce: cargo xtask e2e {} --kernel {kernel} --keep",
                result.name
            );
        }
    }
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for result in results {
        *counts.entry(name_of(result.outcome)).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    _ = write!(text, "{} cases: {}", results.len(), counts.join(", "));
    text
}

fn name_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Built => "built",
        Outcome::RefusedAsExpected => "refused as expected",
        Outcome::NoChangeAsExpected => "no change as expected",
        Outcome::KnownBad => "known bad",
        Outcome::UnexpectedPass => "UNEXPECTED PASS",
        Outcome::WrongFunctions => "WRONG FUNCTIONS",
        Outcome::WrongVerdict => "WRONG VERDICT",
        Outcome::BuildFailed => "BUILD FAILED",
        Outcome::GuestFailed => "GUEST FAILED",
        Outcome::Infrastructure => "INFRASTRUCTURE",
    }
}

fn verdict(results: &[CaseResult]) -> Result<()> {
    let bad: Vec<&CaseResult> = results.iter().filter(|result| !result.outcome.is_good()).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = bad.iter().map(|result| result.name.as_str()).collect();
    let text = format!(
        "{} of {} cases are not as they should be: {}",
        bad.len(),
        results.len(),
        names.join(", ")
    );
    if bad.iter().all(|result| result.outcome == Outcome::Infrastructure) {
        return Err(Ending::infrastructure(text));
    }
    anyhow::bail!(text)
}
