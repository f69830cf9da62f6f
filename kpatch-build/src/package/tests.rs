//! What a package is called and says, and that its bytes depend on nothing else.

use std::fs;
use std::path::Path;

use kpatch_runtime::about::{self, About};
use object::write::Object;
use object::{Architecture, BinaryFormat, Endianness, SectionKind};

use super::*;

fn module(folder: &Path, release: &str) -> PathBuf {
    named(folder, "fix_2", release, "tcp: 100 % sure (CVE-2026-12345)")
}

fn named(folder: &Path, name: &str, release: &str, fix: &str) -> PathBuf {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let about = About {
        fixes: vec![fix.to_owned()],
        functions: vec!["vmlinux:f,1".to_owned()],
        keep: vec!["new_timer".to_owned()],
        ..About::default()
    };
    let text = about.text() + "\0";
    let mut note = Vec::new();
    for word in [7, u32::try_from(text.len()).unwrap(), about::TYPE] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"kpatch\0\0");
    note.extend(text.as_bytes());
    let info = format!("livepatch=Y\0name={name}\0vermagic={release} SMP \0");
    for (name, kind, bytes) in [
        (".modinfo", SectionKind::ReadOnlyData, info.as_bytes()),
        (about::SECTION, SectionKind::Note, &note),
    ] {
        let id = object.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
        object.append_section_data(id, bytes, 4);
    }
    let path = folder.join(format!("{name}.ko"));
    fs::write(&path, object.write().unwrap()).unwrap();
    path
}

fn release() -> Release {
    Release::new("livepatch", Some("2"), Some("A <a@b.c>")).unwrap()
}

fn package<'a>(folder: &Path, release: &'a Release) -> Package<'a> {
    Package::new(&module(folder, "6.1.0-47-cloud_X"), release).unwrap()
}

#[test]
fn a_package_is_named_by_series_and_release() {
    let folder = tempfile::tempdir().unwrap();
    let release = release();
    let package = package(folder.path(), &release);
    assert_eq!(package.name(), "livepatch-6.1.0-47-cloud-x");
    assert_eq!(package.place(), "usr/lib/kpatch/6.1.0-47-cloud_X/livepatch/fix_2.ko");
    let text = package.description().join("\n");
    assert!(
        text.contains("* tcp: 100 % sure (CVE-2026-12345)") && text.contains("* new_timer"),
        "{text}"
    );
}

#[test]
fn long_items_are_wrapped() {
    let lines = wrapped(&"word ".repeat(30));
    assert!(
        lines.len() > 1 && lines.iter().all(|line| line.len() <= 76),
        "{lines:?}"
    );
    assert!(lines[0].starts_with("* word") && lines[1].starts_with("  word"));
    assert_eq!(wrapped(&"x".repeat(90)), [format!("* {}", "x".repeat(90))]);
}

#[test]
fn names_that_packages_cannot_have_are_usage_errors() {
    let wrong = |series: &str, version: &str, maintainer: &str| {
        let error = Release::new(series, Some(version), Some(maintainer)).err().unwrap();
        assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_USAGE);
    };
    wrong("Up", "1", "A <a@b.c>");
    wrong("a b", "1", "A <a@b.c>");
    wrong("a", "v1", "A <a@b.c>");
    wrong("a", "1-2", "A <a@b.c>");
    wrong("a", "1", "nobody");
    wrong("a", "1", "A <a@b.c>\nDepends: evil");
    for maintainer in [
        "@",
        "a@b",
        "<a@b>",
        "A <a@b",
        "A <a>",
        "A\u{1b} <a@b>",
        "A <a@b@c>",
        "A <x> <a@b>",
    ] {
        wrong("a", "1", maintainer);
    }
    for version in ["1..", "1.", "1.~2", "1++2", ""] {
        wrong("a", version, "A <a@b.c>");
    }
    wrong("a..", "1", "A <a@b.c>");
    wrong("a..b", "1", "A <a@b.c>");
}

#[test]
fn each_version_is_a_module_of_its_own() {
    let named = |version| Release::new("net-fixes", Some(version), Some("A <a@b.c>")).unwrap();
    assert_eq!(named("2.1~rc1").module_name(), "net_fixes_2_1__rc1");
    let all = ["2.0~1", "2.0+1", "2.0.1"].map(|version| named(version).module_name());
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
    assert!(!named("2").can_replace("fix_12") && named("12").can_replace("fix_12"));
    assert!(named("2.1").can_replace("fix_2_1") && !named("2.1").can_replace("fix"));
    assert!(named("1").can_replace("fix"), "there is none to replace");
}

#[test]
fn the_version_is_that_of_the_name_unless_somebody_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let version = |name: &str, asked: Option<&str>| {
        let release = Release::new("net-fixes", asked, Some("A <a@b.c>")).unwrap();
        let path = named(folder.path(), name, "6.1", "x");
        Package::new(&path, &release).unwrap().version
    };
    assert_eq!(version("net_fixes_2", None), "2");
    for asked in ["2.0~1", "2.0+1", "2.0.1"] {
        let name = Release::new("net-fixes", Some(asked), Some("A <a@b.c>"))
            .unwrap()
            .module_name();
        assert_eq!(version(&name, None), asked);
    }
    assert_eq!(version("fix_2", None), "1");
    assert_eq!(version("net_fixes_x", None), "1");
    assert_eq!(version("net_fixes_2", Some("3")), "3");
}

