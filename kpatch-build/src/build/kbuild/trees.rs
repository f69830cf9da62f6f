//! Relates the many spellings of a path in recorded commands to "relative to the source" and "relative to the build".
//!
//! kbuild writes paths relative to the build directory, relative to it with `../`, or absolute, and the absolute ones may
//! go through a symbolic link. A vfs overlay and a patch only meet if both use the spelling the compiler uses.
//!
//! A folder in which a module was built is a tree of its own: its sources and its objects lie in it, whereas the recorded
//! commands ran in the kernel's build directory (up to Linux 6.12).

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The directories of a build, as its recorded commands spell them.
#[derive(Debug, Clone)]
pub struct Trees {
    /// Absolute path of the source tree; as the commands spell it, unless it was moved.
    pub source: PathBuf,
    /// Absolute path of the directory that recorded commands ran in: of a kernel its build directory.
    pub build: PathBuf,
    /// Absolute path of the directory that the names of objects count from: of a kernel its build directory.
    pub objects: PathBuf,
    /// Where the source tree was when the kernel was built, if it is elsewhere now. Recorded commands name this place.
    pub recorded: Option<PathBuf>,
}

/// Where a file named by a recorded command lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreePath {
    /// In the source tree; the path is relative to it.
    Source(String),
    /// In the build directory (generated); the path is relative to it.
    Build(String),
    /// Anywhere else, e.g. the compiler's own headers.
    Elsewhere(PathBuf),
}

impl Trees {
    /// Finds the spelling of the source tree from one file whose place in it is known.
    pub fn new(source: &Path, build: &Path, known: &str, spelt: &str) -> Result<Trees> {
        let absolute = normalise(&build.join(spelt));
        let Some(root) = absolute.to_str().and_then(|path| path.strip_suffix(known)) else {
            bail!(
                "{} records `{spelt}` as the source of {known}, which does not end in it",
                build.display()
            );
        };
        let root = normalise(Path::new(root));
        let given = source
            .canonicalize()
            .with_context(|| format!("cannot find {}", source.display()))?;
        let moved = root.canonicalize().ok().as_ref() != Some(&given);
        let (source, recorded) = if moved { (given, Some(root)) } else { (root, None) };
        Ok(Trees {
            source,
            build: build.to_path_buf(),
            objects: build.to_path_buf(),
            recorded,
        })
    }

    /// The file of an object.
    pub fn object(&self, object: &str) -> PathBuf {
        self.objects.join(object)
    }

    /// The source tree as recorded commands spell it.
    pub fn spelt(&self) -> &Path {
        self.recorded.as_ref().unwrap_or(&self.source)
    }

    /// Where the build directory was, if source tree and build directory moved together.
    pub fn recorded_build(&self) -> Option<PathBuf> {
        let (mut old, mut new) = (self.recorded.as_deref()?, self.source.as_path());
        while old.file_name().is_some() && old.file_name() == new.file_name() {
            (old, new) = (old.parent()?, new.parent()?);
        }
        Some(old.join(self.build.strip_prefix(new).ok()?))
    }

    /// Where a file is that a compiler names so. Links on the way are not resolved.
    pub fn on_disk(&self, spelt: &str) -> PathBuf {
        let path = self.build.join(spelt);
        let moved = self.recorded.as_ref().and_then(|old| path.strip_prefix(old).ok());
        moved.map_or_else(|| path.clone(), |below| self.source.join(below))
    }

    /// Where a path as spelt in a command or dependency list lives.
    pub fn place(&self, spelt: &str) -> TreePath {
        let absolute = normalise(&self.build.join(spelt));
        let relative = |root: &Path| {
            absolute
                .strip_prefix(root)
                .ok()
                .and_then(Path::to_str)
                .map(str::to_owned)
        };
        // The build directory may lie inside the source tree, so it is asked first, unless the two are one or it is the
        // other way round: a folder with a module may be anywhere.
        let in_build = if self.source.starts_with(&self.build) && absolute.starts_with(&self.source) {
            None
        } else {
            relative(&self.build)
        };
        let in_source = relative(&self.source).or_else(|| relative(self.spelt()));
        match (in_build, in_source) {
            (Some(path), _) => TreePath::Build(path),
            (None, Some(path)) => TreePath::Source(path),
            (None, None) => TreePath::Elsewhere(absolute),
        }
    }

