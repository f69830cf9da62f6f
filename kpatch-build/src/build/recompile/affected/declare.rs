//! Says what a declaration at the top level of a header declares, if it makes no code unless somebody uses it.
//!
//! Those are functions that are `static` and inline, prototypes, `extern` variables, types and enumerators. Compilers
//! leave out what of these is not used. Everything that is not surely one of them counts as something that makes code.

use super::pieces::Role;
use super::tokens::{Kind, Token};

/// What a piece of code declares.
#[derive(Debug)]
pub struct Declared<'a> {
    /// [`Role::Declaration`] or [`Role::Acts`].
    pub role: Role,
    /// The names.
    pub names: Vec<&'a [u8]>,
    /// Names that could be macros which make something else of it.
    pub head: Vec<&'a [u8]>,
}

impl Default for Declared<'_> {
    fn default() -> Self {
        Declared {
            role: Role::Acts,
            names: Vec::new(),
            head: Vec::new(),
        }
    }
}

/// Words that make a declaration come into the object although nobody uses it, or be something else than it seems. As
/// attributes (GCC: Common Function Attributes, Common Variable Attributes) they are written with underscores as well.
pub const EMITTING: [&[u8]; 22] = [
    b"used",
    b"__used__",
    b"__used",
    b"retain",
    b"__retain__",
    b"constructor",
    b"__constructor__",
    b"destructor",
    b"__destructor__",
    b"alias",
    b"__alias__",
    b"__alias",
    b"ifunc",
    b"__ifunc__",
    b"asm",
    b"__asm",
    b"__asm__",
    b"_Pragma",
    b"__pragma",
    b"_Static_assert",
    b"static_assert",
    b"weakref",
];

const INLINE: [&[u8]; 4] = [b"inline", b"__inline", b"__inline__", b"__always_inline"];

/// Attributes with or without arguments, as the kernel and compilers spell them; none of them is a declared name.
const ATTRIBUTES: [&[u8]; 36] = [
    b"__attribute__",
    b"__attribute",
    b"__acquires",
    b"__releases",
    b"__must_hold",
    b"__cond_acquires",
    b"__cond_lock",
    b"__aligned",
    b"__section",
    b"__printf",
    b"__scanf",
    b"__assume_aligned",
    b"__alloc_size",
    b"__realloc_size",
    b"__malloc",
    b"__counted_by",
    b"__nonnull",
    b"__no_sanitize",
    b"__compiletime_error",
    b"__compiletime_warning",
    b"__diagnose_as",
    b"__pass_object_size",
    b"__overloadable",
    b"__packed",
    b"____cacheline_aligned",
    b"____cacheline_aligned_in_smp",
    b"____cacheline_internodealigned_in_smp",
    b"__cacheline_aligned",
    b"__randomize_layout",
    b"__no_randomize_layout",
    b"__designated_init",
    b"__typeof__",
    b"typeof",
    b"__typeof",
    b"_Alignas",
    b"__maybe_unused",
];

/// Words of C that stand in front of what is declared.
const WORDS: [&[u8]; 24] = [
    b"extern",
    b"static",
    b"typedef",
    b"const",
    b"volatile",
    b"void",
    b"char",
    b"short",
    b"int",
    b"long",
    b"float",
    b"double",
    b"signed",
    b"unsigned",
    b"_Bool",
    b"bool",
    b"struct",
    b"union",
    b"enum",
    b"register",
    b"restrict",
    b"__signed__",
    b"__restrict",
    b"sizeof",
];

/// Words that are no type.
const STORAGE: [&[u8]; 6] = [b"extern", b"static", b"const", b"volatile", b"typedef", b"register"];

fn is_attribute(text: &[u8]) -> bool {
    ATTRIBUTES.contains(&text)
}

fn is_word(text: &[u8]) -> bool {
    WORDS.contains(&text) || INLINE.contains(&text) || text == b"asm"
}

fn begins_type(token: &Token<'_>) -> bool {
    [&b"struct"[..], b"union", b"enum"]
        .iter()
        .any(|word| token.is_name(word))
}

/// Tokens outside of all braces, parentheses and brackets, with their places; opening ones count as outside.
fn outside<'t, 'a>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = (usize, &'t Token<'a>)> {
    let mut depth = 0_usize;
    tokens.iter().enumerate().filter(move |(_, token)| match token.kind {
        Kind::Mark(b'(' | b'[' | b'{') => {
            depth += 1;
            depth == 1
        }
        Kind::Mark(b')' | b']' | b'}') => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => depth == 0,
    })
}

/// Names with parentheses behind them that are no attributes.
fn called<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a [u8])> {
    let is_it = |(at, token): &(usize, &Token<'a>)| {
        token.kind == Kind::Name && tokens.get(at + 1).is_some_and(|next| next.is(b'(')) && !is_attribute(token.text)
    };
    outside(tokens)
        .filter(is_it)
        .map(|(at, token)| (at, token.text))
        .collect()
}

