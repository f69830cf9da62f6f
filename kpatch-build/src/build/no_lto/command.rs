//! Turns a recorded compiler command into those that make objects for the comparison.

use std::path::Path;

use anyhow::{Result, bail};

use crate::build::kbuild::{TreePath, Trees};
use crate::kernel::Arch;

/// Options whose value is a path.
const PATH_OPTIONS: &[&str] = &["-I", "-iquote", "-isystem", "-idirafter", "-include", "-imacros"];

/// What is added to the recorded command, for both sides.
///
/// Functions and variables get sections of their own, which is what the comparison works on. Debug information is left
/// out: the compiler makes the same code without it, and nothing reads it. On ppc64le all addresses come from slots and
/// no function ends in a branch to another (docs/decisions/ppc64le-small-code-model.md), and on s390x the addresses of
/// variables come from slots (docs/decisions/s390x.md). None of this changes what is
/// inlined, and the differ checks that against the object as recorded.
pub fn options(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 | Arch::Arm64 => &["-ffunction-sections", "-fdata-sections", "-g0"],
        Arch::S390x => &[
            "-ffunction-sections",
            "-fdata-sections",
            "-mno-pic-data-is-text-relative",
            "-fno-section-anchors",
            "-g0",
        ],
        Arch::Ppc64le => &[
            "-ffunction-sections",
            "-fdata-sections",
            "-mcmodel=small",
            "-fno-optimize-sibling-calls",
            "-g0",
        ],
    }
}

/// Whether calls need room for the restored TOC pointer ([`super::nops`]).
pub fn needs_nops(arch: Arch) -> bool {
    arch == Arch::Ppc64le
}

/// A command for the view: what names a place in the source tree names the same place in the view, and `__FILE__`
/// stays what it was.
pub fn in_view(words: &[String], source: &str, trees: &Trees, view: &Path) -> Result<Vec<String>> {
    let mut names = Names {
        trees,
        view,
        mapped: mapped_prefix(words, trees),
        prefixes: Vec::new(),
    };
    // First of all, so that the source has the name that is derived from the view.
    let moved_source = names.of_source(source)?;
    let mut out = Vec::with_capacity(words.len() + 1);
    let mut rest = words.iter();
    let mut sources = 0;
    while let Some(word) = rest.next() {
        if PATH_OPTIONS.contains(&word.as_str()) {
            let Some(value) = rest.next() else {
                bail!("`{word}` has no value")
            };
            out.extend([word.clone(), names.of_option(value)?]);
        } else if let Some((option, value)) = joined(word) {
            out.push(format!("{option}{}", names.of_option(value)?));
        } else if word == source {
            out.push(moved_source.clone());
            sources += 1;
        } else if word == "-o" {
            out.push(word.clone());
            out.extend(rest.next().cloned());
        } else {
            out.push(word.clone());
        }
    }
    if sources != 1 {
        bail!("the recorded command names its source `{source}` {sources} times");
    }
    out.extend(names.maps(words));
    Ok(out)
}

/// Names of the view for names of the source tree.
struct Names<'a> {
    trees: &'a Trees,
    view: &'a Path,
    /// What the command makes of the source tree's path in `__FILE__`, however that is spelt.
    mapped: Option<&'a str>,
    /// If it says nothing about that: the ways in which it spells the source tree.
    prefixes: Vec<String>,
}

impl Names<'_> {
    fn of_source(&mut self, spelt: &str) -> Result<String> {
        match self.trees.place(spelt) {
            TreePath::Source(path) => self.below(before(spelt, &path)?, &path),
            TreePath::Build(_) | TreePath::Elsewhere(_) => Ok(spelt.to_owned()),
        }
    }

    fn of_option(&mut self, spelt: &str) -> Result<String> {
        // Names of the files that are found there begin as the option does, with `./` for instance.
        let is_below = self.trees.build == self.trees.source && Path::new(spelt).is_relative();
        let is_source = matches!(self.trees.place(spelt), TreePath::Source(_));
        if self.mapped.is_none() && is_below && is_source {
            return self.below(String::new(), spelt);
        }
        self.of_source(spelt)
    }

    /// A path in the view that tells how the source tree was spelt.
    fn below(&mut self, prefix: String, path: &str) -> Result<String> {
        if self.mapped.is_some() {
            return Ok(self.view.join(path).display().to_string());
        }
        let known = self.prefixes.iter().position(|known| *known == prefix);
        let index = known.unwrap_or(self.prefixes.len());
        if known.is_none() {
            self.prefixes.push(prefix);
        }
        Ok(format!("{}/{path}", self.root(index)?))
    }

    /// The view under a name of its own for each spelling: with `./` in it, which compilers keep.
    fn root(&self, index: usize) -> Result<String> {
        let (Some(parent), Some(name)) = (self.view.parent(), self.view.file_name()) else {
            bail!("{} is no folder for a view", self.view.display())
        };
        let parent = parent.display().to_string();
        let (parent, same) = (parent.trim_end_matches('/'), "./".repeat(index));
        Ok(format!("{parent}/{same}{}", name.display()))
    }

    /// The options that put the spelling of the recorded command into `__FILE__`.
    fn maps(&self, words: &[String]) -> Vec<String> {
        let option = |root: &str, prefix: &str| format!("-fmacro-prefix-map={root}/={prefix}");
        if let Some(prefix) = self.mapped {
            return vec![option(&self.view.display().to_string(), prefix)];
        }
        let each = self.prefixes.iter().enumerate();
        each.filter_map(|(index, prefix)| Some(option(&self.root(index).ok()?, &as_mapped(words, prefix))))
            .collect()
    }
}