    /// The absolute path of a place.
    pub fn absolute(&self, place: &TreePath) -> PathBuf {
        match place {
            TreePath::Source(path) => self.source.join(path),
            TreePath::Build(path) => self.build.join(path),
            TreePath::Elsewhere(path) => path.clone(),
        }
    }
}

impl TreePath {
    /// The path as messages show it.
    pub fn shown(&self) -> String {
        match self {
            TreePath::Source(path) | TreePath::Build(path) => path.clone(),
            TreePath::Elsewhere(path) => path.display().to_string(),
        }
    }
}

/// Removes `.` and resolves `..` without asking the file system, as compilers name files.
pub fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_meet() {
        let trees = Trees {
            source: "/s".into(),
            build: "/s/out".into(),
            objects: "/s/out".into(),
            recorded: None,
        };
        for spelt in ["/s/include/a.h", "../include/a.h", "/s/fs/../include/./a.h"] {
            assert_eq!(trees.place(spelt), TreePath::Source("include/a.h".into()), "{spelt}");
        }
        assert_eq!(
            trees.place("./include/generated/b.h"),
            TreePath::Build("include/generated/b.h".into())
        );
        assert_eq!(trees.place("/usr/lib/x.h"), TreePath::Elsewhere("/usr/lib/x.h".into()));
    }

    #[test]
    fn in_tree_builds_have_one_place() {
        let trees = Trees {
            source: "/s".into(),
            build: "/s".into(),
            objects: "/s".into(),
            recorded: None,
        };
        assert_eq!(trees.place("fs/a.c"), TreePath::Source("fs/a.c".into()));
    }

    #[test]
    fn a_module_may_be_built_inside_of_the_build_directory() {
        let trees = Trees {
            source: "/b/extra/m".into(),
            build: "/b".into(),
            objects: "/b/extra/m".into(),
            recorded: None,
        };
        assert_eq!(trees.place("extra/m/a.c"), TreePath::Source("a.c".into()));
        assert_eq!(trees.place("./include/a.h"), TreePath::Build("include/a.h".into()));
        assert_eq!(trees.object("a.o"), Path::new("/b/extra/m/a.o"));
    }

    #[test]
    fn a_tree_that_was_moved_has_both_names() {
        let (old, new, build) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let spelt = old.path().join("init/main.c");
        let spelt = spelt.to_str().unwrap();
        let trees = |source: &tempfile::TempDir| Trees::new(source.path(), build.path(), "init/main.c", spelt).unwrap();
        assert_eq!(
            (trees(&old).recorded, trees(&old).spelt().to_owned()),
            (None, old.path().to_owned())
        );
        let moved = trees(&new);
        assert_eq!(moved.spelt(), old.path());
        let there = moved.source.join("init/main.c");
        for name in [spelt, there.to_str().unwrap()] {
            assert_eq!(moved.place(name), TreePath::Source("init/main.c".into()));
            assert_eq!(moved.on_disk(name), there);
        }
        assert_eq!(moved.on_disk("include/a.h"), moved.build.join("include/a.h"));
    }

    #[test]
    fn a_build_directory_that_moved_along_is_known() {
        let build = |source: &str, build: &str| {
            let trees = Trees {
                source: source.into(),
                build: build.into(),
                objects: build.into(),
                recorded: Some("/old/sources/a/tree".into()),
            };
            trees.recorded_build()
        };
        assert_eq!(
            build("/new/sources/a/tree", "/new/builds/b"),
            Some("/old/builds/b".into())
        );
        assert_eq!(build("/new/sources/a/tree", "/elsewhere/b"), None);
    }
}
