//! Finds the other changes that a file's change needs, from what the compiler says about it alone.
//!
//! A release has no commits, only files. A change that adds a parameter is in a header, in the file with the function
//! and in its callers, and none of these compiles alone. The compiler names what it misses, and the difference says
//! where that was added; so the smallest set that compiles is found without a history. It may be larger than the commit
//! was, since a file's change is taken as a whole. A file that compiles may still call what another file's change defines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kpatch_core::Refusal;

use super::difference::Change;
use super::pieces::Pieces;

/// If nothing that was added names what is missing, so many files at most that merely mention it.
const MENTIONS: usize = 3;

/// Files to add after `object` did not compile with the changes of `files`; empty if nothing in the difference helps.
pub fn missing(pieces: &Pieces, files: &BTreeSet<String>, object: &str, messages: &str) -> BTreeSet<String> {
    // A header that broke a user of it: the user's own change is what fits the header.
    if let Some(source) = pieces.source_of.get(object).filter(|source| !files.contains(*source)) {
        return [source.clone()].into();
    }
    let wanted = Wanted::read(messages);
    let readers: BTreeMap<&str, &BTreeSet<String>> = pieces
        .pieces
        .iter()
        .map(|piece| (piece.file.as_str(), &piece.units))
        .collect();
    let can_help = |(path, change): &(&String, &Change)| -> bool {
        let read = readers.get(path.as_str()).is_some_and(|units| units.contains(object));
        !files.contains(*path)
            && !path.ends_with(".c")
            && match change {
                Change::New => path.ends_with(".h"),
                Change::Modified => read,
                Change::Deleted => false,
            }
    };
    let (mut adding, mut mentioning) = (BTreeSet::new(), BTreeSet::new());
    for (path, change) in pieces.changed.iter().filter(can_help) {
        let text = |root: &std::path::Path| fs::read_to_string(root.join(path)).unwrap_or_default();
        let new = text(&pieces.new);
        let old = if *change == Change::New {
            String::new()
        } else {
            text(&pieces.old)
        };
        // A header that nothing includes yet is missed as a file.
        let names = *change == Change::Modified;
        if wanted.is_file(path) || (names && wanted.is_added(&old, &new)) {
            adding.insert(path.clone());
        } else if names && wanted.is_in(&new) {
            mentioning.insert(path.clone());
        }
    }
    match (adding.is_empty(), mentioning.len()) {
        (false, _) => adding,
        (true, 1..=MENTIONS) => mentioning,
        _ => BTreeSet::new(),
    }
}

/// Files to add after a function was neither in the kernel nor in the livepatch: those of the difference that define it.
pub fn defining(pieces: &Pieces, files: &BTreeSet<String>, refusals: &[Refusal]) -> BTreeSet<String> {
    let wanted: BTreeSet<&str> = refusals
        .iter()
        .filter_map(|refusal| refusal.missing.as_deref())
        .collect();
    let sources = pieces.pieces.iter().map(|piece| &piece.file);
    let sources = sources.filter(|file| file.ends_with(".c") && !files.contains(*file));
    let defines = |file: &&String| {
        let text = |root: &std::path::Path| fs::read_to_string(root.join(file)).unwrap_or_default();
        is_defined(&wanted, &text(&pieces.old), &text(&pieces.new))
    };
    sources.filter(defines).cloned().collect()
}

/// Whether the new side alone defines one of the functions: their names stand in a line that is not indented.
fn is_defined(wanted: &BTreeSet<&str>, old: &str, new: &str) -> bool {
    let known: BTreeSet<&str> = old.lines().collect();
    let added = new.lines().filter(|line| !known.contains(line));
    let mut starts = added.filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
    starts.any(|line| {
        let name = line.split_once('(').and_then(|(before, _)| words(before).last());
        !line.ends_with(';') && name.is_some_and(|name| wanted.contains(name))
    })
}

