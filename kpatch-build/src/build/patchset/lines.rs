//! Keeps line numbers stable: code below a change keeps the `__LINE__` it had, so it compiles to the same bytes.
//!
//! `WARN_ON`, `BUG_ON`, lock classes and `__UNIQUE_ID` all carry line numbers. Without this, one added line makes every
//! function below it look changed. A `#line` directive after the change puts the old number back.

use super::lexer::{Directive, Lexer, closes_branch};
use super::line::Line;

/// Whether line numbers mean something in this file.
pub fn is_c(path: &str) -> bool {
    path.ends_with(".c") || path.ends_with(".h")
}

/// The text of a patched C file with `#line` where numbers had shifted. Added lines are counted on from the line before
/// them.
pub fn stabilise(lines: &[Line]) -> Vec<u8> {
    numbered(lines, None)
}

/// The same with numbers for added lines that no line of the file has: some macros make names of their lines, and two
/// lines of one number would give one name twice.
pub fn stabilise_apart(lines: &[Line]) -> Vec<u8> {
    let last = lines.iter().filter_map(|line| line.origin).max().unwrap_or(0);
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    numbered(lines, Some(last.saturating_add(count)))
}

/// The numbers that [`stabilise`] gives to lines; nothing for a line whose number depends on a condition.
pub fn numbers(lines: &[Line]) -> Vec<Option<u32>> {
    written(lines, None).numbers
}

/// `added` is the number of the first line if that were an added one.
fn numbered(lines: &[Line], added: Option<u32>) -> Vec<u8> {
    written(lines, added).out
}

fn written(lines: &[Line], added: Option<u32>) -> Writer {
    let mut writer = Writer {
        out: Vec::new(),
        numbers: Vec::new(),
        written: 0,
        shift: Some(0),
        open: Vec::new(),
    };
    let mut lexer = Lexer::default();
    for (index, line) in lines.iter().enumerate() {
        let apart = || Some(added?.saturating_add(u32::try_from(index).ok()?));
        if let Some(number) = line.origin.or_else(apart)
            && writer.is_off(number)
            && lexer.safe_before(&line.text)
            && !closes_branch(&line.text)
        {
            writer.renumber(number);
        }
        let directive = lexer.line(&line.text);
        if directive == Directive::Line {
            // A file that numbers itself needs no help from here on.
            return writer.finish(&lines[index..]);
        }
        let number = writer.number();
        writer.numbers.push(number);
        writer.follow(directive);
        writer.write(&line.text);
    }
    writer
}

struct Writer {
    out: Vec<u8>,
    /// The number of each line.
    numbers: Vec<Option<u32>>,
    /// Lines written so far.
    written: i64,
    /// Number the compiler gives to a line minus its true number. Nothing if that depends on an `#if`.
    shift: Option<i64>,
    open: Vec<Alternatives>,
}

/// A `#line` in an alternative counts only if that alternative is compiled, which is not known here.
struct Alternatives {
    at_start: Option<i64>,
    at_ends: Vec<Option<i64>>,
    has_else: bool,
}

impl Writer {
    fn is_off(&self, origin: u32) -> bool {
        self.shift != Some(i64::from(origin) - (self.written + 1))
    }

    /// The number that the compiler gives to the next line.
    fn number(&self) -> Option<u32> {
        u32::try_from(self.shift? + self.written + 1).ok()
    }

    fn renumber(&mut self, origin: u32) {
        self.write(format!("#line {origin}\n").as_bytes());
        self.shift = Some(i64::from(origin) - (self.written + 1));
    }

    fn write(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
        self.written += 1;
    }

    fn follow(&mut self, directive: Directive) {
        match directive {
            Directive::If => {
                self.open.push(Alternatives {
                    at_start: self.shift,
                    at_ends: Vec::new(),
                    has_else: false,
                });
            }
            Directive::Elif | Directive::Else => {
                if let Some(open) = self.open.last_mut() {
                    open.at_ends.push(self.shift);
                    open.has_else |= directive == Directive::Else;
                    self.shift = open.at_start;
                }
            }
            Directive::Endif => {
                if let Some(open) = self.open.pop() {
                    let skipped = (!open.has_else).then_some(open.at_start);
                    let same = open.at_ends.into_iter().chain(skipped).all(|shift| shift == self.shift);
                    self.shift = self.shift.filter(|_| same);
                }
            }
            Directive::Other | Directive::Line => {}
        }
    }

