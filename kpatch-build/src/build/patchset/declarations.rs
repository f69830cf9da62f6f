//! Says whether a patch changes anything but the inside of functions: only then can it change how a structure lies in
//! memory, and only then is it worth compiling everything with debugging information.

use super::apply::Patched;
use super::line::Line;

/// Whether lines outside of functions were added or removed.
///
/// A function is what stands between a `{` and a `}` alone in the first column if parameters end right before. Where
/// this is not sure the answer is yes, which costs time and nothing else.
pub fn edited(files: &Patched) -> bool {
    files.values().flatten().any(|lines| edited_in(lines))
}

fn edited_in(lines: &[Line]) -> bool {
    let mut inside = false;
    let mut before = 0;
    let mut last: &[u8] = b"";
    for line in lines {
        let text = line.text.trim_ascii();
        let opens = line.text.starts_with(b"{") && text == b"{" && last.ends_with(b")");
        let gap = line.origin.is_some_and(|origin| origin != before + 1);
        let new = line.origin.is_none() && !text.is_empty();
        if (gap || new) && !inside {
            return true;
        }
        before = line.origin.unwrap_or(before);
        if opens {
            inside = true;
        } else if line.text.starts_with(b"}") {
            inside = false;
        }
        if !text.is_empty() {
            last = text;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::apply::lines_of;
    use super::*;

    const FILE: &str = "struct s {\n\tint a;\n\tint b;\n};\n\nint f(struct s *s)\n{\n\tint x;\n\n\treturn s->a;\n}\n\nstruct t\n{\n\tint a;\n\tint b;\n};\n";

    fn without(index: usize) -> Vec<Line> {
        let mut lines = lines_of(FILE.as_bytes());
        lines.remove(index);
        lines
    }

    fn with(index: usize, text: &str) -> Vec<Line> {
        let mut lines = lines_of(FILE.as_bytes());
        let text = text.as_bytes().to_vec();
        lines.insert(index, Line { text, origin: None });
        lines
    }

    #[test]
    fn the_inside_of_a_function_declares_nothing() {
        assert!(!edited_in(&lines_of(FILE.as_bytes())));
        assert!(!edited_in(&without(7)));
        assert!(!edited_in(&with(8, "\tint y;\n")));
    }

    #[test]
    fn anything_else_may_be_a_declaration() {
        assert!(edited_in(&without(1)));
        assert!(edited_in(&with(1, "\tint c;\n")));
        assert!(edited_in(&with(4, "#define N 3\n")));
        assert!(edited_in(&with(5, "static\n")));
        // Braces alone in their lines do not make it a function.
        assert!(edited_in(&without(14)));
        assert!(edited_in(&with(15, "\tint c;\n")));
    }

    #[test]
    fn lines_at_the_seams_are_outside() {
        // The heading of a function, and what follows on its end.
        assert!(edited_in(&without(5)));
        assert!(edited_in(&without(11)));
        assert!(!edited_in(&with(4, "\n")));
    }
}
