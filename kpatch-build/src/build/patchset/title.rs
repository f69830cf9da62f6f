//! What a patch is called: the subjects of its mails, and the CVE numbers that it names.

use std::collections::BTreeSet;
use std::path::Path;

use kpatch_runtime::about;

/// How long a title may be. It goes into the module.
const MAX_TITLE: usize = 120;

/// The titles of a patch file: one for each mail in it, or the name of the file if it is a plain diff.
pub fn titles(path: &Path, text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut titles = subjects(&text);
    if titles.is_empty() {
        let stem = path.file_stem().unwrap_or_default();
        titles.push(about::plain(&stem.to_string_lossy()));
    }
    // Which of several mails a number belongs to is not looked at: it is said with the first.
    let new: Vec<String> = cves(&text)
        .into_iter()
        .filter(|cve| !titles.iter().any(|title| title.contains(cve)))
        .collect();
    if let (Some(first), false) = (titles.first_mut(), new.is_empty()) {
        *first = format!("{first} ({})", new.join(", "));
    }
    titles
}

/// What a patch says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Title {
    /// The subject of its mail, or the name of its file.
    pub subject: String,
    /// The commit that it is: the one upstream if the text names that, else the one that git wrote before the mail.
    pub commit: Option<String>,
    /// CVE numbers in subject, text or name of the file, each once.
    pub cves: Vec<String>,
    /// The commits that brought what it fixes, as `Fixes:` says.
    pub fixes: Vec<String>,
}

impl Title {
    /// That of a patch file.
    pub fn of(path: &Path, text: &[u8]) -> Title {
        let text = String::from_utf8_lossy(text);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        // What the change itself has is none of it: code may name a CVE, too.
        let is_change = |line: &&str| line.starts_with("diff ") || line.starts_with("+++ ");
        let head: Vec<&str> = text.lines().take_while(|line| !is_change(line)).collect();
        let subject = subjects(&text).into_iter().next();
        let fixes = head.iter().filter_map(|line| line.trim().strip_prefix("Fixes:"));
        let fixes = fixes.map(|line| {
            line.chars()
                .filter(|c| !c.is_control())
                .take(MAX_TITLE)
                .collect::<String>()
        });
        Title {
            subject: subject.unwrap_or_else(|| stem.clone().into_owned()),
            commit: head
                .iter()
                .find_map(|line| upstream(line))
                .or_else(|| own_commit(head.first()?)),
            cves: cves(&format!("{}\n{stem}", head.join("\n"))).into_iter().collect(),
            fixes: fixes
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect(),
        }
    }
}

/// The commit in a line of the stable trees: `commit SHA upstream.` or `[ Upstream commit SHA ]`; or of `git cherry-pick -x`.
fn upstream(line: &str) -> Option<String> {
    let line = line.trim();
    let stable = line
        .strip_prefix("commit ")
        .and_then(|rest| rest.strip_suffix('.').unwrap_or(rest).strip_suffix(" upstream"));
    let bracket = line
        .strip_prefix("[ Upstream commit ")
        .and_then(|rest| rest.strip_suffix(" ]"));
    let picked = line
        .strip_prefix("(cherry picked from commit ")
        .and_then(|rest| rest.strip_suffix(')'));
    let commit = stable.or(bracket).or(picked)?.trim();
    is_commit(commit).then(|| commit.to_owned())
}

fn own_commit(line: &str) -> Option<String> {
    let commit = line.strip_prefix("From ")?.split_whitespace().next()?;
    (is_commit(commit) && commit.bytes().any(|byte| byte != b'0')).then(|| commit.to_owned())
}

