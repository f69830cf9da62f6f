//! Livepatches come and go on a fake machine: what is in effect, what stays, what is said.

use std::time::Duration;

use clap::Parser;

use crate::cli::Cli;
use crate::commands;
use crate::error::{EXIT_ENVIRONMENT, EXIT_FAILED, EXIT_NOT_IN_EFFECT, EXIT_OK, EXIT_USAGE, Error};
use crate::fake::{Fake, RELEASE, Spec};
use crate::kernel::Kernel as _;
use crate::livepatch::State;
use crate::load;
use crate::module::ModuleFile;

mod files;
mod packages;

const LIMIT: Duration = Duration::from_secs(5);

/// Runs a command line; lines and exit code.
fn run(fake: &Fake, line: &str) -> (String, u8) {
    let words = ["kpatch"].into_iter().chain(line.split_whitespace());
    let cli = Cli::try_parse_from(words).unwrap();
    match commands::answer(&cli.command, &fake.machine, fake) {
        Ok(answer) => (answer.lines().join("\n"), answer.code()),
        Err(error) => (error.to_string(), error.exit_code()),
    }
}

fn file(fake: &Fake, name: &str, spec: Spec) -> String {
    fake.file(name, &spec).path.display().to_string()
}

fn state(fake: &Fake, name: &str) -> Option<State> {
    fake.machine.livepatch(name).map(|livepatch| livepatch.state)
}

#[test]
fn a_livepatch_is_loaded_seen_and_taken_out() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    assert_eq!(run(&fake, "status").1, EXIT_NOT_IN_EFFECT);
    assert_eq!(run(&fake, &format!("load {one}")).1, EXIT_OK);
    let (text, code) = run(&fake, "status");
    assert_eq!(code, EXIT_OK, "{text}");
    assert!(
        text.contains("one: in effect, 1 function") && text.contains("fixes fix of one"),
        "{text}"
    );
    assert!(run(&fake, &format!("load {one}")).0.contains("already"));
    assert_eq!(run(&fake, "unload one").1, EXIT_OK);
    assert!(state(&fake, "one").is_none() && !fake.machine.has_module("one"));
    assert_eq!(run(&fake, "unload one").1, EXIT_NOT_IN_EFFECT);
    assert_eq!(run(&fake, "history").0.lines().count(), 4);
}

#[test]
fn a_transition_that_stalls_is_turned_round_and_says_who_held_it_up() {
    let fake = Fake::new();
    let [old, new] = ["old", "new"].map(|name| file(&fake, name, Spec::default()));
    run(&fake, &format!("load {old}"));
    fake.task(77, "0", "wait_for_it");
    fake.task(78, "1", "wait_for_it");
    fake.pauses.set(80);
    let (text, code) = run(&fake, &format!("load {new} --timeout 5"));
    // It took longer than the limit both ways, so it is not out of memory.
    assert_eq!(code, EXIT_FAILED);
    assert!(text.contains("a (sleeper) (task 77, state D) in wait_for_it"), "{text}");
    assert!(!text.contains("task 78"), "{text}");
    let fake = Fake::new();
    let [old, new] = ["old", "new"].map(|name| file(&fake, name, Spec::default()));
    run(&fake, &format!("load {old}"));
    fake.pauses.set(60);
    let (text, code) = run(&fake, &format!("load {new} --timeout 4"));
    assert_eq!(code, EXIT_FAILED);
    assert!(text.contains("could not be taken back"), "{text}");
    fake.pauses.set(30);
    let (text, code) = run(&fake, "status --wait 60");
    assert_eq!(code, EXIT_OK, "the old one stays in effect: {text}");
}

#[test]
fn a_newer_one_replaces_an_older_one() {
    let fake = Fake::new();
    let [old, new] = ["old", "new"].map(|name| file(&fake, name, Spec::default()));
    run(&fake, &format!("load {old}"));
    let (text, _) = run(&fake, &format!("load {new}"));
    assert!(text.contains("old: replaced, and out of memory"), "{text}");
    assert!(!fake.machine.has_module("old"));
}

