//! Names what a patch adds that a livepatch cannot have: nobody should look for it in vain.

use super::apply::Patched;
use super::line::Line;

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

/// A note for each such line that the patches bring.
pub fn notes(files: &Patched) -> Vec<String> {
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
    let text = std::str::from_utf8(line).ok()?.trim_end();
    let (_, why) = MACROS.iter().find(|(name, _)| text.starts_with(name))?;
    text.contains('(')
        .then(|| format!("`{}`: {why}", text.trim_end_matches(';')))
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
        let notes = notes(&Patched::from([
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
}
