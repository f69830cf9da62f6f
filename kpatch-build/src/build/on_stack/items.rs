//! The definitions and declarations of a preprocessed file, and those of one structure.

use super::tokens::{closing, is_word};

/// One piece of a file at its outermost level.
#[derive(Debug)]
pub struct Item<'t> {
    /// Everything before the body of a function; for anything else everything.
    pub head: &'t [&'t str],
    /// Between the braces of a function.
    pub body: Option<&'t [&'t str]>,
}

/// Cuts a file into its pieces; nothing if it does not end where it should.
pub fn items<'t>(tokens: &'t [&'t str]) -> Option<Vec<Item<'t>>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => {
                let end = closing(tokens, at)?;
                let head = &tokens[start..at];
                if is_function(head) {
                    found.push(Item {
                        head,
                        body: Some(&tokens[at + 1..end]),
                    });
                    start = end + 1;
                }
                at = end;
            }
            "(" | "[" => at = closing(tokens, at)?,
            ")" | "]" | "}" => return None,
            ";" => {
                found.push(Item {
                    head: &tokens[start..at],
                    body: None,
                });
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    (start == tokens.len()).then_some(found)
}

/// Whether braces after this are the body of a function: not an initial value, and not what a type consists of.
fn is_function(head: &[&str]) -> bool {
    head.last() == Some(&")") && !head.contains(&"=")
}

/// Name and parameters of a function, from what is before its body.
pub fn named<'t>(head: &'t [&'t str]) -> Option<(&'t str, Vec<&'t [&'t str]>)> {
    let open = head.iter().position(|token| *token == "(")?;
    // A second group would be that of a function that returns a pointer to one.
    if closing(head, open)? + 1 != head.len() {
        return None;
    }
    let name = *head.get(open.checked_sub(1)?)?;
    is_word(name).then(|| (name, arguments(&head[open + 1..head.len() - 1])))
}

/// The parts between commas.
pub fn arguments<'t>(tokens: &'t [&'t str]) -> Vec<&'t [&'t str]> {
    let mut found = Vec::new();
    let (mut start, mut depth) = (0, 0usize);
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                found.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !tokens.is_empty() {
        found.push(&tokens[start..]);
    }
    found
}

/// Places at which a structure is named: `struct` and the tag after it.
pub fn mentions<'s>(tokens: &'s [&str], structure: &'s Tag<'_>) -> impl Iterator<Item = usize> + 's {
    let pairs = tokens.windows(2).enumerate();
    pairs.filter_map(|(at, pair)| (pair == [structure.word, structure.tag]).then_some(at))
}

/// The name of a structure or union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag<'a> {
    /// `struct` or `union`
    pub word: &'a str,
    /// What follows it.
    pub tag: &'a str,
}

impl<'a> Tag<'a> {
    /// From `struct sock`; nothing for one that has only the name of a typedef.
    pub fn of(name: &'a str) -> Option<Tag<'a>> {
        let (word, tag) = name.split_once(' ')?;
        ["struct", "union"].contains(&word).then_some(Tag { word, tag })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    #[test]
    fn functions_types_and_values_are_told_apart() {
        let text = "struct a { int b ; } ; int c [ ] = { 1 } ; static int f ( struct a * p , int ( * g ) ( int , int ) ) \
                    { return { ; } ; } union u { int i ; } v ; int g ( void ) ;";
        let tokens = tokens(text);
        let items = items(&tokens).unwrap();
        let bodies: Vec<bool> = items.iter().map(|item| item.body.is_some()).collect();
        assert_eq!(bodies, [false, false, true, false, false]);
        let (name, parameters) = named(items[2].head).unwrap();
        assert_eq!((name, parameters.len()), ("f", 2));
        assert_eq!(parameters[0], ["struct", "a", "*", "p"]);
        let tag = Tag::of("struct a").unwrap();
        assert_eq!(mentions(&tokens, &tag).count(), 2);
    }

    #[test]
    fn what_does_not_end_is_not_understood() {
        for text in ["int f ( void ) {", "int a", "} ;", "int f ( ;"] {
            assert!(items(&tokens(text)).is_none(), "{text}");
        }
        assert_eq!(named(&tokens("int ( * f ( int a ) ) ( int )")), None);
        assert_eq!(Tag::of("size_t"), None);
    }
}
