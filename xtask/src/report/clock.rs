//! The date of a report.

/// Now, e.g. `2026-01-02 03:04 UTC`.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
