//! The reader against small cases written on the spot, and against the corpus of this repository.

use kpatch_build::prove::vm::Behaviour;
use kpatch_build::supply::place::Place;

use super::*;

/// A case directory whose description passes, to be spoilt by the tests.
struct Sample {
    root: tempfile::TempDir,
}

const GOOD: &str = "
why: A reason.
kernels: [\"6.12\"]
arches: [x86_64, ppc64le]
patches: [one.patch]
expect: {patched: {vmlinux: [two, one], ext4: [three]}}
check: check.sh
program: probe.c
modules: {before: [jbd2], after: [ext4]}
boot: fresh
";

impl Sample {
    fn new() -> Self {
        let sample = Sample {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(sample.dir()).unwrap();
        sample.describe(GOOD);
        for name in ["one.patch", "check.sh", "probe.c"] {
            sample.write(name, "text");
        }
        fs::set_permissions(sample.dir().join("check.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        sample
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("sample")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir().join(name), text).unwrap();
    }

    fn describe(&self, text: &str) {
        self.write(DESCRIPTION, text);
    }

    /// The good description with one line replaced.
    fn replace(&self, from: &str, to: &str) {
        assert!(GOOD.contains(from));
        self.describe(&GOOD.replace(from, to));
    }

    fn problems(&self) -> String {
        load_all(self.root.path()).unwrap_err().to_string()
    }
}

/// The sample with one line replaced must be refused for this reason.
fn refuses(from: &str, to: &str, why: &str) {
    let sample = Sample::new();
    sample.replace(from, to);
    let problems = sample.problems();
    assert!(problems.contains(why), "{problems}");
}

#[test]
fn reads_every_field() {
    let sample = Sample::new();
    let cases = load_all(sample.root.path()).unwrap();
    let case = &cases[0];
    assert_eq!((case.name.as_str(), case.why.as_str()), ("sample", "A reason."));
    assert_eq!(case.arches, [Arch::X86_64, Arch::Ppc64le]);
    assert_eq!(case.patches, [sample.dir().join("one.patch")]);
    let functions = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let objects = BTreeMap::from([
        ("ext4".to_owned(), functions(&["three"])),
        ("vmlinux".to_owned(), functions(&["one", "two"])),
    ]);
    assert_eq!(case.expect, Expect::Patched(objects));
    assert_eq!(case.check, Some(sample.dir().join("check.sh")));
    assert_eq!(case.program, Some(sample.dir().join("probe.c")));
    assert_eq!(
        case.modules,
        Modules {
            before: vec!["jbd2".into()],
            after: vec!["ext4".into()],
            reload: Vec::new(),
            rebuilt: Vec::new(),
        }
    );
    assert_eq!((case.boot, &case.known_bad), (Boot::Fresh, &None));
}

#[test]
fn refuses_what_is_not_known() {
    refuses("boot: fresh", "boots: fresh", "unknown field `boots`");
    refuses("boot: fresh", "boot: cold", "unknown variant `cold`");
    refuses("x86_64, ppc64le", "sparc", "unknown variant `sparc`");
    refuses("{patched:", "{patches: {}, patched:", "unknown field `patches`");
    refuses("before: [jbd2]", "during: [jbd2]", "unknown field `during`");
}

#[test]
fn refuses_empty_and_doubled_lists() {
    refuses("A reason.", "''", "`why` is empty");
    refuses("[\"6.12\"]", "[]", "`kernels` is empty");
    refuses("[\"6.12\"]", "[\"6.12.107-rc\"]", "holds series such as");
    refuses("[x86_64, ppc64le]", "[x86_64, x86_64]", "`arches` names one twice");
    refuses("[one.patch]", "[]", "`patches` is empty");
    refuses("[one.patch]", "[one.patch, one.patch]", "`patches` names one twice");
    refuses("after: [ext4]", "after: [ext4, jbd2]", "`modules` names one twice");
    refuses(
        "boot: fresh",
        "known-bad: {reason: '', issue: '#1'}",
        "`known-bad` without a reason",
    );
    refuses(
        "boot: fresh",
        "known-bad: {reason: slow, issue: ''}",
        "`known-bad` without an issue",
    );
    refuses("boot: fresh", "known-bad: {reason: slow}", "missing field `issue`");
}

#[test]
fn refuses_contradictory_expectations() {
    let all = "expect: {patched: {vmlinux: [two, one], ext4: [three]}}";
    refuses(all, "expect: {}", "exactly one of");
    refuses(all, "expect: {no-change: false}", "exactly one of");
    refuses(
        all,
        "expect: {no-change: true, refused: [patch.empty]}",
        "exactly one of",
    );
    refuses(all, "expect: {patched: {}}", "names no object");
    refuses(all, "expect: {patched: {vmlinux: [one, one]}}", "twice");
    refuses(all, "expect: {patched: {vmlinux: [one.llvm.17]}}", "leave it out");
    refuses(all, "expect: {refused: []}", "names no code");
    refuses(all, "expect: {refused: [Empty]}", "is not a code");
    refuses(
        all,
        "expect: {refused: [patch.empty]}",
        "belong to a case that is patched",
    );
    refuses(
        "ext4: [three]",
        "loop: [three]",
        "`loop` is patched but `modules` never loads it",
    );
}

#[test]
fn refuses_files_that_are_missing_or_not_named() {
    refuses("[one.patch]", "[one.patch, two.patch]", "there is no file `two.patch`");
    refuses(
        "[one.patch]",
        "[../sample/one.patch]",
        "there is no file `../sample/one.patch`",
    );
    refuses("check: check.sh\nprogram: probe.c\n", "", "needs a `check`");
    refuses("program: probe.c\n", "", "nothing names the file `probe.c`");
    refuses("check: check.sh\n", "", "`program` without a `check`");
    let sample = Sample::new();
    fs::set_permissions(sample.dir().join("check.sh"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(sample.problems().contains("`check.sh` is not executable"));
}

#[test]
fn reports_the_problems_of_all_cases_at_once() {
    let sample = Sample::new();
    sample.replace("A reason.", "''");
    sample.write("stray", "");
    fs::create_dir(sample.root.path().join("other")).unwrap();
    fs::write(sample.root.path().join("loose.patch"), "").unwrap();
    let problems = sample.problems();
    assert!(problems.starts_with("4 problem(s) in the corpus:"), "{problems}");
    for part in ["`why` is empty", "`stray`", "other/case.yaml", "loose.patch"] {
        assert!(problems.contains(part), "{problems}");
    }
}

#[test]
fn refuses_a_corpus_without_cases() {
    let root = tempfile::tempdir().unwrap();
    assert!(
        load_all(root.path())
            .unwrap_err()
            .to_string()
            .contains("there is no case here")
    );
}

#[test]
fn finds_the_case_of_a_patch() {
    let sample = Sample::new();
    let patch = sample.dir().join("one.patch");
    assert_eq!(case_of_patch(&patch).unwrap().unwrap().name, "sample");
    let elsewhere = sample.root.path().join("elsewhere.patch");
    fs::write(&elsewhere, "").unwrap();
    assert_eq!(case_of_patch(&elsewhere).unwrap(), None);
    assert!(case_of_patch(&sample.dir().join("missing.patch")).is_err());
    sample.replace("A reason.", "''");
    assert!(case_of_patch(&patch).is_err());
}

#[test]
fn the_corpus_of_this_repository_is_sound() {
    let cases = load_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/corpus")).unwrap();
    let count = |wanted: fn(&Case) -> bool| cases.iter().filter(|case| wanted(case)).count();
    assert!(count(|case| matches!(case.expect, Expect::Patched(_))) >= 32);
    assert!(count(|case| matches!(case.expect, Expect::Refused(_))) >= 8);
    assert!(count(|case| matches!(case.expect, Expect::NoChange)) >= 2);
    assert!(count(|case| case.name.starts_with("real-")) >= 7);
    for case in &cases {
        let check = case
            .check
            .as_ref()
            .map_or(String::new(), |check| fs::read_to_string(check).unwrap());
        assert_eq!(
            case.check.is_some(),
            check.starts_with("#!/bin/sh\n# "),
            "{}",
            case.name
        );
        assert_eq!(case.program.is_some(), check.contains("./probe"), "{}", case.name);
    }
}

#[test]
fn a_second_livepatch_is_read_and_its_files_are_looked_for() {
    let sample = Sample::new();
    let then = "then: {patches: [two.patch], patched: {vmlinux: [four]}, replace: true, check: then.sh}\n";
    sample.describe(&format!("{GOOD}{then}"));
    let problems = sample.problems();
    assert!(
        problems.contains("`two.patch`") && problems.contains("`then.sh`"),
        "{problems}"
    );
    for name in ["two.patch", "then.sh"] {
        sample.write(name, "text");
    }
    fs::set_permissions(sample.dir().join("then.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let then = load_all(sample.root.path()).unwrap().remove(0).then.unwrap();
    assert!(then.replace && then.patched["vmlinux"].contains("four"));
}

#[test]
fn a_look_during_the_transition_needs_a_check_and_its_script() {
    let sample = Sample::new();
    let early = GOOD.replace("before: [jbd2], after: [ext4]", "before: [jbd2, ext4]");
    sample.describe(&format!("{early}during: {{hold: hold.sh, expect: old}}\n"));
    assert!(sample.problems().contains("`hold.sh`"), "{}", sample.problems());
    sample.write("hold.sh", "text");
    assert!(sample.problems().contains("`hold.sh` is not executable"));
    fs::set_permissions(sample.dir().join("hold.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let during = load_all(sample.root.path()).unwrap().remove(0).during.unwrap();
    assert_eq!(
        (during.hold, during.expect),
        (sample.dir().join("hold.sh"), Behaviour::Old)
    );
    let late = "boot: fresh\nduring: {hold: check.sh, expect: new}";
    refuses("boot: fresh", late, "`during` needs a `check`");
}

#[test]
fn contradictory_ways_through_the_guest_are_refused() {
    let stalls = "stalls: {task: kthreadd, function: f}";
    refuses("boot: fresh", &format!("boot: shared\n{stalls}"), "needs `boot: fresh`");
    refuses("before: [jbd2]", "reload: [jbd2]", "`reload` names a module");
    refuses("before: [jbd2]", "rebuilt: [jbd2]", "`rebuilt` names a module");
}

/// The good description with something else on ppc64le.
const VARIANT: &str = "
variants:
  - why: GCC inlines two.
    when: {arches: [ppc64le]}
    expect: {patched: {vmlinux: [one], ext4: [three]}}
";

fn place(arch: Arch) -> Place {
    Place {
        series: "6.12".into(),
        version: "6.12.107".into(),
        arch,
        toolchain: "gcc".into(),
        config: "small".into(),
    }
}

#[test]
fn modules_outside_of_the_tree_have_a_folder_and_a_kernel_that_was_built() {
    let sample = Sample::new();
    sample.describe(&format!("{GOOD}module-dir: module\n"));
    assert!(sample.problems().contains("there is no file `module`"));
    let folder = sample.dir().join("module");
    fs::create_dir(&folder).unwrap();
    assert!(sample.problems().contains("there is no Kbuild in `module`"));
    fs::write(folder.join("Kbuild"), "").unwrap();
    let case = &load_all(sample.root.path()).unwrap()[0];
    assert_eq!(case.module_dir.as_ref(), Some(&folder));
    let built = place(Arch::X86_64);
    let stock = Place {
        toolchain: crate::e2e::STOCK.into(),
        ..built.clone()
    };
    assert!(case.is_for(&built) && !case.is_for(&stock));
}

#[test]
fn a_variant_holds_only_where_it_says() {
    let sample = Sample::new();
    sample.describe(&format!("{GOOD}{VARIANT}"));
    let case = &load_all(sample.root.path()).unwrap()[0];
    assert_eq!(case.at(&place(Arch::X86_64)).expect, case.expect);
    let there = case.at(&place(Arch::Ppc64le));
    let Expect::Patched(objects) = &there.expect else {
        panic!("{there:?}")
    };
    assert_eq!(objects["vmlinux"], BTreeSet::from(["one".to_owned()]));
    assert_eq!((&there.name, &there.check), (&case.name, &case.check));
}

#[test]
fn a_variant_that_is_refused_loads_nothing_and_its_patch_belongs_to_the_case() {
    let sample = Sample::new();
    let refused = VARIANT.replace(
        "{patched: {vmlinux: [one], ext4: [three]}}",
        "{refused: [select.data-changed]}\n    patches: [two.patch]",
    );
    sample.describe(&format!("{GOOD}{refused}"));
    sample.write("two.patch", "text");
    let case = &load_all(sample.root.path()).unwrap()[0];
    assert_eq!(case.at(&place(Arch::Ppc64le)).check, None);
    let found = case_of_patch(&sample.dir().join("two.patch")).unwrap().unwrap();
    assert_eq!(found.patches, case.at(&place(Arch::Ppc64le)).patches);
}

#[test]
fn variants_add_up() {
    let sample = Sample::new();
    let second =
        "  - why: Other lines.\n    when: {kernels: ['6.12']}\n    patches: [two.patch]\n    accept: [table]\n";
    sample.describe(&format!("{GOOD}{VARIANT}{second}"));
    sample.write("two.patch", "text");
    let there = load_all(sample.root.path()).unwrap()[0].at(&place(Arch::Ppc64le));
    assert_eq!(there.patches, [sample.dir().join("two.patch")]);
    assert_eq!(there.accept, ["table"]);
    assert!(matches!(&there.expect, Expect::Patched(objects) if objects["vmlinux"].len() == 1));
}

#[test]
fn refuses_a_variant_without_reason_place_or_effect() {
    let problems = |from: &str, to: &str| {
        assert!(VARIANT.contains(from));
        let sample = Sample::new();
        sample.describe(&format!("{GOOD}{}", VARIANT.replace(from, to)));
        sample.problems()
    };
    assert!(problems("GCC inlines two.", "''").contains("`why` is empty"));
    assert!(problems("{arches: [ppc64le]}", "{}").contains("`when` names no"));
    assert!(problems("arches: [ppc64le]", "kernels: ['6.1']").contains("does not run on"));
    assert!(problems("    expect: {patched: {vmlinux: [one], ext4: [three]}}\n", "").contains("changes nothing"));
    assert!(problems("ext4", "fat").contains("never loads it"));
    assert!(problems("why: GCC", "for: GCC").contains("unknown field"));
}

mod saved {
    //! What `--save-case` writes is read here: two crates that know nothing of each other agree on a format.

    use kpatch_build::commands::save_case::{OWN, Outcome, Saving};
    use kpatch_build::kernel::{Kernel, KernelBuild};
    use kpatch_build::prove::vm::Behaviour;

    use super::super::*;

    struct Machine {
        root: tempfile::TempDir,
        kernel: KernelBuild,
        setup: Setup,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let path = |name: &str| root.path().join(name);
            let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
            for folder in ["source", "build", "a", "b"] {
                fs::create_dir(path(folder)).unwrap();
            }
            let config = "CONFIG_CC_VERSION_TEXT=\"clang version 19.1.7\"\nCONFIG_LLD_VERSION=190107\n\
                          CONFIG_KEYS=\"/home/somebody/keys.pem\"\n";
            write("build/.config", config);
            for file in ["a/fix.diff", "b/fix.diff", "a/look.sh", "b/hold.sh", "a/some.c"] {
                write(file, file);
            }
            let kernel = KernelBuild {
                source: path("source"),
                build: path("build"),
                vmlinux: path("build/vmlinux"),
                arch: Arch::Ppc64le,
                release: "6.12.107-mine".into(),
                id: "key".into(),
                log: None,
            };
            let setup = Setup {
                name: "fix".into(),
                check: Some(path("a/look.sh")),
                during: Some(During {
                    hold: path("b/hold.sh"),
                    expect: Behaviour::New,
                }),
                reports: Vec::new(),
                program: Some(path("a/some.c")),
                before: vec!["jbd2".into(), "ext4".into()],
                after: Vec::new(),
            };
            Machine { root, kernel, setup }
        }

        fn save(&self, config: &str, outcome: &Outcome) -> Case {
            let folder = self.root.path().join("saved");
            let patches = ["a", "b"].map(|folder| self.root.path().join(folder).join("fix.diff"));
            let saving = Saving {
                folder: &folder,
                kernel: Kernel::Recorded(&self.kernel),
                config,
                patches: &patches,
                left_out: vec![1],
                accept: &["struct file_operations x".to_owned()],
                replace: false,
                setup: &self.setup,
                tool: "0.1.0".into(),
                folders: &[self.root.path()],
            };
            saving.save(outcome).unwrap();
            let place = self.root.path().display().to_string();
            for name in entries(&folder).unwrap() {
                let text = fs::read_to_string(folder.join(&name)).unwrap();
                assert!(!text.contains(&place) && !text.contains("/home/"), "{name}: {text}");
            }
            load_one(&folder).unwrap()
        }
    }

    fn functions() -> BTreeMap<String, BTreeSet<String>> {
        [("ext4", "f"), ("vmlinux", "g")]
            .map(|(object, function)| (object.to_owned(), BTreeSet::from([function.to_owned()])))
            .into()
    }

    #[test]
    fn a_livepatch_that_misbehaved_is_expected_to_pass() {
        let machine = Machine::new();
        let against = format!("behaviour-wrong: {}/boot/vm: old", machine.root.path().display());
        let outcome = Outcome::Built {
            functions: functions(),
            against: Some(against),
        };
        let case = machine.save("small", &outcome);
        assert_eq!(case.expect, Expect::Patched(functions()));
        assert!(case.why.contains("behaviour-wrong: boot/vm: old"), "{}", case.why);
        assert_eq!(
            (&*case.kernels, &*case.arches),
            (&["6.12".to_owned()][..], &[Arch::Ppc64le][..])
        );
        let names: Vec<_> = case
            .patches
            .iter()
            .map(|patch| patch.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["01-fix.patch", "02-fix.patch"]);
        assert_eq!(fs::read_to_string(&case.patches[1]).unwrap(), "b/fix.diff");
        assert_eq!(case.check, Some(case.dir.join("check.sh")));
        assert_eq!(case.program, Some(case.dir.join("probe.c")));
        let during = case.during.unwrap();
        assert_eq!((during.hold, during.expect), (case.dir.join("hold.sh"), Behaviour::New));
        assert_eq!(case.modules.before, machine.setup.before);
        assert_eq!(case.accept.len(), 1);
        assert_eq!(case.left_out, BTreeSet::from(["02-fix.patch".to_owned()]));
        assert!(!case.replace && case.known_bad.is_none());
        let origin = case.origin.unwrap();
        let told = (&*origin.outcome, &*origin.release, &*origin.config, &*origin.linker);
        assert_eq!(told, ("failed", "6.12.107-mine", "small", "LLD 19.1.7"));
        assert_eq!((origin.config_sha256.len(), origin.config_file), (64, None));
    }

    #[test]
    fn a_build_that_failed_is_expected_to_become_a_livepatch() {
        let machine = Machine::new();
        let error = format!("{}/fs/a.c:1: no such thing", machine.kernel.source.display());
        let case = machine.save(OWN, &Outcome::Failed(error));
        assert_eq!(case.expect, Expect::Built);
        assert!(case.why.contains("fs/a.c:1: no such thing"), "{}", case.why);
        let config = case.origin.unwrap().config_file.unwrap();
        let text = fs::read_to_string(case.dir.join(config)).unwrap();
        assert!(text.contains("CONFIG_KEYS=\"keys.pem\""), "{text}");
    }

    #[test]
    fn a_verdict_is_expected_again_and_nothing_is_booted_for_it() {
        let codes = BTreeSet::from(["select.data-changed".to_owned()]);
        for (outcome, expected) in [
            (Outcome::Refused(codes.clone()), Expect::Refused(codes)),
            (Outcome::NoChange, Expect::NoChange),
        ] {
            let case = Machine::new().save("small", &outcome);
            assert_eq!(case.expect, expected);
            assert_eq!(
                (case.check, case.program, case.modules),
                (None, None, Modules::default())
            );
        }
    }

    #[test]
    fn a_case_of_the_corpus_leaves_nothing_open() {
        super::refuses(
            "{patched: {vmlinux: [two, one], ext4: [three]}}",
            "{built: true}",
            "only a case with an `origin`",
        );
    }
}
