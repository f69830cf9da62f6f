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
    /// Of a livepatch of several patches each of these, and those that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<OfSeries>,
}

/// One patch of the series that a livepatch was made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSeries {
    /// The subject of its mail, or the name of its file.
    pub subject: String,
    /// The commit that it is, in hexadecimal, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// CVE numbers that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<String>,
    /// Why it is not in the livepatch; nothing if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

impl OfSeries {
    fn plain(&self) -> Self {
        OfSeries {
            subject: plain(&self.subject),
            commit: self.commit.as_deref().map(plain),
            cves: self.cves.iter().map(|cve| plain(cve)).collect(),
            left_out: self.left_out.as_deref().map(plain),
        }
    }
}

impl About {
    /// Reads the bytes of a note. What would not be a plain character on a terminal or in a package is replaced.
    ///
    /// # Errors
    /// Why they are no such note, in words: then nobody knows what the livepatch keeps.
    pub fn read(note: &[u8]) -> Result<Self, String> {
        let note = first(note).ok_or("its note is cut short")?;
        if note.name != NAME.as_bytes() || note.kind != TYPE {
            return Err("its note is of another kind".to_owned());
        }
        let text = note.content.split(|byte| *byte == 0).next().unwrap_or_default();
        let read: Self = serde_json::from_slice(text).map_err(|error| format!("its note is damaged: {error}"))?;
        let all = |items: Vec<String>| items.iter().map(|item| plain(item)).collect();
        let ids = read.build_ids.iter();
        Ok(About {
            fixes: all(read.fixes),
            functions: all(read.functions),
            keep: all(read.keep),
            build_ids: ids.map(|(object, id)| (plain(object), plain(id))).collect(),
            series: read.series.iter().map(OfSeries::plain).collect(),
        })
    }

    /// The text for a note.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("lists of strings are always JSON")
    }
}

/// A text of somebody else as one line for terminals and packages: characters that control something, end a line or turn
/// the direction of what follows are replaced.
pub fn plain(text: &str) -> String {
    let steers = |c: char| {
        let turns =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || turns
    };
    text.replace(steers, "\u{fffd}")
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

/// The first note (elf(5): three words, then name and content, each padded to 4 bytes). The first word is the length of a
/// name, which is short: so it tells the order of the bytes, which is that of the machine the module is for.
fn first(notes: &[u8]) -> Option<Note<'_>> {
    let word = |at: usize| notes.get(at..)?.first_chunk::<4>().copied();
    let number = match word(0)? {
        [0, 0, _, _] => u32::from_be_bytes,
        _ => u32::from_le_bytes,
    };
    let word = |at: usize| word(at).map(number);
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
        note_as(u32::to_le_bytes, name, kind, content)
    }

    fn note_as(bytes: fn(u32) -> [u8; 4], name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len(), content.len(), kind as usize] {
            note.extend(bytes(u32::try_from(word).unwrap()));
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
        let big = note_as(u32::to_be_bytes, b"GNU\0", 3, b"\x01\xab\xff");
        assert_eq!(build_id(&big).as_deref(), Some("01abff"), "of a module for s390x");
    }

    #[test]
    fn what_is_written_is_read() {
        let about = About {
            fixes: vec!["a \"quoted\" one".to_owned()],
            functions: vec!["vmlinux:f,1".to_owned()],
            build_ids: [("vmlinux".to_owned(), "01ab".to_owned())].into(),
            series: vec![OfSeries {
                subject: "a".to_owned(),
                cves: vec!["CVE-2026-1".to_owned()],
                left_out: Some("needs b".to_owned()),
                ..OfSeries::default()
            }],
            ..About::default()
        };
        let mut text = about.text().into_bytes();
        text.push(0);
        assert_eq!(About::read(&note(b"kpatch\0", TYPE, &text)), Ok(about));
        assert!(About::read(&note(b"other\0", TYPE, &text)).is_err());
        assert!(About::read(&note(b"kpatch\0", TYPE, b"{")).is_err());
        assert!(About::read(b"").is_err());
    }

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        let about = About {
            fixes: vec!["a\u{1b}[2J\r\nDepends: evil\u{202e}\u{2028}ü".to_owned()],
            ..About::default()
        };
        let read = About::read(&note(b"kpatch\0", TYPE, about.text().as_bytes())).unwrap();
        let bad = '\u{fffd}';
        assert_eq!(read.fixes, [format!("a{bad}[2J{bad}{bad}Depends: evil{bad}{bad}ü")]);
    }
}
