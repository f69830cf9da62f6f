//! Cuts preprocessed C into tokens (C11, section 6.4), and leaves out what says nothing about who holds which object:
//! qualifiers, attributes, line markers.

/// Words that change neither what a name is nor what is done with it.
const SILENT: [&str; 16] = [
    "const",
    "__const",
    "__const__",
    "volatile",
    "__volatile",
    "__volatile__",
    "restrict",
    "__restrict",
    "__restrict__",
    "inline",
    "__inline",
    "__inline__",
    "_Noreturn",
    "__extension__",
    "__seg_gs",
    "__seg_fs",
];

/// Words that a group in parentheses belongs to, which is left out as well, but for what gives a function another name or
/// has it called.
const WITH_GROUP: [&str; 3] = ["__attribute__", "__attribute", "_Alignas"];

/// Attributes that name a function.
pub const NAMING: [&str; 8] = [
    "alias",
    "__alias__",
    "ifunc",
    "__ifunc__",
    "weakref",
    "__weakref__",
    "cleanup",
    "__cleanup__",
];

/// Marks of more than one character, longest first.
const LONG: [&str; 22] = [
    "...", "<<=", ">>=", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=", "-=", "*=", "/=",
    "%=", "&=", "|=", "^=",
];

/// The tokens of a preprocessed file.
pub fn tokens(text: &str) -> Vec<&str> {
    without_groups(&all(text))
}

/// Whether a token is a name or a keyword.
pub fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == '$')
}

/// The place of the mark that closes the group that is opened at `open`.
pub fn closing(tokens: &[&str], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The place of the mark that opens the innermost group around `at`.
pub fn opening(tokens: &[&str], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (place, token) in tokens.iter().enumerate().take(at).rev() {
        match *token {
            ")" | "]" | "}" => depth += 1,
            "(" | "[" | "{" if depth == 0 => return Some(place),
            "(" | "[" | "{" => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The first of these marks from `from` on that is inside no further group; the end of the group if there is none.
pub fn find(tokens: &[&str], from: usize, marks: &[&str]) -> usize {
    let mut at = from;
    while let Some(token) = tokens.get(at) {
        if marks.contains(token) {
            return at;
        }
        match *token {
            "(" | "[" | "{" => match closing(tokens, at) {
                Some(end) => at = end,
                None => return tokens.len(),
            },
            ")" | "]" | "}" => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

fn all(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    let mut line_starts = true;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\n' => {
                line_starts = true;
                rest = &rest[1..];
                continue;
            }
            _ if first.is_whitespace() => first.len_utf8(),
            '#' if line_starts => rest.find('\n').unwrap_or(rest.len()),
            _ => {
                let length = match first {
                    '"' | '\'' => literal(rest, first),
                    _ => length(rest, first),
                };
                found.push(&rest[..length]);
                length
            }
        };
        line_starts = line_starts && first.is_whitespace();
        rest = &rest[length..];
    }
    found
}

/// Length of a string or character in bytes.
fn literal(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, one) in text.char_indices().skip(1) {
        match one {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if one == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of a word, a number or a mark in bytes.
fn length(text: &str, first: char) -> usize {
    if first.is_ascii_alphanumeric() || first == '_' || first == '$' {
        let ends = |one: char| !(one.is_ascii_alphanumeric() || one == '_' || one == '$');
        return text.find(ends).unwrap_or(text.len());
    }
    let long = LONG.iter().find(|mark| text.starts_with(**mark));
    long.map_or(first.len_utf8(), |mark| mark.len())
}

fn without_groups<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at).copied() {
        at += 1;
        if WITH_GROUP.contains(&token) {
            if tokens.get(at) == Some(&"(") {
                let end = closing(tokens, at).map_or(tokens.len(), |end| end + 1);
                found.extend(functions(&tokens[at..end]));
                at = end;
            }
        } else if !SILENT.contains(&token) {
            found.push(token);
        }
    }
    found
}

/// The functions that attributes name, with the word that says what for.
fn functions<'a>(group: &[&'a str]) -> Vec<&'a str> {
    let Some(word) = group.iter().find(|word| NAMING.contains(word)) else {
        return Vec::new();
    };
    let names = group.iter().map(|token| token.trim_matches('"'));
    std::iter::once(*word)
        .chain(names.filter(|name| is_word(name) && !NAMING.contains(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_tokens() {
        let text =
            "# 1 \"a.c\"\nstatic const char *p = \"a\\\"b;\"; # x\n  # 2 \"b.h\"\nif (a->b >>= 0x1fUL) c('\\'');\n";
        let found = tokens(text);
        let wanted = r#"static char * p = "a\"b;" ; # x if ( a -> b >>= 0x1fUL ) c ( '\'' ) ;"#;
        assert_eq!(found.join(" "), wanted);
    }

    #[test]
    fn attributes_are_left_out_with_what_they_say() {
        let found = tokens("struct __attribute__((aligned(8))) s { int a __attribute__((x)); } __attribute__((y));");
        assert_eq!(found.join(" "), "struct s { int a ; } ;");
        assert_eq!(tokens("int __attribute__((").join(" "), "int");
        let found = tokens("int f(void) __attribute__((alias(\"g\"))); int x __attribute__((__cleanup__(h)));");
        assert_eq!(found.join(" "), "int f ( void ) alias g ; int x __cleanup__ h ;");
    }

    #[test]
    fn groups_are_found_from_both_ends() {
        let found = tokens("f ( a [ 1 ] , { b } ) ;");
        assert_eq!((closing(&found, 1), opening(&found, 8)), (Some(10), Some(7)));
        assert_eq!((find(&found, 2, &[","]), find(&found, 0, &[";"])), (6, 11));
        assert_eq!(find(&found, 7, &[";"]), 10, "the group around it ends");
        assert_eq!(
            closing(&tokens("( a ]"), 0),
            Some(2),
            "what does not fit is no matter of this"
        );
        assert_eq!(closing(&tokens("( a"), 0), None);
    }
}
