//! What can go wrong, for three audiences.
//!
//! A [`Refusal`] is news for the author of the patch: what was asked for is not safe or not possible, and here is
//! what to do about it. An [`Error`] means damaged input or a defect of ours. A panic means something impossible.

use std::fmt;

use serde::Serialize;

use crate::codes::{Blame, Code};
use crate::ignored::Ignored;
use crate::names;

/// Where a refusal or error applies. Each part is filled where it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Subject {
    /// Object or source file, relative to the build or source directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Source line (1-based) where one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Name of the ELF section it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// Symbol (function or object) name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Byte offset inside the section, or inside the symbol when one is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

impl Subject {
    /// A subject that names a file.
    pub fn file(file: impl Into<String>) -> Self {
        Subject {
            file: Some(file.into()),
            ..Subject::default()
        }
    }

    /// The same with a line of the source file.
    #[must_use]
    pub fn line(mut self, line: u32) -> Self {
        self.line = Some(line);
        self
    }

    /// The same with the name of an ELF section.
    #[must_use]
    pub fn section(mut self, section: impl Into<String>) -> Self {
        self.section = Some(section.into());
        self
    }

    /// The same with the name of a symbol.
    #[must_use]
    pub fn symbol(mut self, symbol: impl Into<String>) -> Self {
        self.symbol = Some(symbol.into());
        self
    }

    /// The same with an offset in bytes from the section's start.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        if let Some(file) = &self.file {
            write!(f, "{file}")?;
            if let Some(line) = self.line {
                write!(f, ":{line}")?;
            }
            gap = " ";
        }
        if let Some(section) = &self.section {
            write!(f, "{gap}{section}")?;
            gap = " ";
        }
        if let Some(symbol) = &self.symbol {
            write!(f, "{gap}`{symbol}`")?;
            gap = " ";
        }
        if let Some(offset) = self.offset {
            write!(f, "{gap}+{offset:#x}")?;
        }
        Ok(())
    }
}

/// The patch cannot become a livepatch as it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    /// The code: a stable name with its blame and meaning.
    pub code: Code,
    /// The file, section and symbol it is about.
    pub at: Subject,
    /// What is wrong, one sentence without a full stop.
    pub why: String,
    /// What the author can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The symbol that is nowhere, if that is the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// A patch with a skeleton of what would not be refused, if one was asked for and written: its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested: Option<String>,
    /// The patches that cause it, where several are applied and that is known; all that may be it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<String>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(code: Code, at: Subject, why: impl Into<String>) -> Self {
        Refusal {
            code,
            at,
            why: why.into(),
            hint: None,
            missing: None,
            suggested: None,
            patches: Vec::new(),
        }
    }

    /// Names the patches that cause it.
    #[must_use]
    pub fn caused_by(mut self, patches: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.patches = patches.into_iter().map(Into::into).collect();
        self
    }

    /// Names the symbol that is nowhere.
    #[must_use]
    pub fn missing(mut self, symbol: impl Into<String>) -> Self {
        self.missing = Some(symbol.into());
        self
    }

    /// Whether it is about this structure, table or function, named with or without what [`names::plain`] takes off.
    pub fn is_about(&self, name: &str) -> bool {
        let symbol = self.at.symbol.as_deref();
        symbol.is_some_and(|symbol| symbol == name || names::plain(symbol) == name)
    }

    /// The same with what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused[{}] {}: {}", self.code, self.at, self.why)?;
        match &self.patches[..] {
            [] => {}
            [one] => write!(f, "\n  patch: {one}")?,
            several => write!(f, "\n  patch: one of {}", several.join(", "))?,
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        if let Some(path) = &self.suggested {
            write!(f, "\n  suggested: {path}")?;
        }
        Ok(())
    }
}

/// Damaged input, or a defect of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error[{code}] {at}: {why}")]
pub struct Error {
    /// The code: a stable name with its blame and meaning.
    pub code: Code,
    /// The file, section and symbol it is about.
    pub at: Subject,
    /// What is wrong, as half a sentence.
    pub why: String,
}

impl Error {
    /// An error at a place.
    pub fn new(code: Code, at: Subject, why: impl Into<String>) -> Self {
        Error {
            code,
            at,
            why: why.into(),
        }
    }
}

/// Why no livepatch object was produced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The two sides do the same, but for these differences.
    #[error("no functional change")]
    NoChange(Vec<Ignored>),
    /// Only boot code changes: there is nothing to patch, and the next boot has it.
    #[error("nothing but boot code changes")]
    BootOnly(Vec<Ignored>),
    /// The change cannot be a livepatch.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// Damaged input or a defect.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Stop {
    /// Who has to act; nothing if the patch simply changes nothing.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Stop::NoChange(_) | Stop::BootOnly(_) => None,
            Stop::Refused(refusals) => Blame::of(refusals.iter().map(|refusal| refusal.code)),
            Stop::Failed(error) => Some(error.code.blame()),
        }
    }

    /// Adds differences that were left out for other reasons.
    #[must_use]
    pub(crate) fn ignoring(mut self, more: &[Ignored]) -> Self {
        if let Stop::NoChange(ignored) | Stop::BootOnly(ignored) = &mut self {
            ignored.extend_from_slice(more);
        }
        self
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(vec![refusal])
    }
}

impl From<Vec<Refusal>> for Stop {
    fn from(refusals: Vec<Refusal>) -> Self {
        Stop::Refused(refusals)
    }
}
