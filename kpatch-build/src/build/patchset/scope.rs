//! Decides for each changed file whether a livepatch can be made from it, and finds the translation units it reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kpatch_core::{Code, Refusal, Subject};
use rayon::prelude::*;

use super::makefile::{AddedObject, added_objects, is_makefile};
use super::shadow::{folder_of, may_shadow};
use super::{
    ASSEMBLY, BOOT, ChangeKind, DOES_NOT_APPLY, FILE_KIND, FileChange, HOST_TOOL, KCONFIG, MAKEFILE, NOT_BUILT,
    PURGATORY, PatchSet, REALMODE, REMOVED, VDSO,
};
use crate::build::kbuild::{Home, Kbuild, Other, TreePath, Tu};
use crate::kernel::Arch;

/// What a patch means for a build.
#[derive(Debug, Default)]
pub struct Scope {
    /// Files the compiler must see in their patched form, relative to the source tree.
    pub overlaid: BTreeSet<String>,
    /// Translation units a changed file reaches, with those files; the TU's own source comes first.
    pub touched: BTreeMap<String, Vec<String>>,
    /// Objects that Makefile changes add.
    pub added: BTreeSet<AddedObject>,
    /// What was left out, and why that is harmless.
    pub notes: Vec<String>,
    /// What cannot be done.
    pub refusals: Vec<Refusal>,
    /// Whether sources that the configuration leaves out are left out here, too.
    pub skip_unbuilt: bool,
}

/// Sorts the files of a patch set. With `skip_unbuilt`, sources that the configuration leaves out are no refusal.
pub fn scope(set: &PatchSet, kbuild: &Kbuild, skip_unbuilt: bool) -> Scope {
    let mut scope = Scope {
        skip_unbuilt,
        ..Scope::default()
    };
    let paths: BTreeSet<String> = set.files.iter().flat_map(names).collect();
    let reached = reached(kbuild, &paths);
    for change in &set.files {
        scope.add(change, kbuild, &reached);
    }
    let overlaid = &scope.overlaid;
    for (object, files) in reached {
        let files: Vec<String> = files.into_iter().filter(|file| overlaid.contains(file)).collect();
        if !files.is_empty() {
            scope.touched.insert(object, files);
        }
    }
    scope
}

/// What must be known of a kernel whose build left no records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Sources in C that are there and change.
    pub sources: BTreeSet<String>,
    /// Files that change, or are new, and are no sources of their own: some source may include them.
    pub headers: BTreeSet<String>,
}

/// Sorts the files of a patch set by their names alone.
pub fn reach(set: &PatchSet, source: &Path) -> Reach {
    let mut reach = Reach::default();
    let changed = set.files.iter().filter(|change| change.kind != ChangeKind::ModeOnly);
    for path in changed.flat_map(names) {
        let is_there = source.join(&path).is_file();
        match class(&path) {
            Class::Source if is_there => reach.sources.insert(path),
            Class::Source => false,
            Class::Included => reach.headers.insert(path),
            Class::Ignored(_) | Class::Refused(..) | Class::Makefile => false,
        };
    }
    reach
}

fn names(change: &FileChange) -> Vec<String> {
    match &change.kind {
        ChangeKind::Renamed(from) | ChangeKind::Copied(from) => vec![change.path.clone(), from.clone()],
        _ => vec![change.path.clone()],
    }
}

