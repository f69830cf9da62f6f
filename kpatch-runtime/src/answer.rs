//! What a command answers, before anybody prints it.

use serde::Serialize;

/// What a command found out: lines for a person, a document for a program, and the exit code.
pub struct Answer {
    pub(crate) lines: Vec<String>,
    pub(crate) json: serde_json::Value,
    pub(crate) code: u8,
}

impl Answer {
    pub(crate) fn new(lines: Vec<String>, content: impl Serialize, code: u8) -> Self {
        let json = serde_json::to_value(content).unwrap_or_default();
        Answer { lines, json, code }
    }

    /// What a person reads.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}
