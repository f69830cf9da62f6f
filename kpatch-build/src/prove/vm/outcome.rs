//! The possible verdicts on a case, their stable names, and their meaning for the exit code.

use std::fmt;
use std::time::Duration;

use super::plan::Behaviour;

/// What a verdict means for the whole run, ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// The livepatch did what was promised.
    Success,
    /// Nothing was learnt about the patch: the environment failed.
    Infrastructure,
    /// The patch, or its check, failed.
    Failure,
}

/// A task that blocks a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StalledTask {
    /// Process id (thread group).
    pub pid: u32,
    /// Id of the thread (`pid` of the kernel).
    pub tid: u32,
    /// Name of the thread, as in `/proc/<pid>/comm`.
    pub comm: String,
    /// Its kernel stack, innermost first; empty if the kernel does not show it.
    pub stack: Vec<String>,
}

/// The verdict on one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// Every step did what the plan says, and the kernel did not complain.
    Passed,
    /// A check saw the other behaviour.
    BehaviourWrong {
        /// Label of the check.
        step: String,
        /// What it should have seen.
        expected: Behaviour,
        /// What the check saw.
        got: Behaviour,
        /// The end of what it printed.
        output: String,
    },
    /// A check or set-up script did not work: it says nothing about the patch.
    CheckBroken {
        /// Label of the check whose script is broken.
        step: String,
        /// How it ended, in words.
        status: String,
        /// What its processes were doing at the time-out. A patched function at the top of the stack means that the
        /// patched code hangs, not the script.
        whereabouts: Vec<String>,
        /// The end of what it printed.
        output: String,
    },
    /// The kernel refused the module.
    LoadFailed {
        /// Label of the step.
        step: String,
        /// What failed, with the system's error text.
        why: String,
        /// The error number of the system call, if one failed.
        errno: Option<i32>,
        /// What the kernel logged meanwhile.
        kernel: Vec<String>,
    },
    /// The livepatch is loaded but does not change what it promised to change.
    NotPatched {
        /// Label of the step.
        step: String,
        /// Each difference, one sentence.
        differences: Vec<String>,
    },
    /// The transition did not end.
    TransitionStalled {
        /// Label of the step.
        step: String,
        /// The tasks that block it.
        tasks: Vec<StalledTask>,
    },
    /// The module could not be removed, or the livepatch could not be disabled.
    UnloadFailed {
        /// Label of the step.
        step: String,
        /// What failed, with the system's error text.
        why: String,
        /// The error number of the system call, if one failed.
        errno: Option<i32>,
        /// What the kernel logged meanwhile.
        kernel: Vec<String>,
    },
    /// WARN, BUG, oops, lockdep, stalls, or a taint that livepatching does not explain.
    KernelComplained {
        /// Label of the step that was running.
        step: String,
        /// What the kernel logged.
        lines: Vec<String>,
    },
    /// The guest's kernel panicked.
    Panic {
        /// Label of the step that was running.
        step: String,
        /// From the first splat on.
        lines: Vec<String>,
    },
    /// A step, the machine, or the whole boot took too long.
    TimedOut {
        /// Label of the step that was running.
        step: String,
        /// The limit that was exceeded, in words.
        what: String,
        /// What the step's processes were doing.
        whereabouts: Vec<String>,
        /// The last console lines.
        console: Vec<String>,
    },
    /// The machine ended without a final record and without a panic.
    NoFinalRecord {
        /// Label of the step that was running.
        step: String,
        /// How QEMU ended, in words.
        status: String,
        /// The last console lines.
        console: Vec<String>,
    },
    /// The machine ended before this case began. [`super::boot`] gives the case another machine.
    NotRun {
        /// The case that ended the boot.
        after: String,
    },
    /// The firmware did not get as far as the kernel's first line.
    Firmware {
        /// How the machine ended.
        why: String,
        /// The last console lines.
        console: Vec<String>,
    },
    /// Nothing was learnt about the patch.
    Infrastructure {
        /// What was wrong with the environment.
        why: String,
        /// The last console lines.
        console: Vec<String>,
    },
}