/// All TUs made from any of these files, with the files.
pub fn reached(kbuild: &Kbuild, paths: &BTreeSet<String>) -> BTreeMap<String, Vec<String>> {
    // Millions of dependencies are looked at; comparing the last component first keeps that cheap.
    let last = |path: &str| path.rsplit('/').next().map(str::to_owned).unwrap_or_default();
    let lasts: BTreeSet<String> = paths.iter().map(|path| last(path)).collect();
    let new: Vec<&String> = paths
        .iter()
        .filter(|path| class(path) == Class::Included && !kbuild.trees.source.join(path).exists())
        .collect();
    let files_of = |tu: &Tu| -> Vec<String> {
        let spelt = std::iter::once(tu.source.as_str()).chain(tu.deps());
        let mut found = Vec::new();
        for file in spelt.filter(|file| file.rsplit('/').next().is_some_and(|last| lasts.contains(last))) {
            if let TreePath::Source(path) = kbuild.trees.place(file)
                && paths.contains(&path)
                && !found.contains(&path)
            {
                found.push(path);
            }
            for path in &new {
                if !found.contains(path) && may_shadow(path, file, |folder| searches(kbuild, tu, folder)) {
                    found.push((*path).clone());
                }
            }
        }
        found
    };
    let all: Vec<_> = kbuild.tus.values().collect();
    let found = all
        .into_par_iter()
        .map(|tu| (tu.object.clone(), files_of(tu)))
        .filter(|(_, files)| !files.is_empty());
    found.collect()
}

/// What is said of an added object that this configuration does not build.
fn switched_off(kbuild: &Kbuild, added: &AddedObject) -> Option<String> {
    let switch = added.list.switch.as_deref()?;
    let is_off = kbuild.config.get(switch.trim_start_matches("CONFIG_")).is_none();
    is_off.then(|| format!("{} is not built, since {switch} is off", added.object))
}

/// Whether a TU looks for included files in a folder of the source tree: a file that it reads is there, or the command
/// names it.
fn searches(kbuild: &Kbuild, tu: &Tu, folder: &str) -> bool {
    let is_it = |path: &str| matches!(kbuild.trees.place(path), TreePath::Source(path) if path == folder);
    let mut read = std::iter::once(tu.source.as_str()).chain(tu.deps());
    let named = || {
        let arguments = tu.recorded().map(|recorded| recorded.compiler).unwrap_or_default();
        arguments
            .iter()
            .any(|argument| argument.strip_prefix("-I").is_some_and(is_it))
    };
    read.any(|file| is_it(folder_of(file))) || named()
}

/// What a file is, by its name alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Ignored(&'static str),
    Refused(Code, &'static str, &'static str),
    Makefile,
    Source,
    Included,
}

fn class(path: &str) -> Class {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let top_level = ["MAINTAINERS", "CREDITS", "README", "COPYING"].contains(&path);
    if path.starts_with("Documentation/")
        || path.starts_with("LICENSES/")
        || matches!(extension, "rst" | "md")
        || top_level
    {
        return Class::Ignored("documentation");
    }
    if path.starts_with("tools/testing/") {
        return Class::Ignored("a test program");
    }
    if matches!(name, ".gitignore" | ".mailmap" | ".clang-format") {
        return Class::Ignored("no part of the build");
    }
    if name.starts_with("Kconfig") || extension == "config" || name.ends_with("_defconfig") {
        let why = "a livepatch cannot change the configuration";
        return Class::Refused(KCONFIG, why, "leave this file out, or write the change in C");
    }
    if is_makefile(path) {
        return Class::Makefile;
    }
    if path.starts_with("tools/") || path.starts_with("scripts/") {
        let why = "this is a program of the build, not of the kernel";
        return Class::Refused(HOST_TOOL, why, "leave this file out");
    }
    match extension {
        "S" => Class::Refused(
            ASSEMBLY,
            "assembly code cannot be livepatched",
            "patch the C code that calls it",
        ),
        "c" => Class::Source,
        _ => Class::Included,
    }
}

/// Whether a change is of something that no kernel is built from, by its names alone.
pub fn is_no_source(change: &FileChange) -> bool {
    names(change)
        .iter()
        .all(|path| matches!(class(path), Class::Ignored(_)))
}

/// Why a change cannot reach this kernel, whatever its configuration. A file that moves away is gone from where it was, so
/// both of its names count.
fn outside(change: &FileChange, arch: Arch) -> Option<String> {
    let of = |path: &str| match class(path) {
        Class::Ignored(why) => Some(why.to_owned()),
        _ => elsewhere(path, arch),
    };
    let why = of(&change.path)?;
    match &change.kind {
        ChangeKind::Renamed(from) => of(from).map(|_| why),
        _ => Some(why),
    }
}

