//! Packages come, fail, and go: what is in effect now, after the next boot, and after the removal.

use std::fs;

use super::*;

const STEP: &str = "--kernel-version 6.1.0-fake --series livepatch";

/// A machine that is up, on which packages are installed as their managers do it.
fn machine() -> Fake {
    let fake = Fake::new();
    fake.put("run/systemd/system/x", "");
    fake
}

fn place(number: u32) -> String {
    format!("usr/lib/kpatch/{RELEASE}/livepatch/livepatch_{number}.ko")
}

/// The new files come before anything else, and then the old ones go, as with dpkg.
fn unpack(fake: &Fake, number: u32, old: Option<u32>) {
    assert_eq!(run(fake, &format!("package-step before-upgrade {STEP}")).1, EXIT_OK);
    let name = format!("livepatch_{number}");
    fake.put(&place(number), crate::fake::image(&name, &Spec::default()));
    if let Some(old) = old {
        fs::remove_file(fake.path(&place(old))).unwrap();
    }
}

fn configure(fake: &Fake, number: u32) -> (String, u8) {
    run(
        fake,
        &format!("package-step after-install livepatch_{number} {STEP} --timeout 5"),
    )
}

fn kept(fake: &Fake) -> Vec<String> {
    crate::rescue::Rescue::new(&fake.machine, RELEASE, "livepatch").kept()
}

fn in_effect(fake: &Fake) -> Vec<String> {
    let all = fake.machine.livepatches().unwrap().into_iter();
    all.filter(|one| one.state == State::InEffect)
        .map(|one| one.name)
        .collect()
}

/// Version 1 is in effect, and 2 could not be.
fn failed_upgrade() -> Fake {
    let fake = machine();
    unpack(&fake, 1, None);
    assert_eq!(configure(&fake, 1).1, EXIT_OK);
    unpack(&fake, 2, Some(1));
    fake.refuses.set(Some(rustix::io::Errno::INVAL.raw_os_error()));
    let (text, code) = configure(&fake, 2);
    assert_eq!(code, EXIT_FAILED, "{text}");
    assert!(
        text.contains("in effect: livepatch_1; loaded at the next boot: livepatch_1") && text.contains("kpatch load"),
        "{text}"
    );
    fake
}

#[test]
fn an_upgrade_that_works_keeps_nothing() {
    let fake = machine();
    unpack(&fake, 1, None);
    assert_eq!(configure(&fake, 1).1, EXIT_OK);
    assert_eq!(in_effect(&fake), ["livepatch_1"]);
    unpack(&fake, 2, Some(1));
    assert_eq!(kept(&fake), ["livepatch_1"]);
    assert_eq!(configure(&fake, 2).1, EXIT_OK);
    assert!(kept(&fake).is_empty());
    assert_eq!(in_effect(&fake), ["livepatch_2"]);
    fake.boot("two");
    assert_eq!(run(&fake, "autoload").1, EXIT_OK);
    assert_eq!(in_effect(&fake), ["livepatch_2"]);
}

#[test]
fn after_a_failed_upgrade_the_old_one_is_in_effect_now_and_after_the_next_boot() {
    let fake = failed_upgrade();
    assert_eq!(in_effect(&fake), ["livepatch_1"]);
    let (text, code) = run(&fake, "status");
    assert!(
        code == EXIT_NOT_IN_EFFECT && text.contains("livepatch_2: installed, but held back"),
        "{text}"
    );
    assert!(run(&fake, "list").0.contains("Held back"));
    fake.boot("two");
    let (text, code) = run(&fake, "autoload");
    assert!(
        code == EXIT_OK && text.contains("livepatch_2: installed, but held back"),
        "{text}"
    );
    assert_eq!(in_effect(&fake), ["livepatch_1"]);
    run(&fake, "autoload --healthy");
    assert_eq!(run(&fake, "load --all").1, EXIT_OK);
    assert_eq!(in_effect(&fake), ["livepatch_1"]);
}

#[test]
fn the_new_one_is_tried_again_by_the_script_or_by_hand() {
    let fake = failed_upgrade();
    assert_eq!(configure(&fake, 2).1, EXIT_OK);
    assert!(kept(&fake).is_empty() && in_effect(&fake) == ["livepatch_2"]);
    let fake = failed_upgrade();
    assert_eq!(run(&fake, "load livepatch_2").1, EXIT_OK);
    assert!(kept(&fake).is_empty() && in_effect(&fake) == ["livepatch_2"]);
}

#[test]
fn a_second_failed_upgrade_keeps_what_worked_and_the_way_back_ends_the_matter() {
    let fake = failed_upgrade();
    unpack(&fake, 3, Some(2));
    assert_eq!(kept(&fake), ["livepatch_1"]);
    fake.refuses.set(Some(rustix::io::Errno::INVAL.raw_os_error()));
    assert_eq!(configure(&fake, 3).1, EXIT_FAILED);
    fake.boot("two");
    run(&fake, "autoload");
    assert_eq!(in_effect(&fake), ["livepatch_1"]);
    unpack(&fake, 1, Some(3));
    assert_eq!(configure(&fake, 1).1, EXIT_OK);
    assert!(kept(&fake).is_empty() && in_effect(&fake) == ["livepatch_1"]);
}