/// A path option with its value in the same word. A longer option that starts like one (`-includefoo`) does not occur.
fn joined(word: &str) -> Option<(&str, &str)> {
    PATH_OPTIONS
        .iter()
        .find_map(|option| Some((*option, word.strip_prefix(option)?)))
        .filter(|(_, value)| !value.is_empty())
}

/// What stands before the path in the tree where somebody spells it.
fn before(spelt: &str, path: &str) -> Result<String> {
    match spelt.strip_suffix(path) {
        Some(root) if path.is_empty() => Ok(format!("{}/", root.trim_end_matches('/'))),
        Some(root) => Ok(root.to_owned()),
        None => bail!("the recorded command names {path} as `{spelt}`, and `__FILE__` would be another"),
    }
}

/// What the recorded command makes of the source tree's path in `__FILE__`; nothing if it says nothing about that, as for
/// a module outside of the kernel's tree.
fn mapped_prefix<'a>(words: &'a [String], trees: &Trees) -> Option<&'a str> {
    maps(words)
        .filter(|(from, _)| trees.place(from) == TreePath::Source(String::new()))
        .map(|(_, to)| to)
        .next_back()
}

/// A prefix as the recorded command has it in `__FILE__`. Of several options that fit the last one counts.
fn as_mapped(words: &[String], prefix: &str) -> String {
    let mut fits = maps(words).filter_map(|(from, to)| Some(format!("{to}{}", prefix.strip_prefix(from)?)));
    fits.next_back().unwrap_or_else(|| prefix.to_owned())
}

/// Prefixes that the command exchanges in `__FILE__`.
fn maps(words: &[String]) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    let options = ["-fmacro-prefix-map=", "-ffile-prefix-map="];
    let maps = words
        .iter()
        .filter_map(move |word| options.iter().find_map(|option| word.strip_prefix(option)));
    maps.filter_map(|map| map.split_once('='))
}

/// A command that stops at assembly.
pub fn to_assembly(words: &[String], assembly: &Path) -> Result<Vec<String>> {
    let mut out = with_output(words, assembly)?;
    let mut compiles = 0;
    for word in out.iter_mut().filter(|word| *word == "-c") {
        "-S".clone_into(word);
        compiles += 1;
    }
    if compiles != 1 {
        bail!("the recorded command has `-c` {compiles} times");
    }
    Ok(out)
}

/// The command that makes the object from assembly, with the recorded options for the assembler.
pub fn from_assembly(words: &[String], source: &str, assembly: &Path) -> Vec<String> {
    let mut out = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == source {
            out.push(assembly.display().to_string());
        } else if word == "-include" {
            words.next();
        } else if !word.starts_with("-Wp,") {
            out.push(word.clone());
        }
    }
    out
}