    fn finish(mut self, rest: &[Line]) -> Writer {
        for line in rest {
            self.numbers.push(None);
            self.write(&line.text);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(marked: &str) -> String {
        String::from_utf8(stabilise(&lines(marked))).unwrap()
    }

    /// Lines starting with `+` are new, those starting with `-` removed, all others original.
    fn lines(marked: &str) -> Vec<Line> {
        let mut number = 0;
        let mut lines = Vec::new();
        for text in marked.split_inclusive('\n') {
            if let Some(text) = text.strip_prefix('+') {
                lines.push(Line {
                    text: text.into(),
                    origin: None,
                });
                continue;
            }
            number += 1;
            if !text.starts_with('-') {
                lines.push(Line {
                    text: text.into(),
                    origin: Some(number),
                });
            }
        }
        lines
    }

    #[test]
    fn added_lines_can_have_numbers_of_their_own() {
        let apart = |marked: &str| String::from_utf8(stabilise_apart(&lines(marked))).unwrap();
        assert_eq!(
            apart("a;\n+x;\n+y;\nb;\n+z;\n"),
            "a;\n#line 8\nx;\ny;\n#line 2\nb;\n#line 11\nz;\n"
        );
        assert_eq!(apart("a;\n-b;\nc;\n"), "a;\n#line 3\nc;\n");
        assert_eq!(apart("f(a,\n+ x);\nc;\n"), "f(a,\n x);\n#line 2\nc;\n");
    }

    #[test]
    fn numbers_come_back_after_an_addition_and_a_removal() {
        assert_eq!(run("a;\n+x;\n+y;\nb;\nc;\n"), "a;\nx;\ny;\n#line 2\nb;\nc;\n");
        assert_eq!(run("a;\n-b;\nc;\n"), "a;\n#line 3\nc;\n");
    }

    #[test]
    fn equal_counts_need_no_directive() {
        assert_eq!(run("a;\n-b;\n+B;\nc;\n"), "a;\nB;\nc;\n");
        assert_eq!(run("a;\nb;\n+c;\n"), "a;\nb;\nc;\n");
    }

    #[test]
    fn a_gap_inside_something_is_waited_out() {
        assert_eq!(run("f(a,\n+ x,\n b);\nc;\n"), "f(a,\n x,\n b);\n#line 3\nc;\n");
        assert_eq!(
            run("#define F \\\n+ x; \\\n b\nc;\n"),
            "#define F \\\n x; \\\n b\n#line 3\nc;\n"
        );
        assert_eq!(run("/*\n+ * x\n */\nc;\n"), "/*\n * x\n */\n#line 3\nc;\n");
    }

    /// If `A` is off, the directive inside is skipped, so the number has to be set again after the `#endif`.
    #[test]
    fn a_directive_in_an_alternative_does_not_count_outside() {
        assert_eq!(
            run("#ifdef A\n+x;\na;\n#endif\nb;\nc;\n"),
            "#ifdef A\nx;\n#line 2\na;\n#endif\n#line 4\nb;\nc;\n"
        );
    }

    #[test]
    fn each_alternative_is_numbered_from_the_start() {
        let text = "#ifdef A\n+x;\na;\n#else\nb;\n#endif\nc;\n";
        assert_eq!(
            run(text),
            "#ifdef A\nx;\n#line 2\na;\n#else\n#line 4\nb;\n#endif\n#line 6\nc;\n"
        );
    }

    #[test]
    fn an_untouched_conditional_changes_nothing() {
        assert_eq!(
            run("+x;\n#ifdef A\na;\n#endif\nb;\n"),
            "x;\n#line 1\n#ifdef A\na;\n#endif\nb;\n"
        );
    }

    #[test]
    fn files_with_line_directives_are_left_alone_after_them() {
        assert_eq!(run("+x;\n#line 7\na;\n+y;\nb;\n"), "x;\n#line 1\n#line 7\na;\ny;\nb;\n");
    }

    #[test]
    fn every_line_has_the_number_that_the_compiler_gives_it() {
        let of = |marked: &str| numbers(&lines(marked));
        assert_eq!(of("a;\n+x;\n+y;\nb;\n"), [Some(1), Some(2), Some(3), Some(2)]);
        assert_eq!(of("f(a,\n+ x,\n b);\nc;\n"), [Some(1), Some(2), Some(3), Some(3)]);
        assert_eq!(
            of("#ifdef A\n+x;\na;\n#endif\nb;\n"),
            [Some(1), Some(2), Some(2), Some(3), Some(4)].map(|number: Option<u32>| number)
        );
        assert_eq!(of("+x;\n#line 7\na;\n"), [Some(1), None, None]);
    }

    #[test]
    fn the_end_of_a_file_may_come_first() {
        assert_eq!(run("f(\n+x\n)"), "f(\nx\n)");
    }
}
