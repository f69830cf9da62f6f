//! For a patch that is refused: a second patch, to be applied on top of it, that goes the way which the refusals ask for.
//!
//! It is a skeleton. What can be read off the author's text is in it: which member becomes a shadow variable and where it
//! is used, which value a callback has to set, which function needs another name. Whether that is right is for a person to
//! say, so nothing applies it, and it replaces no file.

mod callbacks;
mod draft;
mod shadow;
mod untraced;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::codes::{patch, select};
use kpatch_core::{Refusal, names};

use crate::build::patchset;
use crate::build::patchset::apply::{Copies, lines_of};
use crate::outcome::Ending;
use draft::{Draft, File};

/// How many names are tried for the file.
const MOST: usize = 99;

/// A suggestion, and which of the refusals it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// The text of the patch.
    pub text: String,
    /// For each refusal whether it is about it.
    pub covers: Vec<bool>,
}

/// The refusals of an error with the place of the suggestion, if there is any. Nothing for an error of another kind.
///
/// # Errors
/// A file that cannot be read or written.
pub fn beside(
    error: &anyhow::Error,
    patches: &[PathBuf],
    source: &Path,
    folder: &Path,
) -> Result<Option<anyhow::Error>> {
    let Some(Ending::Refused(refusals)) = error.downcast_ref::<Ending>() else {
        return Ok(None);
    };
    let Some(suggestion) = suggest(patches, source, refusals)? else {
        return Ok(None);
    };
    let path = written(&suggestion, patches, folder)?;
    let told = refusals.iter().zip(&suggestion.covers).map(|(refusal, covered)| {
        let place = covered.then(|| path.display().to_string());
        Refusal {
            suggested: place,
            ..refusal.clone()
        }
    });
    Ok(Some(Ending::Refused(told.collect()).into()))
}

/// What there is to suggest.
///
/// # Errors
/// A file that cannot be read, or patches that do not apply.
pub fn suggest(patches: &[PathBuf], source: &Path, refusals: &[Refusal]) -> Result<Option<Suggestion>> {
    let set = patchset::read(patches)?;
    let mut copies = Copies::default();
    for change in &set.files {
        copies.add(source, change)?;
    }
    if !copies.refusals.is_empty() {
        return Ok(None);
    }
    let mut draft = Draft::default();
    for (path, lines) in &copies.files {
        let Some(lines) = lines else { continue };
        let before = fs::read(source.join(path)).unwrap_or_default();
        draft.files.extend(File::new(path, &lines_of(&before), lines));
    }
    let covers: Vec<bool> = refusals.iter().map(|refusal| derive(&mut draft, refusal)).collect();
    draft.finish();
    let told = refusals.iter().zip(&covers).filter(|(_, covered)| **covered);
    let told: Vec<&Refusal> = told.map(|(refusal, _)| refusal).collect();
    let diff = draft.diff();
    if diff.is_empty() {
        return Ok(None);
    }
    Ok(Some(Suggestion {
        text: heading(&told) + &diff,
        covers,
    }))
}

fn derive(draft: &mut Draft, refusal: &Refusal) -> bool {
    let Some(symbol) = refusal.at.symbol.as_deref() else {
        return false;
    };
    let file = refusal.at.file.as_deref().unwrap_or_default();
    let name = names::plain(symbol);
    let code = refusal.code;
    if code == patch::LAYOUT_CHANGED {
        symbol.starts_with("struct ") && shadow::member(draft, name)
    } else if code == select::DATA_CHANGED {
        callbacks::value(draft, file, name)
    } else if code == select::INIT_CODE {
        callbacks::boot(draft, file, name)
    } else if code == select::NO_FTRACE_SITE || code == select::EXPORTED_UNTRACED {
        untraced::copy(draft, file, name)
    } else {
        false
    }
}

/// What stands before the changes; nobody who applies the patch reads it.
fn heading(refusals: &[&Refusal]) -> String {
    let mut text = "Suggested by kpatch, to be applied after the patch that was refused. It is a skeleton: read it, edit it, and\n\
                    build again with both patches.\n\n"
        .to_owned();
    for refusal in refusals {
        let symbol = refusal.at.symbol.as_deref().unwrap_or_default();
        text += &format!("* {} {symbol}\n", refusal.code);
    }
    text + "\n"
}

/// Writes it beside the last patch, under a name that nobody has.
fn written(suggestion: &Suggestion, patches: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let last = patches.last().and_then(|path| path.file_stem());
    let stem = last.map_or_else(|| "fix".into(), |stem| stem.to_string_lossy().into_owned());
    for number in 1..=MOST {
        let number = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let path = folder.join(format!("{stem}.suggested{number}.patch"));
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&path);
        match file {
            Ok(mut file) => {
                let cannot = || format!("cannot write {}", path.display());
                file.write_all(suggestion.text.as_bytes()).with_context(cannot)?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }
    let text = format!("{} has {MOST} suggestions for this patch already", folder.display());
    Err(Ending::infrastructure(text))
}

#[cfg(test)]
mod tests;
