//! Runs cases of the corpus from patch to booted proof and says what became of each.
//!
//! Building and booting are separate so that cases that do not disturb each other can share a machine.

mod judge;
pub mod untouched;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::baseline::Baseline;
use crate::corpus::{Boot, Case};
use crate::guest::{self, Guest};
use crate::livepatch::{self, Livepatch};
use crate::module;
use crate::outcome::Ending;
use crate::proof::{self, Proof};
use crate::ui::{Phase, Ui, seconds};
use crate::vm::{BootReport, CasePlan};

pub use judge::Outcome;

/// What all cases of a run have in common.
pub struct Run<'a> {
    /// The kernel.
    pub baseline: &'a Baseline,
    /// A folder for this run alone.
    pub work: &'a Path,
    /// A folder that runs share.
    pub cache: &'a Path,
    /// How many processors to use.
    pub jobs: usize,
    /// Whether to boot.
    pub boot: bool,
    /// How to speak.
    pub ui: &'a Ui,
}

/// What became of a case.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// For people: what was wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Building, in milliseconds.
    pub build_ms: u128,
    /// All its steps in the guest, in milliseconds.
    pub guest_ms: u128,
    /// The redirected functions.
    pub functions: Vec<String>,
}

struct Built<'c> {
    case: &'c Case,
    took: Duration,
    name: String,
    result: Result<Livepatch>,
}

impl Run<'_> {
    /// Runs the cases, in order.
    pub fn cases(&self, cases: &[Case]) -> Result<Vec<CaseResult>> {
        let mut built = Vec::new();
        self.ui.phase(&format!("build {} cases", cases.len()), |phase| {
            phase.expect_steps(cases.len() as u64);
            for case in cases {
                built.push(self.build(case, phase));
                phase.step();
            }
            Ok(())
        })?;
        let reports = if self.boot {
            self.ui.phase("boot and prove", |phase| self.boot(&built, phase))?
        } else {
            BTreeMap::new()
        };
        Ok(built
            .iter()
            .map(|built| self.result(built, reports.get(&built.case.name)))
            .collect())
    }

    fn build<'c>(&self, case: &'c Case, phase: &Phase) -> Built<'c> {
        let started = Instant::now();
        let name = module::module_name(&[format!("{}.patch", case.name)]);
        let request = livepatch::Request {
            kernel: &self.baseline.kernel,
            patches: &case.patches,
            name: &name,
            replace: true,
            dry_run: false,
            work: &self.work.join(&case.name),
            cache: self.cache,
            jobs: self.jobs,
        };
        let result = livepatch::build(&request, &|text| phase.message(&format!("{}: {text}", case.name)));
        let took = started.elapsed();
        phase.line(&format!("{:<28} {}", case.name, seconds(took)));
        Built {
            case,
            took,
            name,
            result,
        }
    }

    fn boot(&self, built: &[Built<'_>], phase: &Phase) -> Result<BTreeMap<String, BootReport>> {
        let image = self.baseline.image.as_deref();
        let image = image.ok_or_else(|| Ending::infrastructure("this kernel has no image that can be booted"))?;
        let guest = Guest {
            kernel: &self.baseline.kernel,
            image,
            work: self.work,
            cache: self.cache,
        };
        let (mut together, mut names) = (Vec::new(), Vec::new());
        let mut reports = BTreeMap::new();
        for built in built
            .iter()
            .filter(|built| judge::is_worth_booting(built.case, &built.result))
        {
            let plans = self.plans(&guest, built)?;
            match built.case.boot {
                Boot::Shared if built.case.modules.after.is_empty() => {
                    names.push(built.case.name.clone());
                    together.extend(plans);
                }
                _ => {
                    let report = guest.run(plans, &|text| phase.message(text))?;
                    reports.insert(built.case.name.clone(), report);
                }
            }
        }
        if !together.is_empty() {
            let report = guest.run(together, &|text| phase.message(text))?;
            reports.extend(names.into_iter().map(|name| (name, report.clone())));
        }
        Ok(reports)
    }

    fn plans(&self, guest: &Guest<'_>, built: &Built<'_>) -> Result<Vec<CasePlan>> {
        let case = built.case;
        let livepatch = built
            .result
            .as_ref()
            .ok()
            .context("only finished livepatches are booted")?;
        let module = livepatch
            .module
            .as_ref()
            .context("only finished livepatches are booted")?;
        let modules = guest.case_modules(case)?;
        let proof = Proof {
            name: &case.name,
            ko: &module.path,
            module: &built.name,
            functions: livepatch.functions(),
            check: case.check.clone(),
            files: &guest::case_files(Some(case), guest)?,
            before: &modules.before,
            after: &modules.after,
            shared: case.boot == Boot::Shared,
        };
        proof::plans(&proof, self.work)
    }

    fn result(&self, built: &Built<'_>, report: Option<&BootReport>) -> CaseResult {
        let verdict = judge::case(built.case, &built.result, report, self.boot);
        let own = report
            .map(|report| judge::own_plans(built.case, report))
            .unwrap_or_default();
        let guest_ms = own
            .iter()
            .flat_map(|case| &case.steps)
            .map(|step| step.took.as_millis())
            .sum();
        CaseResult {
            name: built.case.name.clone(),
            outcome: verdict.outcome,
            detail: verdict.detail,
            build_ms: built.took.as_millis(),
            guest_ms,
            functions: built.result.as_ref().map(judge::function_names).unwrap_or_default(),
        }
    }
}
