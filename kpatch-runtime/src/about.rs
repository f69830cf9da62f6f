//! What a livepatch carries about itself: an ELF note that is in its file, and while it is loaded below
//! `/sys/module/NAME/notes` (kernel/module/sysfs.c, `add_notes_attrs`).
//!
//! So it can be asked what it fixes, and whether it may be removed, also when its file is gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The section of the note.
pub const SECTION: &str = ".note.kpatch";
/// The name in the note; the NUL counts.
pub const NAME: &str = "kpatch";
/// The type of the note: JSON text of [`About`].
pub const TYPE: u32 = 1;

/// What is in the note.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The fixes in it: the subjects of the patches.
    #[serde(default)]
    pub fixes: Vec<String>,
    /// What it replaces, as `object:function`, with `,sympos` if it is not the first of its name.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Functions and data of it whose address the kernel may keep: its module should stay in memory, even when it is disabled.
    #[serde(default)]
    pub keep: Vec<String>,
    /// The build ids of the objects that it was built for, in hexadecimal: `vmlinux` and modules.
    #[serde(default)]
    pub build_ids: BTreeMap<String, String>,
}

impl About {
    /// Reads the bytes of a note; none if they are of something else.
    pub fn read(note: &[u8]) -> Option<Self> {
        let note = first(note)?;
        if note.name != NAME.as_bytes() || note.kind != TYPE {
            return None;
        }
        let text = note.content.split(|byte| *byte == 0).next()?;
        serde_json::from_slice(text).ok()
    }

    /// The text for a note.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("lists of strings are always JSON")
    }
}

/// The build id out of a section with notes, in hexadecimal.
pub fn build_id(mut notes: &[u8]) -> Option<String> {
    /// `NT_GNU_BUILD_ID` of elf.h.
    const GNU_BUILD_ID: u32 = 3;
    loop {
        let note = first(notes)?;
        if note.name == b"GNU" && note.kind == GNU_BUILD_ID {
            return Some(note.content.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = note.rest;
    }
}

/// One note of a section.
struct Note<'a> {
    name: &'a [u8],
    kind: u32,
    content: &'a [u8],
    /// The notes behind it.
    rest: &'a [u8],
}

/// The first note (elf(5): three words, then name and content, each padded to 4 bytes).
fn first(notes: &[u8]) -> Option<Note<'_>> {
    let word = |at: usize| Some(u32::from_ne_bytes(notes.get(at..at + 4)?.try_into().ok()?));
    let (name, content, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
    let start = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
    let end = start.checked_add(content)?;
    let content = notes.get(start..end)?;
    let name = notes.get(12..12usize.checked_add(name)?)?;
    let rest = notes.get(end.checked_next_multiple_of(4)?..).unwrap_or_default();
    Some(Note {
        name: name.strip_suffix(b"\0").unwrap_or(name),
        kind,
        content,
        rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len(), content.len(), kind as usize] {
            note.extend(u32::try_from(word).unwrap().to_ne_bytes());
        }
        note.extend(name);
        note.resize(note.len().next_multiple_of(4), 0);
        note.extend(content);
        note
    }

    #[test]
    fn a_build_id_is_read_from_its_note() {
        let whole = note(b"GNU\0", 3, b"\x01\xab\xff");
        assert_eq!(build_id(&whole).as_deref(), Some("01abff"));
        assert_eq!(build_id(&whole[..18]), None);
        assert_eq!(build_id(&[0xff; 16]), None);
        assert_eq!(build_id(&note(b"GNU\0", 4, b"\x01")), None);
        let behind = [note(b"Linux\0", 0, b"x\0\0\0"), whole].concat();
        assert_eq!(build_id(&behind).as_deref(), Some("01abff"));
    }

    #[test]
    fn what_is_written_is_read() {
        let about = About {
            fixes: vec!["a \"quoted\" one".to_owned()],
            functions: vec!["vmlinux:f,1".to_owned()],
            build_ids: [("vmlinux".to_owned(), "01ab".to_owned())].into(),
            ..About::default()
        };
        let mut text = about.text().into_bytes();
        text.push(0);
        assert_eq!(About::read(&note(b"kpatch\0", TYPE, &text)), Some(about));
        assert_eq!(About::read(&note(b"other\0", TYPE, &text)), None);
        assert_eq!(About::read(&note(b"kpatch\0", TYPE, b"{")), None);
    }
}