/// What a compiler misses.
#[derive(Debug, Default)]
struct Wanted {
    names: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Wanted {
    /// From the lines of errors, and of the notes that say where something was declared. What stands in the first quotes
    /// is what is missing; behind it comes what lacks it, which half the tree mentions.
    fn read(messages: &str) -> Self {
        let mut wanted = Wanted::default();
        let telling =
            |line: &&str| line.contains("error:") || (line.contains("note:") && line.contains("declared here"));
        for line in messages.lines().filter(telling) {
            let Some(quoted) = line.split('\'').nth(1) else {
                continue;
            };
            if quoted.ends_with(".h") {
                wanted.files.insert(quoted.to_owned());
            } else {
                wanted
                    .names
                    .extend(words(quoted).filter(|word| is_name(word)).map(str::to_owned));
            }
        }
        wanted
    }

    fn is_file(&self, path: &str) -> bool {
        self.files
            .iter()
            .any(|file| path == file || path.ends_with(&format!("/{file}")))
    }

    fn is_in(&self, text: &str) -> bool {
        words(text).any(|word| self.names.contains(word))
    }

    /// Whether a line that only the new side has names what is missing.
    fn is_added(&self, old: &str, new: &str) -> bool {
        let known: BTreeSet<&str> = old.lines().collect();
        new.lines()
            .filter(|line| !known.contains(line))
            .any(|line| self.is_in(line))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Types of the language say nothing about where something comes from.
fn is_name(word: &str) -> bool {
    const LANGUAGE: [&str; 22] = [
        "struct", "union", "enum", "const", "volatile", "unsigned", "signed", "int", "long", "short", "char", "void",
        "static", "inline", "extern", "u8", "u16", "u32", "u64", "bool", "size_t", "aka",
    ];
    !LANGUAGE.contains(&word) && !word.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::pieces::Piece;

    fn put(root: &std::path::Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn tree() -> (tempfile::TempDir, tempfile::TempDir, Pieces) {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut changed = BTreeMap::new();
        for (path, before, after) in [
            (
                "include/linux/a.h",
                "struct a {\n\tint x;\n};\n",
                "struct a {\n\tint x;\n\tint fresh;\n};\n",
            ),
            ("include/linux/b.h", "int far;\n", "int far, away;\n"),
            ("fs/a.c", "1", "2"),
            ("fs/user.c", "1", "2"),
        ] {
            put(old.path(), path, before);
            put(new.path(), path, after);
            changed.insert(path.to_owned(), Change::Modified);
        }
        put(new.path(), "include/linux/new.h", "int brand_new(void);\n");
        changed.insert("include/linux/new.h".to_owned(), Change::New);
        let piece = |file: &str, units: &[&str]| Piece {
            file: file.to_owned(),
            units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        };
        let pieces = vec![
            piece("fs/a.c", &["fs/a.o"]),
            piece("fs/user.c", &["fs/user.o"]),
            piece("include/linux/a.h", &["fs/a.o", "fs/user.o", "fs/plain.o"]),
            piece("include/linux/b.h", &["fs/plain.o"]),
        ];
        let source_of = [("fs/a.o", "fs/a.c"), ("fs/user.o", "fs/user.c")];
        let pieces = Pieces {
            old: old.path().to_owned(),
            new: new.path().to_owned(),
            changed,
            pieces,
            source_of: source_of
                .map(|(unit, source)| (unit.to_owned(), source.to_owned()))
                .into(),
        };
        (old, new, pieces)
    }

    fn set(files: &[&str]) -> BTreeSet<String> {
        files.iter().map(|file| (*file).to_owned()).collect()
    }

    #[test]
    fn the_header_that_adds_the_missing_name_comes_along() {
        let (_old, _new, pieces) = tree();
        let error = "fs/a.c:1:2: error: no member named 'fresh' in 'struct a'\n";
        assert_eq!(
            missing(&pieces, &set(&["fs/a.c"]), "fs/a.o", error),
            set(&["include/linux/a.h"])
        );
        let error = "fs/a.c:1:2: fatal error: 'linux/new.h' file not found\n";
        assert_eq!(
            missing(&pieces, &set(&["fs/a.c"]), "fs/a.o", error),
            set(&["include/linux/new.h"])
        );
    }

    #[test]
    fn a_user_that_a_header_broke_comes_along() {
        let (_old, _new, pieces) = tree();
        let files = set(&["include/linux/a.h"]);
        assert_eq!(missing(&pieces, &files, "fs/user.o", "error: 'x'"), set(&["fs/user.c"]));
    }

    #[test]
    fn what_nothing_in_the_difference_has_stays_missing() {
        let (_old, _new, pieces) = tree();
        let files = set(&["fs/a.c"]);
        assert!(
            missing(
                &pieces,
                &files,
                "fs/a.o",
                "error: use of undeclared identifier 'elsewhere'"
            )
            .is_empty()
        );
        let error = "error: call to undeclared function 'brand_new'";
        assert!(
            missing(&pieces, &files, "fs/a.o", error).is_empty(),
            "nothing includes it"
        );
        // `away` is added in a header, but not in one that this object reads.
        assert!(missing(&pieces, &files, "fs/a.o", "error: use of undeclared identifier 'away'").is_empty());
        assert!(missing(&pieces, &set(&["include/linux/a.h"]), "fs/plain.o", "error: 'int'").is_empty());
    }

    #[test]
    fn a_changed_prototype_is_found_through_the_note() {
        let error = "a.c:1: error: too few arguments to function call\na.h:2: note: 'widen' declared here\n  'no'\n";
        assert_eq!(Wanted::read(error).names, set(&["widen"]));
    }

    #[test]
    fn what_lacks_something_is_not_what_is_missing() {
        let error = "a.c:1: error: no member named 'seq' in 'struct key::(unnamed at include/linux/a.h:38:2)'\n";
        assert_eq!(Wanted::read(error).names, set(&["seq"]));
    }

    #[test]
    fn a_definition_is_a_line_that_is_not_indented() {
        let wanted = BTreeSet::from(["fresh"]);
        assert!(is_defined(&wanted, "", "int fresh(int a,\n\t  int b)\n{\n"));
        assert!(is_defined(&wanted, "", "static int *fresh(void)\n"));
        assert!(!is_defined(&wanted, "", "\treturn fresh(1);\n"), "a call");
        assert!(!is_defined(&wanted, "", "int fresh(void);\n"), "a declaration");
        assert!(
            !is_defined(&wanted, "", "int other(int (*fresh)(void))\n"),
            "a parameter"
        );
        assert!(
            !is_defined(&wanted, "int fresh(void)\n", "int fresh(void)\n"),
            "nothing new"
        );
    }
}
