//! `config`: every setting with its value and where that comes from.

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::cli::settings::{Origin, Setting, Settings};

#[derive(Serialize)]
struct Shown {
    file: Option<String>,
    settings: Vec<Setting>,
}

/// Runs `config`.
pub fn run(settings: &Settings, context: &Context<'_>) -> Result<()> {
    let all = settings.all();
    let file = settings.file();
    if context.common.json {
        return context.ui.document(Shown {
            file: file.map(|file| file.display().to_string()),
            settings: all,
        });
    }
    for setting in &all {
        let from = match &setting.from {
            Origin::Environment(variable) => format!("environment ({variable})"),
            Origin::File(_) => "configuration file".to_owned(),
            Origin::BuiltIn => "default".to_owned(),
        };
        context
            .ui
            .say(format!("{:10} {:34} {from}", setting.name, setting.value));
    }
    if let Some(file) = file {
        let state = if file.is_file() { "" } else { " (does not exist)" };
        context.ui.say(format!("configuration file: {}{state}", file.display()));
    }
    Ok(())
}

#[cfg(test)]
pub(super) fn documents() -> Vec<serde_json::Value> {
    let origins = [
        Origin::Environment("KPATCH_KERNEL".into()),
        Origin::File("/c.yaml".into()),
        Origin::BuiltIn,
    ];
    let setting = |from: Origin| Setting {
        name: "kernel",
        value: "6.12".into(),
        from,
    };
    let shown = Shown {
        file: Some("/c.yaml".into()),
        settings: origins.map(setting).into(),
    };
    vec![serde_json::to_value(crate::ui::Document::new(shown)).unwrap()]
}
