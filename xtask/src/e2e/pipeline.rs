//! Takes cases through building and booting, side by side.
//!
//! Cases that do not disturb each other share a boot, since most of a short boot is the kernel coming up; cases that
//! leave something behind get a machine of their own and are built first, so that their machines run while the rest is
//! built.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use super::built::{Booted, Built};
use super::judge;
use crate::corpus::{Boot, Case};
use crate::lanes::{self, Take};
use kpatch_build::build::livepatch::{self, Livepatch};
use kpatch_build::build::module;
use kpatch_build::outcome::Ending;
use kpatch_build::prove::guest::{self, Guest};
use kpatch_build::prove::proof::{self, Proof, Second};
use kpatch_build::prove::vm::{BootReport, CasePlan};
use kpatch_build::sh;
use kpatch_build::supply::baseline::Baseline;
use kpatch_build::ui::Phase;

/// A boot takes about as long as building one case, so it is worth waiting until it serves several.
const CASES_PER_BOOT: usize = 8;

/// What all cases of a place have in common.
pub struct Pipeline<'a> {
    /// The kernel.
    pub baseline: &'a Baseline,
    /// A folder for this run alone.
    pub work: &'a Path,
    /// A folder that runs share.
    pub cache: &'a Path,
    /// How many processors to use.
    pub jobs: usize,
    /// Whether to boot.
    pub boot: bool,
    /// What people see meanwhile.
    pub phase: &'a Phase,
}

/// Takes a case that is through, with its boot if there was one. Called from any thread.
pub type OnDone<'f, 'c> = &'f (dyn Fn(Built<'c>, Option<Booted>) + Sync);

/// What is going on, for the progress line.
#[derive(Default)]
struct Now {
    building: Vec<String>,
    booting: Vec<(usize, String)>,
    /// How many machines there were.
    boots: usize,
}

/// What threads tell each other.
#[derive(Default)]
struct Shown(Mutex<Now>);

impl Shown {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipeline<'_> {
    /// Takes every case through, in no particular order.
    pub fn run<'c>(&self, cases: &'c [Case], on_done: OnDone<'_, 'c>) {
        let (fresh, shared): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| needs_own_machine(case));
        let order: Vec<&Case> = fresh.into_iter().chain(shared).collect();
        let shown = Shown::default();
        let machines: [Take<'_, Built<'c>>; 2] = [&next_batch, &last_batch];
        lanes::run(
            &order,
            self.jobs,
            &machines[..self.jobs.clamp(1, 2)],
            &|case| self.take_up(case, &shown, on_done),
            &|batch| self.boot_batch(batch, &shown, on_done),
        );
    }

    /// Builds a case. One that is to be booted comes back, any other is through.
    fn take_up<'c>(&self, case: &'c Case, shown: &Shown, on_done: OnDone<'_, 'c>) -> Option<Built<'c>> {
        // What an interrupt cuts short says nothing about a case.
        if sh::was_interrupted() {
            return None;
        }
        shown.lock().building.push(case.name.clone());
        self.show(shown);
        let built = self.build(case);
        shown.lock().building.retain(|name| *name != case.name);
        self.show(shown);
        if self.boot && judge::is_worth_booting(&built) {
            return Some(built);
        }
        on_done(built, None);
        None
    }

    fn build<'c>(&self, case: &'c Case) -> Built<'c> {
        let started = Instant::now();
        let name = module::livepatch_name(&[format!("{}.patch", case.name)]);
        let work = self.work.join(&case.name);
        let mut result = self.livepatch(&case.patches, &case.accept, &name, true, &work);
        let mut then = None;
        if let (Ok(_), Some(second)) = (&result, &case.then) {
            let name = module::livepatch_name(&[format!("{}-then.patch", case.name)]);
            match self.livepatch(&second.patches, &[], &name, second.replace, &work.join("then")) {
                Ok(livepatch) => then = Some((name, livepatch)),
                Err(error) => result = Err(error),
            }
        }
        Built {
            case,
            took: started.elapsed(),
            name,
            result,
            then,
        }
    }

    fn livepatch(
        &self,
        patches: &[PathBuf],
        accept: &[String],
        name: &str,
        replace: bool,
        work: &Path,
    ) -> Result<Livepatch> {
        let request = livepatch::Request {
            kernel: &self.baseline.kernel,
            patches,
            name,
            replace,
            accept,
            dry_run: false,
            work,
            cache: self.cache,
            jobs: self.jobs,
        };
        livepatch::build(&request, &())
    }

    fn boot_batch<'c>(&self, batch: Vec<Built<'c>>, shown: &Shown, on_done: OnDone<'_, 'c>) {
        let first = batch.first().map_or("", |built| built.case.name.as_str()).to_owned();
        let mut now = shown.lock();
        let number = now.boots;
        now.boots += 1;
        now.booting.push((number, first));
        drop(now);
        self.show(shown);
        let folder = self.work.join(format!("boot-{number}"));
        let progress = |text: &str| {
            for (_, said) in shown.lock().booting.iter_mut().filter(|(of, _)| *of == number) {
                text.clone_into(said);
            }
            self.show(shown);
        };
        let (batch, report) = self.boot(batch, &folder, &progress, on_done);
        let ran_out = |built: &Built<'_>| {
            report
                .as_ref()
                .is_ok_and(|report| judge::ran_out_of_time(built, report))
        };
        let (late, judged): (Vec<_>, Vec<_>) = batch.into_iter().partition(ran_out);
        deliver(judged, &report, &folder, on_done);
        // That may be the fault of a full host, or of a case before it: a machine of its own decides.
        for built in late {
            let name = &built.case.name;
            self.phase
                .line(&format!("{name} ran out of time; once more, in a machine of its own"));
            let folder = folder.join(format!("{name}-again"));
            let (batch, report) = self.boot(vec![built], &folder, &progress, on_done);
            deliver(batch, &report, &folder, on_done);
        }
        shown.lock().booting.retain(|(of, _)| *of != number);
        self.show(shown);
    }

    /// Boots a batch. Cases that cannot even be planned are delivered at once; the others come back with the report.
    fn boot<'c>(
        &self,
        batch: Vec<Built<'c>>,
        folder: &Path,
        progress: &dyn Fn(&str),
        on_done: OnDone<'_, 'c>,
    ) -> (Vec<Built<'c>>, Result<BootReport>) {
        let guest = match self.guest(folder) {
            Ok(guest) => guest,
            Err(error) => return (batch, Err(error)),
        };
        let (mut plans, mut planned) = (Vec::new(), Vec::new());
        for built in batch {
            match plans_of(&guest, &built, folder) {
                Ok(own) => {
                    plans.extend(own);
                    planned.push(built);
                }
                Err(error) => on_done(
                    built,
                    Some(Booted {
                        report: Err(error),
                        folder: folder.to_owned(),
                    }),
                ),
            }
        }
        if plans.is_empty() {
            return (planned, Err(Ending::infrastructure("there is nothing to boot")));
        }
        let report = guest.run(plans, progress);
        (planned, report)
    }

    /// A machine with a folder of its own.
    pub fn guest<'g>(&'g self, folder: &'g Path) -> Result<Guest<'g>> {
        let image = self.baseline.image.as_deref();
        let image = image.ok_or_else(|| Ending::infrastructure("this kernel has no image that can be booted"))?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Guest {
            kernel: &self.baseline.kernel,
            image,
            work: folder,
            cache: self.cache,
        })
    }

    fn show(&self, shown: &Shown) {
        let now = shown.lock();
        let mut parts = Vec::new();
        if !now.building.is_empty() {
            parts.push(format!("building {}", now.building.join(", ")));
        }
        parts.extend(now.booting.iter().map(|(_, said)| format!("booting {said}")));
        self.phase.message(&parts.join(" | "));
    }
}

