//! From what happened to a piece to what it means.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use kpatch_core::Code;

use super::record::Outcome;
use kpatch_build::build::recompile::DoesNotCompile;
use kpatch_build::outcome::{self, Kind};
use kpatch_build::prove::vm::{CaseOutcome, CaseReport};

/// An outcome with its explanation.
pub struct Verdict {
    /// What became of the piece.
    pub outcome: Outcome,
    /// Why, for statistics: codes of refusals and errors.
    pub codes: Vec<String>,
    /// Why, in words.
    pub detail: String,
}

impl Verdict {
    /// An outcome, why in codes, and why in words.
    pub fn new(outcome: Outcome, codes: &[&str], detail: impl Into<String>) -> Self {
        Verdict {
            outcome,
            codes: codes.iter().map(|code| (*code).to_owned()).collect(),
            detail: detail.into(),
        }
    }
}

/// A build that ended without a module.
///
/// # Errors
/// Problems of the environment, as they came: they say nothing about the piece.
pub fn without_module(error: anyhow::Error) -> Result<Verdict> {
    let verdict = |outcome, codes: &[&str]| Ok(Verdict::new(outcome, codes, format!("{error:#}")));
    if error.is::<DoesNotCompile>() {
        return verdict(Outcome::NeedsOthers, &[]);
    }
    let refusals = outcome::refusals(&error);
    let codes: BTreeSet<Code> = refusals.iter().map(|refusal| refusal.code).collect();
    let mut codes: Vec<&str> = codes.into_iter().map(Code::name).collect();
    if let Some(core) = error.downcast_ref::<kpatch_core::Error>() {
        codes.push(core.code.name());
    }
    match Kind::of(&error) {
        Kind::Refused => verdict(Outcome::Refused, &codes),
        Kind::NoChange => verdict(Outcome::NoChange, &[]),
        Kind::BootOnly => verdict(Outcome::BootOnly, &[]),
        // A build that does not fit its own source has codes, and is our failure; a full disk says nothing.
        Kind::Environment if codes.is_empty() => Err(error),
        Kind::Usage | Kind::Interrupted => Err(error),
        Kind::Environment | Kind::Defect | Kind::Failed => {
            verdict(Outcome::Failed, if codes.is_empty() { &["no-code"] } else { &codes })
        }
    }
}

/// What the machine says about a module.
///
/// # Errors
/// If it says nothing about the module.
pub fn in_guest(case: &CaseReport) -> Result<Verdict> {
    let told = |outcome| Verdict::new(outcome, &[case.outcome.short_name()], case.outcome.to_string());
    match &case.outcome {
        CaseOutcome::Passed => Ok(Verdict::new(Outcome::Livepatchable, &[], "")),
        CaseOutcome::TransitionStalled { .. } => Ok(told(Outcome::Stalled)),
        CaseOutcome::NotRun { .. } | CaseOutcome::Firmware { .. } | CaseOutcome::Infrastructure { .. } => {
            Err(anyhow!("{}", case.outcome))
        }
        _ => Ok(told(Outcome::Misbehaved)),
    }
}

#[cfg(test)]
mod tests {
    use kpatch_build::outcome::Ending;
    use kpatch_core::{Refusal, Subject, codes};

    use super::*;

    #[test]
    fn a_broken_module_is_no_refusal() {
        let judged = |codes: &[Code]| {
            let refusals = codes.iter().map(|code| Refusal::new(*code, Subject::default(), "why"));
            let verdict = without_module(Ending::Refused(refusals.collect()).into()).expect("a verdict");
            (verdict.outcome, verdict.codes.len())
        };
        assert_eq!(judged(&[codes::select::DATA_CHANGED]), (Outcome::Refused, 1));
        assert_eq!(judged(&[codes::klp::LATE_RELOCATION]), (Outcome::Refused, 1));
        assert_eq!(judged(&[codes::klp::UNDEFINED]), (Outcome::Failed, 1));
        let both = [codes::select::DATA_CHANGED, codes::environment::NOT_REPRODUCIBLE];
        assert_eq!(judged(&both), (Outcome::Failed, 2));
    }

    #[test]
    fn troubles_of_the_environment_are_no_verdict() {
        assert!(without_module(Ending::infrastructure("no space left")).is_err());
        let verdict = without_module(anyhow!("something else")).expect("a verdict");
        assert_eq!(
            (verdict.outcome, verdict.codes),
            (Outcome::Failed, vec!["no-code".to_owned()])
        );
    }

    #[test]
    fn only_what_passed_is_livepatchable() {
        let outcome_of = |outcome| {
            let steps = Vec::new();
            let name = "s1".to_owned();
            in_guest(&CaseReport { name, outcome, steps })
                .ok()
                .map(|verdict| verdict.outcome)
        };
        let step = || "load".to_owned();
        assert_eq!(outcome_of(CaseOutcome::Passed), Some(Outcome::Livepatchable));
        let not_patched = CaseOutcome::NotPatched {
            step: step(),
            differences: Vec::new(),
        };
        assert_eq!(outcome_of(not_patched), Some(Outcome::Misbehaved));
        let stalled = CaseOutcome::TransitionStalled {
            step: step(),
            tasks: Vec::new(),
        };
        assert_eq!(outcome_of(stalled), Some(Outcome::Stalled));
    }

    #[test]
    fn each_ending_of_a_build_has_its_outcome() {
        let refusals = |codes: &[Code]| {
            let refusal = |code: &Code| Refusal::new(*code, Subject::default(), "why");
            Ending::Refused(codes.iter().map(refusal).collect())
        };
        let object = "fs/a.o".to_owned();
        let core = kpatch_core::Error::new(codes::object::BAD_ELF, Subject::default(), "why");
        let (init, site) = (codes::select::INIT_CODE, codes::select::NO_FTRACE_SITE);
        for (error, outcome, expected) in [
            (
                anyhow!("cc").context(DoesNotCompile { object }),
                Outcome::NeedsOthers,
                &[][..],
            ),
            (Ending::NoChange("why".into()).into(), Outcome::NoChange, &[]),
            (Ending::BootOnly("why".into()).into(), Outcome::BootOnly, &[]),
            (
                refusals(&[site, init, site]).into(),
                Outcome::Refused,
                &["select.init-code", "select.no-ftrace-site"],
            ),
            (anyhow::Error::new(core), Outcome::Failed, &["read.bad-elf"]),
        ] {
            let shown = format!("{error:#}");
            let verdict = without_module(error).expect("a verdict");
            assert_eq!(
                (verdict.outcome, &*verdict.codes),
                (outcome, &*owned(expected)),
                "{shown}"
            );
            assert_eq!(verdict.detail, shown);
        }
    }

    #[test]
    fn a_machine_that_never_came_to_the_module_gives_no_verdict() {
        let told = |outcome| {
            let (name, steps) = ("s1".to_owned(), Vec::new());
            in_guest(&CaseReport { name, outcome, steps })
        };
        let (why, console) = (String::new(), Vec::new());
        assert!(told(CaseOutcome::NotRun { after: "s0".into() }).is_err());
        assert!(told(CaseOutcome::Infrastructure { why, console }).is_err());
        let (step, lines) = ("load".to_owned(), Vec::new());
        let verdict = told(CaseOutcome::Panic { step, lines }).expect("a verdict");
        assert_eq!(
            (verdict.outcome, &*verdict.codes),
            (Outcome::Misbehaved, &*owned(&["panic"]))
        );
    }

    fn owned(codes: &[&str]) -> Vec<String> {
        codes.iter().map(|code| (*code).to_owned()).collect()
    }
}
