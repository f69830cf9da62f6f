//! Knows just enough C to say between which two lines a preprocessor directive may stand without changing the program.

/// The place in a C file after the lines read so far.
#[derive(Debug, Default)]
pub struct Lexer {
    mode: Mode,
    /// The last line ended in a backslash.
    continued: bool,
    /// The logical line is a directive.
    directive: bool,
    /// Open parentheses. Macro arguments are in parentheses, and a directive among them is undefined behaviour.
    depth: usize,
    /// The last byte of code that was neither blank nor comment.
    last: u8,
    conditionals: Vec<Conditional>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Mode {
    #[default]
    Code,
    BlockComment,
    LineComment,
    /// In a string or character literal that ends with this byte.
    Literal(u8),
}

/// Alternatives of an `#if` each continue from its start, and may open parentheses that a common end closes.
#[derive(Debug)]
struct Conditional {
    start: usize,
    deepest: usize,
}

/// What a line is to the preprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// No directive, or one without meaning for line numbers.
    Other,
    /// `#if`, `#ifdef`, `#ifndef`
    If,
    /// `#elif` and its kin
    Elif,
    /// `#else`
    Else,
    /// `#endif`
    Endif,
    /// `#line`, or `# 12 "file"` as tools write it
    Line,
}

impl Lexer {
    /// Whether a directive may be inserted between what was read and this next line.
    ///
    /// A name before the gap could be that of a macro whose `(` follows; only a look-up of all macros could tell, so
    /// such a gap counts as unsafe.
    pub fn safe_before(&self, next: &[u8]) -> bool {
        let after_name = self.last.is_ascii_alphanumeric() || self.last == b'_';
        let opens = next.trim_ascii_start().starts_with(b"(");
        self.mode == Mode::Code && !self.continued && !self.directive && self.depth == 0 && !after_name && !opens
    }

    /// Reads one line.
    pub fn line(&mut self, text: &[u8]) -> Directive {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let kind = self.begin(text);
        self.scan(text);
        self.end(text);
        kind
    }

    fn begin(&mut self, text: &[u8]) -> Directive {
        if self.continued || self.mode != Mode::Code || self.directive {
            return Directive::Other;
        }
        let Some(kind) = directive(text) else {
            return Directive::Other;
        };
        self.directive = true;
        match kind {
            Directive::If => self.conditionals.push(Conditional {
                start: self.depth,
                deepest: self.depth,
            }),
            Directive::Elif | Directive::Else => {
                if let Some(open) = self.conditionals.last_mut() {
                    open.deepest = open.deepest.max(self.depth);
                    self.depth = open.start;
                }
            }
            Directive::Endif => {
                if let Some(open) = self.conditionals.pop() {
                    self.depth = self.depth.max(open.deepest);
                }
            }
            Directive::Other | Directive::Line => {}
        }
        kind
    }

    fn scan(&mut self, text: &[u8]) {
        let mut bytes = text.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match self.mode {
                Mode::Code => match byte {
                    b'/' if bytes.next_if_eq(&b'*').is_some() => self.mode = Mode::BlockComment,
                    b'/' if bytes.next_if_eq(&b'/').is_some() => self.mode = Mode::LineComment,
                    b'"' | b'\'' => {
                        self.mode = Mode::Literal(byte);
                        self.code(byte);
                    }
                    byte if byte.is_ascii_whitespace() || byte == b'\\' => {}
                    byte => self.code(byte),
                },
                Mode::BlockComment if byte == b'*' && bytes.next_if_eq(&b'/').is_some() => self.mode = Mode::Code,
                Mode::Literal(_) if byte == b'\\' => drop(bytes.next()),
                Mode::Literal(end) if byte == end => self.mode = Mode::Code,
                Mode::BlockComment | Mode::LineComment | Mode::Literal(_) => {}
            }
        }
    }

    /// Takes a byte of code into account, unless a macro definition or condition it stands in keeps it from the program.
    fn code(&mut self, byte: u8) {
        if self.directive {
            return;
        }
        self.last = byte;
        match byte {
            b'(' => self.depth += 1,
            b')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn end(&mut self, text: &[u8]) {
        // Compilers take a backslash for a continuation even with blanks after it.
        self.continued = text.trim_ascii_end().ends_with(b"\\");
        if self.continued || self.mode == Mode::BlockComment {
            return;
        }
        // An unclosed literal ends with its line: an apostrophe in text that is compiled out, for instance.
        self.mode = Mode::Code;
        self.directive = false;
    }
}

