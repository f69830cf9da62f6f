//! What a package is called and says, and that its bytes depend on nothing else.

use std::fs;
use std::path::Path;

use kpatch_runtime::about::{self, About};
use object::write::Object;
use object::{Architecture, BinaryFormat, Endianness, SectionKind};

use super::*;

fn module(folder: &Path, release: &str) -> std::path::PathBuf {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let about = About {
        fixes: vec!["tcp: 100 % sure (CVE-2026-12345)".to_owned()],
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
    let info = format!("livepatch=Y\0name=fix_2\0vermagic={release} SMP \0");
    for (name, kind, bytes) in [
        (".modinfo", SectionKind::ReadOnlyData, info.as_bytes()),
        (about::SECTION, SectionKind::Note, &note),
    ] {
        let id = object.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
        object.append_section_data(id, bytes, 4);
    }
    let path = folder.join("fix.ko");
    fs::write(&path, object.write().unwrap()).unwrap();
    path
}

fn release() -> Release {
    Release::new("livepatch", "2", Some("A <a@b.c>")).unwrap()
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
    assert_eq!(package.place(), "usr/lib/kpatch/6.1.0-47-cloud_X/fix_2.ko");
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
        let error = Release::new(series, version, Some(maintainer)).err().unwrap();
        assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_USAGE);
    };
    wrong("Up", "1", "A <a@b.c>");
    wrong("a b", "1", "A <a@b.c>");
    wrong("a", "v1", "A <a@b.c>");
    wrong("a", "1-2", "A <a@b.c>");
    wrong("a", "1", "nobody");
    wrong("a", "1", "A <a@b.c>\nDepends: evil");
}

#[test]
fn each_version_is_a_module_of_its_own() {
    let named = |version| Release::new("net-fixes", version, Some("A <a@b.c>")).unwrap();
    assert_eq!(named("2.1~rc1").module_name(), "net_fixes_2_1_rc1");
    assert!(named("2.1").can_replace("fix_2_1") && !named("2.1").can_replace("fix"));
    assert!(named("1").can_replace("fix"), "there is none to replace");
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
fn equal_input_gives_equal_debian_packages() {
    if Format::Deb.check().is_err() {
        // Other distributions need not have it.
        assert!(!Path::new("/etc/debian_version").exists(), "Debian has dpkg-deb");
        return;
    }
    let made = || {
        let folder = tempfile::tempdir().unwrap();
        let release = release();
        let package = package(folder.path(), &release);
        let path = package.make(Format::Deb, &folder.path().join("out")).unwrap();
        assert_eq!(path.file_name().unwrap(), "livepatch-6.1.0-47-cloud-x_2_amd64.deb");
        fs::read(path).unwrap()
    };
    assert_eq!(made(), made());
}
