//! Names what a patch adds that a livepatch cannot have, or takes out that it cannot: nobody should look for it in vain.

use std::collections::BTreeSet;

use super::apply::Patched;
use super::line::Line;
use super::{FileChange, PatchSet, Side};

/// Macros at the start of a line, and what becomes of what they make.
const MACROS: &[(&str, &str)] = &[
    (
        "EXPORT_",
        "a livepatch exports nothing that the kernel does not export already",
    ),
    (
        "module_param",
        "a livepatch makes no parameter that the kernel does not have already",
    ),
    (
        "core_param",
        "a livepatch makes no parameter that the kernel does not have already",
    ),
    (
        "TRACE_EVENT",
        "the event of a livepatch is not listed, so nobody can switch it on",
    ),
    (
        "DEFINE_EVENT",
        "the event of a livepatch is not listed, so nobody can switch it on",
    ),
    (
        "DECLARE_TRACE",
        "the event of a livepatch is not listed, so nobody can switch it on",
    ),
    (
        "MODULE_",
        "what a module says of itself is read from its file, which a livepatch does not change",
    ),
];

/// What the kernel keeps although the patch takes it out.
const KEPT: &str = "the patch takes this out, and the running kernel keeps it";

/// A note for each such line that the patches bring or take out.
pub fn notes(set: &PatchSet, files: &Patched) -> Vec<String> {
    added(files).into_iter().chain(removed(set)).collect()
}

/// A line that only moves is not taken out.
fn removed(set: &PatchSet) -> Vec<String> {
    let of_file = |change: &FileChange| -> Vec<String> {
        let lines = |side| {
            change
                .hunks
                .iter()
                .flat_map(move |hunk| hunk.lines.iter().filter(move |line| line.side == side))
        };
        let new: BTreeSet<&[u8]> = lines(Side::Patched).map(|line| line.text.trim_ascii()).collect();
        let gone = lines(Side::Orig).filter(|line| !new.contains(line.text.trim_ascii()));
        let macros = gone.filter_map(|line| Some(macro_of(&line.text)?.0));
        macros
            .map(|line| format!("{}: `{line}`: {KEPT}", change.path))
            .collect()
    };
    set.files.iter().flat_map(of_file).collect()
}

fn added(files: &Patched) -> Vec<String> {
    let in_file = |(path, lines): (&String, &Vec<Line>)| -> Vec<String> {
        let new = lines.iter().filter(|line| line.origin.is_none());
        new.filter_map(|line| Some(format!("{path}: {}", note(&line.text)?)))
            .collect()
    };
    files
        .iter()
        .filter_map(|(path, lines)| Some((path, lines.as_ref()?)))
        .flat_map(in_file)
        .collect()
}

fn note(line: &[u8]) -> Option<String> {
    let (line, why) = macro_of(line)?;
    Some(format!("`{line}`: {why}"))
}

/// The line without its end, if it begins with such a macro, and what becomes of it.
fn macro_of(line: &[u8]) -> Option<(&str, &'static str)> {
    let text = std::str::from_utf8(line).ok()?.trim_end();
    let (_, why) = MACROS.iter().find(|(name, _)| text.starts_with(name))?;
    text.contains('(').then(|| (text.trim_end_matches(';'), *why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_patch_brings_is_named() {
        let line = |text: &str, origin| Line {
            text: text.as_bytes().to_vec(),
            origin,
        };
        let lines = vec![
            line("EXPORT_SYMBOL(old);\n", Some(1)),
            line("EXPORT_SYMBOL_GPL(new);\n", None),
            line("module_param(level, int, 0644);\n", None),
            line("\tmodule_param = 3;\n", None),
            line("MODULE_ALIAS(\"fs-a\");\n", None),
        ];
        let notes = added(&Patched::from([
            ("fs/a.c".to_owned(), Some(lines)),
            ("fs/b.c".to_owned(), None),
        ]));
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(notes[0].starts_with("fs/a.c: `EXPORT_SYMBOL_GPL(new)`: "), "{notes:?}");
        assert!(
            notes[1].starts_with("fs/a.c: `module_param(level, int, 0644)`: "),
            "{notes:?}"
        );
        assert!(notes[2].starts_with("fs/a.c: `MODULE_ALIAS(\"fs-a\")`: "), "{notes:?}");
    }

    #[test]
    fn what_is_taken_out_is_named_and_what_moves_is_not() {
        let text = "--- a/fs/a.c\n+++ b/fs/a.c\n@@ -1,4 +1,3 @@\n-EXPORT_SYMBOL(gone);\n-EXPORT_SYMBOL(moved);\n int x;\n-int y;\n+int z;\n+EXPORT_SYMBOL(moved);\n";
        let files = super::super::parse::parse("p", text.as_bytes()).unwrap();
        assert_eq!(
            removed(&PatchSet { files }),
            [format!("fs/a.c: `EXPORT_SYMBOL(gone)`: {KEPT}")]
        );
    }
}
