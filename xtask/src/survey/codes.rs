//! What a survey calls the reasons it counts: codes of refusals and errors have their words in `kpatch_core::codes`, and
//! the other endings of a piece have theirs here.

use kpatch_core::codes;

/// Endings that are not a code, and their words.
const ENDINGS: &[(&str, &str)] = &[
    ("no-code", "error without a code"),
    ("too-wide", "needs a header with many readers"),
    ("panic", "this tool panicked"),
    ("load-failed", "kernel refused the module"),
    ("not-patched", "functions not patched"),
    ("transition-stalled", "transition stalled"),
    ("unload-failed", "not removable"),
    ("kernel-complained", "kernel complained"),
    ("no-final-record", "machine vanished"),
    ("timed-out", "machine hung"),
];

/// What fits beside a bar.
pub fn name(reason: &str) -> &str {
    let ending = ENDINGS.iter().find(|(known, _)| *known == reason);
    match (codes::find(reason), ending) {
        (Some(code), _) => code.words(),
        (None, Some((_, words))) => words,
        (None, None) => reason,
    }
}

/// Whether a person could do better than to refuse.
pub fn better(reason: &str) -> &'static str {
    let by_hand = codes::find(reason).and_then(|code| code.by_hand());
    by_hand.unwrap_or("Not judged yet.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_endings_have_words() {
        assert_eq!(name("select.data-changed"), "initial data changed");
        assert_eq!(name("timed-out"), "machine hung");
        assert_eq!(name("something-else"), "something-else");
        assert!(better("select.data-changed").starts_with("Often"));
        assert_eq!(better("timed-out"), "Not judged yet.");
    }
}
