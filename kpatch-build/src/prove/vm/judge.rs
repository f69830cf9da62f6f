//! Judges each case from what one boot left behind.
//!
//! The order of the tests matters: whether the transcript can be trusted, whether the machine survived, whether the
//! kernel complained, and only then what the steps say. If an oops kills the shell of a check, the verdict must be the
//! oops and not the old behaviour.

use std::time::Duration;

use super::console;
use super::klog::{self, Line};
use super::message::{Message, StepEnd};
use super::outcome::{CaseOutcome, CaseReport, StepReport};
use super::plan::{CasePlan, Plan, Step};
use super::steps::{self, StepProblem};
use super::transcript::{MachineEnd, Transcript};

/// The part of the transcript about one case.
#[derive(Debug, Default)]
struct CaseRecords {
    begun: bool,
    /// Index of the step that began last.
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
                None => never_began(transcript),
            };
            CaseReport {
                name: case.name.clone(),
                outcome,
                steps: step_reports(case, found),
            }
        })
        .collect()
}

/// Complaints of the kernel before the first case began.
pub fn boot_complaints(transcript: &Transcript) -> Vec<String> {
    klog::complaints(&sort_messages(0, &transcript.messages).0)
}

/// Sorts the messages into the log before the first case, and the records of each case.
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
            (Message::Klog { lines, .. }, None) if current.is_none() => boot_log.extend(klog::parse(lines)),
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
        kernel: found.log_of(end.step).map(|line| line.text.clone()).collect(),
    };
    case.steps.iter().zip(&found.ends).map(report).collect()
}

impl CaseRecords {
    fn log_of(&self, step: usize) -> impl Iterator<Item = &Line> {
        self.log.iter().filter(move |(of, _)| *of == step).map(|(_, line)| line)
    }

    /// Label of the step that was running when the transcript ends.
    fn last_label(&self, case: &CasePlan) -> String {
        let label = self.last_step.and_then(|step| case.steps.get(step)).map(Step::label);
        label.unwrap_or_else(|| "before the first step".to_owned())
    }
}

/// The verdict on a case that began. `last`: it was running, or had just ended, when the machine ended.
fn verdict(case: &CasePlan, found: &CaseRecords, transcript: &Transcript, last: bool) -> CaseOutcome {
    if let Some(why) = untrustworthy(transcript, found).or_else(|| unsupported(case, transcript)) {
        return transcript.infrastructure(why);
    }
    let panicked = transcript.console.contains(console::PANIC);
    if last && (panicked || !transcript.is_complete()) {
        return machine_died(case, found, transcript);
    }
    let problem = found.ends.iter().find_map(|end| {
        let step = case.steps.get(end.step)?;
        let kernel: Vec<String> = found.log_of(end.step).map(|line| line.text.clone()).collect();
        steps::problem(step, end, &kernel).map(|problem| (step, end, problem, kernel))
    });
    let refused = matches!(problem, Some((_, _, StepProblem::Refused { errno: Some(_), .. }, _)));
    if !refused && let Some(outcome) = complaint(case, found) {
        return outcome;
    }
    match problem {
        Some((step, end, problem, kernel)) => steps::outcome(step, end, problem, kernel, transcript),
        None => passed_if_whole(case, found, transcript),
    }
}

/// Damage that rules out any verdict. A partial frame at the end of a machine that died does not count.
fn untrustworthy(transcript: &Transcript, found: &CaseRecords) -> Option<String> {
    if let Some(fault) = transcript.faults.first() {
        return Some(format!("damaged data from the guest: {fault}"));
    }
    if found.lost_log {
        return Some("the kernel log overflowed; a warning may be among the lost lines".to_owned());
    }
    guest_fault(transcript)
}

/// Why the kernel cannot livepatch at all: then it says nothing about the livepatch.
fn unsupported(case: &CasePlan, transcript: &Transcript) -> Option<String> {
    let wanted = case.steps.iter().any(|step| matches!(step, Step::LoadLivepatch { .. }));
    let there = transcript.hello().is_some_and(|hello| hello.livepatch);
    (wanted && !there).then(|| "kernel built without CONFIG_LIVEPATCH".to_owned())
}

