//! What a user gives as patches, as one list of patch files in the order in which they are applied.
//!
//! Patch files, folders, mailboxes, series files of quilt and ranges of git commits all become that list. Everything behind
//! this reads plain patch files only; what was in another form lies as such a file in the work folder.

mod folder;
mod git;
mod mbox;
mod quilt;
mod strip;
mod text;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::outcome::Ending;
use text::Budget;

/// So many patches are not a series but a mistake, such as a mailbox of years.
const MOST_PATCHES: usize = 10_000;

/// What was given.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// Files and folders; `-` is standard input.
    Paths(&'a [PathBuf]),
    /// The commits of a range, `A..B`, of a git repository.
    Git(&'a Path, &'a str),
}

/// The patches.
#[derive(Debug, Default)]
pub struct Taken {
    /// Patch files in order; each is one patch of the series.
    pub patches: Vec<PathBuf>,
    /// What was left out, or put in another order.
    pub notes: Vec<String>,
}

/// Reads what was given. Patches that are not files of their own go into files in `work`.
///
/// # Errors
/// [`Ending::Usage`] for what is not there, is empty, too large, or cannot be told; [`Ending::Refused`] for commits that are
/// no patches; anything else if a file cannot be read or written.
pub fn take(given: Given<'_>, work: &Path) -> Result<Taken> {
    let mut taker = Taker {
        folder: work.join("series"),
        budget: Budget::default(),
        taken: Taken::default(),
    };
    match given {
        Given::Paths(paths) => {
            for path in paths {
                taker.path(path)?;
            }
        }
        Given::Git(repository, range) => git::take(&mut taker, repository, range)?,
    }
    Ok(taker.taken)
}

/// What the patches are together, for a name: that of the only file or folder, or the range.
pub fn name_of(given: Given<'_>) -> Vec<PathBuf> {
    match given {
        Given::Git(_, range) => vec![PathBuf::from(format!("{range}.patch").replace('/', "_"))],
        Given::Paths(paths) => paths.iter().map(|path| own_name(path)).collect(),
    }
}

/// A folder, or the file `series` in one, is called like the folder.
fn own_name(path: &Path) -> PathBuf {
    let is_series = path.file_name().is_some_and(|name| name == quilt::SERIES);
    let folder = if is_series { path.parent() } else { Some(path) };
    let folder = folder.filter(|folder| is_series || folder.is_dir());
    let Some(folder) = folder.and_then(|folder| folder.canonicalize().ok()) else {
        return path.to_owned();
    };
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".patch");
    name.into()
}

/// Collects patches.
struct Taker {
    folder: PathBuf,
    budget: Budget,
    taken: Taken,
}

impl Taker {
    fn note(&mut self, note: impl Into<String>) {
        self.taken.notes.push(note.into());
    }

    /// A patch that is a file of its own.
    fn file(&mut self, path: PathBuf) -> Result<()> {
        if self.taken.patches.len() >= MOST_PATCHES {
            return Err(Ending::usage(format!(
                "there are more than {MOST_PATCHES} patches: name fewer at a time"
            )));
        }
        self.taken.patches.push(path);
        Ok(())
    }

    /// A patch that is none yet.
    fn save(&mut self, title: &str, text: &[u8]) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let number = self.taken.patches.len() + 1;
        let file = self.folder.join(format!("{number:04}-{}.patch", slug(title)));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.file(file)
    }

    fn path(&mut self, path: &Path) -> Result<()> {
        if path == Path::new("-") {
            return self.piped(Box::new(io::stdin()), "standard input");
        }
        let cannot = || format!("cannot read patch {}", path.display());
        let kind = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Ending::usage(format!("no such patch: {}", path.display())));
            }
            kind => kind.with_context(cannot)?,
        };
        if kind.is_file() {
            return self.any(&path.canonicalize().with_context(cannot)?, &path.display().to_string());
        }
        if kind.is_dir() {
            return folder::take(self, &path.canonicalize().with_context(cannot)?, path);
        }
        let file = fs::File::open(path).with_context(cannot)?;
        self.piped(Box::new(file), &path.display().to_string())
    }

    /// What comes through a pipe can be read once only, and goes into a file.
    fn piped(&mut self, from: Box<dyn Read>, what: &str) -> Result<()> {
        let number = self.taken.patches.len();
        let folder = self.folder.with_file_name("piped").join(number.to_string());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let text = self.budget.read(from, what)?;
        let file = folder.join("piped.patch");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.any(&file, what)
    }

    /// A file in whatever form; `what` is how the user calls it.
    fn any(&mut self, path: &Path, what: &str) -> Result<()> {
        let (text, packed) = self.budget.file(path, what)?;
        let is_series = path.file_name().is_some_and(|name| name == quilt::SERIES);
        if is_series || quilt::is_list(&text) {
            return quilt::take(self, path, &text, what);
        }
        if mbox::is_mailbox(&text) {
            return mbox::take(self, &text, what);
        }
        if packed {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            return self.save(stem.trim_end_matches(".patch").trim_end_matches(".diff"), &text);
        }
        self.file(path.to_owned())
    }
}

/// A title as the name of a file.
fn slug(title: &str) -> String {
    const LONGEST: usize = 52;
    let mut slug = String::new();
    for c in title.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') => slug.push(c),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
        if slug.len() >= LONGEST {
            break;
        }
    }
    let slug = slug.trim_matches(['-', '.']);
    if slug.is_empty() {
        "patch".into()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests;
