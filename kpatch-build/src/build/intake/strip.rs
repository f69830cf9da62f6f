//! A patch whose names have another number of leading folders than one, as everything behind this expects it.

use std::fmt::Write as _;

use anyhow::Result;

use crate::build::patchset::parse;
use crate::build::patchset::{ChangeKind, FileChange, Hunk, Side};
use crate::outcome::Ending;

/// The same patch with names that begin with `a/` and `b/`; what stands before its first change stays.
///
/// # Errors
/// [`Ending::Refused`] if it cannot be read.
pub fn plain(name: &str, text: &[u8], strip: usize) -> Result<Vec<u8>> {
    let files = parse::parse_stripped(name, text, strip).map_err(Ending::refused)?;
    let is_change =
        |line: &&[u8]| line.starts_with(b"diff ") || line.starts_with(b"--- ") || line.starts_with(b"Index: ");
    let head = text
        .split_inclusive(|byte| *byte == b'\n')
        .take_while(|line| !is_change(line));
    let mut out: Vec<u8> = head.flatten().copied().collect();
    for change in &files {
        write_change(&mut out, change);
    }
    Ok(out)
}

fn write_change(out: &mut Vec<u8>, change: &FileChange) {
    let path = &change.path;
    let from = match &change.kind {
        ChangeKind::Renamed(from) | ChangeKind::Copied(from) => from,
        _ => path,
    };
    let mut head = format!("diff --git {} {}\n", quoted("a", from), quoted("b", path));
    _ = match &change.kind {
        ChangeKind::New => writeln!(head, "new file mode 100644"),
        ChangeKind::Deleted => writeln!(head, "deleted file mode 100644"),
        ChangeKind::ModeOnly => writeln!(head, "old mode 100644\nnew mode 100755"),
        ChangeKind::Renamed(from) => writeln!(head, "rename from {}\nrename to {}", quoted("", from), quoted("", path)),
        ChangeKind::Copied(from) => writeln!(head, "copy from {}\ncopy to {}", quoted("", from), quoted("", path)),
        ChangeKind::Modified => Ok(()),
    };
    if !change.hunks.is_empty() {
        let none = || "/dev/null".to_owned();
        let orig = if change.kind == ChangeKind::New {
            none()
        } else {
            quoted("a", from)
        };
        let patched = if change.kind == ChangeKind::Deleted {
            none()
        } else {
            quoted("b", path)
        };
        _ = write!(head, "--- {orig}\n+++ {patched}\n");
    }
    out.extend(head.into_bytes());
    change.hunks.iter().for_each(|hunk| write_hunk(out, hunk));
}

fn write_hunk(out: &mut Vec<u8>, hunk: &Hunk) {
    let (start, orig, patched) = (hunk.orig_start, hunk.orig().count(), hunk.patched().count());
    out.extend(format!("@@ -{start},{orig} +{start},{patched} @@\n").into_bytes());
    for line in &hunk.lines {
        out.push(match line.side {
            Side::Both => b' ',
            Side::Orig => b'-',
            Side::Patched => b'+',
        });
        out.extend(&line.text);
        if !line.text.ends_with(b"\n") {
            out.extend(b"\n\\ No newline at end of file\n");
        }
    }
}

/// A name as git writes it: in quotes if it has something unusual.
fn quoted(folder: &str, path: &str) -> String {
    let name = if folder.is_empty() {
        path.to_owned()
    } else {
        format!("{folder}/{path}")
    };
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if name.bytes().all(is_plain) {
        return name;
    }
    let mut text = String::from("\"");
    for byte in name.bytes() {
        match byte {
            byte if is_plain(byte) => text.push(char::from(byte)),
            byte => _ = write!(text, "\\{byte:03o}"),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_the_level_says_and_nothing_else_changes() {
        let one = "Subject: x\n\ndiff --git a/fs/é.c b/fs/é.c\n--- a/fs/é.c\n+++ b/fs/é.c\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n--- /dev/null\n+++ b/n.h\n@@ -0,0 +1 @@\n+x\n";
        let meant = parse::parse("p", one.as_bytes()).unwrap();
        for (level, from, to) in [(0, "a/", ""), (0, "b/", ""), (2, "a/", "top/a/"), (2, "b/", "top/b/")] {
            let (other, again) = match level {
                0 => (one.replace("a/", "").replace("b/", ""), 0),
                _ => (one.replace(" a/", " top/a/").replace(" b/", " top/b/"), 2),
            };
            let text = plain("p", other.as_bytes(), again).unwrap();
            assert!(text.starts_with(b"Subject: x\n\n"), "{from} {to}");
            let read = parse::parse("p", &text).unwrap();
            let shown = |files: &[FileChange]| {
                let one = |change: &FileChange| {
                    let hunks: Vec<_> = change
                        .hunks
                        .iter()
                        .flat_map(|hunk| hunk.lines.clone())
                        .map(|line| (line.side, line.text))
                        .collect();
                    (change.path.clone(), change.kind.clone(), hunks)
                };
                files.iter().map(one).collect::<Vec<_>>()
            };
            assert_eq!(shown(&read), shown(&meant));
        }
    }

    #[test]
    fn too_few_folders_and_ways_out_are_refused() {
        let refused = |text: &str, level| plain("p", text.as_bytes(), level).is_err();
        assert!(refused("--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n", 2));
        assert!(refused("--- ../x.c\n+++ ../x.c\n@@ -1 +1 @@\n-a\n+b\n", 0));
        assert!(refused("--- /etc/x\n+++ /etc/x\n@@ -1 +1 @@\n-a\n+b\n", 0));
    }
}
