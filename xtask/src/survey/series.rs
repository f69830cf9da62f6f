//! The changed files as a series of patches, of which `build-patch` makes one livepatch: what a whole point release would be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::difference::Change;
use super::pieces::{Piece, Pieces};
use kpatch_build::outcome::Ending;

/// Writes these files as patches into a folder that is not there or empty, with the file `series` of quilt. Headers come
/// first, since sources need what they bring; new ones come along if a patch includes them. Returns how many patches there
/// are.
pub fn write_series(pieces: &Pieces, chosen: &[&Piece], folder: &Path) -> Result<usize> {
    let is_used = folder.exists() && !fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if is_used {
        let text = format!(
            "--series {}: it is there already; name a folder that is not",
            folder.display()
        );
        return Err(Ending::usage(text));
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut order: Vec<(bool, String, String)> = Vec::new();
    for file in chosen
        .iter()
        .map(|piece| &piece.file)
        .chain(&new_headers(pieces, chosen)?)
    {
        let text = pieces.patch(&BTreeSet::from([file.clone()]))?;
        order.push((!file.ends_with(".h"), file.clone(), text));
    }
    order.sort();
    let count = order.len();
    let mut series = String::new();
    for (_, file, text) in order {
        let name = format!("{}.patch", file.replace('/', "--"));
        let path = folder.join(&name);
        fs::write(&path, format!("Subject: {file}\n\n---\n{text}"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        series.push_str(&name);
        series.push('\n');
    }
    let path = folder.join("series");
    fs::write(&path, series).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(count)
}

/// New headers that these files include, directly or through another new one. A header counts as included by the last part
/// of its name: one too many does no harm.
fn new_headers(pieces: &Pieces, chosen: &[&Piece]) -> Result<BTreeSet<String>> {
    let is_new = |(path, change): &(&String, &Change)| **change == Change::New && path.ends_with(".h");
    let new: Vec<&String> = pieces.changed.iter().filter(is_new).map(|(path, _)| path).collect();
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = chosen.iter().map(|piece| piece.file.clone()).collect();
    while let Some(file) = open.pop() {
        let path = pieces.new.join(&file);
        // A file that is gone includes nothing.
        let Ok(text) = fs::read(&path) else { continue };
        let text = String::from_utf8_lossy(&text);
        let included: BTreeSet<&str> = text.lines().filter_map(included).collect();
        for header in &new {
            let name = header.rsplit('/').next().unwrap_or(header);
            if included.contains(name) && found.insert((*header).clone()) {
                open.push((*header).clone());
            }
        }
    }
    Ok(found)
}

/// The last part of the name in an `#include` line.
fn included(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('#')?.trim_start();
    let name = rest.strip_prefix("include")?.trim_start().strip_prefix(['<', '"'])?;
    let name = name.split(['>', '"']).next()?;
    name.rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_series_has_headers_first_and_the_new_ones_that_are_included() {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (root.path().join("old"), root.path().join("new"));
        let put = |path: std::path::PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(old.join("fs/a.c"), "int a;\n");
        put(new.join("fs/a.c"), "# include <linux/brought.h>\nint a;\n");
        put(new.join("include/linux/brought.h"), "#include \"other.h\"\n");
        put(new.join("include/linux/other.h"), "\n");
        put(new.join("include/linux/unrelated.h"), "\n");
        put(old.join("z.h"), "1\n");
        put(new.join("z.h"), "2\n");
        let changed = [
            ("fs/a.c", Change::Modified),
            ("include/linux/brought.h", Change::New),
            ("include/linux/other.h", Change::New),
            ("include/linux/unrelated.h", Change::New),
            ("z.h", Change::Modified),
        ];
        let pieces = Pieces {
            old,
            new,
            changed: changed.map(|(path, change)| (path.to_owned(), change)).into(),
            pieces: Vec::new(),
            source_of: BTreeMap::new(),
        };
        let piece = |file: &str| Piece {
            file: file.to_owned(),
            units: BTreeSet::new(),
        };
        let (a, z) = (piece("fs/a.c"), piece("z.h"));
        let folder = root.path().join("series");
        assert_eq!(write_series(&pieces, &[&a, &z], &folder).unwrap(), 4);
        let series = fs::read_to_string(folder.join("series")).unwrap();
        let names = ["include--linux--brought.h", "include--linux--other.h", "z.h", "fs--a.c"];
        assert_eq!(series, names.map(|name| format!("{name}.patch\n")).concat());
        assert!(write_series(&pieces, &[&a], &folder).is_err());
    }
}
