//! Which patch of a series has brought what: lines of files, functions, and names in changed lines.
//!
//! What is refused or patched has a name and a file, and these lead back to patches. Where several patches may be the cause
//! all are named, the likeliest kind of evidence alone: a patch that edits the function before one that mentions its name.

use std::collections::{BTreeMap, BTreeSet};

use kpatch_core::{Refusal, names};

use super::FileChange;
use super::apply::apply_change;
use super::functions;
use super::line::Line;

/// Numbers of patches, from 0.
pub type Numbers = BTreeSet<usize>;

/// What the patches have done so far.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    patches: BTreeMap<usize, Traces>,
    /// For each file after the patches, which patch brought each line; nothing for a line of the original.
    lines: BTreeMap<String, Vec<Option<usize>>>,
}

/// What one patch has touched.
#[derive(Debug, Clone, Default)]
struct Traces {
    files: BTreeSet<String>,
    /// Functions whose text it changes, with their files.
    functions: BTreeSet<(String, String)>,
    /// Names in the lines that begin and end what the changed lines are in: a structure, a table, a variable.
    heads: BTreeSet<String>,
    /// Names in the changed lines.
    words: BTreeSet<String>,
}

impl Origins {
    /// Notes a change that was applied to this file.
    pub fn add(&mut self, change: &FileChange, before: Option<Vec<Line>>, fuzz: usize) {
        let own = before.map(|lines| {
            let numbered = (1..).zip(lines).map(|(number, line)| Line {
                text: line.text,
                origin: Some(number),
            });
            numbered.collect::<Vec<Line>>()
        });
        let Ok((after, _)) = apply_change(change, own.clone(), fuzz) else {
            return;
        };
        let traces = self.patches.entry(change.number).or_default();
        traces.files.insert(change.path.clone());
        if let super::ChangeKind::Renamed(from) | super::ChangeKind::Copied(from) = &change.kind {
            traces.files.insert(from.clone());
        }
        let before = own.unwrap_or_default();
        let after = after.unwrap_or_default();
        traces.look(&change.path, &before, &after);
        let from = match &change.kind {
            super::ChangeKind::Renamed(from) | super::ChangeKind::Copied(from) => from,
            _ => &change.path,
        };
        let known = self.lines.get(from).cloned().unwrap_or_default();
        let brought = |line: &Line| match line.origin {
            Some(number) => known.get(number as usize - 1).copied().flatten(),
            None => Some(change.number),
        };
        self.lines
            .insert(change.path.clone(), after.iter().map(brought).collect());
    }

    /// All patches that changed something.
    pub fn all(&self) -> Numbers {
        self.patches.keys().copied().collect()
    }

