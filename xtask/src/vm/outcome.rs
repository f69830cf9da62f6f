//! The verdict on each case: which of the many ways to fail it was, or that it passed.
//!
//! The order of the questions matters. First whether the transcript can be trusted, then whether the machine lived,
//! then whether the kernel complained, and only then what the steps say: a check that "sees" the old behaviour
//! because its shell was killed by an oops must be reported as the oops.

use std::fmt;
use std::time::Duration;

use super::console;
use super::klog::{self, Line};
use super::message::{Ending, Message, StepEnd};
use super::plan::{Behaviour, CasePlan, Plan, Step};
use super::steps::{self, StepProblem};
use super::transcript::{MachineEnd, Transcript};

/// What a verdict means for the run as a whole. Ordered from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// As promised.
    Success,
    /// Nothing was learnt about the patch: exit code for infrastructure.
    Infrastructure,
    /// The patch, or its check, failed.
    Failure,
}

/// A task that holds a transition up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StalledTask {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Its name.
    pub comm: String,
    /// Its kernel stack, innermost first; empty where the kernel does not tell.
    pub stack: Vec<String>,
}

/// The verdict on one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseOutcome {
    /// Every step did what the plan says and the kernel had nothing to say against it.
    Passed,
    /// A check saw the other behaviour.
    BehaviourWrong {
        /// Which check.
        step: String,
        /// What it should have seen.
        expected: Behaviour,
        /// What it saw.
        got: Behaviour,
        /// The end of what it printed.
        output: String,
    },
    /// A check or set-up script did not work: it says nothing about the patch.
    CheckBroken {
        /// Which script.
        step: String,
        /// How it ended, in words.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// The kernel refused the module.
    LoadFailed {
        /// Which step.
        step: String,
        /// What failed, with the system's word for why.
        why: String,
        /// The error number.
        errno: Option<i32>,
        /// What the kernel logged meanwhile.
        kernel: Vec<String>,
    },
    /// The livepatch is loaded but does not change what it promised to change.
    NotPatched {
        /// Which step.
        step: String,
        /// Each difference, one sentence.
        differences: Vec<String>,
    },
    /// The transition did not end.
    TransitionStalled {
        /// Which step.
        step: String,
        /// Who holds it up.
        tasks: Vec<StalledTask>,
    },
    /// The module could not be removed, or the livepatch not be disabled.
    UnloadFailed {
        /// Which step.
        step: String,
        /// What failed, with the system's word for why.
        why: String,
        /// The error number.
        errno: Option<i32>,
        /// What the kernel logged meanwhile.
        kernel: Vec<String>,
    },
    /// WARN, BUG, oops, lockdep, stalls, or a taint that livepatching does not explain.
    KernelComplained {
        /// During which step.
        step: String,
        /// Its words.
        lines: Vec<String>,
    },
    /// The machine panicked.
    Panic {
        /// During which step.
        step: String,
        /// From the first splat on.
        lines: Vec<String>,
    },
    /// A step, the machine, or the whole boot took too long.
    TimedOut {
        /// During which step.
        step: String,
        /// Which limit.
        what: String,
        /// Last console lines.
        console: Vec<String>,
    },
    /// The machine ended without saying goodbye and without a panic.
    NoFinalRecord {
        /// During which step.
        step: String,
        /// How QEMU ended.
        status: String,
        /// Last console lines.
        console: Vec<String>,
    },
    /// The machine was gone before this case's turn. [`super::boot`] gives such a case another machine.
    NotRun {
        /// The case that ended the boot.
        after: String,
    },
    /// Nothing was learnt about the patch.
    Infrastructure {
        /// What was wrong.
        why: String,
        /// Last console lines.
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
            CaseOutcome::Infrastructure { .. } => "infrastructure",
        }
    }

    /// What it means for the exit code. Only what certainly is not the patch's doing counts as infrastructure: a
    /// machine that vanished in the middle of a case may well have been brought down by it.
    pub fn meaning(&self) -> Meaning {
        match self {
            CaseOutcome::Passed => Meaning::Success,
            CaseOutcome::NotRun { .. } | CaseOutcome::Infrastructure { .. } => {
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
                write!(
                    f,
                    "{step}: expected the {expected:?} behaviour, saw the {got:?} one"
                )?;
                block(f, output.lines())
            }
            CaseOutcome::CheckBroken {
                step,
                status,
                output,
            } => {
                write!(f, "{step}: the script itself is broken: {status}")?;
                block(f, output.lines())
            }
            CaseOutcome::LoadFailed {
                step, why, kernel, ..
            }
            | CaseOutcome::UnloadFailed {
                step, why, kernel, ..
            } => {
                write!(f, "{step}: {why}")?;
                block(f, kernel.iter().map(String::as_str))
            }
            CaseOutcome::NotPatched { step, differences } => {
                write!(
                    f,
                    "{step}: the kernel did not register what the livepatch promises"
                )?;
                block(f, differences.iter().map(String::as_str))
            }
            CaseOutcome::TransitionStalled { step, tasks } => {
                write!(f, "{step}: the transition stalled")?;
                tasks.iter().try_for_each(|task| {
                    write!(
                        f,
                        "\n  task {} (pid {}, thread {})",
                        task.comm, task.pid, task.tid
                    )?;
                    task.stack
                        .iter()
                        .try_for_each(|frame| write!(f, "\n    {frame}"))
                })
            }
            CaseOutcome::KernelComplained { step, lines } => {
                write!(f, "{step}: the kernel complained")?;
                block(f, lines.iter().map(String::as_str))
            }
            CaseOutcome::Panic { step, lines } => {
                write!(f, "{step}: the kernel panicked")?;
                block(f, lines.iter().map(String::as_str))
            }
            CaseOutcome::TimedOut {
                step,
                what,
                console,
            } => {
                write!(f, "{step}: {what}")?;
                block(f, console.iter().map(String::as_str))
            }
            CaseOutcome::NoFinalRecord {
                step,
                status,
                console,
            } => {
                write!(
                    f,
                    "{step}: the machine ended without its final record, {status}"
                )?;
                block(f, console.iter().map(String::as_str))
            }
            CaseOutcome::NotRun { after } => write!(f, "not run: case {after} ended the boot"),
            CaseOutcome::Infrastructure { why, console } => {
                write!(f, "infrastructure: {why}")?;
                block(f, console.iter().map(String::as_str))
            }
        }
    }
}

