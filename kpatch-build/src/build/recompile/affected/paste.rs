//! Which names the preprocessor may put together with `##`.
//!
//! A macro that pastes gives a pattern: what it writes itself is known, what it is given is not. Macros that paste
//! nothing but their arguments are followed to the places that use them, until something is known or nothing is left to
//! follow.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::index::File;
use super::tokens::{Kind, Token};

/// A part of a name: written in a macro, or anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// This text.
    Known(Vec<u8>),
    /// One of these texts: a macro and what it stands for.
    OneOf(Vec<Vec<u8>>),
    /// A number that the preprocessor writes for one of [`NUMBERS`], or that name.
    Number,
    /// An argument.
    Any,
}

/// Parts that are put together.
pub type Pattern = Vec<Part>;

/// A part of what a macro puts together from its arguments alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Operand {
    Known(Vec<u8>),
    OneOf(Vec<Vec<u8>>),
    Parameter(usize),
    Number,
    Any,
}

/// What a macro puts together.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    operands: Vec<Operand>,
    /// Parameters that must be several tokens for it: `a ## x ## b` forms a name with each end of them.
    several: BTreeSet<usize>,
}

/// Macros of one file that put their arguments together, and how.
#[derive(Debug, Default)]
pub struct OwnPasters(BTreeMap<Vec<u8>, BTreeSet<Chain>>);

/// Macros that put their arguments together, how, and the files that define them so: short names such as `x` are another
/// macro in every second file.
#[derive(Debug, Default)]
pub struct Pasters(BTreeMap<Vec<u8>, BTreeMap<Chain, BTreeSet<File>>>);

impl Pasters {
    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.keys().map(Vec::as_slice)
    }

    /// Adds those of a file, and says whether there are new ones.
    pub fn add(&mut self, more: OwnPasters, file: File) -> bool {
        let mut new = false;
        for (name, chains) in more.0 {
            let known = self.0.entry(name).or_default();
            for chain in chains {
                new |= known.entry(chain).or_default().insert(file);
            }
        }
        new
    }
}

/// What a file pastes.
#[derive(Debug, Default)]
pub struct Pastes {
    /// Names it may form, each with the files of which one must be there for that; none if it needs no other file.
    pub patterns: BTreeMap<Pattern, BTreeSet<File>>,
    /// Macros of it that form names of their arguments alone.
    pub pasters: OwnPasters,
}

impl Pastes {
    /// Adds a pattern that one of these files makes.
    pub fn form(&mut self, pattern: Pattern, by: &BTreeSet<File>) {
        let known = self.patterns.entry(pattern);
        let files = known.or_insert_with(|| by.clone());
        if by.is_empty() {
            files.clear();
        } else if !files.is_empty() {
            files.extend(by);
        }
    }

    fn add(&mut self, chain: Chain, of: Option<&[u8]>, by: &BTreeSet<File>) {
        let is_known = chain
            .operands
            .iter()
            .any(|operand| matches!(operand, Operand::Known(_) | Operand::OneOf(_)));
        let is_given = chain
            .operands
            .iter()
            .any(|operand| matches!(operand, Operand::Parameter(_)));
        match of {
            Some(name) if (is_given && !is_known) || !chain.several.is_empty() => {
                self.pasters.0.entry(name.to_vec()).or_default().insert(chain);
            }
            _ => {
                let part = |operand| match operand {
                    Operand::Known(text) => Part::Known(text),
                    Operand::OneOf(texts) => Part::OneOf(texts),
                    Operand::Number => Part::Number,
                    Operand::Parameter(_) | Operand::Any => Part::Any,
                };
                self.form(chain.operands.into_iter().map(part).collect(), by);
            }
        }
    }
}

/// Macros that are replaced wherever they are named, without parentheses behind them, each with the texts that it may be
/// in the end, its own name among them; with none if it may be anything.
pub type Macros = HashMap<Vec<u8>, Vec<Vec<u8>>>;