    /// The patches that touch one of these files.
    pub fn of_files<'f>(&self, files: impl IntoIterator<Item = &'f str>) -> Numbers {
        let files: BTreeSet<&str> = files.into_iter().collect();
        self.those(|traces| traces.files.iter().any(|file| files.contains(file.as_str())))
    }

    /// The patch that brought a line, 1-based, or the last one that touched something before it.
    pub fn of_line(&self, file: &str, line: u32) -> Option<usize> {
        let lines = self.lines.get(file)?;
        let end = (line as usize).min(lines.len());
        lines[..end].last().copied().flatten()
    }

    /// The patches that edit a function of this name, in this file if any does so there.
    pub fn of_function(&self, name: &str, file: Option<&str>) -> Numbers {
        let there = file.map(|file| self.of_function_there(name, file)).unwrap_or_default();
        if there.is_empty() {
            self.those(|traces| traces.functions.iter().any(|(_, function)| function == name))
        } else {
            there
        }
    }

    /// The patches that edit a function of this name in this file.
    fn of_function_there(&self, name: &str, file: &str) -> Numbers {
        self.those(|traces| traces.has_function(file, name))
    }

    /// The patches whose changed lines are inside of what this name begins.
    pub fn of_head(&self, name: &str) -> Numbers {
        self.those(|traces| traces.heads.contains(name))
    }

    /// The patches whose changed lines have this name.
    pub fn of_word(&self, name: &str) -> Numbers {
        self.those(|traces| traces.words.contains(name))
    }

    /// The functions that any patch edits.
    pub fn edited(&self) -> BTreeSet<String> {
        let all = self.patches.values().flat_map(|traces| &traces.functions);
        all.map(|(_, function)| function.clone()).collect()
    }

    /// The cause of what is about this name in this file. `inlined` gives the edited functions whose code is in a function;
    /// `made_from` the changed files that an object is made from. The first kind of evidence that names a patch decides.
    pub fn of(&self, about: &About<'_>) -> Numbers {
        let source = about.file.map(source_of);
        let symbol = about.symbol.map(names::plain).filter(|name| !name.is_empty());
        let kinds: [&dyn Fn() -> Numbers; 7] = [
            &|| about.missing.map(|name| self.of_word(name)).unwrap_or_default(),
            &|| {
                symbol
                    .map(|name| self.of_function(name, source.as_deref()))
                    .unwrap_or_default()
            },
            &|| symbol.map(|name| self.of_head(name)).unwrap_or_default(),
            &|| {
                let inlined = symbol.map(about.inlined).unwrap_or_default();
                inlined.iter().flat_map(|name| self.of_function(name, None)).collect()
            },
            &|| symbol.map(|name| self.of_word(name)).unwrap_or_default(),
            // A header that the file reads may be behind it as well as the file itself.
            &|| {
                self.of_files(
                    source
                        .as_deref()
                        .into_iter()
                        .chain(about.made_from.iter().map(String::as_str)),
                )
            },
            &|| self.all(),
        ];
        kinds
            .iter()
            .map(|kind| kind())
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    /// The causes of what a compiler says. Where it complains of a line that a patch brought, that patch; else those that
    /// change the declaration which the compiler points at, or the head of a function which the line mentions, in its file; else
    /// those that edit such a function, or have a name that the message quotes, which may be a type that the whole kernel uses;
    /// else those that touch what the object is made from.
    pub fn of_messages(&self, text: &str, made_from: &[String]) -> Numbers {
        let (mut by_line, mut by_head, mut by_name) = (Numbers::new(), Numbers::new(), Numbers::new());
        let (mut file, mut complaint) = ("", "");
        for line in text.lines() {
            let Some(at) = line.find(": error: ").or_else(|| line.find(": fatal error: ")) else {
                if line.contains(": note: ") || line.contains(": warning: ") {
                    file = "";
                }
                by_head.extend(self.of_declaration(line, complaint));
                for word in shown(line).split(|c: char| !is_of_name(c)).filter(|word| is_name(word)) {
                    let edits = self.of_function_there(word, file);
                    by_head.extend(edits.intersection(&self.of_word(word)));
                    by_name.extend(edits);
                }
                continue;
            };
            let mut parts = line[..at].split(':');
            file = parts.next().unwrap_or_default();
            complaint = &line[at..];
            let number = parts.next().and_then(|part| part.parse().ok());
            by_line.extend(number.and_then(|number| self.of_line(file, number)));
            by_name.extend(quoted(&line[at..]).flat_map(|name| self.of_word(name)));
        }
        let files = || self.of_files(made_from.iter().map(String::as_str));
        let found = [by_line, by_head, by_name, files(), self.all()];
        found.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
    }

    /// The patches that change the declaration which a note of the compiler is about: `FILE:LINE:COLUMN: note: 'NAME' declared
    /// here`, where GCC names it only in the complaint before.
    fn of_declaration(&self, note: &str, complaint: &str) -> Numbers {
        let Some((place, text)) = note
            .split_once(": note: ")
            .filter(|(_, text)| text.ends_with("declared here"))
        else {
            return Numbers::new();
        };
        let file = place.split(':').next().unwrap_or_default();
        let names: BTreeSet<&str> = quoted(text).chain(quoted(complaint)).collect();
        self.those(|traces| {
            let changes = |name: &&str| traces.heads.contains(*name) || traces.has_function(file, name);
            traces.files.contains(file) && names.iter().any(changes)
        })
    }

    fn those(&self, is_one: impl Fn(&Traces) -> bool) -> Numbers {
        let found = self.patches.iter().filter(|(_, traces)| is_one(traces));
        found.map(|(number, _)| *number).collect()
    }
}

/// What something is about whose cause is looked for.
pub struct About<'a> {
    /// Object or source file.
    pub file: Option<&'a str>,
    /// Function, variable or type.
    pub symbol: Option<&'a str>,
    /// A symbol that is nowhere.
    pub missing: Option<&'a str>,
    /// The edited functions whose code is in a function.
    pub inlined: &'a dyn Fn(&str) -> BTreeSet<String>,
    /// The changed files that the object is made from.
    pub made_from: &'a [String],
}

impl<'a> About<'a> {
    /// That of a refusal.
    pub fn of(refusal: &'a Refusal, inlined: &'a dyn Fn(&str) -> BTreeSet<String>, made_from: &'a [String]) -> Self {
        About {
            file: refusal.at.file.as_deref(),
            symbol: refusal.at.symbol.as_deref(),
            missing: refusal.missing.as_deref(),
            inlined,
            made_from,
        }
    }
}

