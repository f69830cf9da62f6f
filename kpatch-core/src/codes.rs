//! Every code that a refusal or error can have: what it means, who is to blame, and what to do.
//!
//! This is the only list. docs/CODES.md is written from it, and so is whatever a report or a survey says about a code;
//! a [`Code`] cannot be made anywhere else.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Serialize, Serializer};

/// Who has to act. Ordered by what outweighs what when several codes come together; see [`Blame::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The author of the patch: it cannot become a livepatch as it stands.
    Patch,
    /// Whoever set up the build: kernel, compiler, linker, files that were passed in.
    Environment,
    /// This program has a defect.
    Defect,
}

impl Blame {
    /// The blame for a run that ends with all of these codes; nothing without a code.
    ///
    /// A defect outweighs the rest, since what else was found may be a consequence of it. The environment outweighs the
    /// patch: refusals of a patch mean nothing against a kernel that is not the one that runs.
    pub fn of(codes: impl IntoIterator<Item = Code>) -> Option<Blame> {
        codes.into_iter().map(Code::blame).max()
    }

    /// The word for it in docs/CODES.md and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Blame::Patch => "patch",
            Blame::Environment => "environment",
            Blame::Defect => "defect",
        }
    }
}

/// A stable, dotted name of a refusal or error, e.g. `select.data-changed`.
///
/// Tests, allow-lists and programs use codes; the sentences beside them may change at any time. Two codes are equal if
/// their names are.
#[derive(Clone, Copy)]
pub struct Code(&'static Row);

struct Row {
    name: &'static str,
    blame: Blame,
    words: &'static str,
    meaning: &'static str,
    remedy: &'static str,
    by_hand: Option<&'static str>,
}

impl Code {
    /// The stable name, e.g. `select.data-changed`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Who has to act.
    pub fn blame(self) -> Blame {
        self.0.blame
    }

    /// At most 40 characters, for tables and charts.
    pub fn words(self) -> &'static str {
        self.0.words
    }

    /// What it means, in one sentence.
    pub fn meaning(self) -> &'static str {
        self.0.meaning
    }

    /// What to do about it, in one sentence.
    pub fn remedy(self) -> &'static str {
        self.0.remedy
    }

    /// Whether a person could do better than to refuse, where somebody has thought about that.
    pub fn by_hand(self) -> Option<&'static str> {
        self.0.by_hand
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Code {}

impl PartialOrd for Code {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Code {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl Hash for Code {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({:?})", self.name())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Makes a constant of each row, and `ALL` of all of them.
macro_rules! codes {
    ($(
        $(#[$attribute:meta])*
        $constant:ident = $name:literal, $blame:ident {
            words: $words:literal,
            meaning: $meaning:literal,
            remedy: $remedy:literal,
            $(by_hand: $by_hand:literal,)?
        }
    )*) => {
        $(
            #[doc = $meaning]
            $(#[$attribute])*
            pub const $constant: crate::codes::Code = crate::codes::Code(&crate::codes::Row {
                name: $name,
                blame: crate::codes::Blame::$blame,
                words: $words,
                meaning: $meaning,
                remedy: $remedy,
                by_hand: codes!(@optional $($by_hand)?),
            });
        )*

        pub(super) const ALL: &[crate::codes::Code] = &[$($constant),*];
    };
    (@optional) => { None };
    (@optional $text:literal) => { Some($text) };
}

pub mod environment;
pub mod klp;
pub mod markers;
pub mod object;
pub mod patch;
pub mod resolve;
pub mod select;
pub mod series;

/// All codes, by name.
pub fn all() -> Vec<Code> {
    let tables = [
        environment::ALL,
        klp::ALL,
        markers::ALL,
        object::ALL,
        patch::ALL,
        resolve::ALL,
        select::ALL,
        series::ALL,
    ];
    let mut all = tables.concat();
    all.sort();
    all
}

/// The code of a name.
pub fn find(name: &str) -> Option<Code> {
    all().into_iter().find(|code| code.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_words_tell_codes_apart() {
        let all = all();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "a name stands twice");
        let mut words: Vec<&str> = all.iter().map(|code| code.words()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all.len(), "two codes have the same words");
        assert_eq!(find("select.data-changed"), Some(select::DATA_CHANGED));
        assert_eq!(find("select"), None);
    }

    #[test]
    fn every_text_is_there_and_of_its_kind() {
        for code in all() {
            assert!(
                !code.words().is_empty() && code.words().len() <= 40,
                "{code}: {}",
                code.words()
            );
            for text in [code.meaning(), code.remedy()] {
                assert!(text.ends_with('.') && !text.contains('|'), "{code}: {text}");
            }
        }
    }

    #[test]
    fn the_worst_blame_counts() {
        let blame = |codes: &[Code]| Blame::of(codes.iter().copied());
        assert_eq!(blame(&[select::DATA_CHANGED]), Some(Blame::Patch));
        assert_eq!(
            blame(&[select::DATA_CHANGED, environment::FULL_LTO]),
            Some(Blame::Environment)
        );
        assert_eq!(
            blame(&[environment::FULL_LTO, klp::INCOMPLETE, select::DATA_CHANGED]),
            Some(Blame::Defect)
        );
        assert_eq!(blame(&[]), None);
    }
}