/// These macros of a file, each with the name that it stands for if that is all.
pub fn plain_macros<'a>(tokens: &[Token<'a>]) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
    let plain = lines(tokens).filter_map(Definition::of).filter(Definition::is_plain);
    let value = |definition: Definition<'_, 'a>| match definition.body {
        [one] if one.kind == Kind::Name => (definition.name, Some(one.text)),
        _ => (definition.name, None),
    };
    plain.map(value).collect()
}

/// The macros of all files together. One that stands for another macro may be anything.
pub fn together<'a>(plain: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Macros {
    let mut values: BTreeMap<&[u8], BTreeSet<Option<&[u8]>>> = BTreeMap::new();
    for (name, value) in plain {
        values.entry(name).or_default().insert(value);
    }
    let texts = |name: &[u8], of: &BTreeSet<Option<&[u8]>>| -> Vec<Vec<u8>> {
        let known: Option<BTreeSet<&[u8]>> = of.iter().copied().collect();
        let is_last = |value: &&[u8]| !values.contains_key(*value) && !BUILT_IN.contains(value);
        match known.filter(|known| known.iter().all(is_last)) {
            Some(known) => std::iter::once(name).chain(known).map(<[u8]>::to_vec).collect(),
            None => Vec::new(),
        }
    };
    values
        .iter()
        .map(|(name, of)| (name.to_vec(), texts(name, of)))
        .collect()
}

/// A `#define` of a macro.
struct Definition<'t, 'a> {
    name: &'a [u8],
    parameters: Vec<&'a [u8]>,
    body: &'t [Token<'a>],
}

impl<'t, 'a> Definition<'t, 'a> {
    /// Reads a directive.
    fn of(line: &'t [Token<'a>]) -> Option<Self> {
        let name = line.get(2).filter(|_| line[1].is_name(b"define"))?;
        let takes = line.get(3).is_some_and(|open| open.is(b'(') && open.glued);
        if !takes {
            return Some(Definition {
                name: name.text,
                parameters: Vec::new(),
                body: line.get(3..).unwrap_or_default(),
            });
        }
        let close = line.iter().position(|token| token.is(b')'))?;
        let mut parameters: Vec<&[u8]> = Vec::new();
        for parameter in line[4..close].split(|token| token.is(b',')) {
            let named = parameter.iter().find(|token| token.kind == Kind::Name);
            parameters.push(named.map_or(b"__VA_ARGS__", |token| token.text));
        }
        Some(Definition {
            name: name.text,
            parameters,
            body: &line[close + 1..],
        })
    }

    /// Whether it is replaced wherever it is named.
    fn is_plain(&self) -> bool {
        self.parameters.is_empty()
    }

    fn operand(&self, token: &Token<'_>) -> Option<Operand> {
        let parameter = self.parameters.iter().position(|name| *name == token.text);
        match token.kind {
            Kind::Name => Some(parameter.map_or_else(|| Operand::Known(token.text.to_vec()), Operand::Parameter)),
            Kind::Number => Some(Operand::Known(token.text.to_vec())),
            _ => None,
        }
    }
}