fn directive(text: &[u8]) -> Option<Directive> {
    let rest = text.trim_ascii_start().strip_prefix(b"#")?.trim_ascii_start();
    let end = rest
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric())
        .unwrap_or(rest.len());
    Some(match &rest[..end] {
        b"if" | b"ifdef" | b"ifndef" => Directive::If,
        b"elif" | b"elifdef" | b"elifndef" => Directive::Elif,
        b"else" => Directive::Else,
        b"endif" => Directive::Endif,
        b"line" => Directive::Line,
        word if word.first().is_some_and(u8::is_ascii_digit) => Directive::Line,
        _ => Directive::Other,
    })
}

/// Whether a line, taken as the start of a logical line, ends or switches an alternative of an `#if`.
pub fn closes_branch(text: &[u8]) -> bool {
    matches!(
        directive(text),
        Some(Directive::Elif | Directive::Else | Directive::Endif)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Marks each line with `+` if a directive may stand before it.
    fn marks(text: &str) -> String {
        let mut lexer = Lexer::default();
        let lines = text.split_inclusive('\n').map(str::as_bytes);
        lines
            .map(|line| {
                let mark = if lexer.safe_before(line) { '+' } else { '-' };
                lexer.line(line);
                mark
            })
            .collect()
    }

    #[test]
    fn plain_code_is_safe_after_ends_of_statements() {
        assert_eq!(marks("int a;\n\nint f(void)\n{\n\treturn 1;\n}\n"), "++++++");
    }

    #[test]
    fn comments_and_literals_are_opaque() {
        assert_eq!(marks("/* (\n ' \"\n*/\nint a;\n"), "+--+");
        assert_eq!(marks("// ( \\\nstill comment\nint a;\n"), "+-+");
        assert_eq!(marks("char *s = \"(/*\\\n more\\\"\";\nint a;\n"), "+-+");
        assert_eq!(marks("int c = '('; int d = '\\'';\nint q = '\"';\nint a;\n"), "+++");
        assert_eq!(marks("#error don't\nint a;\n"), "++");
    }

    #[test]
    fn parentheses_must_be_closed() {
        assert_eq!(marks("f(a,\n  b,\n  c);\ng();\n"), "+--+");
        assert_eq!(marks("x = ({ int y;\n  y; });\nz;\n"), "+-+");
    }

    #[test]
    fn definitions_are_one_piece() {
        assert_eq!(marks("#define F(x) \\\n\tdo { \\\n\t} while (0)\nint a;\n"), "+--+");
        assert_eq!(marks("#define OPEN foo(\nint a;\n"), "++");
        assert_eq!(marks("#define C /* a\n b */ 1\nint a;\n"), "+-+");
        assert_eq!(marks("#define S \\ \nx\nint a;\n"), "+-+");
        assert_eq!(marks("#if defined(A) && \\\n    defined(B)\nint a;\n#endif\n"), "+-++");
    }

    #[test]
    fn a_name_may_be_a_macro() {
        assert_eq!(marks("FOO\n\n/* c */\n(a);\nint b;\n"), "+---+");
        assert_eq!(marks("FOO(a)\n(b);\nint c;\n"), "+-+");
    }

    #[test]
    fn alternatives_continue_from_the_same_place() {
        assert_eq!(marks("#ifdef A\nf(a,\n#else\nf(b,\n#endif\n  c);\nint d;\n"), "++-+--+");
        assert_eq!(marks("#ifdef A\nif (f(\n#endif\nx\n))\n;\nint d;\n"), "++---++");
    }

    #[test]
    fn garbage_does_not_panic() {
        assert_eq!(marks(")))\n#endif\n#else\n'\n\"\n/*\n").len(), 6);
    }
}