/// What is not part of this kernel by its path: code of other architectures, samples, and programs that the
/// build does not use.
fn elsewhere(path: &str, arch: Arch) -> Option<String> {
    let own = match arch {
        Arch::X86_64 => "x86",
        Arch::Ppc64le => "powerpc",
        Arch::Arm64 => "arm64",
        Arch::S390x => "s390",
    };
    let mut parts = path.split('/');
    match (parts.next()?, parts.next()?) {
        ("samples", _) => Some("samples are not part of the kernel".to_owned()),
        // The build of a kernel runs these, or takes headers from them.
        ("tools", "objtool" | "lib" | "include" | "arch" | "build" | "bpf" | "scripts") => None,
        ("tools", _) => Some("a program that is not part of the kernel".to_owned()),
        ("arch", other) if parts.next().is_some() && other != own => {
            Some(format!("it is for another architecture; this kernel is {arch}"))
        }
        _ => None,
    }
}

type Reached = BTreeMap<String, Vec<String>>;

impl Scope {
    fn refuse(&mut self, code: Code, change: &FileChange, why: &str, hint: &str) {
        self.refusals
            .push(Refusal::new(code, Subject::file(change.path.clone()), why).hint(hint));
    }

    fn ignore(&mut self, change: &FileChange, why: &str) {
        self.notes.push(format!("{} is ignored: {why}", change.path));
    }

    fn add(&mut self, change: &FileChange, kbuild: &Kbuild, reached: &Reached) {
        let is_read = reached.values().any(|files| files.contains(&change.path));
        // What folders of the kernel are for says nothing about those of a module.
        let is_module = kbuild.module_dir.is_some();
        let outside = outside(change, kbuild.arch).filter(|_| !is_read && !is_module);
        let name = change.path.rsplit('/').next().unwrap_or(&change.path);
        match class(if is_module { name } else { &change.path }) {
            Class::Ignored(why) if is_module && !is_read => self.ignore(change, why),
            _ if outside.is_some() => self.ignore(change, &outside.unwrap_or_default()),
            _ if self.lacks(change, &kbuild.trees.source) => self.missing(change, &kbuild.trees.source),
            _ if change.kind == ChangeKind::ModeOnly => self.ignore(change, "only its permissions change"),
            Class::Refused(code, why, hint) => self.refuse(code, change, why, hint),
            Class::Makefile => self.makefile(change, kbuild),
            // What is left of the ignored ones has moved there from a place that counts.
            Class::Source | Class::Ignored(_) => self.source(change, kbuild, reached),
            Class::Included => self.included(change, reached),
        }
    }

    /// Whether the file that is changed is not there, and no section before makes it.
    fn lacks(&self, change: &FileChange, source: &Path) -> bool {
        let needed = match &change.kind {
            ChangeKind::New => return false,
            ChangeKind::Renamed(from) | ChangeKind::Copied(from) => from,
            _ => &change.path,
        };
        !self.overlaid.contains(needed) && source.join(needed).symlink_metadata().is_err()
    }

    /// A file that is nowhere says that the patch is for another tree, or that its paths start elsewhere.
    fn missing(&mut self, change: &FileChange, source: &Path) {
        let is_there = |path: &&str| path.contains('/') && source.join(path).is_file();
        let spelt = change.spelt.as_deref().filter(is_there);
        let below = change.path.match_indices('/').map(|(at, _)| &change.path[at + 1..]);
        let hint = match (spelt, below.into_iter().find(|path| is_there(path))) {
            (Some(spelt), _) => format!(
                "this looks like a patch for `patch -p0`, since {spelt} is there: put `a/` and `b/` before its paths"
            ),
            (None, Some(below)) => {
                format!(
                    "its paths have too many leading folders, since {below} is there: they start at the top of the tree"
                )
            }
            (None, None) => "is the patch for another version?".to_owned(),
        };
        self.refuse(DOES_NOT_APPLY, change, "the source tree does not have this file", &hint);
    }

