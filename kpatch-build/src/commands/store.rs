//! `store ls`, `store gc`, `store verify`.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::cli::{GcArgs, StoreCommand};
use crate::outcome::Ending;
use crate::supply::store::{Entry, GcPolicy, Kind, Problem, Store};
use crate::ui::{count, size};

#[derive(Serialize)]
struct Listed<'a> {
    entries: &'a [Entry],
}

#[derive(Serialize)]
struct Verified<'a> {
    problems: &'a [Problem],
}

/// Runs a `store` command.
pub fn run(command: &StoreCommand, context: &Context<'_>) -> Result<()> {
    // Nobody who looks after a store wants a new one.
    if let Some(root) = context.common.store.as_ref().filter(|root| !root.is_dir()) {
        return Err(Ending::usage(format!("--store {}: no such folder", root.display())));
    }
    let store = context.store()?;
    match command {
        StoreCommand::Ls => ls(&store, context),
        StoreCommand::Gc(args) => gc(args, &store, context),
        StoreCommand::Verify => verify(&store, context),
    }
}

fn ls(store: &Store, context: &Context<'_>) -> Result<()> {
    let entries = store.entries()?;
    if context.common.json {
        return context.ui.document(Listed { entries: &entries });
    }
    let (small, large): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.kind == Kind::Object);
    for entry in large {
        context.ui.say(line(entry));
    }
    if !small.is_empty() {
        context.ui.say(format!(
            "{:>8}  {:>9}  object  {}",
            total(&small),
            "",
            count(small.len(), "cached object", "cached objects")
        ));
    }
    context.ui.say(format!(
        "{:>8}  {}",
        total(&entries.iter().collect::<Vec<_>>()),
        store.root().display()
    ));
    Ok(())
}

fn line(entry: &Entry) -> String {
    let kind = format!("{:?}", entry.kind).to_lowercase();
    let idle = age(Duration::from_secs(entry.idle_seconds));
    let shown = if entry.kind == Kind::Source {
        &entry.name[..entry.name.len().min(12)]
    } else {
        &entry.name
    };
    format!(
        "{:>8}  {idle:>9}  {kind:6}  {shown}  {}",
        size(entry.bytes),
        entry.about
    )
    .trim_end()
    .to_owned()
}

fn total(entries: &[&Entry]) -> String {
    size(entries.iter().map(|entry| entry.bytes).sum())
}

fn age(idle: Duration) -> String {
    match idle.as_secs() {
        0..60 => "now".to_owned(),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
        seconds => count(usize::try_from(seconds / 86_400).unwrap_or(usize::MAX), "day", "days"),
    }
}

#[derive(Serialize)]
struct Collected {
    removed: Vec<Entry>,
    in_use: Vec<Entry>,
    dry_run: bool,
}

fn gc(args: &GcArgs, store: &Store, context: &Context<'_>) -> Result<()> {
    let chosen = store.gc_plan(GcPolicy {
        older_than: args.older_than,
        max_size: args.max_size,
    })?;
    let mut collected = Collected {
        removed: Vec::new(),
        in_use: Vec::new(),
        dry_run: !args.yes,
    };
    for entry in chosen {
        let gone = !args.yes || store.remove(&entry)?;
        if gone {
            collected.removed.push(entry)
        } else {
            collected.in_use.push(entry)
        }
    }
    if context.common.json {
        return context.ui.document(&collected);
    }
    for entry in &collected.removed {
        context.ui.say(line(entry));
    }
    for entry in &collected.in_use {
        context.ui.say(format!("{} (in use, kept)", line(entry)));
    }
    let amount = count(collected.removed.len(), "entry", "entries");
    let size = total(&collected.removed.iter().collect::<Vec<_>>());
    context.ui.say(match args.yes {
        _ if collected.removed.is_empty() => "nothing to remove".to_owned(),
        true => format!("removed {amount}, {size}"),
        false => format!("would remove {amount}, {size}; pass --yes to delete"),
    });
    Ok(())
}

fn verify(store: &Store, context: &Context<'_>) -> Result<()> {
    let problems = context
        .ui
        .phase("verify the store", |phase| store.verify(&|what| phase.message(what)))?;
    if context.common.json {
        context.ui.document(Verified { problems: &problems })?;
    }
    for problem in &problems {
        context.ui.warn(format!("{}: {}", problem.name, problem.what));
    }
    match problems.len() {
        0 => Ok(()),
        damaged => Err(Ending::infrastructure(format!(
            "{} damaged in the store",
            count(damaged, "entry", "entries")
        ))),
    }
}

#[cfg(test)]
pub(super) fn documents() -> Vec<serde_json::Value> {
    use crate::ui::Document;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    std::fs::write(store.root().join("trash/x"), "x").unwrap();
    let mut entries = store.entries().unwrap();
    assert_eq!(entries.len(), 1);
    entries[0].needs = Some("a source".into());
    let problem = Problem {
        name: "n".into(),
        what: "archive changed".into(),
    };
    let collected = Collected {
        removed: entries.clone(),
        in_use: Vec::new(),
        dry_run: true,
    };
    vec![
        serde_json::to_value(Document::new(Listed { entries: &entries })).unwrap(),
        serde_json::to_value(Document::new(collected)).unwrap(),
        serde_json::to_value(Document::new(Verified { problems: &[problem] })).unwrap(),
    ]
}
