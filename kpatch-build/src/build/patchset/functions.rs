//! Names the functions whose text a patch changes, by the habit that a definition begins in the first column.
//!
//! What a patch reaches is found by comparing machine code, and not here.

use std::collections::BTreeSet;

use super::apply::{Patched, lines_of};
use super::line::Line;

/// The functions in whose text lines were added or removed.
pub fn edited(files: &Patched) -> BTreeSet<String> {
    files.values().flatten().flat_map(|lines| edited_in(lines)).collect()
}

/// The same for one file.
pub fn edited_in(lines: &[Line]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut current, mut before) = (None, 0);
    for line in lines {
        if let Some(name) = heading(&line.text) {
            current = Some(name);
        }
        let gap = line.origin.is_some_and(|origin| origin != before + 1);
        if line.origin.is_none() || gap {
            names.extend(current.clone());
        }
        before = line.origin.unwrap_or(before);
        if line.text.starts_with(b"}") {
            current = None;
        }
    }
    names
}

/// The functions of a file in whose text lines are that are not kept. A function that goes as a whole is one of them.
pub fn removed_from(before: &[Line], kept: &BTreeSet<u32>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut current = None;
    for line in before {
        if let Some(name) = heading(&line.text) {
            current = Some(name);
        }
        if !line.origin.is_some_and(|origin| kept.contains(&origin)) {
            names.extend(current.clone());
        }
        if line.text.starts_with(b"}") {
            current = None;
        }
    }
    names
}

/// The functions in whose bodies all lines are that were added or removed, so that whatever else changes has one of them
/// inlined. `original` reads a file as it was. If in doubt, `None`.
pub fn in_bodies_of(files: &Patched, original: impl Fn(&str) -> Option<Vec<u8>>) -> Option<BTreeSet<(String, String)>> {
    let mut all = BTreeSet::new();
    for (path, lines) in files {
        let mut own = BTreeSet::new();
        let before = original(path)?;
        if !in_bodies(&lines_of(&before), lines.as_ref()?, &mut own) {
            return None;
        }
        all.extend(own.into_iter().map(|name| (path.clone(), name)));
    }
    (!all.is_empty()).then_some(all)
}

fn in_bodies(before: &[Line], after: &[Line], all: &mut BTreeSet<String>) -> bool {
    let kept: BTreeSet<u32> = after.iter().filter_map(|line| line.origin).collect();
    let removed = before.iter().map(|line| {
        (
            &line.text[..],
            !line.origin.is_some_and(|origin| kept.contains(&origin)),
        )
    });
    let added = after.iter().map(|line| (&line.text[..], line.origin.is_none()));
    bodies(removed, all) && bodies(added, all)
}

/// Adds the functions in whose bodies lines changed; `false` if lines changed elsewhere. A body is what stands between a brace
/// in the first column and the next line that begins there.
fn bodies<'l>(lines: impl Iterator<Item = (&'l [u8], bool)>, all: &mut BTreeSet<String>) -> bool {
    let (mut name, mut inside) = (None, false);
    for (text, changed) in lines {
        let indented = matches!(text.first(), Some(b' ' | b'\t' | b'\n') | None) || is_label(text);
        match &name {
            Some(name) if inside && indented && changed => drop(all.insert(String::clone(name))),
            _ if changed => return false,
            _ => {}
        }
        match text.first() {
            _ if indented => {}
            Some(b'{') if name.is_some() => inside = true,
            _ => (name, inside) = (heading(text).filter(|_| !text.contains(&b'}')), false),
        }
    }
    true
}

/// Whether a line is the target of a `goto`.
fn is_label(text: &[u8]) -> bool {
    let name = text.trim_ascii_end().strip_suffix(b":").unwrap_or_default();
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// The name in a line such as `static int name(struct x *y)`.
fn heading(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let (before, _) = text.split_once('(')?;
    let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
    (starts && !name.is_empty() && !text.trim_end().ends_with(';')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "int a;\nstatic int one(int x)\n{\n\treturn f(x);\n}\n\nstatic inline void\ntwo(void)\n{\n\tg();\n\th();\n}\nint last(void);\n";

    #[test]
    fn added_and_removed_lines_belong_to_a_function() {
        let mut lines = lines_of(FILE.as_bytes());
        assert_eq!(edited_in(&lines), BTreeSet::new());
        lines.remove(9);
        assert_eq!(edited_in(&lines), BTreeSet::from(["two".to_owned()]));
        let new = Line {
            text: b"\tnew();\n".to_vec(),
            origin: None,
        };
        lines.insert(3, new.clone());
        assert_eq!(edited_in(&lines), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    }

    #[test]
    fn one_function_is_edited_if_all_lines_are_in_its_body() {
        let is_one = |before: &str, after: &[Line]| {
            let mut all = BTreeSet::new();
            in_bodies(&lines_of(before.as_bytes()), after, &mut all) && all.len() == 1
        };
        let without = |text: &str, line: usize| {
            let mut lines = lines_of(text.as_bytes());
            lines.remove(line);
            lines
        };
        assert!(is_one(FILE, &without(FILE, 3)) && is_one(FILE, &without(FILE, 9)));
        // A variable, a head, what stands between functions, and the end.
        for line in [0, 1, 6, 11, 12] {
            assert!(!is_one(FILE, &without(FILE, line)), "{line}");
        }
        let mut two = without(FILE, 9);
        two.remove(3);
        assert!(!is_one(FILE, &two));
        let text = "int f(void)\n{\n\tgoto out;\nout:\n\treturn 1;\n}\n";
        assert!(is_one(text, &without(text, 4)));
        // What the preprocessor takes counts for all that follows.
        let text = "int f(void)\n{\n#define X 1\n\treturn X;\n}\n";
        assert!(!is_one(text, &without(text, 2)));
        // The body of a function on one line cannot be told from what follows.
        let text = "static int f(int x) { return x; }\n\tint y;\n";
        assert!(!is_one(text, &without(text, 1)));
    }

    #[test]
    fn what_stands_between_functions_belongs_to_none() {
        let mut lines = lines_of(FILE.as_bytes());
        let new = Line {
            text: b"int b;\n".to_vec(),
            origin: None,
        };
        lines.insert(5, new);
        assert_eq!(edited_in(&lines), BTreeSet::new());
    }
}
