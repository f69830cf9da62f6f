//! One number for what patches do to the sources of a kernel: equal if and only if the same files end up with the same
//! content, however the patches are cut, ordered and worded.
//!
//! Nothing is compiled, so it costs as much as applying them. What no build of a kernel reads does not count.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::apply::{Copies, original};
use super::line::Line;
use super::{read, scope, spelling};
use crate::kernel::Kernel;
use crate::outcome::Ending;

/// The form of what is hashed. Another one gives other digests.
const FORM: &[u8] = b"kpatch effective change 1\n";

/// The digest of these patches of this source tree on this kernel, in hexadecimal.
///
/// # Errors
/// [`Ending::Refused`] if they do not apply.
pub fn of(kernel: Kernel<'_>, source: &Path, patches: &[PathBuf], fuzz: usize) -> Result<String> {
    let (set, _) = spelling::as_meant(read(patches)?, source);
    let mut copies = Copies {
        fuzz,
        ..Copies::default()
    };
    for change in set.files.iter().filter(|change| !scope::is_no_source(change)) {
        copies.add(source, change)?;
    }
    if !copies.refusals.is_empty() {
        let refusals = copies.refusals.into_iter();
        let refusals = refusals.map(|refusal| {
            if patches.len() > 1 {
                refusal
            } else {
                refusal.caused_by([""; 0])
            }
        });
        return Err(Ending::Refused(refusals.collect()).into());
    }
    let build = match kernel {
        Kernel::Recorded(kernel) => &kernel.id,
        Kernel::Stock(kernel) => &kernel.build_id,
    };
    of_files(&[kernel.arch().name(), kernel.release(), build], source, &copies.files)
}

fn of_files(kernel: &[&str], source: &Path, files: &BTreeMap<String, Option<Vec<Line>>>) -> Result<String> {
    let mut whole = Sha256::new();
    whole.update(FORM);
    for part in kernel {
        field(&mut whole, part.as_bytes());
    }
    for (path, patched) in files {
        let before = content(original(&source.join(path))?.as_deref());
        let after = content(patched.as_deref());
        if before != after {
            field(&mut whole, path.as_bytes());
            for side in [before, after] {
                field(&mut whole, side.as_ref().map_or(&[], |digest| &digest[..]));
            }
        }
    }
    Ok(whole.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Lengths keep two fields from being taken for one.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn content(lines: Option<&[Line]>) -> Option<Vec<u8>> {
    let mut hash = Sha256::new();
    for line in lines? {
        hash.update(&line.text);
    }
    Some(hash.finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::parse::parse;
    use super::*;

    fn digest(patches: &[&str]) -> String {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in [("x.c", "a\nb\nc\nd\n"), ("y.c", "1\n2\n")] {
            fs::write(tree.path().join(path), text).unwrap();
        }
        let mut copies = Copies::default();
        for (number, text) in patches.iter().enumerate() {
            for mut change in parse("p", text.as_bytes()).unwrap() {
                change.number = number;
                copies.add(tree.path(), &change).unwrap();
            }
        }
        assert!(copies.refusals.is_empty());
        of_files(&["x86_64"], tree.path(), &copies.files).unwrap()
    }

    #[test]
    fn how_a_change_is_written_does_not_matter_and_what_it_does_is_all() {
        let (x, y) = ("--- a/x.c\n+++ b/x.c\n", "--- a/y.c\n+++ b/y.c\n");
        let whole = format!("{x}@@ -1,4 +1,4 @@\n-a\n+A\n b\n c\n-d\n+D\n{y}@@ -1,2 +1,2 @@\n 1\n-2\n+3\n");
        let one = digest(&[&whole]);
        let split = [
            format!("From: a\nSubject: second\n\n{y}@@ -2 +2 @@\n-2\n+3\n"),
            format!("{x}@@ -4 +4 @@\n-d\n+D\n"),
            format!("{x}@@ -1 +1,2 @@\n-a\n+q\n+r\n"),
            format!("{x}@@ -1,2 +1 @@\n-q\n-r\n+A\n"),
        ];
        assert_eq!(one, digest(&split.each_ref().map(String::as_str)));
        // A change that is taken back is none.
        let back = format!("{y}@@ -1 +1 @@\n-1\n+7\n{y}@@ -1 +1 @@\n-7\n+1\n");
        assert_eq!(one, digest(&[&back, &whole]));
        assert_ne!(one, digest(&[&whole.replace("+D", "+E")]));
        assert_ne!(one, digest(&[&split[0]]));
    }
}
