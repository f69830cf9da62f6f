//! What is remembered of a run: everything that the report shows, in a form that survives being written and read.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use kpatch_build::prove::vm::CaseReport;
use kpatch_build::supply::place::Place;

/// The format of the file; a reader refuses another.
pub const FORMAT: u32 = 1;

/// One run, or one shard of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// The command line, for whoever wants the same again.
    pub command: String,
    /// Which part of the trials, e.g. `2/3`; `1/1` is all of them.
    pub shard: String,
    /// Jobs at a time.
    pub jobs: usize,
    /// When it ended, in UTC.
    #[serde(default)]
    pub date: String,
    /// Which state of the tool it was.
    #[serde(default)]
    pub tool: String,
    /// Architecture of the machine that it ran on.
    #[serde(default)]
    pub host: String,
    /// Wall time in seconds, kernel builds included.
    pub seconds: f64,
    pub axes: Vec<AxisRecord>,
    pub cases: Vec<CaseRecord>,
    /// Damaged modules, if they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutants: Vec<MutantRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AxisRecord {
    /// Which.
    pub axis: Place,
    /// `uname -r` of the kernel.
    pub release: String,
    /// Identity of the kernel build.
    pub build: String,
    /// Seconds the kernel took to build, if we built it at some time.
    pub baseline_seconds: Option<f64>,
    /// Seconds from the first case to the last, without the kernel.
    pub seconds: f64,
    /// Machines that were booted.
    pub boots: usize,
    /// Seconds from the start of QEMU to the first sign of the guest, of the first boot.
    pub boot_seconds: f64,
    /// KVM or TCG.
    pub accelerator: String,
}

/// One case at one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseRecord {
    pub axis: Place,
    /// Name of the case.
    pub case: String,
    /// Why the case exists.
    pub why: String,
    /// What should become of it, in words.
    pub expected: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was wrong, for people; empty if nothing was.
    pub detail: String,
    /// The command that does this case again.
    pub reproduce: String,
    /// Where the work folder was kept, if it was.
    pub kept: Option<String>,
    pub patches: Vec<PatchText>,
    pub functions: Vec<FunctionRecord>,
    /// What the snapshot holds.
    pub snapshot: String,
    pub refusals: Vec<String>,
    /// Milliseconds of building, step by step.
    pub steps: Vec<Timing>,
    /// Building, in milliseconds.
    pub build_ms: u64,
    /// All its steps in the guest, in milliseconds.
    pub guest_ms: u64,
    /// What the guest did.
    pub plans: Vec<PlanRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PatchText {
    /// Name of the file.
    pub name: String,
    /// Its content.
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// `vmlinux` or a module.
    pub object: String,
    /// Name without the hash of a promotion.
    pub name: String,
    /// Position among symbols of the name; 0: the name is unique.
    pub sympos: u32,
    /// Why it is in.
    pub reason: String,
}

/// A duration with a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Timing {
    /// What took it.
    pub name: String,
    /// Milliseconds.
    pub ms: u64,
}

/// One plan that the guest worked through.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanRecord {
    /// Name of the plan.
    pub name: String,
    /// Stable name of the verdict.
    pub outcome: String,
    /// The verdict in words.
    pub detail: String,
    /// The steps that ended.
    pub steps: Vec<StepRecord>,
}

/// One step in the guest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepRecord {
    pub label: String,
    /// Milliseconds, measured in the guest.
    pub ms: u64,
    /// The end of what it printed.
    pub output: String,
    /// What the kernel logged meanwhile.
    pub kernel: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MutantRecord {
    /// The case whose module was damaged.
    pub case: String,
    /// Stable name of the damage.
    pub damage: String,
    /// What exactly was done.
    pub detail: String,
    /// What noticed: `check CODE`, `boot OUTCOME`, or nothing.
    pub caught: Option<String>,
}

impl PlanRecord {
    /// Of a report of the machine.
    pub fn of(report: &CaseReport) -> Self {
        let steps = report.steps.iter().map(|step| StepRecord {
            label: step.label.clone(),
            ms: millis(step.took),
            output: step.output.clone(),
            kernel: step.kernel.clone(),
        });
        PlanRecord {
            name: report.name.clone(),
            outcome: report.outcome.short_name().to_owned(),
            detail: report.outcome.to_string(),
            steps: steps.collect(),
        }
    }
}

/// A duration in whole milliseconds.
pub fn millis(took: std::time::Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
