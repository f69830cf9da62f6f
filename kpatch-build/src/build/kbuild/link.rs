//! Understands the recorded link of `vmlinux.o` and of modules: the same link is repeated later as a thin link, so each
//! option is either known to matter there, known not to, or refused.

use anyhow::{Result, bail};

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
const KEPT_WITH_VALUE: &[&str] = &["-m", "-mllvm", "-z"];
/// Options that only say where to write or how to lay out sections. Symbol resolution does not look at them.
const DROPPED_WITH_VALUE: &[&str] = &["-o", "-T"];
const KEPT: &[&str] = &["-r", "-EL", "-EB", "--lto-whole-program-visibility"];
const KEPT_PREFIXES: &[&str] = &["--lto-O", "--lto-CGO", "-maarch64"];
const DROPPED: &[&str] = &[
    "--start-group",
    "--end-group",
    "--no-warn-rwx-segments",
    "--no-warn-execstack",
];
const DROPPED_PREFIXES: &[&str] = &["--build-id", "-Map=", "--orphan-handling=", "--script="];

impl LinkCommand {
    /// Takes a recorded link command apart.
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
            match word {
                "--whole-archive" => whole = true,
                "--no-whole-archive" => whole = false,
                _ if KEPT_WITH_VALUE.contains(&word) => {
                    let Some(value) = arguments.next() else {
                        bail!("`{word}` has no value")
                    };
                    link.flags.extend([word.to_owned(), value.to_owned()]);
                }
                _ if DROPPED_WITH_VALUE.contains(&word) => drop(arguments.next()),
                _ if DROPPED.contains(&word) || has_prefix(word, DROPPED_PREFIXES) => {}
                _ if KEPT.contains(&word) || has_prefix(word, KEPT_PREFIXES) => link.flags.push(word.to_owned()),
                _ => link.inputs.push(input(word, whole)?),
            }
        }
        Ok(link)
    }
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
    fn unknown_options_are_refused() {
        assert!(
            parse("ld.lld -r --icf=all a.o")
                .unwrap_err()
                .to_string()
                .contains("--icf=all")
        );
        assert!(parse("ld.lld -r -z").is_err());
    }
}
