//! Splits C, preprocessor directives and assembly with directives into tokens, without expanding anything.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An identifier or a keyword.
    Name,
    /// A preprocessing number.
    Number,
    /// A string or a character.
    Literal,
    /// `##`
    Paste,
    /// One byte of anything else.
    Mark(u8),
}

/// A token.
#[derive(Debug, Clone, Copy)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// How it is written.
    pub text: &'a [u8],
    /// The line it begins in, from 1.
    pub line: u32,
    /// The directive it belongs to, numbered from 1; 0 for code.
    pub directive: u32,
    /// Whether it follows the token before without anything between.
    pub glued: bool,
}

impl Token<'_> {
    /// Whether it is this mark.
    pub fn is(&self, mark: u8) -> bool {
        self.kind == Kind::Mark(mark)
    }

    /// Whether it is this name.
    pub fn is_name(&self, name: &[u8]) -> bool {
        self.kind == Kind::Name && self.text == name
    }
}

/// The tokens of a file.
#[derive(Debug, Default)]
pub struct Tokens<'a> {
    /// In their order.
    pub all: Vec<Token<'a>>,
    /// A name is continued in the next line, or a mark is written in another way (digraphs): the names that were found are
    /// not all.
    pub unclear: bool,
}

/// Whether a byte can be in a name. Those of other scripts can.
pub fn of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Names in a literal: assembly is written in them.
pub fn names_in(literal: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = literal.split(|byte| !of_name(*byte));
    words.filter(|word| word.first().is_some_and(|first| !first.is_ascii_digit()))
}

/// Splits a text.
pub fn split(text: &[u8]) -> Tokens<'_> {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        directive: 0,
        directives: 0,
        fresh: true,
        glued: false,
        found: Tokens::default(),
    };
    while reader.at < text.len() {
        reader.step();
    }
    reader.found
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
    directive: u32,
    directives: u32,
    /// No token of the line was seen.
    fresh: bool,
    glued: bool,
    found: Tokens<'a>,
}

impl<'a> Reader<'a> {
    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn step(&mut self) {
        let byte = self.byte(0);
        match byte {
            b'\n' => {
                self.line += 1;
                self.at += 1;
                (self.directive, self.fresh, self.glued) = (0, true, false);
            }
            b'\\' if self.splice(self.at).is_some() => self.continue_line(),
            b'/' if self.byte(1) == b'*' => self.block_comment(),
            b'/' if self.byte(1) == b'/' => self.line_comment(),
            byte if byte.is_ascii_whitespace() => {
                self.at += 1;
                self.glued = false;
            }
            b'"' | b'\'' => self.literal(byte),
            b'#' if self.fresh && self.directive == 0 => {
                self.directives += 1;
                self.directive = self.directives;
                self.push(Kind::Mark(b'#'), 1);
            }
            b'#' if self.byte(1) == b'#' => self.push(Kind::Paste, 2),
            b'%' if self.byte(1) == b':' => {
                self.found.unclear = true;
                self.push(Kind::Mark(byte), 1);
            }
            byte if byte.is_ascii_digit() || (byte == b'.' && self.byte(1).is_ascii_digit()) => self.number(),
            byte if of_name(byte) => {
                let rest = &self.text[self.at..];
                let length = rest.iter().position(|byte| !of_name(*byte)).unwrap_or(rest.len());
                self.push(Kind::Name, length);
            }
            byte => self.push(Kind::Mark(byte), 1),
        }
    }

    fn push(&mut self, kind: Kind, length: usize) {
        self.found.all.push(Token {
            kind,
            text: &self.text[self.at..self.at + length],
            line: self.line,
            directive: self.directive,
            glued: self.glued,
        });
        self.at += length;
        (self.fresh, self.glued) = (false, true);
    }

    /// Where the next line begins, if a backslash here continues the line. Compilers allow blanks behind it.
    fn splice(&self, at: usize) -> Option<usize> {
        let rest = self.text.get(at + 1..)?;
        let blanks = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r'))?;
        (rest[blanks] == b'\n').then_some(at + 1 + blanks + 1)
    }

    fn continue_line(&mut self) {
        let Some(next) = self.splice(self.at) else { return };
        let before = self.at.checked_sub(1).map_or(0, |at| self.text[at]);
        let after = self.text.get(next).copied().unwrap_or(0);
        // One token in two lines; a second backslash may continue it further.
        let joins = |byte: u8| of_name(byte) || matches!(byte, b'/' | b'*' | b'#' | b'%' | b'\\');
        self.found.unclear |= self.glued && joins(before) && joins(after);
        self.at = next;
        self.line += 1;
        self.glued = false;
    }

