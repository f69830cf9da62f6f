//! Parses unified diffs with and without git's extended headers.
//!
//! The text comes from mails and strangers. Whatever looks like part of a change but is not understood is refused:
//! skipping it would build a livepatch that lacks a piece of the fix.

use kpatch_core::{Code, Refusal, Subject};

use super::{BINARY, ChangeKind, FileChange, Hunk, HunkLine, MALFORMED, OUTSIDE_TREE, Side};

/// Parses one patch file whose names begin with one folder that is none of the tree. `name` is for messages.
pub fn parse(name: &str, text: &[u8]) -> Result<Vec<FileChange>, Refusal> {
    parse_stripped(name, text, 1)
}

/// The same with names that begin with `strip` such folders, as `-p` of `patch` counts.
pub fn parse_stripped(name: &str, text: &[u8], strip: usize) -> Result<Vec<FileChange>, Refusal> {
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut parser = Parser {
        name,
        strip,
        lines,
        at: 0,
        files: Vec::new(),
        section: None,
    };
    while parser.at < parser.lines.len() {
        parser.step()?;
    }
    parser.end_section()?;
    // The headers of a patch for files with CRLF end in LF; those of a patch that was converted as a whole do not.
    let crlf = parser.lines.iter().all(|line| line.ends_with(b"\r\n"));
    parser.files.iter_mut().for_each(|change| change.crlf = crlf);
    Ok(parser.files)
}

struct Parser<'a> {
    name: &'a str,
    strip: usize,
    lines: Vec<&'a [u8]>,
    at: usize,
    files: Vec<FileChange>,
    section: Option<Section>,
}

/// What the headers of the current file have said so far.
#[derive(Default)]
struct Section {
    /// Line of the first header, for messages.
    line: usize,
    git_path: Option<String>,
    spelt: Option<String>,
    orig: Option<Name>,
    patched: Option<Name>,
    moved_from: Option<String>,
    moved_to: Option<String>,
    copied: bool,
    created: bool,
    deleted: bool,
    mode_changed: bool,
    hunks: Vec<Hunk>,
}

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Nothing,
    Path(String),
}

