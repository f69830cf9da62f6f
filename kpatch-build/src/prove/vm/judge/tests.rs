//! Every outcome, judged from record streams made up for it.

use super::*;
use crate::prove::vm::Meaning;
use crate::prove::vm::channel::Fault;
use crate::prove::vm::message::{Ending, Hello};
use crate::prove::vm::plan::{Behaviour, ExpectedObject};

/// Two cases: check, load, wait, check, unload, check; and one that only looks.
fn plan() -> Plan {
    let check = |expect, when: &str| Step::Check {
        script: "/c".into(),
        expect,
        when: when.into(),
    };
    let object = ExpectedObject {
        name: "vmlinux".into(),
        functions: vec!["f".into()],
        patched_now: true,
        leaving: Vec::new(),
    };
    let proof = vec![
        check(Behaviour::Old, "before load"),
        Step::LoadLivepatch {
            ko: "/k.ko".into(),
            name: "k".into(),
            objects: vec![object],
        },
        Step::WaitTransition {
            timeout: Duration::from_secs(20),
        },
        check(Behaviour::New, "after load"),
        Step::UnloadLivepatch { name: "k".into() },
        check(Behaviour::Old, "after unload"),
    ];
    let case = |name: &str, steps| CasePlan {
        name: name.into(),
        files: vec![],
        steps,
        reports: vec![],
    };
    Plan {
        cases: vec![case("proof", proof), case("look", vec![check(Behaviour::Old, "again")])],
    }
}

/// What the guest sends for the plan when all goes well; tests replace or cut parts of it.
struct Run {
    messages: Vec<Message>,
    faults: Vec<Fault>,
    end: MachineEnd,
    console: String,
}

const LISTING: &str = "enabled 1\ntaint OEK\nobject vmlinux 1\nfunction vmlinux f,1\nhooks listed\nhook - f\n";

fn end(case: usize, step: usize, ending: Ending, output: &str) -> Message {
    Message::StepEnd(StepEnd {
        case,
        step,
        took: Duration::from_millis(5),
        ending,
        whereabouts: vec![],
        output: output.into(),
    })
}

fn step(case: usize, step: usize, status: i32, output: &str) -> [Message; 2] {
    [
        Message::StepBegin { case, step },
        end(case, step, Ending::Exit(status), output),
    ]
}

fn klog(text: &str) -> Message {
    Message::Klog {
        lost: false,
        lines: text.into(),
    }
}

fn good() -> Run {
    let mut messages = vec![
        Message::Hello(Hello {
            release: "6.12.107".into(),
            livepatch: true,
        }),
        klog("4,1,1,-;WARNING: a splat of the boot itself\n"),
        Message::CaseBegin { case: 0 },
    ];
    let proof = [(1, ""), (0, LISTING), (0, "tasks 40\n"), (0, ""), (0, ""), (1, "")];
    for (index, (status, output)) in proof.into_iter().enumerate() {
        messages.extend(step(0, index, status, output));
    }
    messages.push(Message::CaseEnd {
        case: 0,
        taint_before: 0,
        taint_after: 1 << 15,
    });
    messages.push(Message::CaseBegin { case: 1 });
    messages.extend(step(1, 0, 1, ""));
    messages.push(Message::CaseEnd {
        case: 1,
        taint_before: 1 << 15,
        taint_after: 1 << 15,
    });
    let console = "[ 0.1] Linux version\n".to_owned();
    let mut run = Run {
        messages,
        faults: vec![],
        end: exited(),
        console,
    };
    run.say_final();
    run
}

fn exited() -> MachineEnd {
    MachineEnd::Exited {
        status: "exit status: 0".into(),
        stderr: String::new(),
    }
}

impl Run {
    fn say_final(&mut self) {
        self.messages
            .retain(|message| !matches!(message, Message::Final { .. }));
        self.messages.push(Message::Final {
            records: self.messages.len() as u32,
        });
    }

    /// Replaces the end of a step of the first case and stops there, as the guest does.
    fn stop_at(mut self, index: usize, ending: Ending, output: &str) -> Run {
        self.cut_before_end_of(index);
        self.messages.push(end(0, index, ending, output));
        self.messages.push(Message::CaseEnd {
            case: 0,
            taint_before: 0,
            taint_after: 1 << 15,
        });
        self.say_final();
        self
    }

