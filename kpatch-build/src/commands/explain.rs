//! `explain CODE`: what a code means and what to do about it.

use anyhow::Result;
use kpatch_core::{Blame, codes};
use serde::Serialize;

use super::Context;
use crate::outcome::Ending;

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
        return Err(Ending::usage(format!(
            "unknown code `{name}`; codes look like select.data-changed, and docs/CODES.md lists them"
        )));
    }
    if context.common.json {
        return context.ui.document(Explanations { codes: named });
    }
    for one in &named {
        let Explained {
            code, meaning, remedy, ..
        } = one;
        context.ui.say(format!("{code} ({}): {meaning}", one.blame.name()));
        context.ui.say(format!("  what to do: {remedy}"));
        if let Some(by_hand) = one.by_hand {
            context.ui.say(format!("  by hand:    {by_hand}"));
        }
    }
    Ok(())
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