impl Parser<'_> {
    fn refuse(&self, code: Code, line: usize, why: impl Into<String>) -> Refusal {
        let at = Subject::file(self.name).line(u32::try_from(line + 1).unwrap_or(u32::MAX));
        Refusal::new(code, at, why)
    }

    fn malformed(&self, why: impl Into<String>) -> Refusal {
        self.refuse(MALFORMED, self.at, why)
            .hint("make the patch again with `git diff` or `git format-patch`")
    }

    /// The header text of a line: no line end, not even a carriage return.
    fn header(&self, at: usize) -> &[u8] {
        self.lines.get(at).map_or(&[], |line| line.trim_ascii_end())
    }

    fn step(&mut self) -> Result<(), Refusal> {
        let line = self.header(self.at).to_vec();
        if let Some(rest) = line.strip_prefix(b"diff --git ") {
            self.end_section()?;
            let git_path = git_header_path(rest, self.strip).map_err(|why| self.malformed(why))?;
            self.section = Some(Section {
                line: self.at,
                git_path,
                ..Section::default()
            });
        } else if line.starts_with(b"diff --cc ") || line.starts_with(b"diff --combined ") {
            return Err(self.malformed("a combined diff of a merge cannot be applied"));
        } else if line.starts_with(b"--- ") && self.header(self.at + 1).starts_with(b"+++ ") {
            return self.file_header();
        } else if line.starts_with(b"@@ ") {
            return self.hunk();
        } else if is_binary_mark(&line) {
            return Err(self.refuse(BINARY, self.at, "the patch changes a binary file"));
        } else {
            self.extended_header(&line)?;
        }
        self.at += 1;
        Ok(())
    }

    fn file_header(&mut self) -> Result<(), Refusal> {
        // A plain diff has no other mark between two files, so a section with a name of its own already is over.
        if self.section.as_ref().is_none_or(|section| section.patched.is_some()) {
            self.end_section()?;
            self.section = Some(Section {
                line: self.at,
                ..Section::default()
            });
        }
        let orig = file_name(&self.header(self.at)[4..], self.strip).map_err(|why| self.malformed(why))?;
        let patched = file_name(&self.header(self.at + 1)[4..], self.strip).map_err(|why| self.malformed(why))?;
        let named = if patched == Name::Nothing { self.at } else { self.at + 1 };
        let spelt = whole_name(&self.header(named)[4..]).ok();
        if let Some(section) = &mut self.section {
            (section.orig, section.patched, section.spelt) = (Some(orig), Some(patched), spelt);
        }
        self.at += 2;
        Ok(())
    }

    fn extended_header(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some(section) = self.section.as_mut().filter(|section| section.patched.is_none()) else {
            return Ok(());
        };
        let mut moved = None;
        if line.starts_with(b"new file mode ") {
            section.created = true;
        } else if line.starts_with(b"deleted file mode ") {
            section.deleted = true;
        } else if line.starts_with(b"old mode ") || line.starts_with(b"new mode ") {
            section.mode_changed = true;
        } else if let Some(path) = line
            .strip_prefix(b"rename from ")
            .or_else(|| line.strip_prefix(b"copy from "))
        {
            section.copied = line.starts_with(b"copy");
            moved = Some((&mut section.moved_from, path));
        } else if let Some(path) = line
            .strip_prefix(b"rename to ")
            .or_else(|| line.strip_prefix(b"copy to "))
        {
            moved = Some((&mut section.moved_to, path));
        }
        if let Some((slot, path)) = moved {
            match unquote(path) {
                Ok(path) => *slot = Some(path),
                Err(why) => return Err(self.malformed(why)),
            }
        }
        Ok(())
    }

    fn hunk(&mut self) -> Result<(), Refusal> {
        if self.section.as_ref().is_none_or(|section| section.patched.is_none()) {
            return Err(self.malformed("a hunk without the names of its file"));
        }
        let range = parse_range(self.header(self.at)).ok_or_else(|| self.malformed("the hunk header is damaged"))?;
        let (orig_start, mut orig_left, mut patched_left) = range;
        let mut hunk = Hunk {
            number: 0,
            orig_start,
            patch_line: self.at + 1,
            lines: Vec::new(),
        };
        self.at += 1;
        while orig_left > 0 || patched_left > 0 {
            let line = self.hunk_line()?;
            let (orig, patched) = (
                usize::from(line.side != Side::Patched),
                usize::from(line.side != Side::Orig),
            );
            if orig > orig_left || patched > patched_left {
                return Err(self.malformed("the hunk has more lines on one side than its header says"));
            }
            (orig_left, patched_left) = (orig_left - orig, patched_left - patched);
            hunk.lines.push(line);
            self.at += 1;
            self.no_newline_mark(&mut hunk);
        }
        self.after_hunk()?;
        if let Some(section) = &mut self.section {
            hunk.number = section.hunks.len() + 1;
            section.hunks.push(hunk);
        }
        Ok(())
    }

    fn hunk_line(&self) -> Result<HunkLine, Refusal> {
        let Some(line) = self.lines.get(self.at) else {
            return Err(self.malformed("the patch ends inside a hunk"));
        };
        let (side, text) = match line {
            [b' ', text @ ..] => (Side::Both, text),
            [b'-', text @ ..] => (Side::Orig, text),
            [b'+', text @ ..] => (Side::Patched, text),
            // Mail programs strip the blank of an empty context line.
            [b'\n'] | [b'\r', b'\n'] => (Side::Both, *line),
            _ => return Err(self.malformed("a line in a hunk starts neither with a blank nor with `-` or `+`")),
        };
        Ok(HunkLine {
            side,
            number: self.at + 1,
            text: text.to_vec(),
        })
    }

    /// `\ No newline at end of file` speaks of the line before it.
    fn no_newline_mark(&mut self, hunk: &mut Hunk) {
        if self.lines.get(self.at).is_some_and(|line| line.starts_with(b"\\ ")) {
            self.at += 1;
            if let Some(line) = hunk.lines.last_mut().filter(|line| line.text.ends_with(b"\n")) {
                line.text.pop();
            }
        } else if let Some(line) = hunk.lines.last_mut().filter(|line| !line.text.ends_with(b"\n")) {
            // The last line of a patch file without a line end is still a whole line of the source.
            line.text.push(b'\n');
        }
    }

    /// More change lines after a hunk is complete mean that its header was edited wrongly.
    fn after_hunk(&self) -> Result<(), Refusal> {
        let next = self.header(self.at);
        let is_header = next.starts_with(b"--- ") && self.header(self.at + 1).starts_with(b"+++ ");
        let is_signature = next == b"--";
        let raw = self.lines.get(self.at).copied().unwrap_or_default();
        if matches!(raw.first(), Some(b' ' | b'+' | b'-')) && !is_header && !is_signature && !next.is_empty() {
            return Err(self.malformed("the hunk has more lines than its header says"));
        }
        Ok(())
    }

    fn end_section(&mut self) -> Result<(), Refusal> {
        let Some(section) = self.section.take() else {
            return Ok(());
        };
        let at = section.line;
        let change = section
            .finish(self.name)
            .map_err(|(code, why)| self.refuse(code, at, why))?;
        self.files.extend(change);
        Ok(())
    }
}