    fn makefile(&mut self, change: &FileChange, kbuild: &Kbuild) {
        if change.kind != ChangeKind::Modified {
            let why = "a Makefile is made, removed or renamed";
            return self.refuse(
                MAKEFILE,
                change,
                why,
                "only adding an object to an existing list is understood",
            );
        }
        match added_objects(change) {
            Ok(added) => {
                self.notes
                    .extend(added.iter().filter_map(|added| switched_off(kbuild, added)));
                self.added.extend(added);
            }
            Err(refusal) => self.refusals.push(refusal),
        }
    }

    fn source(&mut self, change: &FileChange, kbuild: &Kbuild, reached: &Reached) {
        let of = |path: &str| -> Vec<&Tu> {
            let objects = reached
                .iter()
                .filter(|(_, files)| files.iter().any(|file| file == path));
            objects.filter_map(|(object, _)| kbuild.tus.get(object)).collect()
        };
        match &change.kind {
            ChangeKind::New | ChangeKind::Copied(_) => {
                self.overlaid.insert(change.path.clone());
            }
            ChangeKind::Deleted if of(&change.path).is_empty() => self.ignore(change, "it is not part of this kernel"),
            ChangeKind::Deleted => {
                let hint = "keep the file; a livepatch can only replace functions";
                self.refuse(
                    REMOVED,
                    change,
                    "the patch removes a source of the running kernel",
                    hint,
                );
            }
            ChangeKind::Renamed(from) if of(from).is_empty() => self.not_built(change),
            ChangeKind::Renamed(_) => {
                let hint = "change the file under its old name";
                self.refuse(
                    REMOVED,
                    change,
                    "the patch renames a source of the running kernel",
                    hint,
                );
            }
            ChangeKind::Modified | ChangeKind::ModeOnly => match of(&change.path)[..] {
                [] => self.not_built(change),
                ref tus => self.modified(change, kbuild, tus),
            },
        }
    }

    /// A source that is not compiled. Where the file lies may be the better reason: no configuration would make it part of the running kernel.
    fn not_built(&mut self, change: &FileChange) {
        if let Some((code, what)) = Other::of_path(&change.path).and_then(beyond_reach) {
            let hint = "only a new kernel can bring this change";
            return self.refuse(code, change, &format!("it is {what}"), hint);
        }
        let why = "this kernel's configuration does not build it";
        if self.skip_unbuilt {
            return self.ignore(change, why);
        }
        let hint = "leave it out with --skip-unbuilt, or switch on its option and build the kernel again";
        self.refuse(NOT_BUILT, change, why, hint);
    }

    fn modified(&mut self, change: &FileChange, kbuild: &Kbuild, tus: &[&Tu]) {
        for tu in tus {
            let own = kbuild.trees.place(&tu.source) == TreePath::Source(change.path.clone());
            if !own {
                continue;
            }
            for home in kbuild.members.homes(tu) {
                if let Home::Other(other) = home
                    && let Some((code, what)) = beyond_reach(other)
                {
                    let hint = "only a new kernel can bring this change";
                    return self.refuse(code, change, &format!("{} is {what}", tu.object), hint);
                }
            }
        }
        self.overlaid.insert(change.path.clone());
    }

    /// A header, or text of any other name that some source includes.
    fn included(&mut self, change: &FileChange, reached: &Reached) {
        let is_known = |path: &String| reached.values().any(|files| files.contains(path));
        let known = is_known(&change.path);
        let is_header = change.path.ends_with(".h");
        match &change.kind {
            ChangeKind::New | ChangeKind::Copied(_) if is_header => {
                self.overlaid.insert(change.path.clone());
            }
            // Whoever still includes the old name must not find it.
            ChangeKind::Renamed(from) if is_header => {
                let paths = [&change.path, from]
                    .into_iter()
                    .filter(|path| *path != from || is_known(from));
                self.overlaid.extend(paths.cloned());
            }
            _ if known => {
                self.overlaid.insert(change.path.clone());
            }
            _ if is_header => self.ignore(change, "no file of this configuration includes it"),
            _ => {
                let why = "nothing compiled from C includes this file, so its effect is unknown";
                self.refuse(
                    FILE_KIND,
                    change,
                    why,
                    "leave it out if the kernel does not depend on it",
                );
            }
        }
    }
}

