//! docs/CODES.md is written from the table of codes, and every code of the table is used.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use kpatch_core::codes;

/// Set, the test writes the document instead of comparing it.
const UPDATE: &str = "KPATCH_UPDATE_DOCS";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    let mut text = format!(
        "# Codes of refusals and errors\n\n\
         This page is written from the table in kpatch-core/src/codes/: change it there, then run\n\
         `{UPDATE}=1 cargo test -p kpatch-core --test codes`.\n\n\
         Codes are stable; the sentences beside them may change at any time. A refusal names file, section and symbol\n\
         where it can. Blame says who has to act, and decides the exit code: the *patch* (2), the *environment* (69:\n\
         kernel, compiler, files that were passed in), or a *defect* of this program (70). The worst one counts.\n\n\
         | Code | Blame | Meaning | What to do |\n|------|-------|---------|------------|\n"
    );
    for code in codes::all() {
        let (blame, meaning, remedy) = (code.blame().name(), code.meaning(), code.remedy());
        writeln!(text, "| `{code}` | {blame} | {meaning} | {remedy} |").expect("a string takes all");
    }
    text
}

#[test]
fn the_document_is_the_table() {
    let file = root().join("docs/CODES.md");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, document()).expect("the document can be written");
    }
    let written = fs::read_to_string(&file).expect("the document is there");
    assert!(
        written == document(),
        "docs/CODES.md is stale: run `{UPDATE}=1 cargo test -p kpatch-core --test codes`"
    );
}

/// A constant that nobody uses is a promise that nobody keeps.
#[test]
fn every_code_is_used() {
    let mut sources = String::new();
    let mut open = ["kpatch-core/src", "kpatch-build/src"]
        .map(|folder| root().join(folder))
        .to_vec();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is part of the workspace") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() && !path.ends_with("kpatch-core/src/codes") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &fs::read_to_string(&path).expect("sources are text");
            }
        }
    }
    let mut tables = String::new();
    for entry in fs::read_dir(root().join("kpatch-core/src/codes")).expect("the tables are there") {
        let path = entry.expect("a folder can be listed").path();
        tables += &fs::read_to_string(path).expect("tables are text");
    }
    for code in codes::all() {
        let row = format!(" = \"{code}\", ");
        let constant = tables
            .split(&row)
            .next()
            .and_then(|before| before.rsplit([' ', '\n']).next());
        let constant = constant.expect("a row has its constant");
        let used = sources
            .split(constant)
            .skip(1)
            .any(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        assert!(used, "{code}: nobody uses {constant}");
    }
}
