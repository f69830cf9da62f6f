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
    fn a_plain_diff_is_called_like_its_file() {
        assert_eq!(of("--- a/x\n+++ b/x\n"), ["fix-it"]);
        assert_eq!(of("diff --git a/x b/x\nSubject: no\n"), ["fix-it"]);
        assert_eq!(of("Subject: [PATCH]\n\n"), ["fix-it"]);
    }
}
