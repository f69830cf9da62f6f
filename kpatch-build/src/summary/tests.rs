//! What people and programs read of made-up runs.

use std::time::Duration;

use kpatch_core::resolve::{PatchedFunction, SymPos};
use kpatch_core::{Difference, GivenAway, How, Moment, ObjectName, Reason, Sleeps, Subject, codes};
use serde_json::Value;

use super::boot::testing;
use super::*;
use crate::build::fates::{Because, State as Place};
use crate::build::module::Signature;
use crate::outcome::Ending;
use crate::ui::{Document, StepTime};

fn function(object: ObjectName, name: &str, sympos: u32, unit: &str) -> PatchedFunction {
    PatchedFunction {
        object,
        name: name.into(),
        sympos: SymPos(sympos),
        unit: unit.into(),
        reason: Reason::Changed {
            difference: Difference::Size { from: 80, to: 96 },
        },
        handle: format!("{name}$new"),
    }
}

fn element(reason: Reason, address_taken_by: &[&str]) -> Element {
    Element {
        unit: "kernel/sys.o".into(),
        kind: "function",
        name: "late_work".into(),
        section: ".text.late_work".into(),
        reason,
        refers_to: vec!["vmlinux:printk".into()],
        address_taken_by: address_taken_by.iter().map(|&name| name.to_owned()).collect(),
        given_away: Vec::new(),
    }
}

fn data(given_away: &[(How, Option<&str>)]) -> Element {
    let given_away = given_away.iter().map(|(how, to)| GivenAway {
        by: "queue_it".into(),
        how: *how,
        to: to.map(str::to_owned),
    });
    Element {
        kind: "variable",
        name: "late".into(),
        section: ".data.late".into(),
        given_away: given_away.collect(),
        ..element(Reason::NewGlobal, &[])
    }
}

fn phases() -> Phases {
    let mut phases = Phases::default();
    let second = Duration::from_millis(1000);
    let steps = vec![
        StepTime::new("read the build", second),
        StepTime::new("compare (2 units)", second / 2),
    ];
    phases.record("build the livepatch", 3 * second, steps);
    phases.record("boot and prove", 5 * second, Vec::new());
    phases
}

fn callback(moment: Moment, name: &str) -> Callback {
    Callback {
        object: ObjectName::vmlinux(),
        moment,
        name: name.into(),
        unit: "kernel/sys.o".into(),
        handle: format!("{name}$new"),
    }
}

fn sleeper(name: &str, calls: &str, thread: bool, new_code_only: bool) -> Sleeps {
    Sleeps {
        object: ObjectName::vmlinux(),
        name: name.into(),
        thread,
        new_code_only,
        calls: [calls.to_owned()].into(),
    }
}

/// A new function that one or two take the address of, and a variable whose address goes everywhere.
fn handed_out(new: &Reason) -> Vec<HandedOut> {
    let taken = ["queue_it", "queue_it queue_more"].map(|by| {
        let by: Vec<&str> = by.split(' ').collect();
        element(new.clone(), &by)
    });
    let passed = data(&[
        (How::Stored, None),
        (How::Passed, Some("queue_work_on")),
        (How::Passed, None),
        (How::Returned, None),
    ]);
    taken.iter().chain([&passed]).filter_map(HandedOut::of).collect()
}

