//! Judges the end of one step: whether it did its work, and if not, which outcome that is.
//!
//! The guest prints facts as `key value` lines ("object vmlinux 1") and never judges them; this module does.

use std::collections::{BTreeMap, BTreeSet};

use kpatch_core::names;

use super::message::{Ending, StepEnd};
use super::outcome::{CaseOutcome, StalledTask};
use super::plan::{Behaviour, ExpectedObject, Step, decode_word};
use super::transcript::Transcript;

/// What is wrong with a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepProblem {
    /// A check saw the other behaviour.
    Behaviour {
        /// What it should have seen.
        expected: Behaviour,
        /// What the check saw.
        got: Behaviour,
    },
    /// The kernel, or the guest, refused the operation.
    Refused {
        /// What failed and why.
        why: String,
        /// The error number where there is one.
        errno: Option<i32>,
    },
    /// The transition did not end.
    Stalled(Vec<StalledTask>),
    /// The livepatch is loaded but does not patch what was promised.
    NotPatched(Vec<String>),
    /// The step was killed or ran out of time.
    Ended(Ending),
}

/// What is wrong with a step that ended, if anything. `kernel` is what the kernel logged meanwhile.
pub fn problem(step: &Step, end: &StepEnd, kernel: &[String]) -> Option<StepProblem> {
    let Ending::Exit(status) = end.ending else {
        return Some(StepProblem::Ended(end.ending));
    };
    match step {
        Step::Check { expect, .. } => check_problem(*expect, status),
        _ if status != 0 => Some(operation_problem(&end.output)),
        Step::RefuseModule { livepatch, .. } => {
            let says = format!("kpatch: {livepatch}: ");
            let told = kernel
                .iter()
                .any(|line| line.starts_with(&says) && line.contains("another build"));
            (!told).then(|| StepProblem::NotPatched(vec![format!("{livepatch} does not say why it was refused")]))
        }
        Step::LoadLivepatch { name, objects, .. } => {
            let differences = registration_differences(name, objects, &end.output);
            (!differences.is_empty()).then_some(StepProblem::NotPatched(differences))
        }
        _ => None,
    }
}

fn check_problem(expected: Behaviour, status: i32) -> Option<StepProblem> {
    let got = [Behaviour::Old, Behaviour::New]
        .into_iter()
        .find(|behaviour| behaviour.exit_status() == status);
    match got {
        Some(got) if got == expected => None,
        Some(got) => Some(StepProblem::Behaviour { expected, got }),
        None => Some(StepProblem::Ended(Ending::Exit(status))),
    }
}

/// The first value printed under a key.
fn value(output: &str, key: &str) -> Option<String> {
    rows(output, key)
        .next()
        .and_then(|row| row.first().map(|word| decode_word(word)))
}

/// All lines of a key, split into words that are still encoded.
fn rows<'a>(output: &'a str, key: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    output.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        (words.next() == Some(key)).then(|| words.collect())
    })
}

fn operation_problem(output: &str) -> StepProblem {
    let what = value(output, "failed").unwrap_or_else(|| output.trim().to_owned());
    if what == "stalled" {
        return StepProblem::Stalled(rows(output, "task").filter_map(|row| stalled_task(&row)).collect());
    }
    let errno = value(output, "errno").and_then(|number| number.parse().ok());
    let mut why = value(output, "error").map_or(what.clone(), |error| format!("{what}: {error}"));
    if let Some(policy) = policy(&what, errno) {
        why.push_str("; ");
        why.push_str(policy);
    }
    StepProblem::Refused { why, errno }
}

/// Why a kernel loads no module that nobody has signed, by the error number of finit_module(2) (kernel/module/signing.c).
fn policy(what: &str, errno: Option<i32>) -> Option<&'static str> {
    let errno = errno
        .filter(|_| what == "finit_module")
        .map(rustix::io::Errno::from_raw_os_error)?;
    match errno {
        rustix::io::Errno::PERM => Some("the kernel is locked down, so that it loads signed modules only"),
        rustix::io::Errno::NOKEY | rustix::io::Errno::KEYREJECTED => {
            Some("the kernel requires modules to be signed by a key that it knows (module.sig_enforce)")
        }
        _ => None,
    }
}