#[test]
fn what_the_kernel_may_still_use_stays_in_memory() {
    let fake = Fake::new();
    let keep = Spec {
        keep: true,
        ..Spec::default()
    };
    let old = file(&fake, "old", keep.clone());
    let new = file(&fake, "new", Spec::default());
    run(&fake, &format!("load {old}"));
    let (text, _) = run(&fake, &format!("load {new}"));
    assert!(
        text.contains("old stays in memory: the kernel may still have the address of new_timer"),
        "{text}"
    );
    assert!(fake.machine.has_module("old"));
    let (text, code) = run(&fake, &format!("load {old}"));
    assert!(code == EXIT_FAILED && text.contains("before the next boot"), "{text}");
    let again = file(
        &fake,
        "old",
        Spec {
            build: 7,
            ..Spec::default()
        },
    );
    let (text, code) = run(&fake, &format!("load {again}"));
    assert!(
        code == EXIT_FAILED && text.contains("before the next boot"),
        "a build that keeps nothing does not free the one in memory: {text}"
    );

    let kept = file(&fake, "kept", keep);
    run(&fake, &format!("load {kept}"));
    let (text, code) = run(&fake, "unload kept");
    assert!(
        code == EXIT_OK && text.contains("not in effect any more; kept stays in memory"),
        "{text}"
    );
    assert!(fake.machine.has_module("kept"));
    assert_eq!(run(&fake, "unload kept --remove-kept").1, EXIT_OK);
    assert!(!fake.machine.has_module("kept"));
}

#[test]
fn a_module_of_another_builder_is_handled_and_not_guessed_about() {
    let fake = Fake::new();
    let foreign = Spec {
        foreign: true,
        ..Spec::default()
    };
    let [old, new] = ["old", "new"].map(|name| file(&fake, name, foreign.clone()));
    run(&fake, &format!("load {old}"));
    let (text, code) = run(&fake, &format!("load {new}"));
    assert!(
        code == EXIT_OK && text.contains("old stays in memory: it does not say"),
        "{text}"
    );
    assert_eq!(run(&fake, "unload new").1, EXIT_OK);
    assert!(!fake.machine.has_module("new"), "who asks for it gets what rmmod does");
}

#[test]
fn a_module_that_holds_itself_is_disabled_and_said_to_stay() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("load {one}"));
    fake.permanent.borrow_mut().push("one".to_owned());
    let (text, code) = run(&fake, "unload one");
    assert!(
        code == EXIT_OK && text.contains("it holds itself, or somebody else does"),
        "{text}"
    );
}

#[test]
fn another_kernel_another_content_and_a_refusal_are_errors() {
    let fake = Fake::new();
    let other = Spec {
        release: Some("6.2.0"),
        ..Spec::default()
    };
    let other = file(&fake, "other", other);
    assert_eq!(run(&fake, &format!("load {other}")).1, EXIT_USAGE);
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("load {one}"));
    let changed = Spec {
        build: 7,
        ..Spec::default()
    };
    file(&fake, "one", changed);
    let (text, code) = run(&fake, &format!("load {one}"));
    assert!(code == EXIT_FAILED && text.contains("has other content"), "{text}");
    let two = file(&fake, "two", Spec::default());
    fake.refuses.set(Some(rustix::io::Errno::INVAL.raw_os_error()));
    let (text, code) = run(&fake, &format!("load {two}"));
    assert!(
        code == EXIT_FAILED && text.contains("symbol 'f' not found") && !text.contains("usb"),
        "{text}"
    );
    fake.put("sys/module/module/parameters/sig_enforce", "Y\n");
    fake.refuses.set(Some(rustix::io::Errno::KEYREJECTED.raw_os_error()));
    let (text, code) = run(&fake, &format!("load {two}"));
    assert!(code == EXIT_FAILED && text.contains("(module.sig_enforce)"), "{text}");
    fake.put("root/plain.ko", "text");
    let plain = fake.path("root/plain.ko");
    assert_eq!(run(&fake, &format!("load {}", plain.display())).1, EXIT_USAGE);
    assert_eq!(run(&fake, "load nothing_of_the_kind").1, EXIT_NOT_IN_EFFECT);
    std::fs::remove_dir_all(fake.path("sys/kernel/livepatch")).unwrap();
    assert_eq!(run(&fake, &format!("load {two}")).1, EXIT_ENVIRONMENT);
}