impl Section {
    fn finish(self, patch: &str) -> Result<Option<FileChange>, (Code, String)> {
        let named = self.patched.is_some();
        let created = self.created || self.orig == Some(Name::Nothing);
        let deleted = self.deleted || self.patched == Some(Name::Nothing);
        let path_of = |name: Option<Name>| match name {
            Some(Name::Path(path)) => Some(path),
            _ => None,
        };
        let (orig, patched) = (path_of(self.orig), path_of(self.patched));
        let path = if deleted {
            orig.or(self.git_path)
        } else {
            patched.or(self.moved_to).or(self.git_path)
        };
        let Some(path) = path else {
            return Err((MALFORMED, "the name of the changed file is missing".into()));
        };
        check_path(&path)?;
        if named && self.hunks.is_empty() {
            return Err((MALFORMED, format!("no hunk follows the names of {path}")));
        }
        let kind = match self.moved_from {
            Some(from) => {
                check_path(&from)?;
                if self.copied {
                    ChangeKind::Copied(from)
                } else {
                    ChangeKind::Renamed(from)
                }
            }
            None if created && deleted => return Err((MALFORMED, format!("{path} is both made and removed"))),
            None if created => ChangeKind::New,
            None if deleted => ChangeKind::Deleted,
            None if !self.hunks.is_empty() => ChangeKind::Modified,
            None if self.mode_changed => ChangeKind::ModeOnly,
            None => return Err((MALFORMED, format!("no change of {path} is given"))),
        };
        Ok(Some(FileChange {
            path,
            spelt: self.spelt,
            kind,
            hunks: self.hunks,
            patch: patch.to_owned(),
            number: 0,
            crlf: false,
        }))
    }
}

/// Only plain relative paths may reach the file system.
pub(super) fn check_path(path: &str) -> Result<(), (Code, String)> {
    let bad = path.is_empty() || path.contains('\0') || path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if bad {
        Err((
            OUTSIDE_TREE,
            format!("the path `{}` does not stay in the tree", path.escape_debug()),
        ))
    } else {
        Ok(())
    }
}

fn is_binary_mark(line: &[u8]) -> bool {
    line == b"GIT binary patch" || (line.starts_with(b"Binary files ") && line.ends_with(b" differ"))
}

/// A name from a `---` or `+++` line without its time stamp.
fn whole_name(text: &[u8]) -> Result<String, String> {
    if text.starts_with(b"\"") {
        return unquote(text);
    }
    let end = text.iter().position(|byte| *byte == b'\t').unwrap_or(text.len());
    utf8(text[..end].trim_ascii_end())
}

/// The same without its first components.
fn file_name(text: &[u8], strip: usize) -> Result<Name, String> {
    let name = whole_name(text)?;
    if name == "/dev/null" {
        Ok(Name::Nothing)
    } else {
        without(&name, strip).map(Name::Path)
    }
}

/// The path in `a/PATH b/PATH`. With two different paths other header lines name them.
fn git_header_path(text: &[u8], strip: usize) -> Result<Option<String>, String> {
    if text.starts_with(b"\"") {
        let end = text.len() / 2;
        return unquote(&text[..end])
            .and_then(|name| without(&name, strip))
            .map(Some)
            .or(Ok(None));
    }
    let text = utf8(text)?;
    let middle = text.len() / 2;
    let (Some(a), Some(b)) = (text.get(..middle), text.get(middle + 1..)) else {
        return Ok(None);
    };
    let (Ok(a), Ok(b)) = (without(a, strip), without(b, strip)) else {
        return Ok(None);
    };
    Ok((a == b).then_some(a))
}