/// Indented lines below a headline.
fn block<'a>(f: &mut fmt::Formatter<'_>, mut lines: impl Iterator<Item = &'a str>) -> fmt::Result {
    lines.try_for_each(|line| write!(f, "\n  {line}"))
}

/// One step as it went.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// [`Step::label`].
    pub label: String,
    /// Measured in the guest.
    pub took: Duration,
    /// The end of what it printed.
    pub output: String,
    /// What the kernel logged meanwhile.
    pub kernel: Vec<String>,
}

/// One case as it went.
#[derive(Debug, Clone)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// The verdict.
    pub outcome: CaseOutcome,
    /// The steps that ended.
    pub steps: Vec<StepReport>,
}

/// What the transcript holds about one case.
#[derive(Debug, Default)]
struct CaseRecords {
    begun: bool,
    /// The step that began last.
    last_step: Option<usize>,
    ends: Vec<StepEnd>,
    /// Log lines with the number of steps that had begun when they came.
    log: Vec<(usize, Line)>,
    /// Taint before and after.
    taint: Option<(u64, u64)>,
    lost_log: bool,
}

/// Judges every case of a boot.
pub fn judge(plan: &Plan, transcript: &Transcript) -> Vec<CaseReport> {
    let (_, records) = sort_messages(plan.cases.len(), &transcript.messages);
    let last_begun = records.iter().rposition(|case| case.begun);
    plan.cases
        .iter()
        .zip(&records)
        .enumerate()
        .map(|(index, (case, found))| {
            let outcome = match last_begun {
                Some(last) if index > last => not_run(plan, transcript, last),
                Some(last) => verdict(case, found, transcript, index == last),
                None => infrastructure(transcript, never_began(transcript)),
            };
            CaseReport {
                name: case.name.clone(),
                outcome,
                steps: step_reports(case, found),
            }
        })
        .collect()
}

/// What the kernel complained about before the first case began.
pub fn boot_complaints(transcript: &Transcript) -> Vec<String> {
    klog::complaints(&sort_messages(0, &transcript.messages).0)
}

