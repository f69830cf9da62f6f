//! What the change of a header gives another meaning.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::index::{self, Index, Name};
use super::pieces::{Piece, Role, cut};
use super::tokens::{self, Kind};
use crate::build::patchset::line::Line;
use crate::build::patchset::lines::numbers;

/// What changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Names that mean something else, and whether they are macros.
    pub names: BTreeMap<Vec<u8>, bool>,
    /// A macro that changed counts or pastes: declarations that use it move the counter, even if nobody uses them.
    pub counts: bool,
    /// Why any file that reads the header may change, whatever it mentions.
    pub all: Option<&'static str>,
}

impl Change {
    /// A change that any reader may see.
    pub fn of_all(why: &'static str) -> Change {
        Change {
            all: Some(why),
            ..Change::default()
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Change) {
        for (name, is_macro) in &other.names {
            *self.names.entry(name.clone()).or_default() |= is_macro;
        }
        self.counts |= other.counts;
        self.all = self.all.or(other.all);
    }
}

/// Names that compilers use by themselves (GCC: Standards, "the implementation must provide"; LLVM: RuntimeLibcalls).
const OF_COMPILERS: [&[u8]; 5] = [b"memcpy", b"memmove", b"memset", b"memcmp", b"bcmp"];

/// Compares two versions of a header.
pub fn change(index: &Index, orig: &[u8], patched: &[Line]) -> Change {
    let numbers = numbers(patched);
    let text: Vec<u8> = patched.iter().flat_map(|line| line.text.iter().copied()).collect();
    let (before, after) = (tokens::split(orig), tokens::split(&text));
    if before.unclear || after.unclear {
        return Change::of_all("its tokens are not clear");
    }
    let (before, after) = (cut(&before), cut(&after));
    let same_line = |line: u32| Some(line);
    let new_line = |line: u32| numbers.get((line as usize).checked_sub(1)?).copied().flatten();
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    for (at, piece) in before.iter().enumerate() {
        known
            .entry(hash(piece, &same_line).unwrap_or_default())
            .or_default()
            .push(at);
    }
    // What is there on both sides, in the same order, with the same numbers of lines.
    let mut kept: BTreeSet<usize> = BTreeSet::new();
    let mut next = 0;
    let mut changed: Vec<&Piece<'_>> = Vec::new();
    for piece in &after {
        let places = hash(piece, &new_line).and_then(|hash| known.get(&hash));
        let place = places.and_then(|places| {
            let fits = |at: &&usize| **at >= next && same(&before[**at], piece);
            places.iter().find(fits)
        });
        match place {
            Some(&at) => {
                kept.insert(at);
                next = at + 1;
            }
            None => changed.push(piece),
        }
    }
    let gone = before.iter().enumerate().filter(|(at, _)| !kept.contains(at));
    changed.extend(gone.map(|(_, piece)| piece));
    meaning(index, &changed)
}

fn hash(piece: &Piece<'_>, number: &dyn Fn(u32) -> Option<u32>) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    piece.conditions.hash(&mut hasher);
    for token in &piece.tokens {
        (token.kind, token.text, number(token.line)?, token.glued).hash(&mut hasher);
    }
    Some(hasher.finish())
}

fn same(a: &Piece<'_>, b: &Piece<'_>) -> bool {
    let texts = |piece: &Piece<'_>| {
        piece
            .tokens
            .iter()
            .map(|token| (token.kind, token.text.to_vec()))
            .collect::<Vec<_>>()
    };
    a.role == b.role && texts(a) == texts(b) && a.under == b.under
}

