//! The pieces of a survey as a [`Line`] of the pipeline: how each becomes a module, growing by what it needs, and what is
//! written down of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use kpatch_core::resolve::PatchedFunction;
use kpatch_core::{Callback, ObjectName};

use super::group;
use super::judge::{self, Verdict};
use super::pieces::{Piece, Pieces};
use super::record::{FORMAT, Outcome, Record};
use super::results::Results;
use crate::pipeline::{Booted, Line, Pipeline, own_plans};
use kpatch_build::build::livepatch::{self, Livepatch};
use kpatch_build::build::module;
use kpatch_build::build::recompile::DoesNotCompile;
use kpatch_build::kernel::Kernel;
use kpatch_build::outcome::Ending;
use kpatch_build::prove::guest::Guest;
use kpatch_build::prove::proof::{self, Proof};
use kpatch_build::prove::vm::{BootReport, CasePlan};
use kpatch_build::sh;
use kpatch_build::supply::baseline::Baseline;
use kpatch_build::ui::Phase;

/// How often a piece grows by what the compiler asks for.
const ROUNDS: usize = 8;
/// A set of more files is no longer one change.
const MOST_FILES: usize = 16;
/// So many failures of the environment are not a coincidence.
const TROUBLES: usize = 8;

/// Stands where a code would for a file that needs a header which was left out because of its many readers.
pub const TOO_WIDE: &str = "too-wide";

/// Weight of one piece, in objects compiled: linking, thin links and booting do not depend on the piece.
pub const WEIGHT_OF_A_PIECE: usize = 8;

/// What all pieces have in common.
pub struct Run<'a> {
    pub baseline: &'a Baseline,
    pub pieces: &'a Pieces,
    pub results: &'a Results,
    /// A folder for this run alone.
    pub work: &'a Path,
    /// A folder that runs share.
    pub cache: &'a Path,
    /// How many processors to use.
    pub jobs: usize,
    /// Whether to boot.
    pub boot: bool,
    /// Of how many objects at most the files that a piece needs may be part.
    pub widest: Option<usize>,
    /// Which state of the tool this is.
    pub tool: &'a str,
    /// What people see meanwhile.
    pub phase: &'a Phase,
}

/// A module that waits for a machine.
struct Ready<'p> {
    piece: &'p Piece,
    record: Record,
    name: String,
    ko: PathBuf,
    functions: Vec<PatchedFunction>,
    callbacks: Vec<Callback>,
    permanent: bool,
    objects: BTreeSet<ObjectName>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<String, Record>,
    troubles: Vec<anyhow::Error>,
    lost: Option<anyhow::Error>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        let state = self.lock();
        sh::was_interrupted() || state.lost.is_some() || state.troubles.len() >= TROUBLES
    }
}

/// What came of building.
enum Built {
    Judged(Record),
    Module(Box<Livepatch>, BTreeSet<String>),
}

