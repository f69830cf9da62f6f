//! Cuts a header into pieces: macro definitions, declarations that make no code by themselves, and everything else.
//!
//! Nothing is expanded and no condition is judged: a piece counts whether it is compiled or not, and has the names in the
//! conditions around it among those that it mentions. Where the cut is not sure, the piece is one that makes code.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::declare::{self, Declared};
use super::tokens::{Kind, Token, Tokens, names_in};

/// What a piece does to the file that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `#define` and `#undef`: nothing, unless its name is mentioned.
    Macro,
    /// A declaration: nothing, unless one of its names is mentioned.
    Declaration,
    /// It may make code, read files or change how the rest is read.
    Acts,
}

/// A piece.
#[derive(Debug)]
pub struct Piece<'a> {
    /// What it does.
    pub role: Role,
    /// The names it gives meaning to.
    pub names: Vec<&'a [u8]>,
    /// For a declaration: names in front of its body, which can be macros that make something else of it.
    pub head: Vec<&'a [u8]>,
    /// All names in it and in the conditions around it.
    pub mentions: Vec<&'a [u8]>,
    /// Names in the conditions around it.
    pub under: Vec<&'a [u8]>,
    /// Its tokens.
    pub tokens: Vec<Token<'a>>,
    /// A hash of the conditions around and inside of it.
    pub conditions: u64,
}

/// An open `#if`.
#[derive(Debug, Default)]
struct Condition<'a> {
    names: Vec<&'a [u8]>,
    hash: u64,
    /// Braces and parentheses that were open in front of it.
    depth: (usize, usize),
}

/// Cuts a file.
pub fn cut<'a>(tokens: &Tokens<'a>) -> Vec<Piece<'a>> {
    let mut cutter = Cutter::default();
    let mut rest = tokens.all.as_slice();
    while let Some(first) = rest.first() {
        if first.directive == 0 {
            cutter.code(*first);
            rest = &rest[1..];
        } else {
            let end = rest.iter().position(|token| token.directive != first.directive);
            let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
            cutter.directive(line);
            rest = behind;
        }
    }
    cutter.finish(true);
    if cutter.lost || tokens.unclear {
        cutter.pieces.iter_mut().for_each(|piece| piece.role = Role::Acts);
    }
    cutter.pieces
}

#[derive(Default)]
struct Cutter<'a> {
    pieces: Vec<Piece<'a>>,
    conditions: Vec<Condition<'a>>,
    /// Code of the piece that is not complete.
    open: Vec<Token<'a>>,
    /// Names in conditions inside of it.
    inside: Vec<&'a [u8]>,
    inside_hash: u64,
    /// How many conditions were open when it began.
    began: usize,
    braces: usize,
    parens: usize,
    /// Directives in it leave its parts unclear.
    odd: bool,
    /// A piece ended under another condition than it began, so whatever follows may be its other end.
    torn: Option<usize>,
    /// Braces do not fit: nothing is sure.
    lost: bool,
}

impl<'a> Cutter<'a> {
    fn code(&mut self, token: Token<'a>) {
        if self.open.is_empty() {
            if token.is(b';') {
                return;
            }
            self.began = self.conditions.len();
        }
        self.open.push(token);
        match token.kind {
            Kind::Mark(b'(' | b'[') => self.parens += 1,
            Kind::Mark(b')' | b']') => match self.parens.checked_sub(1) {
                Some(parens) => self.parens = parens,
                None => self.lost = true,
            },
            Kind::Mark(b'{') => self.braces += 1,
            Kind::Mark(b'}') => match self.braces.checked_sub(1) {
                Some(braces) => self.braces = braces,
                None => self.lost = true,
            },
            _ => {}
        }
        if self.braces > 0 || self.parens > 0 {
            return;
        }
        if token.is(b';') || (token.is(b'}') && declare::ends_with_body(&self.open)) {
            self.finish(false);
        }
    }

    fn finish(&mut self, at_end: bool) {
        if self.open.is_empty() {
            return;
        }
        let tokens = std::mem::take(&mut self.open);
        let conditions = self.conditions.len();
        let torn = self.torn.is_some_and(|began| conditions > began);
        if !torn {
            self.torn = (conditions != self.began).then_some(self.began.min(conditions));
        }
        let odd = std::mem::take(&mut self.odd) || torn || conditions != self.began || at_end;
        let declared = if odd {
            Declared::default()
        } else {
            declare::declared(&tokens)
        };
        let mut mentions = mentions(&tokens);
        mentions.append(&mut self.inside);
        let inside = std::mem::take(&mut self.inside_hash);
        self.push(declared, mentions, tokens, inside);
    }