/// A name without so many leading folders.
fn without(name: &str, strip: usize) -> Result<String, String> {
    let mut rest = name;
    for _ in 0..strip {
        rest = match rest.split_once('/') {
            // An absolute name must not become a relative one by accident.
            Some(("", _)) => return Ok(name.to_owned()),
            Some((_, after)) => after,
            None if strip == 1 => {
                return Err(format!(
                    "the name `{}` lacks the leading `a/` or `b/`",
                    name.escape_debug()
                ));
            }
            None => {
                return Err(format!(
                    "the name `{}` has fewer folders than -p{strip} takes off",
                    name.escape_debug()
                ));
            }
        };
    }
    Ok(rest.to_owned())
}

fn utf8(text: &[u8]) -> Result<String, String> {
    String::from_utf8(text.to_vec()).map_err(|_| "a file name is not UTF-8".to_owned())
}

/// Undoes git's quoting of unusual names.
fn unquote(text: &[u8]) -> Result<String, String> {
    let Some(inner) = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")) else {
        return utf8(text);
    };
    let mut out = Vec::new();
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'\\' {
            escape(&mut bytes).ok_or("a quoted file name is damaged")?
        } else {
            byte
        });
    }
    utf8(&out)
}

fn escape(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    Some(match bytes.next()? {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        byte @ (b'"' | b'\\') => byte,
        first @ b'0'..=b'3' => {
            let mut digit = || {
                bytes
                    .next()
                    .filter(|byte| (b'0'..=b'7').contains(byte))
                    .map(|byte| byte - b'0')
            };
            (first - b'0') << 6 | digit()? << 3 | digit()?
        }
        _ => return None,
    })
}

