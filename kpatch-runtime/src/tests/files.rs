//! Files of somebody who means no good, or that are damaged: an error with the right exit code, and nothing done.

use std::fs;
use std::os::unix::ffi::OsStringExt as _;

use super::*;

#[test]
fn names_and_releases_that_would_be_more_than_names_are_refused() {
    let fake = Fake::new();
    let read = |name: &str, release: &'static str| {
        let spec = Spec {
            release: Some(release),
            ..Spec::default()
        };
        fake.put("root/hostile.ko", crate::fake::image(name, &spec));
        ModuleFile::read(&fake.path("root/hostile.ko"))
    };
    for name in [
        "x';touch /tmp/P;'",
        "../../x",
        "a b",
        "a%(id)",
        "",
        "a\u{1b}b",
        &"x".repeat(56),
    ] {
        assert!(matches!(read(name, RELEASE), Err(Error::Usage(_))), "{name:?}");
    }
    for release in [
        "../../..",
        "..",
        "6.1,evil",
        "6.1%{lua:x}",
        "6.1'x",
        ".hidden",
        "-x",
        "6.1/2",
    ] {
        assert!(matches!(read("good", release), Err(Error::Usage(_))), "{release:?}");
    }
    assert_eq!(read("with-dash", "6.1.0-47_x+~1").unwrap().name, "with_dash");
    fake.put(
        "root/hostile.ko",
        crate::fake::image(
            "good",
            &Spec {
                release: Some("../../../up"),
                ..Spec::default()
            },
        ),
    );
    let path = fake.path("root/hostile.ko");
    assert_eq!(run(&fake, &format!("install {}", path.display())).1, EXIT_USAGE);
    assert_eq!(run(&fake, "uninstall good --kernel-version ../../..").1, EXIT_USAGE);
}

#[test]
fn what_is_no_ordinary_file_is_refused_at_once() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("root/folder.ko")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, fake.path("root/pipe.ko"), rustix::fs::Mode::RWXU).unwrap();
    let large = fs::File::create(fake.path("root/large.ko")).unwrap();
    large.set_len(6 << 30).unwrap();
    fake.put("root/packed.ko", b"\xfd7zXZ\0rest");
    let paths =
        ["folder.ko", "pipe.ko", "large.ko", "packed.ko", "missing.ko"].map(|name| fake.path("root").join(name));
    for path in paths
        .iter()
        .map(|path| path.display().to_string())
        .chain(["/dev/zero".to_owned()])
    {
        for command in ["load", "info", "install", "preflight"] {
            let (text, code) = run(&fake, &format!("{command} {path}"));
            assert_eq!(code, EXIT_USAGE, "{command}: {text}");
        }
    }
    let module = file(&fake, "one", Spec::default());
    assert_eq!(
        run(&fake, &format!("preflight {module} --root /no/such/root")).1,
        EXIT_USAGE
    );
}

#[test]
fn paths_that_are_not_text_are_shown_as_well_as_possible() {
    let fake = Fake::new();
    let name = std::ffi::OsString::from_vec(b"a\xff.ko".to_vec());
    let image = crate::fake::image("one", &Spec::default());
    let folder = fake.path(&format!("var/lib/kpatch/{RELEASE}"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&name), image).unwrap();
    for command in [
        crate::cli::Command::Info {
            module: folder.join(&name),
        },
        crate::cli::Command::List,
    ] {
        let answer = commands::answer(&command, &fake.machine, &fake).unwrap();
        assert!(answer.json.to_string().contains("a\u{fffd}.ko"));
    }
    let (text, code) = run(&fake, "uninstall one");
    assert_eq!(code, EXIT_OK, "the file has another name than the module: {text}");
    assert_eq!(run(&fake, "uninstall one").1, EXIT_NOT_IN_EFFECT);
}

#[test]
fn a_damaged_note_is_no_note_without_content() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    assert_eq!(run(&fake, &format!("load {one}")).1, EXIT_OK);
    let whole = fs::read(&one).unwrap();
    let text = br#"{"fixes""#;
    let at = whole.windows(text.len()).position(|window| window == text).unwrap();
    let mut damaged = whole.clone();
    damaged[at] = b'!';
    fake.put("root/damaged.ko", damaged);
    let path = fake.path("root/damaged.ko");
    assert_eq!(run(&fake, &format!("info {}", path.display())).1, EXIT_USAGE);
    // The kernel still has it, and nobody knows what else has its addresses.
    fake.put("sys/module/one/notes/.note.kpatch", "damaged");
    let (text, code) = run(&fake, "unload one");
    assert!(
        code == EXIT_OK && text.contains("one stays in memory: its note"),
        "{text}"
    );
    assert_eq!(run(&fake, &format!("load {one}")).1, EXIT_FAILED);
    assert_eq!(run(&fake, "unload one --remove-kept").1, EXIT_OK);
    assert!(!fake.machine.has_module("one"));
}

#[test]
fn a_line_of_the_history_that_is_none_hides_no_other() {
    let fake = Fake::new();
    let one = file(&fake, "one", Spec::default());
    run(&fake, &format!("load {one}"));
    let path = fake.path("var/lib/kpatch/history.jsonl");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"{\"time\": \xff\n");
    fs::write(&path, bytes).unwrap();
    run(&fake, "unload one");
    let (text, code) = run(&fake, "history");
    assert_eq!((code, text.lines().count()), (EXIT_OK, 3), "{text}");
    assert!(text.ends_with("cannot be read: 1"), "{text}");
}

#[test]
fn one_for_another_kernel_is_found_by_its_name() {
    let fake = Fake::new();
    let other = file(
        &fake,
        "one",
        Spec {
            release: Some("6.2.0"),
            ..Spec::default()
        },
    );
    run(&fake, &format!("install {other}"));
    for command in ["info one", "load one", "uninstall one"] {
        let (text, code) = run(&fake, command);
        assert!(
            code == EXIT_NOT_IN_EFFECT && text.contains("there is one for 6.2.0"),
            "{text}"
        );
    }
    let answer = commands::answer(&crate::cli::Command::List, &fake.machine, &fake).unwrap();
    assert_eq!(answer.json["other_releases"][0]["installed"][0]["name"], "one");
    fake.put("var/lib/kpatch/6.2.0/bad.ko", "text");
    let answer = commands::answer(&crate::cli::Command::List, &fake.machine, &fake).unwrap();
    assert_eq!(
        (answer.code(), answer.json["errors"].as_array().unwrap().len()),
        (EXIT_FAILED, 1)
    );
}