/// Where the first brace opens.
fn body(tokens: &[Token<'_>]) -> Option<usize> {
    outside(tokens).find(|(_, token)| token.is(b'{')).map(|(at, _)| at)
}

/// Whether the closed brace at the end is that of a function, which needs no semicolon.
pub fn ends_with_body(tokens: &[Token<'_>]) -> bool {
    let Some(body) = body(tokens) else { return true };
    let head = &tokens[..body];
    let has = |is_it: &dyn Fn(&Token<'_>) -> bool| outside(head).any(|(_, token)| is_it(token));
    if has(&|token| token.is(b'=')) {
        return false;
    }
    !has(&begins_type) || !called(head).is_empty()
}

/// What a complete piece declares.
pub fn declared<'a>(tokens: &[Token<'a>]) -> Declared<'a> {
    let names = match (body(tokens), tokens.last()) {
        (Some(body), Some(last)) if last.is(b'}') => function(&tokens[..body]),
        (Some(body), Some(last)) if last.is(b';') => described(tokens, body),
        (None, Some(last)) if last.is(b';') => announced(&tokens[..tokens.len() - 1]),
        _ => None,
    };
    let Some((names, mut head)) = names else {
        return Declared::default();
    };
    let end = body(tokens).unwrap_or(tokens.len());
    let behind = outside(tokens).filter(|(at, _)| *at > end).map(|(_, token)| token);
    head.extend(
        tokens[..end]
            .iter()
            .chain(behind)
            .filter(|token| token.kind == Kind::Name)
            .map(|token| token.text),
    );
    if head.iter().any(|name| EMITTING.contains(name)) {
        return Declared::default();
    }
    head.sort_unstable();
    head.dedup();
    Declared {
        role: Role::Declaration,
        names,
        head,
    }
}

type Found<'a> = Option<(Vec<&'a [u8]>, Vec<&'a [u8]>)>;

/// A function with this in front of its body.
fn function<'a>(head: &[Token<'a>]) -> Found<'a> {
    let has = |word: &[u8]| outside(head).any(|(_, token)| token.is_name(word));
    if !has(b"static") || !INLINE.iter().any(|word| has(word)) {
        return None;
    }
    prototype(head).map(|names| (names, Vec::new()))
}

/// The names in front of parameters.
fn prototype<'a>(head: &[Token<'a>]) -> Option<Vec<&'a [u8]>> {
    let twice = head
        .windows(2)
        .enumerate()
        .any(|(at, pair)| pair[0].is(b')') && pair[1].is(b'(') && outside(head).any(|(open, _)| open == at + 1));
    let other = outside(head).any(|(_, token)| [b'=', b',', b';', b':'].iter().any(|mark| token.is(*mark)));
    let called = called(head);
    let typed = |at: usize| {
        let mut before = outside(&head[..at]).filter(|(_, token)| token.kind == Kind::Name);
        before.any(|(_, token)| {
            !STORAGE.contains(&token.text) && !INLINE.contains(&token.text) && !is_attribute(token.text)
        })
    };
    let fits = !called.is_empty() && called.iter().all(|(at, name)| !is_word(name) && typed(*at));
    (fits && !twice && !other).then(|| called.into_iter().map(|(_, name)| name).collect())
}

/// A declaration without a body.
fn announced<'a>(tokens: &[Token<'a>]) -> Found<'a> {
    let has = |word: &[u8]| outside(tokens).any(|(_, token)| token.is_name(word));
    if tokens.first().is_some_and(|first| first.is_name(b"typedef")) {
        return named(tokens).map(|names| (names, Vec::new()));
    }
    if let [keyword, tag] = tokens
        && begins_type(keyword)
        && tag.kind == Kind::Name
    {
        return Some((vec![tag.text], Vec::new()));
    }
    if outside(tokens).any(|(_, token)| token.is(b'(')) && !called(tokens).is_empty() {
        if has(b"static") && !INLINE.iter().any(|word| has(word)) {
            return None;
        }
        return prototype(tokens).map(|names| (names, Vec::new()));
    }
    if has(b"extern") && !outside(tokens).any(|(_, token)| token.is(b'=')) {
        return named(tokens).map(|names| (names, Vec::new()));
    }
    None
}