/// What the macros of a file paste by themselves.
pub fn written(tokens: &[Token<'_>]) -> Pastes {
    let mut found = Pastes::default();
    for line in lines(tokens) {
        let Some(definition) = Definition::of(line) else {
            continue;
        };
        let body = definition.body;
        let mut at = 0;
        while at + 1 < body.len() {
            if body[at + 1].kind != Kind::Paste {
                at += 1;
                continue;
            }
            let mut chain = vec![definition.operand(&body[at])];
            while body.get(at + 1).is_some_and(|token| token.kind == Kind::Paste) {
                chain.push(body.get(at + 2).and_then(|token| definition.operand(token)));
                at += 2;
            }
            // Something else, such as a comma before arguments, ends a name.
            for chain in chain.split(Option::is_none) {
                let chain: Vec<Operand> = chain.iter().flatten().cloned().collect();
                parts_of(&chain)
                    .into_iter()
                    .for_each(|part| found.add(part, Some(definition.name), &BTreeSet::new()));
            }
            at += 1;
        }
    }
    found
}

/// A chain, and its parts in front of, between and behind parameters, if these are several tokens.
fn parts_of(chain: &[Operand]) -> Vec<Chain> {
    let parameter = |at: usize| match chain.get(at) {
        Some(Operand::Parameter(number)) => Some(*number),
        _ => None,
    };
    let mut parts = Vec::new();
    for from in 0..chain.len() {
        for to in from + 2..=chain.len() {
            let first = if from == 0 {
                Some(None)
            } else {
                parameter(from).map(Some)
            };
            let last = if to == chain.len() {
                Some(None)
            } else {
                parameter(to - 1).map(Some)
            };
            if let (Some(first), Some(last)) = (first, last) {
                parts.push(Chain {
                    operands: chain[from..to].to_vec(),
                    several: first.into_iter().chain(last).collect(),
                });
            }
        }
    }
    parts
}

/// Names that the preprocessor replaces by itself.
const BUILT_IN: [&[u8]; 4] = [b"__LINE__", b"__COUNTER__", b"__INCLUDE_LEVEL__", b"__FILE__"];
/// Those of them that stand for a number.
const NUMBERS: [&[u8]; 3] = [b"__LINE__", b"__COUNTER__", b"__INCLUDE_LEVEL__"];

/// What a file forms with macros that put their arguments together. `macros` are the names of macros without parameters:
/// such an argument may become anything.
pub fn used(tokens: &[Token<'_>], pasters: &Pasters, macros: &Macros) -> Pastes {
    let mut found = Pastes::default();
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        let end = rest.iter().position(|token| token.directive != first.directive);
        let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind;
        let definition = if first.directive == 0 {
            None
        } else {
            Definition::of(line)
        };
        let text = match &definition {
            Some(definition) => definition.body,
            // Arguments of a macro may have directives between them.
            None if first.directive == 0 => line,
            None => continue,
        };
        let site = Site {
            definition: definition.as_ref(),
            pasters,
            macros,
        };
        for (at, token) in text.iter().enumerate() {
            if token.kind != Kind::Name {
                continue;
            }
            let Some(chains) = pasters.0.get(token.text) else {
                continue;
            };
            let of = definition.as_ref().map(|definition| definition.name);
            if of == Some(token.text) && chains.is_empty() {
                continue;
            }
            match arguments(&text[at + 1..]) {
                Some((arguments, _)) => {
                    for (chain, by) in chains {
                        if let Some(chain) = site.filled(chain, &arguments) {
                            found.add(chain, of, by);
                        }
                    }
                }
                // Its name alone is given to somebody who calls it.
                None => {
                    for (chain, by) in chains {
                        found.add(Site::unknown(chain), None, by);
                    }
                }
            }
        }
    }
    found
}

/// A place that uses macros.
struct Site<'s, 't, 'a> {
    definition: Option<&'s Definition<'t, 'a>>,
    pasters: &'s Pasters,
    macros: &'s Macros,
}

