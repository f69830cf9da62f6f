//! Lays patched files over the source tree for the compiler alone: the tree itself is never written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::headers;
use crate::build::kbuild::Trees;
use crate::build::patchset::apply::Patched;
use crate::build::patchset::line::Line;
use crate::build::patchset::lines::{is_c, stabilise, stabilise_apart};

/// What stands for a file that the patch removes. No overlay can hide a file, but whoever includes it can be told.
const REMOVED: &[u8] = b"#error the patch removes this file\n";

/// Overlays of the same change.
#[derive(Debug, Clone)]
pub struct Overlays {
    /// With stable line numbers; this is what is compiled.
    pub stable: PathBuf,
    /// With numbers for added lines that no other line has, for files in which numbers become names.
    pub apart: PathBuf,
    /// With the true line numbers, for the compiler's messages and for files that compile with no others.
    pub plain: PathBuf,
    /// The folder of headers that patches may include.
    pub headers: PathBuf,
}

/// Folders with the files of the overlays in [`Overlays`], below the work folder and in this order.
pub const FOLDERS: [&str; 3] = ["patched", "patched-apart", "patched-plain"];

/// Writes the chosen files and all overlays into a work folder.
pub fn write<'a>(
    work: &Path,
    trees: &Trees,
    files: &Patched,
    chosen: impl Iterator<Item = &'a String>,
) -> Result<Overlays> {
    let mut entries = [Vec::new(), Vec::new(), Vec::new()];
    for path in chosen {
        let Some(lines) = files.get(path) else { continue };
        let true_text = lines.as_ref().map_or_else(|| REMOVED.to_vec(), |lines| text(lines));
        let [stable, apart] = match lines {
            Some(lines) if is_c(path) => [stabilise(lines), stabilise_apart(lines)],
            _ => [true_text.clone(), true_text.clone()],
        };
        for ((entries, folder), text) in entries.iter_mut().zip(FOLDERS).zip([stable, apart, true_text]) {
            let content = put(&work.join(folder), path, &text)?;
            // Commands for a tree that was moved name either place.
            let roots = std::iter::once(&trees.source).chain(&trees.recorded);
            entries.extend(roots.map(|root| entry(root, path, &content)));
        }
    }
    let [stable, apart, plain] = &entries;
    Ok(Overlays {
        stable: describe(work, "overlay.json", stable)?,
        apart: describe(work, "overlay-apart.json", apart)?,
        plain: describe(work, "overlay-plain.json", plain)?,
        headers: headers::write(work)?,
    })
}

fn text(lines: &[Line]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.text.iter().copied()).collect()
}

fn put(root: &Path, path: &str, text: &[u8]) -> Result<PathBuf> {
    let file = root.join(path);
    let folder = file.parent().with_context(|| format!("{path} is no file name"))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn entry(root: &Path, path: &str, content: &Path) -> serde_json::Value {
    json!({ "type": "file", "name": root.join(path), "external-contents": content })
}

fn describe(work: &Path, name: &str, roots: &[serde_json::Value]) -> Result<PathBuf> {
    // With external names the copies' paths would get into `__FILE__` and the debug information.
    let overlay = json!({ "version": 0, "case-sensitive": "true", "use-external-names": "false", "roots": roots });
    let path = work.join(name);
    fs::write(&path, overlay.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::patchset::apply::lines_of;

    #[test]
    fn only_chosen_files_are_laid_over_the_tree() {
        let work = tempfile::tempdir().unwrap();
        let trees = Trees {
            source: "/s".into(),
            build: "/b".into(),
            objects: "/b".into(),
            recorded: None,
        };
        let mut lines = lines_of(b"a;\nb;\n");
        lines.insert(
            1,
            Line {
                text: b"x;\n".into(),
                origin: None,
            },
        );
        let files = Patched::from([
            ("fs/a.c".into(), Some(lines)),
            ("fs/b.c".into(), Some(Vec::new())),
            ("fs/a.h".into(), None),
        ]);
        let chosen = ["fs/a.c".to_owned(), "fs/a.h".to_owned()];
        let overlays = write(work.path(), &trees, &files, chosen.iter()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&fs::read(overlays.stable).unwrap()).unwrap();
        assert_eq!(json["roots"].as_array().unwrap().len(), 2);
        assert_eq!(json["roots"][0]["name"], "/s/fs/a.c");
        let stable = fs::read(json["roots"][0]["external-contents"].as_str().unwrap()).unwrap();
        assert_eq!(stable, b"a;\nx;\n#line 2\nb;\n");
        assert_eq!(
            fs::read(work.path().join("patched-plain/fs/a.c")).unwrap(),
            b"a;\nx;\nb;\n"
        );
        assert_eq!(
            fs::read(work.path().join("patched-apart/fs/a.c")).unwrap(),
            b"a;\n#line 6\nx;\n#line 2\nb;\n"
        );
        for folder in FOLDERS {
            assert_eq!(fs::read(work.path().join(folder).join("fs/a.h")).unwrap(), REMOVED);
        }
    }
}
