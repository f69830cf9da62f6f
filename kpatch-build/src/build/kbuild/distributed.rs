//! What a build with CONFIG_LTO_CLANG_THIN_DIST leaves: the linker stops after the summaries, kbuild calls the compiler for
//! each file, and everything in between stays in the build directory.
//!
//! The names are those of scripts/Makefile.vmlinux_a and scripts/Makefile.thinlto (Linux 7.3). Only the image is made so;
//! modules are linked in one step.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::codes::environment::DISTRIBUTED_LTO;
use kpatch_core::{Refusal, Subject};

use super::cmdfile::CmdFile;
use super::facts::Config;

/// The list of objects that were compiled after the summaries were linked, one path a line. The link that wrote it is
/// recorded under its name.
pub const INDEX: &str = "vmlinux.thinlto-index";

/// Says why a build of this configuration cannot be used: an earlier form of distributed links, which were not part of a
/// release, left other records.
pub fn objection(config: &Config, build: &Path) -> Option<Refusal> {
    let record = record(build, INDEX);
    (config.is_distributed() && !record.is_file()).then(|| {
        let why = format!(
            "the kernel was built with CONFIG_LTO_CLANG_THIN_DIST, and its link left no {}",
            record.display()
        );
        let hint = "build the kernel as Linux 7.3 does, or with CONFIG_LTO_CLANG_THIN";
        Refusal::new(DISTRIBUTED_LTO, Subject::file(".config"), why).hint(hint)
    })
}

/// Bitcode modules of the image in link order, relative to the build directory.
pub fn order(build: &Path) -> Result<Vec<String>> {
    let path = build.join(INDEX);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The machine code that kbuild made of a bitcode object.
pub fn native(build: &Path, object: &str) -> Result<PathBuf> {
    let path = build.join(native_name(object));
    if !path.is_file() {
        bail!("the build has no {}; is it finished?", path.display());
    }
    Ok(path)
}

/// The compiler and the options with which kbuild made machine code of a bitcode object, without input, summary and output.
pub fn command(build: &Path, object: &str) -> Result<Vec<String>> {
    let path = record(build, &native_name(object));
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut commands = CmdFile::new(text)
        .commands()
        .with_context(|| format!("{} is not understood", path.display()))?;
    if commands.len() != 1 {
        bail!("{} has {} commands instead of one", path.display(), commands.len());
    }
    options(&commands.remove(0), object).with_context(|| format!("{} is not understood", path.display()))
}

fn options(words: &[String], object: &str) -> Result<Vec<String>> {
    let (shard, output) = (format!("-fthinlto-index={object}.thinlto.bc"), native_name(object));
    let (mut kept, mut seen) = (Vec::new(), [false; 3]);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-c" => {}
            "-x" if words.as_slice().first().is_some_and(|kind| kind == "ir") => drop(words.next()),
            "-o" if words.next() == Some(&output) => seen[0] = true,
            word if word == shard => seen[1] = true,
            word if word == object => seen[2] = true,
            "-o" => bail!("it does not write {output}"),
            _ => kept.push(word.clone()),
        }
    }
    if seen != [true; 3] {
        bail!("it does not make {output} of {object} and its summary");
    }
    Ok(kept)
}

fn native_name(object: &str) -> String {
    format!("{}.thinlto-native.o", object.strip_suffix(".o").unwrap_or(object))
}

fn record(build: &Path, target: &str) -> PathBuf {
    let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
    build.join(folder).join(format!(".{name}.cmd"))
}

#[cfg(test)]
mod tests {
    use super::super::fake::put;
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_only_names_files_is_taken_out_of_a_command() {
        let build = tempfile::tempdir().unwrap();
        put(
            build.path(),
            "fs/.open.thinlto-native.o.cmd",
            b"savedcmd_fs/open.thinlto-native.o := clang-22 -O2 -falign-loops=1 -x ir -fno-lto \
              -fthinlto-index=fs/open.o.thinlto.bc -c -o fs/open.thinlto-native.o fs/open.o\n",
        );
        assert_eq!(
            command(build.path(), "fs/open.o").unwrap(),
            words("clang-22 -O2 -falign-loops=1 -fno-lto")
        );
        assert!(command(build.path(), "fs/none.o").is_err());
    }

    #[test]
    fn a_command_for_other_files_is_an_error() {
        let good = "cc -x ir -fthinlto-index=a.o.thinlto.bc -c -o a.thinlto-native.o a.o";
        assert!(options(&words(good), "a.o").is_ok());
        for (from, to) in [
            ("a.o.thinlto.bc", "b.o.thinlto.bc"),
            ("-o a.thinlto", "-o b.thinlto"),
            (" a.o", " b.o"),
        ] {
            assert!(options(&words(&good.replace(from, to)), "a.o").is_err(), "{to}");
        }
        assert!(options(&words("cc -c -o"), "a.o").is_err());
    }

    #[test]
    fn native_objects_must_be_there() {
        let build = tempfile::tempdir().unwrap();
        assert!(native(build.path(), "fs/open.o").is_err());
        put(build.path(), "fs/open.thinlto-native.o", b"");
        assert_eq!(
            native(build.path(), "fs/open.o").unwrap(),
            build.path().join("fs/open.thinlto-native.o")
        );
    }

    #[test]
    fn a_link_that_left_no_record_is_refused() {
        let build = tempfile::tempdir().unwrap();
        let config = Config::parse("CONFIG_LTO_CLANG_THIN_DIST=y");
        let refusal = objection(&config, build.path()).unwrap();
        assert_eq!(refusal.code.name(), "env.distributed-lto");
        assert!(objection(&Config::parse("CONFIG_LTO_CLANG_THIN=y"), build.path()).is_none());
        put(build.path(), ".vmlinux.thinlto-index.cmd", b"");
        assert!(objection(&config, build.path()).is_none());
    }
}
