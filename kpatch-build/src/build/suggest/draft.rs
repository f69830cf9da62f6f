//! Files that a suggestion changes, line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use similar::TextDiff;

use crate::build::patchset::line::Line;

/// All files of the patch.
#[derive(Debug, Default)]
pub struct Draft {
    /// By path relative to the source tree.
    pub files: BTreeMap<String, File>,
}

/// A file, as the author's patch leaves it and as the suggestion does.
#[derive(Debug, Default)]
pub struct File {
    patched: String,
    /// Before the author's patch.
    pub orig: Vec<String>,
    /// With the suggestion; whether the author's patch has brought the line.
    pub lines: Vec<(String, bool)>,
    /// Headers that it has to include.
    pub includes: BTreeSet<&'static str>,
    /// What goes to its end.
    pub end: Vec<String>,
    /// Calls for the moment before the object is patched, and for that after it is unpatched.
    pub before_patch: Vec<String>,
    /// See above.
    pub after_unpatch: Vec<String>,
}

impl Draft {
    /// The file that a refusal is about: a source, or the object that it is compiled to.
    pub fn of(&mut self, file: &str) -> Option<&mut File> {
        let stem = |path: &str| path.rsplit_once('.').map_or(path, |(stem, _)| stem).to_owned();
        let path = self.files.keys().find(|path| *path == file);
        let path = path.or_else(|| self.files.keys().find(|path| stem(path) == stem(file)));
        let path = path.cloned()?;
        self.files.get_mut(&path)
    }

    /// Puts what was collected for each file in its place.
    pub fn finish(&mut self) {
        for file in self.files.values_mut() {
            file.callbacks();
            let end = std::mem::take(&mut file.end);
            file.lines.extend(end.into_iter().map(|line| (line, false)));
            for header in std::mem::take(&mut file.includes) {
                file.include(header);
            }
        }
    }

    /// The changes as a unified diff.
    pub fn diff(&self) -> String {
        let diffs = self.files.iter().map(|(path, file)| {
            let now = file.text();
            let diff = TextDiff::from_lines(&file.patched, &now);
            let mut unified = diff.unified_diff();
            unified.header(&format!("a/{path}"), &format!("b/{path}")).to_string()
        });
        diffs.collect()
    }
}

impl File {
    /// From its lines; nothing if it is no text.
    pub fn new(path: &str, orig: &[Line], patched: &[Line]) -> Option<(String, File)> {
        let text = |line: &Line| String::from_utf8(line.text.clone()).ok();
        let lines = patched.iter().map(|line| Some((text(line)?, line.origin.is_none())));
        let lines: Vec<(String, bool)> = lines.collect::<Option<_>>()?;
        let mut file = File {
            orig: orig.iter().map(text).collect::<Option<_>>()?,
            lines,
            ..File::default()
        };
        file.patched = file.text();
        Some((path.to_owned(), file))
    }

    fn text(&self) -> String {
        self.lines.iter().map(|(line, _)| line.as_str()).collect()
    }

    /// The lines alone.
    pub fn now(&self) -> Vec<&str> {
        self.lines.iter().map(|(line, _)| line.as_str()).collect()
    }

    /// Puts lines of the suggestion before a line.
    pub fn insert(&mut self, at: usize, text: &str) {
        let lines = text.split_inclusive('\n').map(|line| (line.to_owned(), false));
        drop(self.lines.splice(at..at, lines));
    }

    /// Adds text behind everything else.
    pub fn append(&mut self, text: &str) {
        self.end.extend(text.split_inclusive('\n').map(str::to_owned));
    }

    /// Lines that the author's patch takes away from a function or beside all functions.
    pub fn removed(&self) -> Vec<&str> {
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for (line, added) in &self.lines {
            if !added {
                *left.entry(line.as_str()).or_default() += 1;
            }
        }
        let mut gone = Vec::new();
        for line in &self.orig {
            match left.get_mut(line.as_str()) {
                Some(count) if *count > 0 => *count -= 1,
                _ => gone.push(line.as_str()),
            }
        }
        gone
    }

