//! What it saves to compile only those files that depend on what changes in a header: the cases `wide-*` of the corpus, each
//! built as `build-patch` does it and once more with all files that read the header.
//!
//! The two livepatches must be the same file, byte for byte: a file that was spared in error would be missing in one.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::Context;
use super::bench::{median, timed};
use crate::cli::BenchWideArgs;
use crate::corpus::{self, Case, Expect};
use crate::e2e::axis;
use crate::project;
use kpatch_build::build::livepatch::Livepatch;
use kpatch_build::build::recompile::affected::Counts;
use kpatch_build::cli::jobs;
use kpatch_build::kernel::Kernel;
use kpatch_build::outcome::Ending;
use kpatch_build::supply;
use kpatch_build::supply::place::Choice;
use kpatch_build::supply::store::Store;
use kpatch_build::ui::seconds;

/// Which cases of the corpus this is about.
const PREFIX: &str = "wide-";

/// Times of one case, in seconds.
#[derive(Debug, Serialize)]
struct Row {
    case: String,
    counts: Counts,
    /// With nothing compiled before. The first case also indexes the headers.
    first: f64,
    /// Median of the later runs, which find all compilations.
    again: f64,
    /// With all files that read the header, and nothing compiled before.
    all_readers: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    kernel: String,
    jobs: usize,
    cases: Vec<Row>,
}

pub fn wide(args: &BenchWideArgs, context: &Context<'_>) -> Result<()> {
    let choice = args.kernel.choice(None)?;
    let place = match &choice {
        Choice::Stock(stock) => axis::stock(stock.release.as_deref().unwrap_or_default())
            .ok_or_else(|| Ending::usage("name the kernel's release: --kernel RELEASE"))?,
        _ => context.catalog.place(&args.kernel.pinned()?)?.1,
    };
    if matches!(choice, Choice::Stock(_)) && !args.skip_all_readers {
        let text = "more files read these headers than are compiled of a distribution's kernel: add --skip-all-readers";
        return Err(Ending::usage(text));
    }
    let all = corpus::load_all(&project::root().join("testdata/corpus"))?;
    let wide = all.iter().filter(|case| case.name.starts_with(PREFIX));
    let here = wide.filter(|case| case.is_for(&place));
    let cases: Vec<Case> = here
        .map(|case| case.at(&place))
        .filter(|case| matches!(case.expect, Expect::Patched(_)))
        .collect();
    ensure!(!cases.is_empty(), "no case {PREFIX}* of the corpus is for {place}");
    let patches: Vec<PathBuf> = cases
        .iter()
        .flat_map(|case| corpus::patch_files(&case.patches))
        .collect();
    let options = args.kernel.options(jobs(args.jobs), false, false);
    let supplied = supply::kernel_for(
        &patches,
        &choice,
        &options,
        context.catalog,
        &|| context.store(),
        context.ui,
    )?;
    let store = context.store()?;
    let cache = store.scratch(false)?;
    let mut rows = Vec::new();
    for case in &cases {
        rows.push(measure(case, supplied.kernel(), cache.path(), &store, args, context)?);
    }
    let report = Report {
        kernel: supplied.kernel().release().to_owned(),
        jobs: jobs(args.jobs),
        cases: rows,
    };
    if context.common.json {
        context.ui.json(&report)
    } else {
        context.ui.say(&report);
        Ok(())
    }
}

fn measure(
    case: &Case,
    kernel: Kernel<'_>,
    cache: &Path,
    store: &Store,
    args: &BenchWideArgs,
    context: &Context<'_>,
) -> Result<Row> {
    let once = |cache: &Path, all_readers: bool| -> Result<(f64, Counts, Vec<u8>)> {
        let work = store.scratch(false)?;
        let jobs = jobs(args.jobs);
        let (took, built) = timed(case, kernel, cache, work.path(), all_readers, jobs, context.ui)?;
        Ok((took, built.readers, content(&built)?))
    };
    let (first, counts, module) = once(cache, false)?;
    let mut later = Vec::new();
    for _ in 0..args.runs {
        later.push(once(cache, false)?.0);
    }
    let mut all_readers = None;
    if !args.skip_all_readers {
        let empty = store.scratch(false)?;
        let (took, _, whole) = once(empty.path(), true)?;
        let name = &case.name;
        ensure!(
            module == whole,
            "{name}: the livepatch is another one if all readers are compiled"
        );
        all_readers = Some(took);
    }
    Ok(Row {
        case: case.name.clone(),
        counts,
        first,
        again: median(&later),
        all_readers,
    })
}

fn content(livepatch: &Livepatch) -> Result<Vec<u8>> {
    let module = livepatch.module.as_ref().context("a livepatch without a module")?;
    fs::read(&module.path).with_context(|| format!("cannot read {}", module.path.display()))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |time: f64| seconds(Duration::from_secs_f64(time));
        writeln!(f, "kernel {}, {} jobs", self.kernel, self.jobs)?;
        for row in &self.cases {
            writeln!(f, "\n{}: {}", row.case, row.counts)?;
            writeln!(f, "  {:>8}  nothing compiled before", shown(row.first))?;
            writeln!(f, "  {:>8}  again", shown(row.again))?;
            if let Some(all) = row.all_readers {
                let ratio = all / row.first;
                writeln!(
                    f,
                    "  {:>8}  all readers, {ratio:.0} times as long, the same module",
                    shown(all)
                )?;
            }
        }
        Ok(())
    }
}
