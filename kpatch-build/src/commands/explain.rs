//! `explain CODE`: what a code means and what to do about it.

use std::collections::BTreeSet;

use anyhow::Result;
use kpatch_core::{Blame, codes};
use serde::Serialize;

use super::Context;
use crate::outcome::Ending;
use crate::program;

#[derive(Serialize)]
struct Explanations {
    codes: Vec<Explained>,
}

#[derive(Serialize)]
struct Explained {
    code: &'static str,
    blame: Blame,
    meaning: &'static str,
    remedy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_hand: Option<&'static str>,
}

/// Runs `explain`. A prefix such as `select` explains all of its codes.
pub fn run(name: &str, context: &Context<'_>) -> Result<()> {
    let prefix = format!("{}.", name.trim_end_matches('.'));
    let all = codes::all().into_iter();
    let named: Vec<Explained> = all
        .filter(|code| code.name() == name || code.name().starts_with(&prefix))
        .map(|code| Explained {
            code: code.name(),
            blame: code.blame(),
            meaning: code.meaning(),
            remedy: code.remedy(),
            by_hand: code.by_hand(),
        })
        .collect();
    if named.is_empty() {
        return Err(Ending::usage(unknown(name)));
    }
    if context.common.json {
        return context.ui.document(Explanations { codes: named });
    }
    for one in &named {
        let Explained {
            code, meaning, remedy, ..
        } = one;
        context
            .ui
            .say(format!("{code} (blame: {}): {meaning}", one.blame.name()));
        context.ui.say(format!("  what to do: {remedy}"));
        if let Some(by_hand) = one.by_hand {
            context.ui.say(format!("  by hand:    {by_hand}"));
        }
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    let all: Vec<&str> = codes::all().into_iter().map(|code| code.name()).collect();
    let near: Vec<&str> = all.iter().copied().filter(|code| code.starts_with(name)).collect();
    if !near.is_empty() {
        return format!("no code is just `{name}`; there is {}", near.join(", "));
    }
    let areas: BTreeSet<&str> = all.iter().filter_map(|code| code.split('.').next()).collect();
    let areas: Vec<&str> = areas.into_iter().collect();
    format!(
        "unknown code `{name}`; codes look like select.data-changed, and `{} AREA` explains all of an area: {}",
        program::command("explain"),
        areas.join(", ")
    )
}

#[cfg(test)]
pub(super) fn documents() -> Vec<serde_json::Value> {
    let explained = Explained {
        code: "a.b",
        blame: Blame::Patch,
        meaning: "m",
        remedy: "r",
        by_hand: Some("h"),
    };
    let codes = vec![explained];
    vec![serde_json::to_value(crate::ui::Document::new(Explanations { codes })).unwrap()]
}
