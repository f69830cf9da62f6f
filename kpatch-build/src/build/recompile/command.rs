//! Turns a recorded compiler command into one that writes elsewhere.

use std::path::Path;

use anyhow::{Result, bail};

use crate::build::kbuild::trees::normalise;
use crate::build::kbuild::tu::temporary;

/// The options that make the compiler write a dependency list. It would land in the build directory.
const DEPENDENCY_OPTIONS: &[&str] = &["-Wp,-MMD,", "-Wp,-MD,"];
/// Options that write further files, in places that are not looked at here.
const WRITING_OPTIONS: &[&str] = &[
    "-MF",
    "-MD",
    "-MMD",
    "-save-temps",
    "--save-temps",
    "-gsplit-dwarf",
    "-ftime-trace",
    "-frecord-command-line",
];

/// The command with its output, and the dependency list with it, redirected to `out`.
pub fn redirect(words: &[String], object: &str, out: &Path) -> Result<Vec<String>> {
    let out = out.display().to_string();
    let mut redirected = Vec::with_capacity(words.len());
    let mut outputs = 0;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "-o" {
            let named = words.next().map(|name| normalise(Path::new(name)));
            if named.as_deref() != Some(Path::new(object)) {
                bail!("the recorded command of {object} writes {named:?}");
            }
            outputs += 1;
            redirected.extend(["-o".to_owned(), out.clone()]);
        } else if let Some(option) = DEPENDENCY_OPTIONS.iter().find(|option| word.starts_with(**option)) {
            redirected.push(format!("{option}{out}.d"));
        } else if WRITING_OPTIONS.iter().any(|option| word.starts_with(option)) || word.starts_with("-o") {
            bail!("the recorded command of {object} has the option `{word}`, which writes files of its own");
        } else {
            redirected.push(word.clone());
        }
    }
    if outputs != 1 {
        bail!("the recorded command of {object} names {outputs} outputs");
    }
    Ok(redirected)
}

/// A command of the tail with the object's name, and that of kbuild's temporary beside it, exchanged.
pub fn redirect_tail(words: &[String], object: &str, out: &Path) -> Vec<String> {
    let temporary = temporary(object);
    let out = out.display().to_string();
    let exchange = |word: &String| match word {
        word if word == object => out.clone(),
        word if *word == temporary => format!("{out}.tmp"),
        word => word.clone(),
    };
    words.iter().map(exchange).collect()
}

/// The command for a new source in the directory of a known one: the object's name exchanged in every word that has it
/// as a whole.
pub fn for_sibling(words: &[String], old: &Names, new: &Names) -> Vec<String> {
    let exchange = |word: &String| {
        // Names of the object as kbuild spells them, and as it derives macros from them.
        for (from, to) in [
            (
                format!("-DKBUILD_BASENAME=\"{}\"", old.macro_name()),
                format!("-DKBUILD_BASENAME=\"{}\"", new.macro_name()),
            ),
            (
                format!("-DKBUILD_MODFILE=\"{}\"", old.stem()),
                format!("-DKBUILD_MODFILE=\"{}\"", new.stem()),
            ),
            (
                format!("-DKBUILD_MODNAME=\"{}\"", old.macro_name()),
                format!("-DKBUILD_MODNAME=\"{}\"", new.macro_name()),
            ),
            (
                format!("-D__KBUILD_MODNAME=kmod_{}", old.macro_name()),
                format!("-D__KBUILD_MODNAME=kmod_{}", new.macro_name()),
            ),
            (old.object.clone(), new.object.clone()),
            (old.source.clone(), new.source.clone()),
        ] {
            if *word == from {
                return to;
            }
        }
        match DEPENDENCY_OPTIONS.iter().find(|option| word.starts_with(**option)) {
            Some(option) => format!("{option}{}.d", new.object),
            None => word.clone(),
        }
    };
    words.iter().map(exchange).collect()
}

/// What a TU is called in its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Object relative to the build directory.
    pub object: String,
    /// Source as spelt in the command.
    pub source: String,
}

impl Names {
    fn stem(&self) -> &str {
        self.object.strip_suffix(".o").unwrap_or(&self.object)
    }

    fn macro_name(&self) -> String {
        macro_name(self.stem())
    }
}

/// What kbuild's macros call an object without its ending, or a module.
pub fn macro_name(stem: &str) -> String {
    stem.rsplit('/').next().unwrap_or(stem).replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn outputs_go_elsewhere() {
        let recorded = words("clang -Wp,-MMD,fs/.a.o.d -O2 -c -o fs/a.o /s/fs/a.c");
        let redirected = redirect(&recorded, "fs/a.o", Path::new("/out/a.o")).unwrap();
        assert_eq!(
            redirected,
            words("clang -Wp,-MMD,/out/a.o.d -O2 -c -o /out/a.o /s/fs/a.c")
        );
    }

    #[test]
    fn commands_that_write_more_are_refused() {
        for line in [
            "cc -c a.c",
            "cc -o b.o -c a.c",
            "cc -o a.o -MF x -c a.c",
            "cc -o a.o -gsplit-dwarf a.c",
            "cc -o a.o -o a.o",
        ] {
            assert!(redirect(&words(line), "a.o", Path::new("/out/a.o")).is_err(), "{line}");
        }
    }

    #[test]
    fn the_tail_follows_the_object() {
        let link = words("ld.lld -r -o fs/.tmp_a.o fs/a.o");
        assert_eq!(
            redirect_tail(&link, "fs/a.o", Path::new("/w/a.o")),
            words("ld.lld -r -o /w/a.o.tmp /w/a.o")
        );
    }

    #[test]
    fn a_sibling_of_a_composite_keeps_its_module_name() {
        let names = |name: &str| Names {
            object: format!("fs/proc/{name}.o"),
            source: format!("/s/fs/proc/{name}.c"),
        };
        let recorded = words(
            "clang -Wp,-MMD,fs/proc/.root.o.d -DKBUILD_MODFILE=\"fs/proc/proc\" -DKBUILD_BASENAME=\"root\" \
             -DKBUILD_MODNAME=\"proc\" -c -o fs/proc/root.o /s/fs/proc/root.c",
        );
        let expected = words(
            "clang -Wp,-MMD,fs/proc/a-b.o.d -DKBUILD_MODFILE=\"fs/proc/proc\" -DKBUILD_BASENAME=\"a_b\" \
             -DKBUILD_MODNAME=\"proc\" -c -o fs/proc/a-b.o /s/fs/proc/a-b.c",
        );
        assert_eq!(for_sibling(&recorded, &names("root"), &names("a-b")), expected);
    }
}
