//! The promise that nothing of the user's is ever written, tested the hard way: `build-patch` is killed at random
//! moments, and source tree and build directory must be what they were, to the change time of every file.
//!
//! Change times cannot be set back by a program, so equal ones mean that nobody wrote, not even the same bytes again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use kpatch_build::kernel::KernelBuild;
use kpatch_build::sh;
use kpatch_build::supply::store::hash_file;
use kpatch_build::ui::{Phase, seconds};

/// What is remembered of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    content: Option<String>,
}

/// What folders have, by path.
pub(super) type Traces = BTreeMap<PathBuf, Trace>;

/// Kills `build-patch` this many times at random moments, lets it run to its end once, and compares.
pub fn kill(kernel: &KernelBuild, patch: &Path, work: &Path, runs: u32, phase: &Phase) -> Result<()> {
    phase.expect_steps(u64::from(runs) + 1);
    let folders = [kernel.source.as_path(), &kernel.build];
    let before = traces(&folders, true)?;
    let whole = once(kernel, patch, work, None)?;
    phase.step();
    phase.line(&format!("a whole run takes {}", seconds(whole)));
    compare(&before, &traces(&folders, false)?, "a whole run")?;
    let mut random = Random::new();
    for run in 0..runs {
        // Later runs find warm caches and may end early; a run that was not killed proves nothing, so it is not counted.
        let mut after = whole.mul_f64(random.fraction());
        while once(kernel, patch, work, Some(after))? < after {
            after /= 2;
        }
        compare(
            &before,
            &traces(&folders, false)?,
            &format!("a run killed after {}", seconds(after)),
        )?;
        phase.step();
        phase.line(&format!(
            "killed run {} after {}: nothing changed",
            run + 1,
            seconds(after)
        ));
    }
    once(kernel, patch, work, None).context("the run after the killed ones")?;
    compare(&before, &traces(&folders, true)?, "all runs")
}

/// One run of our own program, in a store of its own that the killed runs may litter. Gives how long it ran; less than
/// `kill_after` if it ended by itself.
fn once(kernel: &KernelBuild, patch: &Path, work: &Path, kill_after: Option<Duration>) -> Result<Duration> {
    let program = std::env::current_exe().context("cannot find our own program")?;
    let mut command = sh::command(program);
    command
        .arg("build-patch")
        .arg(patch)
        .arg("--source")
        .arg(&kernel.source)
        .arg("--build-dir")
        .arg(&kernel.build);
    command
        .arg("--store")
        .arg(work.join("store"))
        .arg("--output")
        .arg(work.join("modules"))
        .arg("--json");
    let log = work.join("killed.log");
    let started = Instant::now();
    match kill_after {
        None => {
            sh::run_logged(&mut command, &log)?;
            Ok(started.elapsed())
        }
        Some(after) => {
            let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
            let mut child = command
                .stdout(file)
                .stderr(std::process::Stdio::null())
                .spawn()
                .context("cannot start")?;
            while started.elapsed() < after {
                if child.try_wait().context("cannot wait")?.is_some() {
                    return Ok(started.elapsed().min(after.saturating_sub(Duration::from_nanos(1))));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            child.kill().context("cannot kill")?;
            child.wait().context("cannot wait")?;
            Ok(started.elapsed())
        }
    }
}

/// What folders have. With contents that takes long.
pub(super) fn traces(folders: &[&Path], contents: bool) -> Result<Traces> {
    let mut paths = Vec::new();
    for root in folders {
        collect(root, &mut paths)?;
    }
    paths
        .into_par_iter()
        .map(|path| {
            let trace = trace(&path, contents).with_context(|| format!("cannot look at {}", path.display()))?;
            Ok((path, trace))
        })
        .collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    paths.push(folder.to_owned());
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), paths)?
        } else {
            paths.push(entry.path())
        }
    }
    Ok(())
}

fn trace(path: &Path, contents: bool) -> Result<Trace> {
    let meta = fs::symlink_metadata(path)?;
    Ok(Trace {
        mode: meta.mode(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        content: (contents && meta.is_file()).then(|| hash_file(path)).transpose()?,
    })
}

/// That folders are as they were. Contents count where both sides have them.
pub(super) fn compare(before: &Traces, after: &Traces, what: &str) -> Result<()> {
    let same = |one: &Trace, other: &Trace| {
        let content = one.content.is_none() || other.content.is_none() || one.content == other.content;
        let plain = |trace: &Trace| Trace {
            content: None,
            ..trace.clone()
        };
        content && plain(one) == plain(other)
    };
    let mut changed: Vec<&PathBuf> = before
        .iter()
        .filter(|(path, trace)| !after.get(*path).is_some_and(|now| same(trace, now)))
        .map(|(path, _)| path)
        .collect();
    changed.extend(after.keys().filter(|path| !before.contains_key(*path)));
    if changed.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = changed.iter().take(10).map(|path| path.display().to_string()).collect();
    bail!(
        "{what} left {} files otherwise than they were: {}",
        changed.len(),
        shown.join(", ")
    )
}

/// Enough randomness to choose moments (xorshift); a run prints the moments it chose.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| u64::from(since.subsec_nanos()));
        Random(nanos | 1)
    }

    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % 1000) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces_of(folder: &Path) -> Traces {
        traces(&[folder], true).expect("readable")
    }

    #[test]
    fn the_same_bytes_written_again_are_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a");
        fs::write(&file, "x").expect("written");
        let before = traces_of(folder.path());
        compare(&before, &traces_of(folder.path()), "nothing").expect("equal");
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&file, "x").expect("written");
        assert!(compare(&before, &traces_of(folder.path()), "a write").is_err());
    }

    #[test]
    fn new_files_are_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = traces_of(folder.path());
        fs::write(folder.path().join("new"), "x").expect("written");
        assert!(compare(&before, &traces_of(folder.path()), "a write").is_err());
    }
}
