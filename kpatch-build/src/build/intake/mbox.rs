//! Mailboxes: several mails in one file, as `git format-patch --stdout` and mail archives write them, and single mails whose
//! body is encoded (RFC 2045).
//!
//! A mail becomes a patch file with its subject, its text and its change, all bytes as the sender had them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use mailparse::{MailHeaderMap, ParsedMail};

use super::Taker;
use crate::outcome::Ending;
use crate::ui::count;

/// A mail with a change in it.
#[derive(Debug)]
struct Mail {
    subject: String,
    /// The commit in the line before the mail, which git puts there.
    commit: Option<String>,
    body: Vec<u8>,
    /// `2/5` of the subject.
    place: Option<(usize, usize)>,
}

/// Whether a text is more than one plain patch: several mails, or one that has to be decoded.
pub fn is_mailbox(text: &[u8]) -> bool {
    let starts = starts(text);
    starts.len() > 1 || is_encoded(text)
}

/// Whether a text has the beginning of a change.
pub fn has_change(text: &[u8]) -> bool {
    let mut before: &[u8] = b"";
    text.split(|byte| *byte == b'\n').any(|line| {
        let names = before.starts_with(b"--- ") && line.starts_with(b"+++ ");
        before = line;
        names || line.starts_with(b"diff --git ") || line.starts_with(b"@@ -")
    })
}

/// Takes the patches of a mailbox. Mails without a change, such as cover letters and replies, are left out and named.
pub fn take(taker: &mut Taker, text: &[u8], what: &str) -> Result<()> {
    let starts = starts(text);
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let mut mails = Vec::new();
    let (mut others, mut all) = (Vec::new(), 0);
    for (start, end) in starts.iter().copied().zip(ends) {
        all += 1;
        let mail = read(&text[start..end]).map_err(|why| Ending::usage(format!("{what}: mail {all}: {why}")))?;
        if has_change(&mail.body) {
            mails.push(mail);
        } else {
            others.push(mail.subject);
        }
    }
    if mails.is_empty() {
        let found = count(all, "mail", "mails");
        return Err(Ending::usage(format!("{what}: {found}, and none has a patch")));
    }
    for subject in others {
        taker.note(format!("{what}: `{subject}` changes nothing and was left out"));
    }
    for note in in_order(&mut mails) {
        taker.note(format!("{what}: {note}"));
    }
    for mail in mails {
        let title = plain(&mail.subject);
        taker.save(title, &mail.text())?;
    }
    Ok(())
}

impl Mail {
    /// The mail as a patch file. Its line ends are those of its body: that of all lines decides how they are read.
    fn text(&self) -> Vec<u8> {
        let end = if only_crlf(&self.body) { "\r\n" } else { "\n" };
        let mut head = String::new();
        if let Some(commit) = &self.commit {
            head += &format!("From {commit} Mon Sep 17 00:00:00 2001{end}");
        }
        head += &format!("Subject: {}{end}{end}", self.subject);
        let mut text = head.into_bytes();
        text.extend(&self.body);
        text
    }
}

/// Where mails begin. A file without a line that says so is one mail.
fn starts(text: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if is_start(line) {
            found.push(at);
        }
        at += line.len();
    }
    match found.first() {
        Some(0) => found,
        // What stands before the first mail is none.
        Some(first) if text[..*first].iter().all(u8::is_ascii_whitespace) => found,
        _ => [vec![0], found].concat(),
    }
}

/// `From SOMEBODY Thu Jan  1 00:00:00 1970`, maybe with a time zone (RFC 4155).
fn is_start(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"From ") else {
        return false;
    };
    let Ok(rest) = std::str::from_utf8(rest) else {
        return false;
    };
    let is_time = |word: &str| {
        let parts: Vec<&str> = word.split(':').collect();
        matches!(parts.len(), 2 | 3)
            && parts
                .iter()
                .all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_year = |word: &str| word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit());
    let words: Vec<&str> = rest.split_whitespace().collect();
    words.len() >= 5
        && words.iter().skip(1).any(|word| is_time(word))
        && words.iter().rev().take(2).any(|word| is_year(word))
}

/// Whether the header of the first mail says that its body has to be decoded, or is in parts.
fn is_encoded(text: &[u8]) -> bool {
    const LONGEST: usize = 1 << 16;
    let head = String::from_utf8_lossy(&text[..text.len().min(LONGEST)]);
    let lines = head
        .lines()
        .take_while(|line| !line.trim().is_empty() && !line.starts_with("diff ") && !line.starts_with("--- "));
    let says = |line: &str| {
        let Some((name, value)) = line.split_once(':') else {
            return false;
        };
        let value = value.trim().to_ascii_lowercase();
        let encoded =
            name.eq_ignore_ascii_case("content-transfer-encoding") && matches!(&*value, "base64" | "quoted-printable");
        encoded || (name.eq_ignore_ascii_case("content-type") && value.starts_with("multipart/"))
    };
    lines.into_iter().any(says)
}

