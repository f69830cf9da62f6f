//! Says whether a patch changes anything but the inside of functions: only then can it change how a structure lies in
//! memory, and only then is it worth compiling everything with debugging information.

use super::apply::Patched;
use super::line::Line;

/// Whether lines outside of functions were added or removed, or lines of a function that has static variables or types of
/// its own: what a static variable holds outlives the call.
///
/// A function is what stands between a `{` and a `}` alone in the first column if parameters end right before. Where
/// this is not sure the answer is yes, which costs time and nothing else.
pub fn edited(files: &Patched) -> bool {
    files.values().flatten().any(|lines| edited_in(lines))
}

fn edited_in(lines: &[Line]) -> bool {
    let mut inside = false;
    let (mut describes, mut changes) = (false, false);
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
        describes |= text.starts_with(b"static ") || begins_a_type(text);
        changes |= gap || new;
        if inside && describes && changes {
            return true;
        }
        before = line.origin.unwrap_or(before);
        if opens {
            inside = true;
            (describes, changes) = (false, false);
        } else if line.text.starts_with(b"}") {
            inside = false;
        }
        if !text.is_empty() {
            last = text;
        }
    }
    false
}

/// `static union {`, and the like.
fn begins_a_type(text: &[u8]) -> bool {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    let mut words = words.filter(|word| !word.is_empty());
    text.ends_with(b"{") && !text.contains(&b')') && words.any(|word| matches!(word, b"struct" | b"union" | b"enum"))
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
    fn a_function_may_have_variables_that_stay() {
        let with_body = |body: &str, index: usize| {
            let mut lines = lines_of(format!("int f(void)\n{{\n{body}\treturn 0;\n}}\n").as_bytes());
            lines.remove(index);
            edited_in(&lines)
        };
        assert!(with_body("\tstatic union {\n\t\tint a;\n\t\tint b;\n\t} u;\n", 3));
        assert!(with_body("\tstatic struct s s;\n\tint x;\n", 3));
        assert!(with_body("\tstruct s {\n\t\tint a;\n\t};\n\tint x;\n", 5));
        assert!(!with_body("\tstruct s *s = find(1);\n\tint x;\n", 3));
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
