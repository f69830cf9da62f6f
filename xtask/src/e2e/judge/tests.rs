//! Verdicts on builds and reports made up on the spot: every way that a case can end, and what that means for it.

use std::time::Duration;

use anyhow::{Result, anyhow};
use kpatch_core::resolve::{PatchedFunction, SymPos};
use kpatch_core::{ObjectName, Patch, Reason, Refusal, Subject, codes};

use super::*;
use crate::corpus::{self, Then};
use crate::e2e::select::corpus_folder;
use kpatch_build::build::recompile::affected::Counts;
use kpatch_build::outcome::Ending;
use kpatch_build::prove::vm::{Accel, Behaviour, Firmware};

fn sets(functions: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (object, function) in functions {
        sets.entry((*object).to_owned())
            .or_default()
            .insert((*function).to_owned());
    }
    sets
}

/// A case of the corpus with another expectation.
fn case_that(expect: Expect) -> Case {
    let mut case = corpus::load_one(&corpus_folder().join("string-literal")).expect("it is there");
    case.name = "one".into();
    case.expect = expect;
    case
}

fn patched() -> Case {
    case_that(Expect::Patched(sets(&[("vmlinux", "f")])))
}

fn livepatch(functions: &[(&str, &str)]) -> Livepatch {
    let function = |(object, name): &(&str, &str)| PatchedFunction {
        object: ObjectName::module(object),
        name: (*name).to_owned(),
        sympos: SymPos(0),
        unit: "a.o".into(),
        reason: Reason::NewGlobal,
        handle: "handle".into(),
    };
    Livepatch {
        readers: Counts::default(),
        series: Vec::new(),
        causes: Vec::new(),
        module: None,
        patch: Patch {
            carried: Vec::new(),
            sleeps: Vec::new(),
            objects: Vec::new(),
            functions: functions.iter().map(function).collect(),
            values: Vec::new(),
            callbacks: Vec::new(),
            states: Vec::new(),
            addressed: BTreeSet::new(),
            symbols: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            elements: Vec::new(),
            ignored: Vec::new(),
            accepted: Vec::new(),
        },
        about: Default::default(),
        replaces: Vec::new(),
        units: Vec::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
        shipped: Vec::new(),
        accepted: Vec::new(),
        timings: Vec::new(),
    }
}

fn f() -> Result<Livepatch> {
    Ok(livepatch(&[("vmlinux", "f")]))
}

fn refused(names: &[&'static str]) -> Result<Livepatch> {
    let refusal = |name: &&'static str| {
        let code = codes::find(name).expect("a code of the table");
        Refusal::new(code, Subject::default(), "why")
    };
    Err(Ending::Refused(names.iter().map(refusal).collect()).into())
}

fn boot_only() -> Result<Livepatch> {
    Err(Ending::BootOnly("nothing but boot code changes".into()).into())
}

fn no_change() -> Result<Livepatch> {
    Err(Ending::NoChange("no function's code changed".into()).into())
}

fn built(case: &Case, result: Result<Livepatch>) -> Built<'_> {
    Built {
        case,
        folder: None,
        took: Duration::ZERO,
        name: "livepatch_one".into(),
        result,
        then: None,
    }
}

fn report(plans: &[(&str, CaseOutcome)]) -> BootReport {
    let plan = |(name, outcome): &(&str, CaseOutcome)| CaseReport {
        name: (*name).to_owned(),
        outcome: outcome.clone(),
        steps: Vec::new(),
    };
    BootReport {
        accel: Accel::Tcg,
        no_kvm: None,
        firmware: Firmware::SeaBios,
        cases: plans.iter().map(plan).collect(),
        boot_seconds: 0.0,
        total_seconds: 0.0,
        boots: 1,
        console_tail: Vec::new(),
        release: "6.12.107".into(),
        boot_complaints: Vec::new(),
    }
}

/// What becomes of a build that nobody boots.
fn unbooted(case: &Case, result: Result<Livepatch>) -> Outcome {
    super::case(&built(case, result), None, false).outcome
}

/// What becomes of a case whose plans ended like this.
fn booted(case: &Case, plans: &[(&str, CaseOutcome)]) -> Verdict {
    super::case(&built(case, f()), Some(&report(plans)), true)
}

fn wrong() -> CaseOutcome {
    CaseOutcome::BehaviourWrong {
        step: "check after load".into(),
        expected: Behaviour::New,
        got: Behaviour::Old,
        output: String::new(),
    }
}

fn stalled(task: &str, frame: &str) -> CaseOutcome {
    CaseOutcome::TransitionStalled {
        step: "wait".into(),
        tasks: vec![StalledTask {
            pid: 1,
            tid: 1,
            comm: task.into(),
            stack: vec!["schedule+0x1/0x2".into(), frame.into()],
        }],
    }
}

