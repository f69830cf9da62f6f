//! A folder of patches: in the order of its `series` file if it has one, else in the order of their names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Taker, quilt};
use crate::outcome::Ending;
use crate::ui::count;

/// How patches in a folder are called; each may have `.gz` behind it.
const ENDINGS: [&str; 5] = [".patch", ".diff", ".mbox", ".mbx", ".eml"];

/// Takes the patches of a folder, which the user calls `typed`.
pub fn take(taker: &mut Taker, folder: &Path, typed: &Path) -> Result<()> {
    for series in [folder.join(quilt::SERIES), folder.join("patches").join(quilt::SERIES)] {
        if series.is_file() {
            let what = typed.join(series.strip_prefix(folder).unwrap_or(&series));
            return taker.any(&series, &what.display().to_string());
        }
    }
    let (mut patches, mut others) = (Vec::<PathBuf>::new(), 0);
    let cannot = || format!("cannot list {}", typed.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let is_patch = ENDINGS.iter().any(|ending| plain.ends_with(ending)) && !name.starts_with('.');
        if is_patch && path.is_file() {
            patches.push(path);
        } else {
            others += 1;
        }
    }
    if patches.is_empty() {
        let text = format!(
            "{} has no patches: they are called *.patch, *.diff or *.mbox, or a file `series` names them",
            typed.display()
        );
        return Err(Ending::usage(text));
    }
    patches.sort();
    for path in patches {
        let name = path.file_name().map_or(typed.to_owned(), |name| typed.join(name));
        let what = name.display().to_string();
        if is_cover_letter(taker, &path, &what)? {
            taker.note(format!("{what} changes nothing and was left out: a cover letter"));
        } else {
            taker.any(&path, &what)?;
        }
    }
    if others > 0 {
        let others = count(others, "other entry was", "other entries were");
        taker.note(format!("{}: {others} left out", typed.display()));
    }
    Ok(())
}

/// `git format-patch --cover-letter` puts one beside the patches.
fn is_cover_letter(taker: &mut Taker, path: &Path, what: &str) -> Result<bool> {
    let is_first = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("0000-"));
    if !is_first {
        return Ok(false);
    }
    let (text, _) = taker.budget.file(path, what)?;
    Ok(!super::mbox::has_change(&text))
}
