//! What the rest of the tool relies on when it starts a program.

use super::*;

#[test]
fn children_see_no_build_variables() {
    for name in [
        "MAKEFLAGS",
        "KCFLAGS",
        "KBUILD_OUTPUT",
        "ARCH",
        "LLVM",
        "CC",
        "CARGO_HOME",
        "LD_LIBRARY_PATH",
        "V",
    ] {
        assert!(!child_may_see(name), "{name}");
    }
    for name in ["PATH", "HOME", "https_proxy", "NO_PROXY", "SSL_CERT_FILE"] {
        assert!(child_may_see(name), "{name}");
    }
}

#[test]
fn environment_of_a_child_is_the_short_list() {
    let seen = output(&mut command("env")).unwrap();
    assert!(seen.contains("LC_ALL=C\n"));
    assert!(!seen.contains("CARGO"), "{seen}");
}

#[test]
fn variables_set_for_a_cmd_survive() {
    let shell = shell().unwrap();
    let seen = output(&mut prepare(xshell::cmd!(shell, "env").env("KBUILD_BUILD_USER", "me"))).unwrap();
    assert!(
        seen.contains("KBUILD_BUILD_USER=me\n") && !seen.contains("CARGO"),
        "{seen}"
    );
}

#[test]
fn failure_names_command_status_log_and_tail() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let script = "for i in $(seq 30); do echo line $i; done; exit 3";
    let error = run_logged(command("sh").arg("-c").arg(script), &log)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sh -c 'for i") && error.contains("exit status: 3"),
        "{error}"
    );
    assert!(error.contains(&log.display().to_string()), "{error}");
    assert!(
        error.contains("line 30") && error.contains("line 11") && !error.contains("line 10\n"),
        "{error}"
    );
}

#[test]
fn streamed_lines_come_from_both_outputs_and_reach_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut lines = Vec::new();
    run_streamed(
        command("sh").args(["-c", "echo one; echo two >&2"]),
        &log,
        &mut |line| lines.push(line.to_owned()),
    )
    .unwrap();
    assert_eq!(lines, ["one", "two"]);
    assert!(std::fs::read_to_string(&log).unwrap().ends_with("one\ntwo\n"));
}

#[test]
fn missing_program_is_infrastructure() {
    let error = output(&mut command("no-such-program-here")).unwrap_err();
    assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_ENVIRONMENT);
    assert!(error.to_string().contains("doctor"), "{error}");
}

#[test]
fn missing_working_directory_is_not_called_a_missing_program() {
    let error = output(command("true").current_dir("/no/such/folder")).unwrap_err();
    assert!(!error.to_string().contains("not installed"), "{error}");
}

#[test]
fn words_are_quoted_for_a_shell() {
    assert_eq!(quoted("a=b"), "a=b");
    assert_eq!(quoted("it's"), r"'it'\''s'");
    assert_eq!(quoted(""), "''");
}

const ROLE: &str = "KPATCH_TEST_START_A_CHILD";

/// Not a test by itself: the process that `children_die_with_us` kills.
#[test]
fn parent_that_is_killed() {
    if let Some(file) = std::env::var_os(ROLE) {
        let script = format!("echo $$ > {}; exec sleep 600", Path::new(&file).display());
        output(command("sh").arg("-c").arg(script)).unwrap();
    }
}

#[test]
fn children_die_with_us() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut parent = command(std::env::current_exe().unwrap());
    parent
        .args(["--exact", "sh::tests::parent_that_is_killed", "--test-threads=1"])
        .env(ROLE, &file);
    let mut parent = parent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = loop {
        match std::fs::read_to_string(&file).unwrap_or_default().trim() {
            "" => std::thread::sleep(std::time::Duration::from_millis(5)),
            pid => break pid.to_owned(),
        }
    };
    let status = PathBuf::from(format!("/proc/{pid}/stat"));
    assert!(status.exists());
    // SIGKILL: no handler of ours can help.
    parent.kill().unwrap();
    parent.wait().unwrap();
    let dead = || std::fs::read_to_string(&status).map_or(true, |text| text.contains(") Z "));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !dead() {
        assert!(std::time::Instant::now() < until, "process {pid} outlived us");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_disk_that_is_full_for_a_tool_is_full_for_us() {
    let said = |words: &str| {
        let mut command = command("sh");
        command.args(["-c", &format!("echo 'ld.lld: error: {words}' >&2; exit 1")]);
        crate::outcome::exit_code(&output(&mut command).unwrap_err())
    };
    assert_eq!(said("cannot open output file x.o: No space left on device"), 69);
    assert_eq!(said("undefined symbol: x"), 1);
}
