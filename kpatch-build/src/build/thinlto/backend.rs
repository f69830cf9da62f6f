//! Generates machine code for one module, as the linker's own back end does inside a real link.
//!
//! In an in-process link the compiler's command line is long gone: what matters of it is in the bitcode, as attributes
//! and module flags, and all else has the linker's defaults. Options that have no such form must NOT be repeated here.
//! `-falign-loops=1` is one: the kernel passes it, the link ignores it, and repeating it changed 176 of 766 functions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::index::Index;
use super::symbols;
use super::view::View;
use crate::build::kbuild::Tools;
use crate::build::recompile::Rerun;
use crate::sh;
use crate::supply::store::cache::{Hashes, Key};

/// How to run the back end for one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The compiler.
    pub compiler: String,
    /// Its options, without input, shard and output.
    pub options: Vec<String>,
    /// The files that options name.
    pub files: Vec<PathBuf>,
}

/// Options that select the relocation model; clang would assume its own default for bitcode too.
const RELOCATION_MODELS: &[&str] = &[
    "-fpic", "-fPIC", "-fpie", "-fPIE", "-fno-pic", "-fno-PIC", "-fno-pie", "-fno-PIE",
];

/// Options of the compiler whose value is a file that the back end reads.
const PROFILES: &[&str] = &["-fprofile-sample-use=", "-fbasic-block-sections=list="];

impl Backend {
    /// Derives the back end from the recorded compilation and link.
    pub fn new(recorded: &[String], link_flags: &[String]) -> Result<Backend> {
        let Some((compiler, words)) = recorded.split_first() else {
            bail!("an empty command")
        };
        let last = |wanted: &dyn Fn(&str) -> bool| words.iter().rev().find(|word| wanted(word)).cloned();
        let mut options = Vec::new();
        options.extend(last(&|word| word.starts_with("--target=")));
        options.extend(last(&|word| word.starts_with("-mcmodel=")));
        options.extend(last(&|word| RELOCATION_MODELS.contains(&word)));
        options.push(format!("-O{}", level(link_flags)?));
        // The link always splits, so that the linker can order and drop sections.
        options.extend(["-ffunction-sections", "-fdata-sections"].map(str::to_owned));
        let mut files = Vec::new();
        let mut flags = link_flags.iter();
        while let Some(flag) = flags.next() {
            if flag == "-mllvm" {
                options.extend(of_llvm(flags.next().context("`-mllvm` without a value")?));
            } else if let Some((of_compiler, file)) = of_linker(flag) {
                options.extend(of_compiler);
                files.extend(file);
            }
        }
        Ok(Backend {
            compiler: compiler.clone(),
            options,
            files,
        })
    }

    /// The back end of a build that has called the compiler itself, from what was recorded then.
    pub fn of_build(recorded: &[String], build: &Path) -> Result<Backend> {
        let Some((compiler, words)) = recorded.split_first() else {
            bail!("an empty command")
        };
        let mut files = Vec::new();
        let absolute = |word: &String| match PROFILES.iter().find(|option| word.starts_with(**option)) {
            Some(option) => {
                let file = build.join(&word[option.len()..]);
                let absolute = format!("{option}{}", file.display());
                files.push(file);
                absolute
            }
            None => word.clone(),
        };
        Ok(Backend {
            compiler: compiler.clone(),
            options: words.iter().map(absolute).collect(),
            files,
        })
    }

    /// Everything the native object depends on.
    pub fn key(&self, view: &View, index: &Index, unit: &str, tools: &Tools, hashes: &Hashes) -> Result<Key> {
        let target = |unit: &str| {
            view.targets
                .get(unit)
                .with_context(|| format!("{unit} is not part of the link"))
        };
        let mut key = Key::new("native 1")
            .text(&tools.compiler)
            .text(&self.compiler)
            .words(self.options.iter());
        for file in &self.files {
            key = key.bytes(&hashes.of(file)?);
        }
        key = key
            .text(unit)
            .bytes(&hashes.of(target(unit)?)?)
            .bytes(&hashes.of(&index.shard(unit))?);
        for import in index.imports(unit)? {
            key = key.text(&import).bytes(&hashes.of(target(&import)?)?);
        }
        Ok(key)
    }

    /// Generates the native object of a module and checks that it is all there.
    pub fn run(&self, view: &View, index: &Index, unit: &str, out: &Path) -> Result<()> {
        let run = self.command(view, index, unit, out);
        let mut command = sh::command(&run.words[0]);
        command.args(&run.words[1..]).current_dir(&run.folder);
        sh::output(&mut command).with_context(|| format!("no machine code for {unit}"))?;
        symbols::check(&self.compiler, view, unit, out)
    }

    /// The command for one module.
    pub fn command(&self, view: &View, index: &Index, unit: &str, out: &Path) -> Rerun {
        let mut words = vec![self.compiler.clone()];
        words.extend(self.options.iter().cloned());
        words.extend(["-x".to_owned(), "ir".to_owned()]);
        words.push(format!("-fthinlto-index={}", index.shard(unit).display()));
        words.extend(["-c", unit, "-o"].map(str::to_owned));
        words.push(out.display().to_string());
        Rerun {
            unit: unit.to_owned(),
            folder: view.root.clone(),
            words,
        }
    }
}

/// The optimisation level. The link has two, for what works on bitcode and for what makes instructions of it, and the
/// compiler has one for both.
fn level(link_flags: &[String]) -> Result<&str> {
    let last = |option: &str| link_flags.iter().rev().find_map(|flag| flag.strip_prefix(option));
    let level = last("--lto-O").unwrap_or("2");
    // lld makes instructions with at least -O2 (Common/Args.cpp, `getCGOptLevel`).
    if !["2", "3"].contains(&level) || last("--lto-CGO").is_some_and(|other| other != level) {
        bail!("the link optimises bitcode and instructions at different levels, which the compiler cannot repeat");
    }
    Ok(level)
}

