//! `create-diff-object` as a driver starts it: arguments, exit codes, what is written and what is said.

use std::path::Path;
use std::process::{Command, Output};

fn object(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/objects/x86_64-gcc");
    folder.join(name).into_os_string().into_string().expect("our own names")
}

fn command(options: &[&str], orig: &str, patched: &str, output: &Path) -> Command {
    let orig = object(orig);
    #[expect(
        clippy::disallowed_methods,
        reason = "the rule is for what runs compilers; this is our own program"
    )]
    let mut program = Command::new(env!("CARGO_BIN_EXE_create-diff-object"));
    program.args(options).args([&orig, &object(patched)]);
    program.args(["vmlinux", &orig, "/dev/null", "livepatch"]).arg(output);
    program
}

fn run(options: &[&str], orig: &str, patched: &str, output: &Path) -> Output {
    let mut program = command(options, orig, patched, output);
    program.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn says_with_its_exit_code_what_came_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = folder.path().join("out.o");
    let code = |orig: &str, patched: &str| run(&[], orig, patched, &written).status.code();

    assert_eq!(code("string.orig.o", "string.orig.o"), Some(3));
    assert_eq!(code("data-changed.orig.o", "data-changed.patched.o"), Some(2));
    assert_eq!(code("string.orig.o", "there-is-no-such.o"), Some(1));
    assert!(!written.exists(), "only a patch leaves a file");
    assert_eq!(code("string.orig.o", "string.patched.o"), Some(0));
    kpatch_core::elf::read(&std::fs::read(&written).expect("written")).expect("an object");
}

#[test]
fn a_table_of_functions_is_accepted_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = folder.path().join("out.o");
    let run = |options: &[&str]| run(options, "operations.orig.o", "operations.patched.o", &written);
    for options in [&[][..], &["--accept=other"]] {
        assert_eq!(run(options).status.code(), Some(2));
        assert!(!written.exists(), "only a patch leaves a file");
    }
    let accepted = run(&["--accept=operations"]);
    assert_eq!(accepted.status.code(), Some(0));
    let line = "accepted operations.orig.o .rodata.operations `operations`: ";
    assert!(said(&accepted).contains(line), "{}", said(&accepted));
    assert!(written.exists());
}

#[test]
fn says_why_each_element_is_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = folder.path().join("out.o");
    let mut text = String::new();
    for options in [["--explain"], ["--json"]] {
        for (orig, patched) in [
            ("string.orig.o", "string.patched.o"),
            ("warn-line.orig.o", "warn-line.patched.o"),
            ("string.orig.o", "string.orig.o"),
            ("data-changed.orig.o", "data-changed.patched.o"),
        ] {
            text += &format!("{} {patched}\n", options[0]);
            text += &said(&run(&options, orig, patched, &written));
        }
    }
    insta::assert_snapshot!(text);
}

#[test]
fn sizes_in_the_environment_must_agree_with_the_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let code = |variable: &str, size: &str| {
        let written = folder.path().join("out.o");
        let mut program = command(&["--json"], "jump-label.orig.o", "jump-label.patched.o", &written);
        let output = program.env(variable, size).output().expect("the program starts");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), document["code"].as_str().map(str::to_owned))
    };
    assert_eq!(code("JUMP_STRUCT_SIZE", "16"), (Some(0), None));
    let contradicted = (Some(1), Some("intermediate.struct-size".to_owned()));
    assert_eq!(code("JUMP_STRUCT_SIZE", "24"), contradicted);
    assert_eq!(code("JUMP_STRUCT_SIZE", "12"), contradicted);
    assert_eq!(code("ALT_STRUCT_SIZE", "many"), contradicted);
    assert_eq!(code("ANOTHER_STRUCT_SIZE", "many"), (Some(0), None));
}

#[test]
fn an_error_is_a_document_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(
        &["--json"],
        "string.orig.o",
        "there-is-no-such.o",
        &folder.path().join("out.o"),
    );
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["outcome"], "error");
    assert!(
        document["why"]
            .as_str()
            .is_some_and(|why| why.contains("there-is-no-such.o"))
    );
}
