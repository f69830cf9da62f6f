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
fn sizes_in_the_environment_that_the_objects_contradict_do_not_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |options: &[&str], variable: &str, size: &str| {
        let written = folder.path().join("out.o");
        let mut program = command(options, "jump-label.orig.o", "jump-label.patched.o", &written);
        let output = program.env(variable, size).output().expect("the program starts");
        let bytes = std::fs::read(&written).ok();
        drop(std::fs::remove_file(&written));
        (output, bytes)
    };
    let document = |variable: &str, size: &str| -> serde_json::Value {
        serde_json::from_slice(&run(&["--json"], variable, size).0.stdout).expect("JSON")
    };
    let (agreed, written) = run(&[], "JUMP_STRUCT_SIZE", "16");
    assert_eq!((agreed.status.code(), agreed.stderr.as_slice()), (Some(0), &b""[..]));
    for size in ["24", "12"] {
        let (output, bytes) = run(&[], "JUMP_STRUCT_SIZE", size);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(bytes, written, "the object is the same");
        let told = String::from_utf8(output.stderr).expect("text");
        assert!(told.starts_with("note[intermediate.struct-size] "), "{told}");
        let rows = document("JUMP_STRUCT_SIZE", size)["contradicted"]
            .as_array()
            .map(Vec::len);
        assert_eq!(rows, Some(1), "one line for the table, not one for each entry");
    }
    assert_eq!(document("ALT_STRUCT_SIZE", "many")["code"], "intermediate.struct-size");
    assert_eq!(document("ANOTHER_STRUCT_SIZE", "many")["outcome"], "written");
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