/// The source in a line of a compiler's message that shows some: ` 2467 |  .init = f,`.
fn shown(line: &str) -> &str {
    match line.split_once(" | ") {
        Some((number, source)) if number.trim().parse::<u32>().is_ok() => source,
        _ => "",
    }
}

/// Names that compilers put in quotes.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let parts = text.split(['\'', '`', '"', '\u{2018}', '\u{2019}']).skip(1).step_by(2);
    let names = parts.flat_map(|part| part.split(|c: char| !is_of_name(c)));
    names.filter(|name| is_name(name) && !KEYWORDS.contains(name))
}

/// Words of types that tell nothing.
const KEYWORDS: &[&str] = &[
    "int", "long", "short", "char", "void", "bool", "struct", "union", "enum", "unsigned", "signed", "const", "static",
    "volatile",
];

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// The source that an object is made from; other files are what they are.
pub fn source_of(file: &str) -> String {
    file.strip_suffix(".o")
        .map_or(file.to_owned(), |stem| format!("{stem}.c"))
}

impl Traces {
    /// Whether it edits a function of this name in this file.
    fn has_function(&self, file: &str, name: &str) -> bool {
        let mut own = self.functions.iter();
        own.any(|(path, function)| path == file && function == name)
    }

    /// Takes in the difference of two states of a file.
    fn look(&mut self, path: &str, before: &[Line], after: &[Line]) {
        let kept: BTreeSet<u32> = after.iter().filter_map(|line| line.origin).collect();
        let removed = |line: &Line| !line.origin.is_some_and(|origin| kept.contains(&origin));
        let added = |line: &Line| line.origin.is_none();
        self.side(before.iter().map(|line| (&line.text[..], removed(line))));
        self.side(after.iter().map(|line| (&line.text[..], added(line))));
        let names = functions::edited_in(after)
            .into_iter()
            .chain(functions::removed_from(before, &kept));
        self.functions.extend(names.map(|name| (path.to_owned(), name)));
    }