    fn block_comment(&mut self) {
        self.at += 2;
        while self.at < self.text.len() && !(self.byte(0) == b'*' && self.byte(1) == b'/') {
            // A line that ends in `*\` may end the comment in the next one.
            self.found.unclear |= self.byte(0) == b'*'
                && self.byte(1) == b'\\'
                && self
                    .splice(self.at + 1)
                    .is_some_and(|next| self.text.get(next) == Some(&b'/'));
            self.line += u32::from(self.byte(0) == b'\n');
            self.at += 1;
        }
        self.at = (self.at + 2).min(self.text.len());
        self.glued = false;
    }

    fn line_comment(&mut self) {
        while self.at < self.text.len() && self.byte(0) != b'\n' {
            if self.byte(0) == b'\\'
                && let Some(next) = self.splice(self.at)
            {
                self.at = next;
                self.line += 1;
            } else {
                self.at += 1;
            }
        }
        self.glued = false;
    }

    /// One that is not closed ends with its line: an apostrophe in text that is compiled out, for instance.
    fn literal(&mut self, quote: u8) {
        let (start, line) = (self.at, self.line);
        self.at += 1;
        while self.at < self.text.len() {
            match self.byte(0) {
                b'\n' => break,
                b'\\' => match self.splice(self.at) {
                    Some(next) => {
                        self.at = next;
                        self.line += 1;
                    }
                    None if self.byte(1) == b'\n' => self.at += 1,
                    None => self.at = (self.at + 2).min(self.text.len()),
                },
                byte => {
                    self.at += 1;
                    if byte == quote {
                        break;
                    }
                }
            }
        }
        self.found.all.push(Token {
            kind: Kind::Literal,
            text: &self.text[start..self.at],
            line,
            directive: self.directive,
            glued: self.glued,
        });
        (self.fresh, self.glued) = (false, true);
    }

    fn number(&mut self) {
        let rest = &self.text[self.at..];
        let mut length = 1;
        while let Some(&byte) = rest.get(length) {
            let sign = matches!(byte, b'+' | b'-') && matches!(rest[length - 1], b'e' | b'E' | b'p' | b'P');
            if !(of_name(byte) || byte == b'.' || sign) {
                break;
            }
            length += 1;
        }
        self.push(Kind::Number, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let show = |token: &Token<'_>| {
            let text = String::from_utf8_lossy(token.text);
            format!("{}:{}:{text}", token.line, token.directive)
        };
        split(text.as_bytes()).all.iter().map(show).collect()
    }

    #[test]
    fn directives_go_on_behind_a_backslash_and_a_comment() {
        assert_eq!(
            shown("#define A \\\n b /* x\n */ c\nd\n"),
            ["1:1:#", "1:1:define", "1:1:A", "2:1:b", "3:1:c", "4:0:d"]
        );
    }

    #[test]
    fn comments_and_literals_hide_what_is_in_them() {
        assert_eq!(shown("a // b\n\"c /* d\" e"), ["1:0:a", "2:0:\"c /* d\"", "2:0:e"]);
        assert_eq!(shown("don't\nx"), ["1:0:don", "1:0:'t", "2:0:x"]);
        let names: Vec<_> = names_in(b"\"call foo@PLT\\n1: .quad bar\"").collect();
        assert_eq!(names, [&b"call"[..], b"foo", b"PLT", b"n1", b"quad", b"bar"]);
    }

    #[test]
    fn a_name_in_two_lines_is_unclear() {
        assert!(split(b"ab\\\ncd").unclear);
        assert!(!split(b"ab \\\ncd").unclear);
        assert!(split(b"a ??%: b").unclear);
        assert!(!split(b"#define A(x) x##_b \\\n c").unclear);
    }

    #[test]
    fn numbers_are_whole() {
        assert_eq!(shown("0x1fUL+1e+5.x"), ["1:0:0x1fUL", "1:0:+", "1:0:1e+5.x"]);
    }

    #[test]
    fn garbage_does_not_panic() {
        for text in ["\"", "'\\", "/*", "/* *", "//", "\\", "#", "##", "\\\n", "'\\\n", "1e"] {
            split(text.as_bytes());
        }
    }
}
