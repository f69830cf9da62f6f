//! What a livepatch carries about itself: an ELF note that is in its file, and while it is loaded below
//! `/sys/module/NAME/notes` (kernel/module/sysfs.c, `add_notes_attrs`).
//!
//! So it can be asked what it fixes, and whether it may be removed, also when its file is gone.

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
    /// Functions of it whose address the kernel may keep: its module should stay in memory, even when it is disabled.
    #[serde(default)]
    pub keep: Vec<String>,
}

impl About {
    /// Reads the bytes of a note; none if they are of something else.
    pub fn read(note: &[u8]) -> Option<Self> {
        let (name, kind, content) = note_of(note)?;
        if name != NAME.as_bytes() || kind != TYPE {
            return None;
        }
        let text = content.split(|byte| *byte == 0).next()?;
        serde_json::from_slice(text).ok()
    }

    /// The text for a note.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("lists of strings are always JSON")
    }
}

/// The build id out of its note, in hexadecimal.
pub fn build_id(note: &[u8]) -> Option<String> {
    /// `NT_GNU_BUILD_ID` of elf.h.
    const GNU_BUILD_ID: u32 = 3;
    let (name, kind, content) = note_of(note)?;
    let is_id = name == b"GNU" && kind == GNU_BUILD_ID;
    is_id.then(|| content.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Name, type and content of a note (elf(5): three words, then name and content, each padded to 4 bytes).
fn note_of(note: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(note.get(at..at + 4)?.try_into().ok()?));
    let (name, content, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
    let start = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
    let content = note.get(start..start.checked_add(content)?)?;
    let name = note.get(12..12usize.checked_add(name)?)?;
    Some((name.strip_suffix(b"\0").unwrap_or(name), kind, content))
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
    }

    #[test]
    fn what_is_written_is_read() {
        let about = About {
            fixes: vec!["a \"quoted\" one".to_owned()],
            functions: vec!["vmlinux:f,1".to_owned()],
            keep: Vec::new(),
        };
        let mut text = about.text().into_bytes();
        text.push(0);
        assert_eq!(About::read(&note(b"kpatch\0", TYPE, &text)), Some(about));
        assert_eq!(About::read(&note(b"other\0", TYPE, &text)), None);
        assert_eq!(About::read(&note(b"kpatch\0", TYPE, b"{")), None);
    }
}
