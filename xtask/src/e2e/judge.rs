//! From what happened to a case to what it means.

use std::collections::{BTreeMap, BTreeSet};

use kpatch_core::names;

use super::built::Built;
use super::outcome::Outcome;
use crate::corpus::{Case, Expect, KnownBad, Stalls};
use crate::pipeline::own_plans;
use kpatch_build::build::fates::State;
use kpatch_build::build::livepatch::Livepatch;
use kpatch_build::outcome::{self, Kind};
use kpatch_build::prove::vm::{BootReport, CaseOutcome, CaseReport, StalledTask};

/// An outcome with its explanation.
pub struct Verdict {
    /// What became of it.
    pub outcome: Outcome,
    /// What was wrong; empty if nothing was.
    pub detail: String,
}

impl Verdict {
    /// An outcome and what to say about it.
    pub fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Verdict {
            outcome,
            detail: detail.into(),
        }
    }
}

/// Only what is as expected so far is worth a boot.
pub fn is_worth_booting(built: &Built<'_>) -> bool {
    let expected = built
        .result
        .as_ref()
        .is_ok_and(|livepatch| difference(built, livepatch).is_none());
    expected && matches!(built.case.expect, Expect::Patched(_) | Expect::Built)
}

/// How what was built differs from what is expected.
fn difference(built: &Built<'_>, livepatch: &Livepatch) -> Option<String> {
    let Expect::Patched(expected) = &built.case.expect else {
        return None;
    };
    let second = built.case.then.as_ref().zip(built.then.as_ref());
    let second = second.and_then(|(then, (_, livepatch))| functions(&then.patched, livepatch));
    let patches = left_out(&built.case.left_out, livepatch);
    functions(expected, livepatch)
        .or(patches)
        .or(too_many(built.case.compiles, livepatch))
        .or(second.map(|text| format!("the second livepatch: {text}")))
}

/// The verdict on a case.
pub fn case(built: &Built<'_>, report: Option<&BootReport>, booted: bool) -> Verdict {
    let case = built.case;
    let verdict = plain(built, report, booted);
    match (&case.known_bad, verdict.outcome.is_good()) {
        (Some(known), false) if verdict.outcome != Outcome::Infrastructure => {
            let KnownBad { reason, issue } = known;
            Verdict::new(Outcome::KnownBad, format!("{issue}: {reason} ({})", verdict.detail))
        }
        (Some(KnownBad { reason, issue }), true) => {
            Verdict::new(Outcome::UnexpectedPass, format!("marked as bad, {issue}: {reason}"))
        }
        _ => verdict,
    }
}

fn plain(built: &Built<'_>, report: Option<&BootReport>, booted: bool) -> Verdict {
    let case = built.case;
    match (&built.result, &case.expect) {
        (Ok(livepatch), Expect::Patched(_) | Expect::Built) => match (difference(built, livepatch), report) {
            (Some(difference), _) => Verdict::new(Outcome::WrongFunctions, difference),
            (None, Some(report)) => guest(case, report),
            (None, None) if booted => Verdict::new(Outcome::Infrastructure, "no boot report"),
            (None, None) => Verdict::new(Outcome::Built, ""),
        },
        (Ok(livepatch), _) => {
            let names = livepatch.function_names().join(", ");
            Verdict::new(Outcome::WrongRefusal, format!("built, patching {names}"))
        }
        (Err(error), expect) => without_module(error, expect),
    }
}

/// A build that ended without a module. Codes that the case expects are as expected, whoever is to blame for them.
fn without_module(error: &anyhow::Error, expect: &Expect) -> Verdict {
    let refusals = outcome::refusals(error);
    let got: BTreeSet<String> = refusals.iter().map(|refusal| refusal.code.to_string()).collect();
    if let Expect::Refused(codes) = expect
        && !got.is_empty()
    {
        return if got == *codes {
            Verdict::new(Outcome::RefusedAsExpected, "")
        } else {
            Verdict::new(Outcome::WrongRefusal, format!("expected {codes:?}:\n{error:#}"))
        };
    }
    let outcome = match Kind::of(error) {
        Kind::NoChange if *expect == Expect::NoChange => return Verdict::new(Outcome::NoChangeAsExpected, ""),
        Kind::BootOnly if *expect == Expect::BootOnly => return Verdict::new(Outcome::BootOnlyAsExpected, ""),
        Kind::NoChange | Kind::BootOnly | Kind::Refused => Outcome::WrongRefusal,
        // Refused by the check of the finished module, or damaged on the way there.
        Kind::Defect => Outcome::StaticCheckFailed,
        Kind::Environment | Kind::Usage | Kind::Interrupted => Outcome::Infrastructure,
        Kind::Failed => Outcome::BuildFailed,
    };
    Verdict::new(outcome, format!("{error:#}"))
}

