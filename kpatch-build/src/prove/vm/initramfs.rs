//! The guest's root file system: a "newc" cpio archive, written in memory.
//!
//! Not made with the cpio program: its output contains inode numbers, times and owners of this machine, and the device
//! node would need root. Here the same entries always give the same bytes.

use std::collections::BTreeMap;

/// The console that the kernel opens for PID 1 before anything is mounted: character device 5:1.
const CONSOLE: (u32, u32) = (5, 1);
const TRAILER: &str = "TRAILER!!!";

/// What an entry of the archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Folder,
    File { mode: u32, data: Vec<u8> },
    Character { major: u32, minor: u32 },
}

/// An archive under construction. Parent folders are added automatically.
#[derive(Debug, Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// An archive with the folders and the device node that every guest needs.
    pub fn new() -> Self {
        let mut archive = Archive::default();
        for folder in ["dev", "proc", "sys", "tmp", "bin"] {
            archive.nodes.insert(folder.to_owned(), Node::Folder);
        }
        archive.nodes.insert(
            "dev/console".to_owned(),
            Node::Character {
                major: CONSOLE.0,
                minor: CONSOLE.1,
            },
        );
        archive
    }

    /// Adds a file at an absolute path.
    pub fn file(&mut self, path: &str, mode: u32, data: Vec<u8>) {
        let path = path.trim_start_matches('/');
        for (end, _) in path.match_indices('/') {
            self.nodes.entry(path[..end].to_owned()).or_insert(Node::Folder);
        }
        self.nodes.insert(path.to_owned(), Node::File { mode, data });
    }

    /// The archive as bytes. A folder sorts before its content, so that the kernel can unpack in this order.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (path, node)) in self.nodes.iter().enumerate() {
            let (mode, device, data): (u32, (u32, u32), &[u8]) = match node {
                Node::Folder => (0o040_755, (0, 0), &[]),
                Node::File { mode, data } => (0o100_000 | mode, (0, 0), data),
                Node::Character { major, minor } => (0o020_600, (*major, *minor), &[]),
            };
            // Some readers treat inode 0 specially.
            append(&mut out, path, inode + 1, mode, device, data);
        }
        append(&mut out, TRAILER, 0, 0, (0, 0), &[]);
        out
    }
}

/// Appends header, name and data of an entry, padded to four bytes.
fn append(out: &mut Vec<u8>, path: &str, inode: usize, mode: u32, device: (u32, u32), data: &[u8]) {
    let fields = [
        inode as u32,
        mode,
        0, // owner
        0, // group
        1, // links
        0, // time of change
        data.len() as u32,
        0, // device of the archive
        0,
        device.0,
        device.1,
        path.len() as u32 + 1,
        0, // checksum, unused in this format
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(data);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, mode, device, data.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads the archive back.
    fn entries(mut bytes: &[u8]) -> Vec<Entry> {
        let mut found = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let at = 6 + 8 * index;
                u32::from_str_radix(std::str::from_utf8(&bytes[at..at + 8]).unwrap(), 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let data_at = (110 + name_size).next_multiple_of(4);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let entry = (
                name,
                field(1),
                (field(9), field(10)),
                bytes[data_at..data_at + size].to_vec(),
            );
            if entry.0 == TRAILER {
                return found;
            }
            found.push(entry);
            bytes = &bytes[(data_at + size).next_multiple_of(4)..];
        }
    }

    #[test]
    fn folders_come_before_their_content() {
        let mut archive = Archive::new();
        archive.file("/case/deep/check.sh", 0o755, b"exit 0\n".to_vec());
        let found = entries(&archive.bytes());
        let names: Vec<&str> = found.iter().map(|entry| entry.0.as_str()).collect();
        assert_eq!(
            names,
            [
                "bin",
                "case",
                "case/deep",
                "case/deep/check.sh",
                "dev",
                "dev/console",
                "proc",
                "sys",
                "tmp"
            ]
        );
        assert_eq!(found[3].1, 0o100_755);
        assert_eq!(found[3].3, b"exit 0\n");
        assert_eq!((found[5].1, found[5].2), (0o020_600, (5, 1)));
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        let build = |order: [&str; 2]| {
            let mut archive = Archive::new();
            order
                .iter()
                .for_each(|path| archive.file(path, 0o644, path.as_bytes().to_vec()));
            archive.bytes()
        };
        assert_eq!(build(["/a", "/b"]), build(["/b", "/a"]));
    }

    #[test]
    fn the_header_has_the_bytes_of_the_format() {
        let mut out = Vec::new();
        append(&mut out, "ab", 3, 0o100_644, (0, 0), b"xyz");
        let header = "07070100000003000081a40000000000000000000000010000000000000003\
                      000000000000000000000000000000000000000300000000";
        assert_eq!(out, [header.as_bytes(), b"ab\0\0\0\0xyz\0"].concat());
    }
}