fn needs_own_machine(case: &Case) -> bool {
    case.boot == Boot::Fresh || !case.modules.after.is_empty()
}

/// The next machine's cases: one that needs it for itself, or enough that share it, or what is left at the end.
fn next_batch<'c>(ready: &mut VecDeque<Built<'c>>, done: bool) -> Option<Vec<Built<'c>>> {
    if let Some(at) = ready.iter().position(|built| needs_own_machine(built.case)) {
        return ready.remove(at).map(|built| vec![built]);
    }
    let count = ready.len();
    // At the end two machines share what is left.
    let share = if done {
        count.div_ceil(2).max(CASES_PER_BOOT.min(count))
    } else {
        count
    };
    (done || count >= CASES_PER_BOOT).then(|| ready.drain(..share).collect())
}

/// The second machine only helps once nobody builds any more.
fn last_batch<'c>(ready: &mut VecDeque<Built<'c>>, done: bool) -> Option<Vec<Built<'c>>> {
    done.then(|| next_batch(ready, done)).flatten()
}

/// Hands each case its part of what a machine found; an error of the machine is everybody's.
fn deliver<'c>(batch: Vec<Built<'c>>, report: &Result<BootReport>, folder: &Path, on_done: OnDone<'_, 'c>) {
    for built in batch {
        let report = match report {
            Ok(report) => Ok(report.clone()),
            Err(error) => Err(again(error)),
        };
        let folder = folder.to_owned();
        on_done(built, Some(Booted { report, folder }));
    }
}

/// An error that several cases share.
fn again(error: &anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Ending>() {
        Some(Ending::Infrastructure(what)) => Ending::infrastructure(what.clone()),
        _ => anyhow::anyhow!("{error:#}"),
    }
}

/// What a guest does for a case.
pub fn plans_of(guest: &Guest<'_>, built: &Built<'_>, work: &Path) -> Result<Vec<CasePlan>> {
    let case = built.case;
    let livepatch = built.result.as_ref().ok();
    let livepatch = livepatch.context("only finished livepatches are booted")?;
    let module = livepatch
        .module
        .as_ref()
        .context("only finished livepatches are booted")?;
    let modules = guest.named_modules(&case.modules.before, &case.modules.after)?;
    let program = case.program.as_deref();
    let files = program
        .map(|source| guest::probe(&case.name, source, guest))
        .transpose()?;
    let files: Vec<_> = files.into_iter().collect();
    let second = case.then.as_ref().zip(built.then.as_ref());
    let second = second.map(|(then, (name, livepatch))| -> Result<Second<'_>> {
        let module = livepatch.module.as_ref();
        Ok(Second {
            ko: &module.context("only finished livepatches are booted")?.path,
            module: name,
            functions: livepatch.functions(),
            replace: then.replace,
            check: &then.check,
        })
    });
    let proof = Proof {
        name: &case.name,
        ko: &module.path,
        module: &built.name,
        functions: livepatch.functions(),
        check: case.check.clone(),
        files: &files,
        before: &modules.before,
        after: &modules.after,
        reload: &case.modules.reload,
        then: second.transpose()?,
        shared: case.boot == Boot::Shared,
    };
    proof::plans(&proof, work)
}
