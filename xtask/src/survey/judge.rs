//! From what happened to a piece to what it means.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use kpatch_core::Refusal;

use super::record::Outcome;
use kpatch_build::build::recompile::DoesNotCompile;
use kpatch_build::outcome::Ending;
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
/// Troubles of the surroundings, as they came: they say nothing about the piece.
pub fn without_module(error: anyhow::Error) -> Result<Verdict> {
    let verdict = |outcome, codes: &[&str]| Ok(Verdict::new(outcome, codes, format!("{error:#}")));
    if error.is::<DoesNotCompile>() {
        return verdict(Outcome::NeedsOthers, &[]);
    }
    match error.downcast_ref::<Ending>() {
        Some(Ending::Refused(refusals)) => {
            let codes: BTreeSet<&str> = refusals.iter().map(|refusal| refusal.code.0).collect();
            let codes: Vec<&str> = codes.into_iter().collect();
            verdict(refused(refusals), &codes)
        }
        Some(Ending::NoChange(_)) => verdict(Outcome::NoChange, &[]),
        Some(Ending::Infrastructure(_) | Ending::Usage(_)) => Err(error),
        None => match error.downcast_ref::<kpatch_core::Error>() {
            Some(core) => verdict(Outcome::Failed, &[core.code.0]),
            None => verdict(Outcome::Failed, &["no-code"]),
        },
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

/// Codes behind which there is something the author of a patch can change; the rest of `klp.` is about what this tool
/// made of it.
const KLP_REFUSALS: [&str; 2] = ["klp.late-relocation", "klp.no-ftrace-site"];

/// A finished module that breaks a rule, or a build that does not fit its own source, is our failure and no refusal.
fn refused(refusals: &[Refusal]) -> Outcome {
    let ours = |refusal: &Refusal| {
        let code = refusal.code.0;
        let area = code.split('.').next().unwrap_or_default();
        matches!(area, "klp" | "env" | "read" | "group") && !KLP_REFUSALS.contains(&code)
    };
    if refusals.iter().any(ours) {
        Outcome::Failed
    } else {
        Outcome::Refused
    }
}

#[cfg(test)]
mod tests {
    use kpatch_core::{Code, Subject};

    use super::*;

    #[test]
    fn a_broken_module_is_no_refusal() {
        let refusal = |code| Refusal::new(Code(code), Subject::default(), "why");
        assert_eq!(refused(&[refusal("select.data-changed")]), Outcome::Refused);
        assert_eq!(refused(&[refusal("klp.late-relocation")]), Outcome::Refused);
        assert_eq!(refused(&[refusal("klp.undefined-symbol")]), Outcome::Failed);
        assert_eq!(
            refused(&[refusal("select.data-changed"), refusal("env.not-reproducible")]),
            Outcome::Failed
        );
    }

    #[test]
    fn troubles_of_the_surroundings_are_no_verdict() {
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
        let refusals = |codes: &[&'static str]| {
            let refusal = |code: &&'static str| Refusal::new(Code(code), Subject::default(), "why");
            Ending::Refused(codes.iter().map(refusal).collect())
        };
        let object = "fs/a.o".to_owned();
        let core = kpatch_core::Error::new(Code("read.bad-elf"), Subject::default(), "why");
        for (error, outcome, codes) in [
            (
                anyhow!("cc").context(DoesNotCompile { object }),
                Outcome::NeedsOthers,
                &[][..],
            ),
            (Ending::NoChange("why".into()).into(), Outcome::NoChange, &[]),
            (
                refusals(&["b.b", "a.a", "b.b"]).into(),
                Outcome::Refused,
                &["a.a", "b.b"],
            ),
            (anyhow::Error::new(core), Outcome::Failed, &["read.bad-elf"]),
        ] {
            let shown = format!("{error:#}");
            let verdict = without_module(error).expect("a verdict");
            assert_eq!((verdict.outcome, &*verdict.codes), (outcome, &*owned(codes)), "{shown}");
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
