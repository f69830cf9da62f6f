//! The series of quilt: a file that names patches in order, each with options for `patch`.

use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use super::{Taker, strip};
use crate::outcome::Ending;

/// The name of the file.
pub const SERIES: &str = "series";

/// One line of it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    /// How many components are taken off the names in the patch.
    strip: usize,
}

/// Whether a text that is no patch is such a list: each line names a patch.
pub fn is_list(text: &[u8]) -> bool {
    const LONGEST: usize = 1 << 20;
    let Some(text) = std::str::from_utf8(text).ok().filter(|text| text.len() <= LONGEST) else {
        return false;
    };
    let lines = text.lines().map(without_comment).filter(|line| !line.is_empty());
    let is_patch = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let name = name.strip_suffix(".gz").unwrap_or(name);
        (name.ends_with(".patch") || name.ends_with(".diff")) && words.all(|word| word.starts_with('-'))
    };
    let mut lines = lines.peekable();
    lines.peek().is_some() && lines.all(is_patch)
}

/// Takes the patches that the file at `path` names; they lie beside it, or in the folder `patches` there.
pub fn take(taker: &mut Taker, path: &Path, text: &[u8], what: &str) -> Result<()> {
    let wrong = |line: usize, why: &str| Ending::usage(format!("{what}:{line}: {why}"));
    let text = std::str::from_utf8(text).map_err(|_| Ending::usage(format!("{what} is no text")))?;
    let entries = entries(text).map_err(|(line, why)| wrong(line, &why))?;
    if entries.is_empty() {
        return Err(Ending::usage(format!("{what} names no patch")));
    }
    let beside = path.parent().unwrap_or(Path::new("."));
    for (line, Entry { name, strip }) in entries {
        let places: [PathBuf; 2] = [beside.join(&name), beside.join("patches").join(&name)];
        let Some(found) = places.into_iter().find(|place| place.is_file()) else {
            return Err(wrong(line, &format!("{name} is not there")));
        };
        if found.file_name().is_some_and(|name| name == SERIES) {
            return Err(wrong(line, "a series cannot name a series"));
        }
        if strip == 1 {
            taker.patch_of_series(&found, &name)?;
        } else {
            let (patch, _) = taker.budget.file(&found, &name)?;
            let patch = strip::plain(&name, &patch, strip)?;
            let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy();
            taker.save(&stem, &patch)?;
        }
    }
    Ok(())
}

impl Taker {
    /// What a series names is a patch, or a mail with one, and never a list of more.
    fn patch_of_series(&mut self, path: &Path, name: &str) -> Result<()> {
        let (text, _) = self.budget.file(path, name)?;
        if is_list(&text) {
            return Err(Ending::usage(format!(
                "{name} is a list of patches: a series cannot name a series"
            )));
        }
        self.any(path, name)
    }
}

/// A comment begins a line, or stands behind a blank.
fn without_comment(line: &str) -> &str {
    let starts = line.char_indices().filter(|(_, c)| *c == '#').map(|(at, _)| at);
    let is_comment = |at: &usize| *at == 0 || line[..*at].ends_with([' ', '\t']);
    let end = starts.into_iter().find(is_comment).unwrap_or(line.len());
    line[..end].trim()
}

/// The entries with their lines, from 1; or the line that cannot be read, and why.
fn entries(text: &str) -> Result<Vec<(usize, Entry)>, (usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = without_comment(line);
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let entry = entry(name, words).map_err(|why| (number, why))?;
        found.push((number, entry));
    }
    Ok(found)
}

fn entry<'t>(name: &str, mut options: impl Iterator<Item = &'t str>) -> Result<Entry, String> {
    let stays = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays || name.contains('\0') {
        return Err(format!(
            "`{}` does not stay in the folder of the series",
            name.escape_debug()
        ));
    }
    let mut strip = 1;
    while let Some(option) = options.next() {
        let level = match option.strip_prefix("-p") {
            Some("") => options.next().unwrap_or_default(),
            // Folders called `a` and `b`: one component.
            Some("ab") => "1",
            Some(level) => level,
            None if option == "-R" => {
                return Err(format!(
                    "{name} is to be applied in reverse: write it the other way round"
                ));
            }
            None => return Err(format!("`{}` is no option that is known here", option.escape_debug())),
        };
        let level = level
            .parse::<u8>()
            .map_err(|_| format!("`{}`: -p takes a number", option.escape_debug()))?;
        strip = usize::from(level);
    }
    Ok(Entry {
        name: name.to_owned(),
        strip,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_comments_are_read() {
        let read = entries("# all\n\n a.patch \nsub/b.diff -p0 # why\nc#1.patch -p 2\nd -pab\n").unwrap();
        let shown: Vec<(usize, &str, usize)> = read
            .iter()
            .map(|(line, entry)| (*line, entry.name.as_str(), entry.strip))
            .collect();
        assert_eq!(
            shown,
            [
                (3, "a.patch", 1),
                (4, "sub/b.diff", 0),
                (5, "c#1.patch", 2),
                (6, "d", 1)
            ]
        );
    }

    #[test]
    fn what_leads_out_or_is_not_known_is_refused() {
        for text in [
            "../a.patch",
            "/etc/passwd",
            "x/../../a",
            "a.patch -R",
            "a.patch -px",
            "a.patch -p",
            "a.patch -F3",
            "a.patch b",
        ] {
            assert!(entries(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_is_told_from_a_patch() {
        assert!(is_list(b"# x\na.patch\nb.diff -p1 # y\n"));
        for text in [
            "",
            "# x\n",
            "--- a/x.patch\n+++ b/x.patch\n",
            "fix a.patch\n",
            "a.patch\n@@ -1 +1 @@\n",
        ] {
            assert!(!is_list(text.as_bytes()), "{text}");
        }
    }
}
