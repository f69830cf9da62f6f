//! A livepatch as the kernel shows it.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// How far a livepatch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Each task runs the new functions.
    InEffect,
    /// Some tasks run the new functions, others the old ones; it is being enabled.
    Enabling,
    /// The same on the way back.
    Disabling,
    /// No task runs the new functions.
    Disabled,
}

impl State {
    /// As a person reads it.
    pub fn words(self) -> &'static str {
        match self {
            State::InEffect => "in effect",
            State::Enabling => "in transition (enabling)",
            State::Disabling => "in transition (disabling)",
            State::Disabled => "disabled",
        }
    }
}

/// A function that a livepatch replaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Function {
    /// `vmlinux`, or the name of a module.
    pub object: String,
    /// Its name in kallsyms.
    pub name: String,
    /// Which one of that name in the object, counted from 1; 0 says that there is only one.
    pub sympos: u64,
}

/// A livepatch that the kernel has.
#[derive(Debug, Clone, Serialize)]
pub struct Livepatch {
    /// The name of its module.
    pub name: String,
    /// How far it is.
    pub state: State,
    /// Whether it replaces all others; kernels before 6.11 do not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// What it replaces, by object and name.
    pub functions: Vec<Function>,
    /// Objects of it that are not loaded: it patches them when they come.
    pub waiting_for: Vec<String>,
}

impl Livepatch {
    /// Reads what sysfs has of one; none if it is not there, or goes meanwhile.
    pub fn read(folder: &Path, name: &str) -> Option<Self> {
        let flag = |attribute: &str| {
            let text = fs::read_to_string(folder.join(attribute)).ok()?;
            Some(text.trim() == "1")
        };
        let state = match (flag("enabled")?, flag("transition")?) {
            (true, false) => State::InEffect,
            (true, true) => State::Enabling,
            (false, true) => State::Disabling,
            (false, false) => State::Disabled,
        };
        let mut functions = Vec::new();
        let mut waiting_for = Vec::new();
        for object in folders(folder) {
            let inside = folder.join(&object);
            let patched = fs::read_to_string(inside.join("patched")).unwrap_or_default();
            if patched.trim() == "0" && state == State::InEffect {
                waiting_for.push(object.clone());
            }
            functions.extend(folders(&inside).iter().map(|entry| function(&object, entry)));
        }
        functions.sort();
        Some(Livepatch {
            name: name.to_owned(),
            state,
            replace: flag("replace"),
            functions,
            waiting_for,
        })
    }
}

fn folders(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The folder of a function is called `name,sympos`.
fn function(object: &str, entry: &str) -> Function {
    let (name, sympos) = entry.rsplit_once(',').unwrap_or((entry, "0"));
    Function {
        object: object.to_owned(),
        name: name.to_owned(),
        sympos: sympos.parse().unwrap_or_default(),
    }
}