#[test]
fn times_are_whole_seconds() {
    assert_eq!(seconds("0").unwrap(), 0);
    for text in ["abc", "", "1.5", "-1", "99999999999999"] {
        let error = seconds(text).unwrap_err();
        assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_USAGE, "{text}");
    }
}

/// What a package must not do on the machine that makes it, by way of titles that mean something to rpmbuild.
#[test]
fn a_hostile_title_is_only_text() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let long = "x".repeat(70);
    let touch = format!(
        "%(touch {}) %{{lua:os.execute('touch {}')}}",
        mark.display(),
        mark.display()
    );
    let fix = format!("{touch} {long} %if {long} %else {long} %post {long} %endif \u{1b}[2J\n%prep");
    let release = Release::new(
        "livepatch",
        Some("2"),
        Some(&format!("A %(touch {}) <a@b.c>", mark.display())),
    )
    .unwrap();
    let path = named(folder.path(), "fix_2", "6.1.0", &fix);
    let package = Package::new(&path, &release).unwrap();
    for format in [Format::Deb, Format::Rpm] {
        if format.check().is_ok() {
            let made = package.make(format, folder.path()).unwrap();
            assert!(made.is_file());
        }
    }
    assert!(!mark.exists());
    let folder = tempfile::tempdir().unwrap();
    let path = named(folder.path(), "fix';touch x;'", "6.1.0", "x");
    let error = Package::new(&path, &release).err().unwrap();
    assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_USAGE);
}

#[test]
fn scripts_of_packages_are_calls_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let release = release();
    let package = package(folder.path(), &release);
    let step = "--kernel-version '6.1.0-47-cloud_X' --series 'livepatch'";
    assert!(
        package
            .before_upgrade()
            .contains(&format!("kpatch package-step before-upgrade {step}"))
    );
    assert_eq!(
        package.after_installation(),
        format!("kpatch package-step after-install {step} 'fix_2'\n")
    );
    assert!(
        package
            .before_removal()
            .contains(&format!("kpatch package-step before-removal {step}"))
    );
    // Each is a command line that the program takes.
    let words = [
        "kpatch",
        "package-step",
        "after-install",
        "--kernel-version",
        "6.1",
        "--series",
        "a",
        "b",
    ];
    assert!(<kpatch_runtime::cli::Cli as clap::Parser>::try_parse_from(words).is_ok());
    // A machine without the program.
    let script = folder.path().join("script");
    fs::write(&script, format!("set -e\n{}", package.before_removal())).unwrap();
    let mut command = sh::command("/bin/sh");
    let output = sh::captured(command.arg(&script).env("PATH", folder.path())).unwrap();
    assert!(output.2.contains("not installed"), "{output:?}");
}

#[test]
fn a_release_that_is_no_version_for_rpm_is_known_by_its_image() {
    assert_eq!(
        rpm::kernel("5.14.0-503.el9.x86_64"),
        "kernel-uname-r = 5.14.0-503.el9.x86_64"
    );
    assert_eq!(rpm::kernel("6.1.0-47-amd64"), "/lib/modules/6.1.0-47-amd64/vmlinuz");
}

#[test]
fn a_package_is_for_the_processor_of_the_module() {
    for (processor, debian, rpms) in [
        (Architecture::X86_64, "amd64", "x86_64"),
        (Architecture::PowerPc64, "ppc64el", "ppc64le"),
        (Architecture::Aarch64, "arm64", "aarch64"),
        (Architecture::S390x, "s390x", "s390x"),
    ] {
        assert_eq!(deb::name_of(processor).unwrap(), debian);
        assert_eq!(rpm::name_of(processor).unwrap(), rpms);
    }
    assert!(deb::name_of(Architecture::Mips64).is_err() && rpm::name_of(Architecture::Mips64).is_err());
}

#[test]
fn equal_input_gives_equal_packages() {
    let made = |format: Format| {
        let folder = tempfile::tempdir().unwrap();
        let release = release();
        let package = package(folder.path(), &release);
        let path = package.make(format, &folder.path().join("out")).unwrap();
        let name = match format {
            Format::Deb => "livepatch-6.1.0-47-cloud-x_2_amd64.deb",
            Format::Rpm => "livepatch-6.1.0-47-cloud-x-2-1.x86_64.rpm",
        };
        assert_eq!(path.file_name().unwrap(), name);
        fs::read(path).unwrap()
    };
    for format in [Format::Deb, Format::Rpm] {
        match format.check() {
            Ok(()) => assert_eq!(made(format), made(format)),
            // Other distributions need not have both.
            Err(_) => assert!(
                format == Format::Rpm || !Path::new("/etc/debian_version").exists(),
                "Debian has dpkg-deb"
            ),
        }
    }
}

/// A module of a name for a kernel.
pub(crate) fn module_for_tests(folder: &Path, name: &str, release: &str) -> PathBuf {
    named(folder, name, release, "a fix")
}