/// How the patches that were left out differ from the expected ones.
fn left_out(expected: &BTreeSet<String>, livepatch: &Livepatch) -> Option<String> {
    let out = livepatch.series.iter().filter(|fate| fate.state == State::Out);
    let got: BTreeSet<String> = out.map(|fate| fate.patch.clone()).collect();
    (got != *expected).then(|| format!("patches that should be left out: {expected:?}, and that were: {got:?}"))
}

/// More files were compiled than depend on the change.
fn too_many(most: Option<usize>, livepatch: &Livepatch) -> Option<String> {
    let most = most.filter(|most| livepatch.readers.compiled > *most)?;
    Some(format!("at most {most} may be compiled: {}", livepatch.readers))
}

/// How the patched functions differ from the expected ones, by object.
fn functions(expected: &BTreeMap<String, BTreeSet<String>>, livepatch: &Livepatch) -> Option<String> {
    let mut got: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for function in livepatch.functions() {
        let name = names::unpromoted(&function.name).to_owned();
        got.entry(function.object.to_string()).or_default().insert(name);
    }
    let flat = |sets: &BTreeMap<String, BTreeSet<String>>| -> BTreeSet<String> {
        sets.iter()
            .flat_map(|(object, names)| names.iter().map(move |name| format!("{object}:{name}")))
            .collect()
    };
    let (expected, got) = (flat(expected), flat(&got));
    let list = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (missing, extra) = (
        list(expected.difference(&got).collect()),
        list(got.difference(&expected).collect()),
    );
    (expected != got).then(|| format!("missing: [{missing}], unexpected: [{extra}]"))
}

fn guest(case: &Case, report: &BootReport) -> Verdict {
    let own = own_plans(&case.name, report);
    if let Some(expected) = &case.stalls {
        return stall(expected, &own);
    }
    let worst = own.iter().max_by_key(|plan| of_guest(&plan.outcome));
    match worst {
        None => Verdict::new(Outcome::Infrastructure, "the guest never came to this case"),
        Some(plan) => match of_guest(&plan.outcome) {
            Outcome::Passed => Verdict::new(Outcome::Passed, ""),
            bad => Verdict::new(bad, format!("{}: {}", plan.outcome.short_name(), plan.outcome)),
        },
    }
}

/// A transition that cannot end must be reported with the task and the function that hold it up.
fn stall(expected: &Stalls, own: &[&CaseReport]) -> Verdict {
    let Stalls { task, function } = expected;
    let blocks = |stalled: &StalledTask| {
        let frame = |frame: &String| frame.split(['+', ' ']).next() == Some(function.as_str());
        stalled.comm == *task && stalled.stack.iter().any(frame)
    };
    for plan in own {
        match &plan.outcome {
            CaseOutcome::TransitionStalled { tasks, .. } if tasks.iter().any(blocks) => {
                return Verdict::new(Outcome::Passed, "");
            }
            CaseOutcome::Passed => {}
            other => {
                return Verdict::new(
                    of_guest(other),
                    format!("`{task}` should be held up in {function}: {other}"),
                );
            }
        }
    }
    Verdict::new(
        Outcome::BehaviourWrong,
        format!("the transition ended, but `{task}` should be held up in {function}"),
    )
}

/// What a verdict of the machine means for the case.
pub fn of_guest(outcome: &CaseOutcome) -> Outcome {
    match outcome {
        CaseOutcome::Passed => Outcome::Passed,
        CaseOutcome::BehaviourWrong { .. } => Outcome::BehaviourWrong,
        CaseOutcome::CheckBroken { .. } => Outcome::CheckBroken,
        CaseOutcome::LoadFailed { .. } | CaseOutcome::NotPatched { .. } => Outcome::LoadFailed,
        CaseOutcome::TransitionStalled { .. } => Outcome::TransitionStalled,
        CaseOutcome::UnloadFailed { .. } => Outcome::UnloadFailed,
        CaseOutcome::KernelComplained { .. } => Outcome::KernelComplained,
        CaseOutcome::Panic { .. } | CaseOutcome::NoFinalRecord { .. } => Outcome::Panic,
        CaseOutcome::TimedOut { .. } => Outcome::Hang,
        CaseOutcome::NotRun { .. } | CaseOutcome::Firmware { .. } | CaseOutcome::Infrastructure { .. } => {
            Outcome::Infrastructure
        }
    }
}

#[cfg(test)]
mod tests;