/// `task PID TID STATE COMM STACK`
fn stalled_task(row: &[&str]) -> Option<StalledTask> {
    let [pid, tid, _state, comm, stack] = row else {
        return None;
    };
    Some(StalledTask {
        pid: pid.parse().ok()?,
        tid: tid.parse().ok()?,
        comm: decode_word(comm),
        stack: decode_word(stack)
            .lines()
            .map(|frame| frame.trim_start_matches("[<0>] ").to_owned())
            .collect(),
    })
}

/// Compares `object NAME PATCHED` and `function OBJECT NAME,POSITION` with what the livepatch promises. A registered
/// function that was not promised is as wrong as a promised one that is missing: the list does not match the module.
fn registration_differences(name: &str, objects: &[ExpectedObject], output: &str) -> Vec<String> {
    let mut differences = Vec::new();
    if value(output, "enabled").as_deref() != Some("1") {
        differences.push(format!("{name} is not enabled"));
    }
    if !value(output, "taint").is_some_and(|letters| letters.contains('K')) {
        differences.push(format!("module {name} lacks the livepatch taint"));
    }
    let mut found: BTreeMap<String, (i32, Vec<String>)> = BTreeMap::new();
    for row in rows(output, "object").filter(|row| row.len() == 2) {
        found.insert(decode_word(row[0]), (row[1].parse().unwrap_or(-1), Vec::new()));
    }
    for row in rows(output, "function").filter(|row| row.len() == 2) {
        found
            .entry(decode_word(row[0]))
            .or_default()
            .1
            .push(decode_word(row[1]));
    }
    differences.extend(missing_hooks(&found, output));
    for object in objects {
        match found.remove(&object.name) {
            Some((patched, functions)) => differences.extend(object_differences(object, patched, functions)),
            None if object.functions.is_empty() => {}
            None => differences.push(format!("object {} is not registered", object.name)),
        }
    }
    differences.extend(
        found
            .keys()
            .map(|object| format!("object {object} is registered unexpectedly")),
    );
    differences
}

/// Functions of patched objects that the tracer does not redirect: the livepatch says that it is enabled but is never
/// called. A locked-down kernel hides its table; then nothing is reported.
fn missing_hooks(found: &BTreeMap<String, (i32, Vec<String>)>, output: &str) -> Vec<String> {
    match value(output, "hooks").as_deref() {
        Some("listed") => {}
        Some("unknown") => return Vec::new(),
        _ => return vec!["guest did not report redirected functions".to_owned()],
    }
    let mut hooks: Vec<(String, String)> = rows(output, "hook")
        .filter(|row| row.len() == 2)
        .map(|row| (decode_word(row[0]), decode_word(row[1])))
        .collect();
    // The tracer prints one name for a place with several, so places are matched by their own name first.
    let mut unseen = Vec::new();
    for (object, (_, functions)) in found.iter().filter(|(_, (patched, _))| *patched == 1) {
        let module = if object == "vmlinux" { "" } else { object };
        for function in functions {
            let name = function.rsplit_once(',').map_or(function.as_str(), |(name, _)| name);
            // Up to 6.10 a kernel with LTO prints names without the suffix of promoted statics (kernel/kallsyms.c,
            // `cleanup_symbol_name`), but livepatch needs the suffix.
            let at = |name: &str| hooks.iter().position(|hook| hook.0 == module && hook.1 == name);
            match at(name).or_else(|| at(names::unpromoted(name))) {
                Some(at) => drop(hooks.swap_remove(at)),
                None => unseen.push((object, module, function, name)),
            }
        }
    }
    let aliases: BTreeSet<[String; 3]> = rows(output, "alias")
        .filter_map(|row| <[&str; 3]>::try_from(row).ok())
        .map(|row| row.map(decode_word))
        .collect();
    let mut missing = Vec::new();
    for (object, module, function, name) in unseen {
        let alias = |hook: &(String, String)| {
            let alias = [&*hook.0, &*hook.1, name].map(str::to_owned);
            hook.0 == module && aliases.contains(&alias)
        };
        match hooks.iter().position(alias) {
            Some(at) => drop(hooks.swap_remove(at)),
            None => missing.push(format!(
                "{object}: {function} is registered but calls are not redirected (not in enabled_functions)"
            )),
        }
    }
    missing
}

