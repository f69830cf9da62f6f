//! Rules of the house that no compiler checks: no layer imports one above it.

use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the bottom to the top. What no row names lies below all of them: how programs are started, how the
/// user is spoken to, how a run ends.
const LAYERS: [&[&str]; 5] = [
    &["supply"],
    &["build"],
    &["prove"],
    &["package"],
    &["summary", "commands", "cli", "run", "main"],
];

/// The layer of a module at the root of the crate, counted from 1.
fn layer(module: &str) -> usize {
    let named = LAYERS.iter().position(|modules| modules.contains(&module));
    named.map_or(0, |index| index + 1)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is part of the crate") {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The module path of a file below `src`, e.g. `build`, `kbuild`, `tu`.
fn module_path(file: &Path) -> Vec<String> {
    let parts = file.with_extension("");
    let parts = parts.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// Names and punctuation of a text without comments, with their lines.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut rest = line.split("//").next().unwrap_or_default().trim_start();
        while let Some(first) = rest.chars().next() {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = match rest {
                _ if is_name(first) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
                _ if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            found.push((index + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// The modules at the root of the crate that a file names: after `crate::`, also in a group, and after as many `super::`
/// as lead there.
fn used(text: &str, depth: usize) -> Vec<(usize, String)> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut climbed = 0;
    for (at, (line, token)) in tokens.iter().enumerate() {
        let is_path = tokens.get(at + 1).is_some_and(|(_, next)| *next == "::");
        climbed = match *token {
            "super" if is_path => climbed + 1,
            "::" => climbed,
            _ => 0,
        };
        let at_root = *token == "crate" || *token == "super" && climbed >= depth;
        if !at_root || !is_path {
            continue;
        }
        match tokens.get(at + 2) {
            Some((_, "{")) => found.extend(heads(&tokens[at + 3..])),
            Some((_, name)) => found.push((*line, (*name).to_owned())),
            None => {}
        }
    }
    found
}

/// The first name of each path in a group, up to the brace that ends it.
fn heads(group: &[(usize, &str)]) -> Vec<(usize, String)> {
    let (mut found, mut depth, mut first) = (Vec::new(), 1, true);
    for (line, token) in group {
        match *token {
            "{" => depth += 1,
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "," if depth == 1 => first = true,
            name if depth == 1 && first => {
                found.push((*line, name.to_owned()));
                first = false;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn no_layer_uses_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let files = sources(&root);
    assert!(files.len() > 50, "{} files", files.len());
    for file in files {
        let name = file.strip_prefix(&root).expect("it is under the root");
        let path = module_path(name);
        let Some(own) = path.first() else { continue };
        let text = fs::read_to_string(&file).expect("sources are text");
        for (line, module) in used(&text, path.len()) {
            if layer(&module) > layer(own) {
                wrong.push(format!("{}:{line}: {own} uses {module}", name.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn groups_and_super_hide_nothing() {
    let names = |text, depth| used(text, depth).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names("use crate::build::kbuild;", 2), ["build"]);
    assert_eq!(
        names("use crate::{\n    build::{kbuild, tu::Tu},\n    prove, sh,\n};", 2),
        ["build", "prove", "sh"]
    );
    assert_eq!(names("use super::super::prove::vm;", 2), ["prove"]);
    assert_eq!(names("use super::{place, prove};", 1), ["place", "prove"]);
    assert!(names("use super::place; // crate::prove", 2).is_empty());
}
