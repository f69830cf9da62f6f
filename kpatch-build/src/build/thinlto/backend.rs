//! Generates machine code for one module, as the linker's own back end does inside a real link.
//!
//! In an in-process link the compiler's command line is long gone: what matters of it is in the bitcode, as attributes
//! and module flags, and all else has the linker's defaults. Options that have no such form must NOT be repeated here.
//! `-falign-loops=1` is one: the kernel passes it, the link ignores it, and repeating it changed 176 of 766 functions.

use std::path::Path;

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
}

/// Options that select the relocation model; clang would assume its own default for bitcode too.
const RELOCATION_MODELS: &[&str] = &[
    "-fpic", "-fPIC", "-fpie", "-fPIE", "-fno-pic", "-fno-PIC", "-fno-pie", "-fno-PIE",
];

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
        let level = link_flags
            .iter()
            .find_map(|flag| flag.strip_prefix("--lto-O"))
            .unwrap_or("2");
        options.push(format!("-O{level}"));
        // The link always splits, so that the linker can order and drop sections.
        options.extend(["-ffunction-sections", "-fdata-sections"].map(str::to_owned));
        let mut flags = link_flags.iter();
        while let Some(flag) = flags.next() {
            if flag == "-mllvm" {
                options.extend([flag.clone(), flags.next().context("`-mllvm` without a value")?.clone()]);
            }
        }
        Ok(Backend {
            compiler: compiler.clone(),
            options,
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

#[cfg(test)]
mod tests {
    use super::*;

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