fn with_output(words: &[String], path: &Path) -> Result<Vec<String>> {
    let mut out = words.to_vec();
    let Some(at) = out
        .iter()
        .position(|word| word == "-o")
        .filter(|at| at + 1 < words.len())
    else {
        bail!("the command names no output")
    };
    out[at + 1] = path.display().to_string();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn trees(source: &str, build: &str) -> Trees {
        Trees {
            source: source.into(),
            build: build.into(),
            objects: build.into(),
            recorded: None,
        }
    }

    #[test]
    fn an_out_of_tree_command_moves_into_the_view() {
        let recorded = words(
            "gcc -Wp,-MMD,/o/a.o.d -I/s/include -I./include -include /s/include/k.h -I ./arch/g \
             -fmacro-prefix-map=/s/= -DX=\"/s/x\" -c -o /o/a.o /s/fs/a.c",
        );
        let expected = words(
            "gcc -Wp,-MMD,/o/a.o.d -I/v/include -I./include -include /v/include/k.h -I ./arch/g \
             -fmacro-prefix-map=/s/= -DX=\"/s/x\" -c -o /o/a.o /v/fs/a.c -fmacro-prefix-map=/v/=",
        );
        let moved = in_view(&recorded, "/s/fs/a.c", &trees("/s", "/b"), Path::new("/v")).unwrap();
        assert_eq!(moved, expected);
    }

    #[test]
    fn an_in_tree_command_moves_with_its_generated_files() {
        let recorded = words("gcc -I./include -include ./include/k.h -fmacro-prefix-map=./= -c -o /o/a.o fs/a.c");
        let expected = words(
            "gcc -I/v/include -include /v/include/k.h -fmacro-prefix-map=./= -c -o /o/a.o /v/fs/a.c -fmacro-prefix-map=/v/=",
        );
        let moved = in_view(&recorded, "fs/a.c", &trees("/s", "/s"), Path::new("/v")).unwrap();
        assert_eq!(moved, expected);
    }

    #[test]
    fn a_module_outside_of_the_tree_keeps_the_names_of_its_files() {
        let in_module = |build: &str, line: &str, source: &str| {
            let trees = Trees {
                objects: "/m".into(),
                ..trees("/m", build)
            };
            in_view(&words(line), source, &trees, Path::new("/v"))
        };
        // As kbuild writes it up to 6.12, and since 6.13.
        let old = in_module(
            "/b",
            "gcc -I./include -fmacro-prefix-map=/s/= -I/m/inc -I/m -c -o /o/a.o /m/s/a.c",
            "/m/s/a.c",
        );
        let expected =
            "gcc -I./include -fmacro-prefix-map=/s/= -I/v/inc -I/v/ -c -o /o/a.o /v/s/a.c -fmacro-prefix-map=/v/=/m/";
        assert_eq!(old.unwrap(), words(expected));
        let new = in_module(
            "/m",
            "gcc -I/b/include -fmacro-prefix-map=/s/= -I./inc -I./../lib -I. -c -o /o/a.o s/a.c",
            "s/a.c",
        );
        let expected = "gcc -I/b/include -fmacro-prefix-map=/s/= -I/v/./inc -I./../lib -I/v/. -c -o /o/a.o /v/s/a.c -fmacro-prefix-map=/v/=";
        assert_eq!(new.unwrap(), words(expected));
        // A folder inside of the kernel's tree is named from there.
        let inside = in_module("/b", "gcc -fmacro-prefix-map=/= -c -o /o/a.o /m/a.c", "/m/a.c").unwrap();
        assert_eq!(inside.last().unwrap(), "-fmacro-prefix-map=/v/=m/");
        // Two spellings have two names of the view.
        let both = in_module("/m", "gcc -I/m/inc -c -o /o/a.o s/a.c", "s/a.c").unwrap();
        let expected = "gcc -I/./v/inc -c -o /o/a.o /v/s/a.c -fmacro-prefix-map=/v/= -fmacro-prefix-map=/./v/=/m/";
        assert_eq!(both, words(expected));
    }

    #[test]
    fn a_build_below_the_source_keeps_its_own_files() {
        let recorded = words("gcc -I../include -I./include -fmacro-prefix-map=../= -c -o /o/a.o ../fs/a.c");
        let moved = in_view(&recorded, "../fs/a.c", &trees("/s", "/s/out"), Path::new("/v")).unwrap();
        assert_eq!(moved[1..3], words("-I/v/include -I./include"));
    }

    #[test]
    fn commands_that_cannot_move_are_refused() {
        let trees = trees("/s", "/b");
        for line in [
            "gcc -I/s/fs/./x -c -o /o/a.o /s/fs/a.c",
            "gcc -fmacro-prefix-map=/s/= -c -o /o/a.o /s/fs/b.c",
            "gcc -fmacro-prefix-map=/s/= /s/fs/a.c -include",
        ] {
            assert!(
                in_view(&words(line), "/s/fs/a.c", &trees, Path::new("/v")).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn assembly_is_a_step_of_its_own() {
        let recorded = words("gcc -Wp,-MMD,/o/a.o.d -include k.h -mcpu=power8 -c -o /o/a.o /s/a.c");
        assert_eq!(
            to_assembly(&recorded, Path::new("/o/a.s")).unwrap(),
            words("gcc -Wp,-MMD,/o/a.o.d -include k.h -mcpu=power8 -S -o /o/a.s /s/a.c")
        );
        assert_eq!(
            from_assembly(&recorded, "/s/a.c", Path::new("/o/a.s")),
            words("gcc -mcpu=power8 -c -o /o/a.o /o/a.s")
        );
        assert!(to_assembly(&words("gcc -S -o /o/a.o a.c"), Path::new("/o/a.s")).is_err());
    }
}