    fn callbacks(&mut self) {
        let moments = [
            (
                "int",
                "kpatch_set_up",
                "KLP_PRE_PATCH_CALLBACK",
                std::mem::take(&mut self.before_patch),
            ),
            (
                "void",
                "kpatch_put_back",
                "KLP_POST_UNPATCH_CALLBACK",
                std::mem::take(&mut self.after_unpatch),
            ),
        ];
        for (result, name, mark, calls) in moments {
            if calls.is_empty() {
                continue;
            }
            self.includes.insert("<linux/livepatch_helpers.h>");
            let calls: String = calls.iter().map(|call| format!("\t{call}\n")).collect();
            let end = if result == "int" { "\treturn 0;\n" } else { "" };
            self.append(&format!(
                "\nstatic {result} {name}(struct klp_object *object)\n{{\n{calls}{end}}}\n{mark}({name});\n"
            ));
        }
    }

    fn include(&mut self, header: &str) {
        let line = format!("#include {header}\n");
        if self.lines.iter().any(|(known, _)| *known == line) {
            return;
        }
        let is_include = |line: &str| line.starts_with("#include <linux/");
        let now = self.now();
        let last = now.iter().rposition(|line| is_include(line));
        let last = last.or_else(|| now.iter().rposition(|line| line.starts_with("#include")));
        self.insert(last.map_or(0, |last| last + 1), &line);
    }
}

/// The lines of a function: from the first one of its head to the brace in the first column that ends it.
pub fn function(lines: &[&str], name: &str) -> Option<Range<usize>> {
    let heads = lines.iter().enumerate().filter(|(_, line)| {
        let starts = line.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let called = line
            .split_once('(')
            .is_some_and(|(before, _)| last_word(before) == name);
        starts && called && !line.trim_end().ends_with(';')
    });
    for (head, _) in heads {
        let open =
            (head..lines.len()).find(|at| lines[*at].starts_with('{') || lines[*at].trim_end().ends_with(';'))?;
        if !lines[open].starts_with('{') {
            continue;
        }
        let end = (open..lines.len()).find(|at| lines[*at].starts_with('}'))?;
        let is_head =
            |line: &str| line.starts_with(|first: char| first.is_ascii_alphabetic()) && !line.contains([';', ':', '(']);
        let start = (0..head)
            .rev()
            .take_while(|at| is_head(lines[*at]))
            .last()
            .unwrap_or(head);
        return Some(start..end + 1);
    }
    None
}

/// The function around a line.
pub fn around(lines: &[&str], at: usize) -> Option<Range<usize>> {
    let open = (0..=at).rev().find(|line| lines[*line].starts_with(['{', '}']))?;
    if !lines[open].starts_with('{') {
        return None;
    }
    let ends_before =
        |line: &str| line.trim().is_empty() || line.starts_with(['}', '#']) || line.trim_end().ends_with("*/");
    let start = (0..open)
        .rev()
        .take_while(|line| !ends_before(lines[*line]))
        .last()
        .unwrap_or(open);
    let end = (at..lines.len()).find(|line| lines[*line].starts_with('}'))?;
    Some(start..end + 1)
}

/// The name at the end of a piece of text.
pub fn last_word(text: &str) -> &str {
    text.trim_end()
        .rsplit(|one: char| !is_part(one))
        .next()
        .unwrap_or_default()
}

/// Whether a name may have it.
pub fn is_part(one: char) -> bool {
    one.is_ascii_alphanumeric() || one == '_'
}

/// The places of a name in a text, as a word of its own.
pub fn places(text: &str, name: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(name).map(|at| at + from) {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        if !before.is_some_and(is_part) && !after.is_some_and(is_part) {
            found.push(at);
        }
        from = at + name.len().max(1);
    }
    found
}

/// The text with each occurrence of a name as a word of its own exchanged.
pub fn renamed(text: &str, from: &str, to: &str) -> String {
    let mut new = text.to_owned();
    for at in places(text, from).into_iter().rev() {
        new.replace_range(at..at + from.len(), to);
    }
    new
}