#[test]
fn removal_takes_out_what_is_loaded_of_the_series_and_nothing_else() {
    let fake = failed_upgrade();
    fake.stack.replace(vec!["foreign".to_owned()]);
    let foreign = file(&fake, "foreign", Spec::default());
    run(&fake, &format!("load {foreign}"));
    fake.stack.replace(Vec::new());
    let (text, code) = run(&fake, &format!("package-step before-removal {STEP}"));
    assert!(code == EXIT_OK && text.contains("livepatch_1: out"), "{text}");
    assert!(kept(&fake).is_empty() && in_effect(&fake) == ["foreign"]);
    assert!(!fake.path(&format!("var/lib/kpatch/{RELEASE}/livepatch")).exists());
    let (_, code) = run(&fake, &format!("package-step before-removal {STEP}"));
    assert_eq!(code, EXIT_OK, "a second time is as good");
}

#[test]
fn a_package_that_was_only_unpacked_is_taken_out_once_its_files_are_gone() {
    let fake = machine();
    unpack(&fake, 1, None);
    configure(&fake, 1);
    unpack(&fake, 2, Some(1));
    fs::remove_file(fake.path(&place(2))).unwrap();
    assert_eq!(run(&fake, &format!("package-step before-removal {STEP}")).1, EXIT_OK);
    assert!(kept(&fake).is_empty() && in_effect(&fake).is_empty());
}

#[test]
fn a_removal_that_fails_loses_nothing() {
    let fake = failed_upgrade();
    fake.pauses.set(u32::MAX);
    let (text, code) = run(&fake, &format!("package-step before-removal {STEP} --timeout 2"));
    assert_eq!(code, EXIT_FAILED, "{text}");
    assert_eq!(kept(&fake), ["livepatch_1"]);
}

#[test]
fn a_folder_that_is_no_machine_loads_and_unloads_nothing() {
    // The kernel that is seen in it is that of the host.
    let fake = failed_upgrade();
    fs::remove_dir_all(fake.path("run")).unwrap();
    unpack(&fake, 3, Some(2));
    assert_eq!(configure(&fake, 3).1, EXIT_OK);
    assert!(kept(&fake).is_empty());
    assert_eq!(run(&fake, &format!("package-step before-removal {STEP}")).1, EXIT_OK);
    assert_eq!(in_effect(&fake), ["livepatch_1"]);
    // The same with a /run that is that of the host.
    fake.put("run/systemd/system/x", "");
    fs::create_dir_all(fake.path("proc/1")).unwrap();
    std::os::unix::fs::symlink("/", fake.path("proc/1/root")).unwrap();
    assert_eq!(run(&fake, &format!("package-step before-removal {STEP}")).1, EXIT_OK);
    assert_eq!(in_effect(&fake), ["livepatch_1"]);
}

#[test]
fn the_package_of_another_kernel_waits_for_its_boot() {
    let fake = machine();
    let step = "--kernel-version 6.2.0 --series livepatch";
    assert_eq!(
        run(&fake, &format!("package-step after-install livepatch_1 {step}")).1,
        EXIT_OK
    );
    assert_eq!(run(&fake, &format!("package-step before-removal {step}")).1, EXIT_OK);
}

#[test]
fn a_power_cut_at_any_step_leaves_the_old_one_for_the_boot() {
    let boots_with_old = |fake: &Fake| {
        fake.boot("next");
        run(fake, "autoload");
        assert_eq!(in_effect(fake), ["livepatch_1"]);
        run(fake, "autoload --healthy");
    };
    let fake = machine();
    unpack(&fake, 1, None);
    configure(&fake, 1);
    // While the copy is made.
    let folder = format!("var/lib/kpatch/{RELEASE}");
    fake.put(&format!("{folder}/.livepatch.new/livepatch_1.ko"), "half");
    boots_with_old(&fake);
    // Before and after the old file goes.
    run(&fake, &format!("package-step before-upgrade {STEP}"));
    assert_eq!(kept(&fake), ["livepatch_1"]);
    boots_with_old(&fake);
    fake.put(&place(2), crate::fake::image("livepatch_2", &Spec::default()));
    boots_with_old(&fake);
    fs::remove_file(fake.path(&place(1))).unwrap();
    boots_with_old(&fake);
    // The script runs again. The power goes while the copy is removed.
    fake.put(&format!("{folder}/.livepatch.old/livepatch_0.ko"), "half");
    unpack(&fake, 2, None);
    assert_eq!(configure(&fake, 2).1, EXIT_OK);
    let left = fs::read_dir(fake.path(&folder)).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains("livepatch")), "{left:?}");
    fake.boot("last");
    run(&fake, "autoload");
    assert_eq!(in_effect(&fake), ["livepatch_2"]);
}

#[test]
fn names_that_are_no_folders_are_usage_errors() {
    let fake = machine();
    for words in ["--kernel-version .. --series a", "--kernel-version 6.1 --series a/b"] {
        assert_eq!(
            run(&fake, &format!("package-step before-upgrade {words}")).1,
            EXIT_USAGE
        );
    }
    assert_eq!(
        run(&fake, &format!("package-step after-install ../x {STEP}")).1,
        EXIT_USAGE
    );
}
