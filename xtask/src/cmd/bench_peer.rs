//! The other program of the same purpose beside ours, pair by pair: `bench differ --peer PROGRAM --peer-objects DIR`.
//!
//! `PROGRAM` is a `create-diff-object` that takes the arguments of kpatch's; `DIR` holds `expectations.yaml`, a list of
//! pairs with the environment that the program wants, and the objects. Both programs get the same files, so that both
//! pay for their start, for reading the list of symbols and for writing the result.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::bench::median;
use crate::project;
use kpatch_build::sh;
use kpatch_build::yaml;

/// What is in `expectations.yaml`.
#[derive(Debug, Deserialize)]
struct List {
    pairs: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    /// Folder and name.
    case: String,
    /// Sizes of structures, which kpatch's driver passes this way.
    #[serde(default)]
    env: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Row {
    case: String,
    /// Median seconds of ours.
    seconds: f64,
    /// Median seconds of the peer.
    peer_seconds: f64,
    /// Exit codes: ours, the peer's.
    codes: [i32; 2],
}

#[derive(Debug, Serialize)]
pub struct Peers {
    /// Seconds that our program takes to start and print its usage: no pair can be faster.
    start_seconds: f64,
    rows: Vec<Row>,
}

/// The two programs, and where they work.
struct Bench<'a> {
    programs: [PathBuf; 2],
    objects: &'a Path,
    work: &'a Path,
    runs: u32,
}

/// Runs both programs over all pairs; `work` is a folder for what they write.
pub fn compare(peer: &Path, objects: &Path, work: &Path, runs: u32) -> Result<Peers> {
    let list: List = yaml::read(&objects.join("expectations.yaml"))?;
    if list.pairs.is_empty() {
        bail!("{} lists no pair", objects.display());
    }
    let bench = Bench {
        programs: [ours()?, sh::require(&peer.to_string_lossy())?],
        objects,
        work,
        runs: runs.max(1),
    };
    let usage =
        (0..bench.runs).map(|_| timed(sh::command(&bench.programs[0]).arg("--help")).map(|(seconds, _)| seconds));
    Ok(Peers {
        start_seconds: median(&usage.collect::<Result<Vec<_>>>()?),
        rows: list.pairs.iter().map(|case| bench.row(case)).collect::<Result<_>>()?,
    })
}

/// Our program, built for release.
fn ours() -> Result<PathBuf> {
    let root = project::root();
    let mut build = sh::command("cargo");
    build.args([
        "build",
        "--quiet",
        "--release",
        "-p",
        "kpatch-core",
        "--bin",
        "create-diff-object",
    ]);
    sh::output(build.current_dir(&root))?;
    Ok(root.join("target/release/create-diff-object"))
}

impl Bench<'_> {
    fn row(&self, case: &Case) -> Result<Row> {
        let object = |side: &str| self.objects.join(format!("{}.{side}.o", case.case));
        let listing = self.work.join("symbols");
        let mut readelf = sh::command("readelf");
        let text = sh::output(readelf.args(["-s", "--wide"]).arg(object("orig")))?;
        // The column that only ours can read.
        fs::write(&listing, text.replace("[<localentry>: 8]", "")).context("cannot write the list of symbols")?;
        let mut seconds = [Vec::new(), Vec::new()];
        let mut codes = [0; 2];
        for _ in 0..self.runs {
            for (index, program) in self.programs.iter().enumerate() {
                let mut command = sh::command(program);
                command
                    .args([object("orig"), object("patched")])
                    .arg("vmlinux")
                    .arg(&listing);
                command.args(["/dev/null", "bench"]).arg(self.work.join("out.o"));
                command.envs(case.env.iter().map(|(name, value)| (name, value.to_string())));
                let (took, code) = timed(&mut command)?;
                seconds[index].push(took);
                codes[index] = code;
            }
        }
        Ok(Row {
            case: case.case.clone(),
            seconds: median(&seconds[0]),
            peer_seconds: median(&seconds[1]),
            codes,
        })
    }
}

/// Seconds and exit code.
fn timed(command: &mut std::process::Command) -> Result<(f64, i32)> {
    let start = Instant::now();
    let (status, ..) = sh::captured(command)?;
    let seconds = start.elapsed().as_secs_f64();
    let code = status
        .code()
        .with_context(|| format!("{} was killed", sh::shown(command)))?;
    Ok((seconds, code))
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |of: fn(&Row) -> f64| self.rows.iter().map(of).sum::<f64>();
        let (ours, theirs) = (total(|row| row.seconds), total(|row| row.peer_seconds));
        writeln!(
            f,
            "{} pairs: {ours:.3} s, the peer {theirs:.3} s ({:.1} times)",
            self.rows.len(),
            theirs / ours
        )?;
        writeln!(f, "  start of a process: {:.2} ms", self.start_seconds * 1e3)?;
        for row in &self.rows {
            writeln!(
                f,
                "  {:6.2} ms, peer {:8.2} ms, {:6.1} times, exit {} and {}  {}",
                row.seconds * 1e3,
                row.peer_seconds * 1e3,
                row.peer_seconds / row.seconds,
                row.codes[0],
                row.codes[1],
                row.case
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read() {
        let list: List =
            yaml::parse("pairs:\n- case: x/a\n  env: {JUMP_STRUCT_SIZE: 16}\n  expect: patch\n").expect("well-formed");
        assert_eq!(list.pairs[0].case, "x/a");
        assert_eq!(list.pairs[0].env["JUMP_STRUCT_SIZE"], 16);
    }

    #[test]
    fn the_ratio_is_theirs_to_ours() {
        let row = Row {
            case: "x/a".into(),
            seconds: 0.002,
            peer_seconds: 0.010,
            codes: [0, 3],
        };
        let text = Peers {
            start_seconds: 0.001,
            rows: vec![row],
        }
        .to_string();
        assert!(text.contains("(5.0 times)") && text.contains("exit 0 and 3"), "{text}");
    }
}