/// `@@ -10,3 +10,4 @@` as the start and count of the original and the count of the patched side.
fn parse_range(line: &[u8]) -> Option<(usize, usize, usize)> {
    let line = std::str::from_utf8(&line[..line.len().min(80)]).or_else(|error| {
        // The function name behind the numbers may be cut or of any encoding.
        std::str::from_utf8(&line[..error.valid_up_to()])
    });
    let rest = line.ok()?.strip_prefix("@@ -")?;
    let (orig, rest) = rest.split_once(" +")?;
    let (patched, _) = rest.split_once(" @@")?;
    let side = |text: &str| -> Option<(usize, usize)> {
        let (start, count) = text.split_once(',').unwrap_or((text, "1"));
        // Far beyond any source file, and far below what arithmetic on it could overflow.
        let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n < 1 << 30).map(|n| n as usize);
        Some((number(start)?, number(count)?))
    };
    let ((orig_start, orig_count), (_, patched_count)) = (side(orig)?, side(patched)?);
    (orig_count + patched_count > 0).then_some((orig_start, orig_count, patched_count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> Vec<FileChange> {
        parse("p", text.as_bytes()).unwrap()
    }

    fn code(text: &str) -> &'static str {
        parse("p", text.as_bytes()).unwrap_err().code.name()
    }

    const GIT: &str = "From 1234\nSubject: x\n---\n fs/a.c | 2 +-\n\ndiff --git a/fs/a.c b/fs/a.c\nindex 1..2 100644\n\
        --- a/fs/a.c\n+++ b/fs/a.c\n@@ -1,3 +1,3 @@ int f(void)\n one\n-two\n+TWO\n three\n-- \n2.39.5\n";

    #[test]
    fn a_mailed_git_patch() {
        let files = ok(GIT);
        assert_eq!(
            (files.len(), files[0].path.as_str(), &files[0].kind),
            (1, "fs/a.c", &ChangeKind::Modified)
        );
        let hunk = &files[0].hunks[0];
        assert_eq!((hunk.orig_start, hunk.number, hunk.patch_line), (1, 1, 10));
        assert_eq!(
            hunk.patched().collect::<Vec<_>>(),
            [b"one\n".as_slice(), b"TWO\n", b"three\n"]
        );
    }

    #[test]
    fn a_plain_diff_of_two_files() {
        let files = ok(
            "--- a/x.c\t2020-01-01\n+++ b/x.c\t2020\n@@ -1 +1 @@\n-a\n+b\n--- a/y.c\n+++ b/y.c\n@@ -1 +1 @@\n-a\n+b\n",
        );
        assert_eq!(
            files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
            ["x.c", "y.c"]
        );
    }

    #[test]
    fn kinds_of_change() {
        let kind = |text: &str| ok(text).remove(0).kind;
        assert_eq!(kind("--- /dev/null\n+++ b/n.c\n@@ -0,0 +1 @@\n+x\n"), ChangeKind::New);
        assert_eq!(
            kind("--- a/n.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"),
            ChangeKind::Deleted
        );
        let renamed = "diff --git a/o.c b/n.c\nsimilarity index 100%\nrename from o.c\nrename to n.c\n";
        assert_eq!(kind(renamed), ChangeKind::Renamed("o.c".into()));
        assert_eq!(
            kind("diff --git a/s.sh b/s.sh\nold mode 100644\nnew mode 100755\n"),
            ChangeKind::ModeOnly
        );
        assert_eq!(
            kind("diff --git a/e.h b/e.h\nnew file mode 100644\nindex 000..e69\n"),
            ChangeKind::New
        );
    }

    #[test]
    fn a_missing_last_newline_is_kept() {
        let files = ok("--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        assert_eq!(files[0].hunks[0].lines[0].text, b"a");
        assert_eq!(files[0].hunks[0].lines[1].text, b"a\n");
        // Here the patch file itself lacks its last line end.
        assert_eq!(
            ok("--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b")[0].hunks[0].lines[1].text,
            b"b\n"
        );
    }

    #[test]
    fn quoted_names_and_stripped_blanks() {
        let files = ok("--- \"a/d\\303\\251.c\"\n+++ \"b/d\\303\\251.c\"\n@@ -1,2 +1,2 @@\n\n-a\n+b\n");
        assert_eq!(files[0].path, "dé.c");
        assert_eq!(
            files[0].hunks[0].lines[0],
            HunkLine {
                side: Side::Both,
                number: 4,
                text: b"\n".to_vec()
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let head = "--- a/x.c\n+++ b/x.c\n";
        for (text, expected) in [
            (format!("{head}@@ -1,2 +1 @@\n-a\n"), "patch.malformed"),
            (format!("{head}@@ -1 +1 @@\n-a\n+b\n+c\n"), "patch.malformed"),
            (format!("{head}@@ -1 +1 @@\n-a\n-b\n+c\n"), "patch.malformed"),
            (format!("{head}@@ -x +1 @@\n"), "patch.malformed"),
            (format!("{head}@@ -99999999999999999999 +1 @@\n"), "patch.malformed"),
            (
                format!("{head}@@ -1,4000000000 +1,4000000000 @@\n a\n"),
                "patch.malformed",
            ),
            (format!("{head}no hunk\n"), "patch.malformed"),
            ("@@ -1 +1 @@\n-a\n+b\n".into(), "patch.malformed"),
            ("--- x.c\n+++ x.c\n@@ -1 +1 @@\n-a\n+b\n".into(), "patch.malformed"),
            ("diff --cc x.c\n".into(), "patch.malformed"),
            ("diff --git a/x b/x\nGIT binary patch\n".into(), "patch.binary"),
            (
                "diff --git a/x b/x\nBinary files a/x and b/x differ\n".into(),
                "patch.binary",
            ),
        ] {
            assert_eq!(code(&text), expected, "{text}");
        }
    }

    #[test]
    fn paths_stay_in_the_tree() {
        for path in ["b/../x.c", "/etc/passwd", "b//etc/passwd", "b/./x.c", "b/fs/../../x"] {
            assert_eq!(
                code(&format!("--- {path}\n+++ {path}\n@@ -1 +1 @@\n-a\n+b\n")),
                "patch.outside-tree",
                "{path}"
            );
        }
        assert_eq!(
            code("diff --git a/x b/y\nrename from ../x\nrename to y\n"),
            "patch.outside-tree"
        );
    }

    /// Every prefix and every single damaged byte of a good patch is parsed or refused, never a panic.
    #[test]
    fn hostile_text_does_not_panic() {
        let good = format!("{GIT}diff --git \"a/\\303\" \"b/\\303\"\nrename from \"\\3\nrename to \"\\\n");
        for end in 0..good.len() {
            let _ = parse("p", &good.as_bytes()[..end]);
        }
        for at in 0..good.len() {
            for byte in [0, b'\n', b'@', b'-', b'9', b'"', 0xff] {
                let mut bytes = good.clone().into_bytes();
                bytes[at] = byte;
                let _ = parse("p", &bytes);
            }
        }
    }
}