fn is_commit(word: &str) -> bool {
    (12..=64).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The subjects in the headers of mails. A header ends with the first empty line; a line that begins with a blank goes on
/// with the one before (RFC 5322, 2.2.3).
fn subjects(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut in_header, mut in_subject) = (true, false);
    for line in text.lines() {
        if line.starts_with("From ") {
            in_header = true;
        }
        if line.trim().is_empty() || line.starts_with("diff ") || line.starts_with("--- ") {
            in_header = false;
        }
        if !in_header {
            continue;
        }
        if let Some(subject) = line.strip_prefix("Subject:") {
            found.push(subject.trim().to_owned());
            in_subject = true;
        } else if in_subject && line.starts_with([' ', '\t']) {
            if let Some(last) = found.last_mut() {
                last.push(' ');
                last.push_str(line.trim());
            }
        } else {
            in_subject = false;
        }
    }
    found
        .iter()
        .map(|subject| plain(subject))
        .filter(|subject| !subject.is_empty())
        .collect()
}

/// A subject without `[PATCH 2/3]` and its like, and without what cannot be printed.
fn plain(subject: &str) -> String {
    let mut rest = subject.trim();
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        rest = after.trim_start();
    }
    let seen = rest.chars().filter(|c| !c.is_control()).take(MAX_TITLE);
    about::plain(&seen.collect::<String>())
}

/// The CVE numbers in a text, each once.
fn cves(text: &str) -> BTreeSet<String> {
    let number = |rest: &str| {
        let (year, rest) = rest.split_once('-')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let is_year = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
        (is_year && digits >= 4).then(|| format!("CVE-{year}-{}", &rest[..digits]))
    };
    text.split("CVE-").skip(1).filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        titles(Path::new("a/fix-it.patch"), text.as_bytes())
    }

    #[test]
    fn a_mail_is_called_by_its_subject() {
        let mail = "From 0123 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nSubject: [PATCH net 1/2] tcp: do not\n  forget\nDate: x\n\n\
                    Subject: not this\nfixes CVE-2026-12345, CVE-2026-1 and CVE-2026-12345\n---\n--- a/x\n";
        assert_eq!(of(mail), ["tcp: do not forget (CVE-2026-12345)"]);
        assert_eq!(of(&format!("{mail}{}", mail.replace("tcp", "udp"))).len(), 2);
        assert_eq!(of("Subject: CVE-2026-12345: x\n\n"), ["CVE-2026-12345: x"]);
    }

    #[test]
    fn what_a_patch_says_of_itself_is_read() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let mail = format!(
            "From {a} Mon Sep 17 00:00:00 2001\nSubject: [PATCH 6.12 2/9] x: fix\n y\n\n[ Upstream commit {b} ]\n\nThis is CVE-2026-12345.\n\n\
             Fixes: 0123456789ab (\"x: add y\")\n---\ndiff --git a/x b/x\n+/* CVE-2020-1111 */\n"
        );
        let title = Title::of(Path::new("q/0002-CVE-2026-22222.patch"), mail.as_bytes());
        assert_eq!(title.subject, "x: fix y");
        assert_eq!(title.commit.as_deref(), Some(&*b));
        assert_eq!(title.cves, ["CVE-2026-12345", "CVE-2026-22222"]);
        assert_eq!(title.fixes, ["0123456789ab (\"x: add y\")"]);
        let commit = |text: &str| Title::of(Path::new("q"), text.as_bytes()).commit;
        assert_eq!(
            commit(&format!("From {a} Mon\nSubject: x\n\ncommit {b} upstream.\n")),
            Some(b.clone())
        );
        assert_eq!(commit(&format!("From {a} Mon\nSubject: x\n\n")), Some(a));
        assert_eq!(
            commit(&format!(
                "From {} Mon\nSubject: x\n\ncommit messages upstream\n",
                "0".repeat(40)
            )),
            None
        );
    }

    #[test]
    fn a_plain_diff_is_called_like_its_file() {
        assert_eq!(of("--- a/x\n+++ b/x\n"), ["fix-it"]);
        assert_eq!(of("diff --git a/x b/x\nSubject: no\n"), ["fix-it"]);
        assert_eq!(of("Subject: [PATCH]\n\n"), ["fix-it"]);
    }
}