impl Run<'_> {
    /// Takes the pieces through in this order. `known` are results that are there already.
    ///
    /// # Errors
    /// If results cannot be kept, or if the environment fails again and again. What was finished stays.
    pub fn all(&self, pieces: &[&Piece], known: &BTreeMap<String, Record>) -> Result<Vec<anyhow::Error>> {
        let shared = Shared(Mutex::new(State {
            records: known.clone(),
            ..State::default()
        }));
        let pipeline = Pipeline {
            kernel: Kernel::Recorded(&self.baseline.kernel),
            image: self.baseline.image.as_deref(),
            work: self.work,
            cache: self.cache,
            jobs: self.jobs,
            phase: self.phase,
        };
        let line = Modules {
            run: self,
            shared: &shared,
            pieces: PhantomData,
        };
        pipeline.run(&line, pieces);
        let state = shared.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.lost {
            Some(error) => Err(error),
            None if sh::was_interrupted() => Err(Ending::infrastructure(
                "interrupted; the same command goes on from here",
            )),
            None if state.troubles.len() >= TROUBLES => {
                let first = &state.troubles[0];
                Err(Ending::infrastructure(format!(
                    "given up after {TROUBLES} of these: {first:#}"
                )))
            }
            None => Ok(state.troubles),
        }
    }

    /// Something other than the patch went wrong: nothing is written down, so that the next run tries again.
    fn trouble(&self, error: anyhow::Error, piece: &Piece, shared: &Shared) {
        if !sh::was_interrupted() {
            self.phase.line(&format!("not judged: {}: {error:#}", piece.file));
        }
        shared.lock().troubles.push(error);
        self.phase.steps(weight(piece));
    }

    /// Builds a piece, growing it as far as needed. A module that is to be booted comes back.
    fn build<'p>(&self, piece: &'p Piece, shared: &Shared) -> Result<Option<Ready<'p>>> {
        let started = Instant::now();
        let name = self.name(piece);
        let built = std::panic::catch_unwind(AssertUnwindSafe(|| self.grow(piece, &name, shared)));
        let built = built.unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().cloned();
            let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let verdict = Verdict::new(Outcome::Failed, &["panic"], what.unwrap_or_default());
            Ok(Built::Judged(self.record(piece, verdict)))
        })?;
        match built {
            Built::Judged(mut record) => {
                if record.seconds == 0.0 {
                    record.seconds = started.elapsed().as_secs_f64();
                }
                self.finish(record, piece, shared);
                Ok(None)
            }
            Built::Module(livepatch, files) => {
                let mut record = self.record(piece, Verdict::new(Outcome::Built, &[], ""));
                record.with = files.into_iter().filter(|file| *file != piece.file).collect();
                record.functions = livepatch.function_names();
                record.seconds = started.elapsed().as_secs_f64();
                if !self.boot {
                    self.finish(record, piece, shared);
                    return Ok(None);
                }
                let module = livepatch.module.as_ref().context("a finished build has a module")?;
                let ko = self.work.join(format!("{name}.ko"));
                fs::copy(&module.path, &ko).with_context(|| format!("cannot write {}", ko.display()))?;
                let functions = livepatch.functions().to_vec();
                let callbacks = livepatch.patch.callbacks.clone();
                let (permanent, objects) = (livepatch.patch.is_permanent(), livepatch.objects());
                self.clear(&name)?;
                Ok(Some(Ready {
                    piece,
                    record,
                    name,
                    ko,
                    functions,
                    callbacks,
                    permanent,
                    objects,
                }))
            }
        }
    }

    fn grow(&self, piece: &Piece, name: &str, shared: &Shared) -> Result<Built> {
        let mut files = BTreeSet::from([piece.file.clone()]);
        let mut round = 0;
        loop {
            let mut too_wide = false;
            if files.len() > 1
                && let Some(record) = self.of_the_same(piece, &files, shared)
            {
                return Ok(Built::Judged(record));
            }
            self.clear(name)?;
            let error = match self.attempt(&files, name) {
                Ok(livepatch) => return Ok(Built::Module(Box::new(livepatch), files)),
                Err(error) => error,
            };
            // A compiler that was told to end failed, too.
            if sh::was_interrupted() {
                return Err(error);
            }
            round += 1;
            if let Some(DoesNotCompile { object }) = error.downcast_ref() {
                let more = group::missing(self.pieces, &files, object, &format!("{error:#}"));
                let fits = round < ROUNDS && files.len() + more.len() <= MOST_FILES;
                too_wide = fits && more.iter().any(|file| self.is_too_wide(file));
                if !more.is_empty() && fits && !too_wide {
                    files.extend(more);
                    continue;
                }
            }
            if let Some(Ending::Refused(refusals)) = error.downcast_ref() {
                let more = group::defining(self.pieces, &files, refusals);
                if !more.is_empty() && round < ROUNDS && files.len() + more.len() <= MOST_FILES {
                    files.extend(more);
                    continue;
                }
            }
            self.clear(name)?;
            let mut record = self.record(piece, judge::without_module(error)?);
            record.codes.extend(too_wide.then(|| TOO_WIDE.to_owned()));
            record.with = files.into_iter().filter(|file| *file != piece.file).collect();
            return Ok(Built::Judged(record));
        }
    }

    fn is_too_wide(&self, file: &str) -> bool {
        let piece = self.pieces.pieces.iter().find(|piece| piece.file == file);
        let units = piece.map_or(0, |piece| piece.units.len());
        self.widest.is_some_and(|most| units > most)
    }

    /// The result of another piece that grew to the same set.
    fn of_the_same(&self, piece: &Piece, files: &BTreeSet<String>, shared: &Shared) -> Option<Record> {
        let state = shared.lock();
        let mut others = files.iter().filter(|file| **file != piece.file);
        let found = others.find_map(|other| {
            let record = state.records.get(other)?;
            let same = record.with.len() + 1 == files.len() && record.with.iter().all(|with| files.contains(with));
            same.then(|| record.clone())
        })?;
        Some(Record {
            file: piece.file.clone(),
            with: files.iter().filter(|file| **file != piece.file).cloned().collect(),
            units: piece.units.len(),
            ..found
        })
    }

    fn attempt(&self, files: &BTreeSet<String>, name: &str) -> Result<Livepatch> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let patch = folder.join(format!("{name}.patch"));
        fs::write(&patch, self.pieces.patch(files)?).with_context(|| format!("cannot write {}", patch.display()))?;
        let patches = [patch];
        let request = livepatch::Request {
            kernel: Kernel::Recorded(&self.baseline.kernel),
            module_dir: None,
            patches: &patches,
            name: &module::livepatch_name(&patches),
            replace: true,
            replaces: &[],
            accept: &[],
            skip_unbuilt: false,
            all_readers: false,
            fuzz: 0,
            left_out: &[],
            dry_run: false,
            work: &folder,
            cache: self.cache,
            jobs: self.jobs,
        };
        livepatch::build(&request, &())
    }

    fn record(&self, piece: &Piece, verdict: Verdict) -> Record {
        let here = format!("{}/", self.work.display());
        let tree = format!("{}/", self.baseline.kernel.source.display());
        Record {
            format: FORMAT,
            file: piece.file.clone(),
            outcome: verdict.outcome,
            codes: verdict.codes,
            with: Vec::new(),
            functions: Vec::new(),
            units: piece.units.len(),
            detail: verdict.detail.replace(&here, "").replace(&tree, ""),
            seconds: 0.0,
            guest_seconds: 0.0,
            tool: self.tool.to_owned(),
        }
    }

    fn finish(&self, record: Record, piece: &Piece, shared: &Shared) {
        let kept = self.results.put(&record);
        if record.outcome >= Outcome::Failed {
            let (outcome, codes) = (record.outcome.shown(), record.codes.join(", "));
            self.phase.line(&format!("{outcome}: {} ({codes})", record.file));
        }
        let mut state = shared.lock();
        if let Err(error) = kept {
            state.lost = Some(error);
        }
        state.records.insert(record.file.clone(), record);
        drop(state);
        self.phase.steps(weight(piece));
    }

    /// A name that no other piece has, short enough for a module.
    fn name(&self, piece: &Piece) -> String {
        let index = self
            .pieces
            .pieces
            .iter()
            .position(|one| one.file == piece.file)
            .unwrap_or_default();
        let base = piece.file.rsplit('/').next().unwrap_or_default();
        let base: String = base
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        format!("s{index}_{base}")
    }

    fn clear(&self, name: &str) -> Result<()> {
        let folder = self.work.join(name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", folder.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Steps of the progress bar.
pub fn weight(piece: &Piece) -> u64 {
    u64::try_from(WEIGHT_OF_A_PIECE + piece.units.len()).unwrap_or(u64::MAX)
}

/// The pieces on their way.
struct Modules<'a, 'p> {
    run: &'a Run<'a>,
    shared: &'a Shared,
    pieces: PhantomData<fn(&'p Piece)>,
}

impl<'p> Line for Modules<'_, 'p> {
    type Item = &'p Piece;
    type Built = Ready<'p>;

    fn item_name<'i>(&self, piece: &'i &'p Piece) -> &'i str {
        &piece.file
    }

    fn plan_name<'b>(&self, ready: &'b Ready<'p>) -> &'b str {
        &ready.name
    }

    fn build(&self, piece: &&'p Piece) -> Option<Ready<'p>> {
        self.run.build(piece, self.shared).unwrap_or_else(|error| {
            self.run.trouble(error, piece, self.shared);
            None
        })
    }

    fn needs_own_machine(&self, _: &Ready<'p>) -> bool {
        false
    }

    fn plans(&self, ready: &Ready<'p>, guest: &Guest<'_>) -> Result<Vec<CasePlan>> {
        let modules = guest.modules_of(&ready.objects)?;
        let module = module::livepatch_name(&[format!("{}.patch", ready.name)]);
        let proof = Proof {
            name: &ready.name,
            ko: &ready.ko,
            module: &module,
            functions: &ready.functions,
            callbacks: &ready.callbacks,
            permanent: ready.permanent,
            during: None,
            reports: &[],
            check: None,
            files: &[],
            before: &modules.before,
            after: &[],
            rebuilt: &[],
            reload: &[],
            then: None,
            shared: true,
        };
        proof::plans(&proof, guest.work)
    }

    fn booted(&self, ready: Ready<'p>, booted: Booted) {
        let piece = ready.piece;
        // Nobody needs it any more, and the folder goes at the end of the run.
        let _ = fs::remove_file(&ready.ko);
        match booted.report.and_then(|report| judge_boot(ready, &report)) {
            Ok(record) => self.run.finish(record, piece, self.shared),
            Err(error) => self.run.trouble(error, piece, self.shared),
        }
    }

    fn machine_ended(&self, folder: &Path) {
        // What is left of it is removed with the work folder.
        let _ = fs::remove_dir_all(folder);
    }

    fn is_over(&self) -> bool {
        self.shared.is_over()
    }
}

/// What the machine says about a module.
fn judge_boot(ready: Ready<'_>, report: &BootReport) -> Result<Record> {
    let case = own_plans(&ready.name, report).into_iter().next();
    let case = case.ok_or_else(|| anyhow!("the guest never came to this module"))?;
    let Verdict { outcome, codes, detail } = judge::in_guest(case)?;
    Ok(Record {
        guest_seconds: case.steps.iter().map(|step| step.took.as_secs_f64()).sum(),
        outcome,
        codes,
        detail,
        ..ready.record
    })
}