/// An option of LLVM as the compiler takes it. Some that describe the target are the linker's, and clang has its own.
fn of_llvm(option: &str) -> Vec<String> {
    let split = option.trim_start_matches('-');
    match split {
        "split-machine-functions" | "split-machine-functions=true" => vec!["-fsplit-machine-functions".to_owned()],
        "split-machine-functions=false" => vec!["-fno-split-machine-functions".to_owned()],
        _ => vec!["-mllvm".to_owned(), option.to_owned()],
    }
}

/// An option of lld as the compiler takes it (lld/ELF/LTO.cpp, `createConfig`), and the file that it names.
fn of_linker(flag: &str) -> Option<(Vec<String>, Option<PathBuf>)> {
    if let Some(profile) = flag.strip_prefix("--lto-sample-profile=") {
        let option = format!("-fprofile-sample-use={profile}");
        // With a profile clang turns on an inference of counts that the linker leaves off (clang 14 to 22,
        // Driver/ToolChains/Clang.cpp, `-sample-profile-use-profi`).
        let options = vec![option, "-fno-sample-profile-use-profi".to_owned()];
        return Some((options, Some(profile.into())));
    }
    if let Some(sections) = flag.strip_prefix("--lto-basic-block-sections=") {
        return Some(match sections {
            "all" | "none" | "labels" => (vec![format!("-fbasic-block-sections={sections}")], None),
            list => (vec![format!("-fbasic-block-sections=list={list}")], Some(list.into())),
        });
    }
    let option = match flag {
        "--lto-basic-block-address-map" => "-fbasic-block-address-map",
        "--no-lto-basic-block-address-map" => "-fno-basic-block-address-map",
        "--lto-unique-basic-block-section-names" => "-funique-basic-block-section-names",
        "--no-lto-unique-basic-block-section-names" => "-fno-unique-basic-block-section-names",
        _ => return None,
    };
    Some((vec![option.to_owned()], None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_link(flags: &str) -> Result<String> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let backend = Backend::new(&words("clang -c"), &words(flags))?;
        Ok(backend.options.join(" "))
    }

    #[test]
    fn options_of_the_link_become_those_of_the_compiler() {
        let usual = "-O2 -ffunction-sections -fdata-sections";
        for (link, compiler) in [
            (
                "--lto-sample-profile=/p",
                "-fprofile-sample-use=/p -fno-sample-profile-use-profi",
            ),
            ("--lto-basic-block-sections=/l", "-fbasic-block-sections=list=/l"),
            ("--lto-basic-block-sections=all", "-fbasic-block-sections=all"),
            ("--lto-basic-block-address-map", "-fbasic-block-address-map"),
            (
                "--lto-unique-basic-block-section-names",
                "-funique-basic-block-section-names",
            ),
            ("-mllvm -split-machine-functions", "-fsplit-machine-functions"),
            (
                "-mllvm -enable-fs-discriminator=true",
                "-mllvm -enable-fs-discriminator=true",
            ),
        ] {
            assert_eq!(of_link(link).unwrap(), format!("{usual} {compiler}"), "{link}");
        }
    }

    #[test]
    fn levels_that_the_compiler_cannot_repeat_are_refused() {
        assert!(of_link("--lto-O3 --lto-CGO3").unwrap().starts_with("-O3 "));
        assert!(of_link("--lto-O2 --lto-O3").unwrap().starts_with("-O3 "));
        for apart in ["--lto-O1", "--lto-O3 --lto-CGO2", "--lto-CGO3"] {
            assert!(of_link(apart).is_err(), "{apart}");
        }
    }

    #[test]
    fn what_files_say_counts() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let flags = words("--lto-sample-profile=/p --lto-basic-block-sections=/l --lto-basic-block-sections=none");
        let backend = Backend::new(&words("clang -c"), &flags).unwrap();
        assert_eq!(backend.files, [PathBuf::from("/p"), PathBuf::from("/l")]);
    }

    #[test]
    fn what_a_build_has_recorded_is_repeated() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let recorded =
            words("clang -O2 -falign-loops=1 -fprofile-sample-use=p -fbasic-block-sections=list=/l -fno-lto");
        let backend = Backend::of_build(&recorded, Path::new("/b")).unwrap();
        assert_eq!(
            backend.options,
            words("-O2 -falign-loops=1 -fprofile-sample-use=/b/p -fbasic-block-sections=list=/l -fno-lto")
        );
        assert_eq!(backend.files, [PathBuf::from("/b/p"), PathBuf::from("/l")]);
    }

    #[test]
    fn only_what_the_link_would_know_is_repeated() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let recorded = words(
            "clang-19 --target=x86_64-linux-gnu -Iinclude -O3 -falign-loops=1 -mllvm -x -fPIE -fno-PIE -mcmodel=kernel -c",
        );
        let link = words("-m elf_x86_64 -mllvm -import-instr-limit=5 -z noexecstack -r");
        let backend = Backend::new(&recorded, &link).unwrap();
        assert_eq!(backend.compiler, "clang-19");
        let expected = "--target=x86_64-linux-gnu -mcmodel=kernel -fno-PIE -O2 -ffunction-sections -fdata-sections \
                        -mllvm -import-instr-limit=5";
        assert_eq!(backend.options, words(expected));
    }
}
