//! Commits of a git repository, the oldest first.
//!
//! Only plumbing is asked, with the options spelt out: what a user has configured for diffs must not decide what is built.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use kpatch_core::codes::patch::MERGE;
use kpatch_core::{Refusal, Subject};

use super::{MOST_PATCHES, Taker};
use crate::outcome::Ending;
use crate::sh;

/// Takes the commits of `A..B`.
pub fn take(taker: &mut Taker, repository: &Path, range: &str) -> Result<()> {
    let wrong = |why: &str| Ending::usage(format!("--git {} {range}: {why}", repository.display()));
    let ends = range.split_once("..").filter(|(from, to)| {
        let is_name = |name: &str| !name.is_empty() && !name.contains("..") && !name.starts_with(['.', '-']);
        is_name(from) && is_name(to)
    });
    let Some((from, to)) = ends else {
        return Err(wrong("name two commits with `..` between them, the older one first"));
    };
    if sh::find("git").is_none() {
        return Err(Ending::infrastructure("git is not there, and --git needs it"));
    }
    let repository = repository.canonicalize().map_err(|error| wrong(&error.to_string()))?;
    let git = Git {
        repository: &repository,
    };
    if git.ask(&["rev-parse", "--git-dir"]).is_err() {
        return Err(wrong(
            "this is no git repository, or git does not trust it (`git config safe.directory`)",
        ));
    }
    let commit = |name: &str| {
        let found = git.ask(&[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &format!("{name}^{{commit}}"),
        ]);
        found
            .map(|text| text.trim().to_owned())
            .map_err(|_| wrong(&format!("there is no commit `{name}`")))
    };
    let (from, to) = (commit(from)?, commit(to)?);
    let span = format!("{from}..{to}");
    let merges = git.ask(&[
        "rev-list",
        "--min-parents=2",
        "--max-count=4",
        "--end-of-options",
        &span,
    ])?;
    if let Some(first) = merges.lines().next() {
        return Err(Ending::refused(merge(&git, first, merges.lines().count(), range)));
    }
    let most = format!("--max-count={}", MOST_PATCHES + 1);
    let commits = git.ask(&[
        "rev-list",
        "--reverse",
        "--topo-order",
        &most,
        "--end-of-options",
        &span,
    ])?;
    if commits.trim().is_empty() {
        return Err(wrong("there is no commit in this range; is the older one first?"));
    }
    if commits.lines().count() > MOST_PATCHES {
        return Err(wrong(&format!("there are more than {MOST_PATCHES} commits")));
    }
    commits.lines().try_for_each(|commit| take_one(taker, &git, commit))
}

/// Takes one commit as a patch with its message.
fn take_one(taker: &mut Taker, git: &Git<'_>, commit: &str) -> Result<()> {
    let message = git.bytes(&[
        "log",
        "-1",
        "--no-color",
        "--no-show-signature",
        "--format=%s%n%n%b",
        commit,
    ])?;
    let change = git.bytes(&[DIFF, &[commit]].concat())?;
    let title = String::from_utf8_lossy(&message);
    let title = title.lines().next().unwrap_or_default().to_owned();
    if change.trim_ascii().is_empty() {
        let short = &commit[..SHORT.min(commit.len())];
        taker.note(format!("commit {short} `{title}` changes nothing and was left out"));
        return Ok(());
    }
    let mut text = format!("From {commit} Mon Sep 17 00:00:00 2001\nSubject: ").into_bytes();
    // Lines of the message that look like a change are none.
    for (index, line) in message.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let marks: [&[u8]; 4] = [b"diff ", b"--- ", b"@@ ", b"From "];
        if index > 0 && marks.iter().any(|mark| line.starts_with(mark)) {
            text.push(b' ');
        }
        text.extend(line);
    }
    text.extend(b"---\n\n");
    text.extend(change);
    taker.save(&title, &text)
}

/// How much of a commit's name a person reads.
const SHORT: usize = 12;

/// The change of a commit, whatever is configured.
const DIFF: &[&str] = &[
    "diff-tree",
    "--root",
    "-r",
    "-p",
    "-M",
    "--no-commit-id",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--full-index",
    "--no-relative",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--src-prefix=a/",
    "--dst-prefix=b/",
];

fn merge(git: &Git<'_>, first: &str, many: usize, range: &str) -> Refusal {
    let title = git
        .ask(&["log", "-1", "--no-color", "--format=%h `%s`", "--end-of-options", first])
        .unwrap_or_default();
    let more = if many > 1 { ", and more of the range," } else { "" };
    let why = format!(
        "{}{more} is a merge: which of its sides is the patch, nobody can tell",
        title.trim()
    );
    Refusal::new(MERGE, Subject::file(range), why)
        .hint("name a range without merges, or make patches of what is wanted: `git rebase`, or `git diff A B > all.patch` for one patch")
}

struct Git<'a> {
    repository: &'a Path,
}

impl Git<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = sh::command("git");
        command.arg("-C").arg(self.repository);
        // A path of a patch has its bytes; a line that is no text is one all the same.
        command.args([
            "-c",
            "core.quotePath=true",
            "-c",
            "diff.orderFile=",
            "-c",
            "diff.suppressBlankEmpty=false",
        ]);
        command.args([
            "-c",
            "i18n.logOutputEncoding=UTF-8",
            "--no-pager",
            "--literal-pathspecs",
        ]);
        command.args(arguments);
        command
    }

    fn bytes(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        sh::bytes(&mut self.command(arguments)).context("git could not tell what a commit changes")
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        self.bytes(arguments)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}