fn object_differences(object: &ExpectedObject, patched: i32, mut registered: Vec<String>) -> Vec<String> {
    let mut differences = Vec::new();
    for function in &object.functions {
        match registered.iter().position(|entry| names(entry, function)) {
            Some(at) => drop(registered.remove(at)),
            None => differences.push(format!("{}: function {function} is not registered", object.name)),
        }
    }
    let leaves = |entry: &&String| object.leaving.iter().any(|leaving| names(entry, leaving));
    differences.extend(
        registered
            .iter()
            .filter(|entry| !leaves(entry))
            .map(|entry| format!("{}: {entry} is registered unexpectedly", object.name)),
    );
    if !object.functions.is_empty() && (patched == 1) != object.patched_now {
        let word = if object.patched_now { "is not" } else { "is already" };
        differences.push(format!("object {} {word} patched", object.name));
    }
    differences
}

/// Whether the registered `name,position` is the promised `name` or `name,position`.
fn names(registered: &str, promised: &str) -> bool {
    let bare = registered.rsplit_once(',').map_or(registered, |(bare, _)| bare);
    registered == promised || bare == promised
}

/// The outcome that follows from a problem of this step.
pub fn outcome(
    step: &Step,
    end: &StepEnd,
    problem: StepProblem,
    kernel: Vec<String>,
    transcript: &Transcript,
) -> CaseOutcome {
    let label = step.label();
    match problem {
        StepProblem::Behaviour { expected, got } => CaseOutcome::BehaviourWrong {
            step: label,
            expected,
            got,
            output: end.output.clone(),
        },
        StepProblem::Stalled(tasks) => CaseOutcome::TransitionStalled { step: label, tasks },
        StepProblem::NotPatched(differences) => CaseOutcome::NotPatched {
            step: label,
            differences,
        },
        StepProblem::Refused { why, errno } => refused(step, why, errno, kernel, transcript),
        StepProblem::Ended(ending) => ended(step, end, ending, kernel, transcript),
    }
}

fn refused(step: &Step, why: String, errno: Option<i32>, kernel: Vec<String>, transcript: &Transcript) -> CaseOutcome {
    let label = step.label();
    match step {
        Step::LoadModule { .. } | Step::LoadLivepatch { .. } => CaseOutcome::LoadFailed {
            step: label,
            why,
            errno,
            kernel,
        },
        Step::UnloadModule { .. }
        | Step::TidyModule { .. }
        | Step::DisableLivepatch { .. }
        | Step::UnloadLivepatch { .. } => CaseOutcome::UnloadFailed {
            step: label,
            why,
            errno,
            kernel,
        },
        Step::WaitTransition { .. } | Step::RefuseModule { .. } => CaseOutcome::NotPatched {
            step: label,
            differences: vec![why],
        },
        // What holds a transition open is part of the check: without it the check shows nothing.
        Step::Hold { .. } | Step::HeldTransition { .. } => CaseOutcome::CheckBroken {
            step: label,
            status: why,
            whereabouts: Vec::new(),
            output: String::new(),
        },
        Step::Check { .. } => transcript.infrastructure(format!("{label}: {why}")),
    }
}

