//! What a booted machine showed of a livepatch.

use anyhow::Result;
use serde::Serialize;

use crate::outcome::Ending;
use crate::prove::vm::{BootReport, CaseReport, Meaning};

/// The boot test of one livepatch.
#[derive(Debug, Clone, Serialize)]
pub struct Boot {
    passed: bool,
    infrastructure: bool,
    checked: bool,
    accelerator: String,
    /// Why the processor was emulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    emulated_because: Option<String>,
    release: String,
    boots: usize,
    boot_seconds: f64,
    total_seconds: f64,
    cases: Vec<BootCase>,
    /// What the kernel complained about before the first case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    boot_complaints: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    console_tail: Vec<String>,
    #[serde(skip)]
    meaning: Meaning,
}

/// One plan of the boot.
#[derive(Debug, Clone, Serialize)]
struct BootCase {
    name: String,
    outcome: &'static str,
    detail: String,
    steps: Vec<BootStep>,
    #[serde(skip)]
    meaning: Meaning,
}

/// One step of a plan.
#[derive(Debug, Clone, Serialize)]
struct BootStep {
    label: String,
    milliseconds: u128,
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
    /// What the kernel logged meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernel: Vec<String>,
}

impl BootCase {
    fn of(case: &CaseReport) -> Self {
        let steps = case.steps.iter().map(|step| BootStep {
            label: step.label.clone(),
            milliseconds: step.took.as_millis(),
            output: step.output.clone(),
            kernel: step.kernel.clone(),
        });
        BootCase {
            name: case.name.clone(),
            outcome: case.outcome.short_name(),
            detail: case.outcome.to_string(),
            steps: steps.collect(),
            meaning: case.outcome.meaning(),
        }
    }
}

impl Boot {
    /// Condenses a report; `checked` says whether behaviour was looked at.
    pub fn of(report: &BootReport, checked: bool) -> Self {
        let meaning = report.meaning();
        Boot {
            passed: meaning == Meaning::Success,
            infrastructure: meaning == Meaning::Infrastructure,
            checked,
            accelerator: format!("{} {}", report.accel, report.firmware),
            emulated_because: report.no_kvm.clone(),
            release: report.release.clone(),
            boots: report.boots,
            boot_seconds: report.boot_seconds,
            total_seconds: report.total_seconds,
            cases: report.cases.iter().map(BootCase::of).collect(),
            boot_complaints: report.boot_complaints.clone(),
            console_tail: if meaning == Meaning::Success {
                Vec::new()
            } else {
                report.console_tail.clone()
            },
            meaning,
        }
    }

    /// What it means for the run.
    pub fn meaning(&self) -> Meaning {
        self.meaning
    }

    /// The error that a boot without success ends with.
    pub fn verdict(&self) -> Result<()> {
        let bad = self.cases.iter().filter(|case| case.meaning != Meaning::Success);
        let text: Vec<String> = bad.map(|case| format!("{}: {}", case.name, case.detail)).collect();
        let text = text.join("\n");
        match self.meaning {
            Meaning::Success => Ok(()),
            Meaning::Infrastructure => Err(Ending::infrastructure(format!("boot test not completed: {text}"))),
            Meaning::Failure => anyhow::bail!("boot test failed: {text}"),
        }
    }

    /// The lines of the text summary.
    pub(super) fn lines(&self) -> Vec<String> {
        let complaints = self.boot_complaints.iter();
        let mut lines: Vec<String> = complaints
            .map(|complaint| format!("warning     kernel log before the livepatch was loaded: {complaint}"))
            .collect();
        let what = match (self.meaning, self.checked) {
            (Meaning::Success, true) => "passed: old behaviour before, new while loaded, old after unload",
            (Meaning::Success, false) => "loaded and unloaded cleanly; no --check, so behaviour was not checked",
            (Meaning::Failure, _) => "FAILED",
            (Meaning::Infrastructure, _) => "not completed",
        };
        let (release, accelerator, total) = (&self.release, &self.accelerator, self.total_seconds);
        // A guest that did not come so far has not said which kernel it runs.
        let linux = match release.is_empty() {
            true => String::new(),
            false => format!("Linux {release}, "),
        };
        lines.push(format!("boot        {what} ({linux}QEMU {accelerator}, {total:.1} s)"));
        // What QEMU printed is in the JSON document.
        if let Some(why) = self.emulated_because.as_deref().and_then(|why| why.lines().next()) {
            lines.push(format!("note        no KVM, so emulated (TCG): {why}"));
        }
        lines
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Boot tests that never took place.

    use std::time::Duration;

    use super::*;
    use crate::prove::vm::{Accel, Behaviour, CaseOutcome, Firmware, StepReport};

    pub fn passed() -> CaseOutcome {
        CaseOutcome::Passed
    }

    pub fn wrong() -> CaseOutcome {
        CaseOutcome::BehaviourWrong {
            step: "check after load".into(),
            expected: Behaviour::New,
            got: Behaviour::Old,
            output: "still old\n".into(),
        }
    }

    pub fn environment() -> CaseOutcome {
        CaseOutcome::Infrastructure {
            why: "QEMU exited before the first step, exit status: 1".into(),
            console: Vec::new(),
        }
    }

    pub fn boot(outcomes: &[CaseOutcome], checked: bool) -> Boot {
        let case = |outcome: &CaseOutcome| CaseReport {
            name: "fix".into(),
            outcome: outcome.clone(),
            steps: vec![StepReport {
                label: "check before load".into(),
                took: Duration::from_millis(12),
                output: "old\n".into(),
                kernel: vec!["livepatch: enabling patch".into()],
            }],
        };
        let report = BootReport {
            accel: Accel::Tcg,
            no_kvm: Some("/dev/kvm: Permission denied (os error 13)".into()),
            firmware: Firmware::SeaBios,
            cases: outcomes.iter().map(case).collect(),
            boot_seconds: 2.0,
            total_seconds: 4.2,
            boots: 1,
            console_tail: vec!["reboot: Power down".into()],
            release: "6.12.107".into(),
            boot_complaints: vec!["BUG: something".into()],
        };
        Boot::of(&report, checked)
    }
}
