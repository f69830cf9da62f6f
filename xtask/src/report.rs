//! What remains of an end-to-end run: one page for people, and files for other programs.
//!
//! Everything is made from the [`RunRecord`] alone, so the results of several machines can be put together and
//! reported as one run.

pub mod clock;
mod html;
mod junit;
pub mod layout;
mod markdown;
mod merge;

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::e2e::record::RunRecord;

pub use merge::merge;

/// The file that other runs of this tool read.
pub const RESULTS: &str = "results.json";
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

/// Text whose control characters, which neither XML nor HTML allow, can be seen.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| !matches!(c, '\n' | '\t') && (c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'));
    if text.contains(is_bad) {
        Cow::Owned(text.replace(is_bad, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Text with the characters replaced that mean something in XML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