/// The names of declarators: each in front of its end, of brackets, parameters or attributes, or in `(*name)`.
fn named<'a>(tokens: &[Token<'a>]) -> Option<Vec<&'a [u8]>> {
    let mut names = Vec::new();
    let mut declarators = 1;
    for (at, token) in outside(tokens) {
        if token.is(b',') {
            declarators += 1;
        }
        if token.is(b'(') && tokens.get(at + 1).is_some_and(|next| next.is(b'*')) {
            let inner = &tokens[at + 1..];
            let end = inner.iter().position(|token| token.is(b')') || token.is(b'('));
            let inner = &inner[..end.unwrap_or(inner.len())];
            names.extend(
                inner
                    .iter()
                    .rfind(|token| token.kind == Kind::Name)
                    .map(|token| token.text),
            );
        }
        if token.kind != Kind::Name || is_word(token.text) || is_attribute(token.text) {
            continue;
        }
        if at.checked_sub(1).is_some_and(|before| begins_type(&tokens[before])) {
            continue;
        }
        let ends = match tokens.get(at + 1) {
            None => true,
            Some(next) => match next.kind {
                Kind::Mark(mark) => matches!(mark, b',' | b'[' | b'(' | b';'),
                Kind::Name => next.text.starts_with(b"__"),
                _ => false,
            },
        };
        if ends {
            names.push(token.text);
        }
    }
    (names.len() >= declarators).then_some(names)
}

/// A type with a body that opens at `body`.
fn described<'a>(tokens: &[Token<'a>], body: usize) -> Found<'a> {
    let head = &tokens[..body];
    if !outside(head).any(|(_, token)| begins_type(token)) || outside(head).any(|(_, token)| token.is(b'=')) {
        return None;
    }
    let close = tokens.iter().rposition(|token| token.is(b'}'))?;
    let bodies = outside(tokens).filter(|(_, token)| token.is(b'{')).count();
    let behind = tokens.get(close + 1..tokens.len() - 1)?;
    let is_typedef = head.first().is_some_and(|first| first.is_name(b"typedef"));
    let declares = outside(behind).any(|(_, token)| match token.kind {
        Kind::Name => !is_attribute(token.text),
        Kind::Mark(mark) => mark != b'(',
        _ => true,
    });
    if bodies != 1 || (declares && !is_typedef) {
        return None;
    }
    let mut names = if is_typedef { named(behind)? } else { Vec::new() };
    let mut enumerators = Vec::new();
    members(&tokens[..=close], &mut names, &mut enumerators)?;
    names.extend(&enumerators);
    Some((names, enumerators))
}

/// Tags, enumerators, and first arguments of what may be macros: they can declare a tag, too (`struct_group_tagged`).
fn members<'a>(tokens: &[Token<'a>], names: &mut Vec<&'a [u8]>, enumerators: &mut Vec<&'a [u8]>) -> Option<()> {
    // For each open brace whether it is that of an enumeration.
    let mut open: Vec<bool> = Vec::new();
    let mut is_enum = false;
    let mut parens = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        match token.kind {
            Kind::Mark(b'{') => open.push(std::mem::take(&mut is_enum)),
            Kind::Mark(b'}') => drop(open.pop()),
            Kind::Mark(b';') => is_enum = false,
            Kind::Mark(b'(') => parens += 1,
            Kind::Mark(b')') => parens = parens.saturating_sub(1),
            Kind::Name if begins_type(token) => {
                is_enum = token.text == b"enum";
                let mut rest = tokens[at + 1..]
                    .iter()
                    .take_while(|token| !token.is(b'{') && !token.is(b';'));
                names.extend(
                    rest.find(|token| token.kind == Kind::Name && !is_attribute(token.text))
                        .filter(|_| defines(&tokens[at + 1..]))
                        .map(|token| token.text),
                );
            }
            Kind::Name if open.last() == Some(&true) && parens == 0 => {
                let begins = before.is_some_and(|before| before.is(b'{') || before.is(b','));
                if begins && next.is_some_and(|next| next.is(b'(')) {
                    return None;
                }
                enumerators.extend(begins.then_some(token.text));
            }
            Kind::Name
                if !open.is_empty()
                    && next.is_some_and(|next| next.is(b'('))
                    && !is_attribute(token.text)
                    && !is_word(token.text) =>
            {
                let first = tokens
                    .get(at + 2)
                    .filter(|first| first.kind == Kind::Name && !is_word(first.text));
                names.extend(first.map(|first| first.text));
            }
            _ => {}
        }
    }
    Some(())
}

