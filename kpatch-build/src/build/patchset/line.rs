//! Lines of the files that a patch is applied to.

/// One line of a file, with its line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The bytes.
    pub text: Vec<u8>,
    /// 1-based line of the original file it came from; nothing for a line the patch brought.
    pub origin: Option<u32>,
}

/// Whether these lines stand at this place.
pub fn fits(lines: &[Line], wanted: &[&[u8]], at: usize) -> bool {
    let there = lines.get(at..).unwrap_or_default();
    there.len() >= wanted.len() && there.iter().zip(wanted).all(|(line, wanted)| line.text == *wanted)
}
