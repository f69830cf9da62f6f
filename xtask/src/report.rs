//! What remains of an end-to-end run: one page for people, and files for other programs.
//!
//! Everything is made from the [`RunRecord`] alone, so the results of several machines can be put together and
//! reported as one run.

pub mod browser;
mod html;
mod junit;
mod markdown;
mod merge;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::e2e::record::RunRecord;

pub use merge::merge;

/// The file that other runs of this tool read.
pub const RESULTS: &str = "results.json";
/// The page.
pub const PAGE: &str = "index.html";

/// Writes all forms of a report.
pub fn write(record: &RunRecord, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let json = serde_json::to_string_pretty(record).context("cannot write down the results")?;
    for (name, text) in [
        (RESULTS, json),
        (PAGE, html::page(record)),
        ("junit.xml", junit::document(record)),
        ("summary.md", markdown::summary(record)),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Text with the characters replaced that mean something in HTML and XML. Control characters, which XML does not
/// allow at all, become visible.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