fn meaning(index: &Index, changed: &[&Piece<'_>]) -> Change {
    let numbered = |names: &[&[u8]]| -> Vec<Name> { names.iter().filter_map(|name| index.name(name)).collect() };
    let mut change = Change::default();
    let mut macros: BTreeSet<&[u8]> = BTreeSet::new();
    // Changed macros that are more than a value.
    let mut heavy: BTreeSet<&[u8]> = BTreeSet::new();
    let is_macro = |piece: &&&Piece<'_>| piece.role == Role::Macro;
    for piece in changed.iter().filter(is_macro) {
        macros.extend(&piece.names);
        let body = piece.tokens.get(3..).unwrap_or_default();
        let counts = body
            .iter()
            .any(|token| token.kind == Kind::Paste || token.is_name(b"__COUNTER__"))
            || index.counts(&numbered(&piece.mentions));
        change.counts |= counts;
        if counts || index::is_beyond(body) || index.is_beyond(&numbered(&piece.mentions)) {
            heavy.extend(&piece.names);
        }
    }
    let leads_on = |piece: &Piece<'_>| piece.mentions.iter().any(|name| macros.contains(name));
    let on: Vec<&[u8]> = changed
        .iter()
        .filter(is_macro)
        .filter(|piece| leads_on(piece))
        .flat_map(|piece| piece.names.iter().copied())
        .collect();
    heavy.extend(on);
    for piece in changed {
        change.names.extend(
            piece
                .names
                .iter()
                .map(|name| (name.to_vec(), piece.role == Role::Macro)),
        );
        let why = match piece.role {
            Role::Macro => continue,
            Role::Acts => "it changes more than macros and declarations",
            Role::Declaration if piece.head.iter().any(|name| macros.contains(name)) => {
                "macros of a changed declaration change, too"
            }
            Role::Declaration if index.is_beyond(&numbered(&piece.head)) || index.renames(&numbered(&piece.names)) => {
                "a changed declaration has macros that may make code"
            }
            Role::Declaration
                if index.counts(&numbered(&piece.mentions))
                    || piece
                        .mentions
                        .iter()
                        .any(|name| heavy.contains(name) || *name == b"__COUNTER__") =>
            {
                "a changed declaration may count (__COUNTER__), or put names together"
            }
            Role::Declaration if piece.names.iter().any(|name| OF_COMPILERS.contains(name)) => {
                "compilers use a changed function by themselves"
            }
            Role::Declaration => continue,
        };
        change.all = change.all.or(Some(why));
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::patchset::apply::lines_of;

    const HEADER: &str = "#ifndef A_H\n#define A_H\n#define X 1\nstruct s {\n\tint a;\n};\nint f(struct s *s);\n\
        static inline int g(struct s *s)\n{\n\treturn s->a;\n}\n#ifdef Q\n#define Y 2\n#endif\n#endif\n";

    /// The change of a header whose line behind `at` lines is exchanged, or followed, by this text.
    fn changed(at: usize, gone: usize, text: &str) -> Change {
        let orig = lines_of(HEADER.as_bytes());
        let added = lines_of(text.as_bytes())
            .into_iter()
            .map(|line| Line { origin: None, ..line });
        let mut lines: Vec<Line> = orig[..at].to_vec();
        lines.extend(added);
        lines.extend_from_slice(&orig[at + gone..]);
        let texts = [(
            "m.h".to_owned(),
            b"#define once(x) __COUNTER__\n#define __emit __attribute__((used))\n#define h() other()\n".to_vec(),
        )];
        change(&Index::scan(&texts, &|| ()), HEADER.as_bytes(), &lines)
    }

    fn names(at: usize, gone: usize, text: &str) -> String {
        let change = changed(at, gone, text);
        if change.all.is_some() {
            return "all".to_owned();
        }
        let names: Vec<_> = change.names.keys().map(|name| String::from_utf8_lossy(name)).collect();
        names.join(" ")
    }

    #[test]
    fn macros_and_declarations_change_their_names() {
        assert_eq!(names(3, 0, "#define Z 3\n"), "Z");
        assert_eq!(names(2, 1, "#define X 2\n"), "X");
        assert_eq!(names(2, 1, ""), "X");
        assert_eq!(names(5, 0, "\tint b;\n"), "s");
        assert_eq!(names(9, 1, "\treturn 2;\n"), "g");
        assert_eq!(names(11, 0, "static inline int k(void)\n{\n\treturn 1;\n}\n"), "k");
        assert_eq!(names(6, 1, "long f(struct s *s);\n"), "f");
        assert_eq!(names(12, 1, "#define Y 3\n"), "Y");
        assert_eq!(names(11, 1, "#ifdef R\n"), "Y");
        assert_eq!(names(7, 0, "enum { E1, E2 };\n"), "E1 E2");
    }

    #[test]
    fn comments_and_lines_mean_nothing() {
        assert_eq!(names(3, 0, "/* text */\n\n"), "");
        assert_eq!(names(2, 1, "#define X 1 /* one */\n"), "");
        assert_eq!(names(9, 1, "\treturn s->a; /* a */\n"), "");
    }

    #[test]
    fn a_line_that_moves_inside_of_a_function_counts() {
        let orig = "static inline int g(int a,\n\tint b)\n{\n\treturn once(a);\n}\n";
        let of = |at: usize| {
            let mut lines = lines_of(orig.as_bytes());
            lines.insert(
                at,
                Line {
                    text: b"\n".to_vec(),
                    origin: None,
                },
            );
            change(&Index::default(), orig.as_bytes(), &lines).names.len()
        };
        assert_eq!((of(1), of(3)), (1, 0), "no directive can stand among parameters");
    }

    #[test]
    fn whatever_acts_is_for_all() {
        for text in [
            "#include <b.h>\n",
            "#pragma pack(1)\n",
            "int v;\n",
            "DEFINE(x);\n",
            "static inline int k(void) { return once(1); }\n",
            "static inline int __emit k(void) { return 1; }\n",
            "int h(void);\n",
            "#define N __attribute__((used))\nstatic inline int N k(void) { return 1; }\n",
            "#define N once(1)\nstatic inline int k(void) { return N; }\n",
            "void *memcpy(void *to, const void *from, unsigned long n);\n",
            "int a\\\nb;\n",
        ] {
            assert_eq!(names(7, 0, text), "all", "{text}");
        }
        assert_eq!(names(0, 1, ""), "all", "an #endif too much");
    }

    #[test]
    fn what_moves_to_another_place_changes() {
        let orig = lines_of(HEADER.as_bytes());
        let mut lines = orig.clone();
        let moved = lines.remove(2);
        lines.insert(5, Line { origin: None, ..moved });
        let change = change(&Index::default(), HEADER.as_bytes(), &lines);
        assert_eq!(change.names.keys().map(Vec::as_slice).collect::<Vec<_>>(), [b"X"]);
    }
}
