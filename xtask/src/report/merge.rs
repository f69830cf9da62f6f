//! The results of several machines become one report. A shard that is missing is a failure: nothing would say that a
//! part of the cases never ran.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::RESULTS;
use crate::e2e::Outcome;
use crate::e2e::record::{FORMAT, RunRecord};
use kpatch_build::outcome::Coded;
use kpatch_build::ui::Ui;

/// The matrix as `e2e --list --json` printed it; other keys do not matter here.
#[derive(Debug, Deserialize)]
struct Matrix {
    include: Vec<Job>,
}

#[derive(Debug, Deserialize)]
struct Job {
    kernel: String,
    arch: String,
    toolchain: String,
    config: String,
    shard: String,
    cases: usize,
}

/// Puts results together: files, or folders with files. `matrix` is the file that says which there should be, `report` is
/// where all that comes of it goes.
///
/// # Errors
/// If a result is missing, or if a case is not as it should be.
pub fn merge(results: &[PathBuf], matrix: Option<&Path>, report: &Path, ui: &Ui) -> Result<()> {
    let mut files = Vec::new();
    for path in results {
        find(path, &mut files)?;
    }
    ensure!(!files.is_empty(), "there is no {RESULTS} to put together");
    let records: Vec<RunRecord> = files.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let missing = match matrix {
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let matrix = serde_json::from_str(&text).with_context(|| format!("{} is not a matrix", path.display()))?;
            missing(&matrix, &records)
        }
        None => Vec::new(),
    };
    let whole = together(records);
    super::write(&whole, report)?;
    ui.say(super::markdown::summary(&whole));
    if !missing.is_empty() {
        bail!(
            "{} jobs of the matrix left no complete result: {}",
            missing.len(),
            missing.join(", ")
        );
    }
    let bad: Vec<_> = whole.cases.iter().filter(|case| !case.outcome.is_good()).collect();
    if let Some(worst) = bad.iter().map(|case| case.outcome).max() {
        let text = format!("{} of {} results are not as expected", bad.len(), whole.cases.len());
        let code = worst.exit_code();
        return Err(Coded { code, text }.into());
    }
    let survivors = whole.mutants.iter().filter(|mutant| mutant.caught.is_none()).count();
    ensure!(survivors == 0, "{survivors} mutants survived");
    Ok(())
}

/// Every results file at or below a path.
fn find(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    if !path.is_dir() {
        found.push(path.to_owned());
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        entries.push(entry.with_context(|| format!("cannot read {}", path.display()))?.path());
    }
    entries.sort();
    for entry in entries {
        if entry.is_dir() || entry.file_name().is_some_and(|name| name == RESULTS) {
            find(&entry, found)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<RunRecord> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let record: RunRecord =
        serde_json::from_str(&text).with_context(|| format!("{} is no result of a run", path.display()))?;
    ensure!(
        record.format == FORMAT,
        "{} has format {}, this tool reads {FORMAT}",
        path.display(),
        record.format
    );
    Ok(record)
}

/// The jobs of which no record has as many cases as they should have had.
fn missing(matrix: &Matrix, records: &[RunRecord]) -> Vec<String> {
    let done = |job: &&Job| {
        records.iter().filter(|record| record.shard == job.shard).any(|record| {
            let own = record.cases.iter().filter(|case| {
                let axis = &case.axis;
                (&*axis.version, axis.arch.name(), &*axis.toolchain, &*axis.config)
                    == (&*job.kernel, &*job.arch, &*job.toolchain, &*job.config)
            });
            own.count() == job.cases
        })
    };
    let name = |job: &Job| {
        format!(
            "{}/{}/{}/{} {}",
            job.kernel, job.arch, job.toolchain, job.config, job.shard
        )
    };
    matrix.include.iter().filter(|job| !done(job)).map(name).collect()
}

/// One record of many. The places of several shards become one, with the time of all of them.
fn together(records: Vec<RunRecord>) -> RunRecord {
    let mut records = records.into_iter();
    let mut whole = records.next().expect("the caller has looked that there is one");
    for record in records {
        whole.command = format!("{}\n{}", whole.command, record.command);
        whole.seconds += record.seconds;
        whole.cases.extend(record.cases);
        whole.mutants.extend(record.mutants);
        for axis in record.axes {
            match whole.axes.iter_mut().find(|known| known.axis == axis.axis) {
                Some(known) => {
                    known.seconds += axis.seconds;
                    known.boots += axis.boots;
                }
                None => whole.axes.push(axis),
            }
        }
    }
    whole.shard = "1/1".to_owned();
    keep_worst(&mut whole);
    whole
}

/// A case that ran twice (a job was started again) counts with its worse outcome.
fn keep_worst(whole: &mut RunRecord) {
    let mut best: BTreeMap<String, Outcome> = BTreeMap::new();
    let name = |case: &crate::e2e::record::CaseRecord| format!("{}/{}", case.axis, case.case);
    for case in &whole.cases {
        let worst = best.entry(name(case)).or_insert(case.outcome);
        *worst = (*worst).max(case.outcome);
    }
    whole.cases.sort_by_key(name);
    whole.cases.retain(|case| best.get(&name(case)) == Some(&case.outcome));
    whole.cases.dedup_by_key(|case| name(case));
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn matrix(cases: usize) -> Matrix {
        let job = |shard: &str| Job {
            kernel: "6.12.107".into(),
            arch: "x86_64".into(),
            toolchain: "clang-19".into(),
            config: "small".into(),
            shard: shard.into(),
            cases,
        };
        Matrix {
            include: vec![job("1/2"), job("2/2")],
        }
    }

    #[test]
    fn a_missing_shard_is_named() {
        let mut record = sample::record();
        record.shard = "1/2".into();
        let cases = record
            .cases
            .iter()
            .filter(|case| case.axis == record.axes[1].axis)
            .count();
        let missing_jobs = missing(&matrix(cases), std::slice::from_ref(&record));
        assert_eq!(missing_jobs, ["6.12.107/x86_64/clang-19/small 2/2"]);
        assert_eq!(missing(&matrix(cases + 1), &[record]).len(), 2);
    }

    #[test]
    fn shards_become_one_and_a_repeated_case_keeps_its_worse_outcome() {
        let (one, mut two) = (sample::record(), sample::record());
        two.cases.truncate(1);
        two.cases[0].outcome = Outcome::Panic;
        let whole = together(vec![one.clone(), two]);
        assert_eq!(whole.cases.len(), one.cases.len());
        assert!(whole.cases.iter().any(|case| case.outcome == Outcome::Panic));
        assert_eq!(whole.axes.len(), one.axes.len());
    }
}
