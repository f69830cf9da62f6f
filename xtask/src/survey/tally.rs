//! Counts: how many of each outcome, how often each code, and the shares that follow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::codes;
use super::record::{ALL, Outcome, Record};
use kpatch_build::ui::seconds;

#[derive(Debug, Clone, Serialize)]
pub struct About {
    /// The version that runs.
    pub from: String,
    /// The version with the changes.
    pub to: String,
    /// Architecture, toolchain and configuration, e.g. `x86_64/clang-19/small`.
    pub place: String,
    /// Identity of the kernel build.
    pub build: String,
    /// Files that differ between the sources.
    pub changed: usize,
    /// Those that the kernel was made of.
    pub in_kernel: usize,
    /// Those left out because too many objects are made from them, and because of a limit.
    pub left_out: usize,
    /// Those that should have been tried and were not, or whose machine told nothing.
    pub not_judged: usize,
    /// States of the tool that found this out.
    pub tools: BTreeSet<String>,
}

/// A survey, as far as it got.
#[derive(Debug, Clone, Serialize)]
pub struct Survey {
    /// What it is about.
    pub about: About,
    /// Each outcome with its number.
    pub counts: BTreeMap<Outcome, usize>,
    /// Livepatchable only together with other files; part of the livepatchable ones.
    pub together: usize,
    /// Of the files whose change does something in this kernel, the share in percent that can be livepatched.
    pub share: f64,
    /// Each file, by path.
    pub records: Vec<Record>,
}

/// How often a code stood among the reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeCount {
    pub code: String,
    /// Files that have it.
    pub files: usize,
    /// Files that have no other.
    pub alone: usize,
}

impl Survey {
    /// Counts.
    pub fn of(about: About, records: Vec<Record>) -> Self {
        let mut counts = BTreeMap::new();
        for record in &records {
            *counts.entry(record.outcome).or_default() += 1;
        }
        let good = |record: &&Record| matches!(record.outcome, Outcome::Livepatchable | Outcome::Built);
        let doing = records
            .iter()
            .filter(|record| record.outcome != Outcome::NoChange && record.outcome != Outcome::BootOnly)
            .count();
        let can = records.iter().filter(good).count();
        Survey {
            about,
            counts,
            together: records
                .iter()
                .filter(good)
                .filter(|record| !record.with.is_empty())
                .count(),
            share: percent(can, doing),
            records,
        }
    }

    /// How many have this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.counts.get(&outcome).copied().unwrap_or(0)
    }

    /// The codes of an outcome, the most frequent first.
    pub fn codes(&self, outcomes: &[Outcome]) -> Vec<CodeCount> {
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for record in self.records.iter().filter(|record| outcomes.contains(&record.outcome)) {
            for code in &record.codes {
                let (files, alone) = counts.entry(code).or_default();
                *files += 1;
                *alone += usize::from(record.codes.len() == 1);
            }
        }
        let count = |(code, (files, alone)): (&str, (usize, usize))| CodeCount {
            code: code.to_owned(),
            files,
            alone,
        };
        let mut counts: Vec<CodeCount> = counts.into_iter().map(count).collect();
        counts.sort_by(|a, b| b.files.cmp(&a.files).then_with(|| a.code.cmp(&b.code)));
        counts
    }

    /// Records by the top of their path, e.g. `drivers/net`, with their number; small ones together as `other`.
    pub fn areas(&self) -> Vec<(String, Vec<&Record>)> {
        let mut areas: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
        for record in &self.records {
            areas.entry(area(&record.file)).or_default().push(record);
        }
        let mut areas: Vec<(String, Vec<&Record>)> = areas
            .into_iter()
            .map(|(name, records)| (name.to_owned(), records))
            .collect();
        areas.sort_by_key(|(_, records)| std::cmp::Reverse(records.len()));
        areas
    }
}

fn area(file: &str) -> &str {
    file.split('/').next().unwrap_or(file)
}

