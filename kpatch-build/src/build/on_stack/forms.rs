//! The forms in which functions get a structure and hand it on.

use std::collections::BTreeMap;

use super::items::{Tag, arguments};
use super::tokens::is_word;

/// How a parameter is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// Its address.
    Pointer,
    /// A copy.
    Value,
}

/// The parameters of a function that are the structure, by their position.
pub type Takes = BTreeMap<usize, Passed>;

/// A structure in a file.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// Its name.
    pub tag: Tag<'a>,
    /// The functions that take it.
    pub takers: &'a BTreeMap<&'a str, Takes>,
    /// Its own members that are structures: type and name.
    pub members: &'a [(&'a str, &'a str)],
}

/// How a parameter has the structure, and its name, if it has one.
pub fn passed<'t>(parameter: &'t [&'t str], tag: &Tag<'_>) -> Option<(Passed, Option<&'t str>)> {
    let rest = match parameter {
        [word, name, rest @ ..] if (*word, *name) == (tag.word, tag.tag) => rest,
        _ => return None,
    };
    match rest {
        ["*"] => Some((Passed::Pointer, None)),
        ["*", name] if is_word(name) => Some((Passed::Pointer, Some(name))),
        [] => Some((Passed::Value, None)),
        [name] if is_word(name) => Some((Passed::Value, Some(name))),
        _ => None,
    }
}

/// The parameter that points to another structure: its tag and its name.
pub fn pointer<'t>(parameter: &'t [&'t str]) -> Option<(&'t str, &'t str)> {
    match parameter {
        ["struct", kind, "*", name] => Some((kind, name)),
        _ => None,
    }
}

/// The arguments of a call, by the place of its opening mark and of the closing one.
pub fn called<'t>(tokens: &'t [&'t str], open: usize, close: usize) -> Vec<&'t [&'t str]> {
    arguments(&tokens[open + 1..close])
}

/// The start of a piece of source, for a message.
pub fn shortened(tokens: &[&str]) -> String {
    const WORDS: usize = 12;
    let more = if tokens.len() > WORDS { " …" } else { "" };
    let start: Vec<&str> = tokens.iter().take(WORDS).copied().collect();
    format!("{}{more}", start.join(" "))
}