/// Whether a tag here is defined: it has a body.
fn defines(rest: &[Token<'_>]) -> bool {
    let body = body(rest);
    body.is_some_and(|body| {
        !rest[..body]
            .iter()
            .any(|token| [b';', b',', b'*', b'='].iter().any(|mark| token.is(*mark)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::pieces::{Role, cut};
    use super::super::tokens::split;

    /// `+` for a declaration and `!` for what acts, and the names.
    fn shown(text: &str) -> Vec<String> {
        let tokens = split(text.as_bytes());
        let show = |piece: &super::super::pieces::Piece<'_>| {
            let names: Vec<_> = piece.names.iter().map(|name| String::from_utf8_lossy(name)).collect();
            let mark = match piece.role {
                Role::Macro => "#",
                Role::Declaration => "+",
                Role::Acts => "!",
            };
            format!("{mark}{}", names.join(" "))
        };
        cut(&tokens).iter().map(show).collect()
    }

    #[test]
    fn functions_that_are_inline_declare_their_name() {
        assert_eq!(
            shown("static inline int f(int a)\n{\n\tif (a) { g(); }\n\treturn 1;\n}\n"),
            ["+f"]
        );
        assert_eq!(
            shown("static __always_inline __attribute__((x(1))) struct s *f(void) __acquires(l) { }"),
            ["+f"]
        );
        assert_eq!(
            shown("static inline void f(void) { } static inline void g(void) { }"),
            ["+f", "+g"]
        );
        assert_eq!(shown("static int f(void) { }"), ["!"]);
        assert_eq!(shown("inline int f(void) { }"), ["!"]);
        assert_eq!(shown("static inline int __used f(void) { }"), ["!"]);
        assert_eq!(shown("static inline int FN(a)(void) { }"), ["!"]);
        assert_eq!(shown("static inline void f(void) { asm(\"nop\"); }"), ["+f"]);
    }

    #[test]
    fn what_may_be_a_macro_acts() {
        assert_eq!(
            shown("DEFINE_GUARD(m, struct m *, lock(_T))\nstatic inline void f(void) { }"),
            ["!"]
        );
        assert_eq!(shown("DECLARE_PER_CPU(int, x);"), ["!"]);
        assert_eq!(shown("extern DECLARE_BITMAP(x, 3);"), ["!"]);
        assert_eq!(shown("static DEFINE_MUTEX(x);"), ["!"]);
        assert_eq!(shown("static_assert(1);"), ["!"]);
        assert_eq!(shown("#pragma pack(1)\n#include <a.h>\n"), ["!", "!"]);
        assert_eq!(
            shown("int x;\nstatic const int y = 1;\nstruct s z = { 1 };\n"),
            ["!", "!", "!"]
        );
    }

    #[test]
    fn prototypes_and_variables_elsewhere_declare_their_names() {
        assert_eq!(
            shown("int f(int), *g;\nextern int h(struct s *s) __printf(1, 2);\nvoid k(void);"),
            ["!", "+h", "+k"]
        );
        assert_eq!(
            shown("extern struct s a, b[3];\nextern int c __read_mostly;"),
            ["+a b", "+c __read_mostly"]
        );
        assert_eq!(shown("extern int (*hook)(int);"), ["!"]);
        assert_eq!(shown("extern struct s __percpu *p;"), ["+p"]);
        assert_eq!(shown("extern int x = 1;"), ["!"]);
        assert_eq!(shown("int f(void) __asm__(\"g\");"), ["!"]);
    }

    #[test]
    fn types_declare_tags_and_enumerators() {
        assert_eq!(shown("struct s;"), ["+s"]);
        assert_eq!(
            shown("struct s { int a; struct t { int b; } c; struct u *d; };"),
            ["+s t"]
        );
        assert_eq!(shown("struct s { int a; } __packed __aligned(8);"), ["+s"]);
        assert_eq!(shown("struct s { int a; } v;"), ["!"]);
        assert_eq!(
            shown("struct s { struct_group_tagged(tag, x, int a;); int (*op)(struct s *); };"),
            ["+s tag"]
        );
        assert_eq!(shown("enum e { A, B = 3, C = sizeof(int) };"), ["+e A B C"]);
        assert_eq!(shown("enum { LIST(X) };"), ["!"]);
        assert_eq!(
            shown("typedef struct { int a; } t_t;\ntypedef u32 (*fn_t)(int);\ntypedef int num_t;"),
            ["+t_t", "+u32 fn_t", "+num_t"]
        );
    }

    #[test]
    fn conditions_inside_must_leave_the_same_open() {
        let text = "struct s {\n#ifdef A\n\tint a;\n#else\n\tint b;\n#endif\n};\n";
        assert_eq!(shown(text), ["+s"]);
        let text = "#ifdef A\nstatic inline int f(void) {\n#else\nint f(int a) {\n#endif\n}\n#define X 1\n";
        assert!(
            shown(text).iter().all(|shown| shown.starts_with('!')),
            "{:?}",
            shown(text)
        );
        let text = "#ifdef A\nextern\n#endif\nint x;\nextern int y;\n";
        assert_eq!(shown(text), ["!", "+y"]);
        let text = "extern\n#ifdef A\nint x;\n#else\nextern int y;\n#endif\nextern int z;\n";
        assert_eq!(shown(text), ["!", "!", "+z"]);
    }
}
