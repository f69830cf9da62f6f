//! What the body of a function does with a structure that may be on stacks only.

use std::collections::{BTreeMap, BTreeSet};

use super::forms::{Passed, Scene, called, passed, pointer, shortened};
use super::handed_back;
use super::items::mentions;
use super::tokens::{closing, find, is_word, opening};

/// Functions that write to or read from an object as so many bytes, and keep neither the address nor the bytes inside of the
/// kernel.
const BYTES: [&str; 9] = [
    "memset",
    "__memset",
    "__builtin_memset",
    "memzero_explicit",
    "copy_from_user",
    "copy_to_user",
    "fortify_memset_chk",
    "__builtin_object_size",
    "__builtin_dynamic_object_size",
];

/// Functions that copy as many bytes as they are told.
const COPIES: [&str; 6] = [
    "memcpy",
    "memmove",
    "__builtin_memcpy",
    "__builtin_memmove",
    "__memcpy",
    "kmemdup",
];

/// Keywords before a name that do not declare it.
const KEYWORDS: [&str; 6] = ["return", "else", "case", "do", "goto", "sizeof"];

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    /// An object, or an array of them.
    Object,
    /// A pointer to one.
    Pointer,
}

/// What was found in a body in which nothing speaks against it.
#[derive(Debug, Default)]
pub struct Found {
    /// It has an object.
    pub holds: bool,
    /// It gets from a member that it is given to the object.
    pub recovers: bool,
}

/// A body, and what is known of it so far.
pub struct Body<'a> {
    scene: &'a Scene<'a>,
    tokens: &'a [&'a str],
    /// The names of all parameters.
    parameters: BTreeSet<&'a str>,
    /// Parameters that point to other structures: name and tag.
    pointers: BTreeMap<&'a str, &'a str>,
    variables: BTreeMap<&'a str, Variable>,
    /// Places that are part of a form that was recognised as a whole.
    known: Vec<bool>,
    found: Found,
}

type Checked<T> = Result<T, String>;