    /// The transcript breaks off while this step of the first case runs.
    fn cut_before_end_of(&mut self, index: usize) {
        let begin = Message::StepBegin { case: 0, step: index };
        let at = self.messages.iter().position(|message| *message == begin);
        self.messages.truncate(at.expect("the step exists") + 1);
    }

    fn died_at(mut self, index: usize, end: MachineEnd, console: &str) -> Run {
        self.cut_before_end_of(index);
        self.end = end;
        self.console.push_str(console);
        self
    }

    /// Inserts a message behind the end of a step of the first case.
    fn with_after(mut self, index: usize, message: Message) -> Run {
        let is_end = |message: &Message| matches!(message, Message::StepEnd(end) if end.case == 0 && end.step == index);
        let at = self.messages.iter().position(is_end).expect("the step exists");
        self.messages.insert(at + 1, message);
        self.say_final();
        self
    }

    fn judge(self) -> Vec<CaseReport> {
        let Run {
            messages,
            faults,
            end,
            console,
        } = self;
        judge(
            &plan(),
            &Transcript {
                messages,
                faults,
                end,
                console,
                up_after: None,
            },
        )
    }

    fn names(self) -> [&'static str; 2] {
        let reports = self.judge();
        [reports[0].outcome.short_name(), reports[1].outcome.short_name()]
    }
}

#[test]
fn all_is_well() {
    let reports = good().judge();
    assert!(
        reports.iter().all(|report| report.outcome == CaseOutcome::Passed),
        "{reports:#?}"
    );
    assert_eq!(reports[0].steps.len(), 6);
    assert_eq!(reports[0].outcome.meaning(), Meaning::Success);
}

#[test]
fn a_splat_of_the_boot_is_not_held_against_a_case() {
    let Run {
        messages,
        faults,
        end,
        console,
    } = good();
    let transcript = Transcript {
        messages,
        faults,
        end,
        console,
        up_after: None,
    };
    assert_eq!(boot_complaints(&transcript), ["WARNING: a splat of the boot itself"]);
}

#[test]
fn what_steps_say() {
    let cases = [
        (3, Ending::Exit(1), "", "behaviour-wrong"),
        (0, Ending::Exit(0), "", "behaviour-wrong"),
        (3, Ending::Exit(2), "", "check-broken"),
        (3, Ending::Signal(9), "", "check-broken"),
        (3, Ending::TimedOut, "", "check-broken"),
        (
            1,
            Ending::Exit(1),
            "failed finit_module\nerrno 22\nerror Invalid%20argument\n",
            "load-failed",
        ),
        (1, Ending::Signal(9), "", "load-failed"),
        (1, Ending::Stuck, "", "timed-out"),
        (1, Ending::TimedOut, "", "timed-out"),
        (
            2,
            Ending::Exit(1),
            "failed stalled\ntask 7 7 0 cat -\n",
            "transition-stalled",
        ),
        (
            4,
            Ending::Exit(1),
            "failed stalled\ntask 7 7 1 cat -\n",
            "transition-stalled",
        ),
        (4, Ending::Exit(1), "failed delete_module\nerrno 16\n", "unload-failed"),
    ];
    for (index, ending, output, name) in cases {
        let names = good().stop_at(index, ending, output).names();
        assert_eq!(names, [name, "not-run"], "step {index}, {ending:?}");
    }
}

#[test]
fn a_livepatch_that_registers_something_else_is_not_patched() {
    let mut run = good();
    let listing = Ending::Exit(0);
    let at = run
        .messages
        .iter()
        .position(|message| *message == end(0, 1, listing, LISTING))
        .unwrap();
    run.messages[at] = end(0, 1, listing, "enabled 1\ntaint K\n");
    assert_eq!(run.names(), ["not-patched", "passed"]);
}

#[test]
fn a_complaint_outweighs_what_the_steps_say() {
    let oops = || klog("1,1,1,-;BUG: kernel NULL pointer dereference, address: 0\n");
    assert_eq!(good().with_after(3, oops()).names()[0], "kernel-complained");
    let mut broken = good().stop_at(3, Ending::Signal(9), "");
    broken.messages.insert(5, oops());
    broken.say_final();
    assert_eq!(broken.names()[0], "kernel-complained");
}