fn guest_fault(transcript: &Transcript) -> Option<String> {
    transcript.messages.iter().find_map(|message| match message {
        Message::Fault { what, error } => Some(format!("guest program failed: {what}: {error}")),
        _ => None,
    })
}

/// A complaint of the kernel during the case, from its log or taint bits. What a case is to repair may be one, as long as
/// no livepatch is loaded.
fn complaint(case: &CasePlan, found: &CaseRecords) -> Option<CaseOutcome> {
    let mut patched = false;
    for (index, step) in case.steps.iter().enumerate() {
        patched |= matches!(step, Step::LoadLivepatch { .. });
        let belongs = |line: &Line| !patched && case.reports.iter().any(|text| line.text.contains(text));
        let log: Vec<Line> = found.log_of(index).filter(|line| !belongs(line)).cloned().collect();
        patched &= !matches!(step, Step::DisableLivepatch { .. } | Step::UnloadLivepatch { .. });
        let lines = klog::complaints(&log);
        if !lines.is_empty() {
            return Some(CaseOutcome::KernelComplained {
                step: step.label(),
                lines,
            });
        }
    }
    let (before, after) = found.taint?;
    let letters = klog::new_taint(before, after, !case.reports.is_empty());
    let line = format!("new taint {letters}, no reason in the log");
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
            what: format!("boot test not done after {} s", limit.as_secs()),
            whereabouts: Vec::new(),
            console,
        },
        MachineEnd::Silent(limit) => CaseOutcome::TimedOut {
            step,
            what: format!("no output for {} s", limit.as_secs()),
            whereabouts: Vec::new(),
            console,
        },
    }
}

/// Passed only if every step reported its end.
fn passed_if_whole(case: &CasePlan, found: &CaseRecords, transcript: &Transcript) -> CaseOutcome {
    let whole = found.ends.iter().map(|end| end.step).eq(0..case.steps.len()) && found.taint.is_some();
    if whole {
        return CaseOutcome::Passed;
    }
    let ended = found.ends.len();
    transcript.infrastructure(format!("only {ended} of {} steps reported", case.steps.len()))
}

fn not_run(plan: &Plan, transcript: &Transcript, last: usize) -> CaseOutcome {
    match guest_fault(transcript) {
        Some(why) => transcript.infrastructure(why),
        None => CaseOutcome::NotRun {
            after: plan.cases[last].name.clone(),
        },
    }
}

/// Why no case began.
fn never_began(transcript: &Transcript) -> CaseOutcome {
    if let Some(why) = guest_fault(transcript) {
        return transcript.infrastructure(why);
    }
    if let Some(panic) = console::panic_lines(&transcript.console).first() {
        return transcript.infrastructure(format!("kernel panic before the first step: {panic}"));
    }
    let (exited, silent) = match &transcript.end {
        MachineEnd::Exited { status, stderr, .. } => (Some(join_nonempty(status, stderr)), Duration::ZERO),
        MachineEnd::OutOfTime(limit) | MachineEnd::Silent(limit) => (None, *limit),
    };
    if !console::kernel_began(&transcript.console) && transcript.release().is_none() {
        let why = exited.map_or_else(
            || format!("no kernel output within {} s", silent.as_secs()),
            |status| format!("QEMU exited, {status}"),
        );
        return CaseOutcome::Firmware {
            why,
            console: transcript.console_tail(),
        };
    }
    let why = exited.map_or_else(
        || {
            let seconds = silent.as_secs();
            format!(
                "the guest did not start the test within {seconds} s: a busy machine, or one without KVM? Try again"
            )
        },
        |status| format!("QEMU exited before the first step, {status}"),
    );
    transcript.infrastructure(why)
}

fn join_nonempty(status: &str, stderr: &str) -> String {
    if stderr.is_empty() {
        status.to_owned()
    } else {
        format!("{status}: {stderr}")
    }
}

#[cfg(test)]
mod tests;