    fn side<'l>(&mut self, lines: impl Iterator<Item = (&'l [u8], bool)>) {
        let (mut head, mut changes): (Vec<String>, bool) = (Vec::new(), false);
        for (text, changed) in lines {
            let found = || {
                let text = String::from_utf8_lossy(text);
                let words = text.split(|c: char| !is_of_name(c)).filter(|word| is_name(word));
                words.map(str::to_owned).collect::<Vec<_>>()
            };
            if changed {
                self.words.extend(found());
            }
            let begins = text
                .first()
                .is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_');
            if begins {
                (head, changes) = (found(), false);
            }
            if changed && !changes {
                changes = true;
                self.heads.extend(head.iter().cloned());
            }
            if text.first() == Some(&b'}') {
                // `} name;`
                if changes {
                    self.heads.extend(found());
                }
                (head, changes) = (Vec::new(), false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kpatch_core::{Subject, codes};

    use super::super::apply::Copies;
    use super::super::parse::parse;
    use super::*;

    const FILE: &str = "#define X 1\n\nstruct s {\n\tint a;\n\tint b;\n};\n\nstatic int helper(int x)\n{\n\treturn x;\n}\n\nint f(void)\n{\n\treturn helper(X);\n}\n";

    fn origins(patches: &[&str]) -> Origins {
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("x.c"), FILE).unwrap();
        let mut copies = Copies::default();
        for (number, hunks) in patches.iter().enumerate() {
            let mut change = parse("p", format!("--- a/x.c\n+++ b/x.c\n{hunks}").as_bytes())
                .unwrap()
                .remove(0);
            change.number = number;
            copies.add(source.path(), &change).unwrap();
        }
        assert!(copies.refusals.is_empty(), "{:?}", copies.refusals);
        copies.origins
    }

    const STRUCTURE: &str = "@@ -4,2 +4,3 @@\n \tint a;\n \tint b;\n+\tint c;\n";
    const HELPER: &str = "@@ -8,3 +8,3 @@\n static int helper(int x)\n {\n-\treturn x;\n+\treturn x + 1;\n";
    const MACRO: &str = "@@ -1 +1 @@\n-#define X 1\n+#define X 2\n";

    fn causes(origins: &Origins, symbol: &str) -> Vec<usize> {
        let refusal = Refusal::new(codes::select::DATA_CHANGED, Subject::file("x.o").symbol(symbol), "why");
        let inlined = |name: &str| BTreeSet::from([if name == "g" { "helper" } else { "" }.to_owned()]);
        origins.of(&About::of(&refusal, &inlined, &[])).into_iter().collect()
    }

    #[test]
    fn what_is_edited_leads_to_its_patch() {
        let origins = origins(&[STRUCTURE, HELPER, MACRO]);
        assert_eq!(causes(&origins, "struct s"), [0]);
        assert_eq!(causes(&origins, "helper"), [1]);
        assert_eq!(causes(&origins, "helper.llvm.77"), [1]);
        assert_eq!(causes(&origins, "g"), [1]);
        assert_eq!(causes(&origins, "X"), [2]);
        // Nothing says which one it was.
        assert_eq!(causes(&origins, "f"), [0, 1, 2]);
    }

    #[test]
    fn two_patches_of_one_function_are_both_named() {
        let second = "@@ -8,4 +8,4 @@\n static int helper(int x)\n {\n-\treturn x + 1;\n+\treturn x + 2;\n }\n";
        assert_eq!(causes(&origins(&[HELPER, second]), "helper"), [0, 1]);
    }

    #[test]
    fn a_removed_line_is_a_trace_too() {
        let origins = origins(&[MACRO, "@@ -13,4 +13,3 @@\n int f(void)\n {\n-\treturn helper(X);\n }\n"]);
        assert_eq!(causes(&origins, "f"), [1]);
    }

    #[test]
    fn what_a_compiler_says_leads_to_the_line_or_to_the_name() {
        let origins = origins(&[STRUCTURE, HELPER]);
        let of = |text: &str| origins.of_messages(text, &[]).into_iter().collect::<Vec<_>>();
        assert_eq!(origins.of_line("x.c", 6), Some(0));
        assert_eq!(of("x.c:11:2: error: what"), [1]);
        assert_eq!(of("y.c:1:2: error: no member named 'c' in 'struct other'"), [0]);
        assert_eq!(of("no word"), [0, 1]);
    }

    #[test]
    fn a_function_with_a_new_head_in_the_line_that_a_compiler_shows_says_more_than_the_types_in_its_message() {
        let head =
            "@@ -8,4 +8,4 @@\n-static int helper(int x)\n+static int helper(int x, int y)\n {\n \treturn x;\n }\n";
        let body = origins(&[STRUCTURE, HELPER]);
        let origins = origins(&[STRUCTURE, head]);
        let of = |file: &str, shown: &str| {
            let text = format!("{file}:3:2: error: incompatible with 'int (struct s c)'\n {shown}\n      |  ^~~~\n");
            origins.of_messages(&text, &[]).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of("x.c", "   3 |  .run = helper,"), [1]);
        assert_eq!(of("x.c", "   3 |  .run = other,"), [0]);
        assert_eq!(of("y.c", "   3 |  .run = helper,"), [0]);
        assert_eq!(of("x.c", "note | helper"), [0]);
        let noted = "   3 |  x\ny.h:7:1: note: declared here\n   7 | int helper(int x);";
        assert_eq!(of("x.c", noted), [0], "what a note shows is of another file");
        let text = "x.c:3:2: error: incompatible with 'int (struct s c)'\n   3 |  .run = helper,\n";
        let both: Vec<_> = body.of_messages(text, &[]).into_iter().collect();
        assert_eq!(both, [0, 1], "who edits its body only may be innocent");
    }

    #[test]
    fn a_declaration_that_a_compiler_points_at_says_who_changed_it() {
        let head = "@@ -8,4 +8,5 @@\n-static int helper(int x)\n+static int helper(int x,\n+\t\tint y)\n {\n \treturn x;\n }\n";
        let origins = origins(&[STRUCTURE, head]);
        let made_from = ["x.c".to_owned()];
        let of = |text: &str| origins.of_messages(text, &made_from).into_iter().collect::<Vec<_>>();
        let clang = "y.c:3:2: error: too few arguments to function call, expected 2, have 1\n   3 |  g();\n";
        assert_eq!(of(clang), [0, 1], "nothing says which one it was");
        assert_eq!(of(&format!("{clang}x.c:8:12: note: 'helper' declared here\n")), [1]);
        assert_eq!(of(&format!("{clang}z.h:8:12: note: 'helper' declared here\n")), [0, 1]);
        assert_eq!(of(&format!("{clang}x.c:14:5: note: 'f' declared here\n")), [0, 1]);
        let gcc =
            "y.c:3:2: error: too few arguments to function \u{2018}helper\u{2019}\nx.c:8:12: note: declared here\n";
        assert_eq!(of(gcc), [1]);
    }
}