#[test]
fn a_refused_load_stays_a_refused_load_and_keeps_the_reason() {
    let mut run = good().stop_at(1, Ending::Exit(1), "failed finit_module\nerrno 22\n");
    let at = run.messages.len() - 3;
    run.messages
        .insert(at, klog("3,1,1,-;livepatch: symbol 'f' not found in symbol table\n"));
    run.say_final();
    let CaseOutcome::LoadFailed { errno, kernel, .. } = run.judge().remove(0).outcome else {
        panic!("load-failed")
    };
    assert_eq!((errno, kernel.len()), (Some(22), 1));
}

#[test]
fn an_unexplained_taint_is_a_complaint() {
    let mut run = good();
    let clean = Message::CaseEnd {
        case: 0,
        taint_before: 0,
        taint_after: 1 << 15,
    };
    let at = run.messages.iter().position(|message| *message == clean).unwrap();
    run.messages[at] = Message::CaseEnd {
        case: 0,
        taint_before: 0,
        taint_after: 1 << 9,
    };
    assert_eq!(run.names()[0], "kernel-complained");
}

#[test]
fn a_machine_that_dies_blames_the_case_that_ran() {
    let panic = "[ 2.0] Kernel panic - not syncing: Fatal exception\n";
    let silent = || MachineEnd::Silent(Duration::from_secs(30));
    let late = MachineEnd::OutOfTime(Duration::from_secs(60));
    assert_eq!(good().died_at(3, exited(), panic).names(), ["panic", "not-run"]);
    assert_eq!(good().died_at(3, silent(), "").names(), ["timed-out", "not-run"]);
    assert_eq!(good().died_at(3, late, "").names(), ["timed-out", "not-run"]);
    assert_eq!(good().died_at(3, exited(), "").names(), ["no-final-record", "not-run"]);
    let outcome = good().died_at(3, silent(), "").judge().remove(0).outcome;
    assert!(matches!(outcome, CaseOutcome::TimedOut { ref step, .. } if step == "check after load"));
    assert_eq!(outcome.meaning(), Meaning::Failure);
}

#[test]
fn without_the_final_record_the_last_case_has_not_passed() {
    let mut run = good();
    run.messages.pop();
    assert_eq!(run.names(), ["passed", "no-final-record"]);
}

#[test]
fn a_panic_while_powering_off_counts() {
    let mut run = good();
    run.console.push_str("Kernel panic - not syncing: late\n");
    assert_eq!(run.names(), ["passed", "panic"]);
}

#[test]
fn a_case_with_a_step_missing_has_not_passed() {
    for missing in [4, 5] {
        let mut run = good();
        let is_end =
            |message: &Message| matches!(message, Message::StepEnd(end) if end.case == 0 && end.step == missing);
        run.messages.retain(|message| !is_end(message));
        run.say_final();
        assert_eq!(run.names()[0], "infrastructure", "step {missing}");
    }
}

#[test]
fn damage_forbids_every_verdict() {
    let mut run = good();
    run.faults.push(Fault::Gap { expected: 3, got: 4 });
    assert_eq!(run.names(), ["infrastructure", "infrastructure"]);
    let lost = Message::Klog {
        lost: true,
        lines: String::new(),
    };
    assert_eq!(good().with_after(2, lost).names(), ["infrastructure", "passed"]);
}

#[test]
fn a_machine_that_never_spoke_is_infrastructure() {
    for (console, word) in [
        ("", "exit status"),
        ("Kernel panic - not syncing: VFS\n", "panic before"),
    ] {
        let run = Run {
            messages: vec![],
            faults: vec![],
            end: exited(),
            console: console.into(),
        };
        let report = run.judge().remove(0);
        assert_eq!(report.outcome.meaning(), Meaning::Infrastructure);
        assert!(report.outcome.to_string().contains(word), "{}", report.outcome);
    }
}

#[test]
fn a_fault_of_the_guest_is_infrastructure() {
    let fault = Message::Fault {
        what: "devtmpfs".into(),
        error: "No such device".into(),
    };
    let run = Run {
        messages: vec![fault],
        faults: vec![],
        end: exited(),
        console: String::new(),
    };
    assert_eq!(run.names(), ["infrastructure", "infrastructure"]);
}

#[test]
fn a_kernel_without_livepatching_is_infrastructure() {
    let mut run = good();
    run.messages[0] = Message::Hello(Hello {
        release: "6.12.107".into(),
        livepatch: false,
    });
    assert_eq!(run.names(), ["infrastructure", "passed"]);
}