fn read(raw: &[u8]) -> Result<Mail, String> {
    let raw = if only_crlf(raw) { with_lf(raw) } else { raw.to_vec() };
    let (first, rest) = match raw.iter().position(|byte| *byte == b'\n') {
        Some(end) if is_start(&raw[..end]) => (&raw[..end], &raw[end + 1..]),
        _ => (&raw[..0], &raw[..]),
    };
    let mail = mailparse::parse_mail(rest).map_err(|error| format!("it cannot be read: {error}"))?;
    let subject = mail.headers.get_first_value("Subject").unwrap_or_default();
    let subject: String = subject.split_whitespace().collect::<Vec<_>>().join(" ");
    let subject: String = subject.chars().filter(|c| !c.is_control()).collect();
    let commit = String::from_utf8_lossy(first);
    let commit = commit.split_whitespace().nth(1).filter(|word| is_commit(word));
    let mut body = Vec::new();
    append(&mail, &mut body)?;
    Ok(Mail {
        place: place(&subject),
        commit: commit.map(str::to_owned),
        subject,
        body,
    })
}

fn is_commit(word: &str) -> bool {
    matches!(word.len(), 40 | 64)
        && word.bytes().all(|byte| byte.is_ascii_hexdigit())
        && word.bytes().any(|byte| byte != b'0')
}

/// The text of a mail, and patches attached to it.
fn append(mail: &ParsedMail<'_>, body: &mut Vec<u8>) -> Result<(), String> {
    if !mail.subparts.is_empty() {
        // Of alternatives to one another the first is the plainest (RFC 2046, 5.1.4).
        let most = if mail.ctype.mimetype == "multipart/alternative" {
            1
        } else {
            mail.subparts.len()
        };
        return mail.subparts.iter().take(most).try_for_each(|part| append(part, body));
    }
    let kind = mail.ctype.mimetype.as_str();
    let name = mail
        .get_content_disposition()
        .params
        .get("filename")
        .cloned()
        .unwrap_or_default();
    let is_patch = name.ends_with(".patch") || name.ends_with(".diff");
    let is_text = kind.starts_with("text/") && kind != "text/html";
    if !is_text && !is_patch {
        return Ok(());
    }
    let decoded = mail
        .get_body_raw()
        .map_err(|error| format!("its body cannot be decoded: {error}"))?;
    let encoding = mail
        .headers
        .get_first_value("Content-Transfer-Encoding")
        .unwrap_or_default();
    // Decoding makes CRLF of the line ends of the encoded text, which are no part of the change.
    let decoded = if encoding.trim().eq_ignore_ascii_case("quoted-printable") {
        with_lf(&decoded)
    } else {
        decoded
    };
    body.extend(decoded);
    if !body.ends_with(b"\n") {
        body.push(b'\n');
    }
    Ok(())
}

/// Whether there are lines and all end in CRLF.
fn only_crlf(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .split_inclusive(|byte| *byte == b'\n')
            .all(|line| line.ends_with(b"\r\n") || line.is_empty())
}

fn with_lf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(line) => {
                out.extend(line);
                out.push(b'\n');
            }
            None => out.extend(line),
        }
    }
    out
}

/// `[PATCH v2 3/7]` as 3 of 7.
fn place(subject: &str) -> Option<(usize, usize)> {
    let (_, rest) = subject.split_once('[')?;
    let (inner, _) = rest.split_once(']')?;
    inner.split_whitespace().find_map(|word| {
        let (at, of) = word.split_once('/')?;
        Some((at.parse().ok()?, of.parse().ok()?))
    })
}

/// A subject without what is in brackets before it.
fn plain(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        rest = after.trim_start();
    }
    rest
}

/// An archive has the mails of a thread in the order in which they came. If all are numbered as parts of one series, that
/// is their order. What is missing of it is said.
fn in_order(mails: &mut [Mail]) -> Vec<String> {
    let Some(places) = mails.iter().map(|mail| mail.place).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    let numbers: BTreeSet<usize> = places.iter().map(|(at, _)| *at).collect();
    let of: BTreeSet<usize> = places.iter().map(|(_, of)| *of).collect();
    let (1, Some(of)) = (of.len(), of.first().copied()) else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    if numbers.len() < places.len() {
        let mut seen = BTreeMap::new();
        places.iter().for_each(|(at, _)| *seen.entry(*at).or_insert(0) += 1);
        let twice: Vec<String> = seen
            .into_iter()
            .filter(|(_, times)| *times > 1)
            .map(|(at, _)| format!("{at}/{of}"))
            .collect();
        notes.push(format!(
            "{} is there more than once: are these several versions?",
            twice.join(", ")
        ));
        return notes;
    }
    if !places.is_sorted() {
        mails.sort_by_key(|mail| mail.place);
        notes.push("the patches were put in the order of their numbers".to_owned());
    }
    const SHOWN: usize = 5;
    let missing: Vec<String> = (1..=of.min(super::MOST_PATCHES))
        .filter(|at| !numbers.contains(at))
        .map(|at| format!("{at}/{of}"))
        .collect();
    match missing.len() {
        0 => {}
        many if many > SHOWN => notes.push(format!(
            "{} and {} more are not there",
            missing[..SHOWN].join(", "),
            many - SHOWN
        )),
        _ => notes.push(format!("{} is not there", missing.join(", "))),
    }
    notes
}
