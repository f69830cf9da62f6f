//! Machines made of files, and what is predicted for them.

use std::fs;

use kpatch_core::ObjectName;

use super::*;

/// A machine on which nothing speaks against the livepatch.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.write("proc/sys/kernel/osrelease", "6.12.107\n");
        tree.write("proc/sys/kernel/arch", "x86_64\n");
        tree.write("proc/sys/kernel/ftrace_enabled", "1\n");
        tree.write(
            "proc/kallsyms",
            "0 t pipe_read\n0 T do_sys\n0 t ext4_sync\t[ext4]\n0 t twice\n0 t twice\n",
        );
        tree.write(
            "sys/kernel/tracing/enabled_functions",
            "do_other (1) R I     M \ttramp: 0x1 (klp+0x0/0x1)\n",
        );
        tree.write("sys/module/ext4/initstate", "live\n");
        tree.write("sys/module/printk/parameters/time", "Y\n");
        tree.folder("sys/kernel/livepatch");
        tree.task(1, "init", 0, "S", "do_wait");
        tree
    }

    fn folder(&self, path: &str) {
        fs::create_dir_all(self.0.path().join(path)).unwrap();
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn task(&self, tid: u32, name: &str, flags: u32, state: &str, function: &str) {
        let folder = format!("proc/{tid}/task/{tid}");
        self.write(
            &format!("{folder}/stat"),
            &format!("{tid} ({name}) {state} 0 0 0 0 -1 {flags} 0 0\n"),
        );
        self.write(
            &format!("{folder}/stack"),
            &format!("[<0>] schedule+0x1/0x2\n[<0>] {function}+0x3/0x4\n"),
        );
    }

    fn livepatch(&self, name: &str, transition: &str, function: &str) {
        let folder = format!("sys/kernel/livepatch/{name}");
        self.write(&format!("{folder}/enabled"), "1\n");
        self.write(&format!("{folder}/transition"), transition);
        self.folder(&format!("{folder}/vmlinux/{function},1"));
        self.write(&format!("sys/module/{name}/initstate"), "live\n");
    }

    fn look(&self, module: &Module) -> Report {
        look(module, self.0.path())
    }

    /// Outcome, and the findings without notes.
    fn verdict(&self, module: &Module) -> (&'static str, String) {
        let report = self.look(module);
        let serious = report.findings.iter().filter(|finding| finding.kind != Kind::Note);
        let lines: Vec<String> = serious
            .map(|finding| format!("{} {}", finding.errno.unwrap_or("-"), finding.text))
            .collect();
        (report.outcome, lines.join("; "))
    }

    fn notes(&self, module: &Module) -> String {
        let report = self.look(module);
        let notes = report.findings.iter().filter(|finding| finding.kind == Kind::Note);
        notes.map(|finding| finding.text.clone()).collect::<Vec<_>>().join("; ")
    }
}

fn livepatch(objects: &[(&str, &[(&str, u64)])]) -> Module {
    let registered = |(name, functions): &(&str, &[(&str, u64)])| klp::Registered {
        object: ObjectName::module(name),
        functions: functions.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect(),
        callbacks: Vec::new(),
    };
    Module {
        name: "livepatch_fix".into(),
        processor: Some("x86_64"),
        vermagic: Some("6.12.107 SMP preempt mod_unload ".into()),
        signed: false,
        objects: objects.iter().map(registered).collect(),
    }
}

fn pipe() -> Module {
    livepatch(&[("vmlinux", &[("pipe_read", 0)])])
}

#[test]
fn a_quiet_machine_is_clear() {
    let report = Tree::new().look(&livepatch(&[
        ("vmlinux", &[("pipe_read", 1), ("do_sys", 0), ("twice", 2)]),
        ("ext4", &[("ext4_sync", 0)]),
    ]));
    assert_eq!(
        (report.outcome, report.exit_code, report.findings),
        ("clear", 0, Vec::new())
    );
}

