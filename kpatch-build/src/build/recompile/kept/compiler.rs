//! Which compiler it is: the programs, the libraries they load, and what they say about themselves.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::build::kbuild::Kbuild;
use crate::sh;

/// Options that make a compiler read what its list of dependencies does not show, or write more than the object.
const UNLISTED: &[&str] = &[
    "@",
    "-B",
    "-fplugin",
    "-specs",
    "--specs",
    "--config",
    "-wrapper",
    "-fprofile-use",
    "-fprofile-instr-use",
    "-fprofile-sample-use",
    "-fauto-profile",
    "-fprofile-list",
    "-fsanitize-ignorelist",
    "-fsanitize-blacklist",
    "-fxray-",
    "-fmodule",
    "-include-pch",
    "-fthinlto-index",
    "-frandomize-layout-seed-file",
    "-fproc-stat-report",
    "-gz",
    "-fsave-optimization-record",
];

/// Whether this option makes the list of what is read incomplete.
pub(super) fn reads_unlisted(word: &str) -> bool {
    UNLISTED.iter().any(|option| word.starts_with(option))
}

/// Everything that makes this compiler another one than the last; nothing if that cannot be told.
pub(super) fn identity(kbuild: &Kbuild) -> Option<Vec<String>> {
    let said = |arguments: &[&str]| {
        let mut command = sh::command(&kbuild.compiler);
        command.args(arguments);
        command.envs(sh::path_with(&kbuild.path).map(|path| ("PATH", path)));
        let (status, out, _) = sh::captured(&mut command).ok()?;
        status.success().then_some(out)
    };
    let version = said(&["--version"])?;
    // A configuration file is read with every command, and on no list.
    if version.contains("Configuration file:") {
        return None;
    }
    let own = kbuild.path.iter().map(|folder| folder.join(&kbuild.compiler));
    let program = own
        .into_iter()
        .find(|path| path.is_file())
        .or_else(|| sh::find(&kbuild.compiler))?;
    let mut programs = vec![program];
    let mut identity = vec![version];
    if !is_clang(&kbuild.compiler) {
        // GCC is a driver of other programs, and has rules in a file that a machine may exchange.
        identity.push(said(&["-dumpspecs"])?);
        for name in ["cc1", "as"] {
            let path = said(&[&format!("-print-prog-name={name}")])?;
            programs.push(sh::find(path.trim())?);
        }
    }
    for program in programs {
        identity.extend(files_of(&program)?);
    }
    Some(identity)
}

fn is_clang(compiler: &str) -> bool {
    compiler
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with("clang"))
}

/// A program and the libraries that it loads. A script may start anything, so it has no identity.
fn files_of(program: &Path) -> Option<Vec<String>> {
    let program = program.canonicalize().ok()?;
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut fs::File::open(&program).ok()?, &mut magic).ok()?;
    if magic != *b"\x7fELF" {
        return None;
    }
    // It fails for a program that is linked statically, which has no others.
    let (_, listing, _) = sh::captured(sh::command("ldd").arg(&program)).ok()?;
    let mut files = vec![stamp(&program)?];
    for library in libraries(&listing) {
        files.push(stamp(&library)?);
    }
    Some(files)
}

/// Paths in the lines `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld.so (0x…)`.
fn libraries(listing: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let named = line.split_once(" => ").map_or(line, |(_, path)| path).trim();
        let path = named.split(" (").next().unwrap_or(named);
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    listing.lines().filter_map(path).collect()
}

/// Installing another version gives a file another size or time.
fn stamp(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let meta = path.metadata().ok()?;
    let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
    Some(format!("{} {} {seconds}.{nanoseconds}", path.display(), meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibLLVM.so.19 => /lib/libLLVM.so.19 (0x00007f)\n\
                       \tgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x0000)\n";
        assert_eq!(
            libraries(listing),
            [
                PathBuf::from("/lib/libLLVM.so.19"),
                "/lib64/ld-linux-x86-64.so.2".into()
            ]
        );
    }

    #[test]
    fn a_script_is_no_compiler_that_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("cc");
        fs::write(&script, "#!/bin/sh\nexec gcc \"$@\"\n").unwrap();
        assert_eq!(files_of(&script), None);
        let this = std::env::current_exe().unwrap();
        let files = files_of(&this).unwrap();
        assert!(files.len() > 1 && files[0].starts_with(&this.canonicalize().unwrap().display().to_string()));
    }

    #[test]
    fn options_that_read_more_are_known() {
        for word in ["-fplugin=x.so", "@list", "-specs=x", "-fprofile-use=x"] {
            assert!(reads_unlisted(word), "{word}");
        }
        for word in ["-fno-plt", "-DB", "-Iinclude", "-fsanitize=kcfi"] {
            assert!(!reads_unlisted(word), "{word}");
        }
    }
}
