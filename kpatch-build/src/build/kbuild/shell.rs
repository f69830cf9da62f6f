//! Takes recorded command lines apart the way make and the shell would, and refuses whatever would need a real shell.
//!
//! A command in a `.cmd` file went through make's quoting on its way in. Running it again piece by piece (another output
//! path, no tail) is only sound if every word is understood, so there is no fallback to `sh -c`.

/// Why a command line was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// A make variable that is not one of the two escapes.
    #[error("make expression at `{0}`")]
    Make(String),
    /// Something only a shell can expand.
    #[error("the shell would expand `{0}`")]
    Expansion(char),
    /// An operator that does not merely put one command after another.
    #[error("shell operator `{0}`")]
    Operator(char),
    /// A quotation mark without its partner.
    #[error("a quotation mark is not closed")]
    Unclosed,
}

/// Undoes the quoting kbuild applies when it saves a command: `$$` is a dollar sign, `$(pound)` a number sign.
pub fn unescape_make(text: &str) -> Result<String, NotUnderstood> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("$(pound)") {
            out.push('#');
            rest = after;
        } else {
            return Err(NotUnderstood::Make(rest.chars().take(24).collect()));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Splits a command line into its simple commands: those between `;` and `&&`, each a list of words.
///
/// Both separators are treated alike because every caller stops at the first failing command.
pub fn split(line: &str) -> Result<Vec<Vec<String>>, NotUnderstood> {
    let mut splitter = Splitter::default();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => splitter.end_word(),
            '\'' => splitter.single_quoted(&mut chars)?,
            '"' => splitter.double_quoted(&mut chars)?,
            '\\' => splitter.push(chars.next().ok_or(NotUnderstood::Unclosed)?),
            ';' => splitter.end_command(),
            '&' if chars.next_if_eq(&'&').is_some() => splitter.end_command(),
            '|' | '&' | '<' | '>' | '(' | ')' => return Err(NotUnderstood::Operator(c)),
            '$' | '`' | '*' | '?' => return Err(NotUnderstood::Expansion(c)),
            '~' | '#' if splitter.word.is_none() => return Err(NotUnderstood::Expansion(c)),
            other => splitter.push(other),
        }
    }
    splitter.end_command();
    Ok(splitter.commands)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

#[derive(Default)]
struct Splitter {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: Option<String>,
}

impl Splitter {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }

    fn single_quoted(&mut self, chars: &mut Chars) -> Result<(), NotUnderstood> {
        let word = self.word.get_or_insert_default();
        loop {
            match chars.next() {
                None => return Err(NotUnderstood::Unclosed),
                Some('\'') => return Ok(()),
                Some(c) => word.push(c),
            }
        }
    }

    fn double_quoted(&mut self, chars: &mut Chars) -> Result<(), NotUnderstood> {
        let word = self.word.get_or_insert_default();
        loop {
            match chars.next() {
                None => return Err(NotUnderstood::Unclosed),
                Some('"') => return Ok(()),
                Some(c @ ('$' | '`')) => return Err(NotUnderstood::Expansion(c)),
                Some('\\') => match chars.next().ok_or(NotUnderstood::Unclosed)? {
                    c @ ('"' | '\\' | '$' | '`') => word.push(c),
                    c => word.extend(['\\', c]),
                },
                Some(c) => word.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Vec<String> {
        let mut commands = split(line).unwrap();
        assert_eq!(commands.len(), 1);
        commands.remove(0)
    }

    #[test]
    fn quotes_group_and_vanish() {
        assert_eq!(
            one(r#"cc -DN='"proc"' -D'A B'=1 "x\"y" a\ b"#),
            ["cc", "-DN=\"proc\"", "-DA B=1", "x\"y", "a b"]
        );
        assert_eq!(one("a ''"), ["a", ""]);
    }

    #[test]
    fn tails_become_commands_of_their_own() {
        let commands = split("cc -c a.c  ; ./tools/objtool/objtool a.o && mv a b;").unwrap();
        assert_eq!(
            commands,
            [
                vec!["cc", "-c", "a.c"],
                vec!["./tools/objtool/objtool", "a.o"],
                vec!["mv", "a", "b"]
            ]
        );
    }

    #[test]
    fn make_escapes_are_undone_and_others_refused() {
        assert_eq!(unescape_make("a$$b $(pound)x").unwrap(), "a$b #x");
        assert!(matches!(unescape_make("$(CC) x"), Err(NotUnderstood::Make(_))));
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        for line in [
            "cc `x`",
            "cc $x",
            "cc \"$x\"",
            "cc *.c",
            "cc a > b",
            "cc a | b",
            "(cc)",
            "cc & b",
            "~/cc",
        ] {
            assert!(split(line).is_err(), "{line}");
        }
        assert_eq!(split("cc 'a"), Err(NotUnderstood::Unclosed));
    }
}