#[test]
fn a_build_is_what_its_case_expects_or_not() {
    let codes = ["select.data-changed", "select.init-code"];
    let refusal = case_that(Expect::Refused(codes.map(str::to_owned).into()));
    let nothing = case_that(Expect::NoChange);
    let at_boot = case_that(Expect::BootOnly);
    for (case, result, expected) in [
        (&patched(), f(), Outcome::Built),
        (&patched(), refused(&codes), Outcome::WrongRefusal),
        (&patched(), no_change(), Outcome::WrongRefusal),
        (&patched(), Err(anyhow!("ld failed")), Outcome::BuildFailed),
        (&patched(), Err(Ending::infrastructure("full")), Outcome::Infrastructure),
        (&refusal, refused(&codes), Outcome::RefusedAsExpected),
        (&refusal, refused(&codes[..1]), Outcome::WrongRefusal),
        (&refusal, f(), Outcome::WrongRefusal),
        (&refusal, no_change(), Outcome::WrongRefusal),
        (&nothing, no_change(), Outcome::NoChangeAsExpected),
        (&at_boot, boot_only(), Outcome::BootOnlyAsExpected),
        (&at_boot, no_change(), Outcome::WrongRefusal),
        (&nothing, boot_only(), Outcome::WrongRefusal),
        (&nothing, f(), Outcome::WrongRefusal),
        (&nothing, Err(Ending::usage("no such kernel")), Outcome::Infrastructure),
    ] {
        let shown = format!("{:?}: {result:?}", case.expect);
        assert_eq!(unbooted(case, result), expected, "{shown}");
    }
}

#[test]
fn no_more_files_are_compiled_than_the_case_allows() {
    let mut case = patched();
    case.compiles = Some(2);
    for (compiled, expected) in [(2, Outcome::Built), (3, Outcome::WrongFunctions)] {
        let mut livepatch = livepatch(&[("vmlinux", "f")]);
        livepatch.readers.compiled = compiled;
        assert_eq!(unbooted(&case, Ok(livepatch)), expected, "{compiled}");
    }
}

#[test]
fn the_set_of_functions_is_exact() {
    let case = patched();
    let of = |functions: &[(&str, &str)]| super::case(&built(&case, Ok(livepatch(functions))), None, false);
    assert_eq!(of(&[("vmlinux", "f.llvm.123")]).outcome, Outcome::Built);
    let verdict = of(&[("ext4", "f"), ("vmlinux", "g")]);
    assert_eq!(verdict.outcome, Outcome::WrongFunctions);
    assert_eq!(verdict.detail, "missing: [vmlinux:f], unexpected: [ext4:f, vmlinux:g]");
    assert_eq!(of(&[]).outcome, Outcome::WrongFunctions);
}

#[test]
fn the_second_livepatch_has_functions_of_its_own() {
    let mut case = patched();
    case.then = Some(Then {
        patches: Vec::new(),
        patched: sets(&[("vmlinux", "g")]),
        replace: true,
        check: "then.sh".into(),
    });
    let mut both = built(&case, f());
    both.then = Some(("livepatch_one_then".into(), livepatch(&[("vmlinux", "f")])));
    let verdict = super::case(&both, None, false);
    assert_eq!(verdict.outcome, Outcome::WrongFunctions);
    assert!(
        verdict.detail.starts_with("the second livepatch: "),
        "{}",
        verdict.detail
    );
    assert!(!is_worth_booting(&both));
}

#[test]
fn only_what_is_as_expected_so_far_is_booted() {
    let case = patched();
    assert!(is_worth_booting(&built(&case, f())));
    assert!(!is_worth_booting(&built(&case, Ok(livepatch(&[("vmlinux", "g")])))));
    assert!(!is_worth_booting(&built(&case, no_change())));
    assert!(!is_worth_booting(&built(&case_that(Expect::NoChange), f())));
    assert!(is_worth_booting(&built(
        &case_that(Expect::Built),
        Ok(livepatch(&[("vmlinux", "g")]))
    )));
}

#[test]
fn a_case_that_leaves_the_functions_open_takes_any() {
    let case = case_that(Expect::Built);
    assert_eq!(unbooted(&case, f()), Outcome::Built);
    assert_eq!(unbooted(&case, no_change()), Outcome::WrongRefusal);
    assert_eq!(unbooted(&case, Err(anyhow!("ld failed"))), Outcome::BuildFailed);
}