impl CaseOutcome {
    /// A stable name for reports and tests.
    pub fn short_name(&self) -> &'static str {
        match self {
            CaseOutcome::Passed => "passed",
            CaseOutcome::BehaviourWrong { .. } => "behaviour-wrong",
            CaseOutcome::CheckBroken { .. } => "check-broken",
            CaseOutcome::LoadFailed { .. } => "load-failed",
            CaseOutcome::NotPatched { .. } => "not-patched",
            CaseOutcome::TransitionStalled { .. } => "transition-stalled",
            CaseOutcome::UnloadFailed { .. } => "unload-failed",
            CaseOutcome::KernelComplained { .. } => "kernel-complained",
            CaseOutcome::Panic { .. } => "panic",
            CaseOutcome::TimedOut { .. } => "timed-out",
            CaseOutcome::NoFinalRecord { .. } => "no-final-record",
            CaseOutcome::NotRun { .. } => "not-run",
            CaseOutcome::Firmware { .. } => "firmware",
            CaseOutcome::Infrastructure { .. } => "infrastructure",
        }
    }

    /// What it means for the exit code. Only what the patch certainly did not cause counts as infrastructure: a patch
    /// may well bring down a machine that vanishes in the middle of its case.
    pub fn meaning(&self) -> Meaning {
        match self {
            CaseOutcome::Passed => Meaning::Success,
            CaseOutcome::NotRun { .. } | CaseOutcome::Firmware { .. } | CaseOutcome::Infrastructure { .. } => {
                Meaning::Infrastructure
            }
            _ => Meaning::Failure,
        }
    }
}

impl fmt::Display for CaseOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaseOutcome::Passed => f.write_str("passed"),
            CaseOutcome::BehaviourWrong {
                step,
                expected,
                got,
                output,
            } => {
                let (got, expected) = (
                    (got.exit_status(), got.name()),
                    (expected.exit_status(), expected.name()),
                );
                write!(
                    f,
                    "{step}: the check exited {} ({} behaviour), expected {} ({})",
                    got.0, got.1, expected.0, expected.1
                )?;
                block(f, output.lines())
            }
            CaseOutcome::CheckBroken {
                step,
                status,
                whereabouts,
                output,
            } => {
                write!(f, "{step}: broken check script: {status}")?;
                block(f, whereabouts.iter().map(String::as_str))?;
                block(f, output.lines())
            }
            CaseOutcome::LoadFailed { step, why, kernel, .. } | CaseOutcome::UnloadFailed { step, why, kernel, .. } => {
                write!(f, "{step}: {why}")?;
                block(f, kernel.iter().map(String::as_str))
            }
            CaseOutcome::NotPatched { step, differences } => {
                write!(f, "{step}: the kernel did not patch what the livepatch lists")?;
                block(f, differences.iter().map(String::as_str))
            }
            CaseOutcome::TransitionStalled { step, tasks } => {
                write!(f, "{step}: transition stalled")?;
                tasks.iter().try_for_each(|task| {
                    write!(f, "\n  task {} (pid {}, thread {})", task.comm, task.pid, task.tid)?;
                    task.stack.iter().try_for_each(|frame| write!(f, "\n    {frame}"))
                })
            }
            CaseOutcome::KernelComplained { step, lines } => {
                write!(f, "{step}: kernel warning or error")?;
                block(f, lines.iter().map(String::as_str))
            }
            CaseOutcome::Panic { step, lines } => {
                write!(f, "{step}: kernel panic")?;
                block(f, lines.iter().map(String::as_str))
            }
            CaseOutcome::TimedOut {
                step,
                what,
                whereabouts,
                console,
            } => {
                write!(f, "{step}: {what}")?;
                block(f, whereabouts.iter().map(String::as_str))?;
                block(f, console.iter().map(String::as_str))
            }
            CaseOutcome::NoFinalRecord { step, status, console } => {
                write!(f, "{step}: QEMU exited before the test was done, {status}")?;
                block(f, console.iter().map(String::as_str))
            }
            CaseOutcome::NotRun { after } => write!(f, "not run: {after} brought the guest down"),
            CaseOutcome::Firmware { why, console } => {
                write!(f, "firmware did not start the kernel: {why}")?;
                block(f, console.iter().map(String::as_str))
            }
            CaseOutcome::Infrastructure { why, console } => {
                f.write_str(why)?;
                block(f, console.iter().map(String::as_str))
            }
        }
    }
}

/// Indented lines below a headline.
fn block<'a>(f: &mut fmt::Formatter<'_>, mut lines: impl Iterator<Item = &'a str>) -> fmt::Result {
    lines.try_for_each(|line| write!(f, "\n  {line}"))
}

/// Report of one step.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// What the step does, in words: [`Step::label`].
    pub label: String,
    /// Measured in the guest.
    pub took: Duration,
    /// The end of what it printed.
    pub output: String,
    /// What the kernel logged meanwhile.
    pub kernel: Vec<String>,
}

/// Report of one case.
#[derive(Debug, Clone)]
pub struct CaseReport {
    /// Name of the case.
    pub name: String,
    /// The verdict on the case.
    pub outcome: CaseOutcome,
    /// The steps that ended.
    pub steps: Vec<StepReport>,
}

impl CaseReport {
    /// Whether a step ran out of time by the guest's clock: because of the case, or because the host is overloaded.
    pub fn ran_out_of_time(&self) -> bool {
        matches!(self.outcome, CaseOutcome::TimedOut { .. })
    }
}