/// Refusal code and description of code that a livepatch cannot replace.
pub fn beyond_reach(other: Other) -> Option<(Code, &'static str)> {
    match other {
        Other::Vdso => Some((VDSO, "part of the vDSO, which running processes have mapped")),
        Other::Realmode => Some((REALMODE, "part of the real-mode trampoline")),
        Other::Boot => Some((BOOT, "boot code, which has run already")),
        Other::Purgatory => Some((PURGATORY, "part of the kexec purgatory")),
        Other::HostTool => Some((HOST_TOOL, "a program of the build machine")),
        Other::ModuleInfo | Other::Rest => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::{Fake, put};
    use crate::build::patchset::parse::parse;

    #[test]
    fn a_file_that_is_not_there_is_no_matter_of_the_configuration() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("fs")).unwrap();
        std::fs::write(tree.path().join("fs/a.c"), "a\n").unwrap();
        for (orig, patched, word) in [
            ("fs/a.c", "fs/a.c", "-p0"),
            ("fs/a.c.orig", "fs/a.c", "-p0"),
            ("home/me/linux/fs/a.c", "home/me/linux/fs/a.c", "too many"),
            ("a/fs/b.c", "b/fs/b.c", "another version"),
        ] {
            let text = format!("--- {orig}\n+++ {patched}\n@@ -1 +1 @@\n-a\n+b\n");
            let change = parse("p", text.as_bytes()).unwrap().remove(0);
            let mut scope = Scope::default();
            assert!(scope.lacks(&change, tree.path()), "{patched}");
            scope.missing(&change, tree.path());
            let hint = scope.refusals[0].hint.clone().unwrap_or_default();
            assert!(hint.contains(word), "{patched}: {hint}");
        }
        let change = parse("p", b"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-a\n+b\n")
            .unwrap()
            .remove(0);
        assert!(!Scope::default().lacks(&change, tree.path()));
    }

    #[test]
    fn folders_of_a_module_are_none_of_the_kernel() {
        let mut fake = Fake::of(b"\x7fELF");
        let text =
            ["samples/a.c", "tools/b.c"].map(|path| format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n"));
        let files = parse("p", text.concat().as_bytes()).unwrap();
        files
            .iter()
            .for_each(|file| put(&fake.kbuild.trees.source, &file.path, b"a\n"));
        let set = PatchSet { files };
        let found = |kbuild: &Kbuild| {
            let scope = scope(&set, kbuild, false);
            let codes: Vec<_> = scope.refusals.iter().map(|refusal| refusal.code).collect();
            (codes, scope.notes.len())
        };
        assert_eq!(found(&fake.kbuild), (Vec::new(), 2));
        fake.kbuild.module_dir = Some("/m".into());
        assert_eq!(found(&fake.kbuild), (vec![NOT_BUILT; 2], 0));
    }

    #[test]
    fn a_header_goes_for_those_who_include_it() {
        let overlaid = |text: &str, includer: &str| {
            let change = parse("p", text.as_bytes()).unwrap().remove(0);
            let reached = Reached::from([("fs/a.o".to_owned(), vec![includer.to_owned()])]);
            let mut scope = Scope::default();
            scope.included(&change, &reached);
            scope.overlaid.into_iter().collect::<Vec<_>>()
        };
        let gone = "--- a/fs/a.h\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n";
        assert_eq!(overlaid(gone, "fs/a.h"), ["fs/a.h"]);
        assert_eq!(overlaid(gone, "fs/b.h"), [""; 0]);
        let moved = "diff --git a/fs/a.h b/fs/c.h\nsimilarity index 100%\nrename from fs/a.h\nrename to fs/c.h\n";
        assert_eq!(overlaid(moved, "fs/a.h"), ["fs/a.h", "fs/c.h"]);
        assert_eq!(overlaid(moved, "fs/b.h"), ["fs/c.h"]);
    }

    #[test]
    fn what_no_configuration_of_this_kernel_reaches_is_told_by_its_place() {
        let on = |path: &str, arch| elsewhere(path, arch).is_some();
        for (path, x86, ppc) in [
            ("arch/arm64/kernel/setup.c", true, true),
            ("arch/arm64/lib/memcpy.S", true, true),
            ("arch/x86/kernel/setup.c", false, true),
            ("arch/powerpc/Kconfig", true, false),
            ("arch/Kconfig", false, false),
            ("samples/bpf/x.c", true, true),
            ("tools/perf/perf.c", true, true),
            ("tools/objtool/check.c", false, false),
            ("fs/proc/meminfo.c", false, false),
            ("Makefile", false, false),
        ] {
            assert_eq!((on(path, Arch::X86_64), on(path, Arch::Ppc64le)), (x86, ppc), "{path}");
        }
    }

    #[test]
    fn a_file_that_moves_away_is_not_out_of_reach() {
        let renamed = |from: &str, to: &str| {
            let text =
                format!("diff --git a/{from} b/{to}\nsimilarity index 100%\nrename from {from}\nrename to {to}\n");
            let change = parse("p", text.as_bytes()).unwrap().remove(0);
            outside(&change, Arch::X86_64).is_some()
        };
        assert!(renamed("samples/a.c", "samples/b.c"));
        assert!(renamed("Documentation/a.rst", "samples/a.rst"));
        for to in ["samples/a.c", "arch/arm64/a.c", "Documentation/a.c"] {
            assert!(!renamed("fs/a.c", to), "{to}");
        }
    }

    #[test]
    fn a_source_that_is_not_built_is_left_out_only_on_request() {
        let change = parse("p", b"--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1 +1 @@\n-a\n+b\n")
            .unwrap()
            .remove(0);
        let judged = |skip_unbuilt| {
            let mut scope = Scope {
                skip_unbuilt,
                ..Scope::default()
            };
            scope.not_built(&change);
            (scope.refusals.len(), scope.notes.len())
        };
        assert_eq!((judged(false), judged(true)), ((1, 0), (0, 1)));
    }

    #[test]
    fn without_records_the_names_of_files_say_what_a_patch_reaches() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("fs")).unwrap();
        let mut text = String::new();
        for path in ["fs/a.c", "fs/a.h", "fs/Makefile", "fs/b.S"] {
            std::fs::write(tree.path().join(path), "a\n").unwrap();
            text += &format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a\n+b\n");
        }
        text += "--- /dev/null\n+++ b/fs/new.c\n@@ -0,0 +1 @@\n+b\n";
        let files = parse("p", text.as_bytes()).unwrap();
        let reach = reach(&PatchSet { files }, tree.path());
        let one = |path: &str| BTreeSet::from([path.to_owned()]);
        assert_eq!((reach.sources, reach.headers), (one("fs/a.c"), one("fs/a.h")));
    }

    #[test]
    fn names_decide_the_class() {
        let refused = |path: &str| match class(path) {
            Class::Refused(code, ..) => code.name(),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(refused("arch/x86/lib/memcpy_64.S"), "patch.assembly");
        assert_eq!(refused("fs/Kconfig"), "patch.kconfig");
        assert_eq!(refused("arch/x86/configs/x86_64_defconfig"), "patch.kconfig");
        assert_eq!(refused("scripts/mod/modpost.c"), "patch.host-tool");
        assert_eq!(refused("tools/objtool/check.c"), "patch.host-tool");
        assert_eq!(class("fs/proc/meminfo.c"), Class::Source);
        assert_eq!(class("include/linux/fs.h"), Class::Included);
        assert_eq!(class("fs/proc/Makefile"), Class::Makefile);
        for ignored in [
            "Documentation/x.c",
            "MAINTAINERS",
            "tools/testing/selftests/x.c",
            "fs/README.rst",
        ] {
            assert!(matches!(class(ignored), Class::Ignored(_)), "{ignored}");
        }
    }
}
