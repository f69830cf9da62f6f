//! Parts that do not belong together, or are none, are said to be so before anything is copied.

use super::*;
use crate::outcome::{EXIT_USAGE, exit_code};

fn put(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn usage<T>(result: Result<T>) -> String {
    let error = result.err().unwrap();
    assert_eq!(exit_code(&error), EXIT_USAGE, "{error:#}");
    error.to_string()
}

/// The folders of a small kernel.
fn whole(root: &Path) -> Parts {
    put(root, "vmlinuz", "");
    put(root, "modules/6.12.1/modules.builtin", "");
    put(root, "headers/.config", "CONFIG_X86_64=y\n");
    put(root, "headers/Module.symvers", "");
    put(root, "headers/include/generated/autoconf.h", "");
    put(
        root,
        "headers/include/generated/utsrelease.h",
        "#define UTS_RELEASE \"6.12.1\"\n",
    );
    put(root, "headers/include/config/auto.conf", "");
    put(root, "headers/include/linux/fs.h", "");
    put(root, "headers/scripts/mod/modpost", "\x7fELF");
    put(root, "headers/scripts/basic/fixdep", "\x7fELF");
    put(root, "source/include/linux/fs.h", "");
    put(root, "headers/tools/objtool/objtool", "#!/bin/sh\nexit 0\n");
    put(root, "source/kernel/fork.c", "");
    Parts {
        image: root.join("vmlinuz"),
        modules: root.join("modules/6.12.1"),
        headers: root.join("headers"),
        kbuild: None,
        source: root.join("source"),
    }
}

#[test]
fn each_part_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let parts = whole(root);
    assert!(parts.found().is_ok());
    let with = |change: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        usage(parts.found())
    };
    assert!(with(&|parts| parts.image = root.join("gone")).starts_with("--image"));
    assert!(with(&|parts| parts.modules = root.join("modules")).contains("lib/modules/RELEASE"));
    assert!(with(&|parts| parts.headers = root.join("source")).contains("Module.symvers"));
    assert!(with(&|parts| parts.source = root.join("headers")).contains("no kernel source"));
    put(root, "source/include/generated/autoconf.h", "");
    assert!(usage(parts.found()).contains("--build-dir"));
}

#[test]
fn parts_of_two_kernels_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole(folder.path());
    let release = parts.release().unwrap();
    assert_eq!(release, "6.12.1");
    assert!(parts.expect_of_one_kernel(&release, Some("6.12.1")).is_ok());
    assert!(parts.expect_of_one_kernel(&release, None).is_ok());
    assert!(usage(parts.expect_of_one_kernel(&release, Some("6.12.2"))).starts_with("--image"));
    assert!(usage(parts.expect_of_one_kernel("6.12.3", Some("6.12.3"))).starts_with("--modules"));
}

#[test]
fn a_source_that_changed_is_another_kernel_for_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole(folder.path());
    let before = state(&parts.source, Links::Stay).unwrap();
    assert_eq!(state(&parts.source, Links::Stay).unwrap(), before);
    put(folder.path(), "source/kernel/fork.c", "int x;\n");
    assert_ne!(state(&parts.source, Links::Stay).unwrap(), before);
}

#[test]
fn what_is_copied_has_what_kbuild_made_and_no_link_that_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole(folder.path());
    std::os::unix::fs::symlink("../gone", parts.headers.join("scripts/dangling")).unwrap();
    let to = folder.path().join("objects");
    let config = parts.config().unwrap();
    objects::copy(&parts.headers, &config, None, &parts.source, &to).unwrap();
    for name in [
        ".config",
        "include/generated/autoconf.h",
        "scripts/mod/modpost",
        "tools/objtool/objtool",
        "Makefile",
    ] {
        assert!(to.join(name).is_file(), "{name}");
    }
    for name in ["include/linux", "scripts/dangling"] {
        assert!(to.join(name).symlink_metadata().is_err(), "{name}");
    }
    std::os::unix::fs::symlink("..", parts.headers.join("scripts/loop")).unwrap();
    assert!(
        objects::copy(
            &parts.headers,
            &config,
            None,
            &parts.source,
            &folder.path().join("again")
        )
        .is_err()
    );
}

#[test]
fn the_configuration_may_lie_beside_the_image_or_the_modules() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole(folder.path());
    assert_eq!(parts.config().unwrap(), parts.headers.join(".config"));
    fs::remove_file(parts.headers.join(".config")).unwrap();
    assert!(usage(parts.config()).contains("config-6.12.1"));
    put(folder.path(), "config-6.12.1", "");
    assert_eq!(parts.config().unwrap(), folder.path().join("config-6.12.1"));
    put(&parts.modules, "config", "");
    assert_eq!(parts.config().unwrap(), parts.modules.join("config"));
}

#[test]
fn headers_that_the_kernel_has_otherwise_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole(folder.path());
    assert!(parts.expect_headers_of_source().is_ok());
    put(folder.path(), "source/include/linux/fs.h", "int x;\n");
    let error = parts.expect_headers_of_source().unwrap_err();
    assert!(error.to_string().contains("env.not-shipped"), "{error:#}");
}

#[test]
fn links_that_lead_out_of_the_source_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole(&folder.path().canonicalize().unwrap());
    std::os::unix::fs::symlink("fork.c", parts.source.join("kernel/same.c")).unwrap();
    assert!(state(&parts.source, Links::Stay).is_ok());
    std::os::unix::fs::symlink(folder.path().join("vmlinuz"), parts.source.join("kernel/other.c")).unwrap();
    assert!(usage(state(&parts.source, Links::Stay)).contains("kernel/other.c"));
    fs::remove_file(parts.source.join("kernel/other.c")).unwrap();
    std::os::unix::fs::symlink("../headers", parts.source.join("mm")).unwrap();
    assert!(usage(state(&parts.source, Links::Stay)).contains("mm is a link"));
    assert!(
        state(&parts.source, Links::LeadOut).is_ok(),
        "headers may have links to the build programs"
    );
}

#[test]
fn names_that_make_would_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let parts = whole(folder.path());
    for release in ["../../x", "6.12$(shell x)", "", "6.12 x"] {
        let text = format!("#define UTS_RELEASE \"{release}\"\n");
        put(&parts.headers, "include/generated/utsrelease.h", &text);
        usage(parts.release());
    }
    put(folder.path(), "so$x/kernel/fork.c", "");
    let source = folder.path().join("so$x");
    assert!(usage(Parts { source, ..parts }.found()).contains("make"));
}