/// A run with something of everything that can be in a summary.
fn rich() -> Summary {
    let vmlinux = ObjectName::vmlinux;
    let new = Reason::NewFor {
        name: "do_sysinfo".into(),
    };
    let facts = Facts {
        objects: [vmlinux(), ObjectName::module("ext4")].into(),
        untold: vec![ObjectName::module("ext4")],
        callbacks: &[
            callback(Moment::PrePatch, "raise_limit"),
            callback(Moment::PostPatch, "lower_limit"),
        ],
        sleeps: &[
            sleeper("pipe_read", "schedule", false, false),
            sleeper("kauditd_thread", "kthread_should_stop", true, false),
            sleeper("show", "msleep", false, true),
        ],
        handed_out: &handed_out(&new),
        permanent: false,
    };
    Summary {
        module: Some("./kpatch_fix.ko".into()),
        module_name: Some("kpatch_fix".into()),
        functions: Patched::of(
            &[
                function(vmlinux(), "do_sysinfo.llvm.4711", 1, "kernel/sys.o"),
                function(vmlinux(), "show", 1, "fs/a.o"),
                function(vmlinux(), "show", 2, "fs/b.o"),
                function(ObjectName::module("ext4"), "ext4_fill_super", 0, "fs/ext4/super.o"),
            ],
            &[],
        ),
        new_functions: vec![NewFunction::of(&element(new.clone(), &[])).unwrap()],
        carried: vec![Carried {
            object: vmlinux(),
            name: "fold".into(),
            unit: "kernel/sys.o".into(),
            reason: Reason::Changed {
                difference: Difference::Size { from: 80, to: 96 },
            },
        }],
        callbacks: vec![callback(Moment::PrePatch, "raise_limit")],
        before_load: facts.notices(),
        handed_out: handed_out(&new),
        signature: Some(Signature {
            hash: "sha256".into(),
            built_in: true,
            enforced: false,
        }),
        packages: vec!["./fix-6.12_2_amd64.deb".into()],
        values: vec![SetValue {
            object: ObjectName::vmlinux(),
            name: "limit".into(),
            unit: "kernel/sys.o".into(),
            symbol: "limit".into(),
            size: 4,
            from: 1,
            to: 2,
        }],
        readers: Some(Counts {
            readers: 919,
            suspects: 3,
            compiled: 3,
            changed: 1,
        }),
        units: vec![Unit {
            name: "kernel/sys.o".into(),
            cause: "edited".into(),
        }],
        elements: vec![element(new, &[])],
        next_boot: vec![Ignored {
            unit: "kernel/sys.o".into(),
            name: "set_up".into(),
            why: "takes effect at the next boot".into(),
        }],
        ignored: vec![Ignored {
            unit: "kernel/sys.o".into(),
            name: "__func__.7".into(),
            why: "only its number differs".into(),
        }],
        notes: (1..=4).map(|number| format!("note {number}")).collect(),
        shipped: vec![Shipped {
            source: "kernel/sys.c".into(),
            object: vmlinux(),
            functions: 131,
            explained: vec![("arch_prctl_spec_ctrl_get".into(), "weak".into())],
            data: 4096,
        }],
        accepted: vec![Refusal::new(
            codes::patch::LAYOUT_CHANGED,
            Subject::file("kernel/sys.c").symbol("uts"),
            "gets a member",
        )],
        warnings: vec!["objtool: a warning".into()],
        livepatch: Some(Relocations {
            symbols: 3,
            relocations: 7,
        }),
        boot: Some(testing::boot(&[testing::passed()], true)),
        ..Summary::empty("built", 0, phases())
    }
}