fn ended(step: &Step, end: &StepEnd, ending: Ending, kernel: Vec<String>, transcript: &Transcript) -> CaseOutcome {
    let label = step.label();
    let words = ending.in_words(step.timeout());
    match (step, ending) {
        (_, Ending::Stuck) => CaseOutcome::TimedOut {
            step: label,
            what: words,
            whereabouts: end.whereabouts.clone(),
            console: transcript.console_tail(),
        },
        (Step::Check { .. }, _) => CaseOutcome::CheckBroken {
            step: label,
            status: match ending {
                Ending::Exit(_) => format!("{words}, which is neither the old behaviour (1) nor the new one (0)"),
                _ => words,
            },
            whereabouts: end.whereabouts.clone(),
            output: end.output.clone(),
        },
        (_, Ending::TimedOut) => CaseOutcome::TimedOut {
            step: label,
            what: words,
            whereabouts: end.whereabouts.clone(),
            console: transcript.console_tail(),
        },
        _ => refused(step, words, None, kernel, transcript),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::prove::vm::transcript::MachineEnd;

    fn vmlinux(functions: &[&str]) -> Vec<ExpectedObject> {
        let functions = functions.iter().map(|&name| name.to_owned()).collect();
        vec![ExpectedObject {
            name: "vmlinux".into(),
            functions,
            patched_now: true,
            leaving: Vec::new(),
        }]
    }

    const GOOD: &str = "enabled 1\ntaint OEK\nobject vmlinux 1\nfunction vmlinux f,1\nfunction vmlinux g.llvm.77,2\n\
                        hooks listed\nhook - f\nhook - g.llvm.77\n";

    /// What somebody who reads the report gets for a step that ended so.
    fn told(step: &Step, status: i32, output: &str) -> String {
        let end = StepEnd {
            case: 0,
            step: 0,
            took: Duration::ZERO,
            ending: Ending::Exit(status),
            whereabouts: Vec::new(),
            output: output.to_owned(),
        };
        let problem = problem(step, &end, &[]).unwrap();
        let nothing = Transcript {
            messages: Vec::new(),
            faults: Vec::new(),
            end: MachineEnd::Silent(Duration::ZERO),
            console: String::new(),
            up_after: None,
        };
        let outcome = outcome(step, &end, problem, Vec::new(), &nothing);
        format!("{}: {outcome}", outcome.short_name())
    }

    #[test]
    fn in_a_transition_there_is_no_third_behaviour() {
        let during = |expect| Step::Check {
            script: "/c".into(),
            expect,
            when: "during the transition".into(),
        };
        assert_eq!(
            told(&during(Behaviour::New), 2, ""),
            "check-broken: check during the transition: broken check script: exit status 2, which is neither the old \
             behaviour (1) nor the new one (0)"
        );
        let got = told(&during(Behaviour::Old), 0, "");
        assert!(got.starts_with("behaviour-wrong: check during the transition"), "{got}");
    }

    #[test]
    fn a_module_of_another_build_is_refused_by_the_livepatch_that_says_so() {
        let step = Step::RefuseModule {
            ko: "/m.ko".into(),
            livepatch: "k".into(),
        };
        assert!(told(&step, 0, "").ends_with("k does not say why it was refused"));
        assert!(told(&step, 1, "failed the%20module%20was%20loaded\nerrno 0\n").contains("the module was loaded"));
        let end = StepEnd {
            case: 0,
            step: 0,
            took: Duration::ZERO,
            ending: Ending::Exit(0),
            whereabouts: Vec::new(),
            output: String::new(),
        };
        let says = |line: &str| problem(&step, &end, &[line.to_owned()]);
        assert_eq!(
            says("kpatch: k: m is another build (build id 1, expected 2); it is not loaded"),
            None
        );
        assert!(says("kpatch: other: m is another build").is_some());
    }

    #[test]
    fn a_transition_that_is_not_held_open_shows_nothing() {
        let held = Step::HeldTransition { name: "k".into() };
        let over = "failed the%20transition%20is%20not%20held%20open\nerrno 0\n";
        let got = told(&held, 1, over);
        assert!(
            got.starts_with("check-broken: ") && got.contains("is not held open"),
            "{got}"
        );
    }

    #[test]
    fn what_was_promised_is_no_difference() {
        assert_eq!(
            registration_differences("k", &vmlinux(&["f", "g.llvm.77,2"]), GOOD),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let pending = vec![ExpectedObject {
            name: "ext4".into(),
            functions: vec!["e".into()],
            patched_now: true,
            leaving: Vec::new(),
        }];
        for (objects, output, expected) in [
            (vmlinux(&["f"]), GOOD, "vmlinux: g.llvm.77,2 is registered unexpectedly"),
            (
                vmlinux(&["f", "g.llvm.77", "h"]),
                GOOD,
                "vmlinux: function h is not registered",
            ),
            (
                vmlinux(&["f"]),
                "enabled 1\ntaint K\nobject vmlinux 0\nfunction vmlinux f,1\nhooks unknown\n",
                "object vmlinux is not patched",
            ),
            (
                vmlinux(&["f"]),
                "enabled 0\ntaint K\nobject vmlinux 1\nfunction vmlinux f,1\nhooks unknown\n",
                "k is not enabled",
            ),
            (
                vmlinux(&["f"]),
                "enabled 1\ntaint OE\nobject vmlinux 1\nfunction vmlinux f,1\nhooks unknown\n",
                "module k lacks the livepatch taint",
            ),
            (
                pending,
                "enabled 1\ntaint K\nhooks unknown\n",
                "object ext4 is not registered",
            ),
            (
                vec![],
                "enabled 1\ntaint K\nobject vmlinux 1\nhooks unknown\n",
                "object vmlinux is registered unexpectedly",
            ),
        ] {
            assert_eq!(registration_differences("k", &objects, output), [expected]);
        }
    }

    #[test]
    fn a_function_that_is_registered_but_not_redirected_is_told() {
        let objects = vmlinux(&["f", "g.llvm.77"]);
        for wrong in ["hook ext4 f", "hook - ff", ""] {
            let found = registration_differences("k", &objects, &GOOD.replace("hook - f", wrong));
            assert!(
                found.len() == 1 && found[0].contains("f,1 is registered but"),
                "{found:?}"
            );
        }
        let silent = GOOD.replace("hooks listed", "");
        assert_eq!(registration_differences("k", &objects, &silent).len(), 1);
    }

    #[test]
    fn a_kernel_may_print_promoted_names_without_their_suffix() {
        let printed = GOOD.replace("hook - g.llvm.77", "hook - g");
        let objects = vmlinux(&["f", "g.llvm.77"]);
        assert_eq!(registration_differences("k", &objects, &printed), Vec::<String>::new());
        let gone = printed.replace("hook - g", "hook - f");
        assert_eq!(registration_differences("k", &objects, &gone).len(), 1);
    }

    #[test]
    fn the_tracer_may_print_another_name_of_the_place() {
        let objects = vmlinux(&["f", "g.llvm.77"]);
        let printed = GOOD.replace("hook - f", "hook - e");
        assert_eq!(registration_differences("k", &objects, &printed).len(), 1);
        let alias = |line: &str| registration_differences("k", &objects, &format!("{printed}alias {line}\n"));
        assert_eq!(alias("- e f"), Vec::<String>::new());
        for wrong in ["- e ff", "- d f", "ext4 e f"] {
            assert_eq!(alias(wrong).len(), 1, "{wrong}");
        }
        // A place counts once, for the function whose name it has.
        let lacking = GOOD.replace("hook - f\n", "") + "alias - g.llvm.77 f\n";
        assert_eq!(registration_differences("k", &objects, &lacking).len(), 1);
    }

    #[test]
    fn an_object_that_is_not_loaded_yet_is_legal_when_promised_so() {
        let objects = vec![ExpectedObject {
            name: "ext4".into(),
            functions: vec!["e".into()],
            patched_now: false,
            leaving: Vec::new(),
        }];
        let output = "enabled 1\ntaint K\nobject ext4 0\nfunction ext4 e,1\nhooks listed\n";
        assert_eq!(registration_differences("k", &objects, output), Vec::<String>::new());
    }

    #[test]
    fn what_is_being_replaced_may_still_be_listed() {
        let mut objects = vmlinux(&["f"]);
        assert_eq!(registration_differences("k", &objects, GOOD).len(), 1);
        objects[0].leaving = vec!["g.llvm.77,2".into()];
        assert_eq!(registration_differences("k", &objects, GOOD), Vec::<String>::new());
        let gone = GOOD.replace("function vmlinux g.llvm.77,2\n", "");
        assert_eq!(registration_differences("k", &objects, &gone), Vec::<String>::new());
    }

    #[test]
    fn a_refusal_carries_the_error_number() {
        let problem = operation_problem("failed finit_module\nerrno 22\nerror Invalid%20argument\n");
        assert_eq!(
            problem,
            StepProblem::Refused {
                why: "finit_module: Invalid argument".into(),
                errno: Some(22)
            }
        );
    }

    #[test]
    fn a_kernel_that_wants_signatures_says_so() {
        let why = |output: &str| match operation_problem(output) {
            StepProblem::Refused { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert!(why("failed finit_module\nerrno 1\nerror Operation%20not%20permitted\n").contains("locked down"));
        assert!(why("failed finit_module\nerrno 129\nerror Key%20was%20rejected\n").contains("module.sig_enforce"));
        assert_eq!(
            why("failed delete_module\nerrno 1\nerror Not%20permitted\n"),
            "delete_module: Not permitted"
        );
    }

    #[test]
    fn a_stall_names_the_tasks() {
        let output = "failed stalled\ntask 70 71 0 my%20cat [%3c0%3e]%20f+0x1/0x2%0a[%3c0%3e]%20g+0x3/0x4\n";
        let StepProblem::Stalled(tasks) = operation_problem(output) else {
            panic!("must be a stall")
        };
        assert_eq!(tasks[0].comm, "my cat");
        assert_eq!(tasks[0].stack, ["f+0x1/0x2", "g+0x3/0x4"]);
    }
}