impl<'a> Body<'a> {
    /// Of a function with these parameters.
    pub fn new(scene: &'a Scene<'a>, tokens: &'a [&'a str], parameters: &[&'a [&'a str]]) -> Self {
        let mut variables = BTreeMap::new();
        for parameter in parameters {
            if let Some((how, Some(name))) = passed(parameter, &scene.tag) {
                let what = match how {
                    Passed::Pointer => Variable::Pointer,
                    Passed::Value => Variable::Object,
                };
                variables.insert(name, what);
            }
        }
        let pointers = parameters.iter().filter_map(|parameter| pointer(parameter));
        Body {
            scene,
            tokens,
            parameters: parameters.iter().filter_map(|words| words.last().copied()).collect(),
            pointers: pointers.map(|(kind, name)| (name, kind)).collect(),
            variables,
            known: vec![false; tokens.len()],
            found: Found::default(),
        }
    }

    /// Looks at each place that names the structure, an object of it, or a function that takes one.
    ///
    /// # Errors
    /// What it does that is in no list.
    pub fn check(mut self) -> Checked<Found> {
        for at in mentions(self.tokens, &self.scene.tag) {
            if self.starts_statement(at) {
                self.declaration(at)?;
            }
        }
        for at in 0..self.tokens.len() {
            self.assignment(at)?;
        }
        for at in 0..self.tokens.len() {
            self.call(at)?;
        }
        for at in mentions(self.tokens, &self.scene.tag) {
            if !self.known[at] && !self.is_literal_of_it(at) && !self.is_size(at, 2) {
                return Err(format!("names it in `{}`", self.around(at)));
            }
        }
        for at in 0..self.tokens.len() {
            self.name(at)?;
        }
        Ok(self.found)
    }

    fn at(&self, at: usize) -> &'a str {
        self.tokens.get(at).copied().unwrap_or_default()
    }

    fn before(&self, at: usize, by: usize) -> &'a str {
        at.checked_sub(by).map_or("", |at| self.at(at))
    }

    fn around(&self, at: usize) -> String {
        shortened(&self.tokens[at.saturating_sub(4)..])
    }

    fn starts_statement(&self, at: usize) -> bool {
        matches!(self.before(at, 1), "" | ";" | "{" | "}")
    }

    /// The same, or behind a condition.
    fn is_statement(&self, at: usize) -> bool {
        let condition = || match self.before(at, 1) {
            // Behind a label.
            "else" | ":" => true,
            ")" => opening(self.tokens, at - 1).is_some_and(|open| matches!(self.before(open, 1), "if" | "while")),
            _ => false,
        };
        self.starts_statement(at) || condition()
    }

    /// A declaration of variables. That of a member of another structure looks the same, but for what is around it.
    fn declaration(&mut self, at: usize) -> Checked<()> {
        if let Some(open) = opening(self.tokens, at) {
            let kinds = ["struct", "union"];
            if kinds.contains(&self.before(open, 1)) || kinds.contains(&self.before(open, 2)) {
                return Err("has it inside of another structure".to_owned());
            }
        }
        let odd = |body: &Self| Err(format!("declares it in `{}`", body.around(at)));
        self.known[at] = true;
        let mut next = at + 2;
        loop {
            let is_pointer = self.at(next) == "*";
            next += usize::from(is_pointer);
            let name = self.at(next);
            if !is_word(name) {
                return odd(self);
            }
            self.known[next] = true;
            next += 1;
            if self.at(next) == "[" && !is_pointer {
                next = closing(self.tokens, next).map_or(self.tokens.len(), |end| end + 1);
            }
            let what = if is_pointer {
                Variable::Pointer
            } else {
                Variable::Object
            };
            if self.variables.insert(name, what).is_some_and(|known| known != what) {
                return odd(self);
            }
            self.found.holds |= !is_pointer;
            if self.at(next) == "=" {
                let end = find(self.tokens, next + 1, &[",", ";"]);
                if is_pointer {
                    self.source(next + 1, end)?;
                }
                next = end;
            }
            match self.at(next) {
                "," => next += 1,
                ";" => return Ok(()),
                _ => return odd(self),
            }
        }
    }

    /// `pointer = …;`
    fn assignment(&mut self, at: usize) -> Checked<()> {
        let is_pointer = self.variables.get(self.at(at)) == Some(&Variable::Pointer);
        if !self.known[at] && is_pointer && self.is_statement(at) && self.at(at + 1) == "=" {
            self.known[at] = true;
            self.source(at + 2, find(self.tokens, at + 2, &[";"]))?;
        }
        Ok(())
    }

    /// A call of a function that takes the structure.
    fn call(&mut self, at: usize) -> Checked<()> {
        let name = self.at(at);
        let Some(takes) = self.scene.takers.get(name) else {
            return Ok(());
        };
        let open = at + 1;
        let is_parameter = self.parameters.contains(name) && self.at(open) != "(";
        if is_parameter || matches!(self.before(at, 1), "." | "->") {
            return Ok(());
        }
        let close = (self.at(open) == "(").then(|| closing(self.tokens, open)).flatten();
        let Some(close) = close else {
            return Err(format!("takes the address of `{name}()`"));
        };
        let mut start = open + 1;
        let arguments = called(self.tokens, open, close);
        if takes.keys().any(|position| *position >= arguments.len()) {
            return Err(format!("calls `{name}()` without it"));
        }
        for (position, argument) in arguments.iter().enumerate() {
            let end = start + argument.len();
            match takes.get(&position) {
                Some(Passed::Pointer) => self.source(start, end)?,
                Some(Passed::Value) => self.value(start, end)?,
                None => {}
            }
            start = end + 1;
        }
        Ok(())
    }

    /// What a pointer to the structure may be: the address of a variable, another such pointer, none, or the way back from
    /// a member of one's own.
    fn source(&mut self, start: usize, end: usize) -> Checked<()> {
        let is = |name: &str, what| self.variables.get(name) == Some(&what);
        let good = match &self.tokens[start..end] {
            ["0"] => true,
            ["(", "(", "void", "*", ")", "0", ")"] => true,
            [name] => is(name, Variable::Pointer),
            ["&", name] => is(name, Variable::Object),
            ["&", name, "[", .., "]"] => is(name, Variable::Object) && closing(self.tokens, start + 2) == Some(end - 1),
            _ => self.recovers(start, end),
        };
        if !good {
            let what = shortened(&self.tokens[start..end]);
            return Err(format!("has a pointer to it from `{what}`"));
        }
        // What is an index is looked at by itself.
        let whole = !self.tokens[start..end].contains(&"[") || self.at(start) != "&";
        let until = if whole { end } else { start + 2 };
        self.known[start..until].fill(true);
        Ok(())
    }

    /// A copy that is passed.
    fn value(&mut self, start: usize, end: usize) -> Checked<()> {
        let good = match &self.tokens[start..end] {
            [name] => self.variables.get(name) == Some(&Variable::Object),
            ["*", name] => self.variables.get(name) == Some(&Variable::Pointer),
            _ => false,
        };
        if !good {
            return Err(format!("passes `{}`", shortened(&self.tokens[start..end])));
        }
        self.known[start..end].fill(true);
        Ok(())
    }

    /// What `container_of()` (include/linux/container_of.h) becomes, for a parameter that is handed back.
    fn recovers(&mut self, start: usize, end: usize) -> bool {
        let tag = &self.scene.tag;
        let tokens = &self.tokens[start..end];
        let [
            "(",
            "{",
            "void",
            "*",
            "__mptr",
            "=",
            "(",
            "void",
            "*",
            ")",
            "(",
            from,
            ")",
            ";",
            rest @ ..,
        ] = tokens
        else {
            return false;
        };
        let Some(kind) = self.pointers.get(from).filter(|kind| handed_back::is_known(kind)) else {
            return false;
        };
        let rest = match rest {
            ["_Static_assert", "(", ..] => {
                let Some(end) = closing(rest, 1) else { return false };
                match &rest[end + 1..] {
                    [";", rest @ ..] => rest,
                    _ => return false,
                }
            }
            _ => rest,
        };
        let [
            "(",
            "(",
            word,
            name,
            "*",
            ")",
            "(",
            "__mptr",
            "-",
            offset @ ..,
            ")",
            ")",
            ";",
            "}",
            ")",
        ] = rest
        else {
            return false;
        };
        let ["__builtin_offsetof", "(", of_word, of_name, ",", member, ")"] = offset else {
            return false;
        };
        let is_it = [(word, name), (of_word, of_name)]
            .iter()
            .all(|(word, name)| (**word, **name) == (tag.word, tag.tag));
        let good = is_it && self.scene.members.contains(&(kind, member)) && self.is_untouched(from);
        self.found.recovers |= good;
        good
    }

    /// Whether a parameter still is what the caller passed.
    fn is_untouched(&self, parameter: &str) -> bool {
        self.tokens.iter().enumerate().all(|(at, token)| {
            *token != parameter
                || matches!(self.before(at, 1), "." | "->")
                || !(self.is_declared(at)
                    || matches!(self.before(at, 1), "&" | "++" | "--")
                    || matches!(self.at(at + 1), "++" | "--")
                    || self.at(at + 1).ends_with('='))
        })
    }

    /// Whether a name at a place is declared there, perhaps once more.
    fn is_declared(&self, at: usize) -> bool {
        let declares = |token: &str| is_word(token) && !KEYWORDS.contains(&token);
        let stars = self.tokens[..at]
            .iter()
            .rev()
            .take_while(|token| **token == "*")
            .count();
        declares(self.before(at, stars + 1))
            || (stars == 0 && self.before(at, 1) == "}")
                && self.at(at + 1) != "."
                && self.at(at + 1) != "->"
                && self.at(at + 1) != "="
    }

    /// `= (struct s) { … }`
    fn is_literal_of_it(&self, at: usize) -> bool {
        (self.before(at, 2), self.before(at, 1)) == ("=", "(") && (self.at(at + 2), self.at(at + 3)) == (")", "{")
    }

    /// Whether this many tokens at a place are the operand of a `sizeof` in a call of [`BYTES`].
    fn is_size(&self, at: usize, long: usize) -> bool {
        let is_operand = (self.before(at, 2), self.before(at, 1), self.at(at + long)) == ("sizeof", "(", ")");
        is_operand && opening(self.tokens, at - 1).is_some_and(|open| BYTES.contains(&self.before(open, 1)))
    }

    /// A place that names an object or a pointer to one.
    fn name(&self, at: usize) -> Checked<()> {
        let name = self.at(at);
        let Some(what) = self.variables.get(name) else {
            return Ok(());
        };
        if self.known[at] || matches!(self.before(at, 1), "." | "->") {
            return Ok(());
        }
        let good = !self.is_declared(at)
            && !self.is_copied_from(at)
            && self.hands_to_others(at)
            && match what {
                Variable::Pointer => self.is_use_of_pointer(at),
                Variable::Object => self.is_use_of_object(at),
            };
        if good {
            return Ok(());
        }
        Err(format!("does `{}`", self.around(at)))
    }

    /// Whether bytes from here on are copied, which need not end where the member does.
    fn is_copied_from(&self, at: usize) -> bool {
        let open = opening(self.tokens, at);
        self.before(at, 1) == "&" && open.is_some_and(|open| COPIES.contains(&self.before(open, 1)))
    }

    /// Whether a member that is handed back goes to nobody but functions that do this before they return.
    fn hands_to_others(&self, at: usize) -> bool {
        let member = self.at(at + 2);
        let kind = self.scene.members.iter().find(|(_, name)| *name == member);
        let Some((kind, _)) = kind.filter(|(kind, _)| handed_back::is_known(kind)) else {
            return true;
        };
        if self.at(at + 3) == "." {
            return self.before(at, 1) != "&";
        }
        let open = opening(self.tokens, at);
        let callee = open.map(|open| self.before(open, 1)).unwrap_or_default();
        self.before(at, 1) == "&"
            && matches!(self.before(at, 2), "(" | ",")
            && matches!(self.at(at + 3), "," | ")")
            && handed_back::is_given_to(kind, callee)
    }

    fn is_use_of_pointer(&self, at: usize) -> bool {
        let (before, after) = (self.before(at, 1), self.at(at + 1));
        if after == "->" {
            return true;
        }
        if before == "*" {
            let inside = self.before(at, 2) == "(" && after == ")" && self.at(at + 2) == ".";
            let copied = (self.before(at, 2) == "=" || self.is_statement(at - 1)) && matches!(after, "=" | ";");
            return inside || copied || self.is_size(at - 1, 2);
        }
        let truth = ["!", "&&", "||", "==", "!="];
        let compared = |mark: &str| truth.contains(&mark);
        let grouped = |mark: &str| mark == "(" || mark == ")";
        let is_true = (compared(before) || before == "(") && (compared(after) || after == ")" || after == "?");
        let condition = match (grouped(before), grouped(after)) {
            (true, true) => matches!(self.before(at, 2), "if" | "while" | "!"),
            _ => true,
        };
        (is_true && condition) || self.is_argument(at, at)
    }

    fn is_use_of_object(&self, at: usize) -> bool {
        let (before, after) = (self.before(at, 1), self.at(at + 1));
        let end = match after {
            "[" => closing(self.tokens, at + 1).unwrap_or(self.tokens.len()),
            _ => at,
        };
        let after = self.at(end + 1);
        if after == "." {
            return true;
        }
        let copied = end == at && ((self.is_statement(at) && after == "=") || (before == "=" && after == ";"));
        copied || self.is_size(at, 1) || (before == "&" && self.is_argument(at - 1, end))
    }

    /// Whether what is between these places is an argument of a call of [`BYTES`].
    fn is_argument(&self, first: usize, last: usize) -> bool {
        let alone = matches!(self.before(first, 1), "(" | ",") && matches!(self.at(last + 1), "," | ")");
        let Some(callee) = opening(self.tokens, first).and_then(|open| open.checked_sub(1)) else {
            return false;
        };
        // What memset() returns is the pointer once more.
        let is_dropped = !self.at(callee).contains("mem") || self.is_statement(callee);
        alone && BYTES.contains(&self.at(callee)) && is_dropped
    }
}
