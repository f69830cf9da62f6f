//! The other program of the same purpose beside ours, pair by pair: `bench differ --peer PROGRAM --peer-objects DIR`.
//!
//! `PROGRAM` is a `create-diff-object` that takes the arguments of kpatch's; `DIR` holds the objects, and perhaps
//! `expectations.yaml`, a list of pairs with the environment that the program wants. Both programs get the same files, so
//! that both pay for their start, for reading the list of symbols and for writing the result. Only where both come to the
//! same end do their times say anything: who stops early is always fast.

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

impl List {
    /// The pairs of a folder: those of its list, else all of it and of the folders in it, without an environment.
    fn of(folder: &Path) -> Result<List> {
        let listed = folder.join("expectations.yaml");
        if listed.exists() {
            return yaml::read(&listed);
        }
        let mut pairs = Vec::new();
        for (prefix, folder) in [(String::new(), folder.to_owned())].into_iter().chain(folders(folder)?) {
            for name in names(&folder)? {
                if let Some(stem) = name.strip_suffix(".orig.o") {
                    pairs.push(Case {
                        case: format!("{prefix}{stem}"),
                        env: BTreeMap::new(),
                    });
                }
            }
        }
        Ok(List { pairs })
    }
}

/// What is in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry
            .with_context(|| format!("cannot list {}", folder.display()))?
            .file_name();
        names.extend(name.into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// The folders in a folder, with the prefix of their pairs.
fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let inside = names(folder)?
        .into_iter()
        .map(|name| (format!("{name}/"), folder.join(name)));
    Ok(inside.filter(|(_, path)| path.is_dir()).collect())
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
    let list = List::of(objects)?;
    if list.pairs.is_empty() {
        bail!("{} has no pair: NAME.orig.o and NAME.patched.o", objects.display());
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

impl Row {
    /// Whether both did the same: wrote an object, refused, or found no change.
    fn counts(&self) -> bool {
        let [ours, theirs] = self.codes;
        ours == theirs && matches!(ours, 0 | 2 | 3)
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
        let (counted, others): (Vec<&Row>, Vec<&Row>) = self.rows.iter().partition(|row| row.counts());
        let total = |of: fn(&Row) -> f64| counted.iter().map(|row| of(row)).sum::<f64>();
        let (ours, theirs) = (total(|row| row.seconds), total(|row| row.peer_seconds));
        let faster = counted.iter().filter(|row| row.seconds < row.peer_seconds).count();
        writeln!(
            f,
            "{} of {} pairs with the same outcome: {ours:.3} s, the peer {theirs:.3} s ({:.1} times); faster on {faster}",
            counted.len(),
            self.rows.len(),
            theirs / ours
        )?;
        writeln!(f, "  start of a process: {:.2} ms", self.start_seconds * 1e3)?;
        for row in counted {
            writeln!(
                f,
                "  {:6.2} ms, peer {:8.2} ms, {:6.1} times, exit {}  {}",
                row.seconds * 1e3,
                row.peer_seconds * 1e3,
                row.peer_seconds / row.seconds,
                row.codes[0],
                row.case
            )?;
        }
        for row in others {
            writeln!(
                f,
                "  not counted, exit {} and {}  {}",
                row.codes[0], row.codes[1], row.case
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
    fn without_a_list_all_pairs_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("x")).unwrap();
        for name in ["b.orig.o", "b.patched.o", "x/a.orig.o", "notes"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let list = List::of(folder.path()).unwrap();
        let names: Vec<_> = list.pairs.iter().map(|pair| &*pair.case).collect();
        assert_eq!(names, ["b", "x/a"]);
    }

    #[test]
    fn who_stops_early_has_not_won() {
        let row = |codes| Row {
            case: "x/a".into(),
            seconds: 0.002,
            peer_seconds: 0.010,
            codes,
        };
        let text = Peers {
            start_seconds: 0.001,
            rows: vec![row([0, 0]), row([1, 0]), row([1, 1]), row([3, 0])],
        }
        .to_string();
        let counted = "1 of 4 pairs with the same outcome: 0.002 s, the peer 0.010 s (5.0 times); faster on 1";
        assert!(text.starts_with(counted), "{text}");
        assert_eq!(text.matches("not counted").count(), 3, "{text}");
    }
}
