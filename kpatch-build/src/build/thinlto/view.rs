//! A folder in which the inputs of a thin link have the same relative names whichever version of them is linked.
//!
//! Shards name modules by path, so the original and the patched link must agree on every path; and the back end must be
//! given the very path the link saw, or it silently generates next to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::kbuild::{Input, ThinLink};

/// Inputs of one thin link, by name and by content.
#[derive(Debug, Clone)]
pub struct View {
    /// Commands that use the view run here.
    pub root: PathBuf,
    /// The link, new objects included.
    pub link: ThinLink,
    /// What each name leads to.
    pub targets: BTreeMap<String, PathBuf>,
}

impl View {
    /// Makes a view of a link; `instead` has objects to be taken from elsewhere, `added` new ones with the object each follows.
    pub fn new(
        root: PathBuf,
        build: &Path,
        link: &ThinLink,
        instead: &BTreeMap<String, PathBuf>,
        added: &[(String, String)],
    ) -> Result<View> {
        let link = with_added(link, added)?;
        let mut targets = BTreeMap::new();
        for Input { path, .. } in &link.inputs {
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                bail!("the link takes {path}, which is outside of the build directory");
            }
            let target = instead.get(path).cloned().unwrap_or_else(|| build.join(path));
            targets.insert(path.clone(), target);
        }
        if let Some(unknown) = instead.keys().find(|path| !targets.contains_key(*path)) {
            bail!("{unknown} should be exchanged in a link it is not part of");
        }
        let view = View { root, link, targets };
        view.make(build)?;
        Ok(view)
    }

    /// Folders without an exchanged object are linked as a whole: a link for each of some thousand objects takes longer
    /// than the thin link itself on a busy disk.
    fn make(&self, build: &Path) -> Result<()> {
        let exchanged = self
            .targets
            .iter()
            .filter(|(path, target)| **target != build.join(path));
        let own: BTreeSet<&Path> = exchanged
            .flat_map(|(path, _)| Path::new(path).ancestors().skip(1))
            .collect();
        fs::create_dir_all(&self.root).with_context(|| format!("cannot make {}", self.root.display()))?;
        for folder in &own {
            let folder = self.root.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut links: BTreeMap<&Path, PathBuf> = BTreeMap::new();
        for (path, target) in &self.targets {
            let path = Path::new(path);
            // From the top down, the first folder that is not ours; the empty path is the view itself and always ours.
            let folders: Vec<_> = path
                .ancestors()
                .skip(1)
                .filter(|folder| *folder != Path::new(""))
                .collect();
            match folders.into_iter().rev().find(|folder| !own.contains(folder)) {
                Some(folder) => links.insert(folder, build.join(folder)),
                None => links.insert(path, target.clone()),
            };
        }
        for (path, target) in links {
            let link = self.root.join(path);
            symlink(target, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
        Ok(())
    }

    /// The inputs as arguments for the linker.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::with_capacity(self.link.inputs.len());
        let mut library: Option<&String> = None;
        for Input { path, lazy } in &self.link.inputs {
            if library != lazy.as_ref() {
                arguments.extend(library.map(|_| "--end-lib".to_owned()));
                arguments.extend(lazy.as_ref().map(|_| "--start-lib".to_owned()));
                library = lazy.as_ref();
            }
            arguments.push(path.clone());
        }
        arguments.extend(library.map(|_| "--end-lib".to_owned()));
        arguments
    }
}

fn with_added(link: &ThinLink, added: &[(String, String)]) -> Result<ThinLink> {
    let mut link = link.clone();
    for (object, after) in added {
        let Some(at) = link.inputs.iter().position(|input| input.path == *after) else {
            bail!("{object} should follow {after}, which is not part of the link");
        };
        let lazy = link.inputs[at].lazy.clone();
        link.inputs.insert(
            at + 1,
            Input {
                path: object.clone(),
                lazy,
            },
        );
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> ThinLink {
        let input = |path: &str, lazy: Option<&str>| Input {
            path: path.into(),
            lazy: lazy.map(str::to_owned),
        };
        let inputs = vec![
            input("a/x.o", None),
            input("l/y.o", Some("l/l.a")),
            input("m/z.o", Some("m/m.a")),
        ];
        ThinLink {
            linker: "ld".into(),
            flags: Vec::new(),
            inputs,
            distributed: false,
        }
    }

    #[test]
    fn names_stay_and_contents_change() {
        let (root, build) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(build.path().join("a")).unwrap();
        fs::write(build.path().join("a/x.o"), "orig").unwrap();
        fs::write(build.path().join("new"), "patched").unwrap();
        let instead = BTreeMap::from([("l/y.o".to_owned(), build.path().join("new"))]);
        let added = [("a/n.o".to_owned(), "a/x.o".to_owned())];
        let view = View::new(root.path().join("v"), build.path(), &link(), &instead, &added).unwrap();
        assert_eq!(fs::read_to_string(view.root.join("a/x.o")).unwrap(), "orig");
        assert_eq!(fs::read_to_string(view.root.join("l/y.o")).unwrap(), "patched");
        let expected = [
            "a/x.o",
            "a/n.o",
            "--start-lib",
            "l/y.o",
            "--end-lib",
            "--start-lib",
            "m/z.o",
            "--end-lib",
        ];
        assert_eq!(view.arguments(), expected);
    }

    #[test]
    fn an_added_object_is_part_of_the_library_of_the_one_it_follows() {
        let (root, build) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let added = [("l/n.o".to_owned(), "l/y.o".to_owned())];
        let view = View::new(root.path().join("v"), build.path(), &link(), &BTreeMap::new(), &added).unwrap();
        assert_eq!(
            view.arguments(),
            [
                "a/x.o",
                "--start-lib",
                "l/y.o",
                "l/n.o",
                "--end-lib",
                "--start-lib",
                "m/z.o",
                "--end-lib"
            ]
        );
        assert_eq!(view.targets["l/n.o"], build.path().join("l/n.o"));
    }

    #[test]
    fn untouched_folders_are_one_link() {
        let (root, build) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let instead = BTreeMap::from([("a/x.o".to_owned(), build.path().join("new"))]);
        let view = View::new(root.path().join("v"), build.path(), &link(), &instead, &[]).unwrap();
        assert_eq!(fs::read_link(view.root.join("l")).unwrap(), build.path().join("l"));
        assert_eq!(
            fs::read_link(view.root.join("a/x.o")).unwrap(),
            build.path().join("new")
        );
        assert!(fs::symlink_metadata(view.root.join("a")).unwrap().is_dir());
    }

    #[test]
    fn mistakes_are_errors() {
        let root = tempfile::tempdir().unwrap();
        let none = BTreeMap::new();
        let unknown = BTreeMap::from([("q.o".to_owned(), PathBuf::from("/q"))]);
        assert!(View::new(root.path().join("1"), Path::new("/b"), &link(), &unknown, &[]).is_err());
        assert!(
            View::new(
                root.path().join("2"),
                Path::new("/b"),
                &link(),
                &none,
                &[("n.o".into(), "q.o".into())]
            )
            .is_err()
        );
        let mut outside = link();
        outside.inputs[0].path = "../x.o".into();
        assert!(View::new(root.path().join("3"), Path::new("/b"), &outside, &none, &[]).is_err());
    }
}
