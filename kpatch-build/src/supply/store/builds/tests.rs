//! What is found under a build's key is whole, whatever happened before.

use std::process::Command;
use std::time::Duration;

use super::*;

const ROLE: &str = "KPATCH_TEST_STORE_TO_BUILD_IN";

fn inputs() -> BuildInputs {
    BuildInputs {
        recipe: 1,
        version: "6.12.1".into(),
        arch: "x86_64".into(),
        config: "small".into(),
        source_sha256: "ab".into(),
        config_base: "allnoconfig".into(),
        fragments: vec!["CONFIG_A=y".into()],
        profiles: ProfileTexts::default(),
        make_variables: vec![],
        targets: vec!["vmlinux".into()],
        toolchain: vec!["clang 19".into()],
    }
}

const PARTS: usize = 40;

/// A tiny build that takes long enough to be killed in the middle.
fn make(new: &NewBuild) {
    for part in 0..PARTS {
        std::fs::write(new.build().join(format!("{part}.o")), format!("part {part}")).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn build(store: &Store) -> OpenBuild {
    if let BuildSlot::Empty(new) = store.build(&inputs(), &|_, _| {}).unwrap() {
        make(&new);
        new.finish("6.12.1", std::time::Duration::from_secs(1)).unwrap();
    }
    match store.build(&inputs(), &|_, _| {}).unwrap() {
        BuildSlot::Ready(open) => open,
        BuildSlot::Empty(_) => panic!("it was just built"),
    }
}

#[test]
fn a_finished_build_is_found_and_other_inputs_are_another_build() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let open = build(&store);
    assert_eq!(open.release, "6.12.1");
    assert!(store.damage_of_build(&open.key).unwrap().is_empty());
    let other = BuildInputs {
        toolchain: vec!["clang 22".into()],
        ..inputs()
    };
    assert!(matches!(store.build(&other, &|_, _| {}).unwrap(), BuildSlot::Empty(_)));
}

#[test]
fn an_abandoned_build_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let BuildSlot::Empty(new) = store.build(&inputs(), &|_, _| {}).unwrap() else {
        panic!("new store")
    };
    make(&new);
    drop(new);
    assert!(place::names(&folder.path().join("builds")).unwrap().is_empty());
    assert!(place::names(&folder.path().join("trash")).unwrap().is_empty());
}

#[test]
fn a_build_without_files_is_not_a_build() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let BuildSlot::Empty(new) = store.build(&inputs(), &|_, _| {}).unwrap() else {
        panic!("new store")
    };
    assert!(new.finish("6.12.1", std::time::Duration::from_secs(1)).is_err());
    assert!(place::names(&folder.path().join("builds")).unwrap().is_empty());
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let open = build(&store);
    std::fs::write(open.build.join("7.o"), "other").unwrap();
    assert_eq!(store.damage_of_build(&open.key).unwrap(), ["7.o"]);
}

/// Not a test by itself: the process that `killed_at_any_moment` starts and kills.
#[test]
fn child_that_is_killed() {
    if let Some(root) = std::env::var_os(ROLE) {
        build(&Store::open(Some(Path::new(&root))).unwrap());
    }
}

#[test]
fn killed_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let mut unfinished = 0;
    for round in 0..24 {
        let mut child = child(folder.path());
        std::thread::sleep(Duration::from_millis(4 * round));
        // SIGKILL: the child cannot clean up.
        let _ = child.kill();
        child.wait().unwrap();
        let key = inputs().key().unwrap();
        if store.is_complete(&key) {
            assert!(store.damage_of_build(&key).unwrap().is_empty());
            place::remove(&store.build_folder(&key), &folder.path().join("trash")).unwrap();
        } else if store.build_folder(&key).exists() {
            unfinished += 1;
        }
    }
    assert!(unfinished > 0, "no child was killed in the middle of a build");
    let open = build(&store);
    assert!(store.damage_of_build(&open.key).unwrap().is_empty());
    assert_eq!(std::fs::read_dir(&open.build).unwrap().count(), PARTS);
}

fn child(store: &Path) -> std::process::Child {
    let mut command: Command = crate::sh::command(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "supply::store::builds::tests::child_that_is_killed",
            "--test-threads=1",
        ])
        .env(ROLE, store);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    command.spawn().unwrap()
}
