//! The program as it is installed: exit codes, what goes to which output, and which files are left. No kernel, compiler
//! or QEMU is needed.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kpatch_build::sh;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const KPATCH: &str = env!("CARGO_BIN_EXE_kpatch");

/// A home of its own, so that nothing of the machine's user is read or written.
struct Home(TempDir);

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Home {
    fn new() -> Self {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = sh::command(program);
        command.env("HOME", self.path()).current_dir(self.path());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        self.run_with(words, &[])
    }

    fn run_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = self.command(KPATCH);
        command.args(words).envs(variables.iter().copied());
        finished(&mut command)
    }

    /// A command line of the shell in which `$0` is the program.
    fn shell(&self, line: &str) -> Ran {
        finished(self.command("sh").args(["-c", line, KPATCH]))
    }

    /// Every file and folder below.
    fn left(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        found.sort();
        found
    }
}

fn finished(command: &mut std::process::Command) -> Ran {
    let (status, out, err) = sh::captured(command).unwrap();
    Ran {
        code: status.code().unwrap(),
        out,
        err,
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn without_arguments_there_is_help_and_an_error() {
    let home = Home::new();
    for words in [&[][..], &["kernel"], &["store"]] {
        let ran = home.run(words);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{words:?}");
        assert!(ran.err.contains("Usage: kpatch"), "{}", ran.err);
    }
    let help = home.run(&["--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("Usage: kpatch") && help.out.contains("Global options:"));
    assert!(home.left().is_empty(), "{:?}", home.left());
}

#[test]
fn a_wrong_command_line_is_64_and_a_document_too() {
    let home = Home::new();
    let ran = home.run(&["build", "x.patch", "--kernal", "6.12"]);
    assert_eq!((ran.code, ran.out.as_str()), (64, ""));
    assert!(ran.err.contains("--kernal"), "{}", ran.err);
    let ran = home.run(&["build", "x.patch", "--kernal", "6.12", "--json"]);
    let document = json(&ran.out);
    assert_eq!(ran.code, 64);
    assert_eq!(
        (&document["format"], &document["outcome"]),
        (&1.into(), &"usage".into())
    );
    let ran = home.run(&["build", "x.patch", "--", "--json"]);
    assert_eq!(ran.out, "", "what stands behind -- is no option");
    assert!(home.left().iter().all(|path| path.ends_with(".cache")));
}

#[test]
fn what_is_not_there_is_told_before_anything_long() {
    let home = Home::new();
    fs::write(home.path().join("a.patch"), "--- a/x\n").unwrap();
    for (words, said) in [
        (
            &["build", "no.patch", "--kernel", "6.12"][..],
            "error: no such patch: no.patch\n",
        ),
        (
            &["build", "a.patch", "--kernel", "6.12", "--boot", "--check", "nosuch.sh"],
            "error: --check nosuch.sh: No such file or directory (os error 2)\n",
        ),
        (
            &["build", "a.patch", "--kernel", "6.12", "--name", "bad name!"],
            "error: invalid module name `bad name!`: use letters, digits, `_` and `-`, at most ",
        ),
        (
            &["build", "a.patch", "--kernel", "6.12", "--module-dir", "nosuch"],
            "error: --module-dir nosuch: No such file or directory (os error 2)\n",
        ),
        (
            &[
                "build",
                "a.patch",
                "--kernel",
                "6.1.0-47-cloud-amd64",
                "--module-dir",
                ".",
            ],
            "error: --module-dir: 6.1.0-47-cloud-amd64 is a distribution's kernel, and ",
        ),
        (
            &["build", "a.patch"],
            "error: no kernel given: pass --kernel (`kpatch kernel list` shows them) or --source\n",
        ),
        (
            &["build", "a.patch", "--kernel", "5.0"],
            "error: no manifest for kernel 5.0; known: ",
        ),
        (
            &["store", "ls", "--store", "nowhere"],
            "error: --store nowhere: no such folder\n",
        ),
    ] {
        let ran = home.run(words);
        assert_eq!((ran.code, ran.out.as_str()), (64, ""), "{words:?}: {}", ran.err);
        assert!(ran.err.starts_with(said), "{words:?}: {}", ran.err);
    }
    let left: Vec<_> = home.left();
    assert_eq!(left, [home.path().join(".cache"), home.path().join("a.patch")]);
}

#[test]
fn config_says_where_each_value_comes_from() {
    let home = Home::new();
    let folder = home.path().join(".config/kpatch");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.yaml"), "kernel: 6.12\njobs: 3\n").unwrap();
    let ran = home.run_with(&["config", "--json"], &[("KPATCH_JOBS", "5")]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let document = json(&ran.out);
    let of = |name: &str| {
        let settings = document["settings"].as_array().unwrap().clone();
        let found = settings.into_iter().find(|one| one["name"] == name).unwrap();
        (found["value"].clone(), found["from"].clone())
    };
    assert_eq!(
        of("jobs"),
        ("5".into(), serde_json::json!({"environment": "KPATCH_JOBS"}))
    );
    assert_eq!(of("kernel").0, "6.12");
    assert_eq!(of("config"), ("small".into(), "built-in".into()));
    fs::write(folder.join("config.yaml"), "kernal: 6.12\n").unwrap();
    let ran = home.run(&["config"]);
    assert_eq!(ran.code, 64);
    assert!(ran.err.contains("unknown setting `kernal`"), "{}", ran.err);
    assert_eq!(json(&home.run(&["config", "--json"]).out)["outcome"], "usage");
}

#[test]
fn kernel_list_works_in_any_folder_and_makes_a_store_where_it_is_told() {
    let home = Home::new();
    let store = home.path().join("store");
    let ran = home.run(&["kernel", "list", "--store", store.to_str().unwrap()]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.contains(" (default for 6.12)\n"), "{}", ran.out);
    assert_eq!(home.left(), [store]);
    let document = json(&home.run(&["kernel", "list", "--json"]).out);
    assert_eq!(document["format"], 1);
    assert!(document["kernels"].as_array().is_some_and(|kernels| kernels.len() > 1));
}

#[test]
fn an_empty_store_has_nothing_to_remove() {
    let home = Home::new();
    assert_eq!(home.run(&["store", "gc"]).out, "nothing to remove\n");
    let document = json(&home.run(&["store", "ls", "--json"]).out);
    assert_eq!(document, serde_json::json!({"format": 1, "entries": []}));
}

#[test]
fn doctor_checks_one_architecture_unless_asked_for_all() {
    let home = Home::new();
    let jobs = |words: &[&str]| {
        let ran = home.run(words);
        let document = json(&ran.out);
        let complete = document["packages"].as_array().unwrap().is_empty();
        assert_eq!(ran.code, if complete { 0 } else { 69 }, "{words:?}");
        let jobs = document["jobs"].as_array().unwrap();
        let names: Vec<String> = jobs
            .iter()
            .map(|job| job["name"].as_str().unwrap().to_owned())
            .collect();
        names.join(", ")
    };
    let usual = jobs(&["doctor", "--kernel", "6.12", "--json"]);
    assert!(usual.contains("x86_64") && !usual.contains("ppc64le"), "{usual}");
    let other = jobs(&["doctor", "--kernel", "6.12", "--arch", "ppc64le", "--json"]);
    assert!(!other.contains("x86_64") && other.contains("ppc64le"), "{other}");
    let all = jobs(&["doctor", "--kernel", "6.12", "--arch", "all", "--json"]);
    assert!(all.contains("x86_64") && all.contains("ppc64le"), "{all}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = Home::new();
    let ran = home.shell("{ \"$0\" kernel list; echo \"code $?\" >&2; } | true");
    assert_eq!(ran.err, "code 0\n");
    let ran = home.shell("\"$0\" kernel list >/dev/full");
    assert_eq!(ran.code, 69);
    assert!(
        ran.err
            .starts_with("error: environment problem: cannot write to standard output"),
        "{}",
        ran.err
    );
    let ran = home.shell("\"$0\" kernel list --events /dev/full >/dev/null");
    assert_eq!(ran.code, 69, "{}", ran.err);
}

#[test]
fn events_begin_and_end_the_same_way_however_the_run_ends() {
    let home = Home::new();
    let lines = |text: &str| text.lines().map(json).collect::<Vec<_>>();
    let ran = home.run(&["kernel", "list", "--events", "-"]);
    let events = lines(&ran.out);
    assert_eq!(events[0]["event"], "begun");
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&"ended".into(), &0.into()));
    assert!(last["document"]["kernels"].is_array());
    let ran = home.run(&["build", "no.patch", "--kernel", "6.12", "--events", "e", "--json"]);
    assert_eq!(json(&ran.out)["exit_code"], 64);
    let events = lines(&fs::read_to_string(home.path().join("e")).unwrap());
    let last = events.last().unwrap();
    assert_eq!(
        (&last["exit_code"], &last["document"]["outcome"]),
        (&64.into(), &"usage".into())
    );
    let ran = home.run(&["kernel", "list", "--events", "no/such/folder"]);
    assert_eq!((ran.code, ran.out.as_str()), (64, ""));
}

/// Waits until something is there, as long as that can take on a busy machine.
fn awaited<T>(what: &str, find: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether this process, and with it what it starts, ignores a signal.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

/// Sends a signal to a run that is under way and waits for its end: exit code and what it wrote to standard error.
fn stopped(mut run: Child, signal: Signal) -> (Option<i32>, String) {
    kill_process(Pid::from_child(&run), signal).unwrap();
    let mut err = String::new();
    run.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (run.wait().unwrap().code(), err)
}

#[test]
fn a_run_that_works_by_itself_can_be_stopped_and_leaves_nothing() {
    let home = Home::new();
    // Under nohup(1) the program does not listen for SIGHUP, and would wait for its patch for ever.
    let signals = [Signal::INT, Signal::TERM, Signal::HUP];
    for signal in signals.into_iter().filter(|signal| !is_ignored(*signal)) {
        let mut command = home.command(KPATCH);
        command.args(["build", "-", "--kernel", "6.12"]);
        let run = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It waits for a patch that never comes, with its work folder open.
        let open = PathBuf::from(format!("/proc/{}/fd", run.id()));
        let work = awaited("no work folder", || {
            let files = fs::read_dir(&open).ok()?.flatten();
            let mut paths = files.filter_map(|file| fs::read_link(file.path()).ok());
            paths.find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("run-"))
            })
        });
        awaited("no folder for the patch", || {
            work.join("piped/0").is_dir().then_some(())
        });
        assert_eq!(
            stopped(run, signal),
            (Some(130), "interrupted\n".to_owned()),
            "{signal:?}"
        );
        assert!(!work.exists(), "{}", work.display());
    }
}

#[test]
fn programs_that_a_run_has_started_end_with_it() {
    let home = Home::new();
    let put = |path: &str, text: &str| {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let compiler = home.path().join("cc");
    put("cc", "#!/bin/sh\nsleep 600 &\necho $! >\"$HOME/pid\"\nwait\n");
    fs::set_permissions(&compiler, fs::Permissions::from_mode(0o755)).unwrap();
    put("a.patch", "--- a/init/main.c\n+++ b/init/main.c\n@@ -1 +1 @@\n-a\n+b\n");
    put("tree/Kbuild", "");
    put("tree/vmlinux", "");
    put("tree/.config", "CONFIG_X86_64=y\nCONFIG_LIVEPATCH=y\n");
    put("tree/include/config/kernel.release", "6.12.0\n");
    let (source, compiler) = (home.path().join("tree/init/main.c"), compiler.display());
    let record = format!(
        "{compiler} -D__KERNEL__ -c -o init/main.o {0}\n\nsource_init/main.o := {0}\n",
        source.display()
    );
    put("tree/init/.main.o.cmd", &format!("savedcmd_init/main.o := {record}"));
    put(
        "tree/.vmlinux.o.cmd",
        "savedcmd_vmlinux.o := ld -r -o vmlinux.o --whole-archive vmlinux.a --no-whole-archive ; ./objtool vmlinux.o\n",
    );
    put(
        "tree/vmlinux.a",
        &format!(
            "!<thin>\n//{:46}{:<10}`\ninit/main.o/\n\n{:<16}0           0     0     644     {:<10}`\n",
            "", 13, "/0", 8
        ),
    );
    put("tree/modules.order", "");
    let run = home
        .command(KPATCH)
        .args(["build", "a.patch", "--source", "tree", "-v"])
        .stderr(Stdio::piped())
        .spawn();
    let pid = home.path().join("pid");
    let pid = awaited("the compiler was not asked", || {
        let text = fs::read_to_string(&pid).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    });
    let (code, err) = stopped(run.unwrap(), Signal::TERM);
    assert_eq!(code, Some(130), "{err}");
    assert!(err.ends_with("interrupted\n"), "{err}");
    awaited("a child is left", || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat"));
        state.map_or(true, |state| state.contains(") Z ")).then_some(())
    });
}

#[test]
fn completions_and_manual_pages_are_whole() {
    let home = Home::new();
    let script = home.run(&["completions", "bash"]);
    assert_eq!((script.code, script.err.as_str()), (0, ""));
    assert!(script.out.contains("_kpatch()") && script.out.contains("--no-replace"));
    let ran = home.run(&["man", "pages"]);
    assert_eq!(ran.code, 0);
    let page = fs::read_to_string(home.path().join("pages/kpatch-build.1")).unwrap();
    assert!(
        page.contains(".SH \"BOOT TEST\"") || page.contains("Boot test"),
        "{page}"
    );
}

#[test]
fn preflight_wants_a_livepatch() {
    let home = Home::new();
    fs::write(home.path().join("a.ko"), "no module").unwrap();
    let ran = home.run(&["preflight", "a.ko", "--json"]);
    assert_eq!(ran.code, 64, "{}", ran.err);
    let document = json(&ran.out);
    assert_eq!(document["exit_code"], 64);
    assert_eq!(document["outcome"], "usage", "{document}");
    assert!(
        ran.err.contains("a.ko"),
        "errors are on standard error as well: {}",
        ran.err
    );
}

#[test]
fn options_that_would_do_nothing_are_usage_errors() {
    let home = Home::new();
    for (words, named) in [
        (&["status", "--events", "-"][..], "--events"),
        (&["build", "a.patch", "--dry-run", "--sign-cert", "a.pem"], "--dry-run"),
    ] {
        let ran = home.run(words);
        assert!(ran.code == 64 && ran.err.contains(named), "{words:?}: {}", ran.err);
    }
}