    fn push(&mut self, declared: Declared<'a>, mut mentions: Vec<&'a [u8]>, tokens: Vec<Token<'a>>, inside: u64) {
        let mut under: Vec<&[u8]> = self
            .conditions
            .iter()
            .flat_map(|open| open.names.iter().copied())
            .collect();
        under.sort_unstable();
        under.dedup();
        mentions.extend(&under);
        mentions.sort_unstable();
        mentions.dedup();
        let mut hasher = DefaultHasher::new();
        inside.hash(&mut hasher);
        self.conditions.iter().for_each(|open| open.hash.hash(&mut hasher));
        self.pieces.push(Piece {
            role: declared.role,
            names: declared.names,
            head: declared.head,
            mentions,
            tokens,
            under,
            conditions: hasher.finish(),
        });
    }

    fn directive(&mut self, line: &[Token<'a>]) {
        let word = line.get(1).filter(|word| word.kind == Kind::Name);
        match word.map_or(&b""[..], |word| word.text) {
            b"if" | b"ifdef" | b"ifndef" => {
                self.conditions.push(Condition {
                    depth: (self.braces, self.parens),
                    ..Condition::default()
                });
                self.condition(line);
            }
            b"elif" | b"elifdef" | b"elifndef" | b"else" => {
                self.branch_ends();
                self.condition(line);
            }
            b"endif" => {
                self.branch_ends();
                if self.conditions.pop().is_none() {
                    self.lost = true;
                }
                self.note(line);
            }
            b"define" | b"undef" => {
                let name = line.get(2).filter(|name| name.kind == Kind::Name);
                let role = if name.is_some() { Role::Macro } else { Role::Acts };
                let declared = Declared {
                    role,
                    names: name.map(|name| name.text).into_iter().collect(),
                    head: Vec::new(),
                };
                let body = line.get(3..).unwrap_or_default();
                self.push(declared, mentions(body), line.to_vec(), 0);
            }
            // Nothing but a mark, or an empty directive.
            b"" if line.len() == 1 => {}
            _ => {
                // It stands inside of something, or makes what follows another thing.
                self.odd |= !self.open.is_empty();
                self.push(Declared::default(), mentions(line), line.to_vec(), 0);
            }
        }
    }

    /// The alternatives of an `#if` must each leave as much open as the others.
    fn branch_ends(&mut self) {
        let depth = (self.braces, self.parens);
        match self.conditions.last() {
            Some(open) if open.depth == depth => {}
            _ => self.lost = true,
        }
        // What is open began in an alternative that ends here.
        self.odd |= !self.open.is_empty() && self.conditions.len() <= self.began;
    }

    fn condition(&mut self, line: &[Token<'a>]) {
        let names = mentions(line.get(2..).unwrap_or_default());
        if let Some(open) = self.conditions.last_mut() {
            open.names.extend(&names);
            let mut hasher = DefaultHasher::new();
            open.hash.hash(&mut hasher);
            line.iter().for_each(|token| token.text.hash(&mut hasher));
            open.hash = hasher.finish();
        }
        self.note(line);
    }

    /// A condition inside of a piece belongs to it.
    fn note(&mut self, line: &[Token<'a>]) {
        if self.open.is_empty() {
            return;
        }
        self.inside.extend(mentions(line.get(2..).unwrap_or_default()));
        let mut hasher = DefaultHasher::new();
        (self.inside_hash, self.open.len()).hash(&mut hasher);
        line.iter().for_each(|token| token.text.hash(&mut hasher));
        self.inside_hash = hasher.finish();
    }
}

/// Names in tokens, those in literals included, and numbers that can become part of a name.
pub fn mentions<'a>(tokens: &[Token<'a>]) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    for token in tokens {
        match token.kind {
            Kind::Name => found.push(token.text),
            Kind::Number if !token.text.iter().all(u8::is_ascii_digit) => found.push(token.text),
            Kind::Literal => found.extend(names_in(token.text)),
            _ => {}
        }
    }
    found
}