/// A share of a hundred; none of nothing.
pub fn percent(part: usize, whole: usize) -> f64 {
    let float = |number: usize| u32::try_from(number).map_or(f64::INFINITY, f64::from);
    if whole == 0 {
        0.0
    } else {
        100.0 * float(part) / float(whole)
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = &self.about;
        let (from, to, place) = (&about.from, &about.to, &about.place);
        writeln!(f, "survey      Linux {from} to {to} on {place}")?;
        let (changed, in_kernel, judged) = (about.changed, about.in_kernel, self.records.len());
        writeln!(
            f,
            "files       {changed} differ, this kernel is made of {in_kernel} of them, {judged} judged"
        )?;
        if about.left_out + about.not_judged > 0 {
            let (left_out, not_judged) = (about.left_out, about.not_judged);
            writeln!(
                f,
                "            {left_out} left out as asked, {not_judged} not judged yet"
            )?;
        }
        for outcome in ALL.into_iter().filter(|outcome| self.count(*outcome) > 0) {
            let count = self.count(outcome);
            write!(f, "{count:>5}  {:5.1} %  {}", percent(count, judged), outcome.shown())?;
            match outcome {
                Outcome::Livepatchable | Outcome::Built if self.together > 0 => {
                    writeln!(f, " ({} of them only with the changes of other files)", self.together)?;
                }
                _ => writeln!(f)?,
            }
        }
        for (title, outcomes) in [
            ("refused", &[Outcome::Refused][..]),
            ("failed", &[Outcome::Failed, Outcome::Misbehaved]),
        ] {
            let codes = self.codes(outcomes);
            if !codes.is_empty() {
                writeln!(f, "{title} by code (files; files with this reason only)")?;
            }
            for count in codes.iter().take(20) {
                let name = codes::name(&count.code);
                writeln!(f, "{:>5} {:>5}  {:<32} {name}", count.files, count.alone, count.code)?;
            }
        }
        let build: f64 = self.records.iter().map(|record| record.seconds).sum();
        let guest: f64 = self.records.iter().map(|record| record.guest_seconds).sum();
        let show = |time: f64| seconds(Duration::from_secs_f64(time));
        writeln!(
            f,
            "time        {} of building, {} in machines",
            show(build),
            show(guest)
        )?;
        write!(
            f,
            "share       {:.1} % of the files whose change does something in this kernel can be livepatched{}",
            self.share,
            if about.not_judged > 0 {
                ", as far as is known"
            } else {
                ""
            }
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::record::FORMAT;
    use super::*;

    pub fn record(file: &str, outcome: Outcome, codes: &[&str]) -> Record {
        Record {
            format: FORMAT,
            file: file.into(),
            outcome,
            codes: codes.iter().map(|code| (*code).to_owned()).collect(),
            with: Vec::new(),
            functions: vec!["vmlinux:f".into()],
            units: 1,
            detail: "why <b>".into(),
            seconds: 2.0,
            guest_seconds: 0.5,
            tool: "abc".into(),
        }
    }

    pub fn survey() -> Survey {
        let about = About {
            from: "6.12.107".into(),
            to: "6.12.117".into(),
            place: "x86_64/clang-19/small".into(),
            build: "key".into(),
            changed: 100,
            in_kernel: 7,
            left_out: 1,
            not_judged: 0,
            tools: ["abc".to_owned()].into(),
        };
        let mut together = record("fs/c.c", Outcome::Livepatchable, &[]);
        together.with = vec!["include/c.h".into()];
        let records = vec![
            record("fs/a.c", Outcome::Livepatchable, &[]),
            record("fs/b.c", Outcome::Refused, &["select.init-code", "select.data-changed"]),
            together,
            record("include/c.h", Outcome::NoChange, &[]),
            record("mm/d.c", Outcome::Refused, &["select.data-changed"]),
            record("mm/e.c", Outcome::Misbehaved, &["panic"]),
        ];
        Survey::of(about, records)
    }

    #[test]
    fn shares_leave_out_what_changes_nothing() {
        let survey = survey();
        assert_eq!(survey.count(Outcome::Livepatchable), 2);
        assert_eq!(survey.together, 1);
        assert!((survey.share - 40.0).abs() < 0.01, "{}", survey.share);
    }

    #[test]
    fn codes_are_counted_once_a_file_and_the_frequent_ones_come_first() {
        let codes = survey().codes(&[Outcome::Refused]);
        let shown: Vec<(&str, usize, usize)> = codes
            .iter()
            .map(|one| (one.code.as_str(), one.files, one.alone))
            .collect();
        assert_eq!(shown, [("select.data-changed", 2, 1), ("select.init-code", 1, 0)]);
    }

    #[test]
    fn the_text_has_every_number() {
        let text = survey().to_string();
        for wanted in [
            "100 differ",
            "7 of them",
            "6 judged",
            "1 left out",
            "2   33.3 %",
            "1 of them only",
            "40.0 %",
        ] {
            assert!(text.contains(wanted), "{wanted}:\n{text}");
        }
    }
}
