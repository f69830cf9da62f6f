//! What the differ costs on the largest input there is: two builds of the whole `vmlinux.o`.
//!
//! The second build is the recorded link, with the bitcode of a patch in place of the original's, and the recorded run of
//! objtool. It is made once and kept in the store. A second pair, linked from the first eighth of the inputs, shows
//! whether time grows with size. Each figure comes from a process of its own (`differ_cost` in kpatch-core), built for
//! release, which also asks the operating system for its peak of memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::bench::median;
use super::{Context, bench_peer};
use crate::cli::BenchDifferArgs;
use crate::project;
use kpatch_build::build::kbuild::cmdfile::CmdFile;
use kpatch_build::build::livepatch;
use kpatch_build::build::thinlto::view::View;
use kpatch_build::cli::jobs;
use kpatch_build::kernel::KernelBuild;
use kpatch_build::sh;
use kpatch_build::supply;
use kpatch_build::supply::store::cache::{Cache, Hashes, Key};

/// A small change in a large file with many importers.
const DEFAULT_PATCH: &str = "testdata/corpus/real-prctl-auxv/real-prctl-auxv.patch";

/// Which part of the inputs is linked: the whole, and an eighth of it.
const SHARES: [usize; 2] = [8, 1];

#[derive(Debug, Deserialize)]
struct Cost {
    seconds: BTreeMap<String, f64>,
    peak_kib: u64,
    outcome: String,
}

impl Cost {
    fn total(&self) -> f64 {
        self.seconds.values().sum()
    }
}

/// One pair of files.
#[derive(Debug, Serialize)]
struct Row {
    /// Bytes of the original.
    bytes: u64,
    /// Seconds to read and hash both files.
    hash_seconds: f64,
    /// Seconds to read and compare both files.
    diff_seconds: f64,
    /// Median of each phase.
    phases: BTreeMap<String, f64>,
    /// Peak of memory in bytes.
    peak: u64,
    outcome: String,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: String,
    runs: u32,
    /// From the smallest pair to the largest.
    pairs: Vec<Row>,
}

pub fn differ(args: &BenchDifferArgs, context: &Context<'_>) -> Result<()> {
    if let (Some(peer), Some(objects)) = (&args.peer, &args.peer_objects) {
        let work = context.store()?.work_dir(false)?;
        let peers = bench_peer::compare(peer, objects, work.path(), args.runs)?;
        return if context.common.json {
            context.ui.json(&peers)
        } else {
            context.ui.say(&peers);
            Ok(())
        };
    }
    let options = args.kernel.options(jobs(None), false, false);
    let choice = args.kernel.choice(None)?;
    let baseline = supply::kernel(&choice, &options, context.catalog, &|| context.store(), context.ui)?;
    let patch = match &args.patch {
        Some(patch) => patch.clone(),
        None => project::root().join(DEFAULT_PATCH),
    };
    let folder = context
        .ui
        .phase("two builds of vmlinux.o", |_| builds(&baseline.kernel, &patch, context))?;
    let mut pairs = Vec::new();
    for share in SHARES {
        let [orig, patched] = names(share).map(|name| folder.join(name));
        pairs.push(
            context
                .ui
                .phase(&format!("measure 1/{share}"), |_| measure(args.runs, &orig, &patched))?,
        );
    }
    let report = Report {
        kernel: baseline.kernel.id.clone(),
        runs: args.runs.max(1),
        pairs,
    };
    if context.common.json {
        context.ui.json(&report)
    } else {
        context.ui.say(&report);
        Ok(())
    }
}

fn names(share: usize) -> [String; 2] {
    ["orig", "patched"].map(|side| format!("{side}-{share}.o"))
}

/// The folder with both builds in each size.
fn builds(kernel: &KernelBuild, patch: &Path, context: &Context<'_>) -> Result<PathBuf> {
    let store = context.store()?;
    let held = context.objects(&store)?;
    let (cache, hashes) = (Cache::new(held.root()), Hashes::default());
    let record = kernel.build.join(".vmlinux.o.cmd");
    let image = kernel.build.join("vmlinux.o");
    let key = Key::new("bench differ 1").bytes(&hashes.of(&record)?);
    let key = key.bytes(&hashes.of(&image)?).bytes(&hashes.of(patch)?);
    cache.get("bench", &key, |entry| {
        let work = store.work_dir(false)?;
        let (kbuild, changed) = livepatch::changed_bitcode(kernel, &[patch.to_owned()], work.path(), held.root())?;
        let patched: BTreeMap<_, _> = changed
            .iter()
            .map(|tu| (tu.object.clone(), tu.patched.clone()))
            .collect();
        let link = &kbuild.members.vmlinux;
        let empty = BTreeMap::new();
        for (side, instead) in [&empty, &patched].into_iter().enumerate() {
            let root = work.path().join(format!("view-{side}"));
            let view = View::new(root, &kernel.build, link, instead, &[])?;
            for share in SHARES {
                let out = entry.join(&names(share)[side]);
                if side == 0 && share == 1 {
                    fs::copy(&image, &out).with_context(|| format!("cannot copy {}", image.display()))?;
                    continue;
                }
                make(&view, share, &kernel.build, &record, &out)?;
            }
        }
        Ok(())
    })
}