/// Deals the messages out: the log before the first case, and what belongs to each case.
fn sort_messages(cases: usize, messages: &[Message]) -> (Vec<Line>, Vec<CaseRecords>) {
    let mut boot_log = Vec::new();
    let mut records: Vec<CaseRecords> = (0..cases).map(|_| CaseRecords::default()).collect();
    let mut current = None;
    for message in messages {
        if let Message::CaseBegin { case } = message {
            current = Some(*case);
        }
        match (message, current.and_then(|case| records.get_mut(case))) {
            (message, Some(record)) => note(record, message),
            (Message::Klog { lines, .. }, None) if current.is_none() => {
                boot_log.extend(klog::parse(lines))
            }
            _ => {}
        }
    }
    (boot_log, records)
}

fn note(record: &mut CaseRecords, message: &Message) {
    match message {
        Message::CaseBegin { .. } => record.begun = true,
        Message::StepBegin { step, .. } => record.last_step = Some(*step),
        Message::StepEnd(end) => record.ends.push(end.clone()),
        Message::Klog { lost, lines } => {
            let step = record.last_step.unwrap_or_default();
            record.lost_log |= lost;
            record
                .log
                .extend(klog::parse(lines).into_iter().map(|line| (step, line)));
        }
        Message::CaseEnd {
            taint_before,
            taint_after,
            ..
        } => record.taint = Some((*taint_before, *taint_after)),
        _ => {}
    }
}

fn step_reports(case: &CasePlan, found: &CaseRecords) -> Vec<StepReport> {
    let report = |(step, end): (&Step, &StepEnd)| StepReport {
        label: step.label(),
        took: end.took,
        output: end.output.clone(),
        kernel: found
            .log_of(end.step)
            .map(|line| line.text.clone())
            .collect(),
    };
    case.steps.iter().zip(&found.ends).map(report).collect()
}

impl CaseRecords {
    fn log_of(&self, step: usize) -> impl Iterator<Item = &Line> {
        self.log
            .iter()
            .filter(move |(of, _)| *of == step)
            .map(|(_, line)| line)
    }

    /// The step that ran when the transcript ends, in words.
    fn last_label(&self, case: &CasePlan) -> String {
        let label = self
            .last_step
            .and_then(|step| case.steps.get(step))
            .map(Step::label);
        label.unwrap_or_else(|| "before the first step".to_owned())
    }
}

/// The verdict on a case that began. `last` is the one that was running, or had just ended, when the machine ended.
fn verdict(
    case: &CasePlan,
    found: &CaseRecords,
    transcript: &Transcript,
    last: bool,
) -> CaseOutcome {
    if let Some(why) = untrustworthy(transcript, found) {
        return infrastructure(transcript, why);
    }
    let panicked = transcript.console.contains(console::PANIC);
    if last && (panicked || !transcript.is_complete()) {
        return machine_died(case, found, transcript);
    }
    let problem = found.ends.iter().find_map(|end| {
        let step = case.steps.get(end.step)?;
        let kernel: Vec<String> = found
            .log_of(end.step)
            .map(|line| line.text.clone())
            .collect();
        steps::problem(step, end).map(|problem| (step, end, problem, kernel))
    });
    let refused = matches!(
        problem,
        Some((_, _, StepProblem::Refused { errno: Some(_), .. }, _))
    );
    if !refused && let Some(outcome) = complaint(case, found) {
        return outcome;
    }
    match problem {
        Some((step, end, problem, kernel)) => {
            steps::outcome(step, end, problem, kernel, transcript)
        }
        None => passed_if_whole(case, found, transcript),
    }
}

/// Damage that forbids every verdict. A torn frame at the end of a machine that died is not damage of this kind.
fn untrustworthy(transcript: &Transcript, found: &CaseRecords) -> Option<String> {
    if let Some(fault) = transcript.faults.first() {
        return Some(format!("the channel is damaged: {fault}"));
    }
    if found.lost_log {
        return Some(
            "the kernel log overran, so a complaint may be among the lost lines".to_owned(),
        );
    }
    guest_fault(transcript)
}

fn guest_fault(transcript: &Transcript) -> Option<String> {
    transcript
        .messages
        .iter()
        .find_map(|message| match message {
            Message::Fault { what, error } => {
                Some(format!("the guest could not go on: {what}: {error}"))
            }
            _ => None,
        })
}