#[test]
fn the_worst_of_its_own_plans_counts() {
    let case = patched();
    let passed = || CaseOutcome::Passed;
    let good = booted(
        &case,
        &[("one", passed()), ("one (old behaviour)", passed()), ("other", wrong())],
    );
    assert_eq!((good.outcome, good.detail.as_str()), (Outcome::Passed, ""));
    let bad = booted(&case, &[("one", passed()), ("one (old behaviour)", wrong())]);
    assert_eq!(bad.outcome, Outcome::BehaviourWrong);
    assert!(bad.detail.starts_with("behaviour-wrong: "), "{}", bad.detail);
}

#[test]
fn a_machine_that_says_nothing_says_nothing_about_the_case() {
    let case = patched();
    assert_eq!(
        booted(&case, &[("other", CaseOutcome::Passed)]).outcome,
        Outcome::Infrastructure
    );
    let without = super::case(&built(&case, f()), None, true);
    assert_eq!(without.outcome, Outcome::Infrastructure);
}

#[test]
fn what_the_guest_says_has_one_meaning_each() {
    let (step, why, console) = (String::new(), String::new(), Vec::new);
    let failed = |unload: bool| {
        let (step, why, errno, kernel) = (String::new(), String::new(), None, Vec::new());
        if unload {
            CaseOutcome::UnloadFailed {
                step,
                why,
                errno,
                kernel,
            }
        } else {
            CaseOutcome::LoadFailed {
                step,
                why,
                errno,
                kernel,
            }
        }
    };
    for (outcome, expected) in [
        (failed(false), Outcome::LoadFailed),
        (failed(true), Outcome::UnloadFailed),
        (
            CaseOutcome::NotPatched {
                step: step.clone(),
                differences: Vec::new(),
            },
            Outcome::LoadFailed,
        ),
        (
            CaseOutcome::CheckBroken {
                step: step.clone(),
                status: "exit code 2".into(),
                whereabouts: Vec::new(),
                output: String::new(),
            },
            Outcome::CheckBroken,
        ),
        (stalled("x", "f"), Outcome::TransitionStalled),
        (
            CaseOutcome::KernelComplained {
                step: step.clone(),
                lines: Vec::new(),
            },
            Outcome::KernelComplained,
        ),
        (
            CaseOutcome::Panic {
                step: step.clone(),
                lines: Vec::new(),
            },
            Outcome::Panic,
        ),
        (
            CaseOutcome::NoFinalRecord {
                step: step.clone(),
                status: String::new(),
                console: console(),
            },
            Outcome::Panic,
        ),
        (
            CaseOutcome::TimedOut {
                step,
                what: String::new(),
                whereabouts: Vec::new(),
                console: console(),
            },
            Outcome::Hang,
        ),
        (CaseOutcome::NotRun { after: "other".into() }, Outcome::Infrastructure),
        (
            CaseOutcome::Infrastructure {
                why,
                console: console(),
            },
            Outcome::Infrastructure,
        ),
    ] {
        let name = outcome.short_name();
        assert_eq!(booted(&patched(), &[("one", outcome)]).outcome, expected, "{name}");
    }
}

#[test]
fn a_transition_must_stall_for_the_reason_that_the_case_names() {
    let mut case = patched();
    case.stalls = Some(Stalls {
        task: "sleeper".into(),
        function: "f".into(),
    });
    let outcome = |outcome: CaseOutcome| booted(&case, &[("one", outcome)]).outcome;
    assert_eq!(outcome(stalled("sleeper", "f+0x10/0x20")), Outcome::Passed);
    assert_eq!(outcome(stalled("sleeper", "f [ext4]")), Outcome::Passed);
    assert_eq!(outcome(stalled("sleeper", "ff+0x10/0x20")), Outcome::TransitionStalled);
    assert_eq!(outcome(stalled("other", "f+0x10/0x20")), Outcome::TransitionStalled);
    assert_eq!(outcome(CaseOutcome::Passed), Outcome::BehaviourWrong);
    assert_eq!(outcome(wrong()), Outcome::BehaviourWrong);
}

#[test]
fn a_known_bad_case_may_fail_but_not_pass_and_troubles_stay_troubles() {
    let mut case = patched();
    case.known_bad = Some(KnownBad {
        reason: "not yet".into(),
        issue: "#1".into(),
    });
    let bad = booted(&case, &[("one", wrong())]);
    assert_eq!(bad.outcome, Outcome::KnownBad);
    assert!(bad.detail.starts_with("#1: not yet (behaviour-wrong"), "{}", bad.detail);
    assert_eq!(
        booted(&case, &[("one", CaseOutcome::Passed)]).outcome,
        Outcome::UnexpectedPass
    );
    assert_eq!(
        unbooted(&case, Err(Ending::infrastructure("full"))),
        Outcome::Infrastructure
    );
}