/// Repeats the recorded link and what came after it, for a part of the inputs of a view.
fn make(view: &View, share: usize, build: &Path, record: &Path, out: &Path) -> Result<()> {
    let text = fs::read_to_string(record).with_context(|| format!("cannot read {}", record.display()))?;
    let commands = CmdFile::new(text).commands()?;
    let Some((link, rest)) = commands.split_first() else {
        bail!("{} has no command", record.display())
    };
    let arguments = view.arguments();
    let part = &arguments[..arguments.len().div_ceil(share)];
    let inputs = out.with_extension("inputs");
    fs::write(&inputs, part.join("\n")).with_context(|| format!("cannot write {}", inputs.display()))?;
    let mut command = sh::command(&view.link.linker);
    command.args(&view.link.flags).current_dir(&view.root);
    if let Some(at) = link.iter().position(|word| word == "-T") {
        let script = link.get(at + 1).context("-T has no value")?;
        command.arg("-T").arg(build.join(script));
    }
    command.arg(format!("@{}", inputs.display())).arg("-o").arg(out);
    sh::output(&mut command).context("the link failed")?;
    for words in rest {
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        let mut command = sh::command(build.join(program));
        command.current_dir(build);
        for word in arguments {
            if word == "vmlinux.o" {
                command.arg(out);
            } else {
                command.arg(word);
            }
        }
        sh::output(&mut command).with_context(|| format!("{program} failed"))?;
    }
    fs::remove_file(&inputs).with_context(|| format!("cannot remove {}", inputs.display()))
}

fn measure(runs: u32, orig: &Path, patched: &Path) -> Result<Row> {
    let bytes = fs::metadata(orig)
        .with_context(|| format!("cannot read {}", orig.display()))?
        .len();
    let costs = |what| {
        (0..runs.max(1))
            .map(|_| cost(what, orig, patched))
            .collect::<Result<Vec<_>>>()
    };
    let (hash, diff) = (costs("hash")?, costs("diff")?);
    let middle = |costs: &[Cost]| median(&costs.iter().map(Cost::total).collect::<Vec<_>>());
    let mut phases: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (phase, seconds) in diff.iter().flat_map(|cost| &cost.seconds) {
        phases.entry(phase.clone()).or_default().push(*seconds);
    }
    Ok(Row {
        bytes,
        hash_seconds: middle(&hash),
        diff_seconds: middle(&diff),
        phases: phases
            .into_iter()
            .map(|(phase, times)| (phase, median(&times)))
            .collect(),
        peak: diff.iter().map(|cost| cost.peak_kib).max().unwrap_or_default() * 1024,
        outcome: diff.first().map(|cost| cost.outcome.clone()).unwrap_or_default(),
    })
}

fn cost(what: &str, orig: &Path, patched: &Path) -> Result<Cost> {
    let mut command = sh::command("cargo");
    command.args([
        "run",
        "--quiet",
        "--release",
        "-p",
        "kpatch-core",
        "--example",
        "differ_cost",
        "--",
    ]);
    command.arg(what).arg(orig).arg(patched).current_dir(project::root());
    let text = sh::output(&mut command)?;
    serde_json::from_str(text.trim()).with_context(|| format!("differ_cost printed `{text}`"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel {}, medians of {} runs", self.kernel, self.runs)?;
        let per_mb = |row: &Row| row.diff_seconds / (row.bytes as f64 / 1e6);
        let least = self.pairs.iter().map(per_mb).fold(f64::INFINITY, f64::min);
        for row in &self.pairs {
            let megabytes = row.bytes as f64 / 1e6;
            writeln!(f, "\n{megabytes:.1} MB: {}", row.outcome)?;
            writeln!(
                f,
                "  compare        {:.3} s, {:.1} times reading and hashing ({:.3} s)",
                row.diff_seconds,
                row.diff_seconds / row.hash_seconds,
                row.hash_seconds
            )?;
            writeln!(
                f,
                "  per megabyte   {:.1} ms, {:.2} times the least",
                per_mb(row) * 1e3,
                per_mb(row) / least
            )?;
            writeln!(
                f,
                "  peak memory    {:.0} MB, {:.1} times one file",
                row.peak as f64 / 1e6,
                row.peak as f64 / row.bytes as f64
            )?;
            for (phase, seconds) in &row.phases {
                writeln!(f, "    {seconds:.3} s  {phase}")?;
            }
        }
        Ok(())
    }
}
