//! Turns a recorded compiler command into those that make objects for the comparison.

use std::collections::BTreeSet;
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
    let mapped = mapped_prefix(words, trees);
    let mut prefixes = BTreeSet::new();
    let mut moved = |spelt: &str| match trees.place(spelt) {
        TreePath::Source(path) => {
            // Names of included files begin as the options do, with `./` for instance.
            let is_below = trees.build == trees.source && Path::new(spelt).is_relative();
            if mapped.is_none() && is_below && spelt != source {
                prefixes.insert(String::new());
                return format!("{}/{spelt}", view.display());
            }
            prefixes.insert(before(spelt, &path));
            view.join(path).display().to_string()
        }
        TreePath::Build(_) | TreePath::Elsewhere(_) => spelt.to_owned(),
    };
    let mut out = Vec::with_capacity(words.len() + 1);
    let mut rest = words.iter();
    let mut sources = 0;
    while let Some(word) = rest.next() {
        if PATH_OPTIONS.contains(&word.as_str()) {
            let Some(value) = rest.next() else {
                bail!("`{word}` has no value")
            };
            out.extend([word.clone(), moved(value)]);
        } else if let Some((option, value)) = joined(word) {
            out.push(format!("{option}{}", moved(value)));
        } else if word == source {
            out.push(moved(source));
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
    let prefix = match (mapped, prefixes.first()) {
        (Some(prefix), _) => prefix.to_owned(),
        (None, Some(prefix)) if prefixes.len() == 1 => as_mapped(words, prefix),
        _ => bail!(
            "the recorded command spells its source tree in {} ways, and `__FILE__` with it",
            prefixes.len()
        ),
    };
    out.push(format!("-fmacro-prefix-map={}/={prefix}", view.display()));
    Ok(out)
}

/// A path option with its value in the same word. A longer option that starts like one (`-includefoo`) does not occur.
fn joined(word: &str) -> Option<(&str, &str)> {
    PATH_OPTIONS
        .iter()
        .find_map(|option| Some((*option, word.strip_prefix(option)?)))
        .filter(|(_, value)| !value.is_empty())
}

/// What stands before the path in the tree where somebody spells it.
fn before(spelt: &str, path: &str) -> String {
    match spelt.strip_suffix(path) {
        Some(root) if path.is_empty() => format!("{}/", root.trim_end_matches('/')),
        Some(root) => root.to_owned(),
        None => spelt.to_owned(),
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
            "gcc -I/b/include -fmacro-prefix-map=/s/= -I./inc -I. -c -o /o/a.o s/a.c",
            "s/a.c",
        );
        let expected =
            "gcc -I/b/include -fmacro-prefix-map=/s/= -I/v/./inc -I/v/. -c -o /o/a.o /v/s/a.c -fmacro-prefix-map=/v/=";
        assert_eq!(new.unwrap(), words(expected));
        // A folder inside of the kernel's tree is named from there.
        let inside = in_module("/b", "gcc -fmacro-prefix-map=/= -c -o /o/a.o /m/a.c", "/m/a.c").unwrap();
        assert_eq!(inside.last().unwrap(), "-fmacro-prefix-map=/v/=m/");
        assert!(
            in_module("/m", "gcc -I/m/inc -c -o /o/a.o s/a.c", "s/a.c").is_err(),
            "two spellings"
        );
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
            "gcc -I/s/../s/include -c -o /o/a.o /s/fs/a.c",
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