#[test]
fn another_build_of_the_kernel_or_of_a_module_is_not_patched() {
    let fake = Fake::new();
    let of = |image| Spec {
        image,
        ..Spec::default()
    };
    let right = file(&fake, "right", of("abababab"));
    let wrong = file(&fake, "wrong", of("00000000"));
    let (text, code) = run(&fake, &format!("load {wrong}"));
    assert!(
        code == EXIT_FAILED && text.contains("another build of vmlinux"),
        "{text}"
    );
    assert!(!fake.machine.has_module("wrong"));
    assert_eq!(
        run(&fake, &format!("load {right}")).1,
        EXIT_OK,
        "a module that is not there is no objection"
    );
    run(&fake, "unload right");
    let note = crate::fake::note(b"GNU\0", 3, &[2; 4]);
    fake.put("sys/module/ext4/notes/.note.gnu.build-id", note);
    let (text, code) = run(&fake, &format!("load {right}"));
    assert!(code == EXIT_FAILED && text.contains("another build of ext4"), "{text}");
}

#[test]
fn a_boot_that_ended_badly_leaves_its_livepatches_out_of_the_next_one() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("install {one}"));
    assert_eq!(run(&fake, "autoload").1, EXIT_OK);
    assert_eq!(state(&fake, "one"), Some(State::InEffect));
    run(&fake, "autoload --healthy");

    fake.boot("two");
    assert_eq!(run(&fake, "autoload").1, EXIT_OK, "the last boot was healthy");
    fake.boot("three");
    let (text, code) = run(&fake, "autoload");
    assert!(code == EXIT_FAILED && text.contains("one: left out"), "{text}");
    assert!(state(&fake, "one").is_none());
    let (text, code) = run(&fake, "status");
    assert!(code == EXIT_NOT_IN_EFFECT && text.contains("left out"), "{text}");
    fake.boot("four");
    assert_eq!(
        run(&fake, "autoload").1,
        EXIT_FAILED,
        "it is left out until somebody says otherwise"
    );
    assert_eq!(run(&fake, "load one").1, EXIT_OK);
    fake.boot("five");
    assert_eq!(run(&fake, "autoload").1, EXIT_OK, "it was loaded by hand since");
}

#[test]
fn a_stack_is_taken_down_from_the_top_and_each_is_written_down_once() {
    let fake = Fake::new();
    let names = ["a_bottom", "b_middle", "c_top"];
    fake.stack.replace(names.map(str::to_owned).to_vec());
    for name in names {
        let path = file(&fake, name, Spec::default());
        assert_eq!(run(&fake, &format!("load {path}")).1, EXIT_OK);
    }
    let (text, code) = run(&fake, "unload a_bottom");
    assert_eq!(code, EXIT_FAILED);
    assert!(text.contains("another livepatch lies on top of it"), "{text}");
    assert_eq!(run(&fake, "unload --all").1, EXIT_OK);
    assert!(names.iter().all(|name| state(&fake, name).is_none()));
    let history = run(&fake, "history").0;
    assert_eq!(
        history.lines().filter(|line| line.contains("unload")).count(),
        4,
        "the refusal, and three that went: {history}"
    );
}

#[test]
fn one_that_stalls_is_tried_once() {
    let fake = Fake::new();
    let names = ["a_bottom", "b_top"];
    fake.stack.replace(names.map(str::to_owned).to_vec());
    for name in names {
        let path = file(&fake, name, Spec::default());
        assert_eq!(run(&fake, &format!("load {path}")).1, EXIT_OK);
    }
    fake.pauses.set(u32::MAX);
    let (text, code) = run(&fake, "unload --all --timeout 2");
    assert_eq!(code, EXIT_FAILED, "{text}");
    let history = run(&fake, "history").0;
    assert_eq!(
        history.matches("not every task had changed over").count(),
        1,
        "{history}"
    );
}

