//! Names the functions whose text a patch changes, by the habit that a definition begins in the first column.
//!
//! For messages only: what a patch reaches is found by comparing machine code.

use std::collections::BTreeSet;

use super::apply::Patched;
use super::line::Line;

/// The functions in whose text lines were added or removed.
pub fn edited(files: &Patched) -> BTreeSet<String> {
    files.values().flatten().flat_map(|lines| edited_in(lines)).collect()
}

fn edited_in(lines: &[Line]) -> BTreeSet<String> {
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
    use super::super::apply::lines_of;
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