/// What the log or the taint bits hold against the case.
fn complaint(case: &CasePlan, found: &CaseRecords) -> Option<CaseOutcome> {
    for (index, step) in case.steps.iter().enumerate() {
        let log: Vec<Line> = found.log_of(index).cloned().collect();
        let lines = klog::complaints(&log);
        if !lines.is_empty() {
            return Some(CaseOutcome::KernelComplained {
                step: step.label(),
                lines,
            });
        }
    }
    let (before, after) = found.taint?;
    let letters = klog::new_taint(before, after);
    let line = format!("the kernel is now tainted {letters}, and no log line says why");
    (!letters.is_empty()).then(|| CaseOutcome::KernelComplained {
        step: "after the last step".to_owned(),
        lines: vec![line],
    })
}

/// No final record: the machine panicked, hung, or vanished.
fn machine_died(case: &CasePlan, found: &CaseRecords, transcript: &Transcript) -> CaseOutcome {
    let step = found.last_label(case);
    let lines = console::panic_lines(&transcript.console);
    if !lines.is_empty() {
        return CaseOutcome::Panic { step, lines };
    }
    let console = transcript.console_tail();
    match &transcript.end {
        MachineEnd::Exited { status, stderr, .. } => CaseOutcome::NoFinalRecord {
            step,
            status: join_nonempty(status, stderr),
            console,
        },
        MachineEnd::OutOfTime(limit) => CaseOutcome::TimedOut {
            step,
            what: format!("the boot took longer than {} s", limit.as_secs()),
            console,
        },
        MachineEnd::Silent(limit) => CaseOutcome::TimedOut {
            step,
            what: format!(
                "the machine hangs: no sign of life for {} s",
                limit.as_secs()
            ),
            console,
        },
    }
}

/// Every step must have reported its end; a case without complaint that did not do everything has not passed.
fn passed_if_whole(case: &CasePlan, found: &CaseRecords, transcript: &Transcript) -> CaseOutcome {
    let whole = found
        .ends
        .iter()
        .map(|end| end.step)
        .eq(0..case.steps.len())
        && found.taint.is_some();
    if whole {
        return CaseOutcome::Passed;
    }
    let ended = found.ends.len();
    infrastructure(
        transcript,
        format!("only {ended} of {} steps were reported", case.steps.len()),
    )
}

fn not_run(plan: &Plan, transcript: &Transcript, last: usize) -> CaseOutcome {
    match guest_fault(transcript) {
        Some(why) => infrastructure(transcript, why),
        None => CaseOutcome::NotRun {
            after: plan.cases[last].name.clone(),
        },
    }
}

/// Why not even the first case began.
fn never_began(transcript: &Transcript) -> String {
    if let Some(why) = guest_fault(transcript) {
        return why;
    }
    if let Some(panic) = console::panic_lines(&transcript.console).first() {
        return format!("the kernel panicked before the first step: {panic}");
    }
    match &transcript.end {
        MachineEnd::Exited { status, stderr, .. } => {
            format!(
                "QEMU ended before the first step, {}",
                join_nonempty(status, stderr)
            )
        }
        MachineEnd::OutOfTime(limit) | MachineEnd::Silent(limit) => {
            format!(
                "the kernel did not reach the first step within {} s",
                limit.as_secs()
            )
        }
    }
}

/// An infrastructure verdict with the end of the console.
pub fn infrastructure(transcript: &Transcript, why: String) -> CaseOutcome {
    CaseOutcome::Infrastructure {
        why,
        console: transcript.console_tail(),
    }
}

fn join_nonempty(status: &str, stderr: &str) -> String {
    if stderr.is_empty() {
        status.to_owned()
    } else {
        format!("{status}: {stderr}")
    }
}

/// How a step's process ended, in words.
pub fn ending_in_words(ending: Ending, limit: Duration) -> String {
    match ending {
        Ending::Exit(status) => format!("exit status {status}"),
        Ending::Signal(signal) => format!("killed by signal {signal}"),
        Ending::TimedOut => format!("not done after {} s", limit.as_secs_f64()),
        Ending::Stuck => format!(
            "not done after {} s, and SIGKILL does not end it",
            limit.as_secs_f64()
        ),
    }
}