#[test]
fn another_kernel_is_told() {
    let tree = Tree::new();
    let other = Module {
        vermagic: Some("6.12.108 SMP ".into()),
        ..pipe()
    };
    let (outcome, why) = tree.verdict(&other);
    assert_eq!(
        (outcome, &*why),
        ("other-kernel", "- it was built for 6.12.108, and 6.12.107 runs here")
    );
    assert_eq!(tree.look(&other).exit_code, EXIT_OTHER_KERNEL);
    let gone = livepatch(&[("vmlinux", &[("gone", 0)])]);
    assert_eq!(
        tree.verdict(&gone),
        ("other-kernel", "- vmlinux has no function gone".into())
    );
    let third = livepatch(&[("vmlinux", &[("twice", 3)])]);
    assert!(tree.verdict(&third).1.contains("wants number 3"));
    let part = livepatch(&[("printk", &[("f", 0)])]);
    assert!(tree.verdict(&part).1.contains("part of this kernel's image"));
}

#[test]
fn what_stops_the_loader_is_told_with_its_error() {
    let fails = |spoil: &dyn Fn(&Tree), module: &Module, expected: &str| {
        let tree = Tree::new();
        spoil(&tree);
        let (outcome, why) = tree.verdict(module);
        assert_eq!(outcome, "would-fail", "{why}");
        assert!(why.starts_with(expected), "{why}");
        assert_eq!(tree.look(module).exit_code, EXIT_FAILS);
    };
    fails(
        &|tree| tree.livepatch("other", "1\n", "f"),
        &pipe(),
        "EBUSY the livepatch other is in transition",
    );
    fails(&|tree| tree.folder("sys/module/livepatch_fix"), &pipe(), "EEXIST");
    fails(
        &|tree| tree.write("proc/sys/kernel/ftrace_enabled", "0\n"),
        &pipe(),
        "EBUSY the tracer is switched off",
    );
    fails(
        &|tree| tree.write("proc/sys/kernel/modules_disabled", "1\n"),
        &pipe(),
        "EPERM",
    );
    let no_livepatching = |tree: &Tree| fs::remove_dir(tree.0.path().join("sys/kernel/livepatch")).unwrap();
    fails(
        &no_livepatching,
        &pipe(),
        "ENOEXEC the running kernel has no livepatching",
    );
    let foreign = Module {
        processor: Some("aarch64"),
        ..pipe()
    };
    fails(&|_| (), &foreign, "ENOEXEC it was built for aarch64");
    fails(
        &|tree| tree.write("sys/kernel/security/lockdown", "none [integrity]\n"),
        &pipe(),
        "EPERM",
    );
    let ambiguous = livepatch(&[("vmlinux", &[("twice", 0)])]);
    fails(&|_| (), &ambiguous, "EINVAL vmlinux has 2 symbols twice");
    let hooks = "sys/kernel/tracing/enabled_functions";
    let probe = |tree: &Tree| {
        tree.write(hooks, "pipe_read (1) R I     M \ttramp: 0x1\n");
        tree.write("sys/kernel/debug/kprobes/list", "0  k  pipe_read+0x4    [FTRACE]\n");
    };
    fails(&probe, &pipe(), "EBUSY a kprobe with a post handler decides already");
    let old_bpf = |tree: &Tree| {
        tree.write(hooks, "pipe_read (1) R   D   M \tdirect-->bpf\n");
        tree.write("proc/sys/kernel/osrelease", "5.15.9\n");
    };
    let old = Module {
        vermagic: Some("5.15.9 SMP ".into()),
        ..pipe()
    };
    fails(&old_bpf, &old, "EBUSY a BPF program is attached");
}

#[test]
fn signed_modules_pass_where_signatures_are_wanted() {
    let tree = Tree::new();
    tree.write("sys/module/module/parameters/sig_enforce", "Y\n");
    let signed = Module { signed: true, ..pipe() };
    assert_eq!(
        (tree.verdict(&signed).0, tree.verdict(&pipe()).0),
        ("clear", "would-fail")
    );
}