#[test]
fn a_good_run_in_five_seconds() {
    insta::assert_snapshot!(rich().shown(Shown::default()), @r"
    livepatch   ./kpatch_fix.ko
    proven      131 of 131 functions of kernel/sys.c are those of the running kernel; arch_prctl_spec_ctrl_get: weak
    readers     919 files read what changes: 3 can be affected, 3 compiled, 1 changed
    patched     4 functions
      vmlinux     do_sysinfo: changed: size 80 -> 96
      vmlinux     show (fs/a.o): changed: size 80 -> 96
      vmlinux     show,2 (fs/b.o): changed: size 80 -> 96
      ext4        ext4_fill_super: changed: size 80 -> 96
    new         1 function
      late_work (kernel/sys.o): new, used by do_sysinfo
    carried     fold (kernel/sys.o), for its callers only: changed: size 80 -> 96
    callback    raise_limit: pre_patch of vmlinux
    sets        limit (kernel/sys.o): 1 -> 2, if it has 1; back when the livepatch goes, if it still has 2
    accepted    kernel/sys.c `uts`: gets a member
    before you load this:
      module      ext4 is a module: it is patched when the livepatch is loaded, or later, whenever ext4 is
      build       ext4 has no build id that the livepatch can look at: another build of it is patched unnoticed
      callbacks   raise_limit runs before the transition of vmlinux and lower_limit behind it: what lies between them may last for ever, and lower_limit does not run at all if the transition is reverted
      sleeps      kauditd_thread looks like the loop of a kernel thread (kthread_should_stop): a task in it holds up the transition
      sleeps      pipe_read waits (schedule): a task in it holds up the transition
      sleeps      show waits (msleep): its new code, and a task in it holds up the way back
      keep        queue_it takes the address of new function late_work; don't unload while that pointer may be in use
      keep        queue_it, queue_more take the address of new function late_work; don't unload while that pointer may be in use
      keep        queue_it stores the address of variable late; queue_it passes the address of variable late to queue_work_on; queue_it passes the address of variable late to a function that it calls through a pointer; queue_it may return the address of variable late; don't unload while that pointer may be in use
      unload      the module can be disabled and removed again
    next boot   set_up (kernel/sys.o): takes effect at the next boot
    ignored     __func__.7 (kernel/sys.o): only its number differs
    note        note 1
    note        note 2
    note        note 3
    note        1 more (--explain lists them)
    signed      sha256, the kernel has the certificate built in
    package     ./fix-6.12_2_amd64.deb
    warning     objtool: a warning
    warning     kernel log before the livepatch was loaded: BUG: something
    boot        passed: old behaviour before, new while loaded, old after unload (Linux 6.12.107, QEMU TCG SeaBIOS, 4.2 s)
    note        no KVM, so emulated (TCG): /dev/kvm: Permission denied (os error 13)
    ");
}

#[test]
fn what_never_goes_away_is_said_alone() {
    let callbacks = [callback(Moment::PostPatch, "lower_limit")];
    let facts = |permanent| Facts {
        objects: [ObjectName::vmlinux()].into(),
        untold: Vec::new(),
        callbacks: &callbacks,
        sleeps: &[],
        handed_out: &[],
        permanent,
    };
    let summary = |permanent| Summary {
        before_load: facts(permanent).notices(),
        ..Summary::empty("built", 0, Phases::default())
    };
    assert!(!summary(false).to_string().contains("before you load"));
    insta::assert_snapshot!(summary(true), @r"
    livepatch   not built (--dry-run)
    patched     0 functions
    before you load this:
      permanent   the module keeps itself once it is loaded: it can be disabled, and never be removed
    ");
}

#[test]
fn a_long_list_of_what_to_know_is_cut_short_for_who_does_not_ask() {
    let mut sleeps: Vec<Sleeps> = (0..20)
        .map(|n| sleeper(&format!("f{n:02}"), "msleep", false, false))
        .collect();
    sleeps[0].calls = ["a", "b", "c", "d", "e"].map(str::to_owned).into();
    let facts = Facts {
        objects: [].into(),
        untold: Vec::new(),
        callbacks: &[],
        sleeps: &sleeps,
        handed_out: &[],
        permanent: false,
    };
    let notices = facts.notices();
    let (short, all) = (before::lines(&notices, false), before::lines(&notices, true));
    assert_eq!((short.len(), all.len()), (10, 21));
    assert_eq!(
        short[0],
        "  sleeps      f00 waits (a, b, c and 2 more): a task in it holds up the transition"
    );
    assert_eq!(
        all[0],
        "  sleeps      f00 waits (a, b, c, d, e): a task in it holds up the transition"
    );
    assert_eq!(short[8], "  sleeps      12 more (--explain lists them)");
    assert_eq!(
        before::lines(
            &Facts {
                sleeps: &sleeps[..9],
                ..facts
            }
            .notices(),
            false
        )
        .len(),
        10,
        "one more is shown"
    );
}

#[test]
fn who_asks_gets_more() {
    let shown = Shown {
        explain: true,
        times: true,
        cut: false,
    };
    let text = rich().shown(shown).to_string();
    let news: Vec<&str> = text
        .lines()
        .filter(|line| {
            ["compared", "contains", "time"]
                .iter()
                .any(|word| line.starts_with(word))
        })
        .collect();
    insta::assert_snapshot!(news.join("\n"), @r"
    compared    kernel/sys.o: edited
    contains    new, used by do_sysinfo: function late_work (.text.late_work) of kernel/sys.o
    time        build the livepatch 3.0 s (read the build 1.0 s, compare (2 units) 0.5 s), boot and prove 5.0 s
    ");
}

#[test]
fn one_function_is_singular_and_a_dry_run_says_so() {
    let summary = Summary {
        functions: Patched::of(&[function(ObjectName::vmlinux(), "f", 1, "a.o")], &[]),
        ..Summary::empty("would-build", 0, Phases::default())
    };
    insta::assert_snapshot!(summary, @r"
    livepatch   not built (--dry-run)
    patched     1 function
      vmlinux     f: changed: size 80 -> 96
    ");
}

#[test]
fn a_failed_proof_never_looks_like_a_livepatch() {
    let boot = testing::boot(&[testing::passed(), testing::wrong()], true);
    insta::assert_snapshot!(boot.verdict().unwrap_err(), @r"
    boot test failed: fix: check after load: the check exited 1 (old behaviour), expected 0 (new)
      still old
    ");
    assert_eq!(boot.meaning(), Meaning::Failure);
    let summary = Summary {
        set_aside: Some("./kpatch_fix.ko.failed".into()),
        boot: Some(boot),
        ..Summary::empty("failed", 1, Phases::default())
    };
    insta::assert_snapshot!(summary, @r"
    unproven    ./kpatch_fix.ko.failed (not installed)
    patched     0 functions
    warning     kernel log before the livepatch was loaded: BUG: something
    boot        FAILED (Linux 6.12.107, QEMU TCG SeaBIOS, 4.2 s)
    note        no KVM, so emulated (TCG): /dev/kvm: Permission denied (os error 13)
    ");
    let again = Summary {
        earlier: true,
        ..summary
    };
    let first = again.to_string();
    assert!(
        first.starts_with("unproven    ./kpatch_fix.ko.failed (not installed; the .ko beside it is from"),
        "{first}"
    );
}

#[test]
fn a_proof_that_could_not_be_tried_is_no_failure_of_the_patch() {
    let boot = testing::boot(&[testing::environment()], false);
    let error = boot.verdict().unwrap_err();
    assert_eq!(outcome::exit_code(&error), outcome::EXIT_ENVIRONMENT);
    assert!(ui::told(&error).starts_with("environment problem: boot test not completed: fix: "));
}

#[test]
fn long_lines_are_cut_on_a_terminal_only() {
    let summary = |cut| {
        let summary = Summary {
            notes: vec!["x".repeat(300)],
            ..Summary::empty("built", 0, Phases::default())
        };
        let shown = Shown {
            cut,
            ..Shown::default()
        };
        summary.shown(shown).to_string()
    };
    assert!(summary(true).ends_with("x …") && summary(false).ends_with(&"x".repeat(300)));
}

#[test]
fn an_error_has_its_outcome_and_its_words() {
    let document = |error: &anyhow::Error, code| {
        let summary = Summary::of_error(error, code, Phases::default());
        serde_json::to_string(&Document::new(summary)).unwrap()
    };
    insta::assert_snapshot!(
        document(&Ending::usage("no kernel given"), Kind::Usage),
        @r#"{"format":1,"outcome":"usage","exit_code":64,"error":"no kernel given","phases":[]}"#
    );
    let refusal = Refusal::new(codes::select::INIT_CODE, Subject::file("a.o").symbol("f"), "is __init");
    insta::assert_snapshot!(
        document(&Ending::refused(refusal), Kind::Refused),
        @r#"{"format":1,"outcome":"refused","exit_code":2,"refusals":[{"code":"select.init-code","at":{"file":"a.o","symbol":"f"},"why":"is __init"}],"error":"refused[select.init-code] a.o `f`: is __init","phases":[]}"#
    );
}

/// Documents that together have every key.
/// A livepatch that takes the place of another one.
fn series() -> Summary {
    let state = State { id: 7, version: 2 };
    let functions = |name: &str| vec![format!("vmlinux:{name}")];
    let replaced = Replaced {
        name: "livepatch_1".into(),
        dropped: functions("gone"),
        added: functions("new"),
        changed: functions("other"),
        same: functions("kept"),
        states: vec![state],
    };
    Summary {
        states: vec![state],
        replaces: vec![replaced],
        ..Summary::empty("built", 0, phases())
    }
}

#[test]
fn what_becomes_of_an_older_livepatch_is_said() {
    insta::assert_snapshot!(series().shown(Shown::default()), @r"
    livepatch   not built (--dry-run)
    patched     0 functions
    state       7 in version 2
    replaces    livepatch_1: 1 dropped (vmlinux:gone), 1 added (vmlinux:new), 1 changed (vmlinux:other), 1 unchanged (vmlinux:kept), 1 state handed over
    ");
}

/// A series of which one patch is out.
fn patches() -> Summary {
    let fate = |patch: &str, state: Place| Fate {
        patch: patch.into(),
        subject: format!("fix {patch}"),
        commit: Some("0123".into()),
        cves: vec!["CVE-2026-1".into()],
        fixes: vec!["0123 (\"x\")".into()],
        state,
        patched: Vec::new(),
        because: None,
    };
    let inside = Fate {
        patched: vec!["vmlinux:f".into()],
        ..fate("1.patch", Place::In)
    };
    let outside = Fate {
        because: Some(Because {
            why: "does not apply without 0.patch".into(),
            codes: vec![codes::patch::DOES_NOT_APPLY],
            needs: vec!["0.patch".into()],
        }),
        ..fate("2.patch", Place::Out)
    };
    let causes = [vec!["1.patch".to_owned()]];
    Summary {
        functions: Patched::of(&[function(ObjectName::vmlinux(), "f", 1, "a.o")], &causes),
        series: vec![inside, outside],
        ..Summary::empty("built", 0, phases()).digest("0123".into())
    }
}

#[test]
fn of_a_series_is_said_what_is_in_and_what_is_out() {
    insta::assert_snapshot!(patches(), @r#"
    livepatch   not built (--dry-run)
    series      1 of 2 patches in, 1 left out
      in        1.patch: fix 1.patch (CVE-2026-1): 1 function
      out       2.patch: fix 2.patch (CVE-2026-1): does not apply without 0.patch
    patched     1 function
      vmlinux     f: changed: size 80 -> 96 [1.patch]
    "#);
}

pub(crate) fn documents() -> Vec<Value> {
    let json = |summary: Summary| serde_json::to_value(Document::new(summary)).unwrap();
    let explained = Shown {
        explain: true,
        ..Shown::default()
    };
    let place = Subject::file("a.c").line(1).section(".text").symbol("f").offset(4);
    let refusal = Refusal {
        suggested: Some("a.suggested.patch".into()),
        ..Refusal::new(codes::select::INIT_CODE, place, "why")
            .missing("s")
            .hint("do this")
    };
    let differences = [
        Difference::Constant {
            offset: 1,
            name: "c".into(),
        },
        Difference::Entry { section: "s".into() },
        Difference::Places { function: "f".into() },
    ];
    let elements = differences.map(|difference| element(Reason::Changed { difference }, &["f"]));
    let failed = Summary {
        set_aside: Some("x.ko.failed".into()),
        earlier: true,
        elements: elements.into(),
        boot: Some(testing::boot(&[testing::wrong()], true)),
        ..Summary::empty("failed", 1, phases())
    };
    vec![
        json(rich().shown(explained)),
        json(series()),
        json(patches()),
        json(failed),
        json(Summary::of_error(&Ending::refused(refusal), Kind::Refused, phases())),
    ]
}