#[test]
fn what_was_being_loaded_is_to_blame_and_nobody_else() {
    let fake = Fake::new();
    for name in ["good", "wild"] {
        let path = file(&fake, name, Spec::default());
        run(&fake, &format!("install {path}"));
    }
    fake.dies_of.replace(Some("wild".to_owned()));
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&fake, "autoload")));
    assert!(died.is_err());
    fake.dies_of.replace(None);
    fake.boot("two");
    let (text, _) = run(&fake, "autoload");
    assert!(
        text.contains("good: in effect") && text.contains("wild: left out"),
        "{text}"
    );
}

#[test]
fn a_new_content_is_not_the_one_that_was_left_out() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("install {one}"));
    run(&fake, "autoload");
    fake.boot("two");
    assert_eq!(run(&fake, "autoload").1, EXIT_FAILED);
    let changed = Spec {
        build: 7,
        ..Spec::default()
    };
    let one = file(&fake, "one", changed);
    run(&fake, &format!("install {one}"));
    assert_eq!(run(&fake, "autoload").1, EXIT_OK);
}

#[test]
fn the_same_boot_may_start_the_service_twice_and_the_command_line_switches_it_off() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("install {one}"));
    run(&fake, "autoload");
    assert_eq!(run(&fake, "autoload").1, EXIT_OK);
    run(&fake, "autoload --healthy");
    fake.boot("two");
    fake.put("proc/cmdline", "quiet kpatch=off");
    assert_eq!(run(&fake, "autoload").1, EXIT_OK);
    assert!(state(&fake, "one").is_none());
}

#[test]
fn what_is_installed_is_copied_listed_and_removed() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("install {one}"));
    let path = fake.path(&format!("var/lib/kpatch/{RELEASE}/one.ko"));
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&one).unwrap());
    assert!(run(&fake, "list").0.contains(&format!("one ({})", path.display())));
    assert_eq!(run(&fake, &format!("install {one} --kernel-version 5.0")).1, EXIT_USAGE);
    assert_eq!(run(&fake, "uninstall one").1, EXIT_OK);
    assert_eq!(run(&fake, "uninstall one").1, EXIT_NOT_IN_EFFECT);
    // What packages bring is loaded as well, and not removed behind their back.
    fake.put(
        &format!("usr/lib/kpatch/{RELEASE}/one.ko"),
        std::fs::read(&one).unwrap(),
    );
    assert!(run(&fake, "list").0.contains("usr/lib/kpatch"));
    assert_eq!(run(&fake, "uninstall one").1, EXIT_USAGE);
    assert_eq!(run(&fake, "load --all").1, EXIT_OK);
}

#[test]
fn damaged_files_are_errors_and_keep_nobody_else_out() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("install {one}"));
    fake.put(&format!("var/lib/kpatch/{RELEASE}/bad.ko"), "text");
    let (text, code) = run(&fake, "load --all");
    assert!(
        code == EXIT_FAILED && text.contains("one: in effect") && text.contains("bad.ko"),
        "{text}"
    );
    fake.put(&format!("var/lib/kpatch/{RELEASE}/loading-at-boot.json"), "{");
    assert_eq!(run(&fake, "autoload").1, EXIT_ENVIRONMENT);
    let whole = std::fs::read(&one).unwrap();
    for length in (0..whole.len()).step_by(7) {
        fake.put("root/cut.ko", &whole[..length]);
        // An error or a module, never a panic.
        let _ = ModuleFile::read(&fake.path("root/cut.ko"));
    }
}

#[test]
fn a_module_that_takes_its_time_to_let_go_is_waited_for() {
    let fake = Fake::new();
    let one = fake.file("one", &Spec::default());
    load::load(&fake.machine, &fake, &one, LIMIT).unwrap();
    let error = crate::unload::remove_module(&fake.machine, &fake, "one").unwrap_err();
    assert!(matches!(error, Error::Failed(_)));
    assert!(fake.elapsed() >= Duration::from_secs(5));
}