#[test]
fn another_livepatch_of_the_function_is_no_obstacle() {
    let tree = Tree::new();
    tree.livepatch("earlier", "0\n", "pipe_read");
    tree.write(
        "sys/kernel/tracing/enabled_functions",
        "pipe_read (1) R I     M \ttramp: 0x1\n",
    );
    assert_eq!(tree.verdict(&pipe()), ("clear", String::new()));
    assert!(tree.notes(&pipe()).contains("the livepatch earlier is loaded"));
}

#[test]
fn who_is_in_a_function_and_cannot_be_woken_stalls() {
    let tree = Tree::new();
    tree.task(7, "cat", 0, "S", "pipe_read");
    assert_eq!(tree.verdict(&pipe()).0, "clear");
    assert_eq!(
        tree.notes(&pipe()),
        "cat (7) is in pipe_read now; the kernel wakes such tasks after 15 s"
    );
    tree.task(8, "kworker/0:1", 0x0020_0040, "I", "pipe_read");
    let (outcome, why) = tree.verdict(&pipe());
    assert_eq!(
        (outcome, &*why),
        (
            "would-stall",
            "- kworker/0:1 (8) is in pipe_read now, where no signal wakes a task"
        )
    );
    assert_eq!(tree.look(&pipe()).exit_code, EXIT_STALLS);
    tree.task(9, "dd", 0, "D", "pipe_read");
    assert!(tree.verdict(&pipe()).1.starts_with("- dd (9), kworker/0:1 (8) are in"));
}

#[test]
fn a_name_that_several_functions_have_proves_nothing() {
    let tree = Tree::new();
    let second = livepatch(&[("vmlinux", &[("twice", 2)])]);
    tree.task(8, "kthread", 0x0020_0040, "S", "twice");
    let (outcome, why) = tree.verdict(&second);
    assert_eq!(outcome, "unknown", "{why}");
    tree.task(8, "kthread", 0x0020_0040, "S", "other");
    tree.write(
        "sys/kernel/tracing/enabled_functions",
        "twice (1) R I     M \ttramp: 0x1\n",
    );
    let (outcome, why) = tree.verdict(&second);
    assert_eq!(outcome, "unknown", "{why}");
    assert!(why.contains("which one is not told"), "{why}");
}

#[test]
fn names_of_promoted_statics_may_be_printed_without_their_suffix() {
    let tree = Tree::new();
    tree.task(8, "kthread", 0x0020_0040, "S", "pipe_read");
    tree.write("proc/sys/kernel/osrelease", "6.1.2\n");
    let promoted = Module {
        vermagic: Some("6.1.2 SMP ".into()),
        ..livepatch(&[("vmlinux", &[("pipe_read.llvm.12", 0)])])
    };
    assert_eq!(tree.verdict(&promoted).0, "would-stall");
}

#[test]
fn late_modules_and_probes_are_worth_a_note() {
    let tree = Tree::new();
    let probes = "0  k  pipe_read+0x1c    [OPTIMIZED]\n0  r  do_sys+0x0    [FTRACE]\n";
    tree.write("sys/kernel/debug/kprobes/list", probes);
    let notes = tree.notes(&livepatch(&[
        ("vmlinux", &[("pipe_read", 0), ("do_sys", 0)]),
        ("xfs", &[("f", 0)]),
    ]));
    for text in [
        "xfs is not loaded",
        "pipe_read+0x1c is in code",
        "return probe is on do_sys",
    ] {
        assert!(notes.contains(text), "{notes}");
    }
}

#[test]
fn what_cannot_be_read_is_not_taken_for_good() {
    let tree = Tree::new();
    fs::remove_file(tree.0.path().join("sys/kernel/tracing/enabled_functions")).unwrap();
    assert_eq!(
        (tree.look(&pipe()).outcome, tree.look(&pipe()).exit_code),
        ("unknown", EXIT_ENVIRONMENT)
    );
    let tables = livepatch(&[]);
    assert_eq!(Tree::new().look(&tables).outcome, "unknown");
    assert_eq!(look(&pipe(), Path::new("/no/such/root")).outcome, "unknown");
}
