//! A tree that looks like the user's with the patched files in their places, for compilers that know no overlays.
//!
//! Directories on the way to a patched file, or to a source that is compiled, are real; everything else is a symbolic
//! link to the user's tree. Nothing needs privileges, and the user's tree is only read. The price: `..` behind a link
//! leads back into the user's tree, where a patched file is unpatched. So the list of files that a compilation read is
//! looked through ([`View::unpatched`]), and if need be more directories are made real.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The tree.
#[derive(Debug)]
pub struct View {
    /// Where it is.
    pub root: PathBuf,
    source: PathBuf,
    /// Real directories, relative to the root; the empty path is the root itself.
    real: BTreeSet<PathBuf>,
    /// Patched files, relative to the root, with their content.
    files: BTreeMap<PathBuf, PathBuf>,
    /// What the user's tree has in the places of patched files, without links in the path.
    originals: BTreeSet<PathBuf>,
}

impl View {
    /// Makes the tree anew: one in the same folder, of files that were compiled before the others, goes. `files` are paths relative to the source tree, with the
    /// files that are to be seen there.
    pub fn new(root: &Path, source: &Path, files: BTreeMap<PathBuf, PathBuf>) -> Result<View> {
        // Links are removed and not followed.
        match fs::remove_dir_all(root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", root.display()));
            }
            _ => {}
        }
        let originals = files.keys().filter_map(|path| source.join(path).canonicalize().ok());
        let mut view = View {
            root: root.to_owned(),
            source: source.to_owned(),
            real: BTreeSet::new(),
            originals: originals.collect(),
            files: BTreeMap::new(),
        };
        view.make_real(Path::new(""))?;
        for (path, content) in files {
            view.make_real(path.parent().unwrap_or(Path::new("")))?;
            let place = view.root.join(&path);
            remove(&place)?;
            fs::copy(&content, &place).with_context(|| format!("cannot write {}", place.display()))?;
            view.files.insert(path, content);
        }
        Ok(view)
    }

    /// The same tree in another folder, with other contents of the patched files: those of the same names in `content`.
    pub fn with_content(&self, root: &Path, content: &Path) -> Result<View> {
        let files = self.files.keys().map(|path| (path.clone(), content.join(path)));
        let mut view = View::new(root, &self.source, files.collect())?;
        for directory in &self.real {
            view.make_real(directory)?;
        }
        Ok(view)
    }

    /// Makes a directory, and all above it, real.
    pub fn make_real(&mut self, directory: &Path) -> Result<()> {
        let mut above: Vec<&Path> = directory.ancestors().collect();
        above.reverse();
        for directory in above {
            if self.real.insert(directory.to_owned()) {
                self.fill(directory)?;
            }
        }
        Ok(())
    }

    fn fill(&self, directory: &Path) -> Result<()> {
        let (here, there) = (self.root.join(directory), self.source.join(directory));
        remove(&here)?;
        fs::create_dir_all(&here).with_context(|| format!("cannot make {}", here.display()))?;
        // A patch may add a directory.
        if !there.is_dir() {
            return Ok(());
        }
        let entries = fs::read_dir(&there).with_context(|| format!("cannot list {}", there.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", there.display()))?;
            let link = here.join(entry.file_name());
            symlink(entry.path(), &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
        Ok(())
    }

    /// Which of these files, as a compiler names what it read, are originals of patched files. Relative names count
    /// from `folder`.
    pub fn unpatched<'a>(&self, read: impl Iterator<Item = &'a str>, folder: &Path) -> BTreeSet<&'a str> {
        let is_original = |name: &&str| {
            let path = folder.join(name).canonicalize();
            path.is_ok_and(|path| self.originals.contains(&path))
        };
        read.filter(is_original).collect()
    }

    /// The directory of a file as a compiler names it, relative to the root; nothing if it lies elsewhere.
    pub fn directory_of(&self, name: &str) -> Option<PathBuf> {
        let path = Path::new(name).strip_prefix(&self.root).ok()?;
        // What stands before the first `..` is the directory that the include was written for.
        let plain: PathBuf = path
            .components()
            .take_while(|part| matches!(part, std::path::Component::Normal(_)))
            .collect();
        if plain == path {
            return plain.parent().map(Path::to_owned);
        }
        Some(plain)
    }
}

fn remove(place: &Path) -> Result<()> {
    match fs::remove_file(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", place.display()))
        }
        _ => Ok(()),
    }
}

/// The files in a dependency list as compilers write it for make: `target: file \ file`.
pub fn dependencies(list: &str) -> impl Iterator<Item = &str> {
    list.split_whitespace()
        .filter(|word| *word != "\\" && !word.ends_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, PathBuf, View) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("s");
        for (path, text) in [("fs/a/a.c", "a"), ("fs/b/b.h", "b"), ("fs/x.c", "x"), ("lib/l.c", "l")] {
            let path = source.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let patched = folder.path().join("patched");
        fs::write(&patched, "new").unwrap();
        let files = BTreeMap::from([("fs/b/b.h".into(), patched.clone()), ("new/n.c".into(), patched)]);
        let view = View::new(&folder.path().join("view"), &source, files).unwrap();
        (folder, source, view)
    }

    #[test]
    fn a_tree_that_is_there_is_made_anew_without_touching_what_it_links_to() {
        let (_folder, source, mut first) = tree();
        first.make_real(Path::new("fs/a")).unwrap();
        fs::write(first.root.join("lib/l.c"), "through the link").unwrap();
        let again = View::new(&first.root, &source, BTreeMap::new()).unwrap();
        assert!(again.root.join("fs").is_symlink());
        let text = fs::read_to_string(source.join("lib/l.c")).unwrap();
        assert_eq!(text, "through the link", "the linked folder is still there");
    }

    #[test]
    fn patched_files_are_in_place_and_the_rest_is_linked() {
        let (_folder, source, view) = tree();
        let read = |path: &str| fs::read_to_string(view.root.join(path)).unwrap();
        assert_eq!(
            (read("fs/b/b.h"), read("new/n.c"), read("fs/x.c")),
            ("new".into(), "new".into(), "x".into())
        );
        assert!(view.root.join("lib").is_symlink() && view.root.join("fs/a").is_symlink());
        assert!(!view.root.join("fs").is_symlink());
        assert_eq!(fs::read_to_string(source.join("fs/b/b.h")).unwrap(), "b");
    }

    #[test]
    fn a_way_back_into_the_tree_is_seen_and_closed() {
        let (_folder, _source, mut view) = tree();
        let name = format!("{}/fs/a/../b/b.h", view.root.display());
        let read = || fs::read_to_string(&name).unwrap();
        assert_eq!(read(), "b", "through the link to fs/a");
        let found = view.unpatched([name.as_str()].into_iter(), Path::new("/"));
        assert_eq!(found, BTreeSet::from([name.as_str()]));
        let directory = view.directory_of(&name).unwrap();
        assert_eq!(directory, Path::new("fs/a"));
        view.make_real(&directory).unwrap();
        assert_eq!(read(), "new");
        assert!(view.unpatched([name.as_str()].into_iter(), Path::new("/")).is_empty());
    }

    #[test]
    fn lists_of_dependencies_are_read() {
        let list = "/o/a.o: /s/a.c \\\n  /s/b.h include/c.h\n\n/s/b.h:\n";
        assert_eq!(
            dependencies(list).collect::<Vec<_>>(),
            ["/s/a.c", "/s/b.h", "include/c.h"]
        );
    }
}
