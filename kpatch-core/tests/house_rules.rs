//! Rules of the house that no compiler checks: layers, machine numbers, file headers, and the list of codes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The phases in their order: one may use those before it.
const PHASES: [&str; 7] = ["read", "correlate", "compare", "select", "resolve", "emit", "klp"];

/// Uses of a later phase, with the reason.
const LATER: [(&str, &str, &str); 0] = [];

/// Files that may name relocation types and machines outside `arch/`, with the reason.
const MACHINE_NAMES: [(&str, &str); 0] = [];

/// Starts of the names of sections that only some architectures have.
const SECTIONS_OF_SOME: [&str; 10] = [
    "\".orc_",
    "\"runtime_",
    "\".altinstr",
    "\".parainstructions",
    "\".retpoline_sites",
    "\".return_sites",
    "\"__ftr_",
    "\"__lwsync_fixup",
    "\".toc",
    "\".s390_",
];

/// Files that may name such sections outside `arch/`, with the reason.
const SECTION_NAMES: [(&str, &str); 1] = [(
    "intermediate/sizes.rs",
    "which table a variable of kpatch's driver is for",
)];

/// Lines of a file.
const LONGEST: usize = 600;

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the package is in the workspace").to_owned()
}

/// All Rust files under some folders of the workspace, by their path in it.
fn sources(folders: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is part of the workspace") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it is under the root");
                let text = fs::read_to_string(&path).expect("sources are text");
                found.insert(name.to_string_lossy().into_owned(), text);
            }
        }
    }
    assert!(!found.is_empty(), "no file under {folders:?}");
    found
}

/// The part of a file before its tests, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines
        .map(|line| line.split("//").next().unwrap_or_default())
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

#[test]
fn machines_are_named_in_one_folder_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&["kpatch-core/src"]) {
        let exempt = MACHINE_NAMES.iter().any(|(name, _)| file.ends_with(name));
        if file.contains("/arch/") || exempt {
            continue;
        }
        for (line, code) in code(&text) {
            if ["R_X86_64", "R_PPC64", "R_390", "R_AARCH64", "R_LARCH", "EM_"]
                .iter()
                .any(|name| code.contains(name))
            {
                wrong.push(format!("{file}:{line}: {code}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tables_of_one_architecture_are_named_in_one_folder_only() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&["kpatch-core/src"]) {
        let exempt = SECTION_NAMES.iter().any(|(name, _)| file.ends_with(name));
        if file.contains("/arch/") || file.ends_with("/tests.rs") || exempt {
            continue;
        }
        for (line, code) in code(&text) {
            if SECTIONS_OF_SOME.iter().any(|name| code.contains(name)) {
                wrong.push(format!("{file}:{line}: {code}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_phase_uses_a_later_one() {
    let mut wrong = Vec::new();
    for (file, text) in sources(&["kpatch-core/src"]) {
        let Some(own) = PHASES
            .iter()
            .position(|phase| file.starts_with(&format!("kpatch-core/src/{phase}/")))
        else {
            continue;
        };
        let code: Vec<&str> = code(&text).map(|(_, line)| line).collect();
        for used in used(&code.join("\n")) {
            let later = PHASES.iter().skip(own + 1).any(|phase| *phase == used);
            let known = LATER
                .iter()
                .any(|(name, phase, _)| file.ends_with(name) && *phase == used);
            if later && !known {
                wrong.push(format!("{file} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The modules at the root of the crate that some code names, also in a group: `use crate::{read, select::Reason};`.
fn used(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let after = &code[at + path.len()..];
        match after.strip_prefix('{') {
            Some(group) => found.extend(heads(group)),
            None => found.push(head(after)),
        }
    }
    found
}

/// The first name of each path in a group, up to the brace that ends it.
fn heads(group: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 1, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            found.push(head(&group[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn head(path: &str) -> &str {
    let path = path.trim_start();
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    &path[..end.unwrap_or(path.len())]
}

#[test]
fn groups_hide_no_use() {
    assert_eq!(used("use crate::read::Object;"), ["read"]);
    assert_eq!(
        used("use crate::{\n    read::{Object, Atom},\n    select, names,\n};"),
        ["read", "select", "names", ""]
    );
}

/// Where the rules about files hold.
const EVERYWHERE: &[&str] = &[
    "kpatch-core/src",
    "kpatch-core/tests",
    "kpatch-build/src",
    "kpatch-runtime/src",
    "xtask/src",
];

#[test]
fn each_file_says_why_it_exists() {
    let all = sources(EVERYWHERE);
    let without: Vec<_> = all.iter().filter(|(_, text)| !text.starts_with("//! ")).collect();
    assert!(without.is_empty(), "{:?}", names(&without));
}

#[test]
fn files_are_short() {
    let all = sources(EVERYWHERE);
    let long: Vec<_> = all.iter().filter(|(_, text)| text.lines().count() > LONGEST).collect();
    assert!(long.is_empty(), "{:?}", names(&long));
}

fn names<'a>(files: &[(&'a String, &String)]) -> Vec<&'a str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}
