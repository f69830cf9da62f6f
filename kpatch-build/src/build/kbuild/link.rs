//! Understands the recorded link of `vmlinux.o` and of modules: the same link is repeated later as a thin link, so each
//! option is either known to matter there, known not to, or refused.

use std::path::Path;

use anyhow::{Result, anyhow, bail};

/// A relocatable link as kbuild recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCommand {
    /// The linker, e.g. `ld.lld-19`.
    pub linker: String,
    /// Options that can change the result of a thin link, in their order.
    pub flags: Vec<String>,
    /// What is linked, in link order.
    pub inputs: Vec<LinkInput>,
}

/// One input of a recorded link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkInput {
    /// An object or archive, and whether it was named under `--whole-archive`.
    File(String, bool),
    /// `@file`: a list of objects.
    List(String),
}

/// Options with a value of their own that decide what is generated.
const KEPT_WITH_VALUE: &[&str] = &["-m", "-z"];
/// Options that only say where to write or how to lay out sections. Symbol resolution does not look at them.
const DROPPED_WITH_VALUE: &[&str] = &["-o", "-T", "--symbol-ordering-file"];
const KEPT: &[&str] = &[
    "-r",
    "-EL",
    "-EB",
    "--lto-whole-program-visibility",
    "--lto-basic-block-address-map",
    "--no-lto-basic-block-address-map",
    "--lto-unique-basic-block-section-names",
    "--no-lto-unique-basic-block-section-names",
];
const KEPT_PREFIXES: &[&str] = &[
    "--lto-O",
    "--lto-CGO",
    "-maarch64",
    "--lto-sample-profile=",
    "--lto-basic-block-sections=",
];
const DROPPED: &[&str] = &[
    "--start-group",
    "--end-group",
    "--no-warn-rwx-segments",
    "--no-warn-execstack",
    "--warn-symbol-ordering",
    "--no-warn-symbol-ordering",
];
/// The last are about the order of sections, about how many threads work, and about the parts of full LTO.
const DROPPED_PREFIXES: &[&str] = &[
    "--build-id",
    "-Map=",
    "--orphan-handling=",
    "--script=",
    "--symbol-ordering-file=",
    "--call-graph-ordering-file=",
    "--call-graph-profile-sort=",
    "--threads=",
    "--thinlto-jobs=",
    "--thinlto-cache-dir=",
    "--thinlto-cache-policy=",
    "--lto-partitions=",
    // A link that stops after the summaries writes a list there.
    "--thinlto-index-only=",
];
/// Options whose value is a file that the back end reads.
pub const FILES: &[&str] = &["--lto-sample-profile=", "--lto-basic-block-sections="];

impl LinkCommand {
    /// Takes a recorded link command apart. Options that say the same have one spelling in [`LinkCommand::flags`].
    pub fn parse(words: &[String]) -> Result<LinkCommand> {
        let Some((linker, arguments)) = words.split_first() else {
            bail!("the recorded link command is empty")
        };
        let mut link = LinkCommand {
            linker: linker.clone(),
            flags: Vec::new(),
            inputs: Vec::new(),
        };
        let mut whole = false;
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(word) = arguments.next() {
            let mut value = || match arguments.next() {
                Some(value) => Ok(value.to_owned()),
                None => Err(anyhow!("`{word}` has no value")),
            };
            match word {
                "--whole-archive" => whole = true,
                "--no-whole-archive" => whole = false,
                "-mllvm" | "--mllvm" => link.flags.extend(["-mllvm".to_owned(), value()?]),
                "-plugin-opt" | "--plugin-opt" => link.flags.extend(plugin_option(&value()?)?),
                _ if KEPT_WITH_VALUE.contains(&word) => link.flags.extend([word.to_owned(), value()?]),
                _ if DROPPED_WITH_VALUE.contains(&word) => drop(value()?),
                _ if DROPPED.contains(&word) || has_prefix(word, DROPPED_PREFIXES) => {}
                _ if KEPT.contains(&word) || has_prefix(word, KEPT_PREFIXES) => link.flags.push(word.to_owned()),
                _ => match word.strip_prefix("--").or_else(|| word.strip_prefix('-')) {
                    Some(option) if option.starts_with("mllvm=") => {
                        link.flags
                            .extend(["-mllvm".to_owned(), option["mllvm=".len()..].to_owned()]);
                    }
                    Some(option) if option.starts_with("plugin-opt=") => {
                        link.flags.extend(plugin_option(&option["plugin-opt=".len()..])?);
                    }
                    _ => link.inputs.push(input(word, whole)?),
                },
            }
        }
        Ok(link)
    }

    /// Makes files that options name independent of the folder in which the link ran.
    pub fn absolute(&mut self, build: &Path) {
        for flag in &mut self.flags {
            let option = FILES.iter().find(|option| flag.starts_with(**option));
            let path = option.map(|option| (option, build.join(&flag[option.len()..])));
            if let Some((option, path)) = path.filter(|(_, path)| path.is_file()) {
                *flag = format!("{option}{}", path.display());
            }
        }
    }
}

