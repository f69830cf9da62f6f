//! The object folder out of a made-up package tree: what must be in it, and what must not.

use super::*;

fn put(path: PathBuf, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The two packages as they are unpacked, small.
fn packages(folder: &Path) -> (PathBuf, PathBuf) {
    let (headers, kbuild) = (folder.join("headers"), folder.join("kbuild"));
    let of = headers.join("usr/src/linux-headers-6.1.0-1-amd64");
    put(
        of.join(".config"),
        "CONFIG_LIVEPATCH=y\nCONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian) 12.2.0\"\n",
    );
    put(of.join("Module.symvers"), "");
    put(of.join("include/config/auto.conf"), "");
    put(of.join("include/generated/autoconf.h"), "");
    put(of.join("include/generated/utsrelease.h"), "");
    put(of.join("arch/x86/module.lds"), "SECTIONS { }\n");
    put(of.join("vmlinux"), "only types");
    std::os::unix::fs::symlink("../../lib/linux-kbuild-6.1/scripts", of.join("scripts")).unwrap();
    let of = kbuild.join("usr/lib/linux-kbuild-6.1");
    put(of.join("scripts/Makefile.build"), "");
    put(of.join("scripts/mod/modpost"), "\x7fELF launcher");
    put(of.join("scripts/mod/modpost.real-lsb-64"), "\x7fELF modpost");
    put(of.join("scripts/mod/modpost.real-msb-32"), "\x7fELF other");
    put(of.join("scripts/basic/fixdep"), "\x7fELF fixdep");
    put(of.join("scripts/depmod.sh"), "");
    put(of.join("scripts/subarch.include"), "");
    put(of.join("tools/objtool/objtool"), "\x7fELF objtool");
    (headers, kbuild)
}

fn made(folder: &Path) -> PathBuf {
    let (headers, kbuild) = packages(folder);
    let objects = folder.join("objects");
    make(&headers, &kbuild, "6.1.0-1-amd64", Path::new("/s/source"), &objects).unwrap();
    objects
}

#[test]
fn the_folder_has_what_kbuild_wants_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let objects = made(folder.path());
    let mut found: Vec<_> = files(&objects).unwrap();
    found.sort();
    let below = found
        .iter()
        .map(|file| file.strip_prefix(&objects).unwrap().to_str().unwrap());
    assert_eq!(
        below.collect::<Vec<_>>(),
        [
            ".config",
            "Makefile",
            "Module.symvers",
            "arch/x86/module.lds",
            "include/config/auto.conf",
            "include/config/auto.conf.cmd",
            "include/generated/autoconf.h",
            "include/generated/utsrelease.h",
            "scripts/basic/fixdep",
            "scripts/mod/modpost",
            "scripts/mod/modpost.real-msb-32",
            "scripts/module.lds",
            "scripts/subarch.include",
            "tools/objtool/objtool",
        ]
    );
    let text = |name: &str| fs::read_to_string(objects.join(name)).unwrap();
    assert_eq!(text("Makefile"), "include /s/source/Makefile\n");
    assert_eq!(text("scripts/mod/modpost"), "\x7fELF modpost");
    let time = |name: &str| objects.join(name).metadata().unwrap().modified().unwrap();
    assert!(FRESH.iter().all(|name| time(name) > time(".config")));
}

#[test]
fn a_package_without_its_files_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (headers, kbuild) = packages(folder.path());
    fs::remove_file(headers.join("usr/src/linux-headers-6.1.0-1-amd64/Module.symvers")).unwrap();
    let objects = folder.path().join("objects");
    let error = make(&headers, &kbuild, "6.1.0-1-amd64", Path::new("/s"), &objects).unwrap_err();
    assert!(error.to_string().contains("Module.symvers"), "{error}");
    assert!(make(&headers, &headers, "6.1.0-2-amd64", Path::new("/s"), &objects).is_err());
}

#[test]
fn programs_are_started_through_a_script_and_keep_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let objects = made(folder.path());
    wrap_programs(&objects, Path::new("/c/enter")).unwrap();
    let text = fs::read_to_string(objects.join("scripts/basic/fixdep")).unwrap();
    assert_eq!(text, "#!/bin/sh\nexec '/c/enter' \"$0.bin\" \"$@\"\n");
    assert_eq!(
        fs::read_to_string(objects.join("scripts/basic/fixdep.bin")).unwrap(),
        "\x7fELF fixdep"
    );
    assert!(objects.join("scripts/subarch.include").is_file() && !objects.join("scripts/subarch.include.bin").exists());
}

#[test]
fn a_program_that_does_not_load_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let objtool = folder.path().join("tools/objtool/objtool");
    let says = |text: &str| {
        put(objtool.clone(), &format!("#!/bin/sh\necho \"{text}\" >&2\nexit 1\n"));
        fs::set_permissions(&objtool, fs::Permissions::from_mode(0o755)).unwrap();
        programs_run_here(folder.path()).unwrap()
    };
    assert!(says("Usage: objtool"));
    assert!(!says(
        "libc.so.6: version `GLIBC_2.38' not found (required by objtool)"
            .replace('`', "'")
            .as_str()
    ));
    assert!(!says("error while loading shared libraries: libelf.so.1"));
}

#[test]
fn settings_are_found_by_their_whole_name() {
    let text = "CONFIG_LIVEPATCH_X=y\n# CONFIG_LIVEPATCH is not set\nCONFIG_CC_VERSION_TEXT=\"gcc-12 (D) 12\"\n";
    assert_eq!(setting(text, "CONFIG_CC_VERSION_TEXT"), Some("gcc-12 (D) 12"));
    let error = expect_livepatch(text, "6.1.0-1-rt").unwrap_err();
    assert_eq!(crate::outcome::exit_code(&error), crate::outcome::EXIT_ENVIRONMENT);
    assert!(expect_livepatch("CONFIG_LIVEPATCH=y\n", "x").is_ok());
}