impl Site<'_, '_, '_> {
    /// The chain of a macro with these arguments; nothing if it needs an argument of several tokens that is one.
    fn filled(&self, chain: &Chain, arguments: &[&[Token<'_>]]) -> Option<Chain> {
        let mut several = BTreeSet::new();
        for number in &chain.several {
            match arguments.get(*number).copied() {
                Some([]) => return None,
                Some([token]) if self.is_itself(token) => match self.parameter(token) {
                    Some(number) => drop(several.insert(number)),
                    None => return None,
                },
                _ => {}
            }
        }
        let fill = |operand: &Operand| match operand {
            Operand::Parameter(number) => arguments
                .get(*number)
                .map_or_else(|| vec![Operand::Any], |one| self.given(one)),
            other => vec![other.clone()],
        };
        Some(Chain {
            operands: chain.operands.iter().flat_map(fill).collect(),
            several,
        })
    }

    /// The chain of a macro with arguments that are not known.
    fn unknown(chain: &Chain) -> Chain {
        let any = |operand: &Operand| match operand {
            Operand::Parameter(_) => Operand::Any,
            other => other.clone(),
        };
        Chain {
            operands: chain.operands.iter().map(any).collect(),
            several: BTreeSet::new(),
        }
    }

    fn parameter(&self, token: &Token<'_>) -> Option<usize> {
        self.definition?.parameters.iter().position(|name| *name == token.text)
    }

    /// Whether a token alone becomes nothing else.
    fn is_itself(&self, token: &Token<'_>) -> bool {
        token.kind == Kind::Number
            || (token.kind == Kind::Name && !self.macros.contains_key(token.text) && !BUILT_IN.contains(&token.text))
    }

    /// What an argument becomes.
    fn given(&self, argument: &[Token<'_>]) -> Vec<Operand> {
        let any = || vec![Operand::Any];
        match argument {
            [token] if token.kind == Kind::Number => vec![Operand::Known(token.text.to_vec())],
            [token] if token.kind == Kind::Name => match self.parameter(token) {
                Some(number) => vec![Operand::Parameter(number)],
                None if NUMBERS.contains(&token.text) && !self.macros.contains_key(token.text) => vec![Operand::Number],
                None if self.is_itself(token) => vec![Operand::Known(token.text.to_vec())],
                None => match self.macros.get(token.text) {
                    Some(values) if !values.is_empty() => vec![Operand::OneOf(values.clone())],
                    _ => any(),
                },
            },
            [name, rest @ ..] if name.kind == Kind::Name => {
                let chains = self.pasters.0.get(name.text);
                match (
                    chains.map(|chains| chains.keys().collect::<Vec<_>>()).as_deref(),
                    arguments(rest),
                ) {
                    (Some([chain]), Some((arguments, []))) if chain.several.is_empty() => {
                        self.filled(chain, &arguments).map_or_else(any, |chain| chain.operands)
                    }
                    _ => any(),
                }
            }
            _ => any(),
        }
    }
}

type Arguments<'t, 'a> = Vec<&'t [Token<'a>]>;

/// The arguments of a macro whose name stands before these tokens, and what follows.
fn arguments<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(Arguments<'t, 'a>, &'t [Token<'a>])> {
    if !tokens.first()?.is(b'(') {
        return None;
    }
    let mut depth = 0_usize;
    let mut start = 1;
    let mut arguments = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') if depth == 1 => {
                arguments.push(&tokens[start..at]);
                return Some((arguments, &tokens[at + 1..]));
            }
            Kind::Mark(b')') => depth -= 1,
            Kind::Mark(b',') if depth == 1 => {
                arguments.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

fn lines<'t, 'a>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t [Token<'a>]> {
    let all = tokens.chunk_by(|a, b| a.directive == b.directive);
    all.filter(|line| line[0].directive != 0 && line.len() > 2)
}

/// Whether a name can be put together by these patterns of tokens that there are.
pub fn forms(name: &[u8], patterns: &[&Pattern], is_there: &dyn Fn(&[u8]) -> bool) -> bool {
    let mut known = HashMap::new();
    formed(name, patterns, is_there, &mut known)
}

fn formed(
    name: &[u8],
    patterns: &[&Pattern],
    is_there: &dyn Fn(&[u8]) -> bool,
    known: &mut HashMap<Vec<u8>, bool>,
) -> bool {
    if let Some(answer) = known.get(name) {
        return *answer;
    }
    // A name that is put together of itself and nothing needs another way.
    known.insert(name.to_vec(), false);
    let answer = patterns.iter().any(|pattern| {
        let mut part = |text: &[u8]| {
            text.is_empty()
                || text.iter().all(u8::is_ascii_digit)
                || (text.len() < name.len() && (is_there(text) || formed(text, patterns, is_there, known)))
        };
        fits(name, pattern, &mut part)
    });
    known.insert(name.to_vec(), answer);
    answer
}

fn fits(text: &[u8], pattern: &[Part], part: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((Part::Known(known), rest)) => text
            .strip_prefix(known.as_slice())
            .is_some_and(|text| fits(text, rest, part)),
        Some((Part::OneOf(texts), rest)) => {
            let mut behind = texts.iter().filter_map(|one| text.strip_prefix(one.as_slice()));
            behind.any(|text| fits(text, rest, part))
        }
        Some((Part::Number, rest)) => {
            let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let mut ends = (1..=digits).chain(
                NUMBERS
                    .iter()
                    .filter(|name| text.starts_with(name))
                    .map(|name| name.len()),
            );
            ends.any(|at| fits(&text[at..], rest, part))
        }
        Some((Part::Any, [])) => part(text),
        Some((Part::Any, rest)) => (0..=text.len()).any(|at| fits(&text[at..], rest, part) && part(&text[..at])),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::split;
    use super::*;

    fn patterns(text: &str) -> BTreeSet<String> {
        let tokens = split(text.as_bytes()).all;
        let macros = together(plain_macros(&tokens).into_iter());
        let mut found = written(&tokens);
        let mut pasters = Pasters::default();
        let mut patterns = std::mem::take(&mut found.patterns);
        let mut more = found.pasters;
        while pasters.add(more, 0) {
            let found = used(&tokens, &pasters, &macros);
            patterns.extend(found.patterns);
            more = found.pasters;
        }
        let part = |part: &Part| match part {
            Part::Known(text) => String::from_utf8_lossy(text).into_owned(),
            Part::OneOf(texts) => String::from_utf8_lossy(&texts.join(&b'|')).into_owned(),
            Part::Number => "0".to_owned(),
            Part::Any => "*".to_owned(),
        };
        patterns
            .keys()
            .map(|pattern| pattern.iter().map(part).collect())
            .collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_a_macro_writes_is_known() {
        assert_eq!(patterns("#define F(n) Set##n##Flag(x)\n"), set(&["Set*Flag"]));
        let split = "#define F(n) Set##n##Flag(x)\nF(a)\nF(a b)\n";
        assert_eq!(
            patterns(split),
            set(&["Set*Flag", "Set*", "*Flag"]),
            "`Seta` and `bFlag`"
        );
        assert_eq!(patterns("#define P(f, ...) printk(f, ## __VA_ARGS__)\n"), set(&[]));
        assert_eq!(patterns("#define L(x, ...) x##_t\n"), set(&["*_t"]));
    }

    #[test]
    fn arguments_are_followed_to_those_who_give_them() {
        let cat = "#define ___P(a, b) a##b\n#define __P(a, b) ___P(a, b)\n";
        assert_eq!(patterns(cat), set(&[]));
        assert_eq!(
            patterns(&format!("{cat}#define ID(x) __P(__P(id_, x), __COUNTER__)\n")),
            set(&["id_*", "id_*0"])
        );
        assert_eq!(patterns(&format!("{cat}int __P(foo, _bar);\n")), set(&["foo_bar"]));
        assert_eq!(
            patterns(&format!("{cat}#define foo x\nint __P(foo, _bar);\n")),
            set(&["foo|x_bar"])
        );
        assert_eq!(
            patterns(&format!("{cat}#define foo x\nint __P(foo, foo);\n")),
            set(&["foo|xfoo|x"])
        );
        let more = "#define foo 1 + 2\nint __P(foo, _bar);\n";
        assert_eq!(patterns(&format!("{cat}{more}")), set(&["*_bar"]));
        assert_eq!(patterns(&format!("{cat}LIST(__P)\n")), set(&["**"]));
    }

    #[test]
    fn names_are_formed_of_what_there_is() {
        let of = |parts: &[&str]| -> Pattern {
            let part = |text: &&str| match *text {
                "*" => Part::Any,
                text => Part::Known(text.as_bytes().to_vec()),
            };
            parts.iter().map(part).collect()
        };
        let (flag, both, page) = (of(&["Set", "*"]), of(&["*", "*"]), of(&["*", "Page"]));
        let there = |text: &[u8]| [&b"Page"[..], b"Dirty"].contains(&text);
        assert!(forms(b"SetDirty", &[&flag], &there));
        assert!(!forms(b"SetClean", &[&flag], &there));
        assert!(forms(b"Set12", &[&flag], &there));
        assert!(forms(b"SetDirtyPage", &[&flag, &page], &there), "twice");
        assert!(forms(b"DirtyPage", &[&both], &there));
        assert!(!forms(b"DirtyX", &[&both], &there));
        assert!(!forms(b"Dirty", &[&both], &|_| false));
    }
}