/// What `-plugin-opt=` means to lld (ELF/Options.td): other names of its own options, and options of LLVM.
fn plugin_option(value: &str) -> Result<Vec<String>> {
    let own = ["O", "sample-profile="].iter().find(|name| value.starts_with(**name));
    Ok(match value {
        _ if value.starts_with('-') => vec!["-mllvm".to_owned(), value.to_owned()],
        "thinlto" | "disable-verify" => Vec::new(),
        _ if has_prefix(value, &["jobs=", "lto-partitions="]) => Vec::new(),
        _ if own.is_some() => vec![format!("--lto-{value}")],
        _ => bail!("the linker option `-plugin-opt={value}` is not known; it may change what is generated"),
    })
}

fn has_prefix(word: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| word.starts_with(prefix))
}

fn input(word: &str, whole: bool) -> Result<LinkInput> {
    if word.starts_with('-') {
        bail!("the linker option `{word}` is not known; it may change what is generated");
    }
    Ok(match word.strip_prefix('@') {
        Some(list) => LinkInput::List(list.to_owned()),
        None => LinkInput::File(word.to_owned(), whole),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<LinkCommand> {
        LinkCommand::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_link_of_vmlinux() {
        let link = parse(
            "ld.lld-19 -m elf_x86_64 -mllvm -import-instr-limit=5 -z noexecstack -r -o vmlinux.o -T .tmp_initcalls.lds \
             --whole-archive vmlinux.a --no-whole-archive --start-group lib/lib.a --end-group",
        )
        .unwrap();
        assert_eq!(link.linker, "ld.lld-19");
        assert_eq!(
            link.flags,
            [
                "-m",
                "elf_x86_64",
                "-mllvm",
                "-import-instr-limit=5",
                "-z",
                "noexecstack",
                "-r"
            ]
        );
        let file = |name: &str, whole| LinkInput::File(name.to_owned(), whole);
        assert_eq!(link.inputs, [file("vmlinux.a", true), file("lib/lib.a", false)]);
    }

    #[test]
    fn the_link_of_a_module() {
        let link = parse("ld.lld -r -o fs/x/x.o @fs/x/x.mod").unwrap();
        assert_eq!(link.inputs, [LinkInput::List("fs/x/x.mod".to_owned())]);
    }

    #[test]
    fn options_that_change_code_have_one_spelling() {
        let flags = |line: &str| parse(&format!("ld.lld -r {line} a.o")).unwrap().flags[1..].join(" ");
        for same in [
            "-mllvm -x=1",
            "--mllvm -x=1",
            "-mllvm=-x=1",
            "--mllvm=-x=1",
            "-plugin-opt=-x=1",
            "--plugin-opt -x=1",
        ] {
            assert_eq!(flags(same), "-mllvm -x=1", "{same}");
        }
        for kept in [
            "--lto-O3 --lto-CGO3",
            "--lto-sample-profile=a.prof",
            "--lto-basic-block-sections=list.txt --lto-unique-basic-block-section-names",
            "--lto-basic-block-address-map",
        ] {
            assert_eq!(flags(kept), kept);
        }
        assert_eq!(
            flags("-plugin-opt=O3 -plugin-opt=sample-profile=a"),
            "--lto-O3 --lto-sample-profile=a"
        );
    }

    #[test]
    fn order_and_threads_do_not_change_code() {
        let link = parse(
            "ld.lld -r --symbol-ordering-file=o --symbol-ordering-file o --no-warn-symbol-ordering --lto-partitions=8 \
             --call-graph-profile-sort=none --thinlto-cache-dir=c --thinlto-jobs=2 -plugin-opt=thinlto -plugin-opt=jobs=2 a.o",
        );
        let link = link.unwrap();
        assert_eq!((link.flags, link.inputs.len()), (vec!["-r".to_owned()], 1));
    }

    #[test]
    fn files_are_found_from_anywhere() {
        let build = tempfile::tempdir().unwrap();
        std::fs::write(build.path().join("p"), "").unwrap();
        let mut link = parse("ld.lld -r --lto-sample-profile=p --lto-basic-block-sections=all a.o").unwrap();
        link.absolute(build.path());
        let profile = format!("--lto-sample-profile={}", build.path().join("p").display());
        assert_eq!(link.flags[1..], [profile, "--lto-basic-block-sections=all".to_owned()]);
    }

    #[test]
    fn unknown_options_are_refused() {
        for unknown in [
            "-plugin-opt=mcpu=skylake",
            "--lto-newpm-passes=x",
            "--lto-cs-profile-file=x",
            "--fat-lto-objects",
        ] {
            assert!(parse(&format!("ld.lld -r {unknown} a.o")).is_err(), "{unknown}");
        }
        assert!(parse("ld.lld -r a.o -mllvm").is_err());
        assert!(
            parse("ld.lld -r --icf=all a.o")
                .unwrap_err()
                .to_string()
                .contains("--icf=all")
        );
        assert!(parse("ld.lld -r -z").is_err());
    }
}
