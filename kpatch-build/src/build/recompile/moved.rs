//! Compiles in a source tree that was elsewhere when the kernel was built.
//!
//! Recorded commands name the old place, and so does what they make: bitcode has the name of its source in it, and names
//! of static functions depend on that. So clang goes on seeing every file under its old name, through an overlay with the
//! new place behind the old one. GCC knows no overlays and writes no such name; its commands get the new place, and
//! options that put the old one into debugging information. Whether either is right is seen as ever: the unpatched file
//! must compile to the recorded object.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::cc1;
use crate::build::kbuild::Trees;

/// Options that tell a compiler's command from others.
const COMPILES: [&str; 3] = ["-c", "-S", "-cc1"];

/// Both places of the source tree, as a compiler is to see them.
#[derive(Debug)]
pub struct Moved {
    /// The build directory of today, and of then if that follows from how the source tree moved.
    build: (PathBuf, Option<PathBuf>),
    old: String,
    new: String,
    /// The overlay, for a clang.
    overlay: Option<PathBuf>,
}

impl Moved {
    /// Nothing for trees that are where they were. The overlay goes into the work folder.
    pub fn of(trees: &Trees, compiler: &str, work: &Path) -> Result<Option<Moved>> {
        let Some(old) = &trees.recorded else { return Ok(None) };
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .context("a source tree whose path is no text")
        };
        let name = compiler.rsplit('/').next().unwrap_or(compiler);
        let overlay = name.starts_with("clang").then(|| work.join("moved.json"));
        if let Some(overlay) = &overlay {
            let roots = json!([{ "type": "directory-remap", "name": old, "external-contents": trees.source }]);
            let described =
                json!({ "version": 0, "case-sensitive": "true", "use-external-names": "false", "roots": roots });
            fs::write(overlay, described.to_string()).with_context(|| format!("cannot write {}", overlay.display()))?;
        }
        Ok(Some(Moved {
            build: (trees.build.clone(), trees.recorded_build()),
            old: text(old)?,
            new: text(&trees.source)?,
            overlay,
        }))
    }

    /// A recorded command for the tree where it is now.
    pub fn command(&self, words: &[String]) -> Result<Vec<String>> {
        // What kbuild runs on an object afterwards takes no options of a compiler.
        if !words.iter().any(|word| COMPILES.contains(&word.as_str())) {
            return Ok(words.iter().map(|word| word.replace(&self.old, &self.new)).collect());
        }
        let Some(overlay) = &self.overlay else {
            return Ok(self.renamed(words));
        };
        let old = format!("{}/", self.old);
        let sources: Vec<&String> = words
            .iter()
            .filter(|word| word.starts_with(&old) && (word.ends_with(".c") || word.ends_with(".S")))
            .collect();
        let mut words = match sources[..] {
            // What assembly is called is not in its object.
            [source] if source.ends_with(".S") => return Ok(self.renamed(words)),
            // The driver looks for its input before it reads an overlay.
            [source] if words.get(1).is_none_or(|word| word != "-cc1") => {
                cc1::command(words, source, &source.replacen(&self.old, &self.new, 1), &self.build.0)?
            }
            [_] | [] => words.to_vec(),
            _ => bail!("the command names {} sources", sources.len()),
        };
        if let (today, Some(then)) = &self.build {
            for option in ["-fdebug-compilation-dir=", "-fcoverage-compilation-dir="] {
                let (from, to) = (
                    format!("{option}{}", today.display()),
                    format!("{option}{}", then.display()),
                );
                words
                    .iter_mut()
                    .filter(|word| **word == from)
                    .for_each(|word| word.clone_from(&to));
            }
        }
        // Before all other overlays, which are to lie on top of it.
        let at = if words.get(1).is_some_and(|word| word == "-cc1") {
            2
        } else {
            1
        };
        words.splice(at..at, ["-ivfsoverlay".to_owned(), overlay.display().to_string()]);
        Ok(words)
    }

    fn renamed(&self, words: &[String]) -> Vec<String> {
        let mut renamed: Vec<String> = words.iter().map(|word| word.replace(&self.old, &self.new)).collect();
        // Of several options that fit the last one counts, and the recorded ones know more.
        let mut options = vec![format!("-fdebug-prefix-map={}={}", self.new, self.old)];
        if let (today, Some(then)) = &self.build {
            options.push(format!("-fdebug-prefix-map={}={}", today.display(), then.display()));
        }
        renamed.splice(1..1, options);
        renamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn moved(compiler: &str) -> (tempfile::TempDir, Moved) {
        let work = tempfile::tempdir().unwrap();
        let trees = Trees {
            source: "/new/sources/a/tree".into(),
            build: "/new/builds/b".into(),
            objects: "/new/builds/b".into(),
            recorded: Some("/old/sources/a/tree".into()),
        };
        let moved = Moved::of(&trees, compiler, work.path()).unwrap().unwrap();
        (work, moved)
    }

    #[test]
    fn gcc_gets_the_new_names_and_writes_the_old_ones() {
        let (_work, moved) = moved("/usr/bin/gcc-12");
        let command = words("gcc-12 -I/old/sources/a/tree/include -g -c /old/sources/a/tree/fs/a.c");
        let expected = "gcc-12 -fdebug-prefix-map=/new/sources/a/tree=/old/sources/a/tree \
                        -fdebug-prefix-map=/new/builds/b=/old/builds/b -I/new/sources/a/tree/include -g -c \
                        /new/sources/a/tree/fs/a.c";
        assert_eq!(moved.command(&command).unwrap(), words(expected));
    }

    #[test]
    fn clang_goes_on_seeing_the_old_names() {
        let (work, moved) = moved("clang-19");
        let overlay = work.path().join("moved.json");
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&overlay).unwrap()).unwrap();
        assert_eq!(json["roots"][0]["name"], "/old/sources/a/tree");
        assert_eq!(json["roots"][0]["external-contents"], "/new/sources/a/tree");
        let command = words(
            "clang-19 -cc1 -fdebug-compilation-dir=/new/builds/b -ivfsoverlay /p.json /old/sources/a/tree/fs/a.c",
        );
        let expected = format!(
            "clang-19 -cc1 -ivfsoverlay {} -fdebug-compilation-dir=/old/builds/b -ivfsoverlay /p.json \
             /old/sources/a/tree/fs/a.c",
            overlay.display()
        );
        assert_eq!(moved.command(&command).unwrap(), words(&expected));
        let assembly = moved
            .command(&words("clang-19 -c /old/sources/a/tree/lib/a.S"))
            .unwrap();
        assert_eq!(assembly.last().unwrap(), "/new/sources/a/tree/lib/a.S");
    }

    #[test]
    fn what_follows_the_compiler_gets_no_options_of_it() {
        for compiler in ["gcc", "clang"] {
            let (_work, moved) = moved(compiler);
            let objtool = words("./tools/objtool/objtool --mcount fs/a.o");
            assert_eq!(moved.command(&objtool).unwrap(), objtool);
            let link = moved
                .command(&words("ld -r -T /old/sources/a/tree/x.lds -o a.o b.o"))
                .unwrap();
            assert_eq!(link, words("ld -r -T /new/sources/a/tree/x.lds -o a.o b.o"));
        }
    }

    #[test]
    fn a_tree_that_stayed_needs_nothing() {
        let trees = Trees {
            source: "/s".into(),
            build: "/b".into(),
            objects: "/b".into(),
            recorded: None,
        };
        assert!(Moved::of(&trees, "clang", Path::new("/no/such")).unwrap().is_none());
    }
}
