//! Imports sources from this machine: an archive, a directory, a revision of a git tree.
//!
//! They are copied into the store, since a baseline must not change under a livepatch. Their checksum names them, as in
//! `6.12.107@0123456789ab`, since an imported tree can have any version.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use super::{SPACE_FOR_A_SOURCE, unpack, version_of};
use crate::outcome::Ending;
use crate::program;
use crate::sh;
use crate::supply::store::{OnWait, Origin, SourceSlot, Store, StoredSource, require_space};
use crate::ui::Phase;

/// Files that an in-tree build leaves behind. kbuild refuses to build out of tree from such a source.
const TRACES_OF_A_BUILD: &[&str] = &[".config", "include/config", "include/generated"];

/// Imports a source tree into the store.
pub fn import(store: &Store, from: &Path, revision: Option<&str>, phase: &Phase) -> Result<StoredSource> {
    let from = from
        .canonicalize()
        .with_context(|| format!("cannot read {}", from.display()))?;
    require_space(store.root(), SPACE_FOR_A_SOURCE, "a kernel source tree")?;
    let slot = store.new_source()?;
    phase.message("copying");
    let name = match revision {
        Some(revision) => of_revision(&from, revision, &slot)?,
        None if from.is_dir() => of_directory(&from, &slot)?,
        None => of_archive(&from, &slot)?,
    };
    phase.message("unpacking");
    let tree = slot.tree();
    std::fs::create_dir_all(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
    unpack(&slot.archive(), &tree)?;
    expect_no_build(&tree)?;
    let version = version_of(&tree).with_context(|| from.display().to_string())?;
    store.add_source(slot, &Origin { version, from: name }, &|_, _| {})
}

/// A source that was imported, by its version and the beginning of its checksum.
pub(super) fn imported(store: &Store, version: &str, checksum: &str, wait: OnWait<'_>) -> Result<StoredSource> {
    let mut known = store.sources()?;
    known.retain(|(sha256, origin)| !checksum.is_empty() && sha256.starts_with(checksum) && origin.version == version);
    let name = format!("{version}@{checksum}");
    let found = match known.as_slice() {
        [(sha256, _)] => store.source(sha256, wait)?,
        [] => None,
        _ => {
            return Err(Ending::infrastructure(format!(
                "{name} is ambiguous: more than one source in the store"
            )));
        }
    };
    found.ok_or_else(|| {
        Ending::infrastructure(format!(
            "no source {name} in the store; `{}` adds one and prints its name",
            program::command("kernel import")
        ))
    })
}

fn of_archive(from: &Path, slot: &SourceSlot) -> Result<String> {
    ensure!(from.is_file(), "{} is neither a file nor a directory", from.display());
    std::fs::copy(from, slot.archive()).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(format!(
        "archive {}",
        from.file_name().unwrap_or_default().to_string_lossy()
    ))
}

/// Archives names, contents and modes only, in a fixed order, so that equal trees have equal checksums.
pub(super) fn of_directory(from: &Path, slot: &SourceSlot) -> Result<String> {
    expect_no_build(from)?;
    let archive = slot.archive();
    let shell = sh::shell()?;
    let pack = cmd!(
        shell,
        "tar --create --file {archive} --directory {from} --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0
         --exclude=./.git --use-compress-program {COMPRESS} ."
    );
    sh::output(&mut sh::prepare(pack))?;
    Ok(format!(
        "directory {}",
        from.file_name().unwrap_or_default().to_string_lossy()
    ))
}

/// Fast, and without a time stamp in the file.
const COMPRESS: &str = "gzip -1 -n";

fn of_revision(from: &Path, revision: &str, slot: &SourceSlot) -> Result<String> {
    let shell = sh::shell()?;
    // The tree may belong to another user: these two commands only read it and run no program from its configuration.
    let git = |arguments: &[&str]| {
        let safe = format!("safe.directory={}", from.display());
        sh::prepare(cmd!(shell, "git -C {from} -c {safe} {arguments...}"))
    };
    let wanted = format!("{revision}^{{commit}}");
    let commit = sh::output(&mut git(&["rev-parse", "--verify", "--end-of-options", &wanted]))?;
    let commit = commit.trim();
    let archive = slot.archive();
    let to = format!("--output={}", archive.display());
    // Set explicitly, since the file's name would select another compression.
    sh::output(&mut git(&["archive", "--format=tar", "--prefix=linux/", &to, commit]))?;
    Ok(format!("git commit {commit}"))
}

fn expect_no_build(tree: &Path) -> Result<()> {
    let found = TRACES_OF_A_BUILD.iter().find(|trace| tree.join(trace).exists());
    match found {
        Some(trace) => Err(Ending::infrastructure(format!(
            "a kernel was built in this source tree ({trace} is there), so another cannot be built from it: name a git \
             revision with --revision, or a clean copy"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Ui;

    fn kernel(folder: &Path) {
        std::fs::create_dir_all(folder.join("init")).unwrap();
        let makefile = "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 107\n";
        std::fs::write(folder.join("Makefile"), makefile).unwrap();
        std::fs::write(folder.join("init/main.c"), "int main;\n").unwrap();
    }

    fn take(store: &Store, from: &Path, revision: Option<&str>) -> Result<StoredSource> {
        Ui::new(true, false).phase("import", |phase| import(store, from, revision, phase))
    }

    fn run(folder: &Path, program: &str, arguments: &[&str]) {
        sh::output(sh::command(program).args(arguments).current_dir(folder)).unwrap();
    }

    #[test]
    fn directories_and_archives_of_them_are_taken_and_found_by_their_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&folder.path().join("store"))).unwrap();
        let tree = folder.path().join("linux");
        kernel(&tree);
        let taken = take(&store, &tree, None).unwrap();
        assert_eq!(
            (taken.origin.version.as_str(), taken.origin.from.as_str()),
            ("6.12.107", "directory linux")
        );
        assert_eq!(
            std::fs::read_to_string(taken.tree.join("init/main.c")).unwrap(),
            "int main;\n"
        );
        assert_eq!(take(&store, &tree, None).unwrap().sha256, taken.sha256);

        let found = imported(&store, "6.12.107", &taken.sha256[..12], &|_, _| {}).unwrap();
        assert_eq!(found.tree, taken.tree);
        assert!(imported(&store, "6.12.108", &taken.sha256[..12], &|_, _| {}).is_err());
        assert!(imported(&store, "6.12.107", "", &|_, _| {}).is_err());

        run(folder.path(), "tar", &["czf", "linux.tar.gz", "linux"]);
        let archive = take(&store, &folder.path().join("linux.tar.gz"), None).unwrap();
        assert_eq!(archive.origin.from, "archive linux.tar.gz");
        assert!(archive.tree.join("init/main.c").is_file());
    }

    #[test]
    fn what_is_no_clean_kernel_tree_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&folder.path().join("store"))).unwrap();
        let tree = folder.path().join("linux");
        kernel(&tree);
        std::fs::write(tree.join(".config"), "").unwrap();
        assert!(
            take(&store, &tree, None)
                .unwrap_err()
                .to_string()
                .contains("--revision")
        );
        std::fs::remove_file(tree.join(".config")).unwrap();
        std::fs::write(tree.join("Makefile"), "all:\n").unwrap();
        assert!(take(&store, &tree, None).is_err());
        assert!(store.sources().unwrap().is_empty());
    }

    #[test]
    fn a_revision_is_taken_without_what_was_not_committed() {
        if sh::find("git").is_none() {
            // No other test needs git, so skip this one without it.
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&folder.path().join("store"))).unwrap();
        let tree = folder.path().join("linux");
        kernel(&tree);
        run(&tree, "git", &["init", "-q"]);
        run(&tree, "git", &["add", "."]);
        let who = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
        run(&tree, "git", &[&who[..], &["commit", "-q", "-m", "x"]].concat());
        std::fs::write(tree.join("init/main.c"), "changed\n").unwrap();
        std::fs::write(tree.join(".config"), "").unwrap();
        let taken = take(&store, &tree, Some("HEAD")).unwrap();
        assert!(taken.origin.from.starts_with("git commit "), "{:?}", taken.origin);
        assert_eq!(
            std::fs::read_to_string(taken.tree.join("init/main.c")).unwrap(),
            "int main;\n"
        );
        assert!(take(&store, &tree, Some("--output=x")).is_err());
    }
}
