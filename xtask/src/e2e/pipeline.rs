//! Keeps both builders and machines busy: while one case is built, those built before it are booted.
//!
//! Cases that do not disturb each other share a boot, since most of a short boot is the kernel coming up; cases that
//! leave something behind get a machine of their own and are built first, so that their machines run while the rest is
//! built.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::judge;
use crate::baseline::Baseline;
use crate::corpus::{Boot, Case};
use crate::guest::{self, Guest};
use crate::livepatch::{self, Livepatch};
use crate::module;
use crate::outcome::Ending;
use crate::proof::{self, Proof, Second};
use crate::sh;
use crate::ui::Phase;
use crate::vm::{BootReport, CasePlan};

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

/// A case that was built, or was not.
pub struct Built<'c> {
    /// The case.
    pub case: &'c Case,
    /// How long building took.
    pub took: Duration,
    /// Module name.
    pub name: String,
    /// The livepatch; of a case with two of them an error of either.
    pub result: Result<Livepatch>,
    /// The livepatch that comes while the first is there, with its name.
    pub then: Option<(String, Livepatch)>,
}

/// What a machine said, and in which folder its logs are.
pub struct Booted {
    /// The report.
    pub report: Result<BootReport>,
    /// The folder.
    pub folder: PathBuf,
}

/// Takes a case that is through, with its boot if there was one. Called from any thread.
pub type OnDone<'f, 'c> = &'f (dyn Fn(Built<'c>, Option<Booted>) + Sync);

/// What waits between building and booting.
struct Queue<'c> {
    ready: VecDeque<Built<'c>>,
    /// Builders that still work.
    builders: usize,
    now: Now,
}

/// What is going on, for the progress line.
#[derive(Default)]
struct Now {
    building: Vec<String>,
    booting: Vec<(usize, String)>,
}

struct Shared<'c> {
    queue: Mutex<Queue<'c>>,
    changed: Condvar,
    next: AtomicUsize,
    boots: AtomicUsize,
}

impl<'c> Shared<'c> {
    fn lock(&self) -> MutexGuard<'_, Queue<'c>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a builder has ended, also when it panics: a machine would wait for it for ever.
struct Leaving<'s, 'c>(&'s Shared<'c>);

impl Drop for Leaving<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().builders -= 1;
        self.0.changed.notify_all();
    }
}

impl Pipeline<'_> {
    /// Takes every case through, in no particular order.
    pub fn run<'c>(&self, cases: &'c [Case], on_done: OnDone<'_, 'c>) {
        let (fresh, shared): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| needs_own_machine(case));
        let order: Vec<&Case> = fresh.into_iter().chain(shared).collect();
        let builders = self.jobs.min(order.len()).max(1);
        let state = Shared {
            queue: Mutex::new(Queue {
                ready: VecDeque::new(),
                builders,
                now: Now::default(),
            }),
            changed: Condvar::new(),
            next: AtomicUsize::new(0),
            boots: AtomicUsize::new(0),
        };
        std::thread::scope(|scope| {
            for _ in 0..builders {
                scope.spawn(|| self.build_all(&order, &state, on_done));
            }
            // The second machine only helps once nobody builds any more.
            scope.spawn(|| self.boot_all(&state, false, on_done));
            if self.jobs > 1 {
                scope.spawn(|| self.boot_all(&state, true, on_done));
            }
        });
    }

    fn build_all<'c>(&self, order: &[&'c Case], state: &Shared<'c>, on_done: OnDone<'_, 'c>) {
        let _leaving = Leaving(state);
        while let Some(case) = order.get(state.next.fetch_add(1, Ordering::Relaxed)) {
            // What an interrupt cuts short says nothing about a case.
            if sh::was_interrupted() {
                return;
            }
            state.lock().now.building.push(case.name.clone());
            self.show(state);
            let built = self.build(case);
            state.lock().now.building.retain(|name| *name != case.name);
            if self.boot && judge::is_worth_booting(&built) {
                state.lock().ready.push_back(built);
                state.changed.notify_all();
            } else {
                on_done(built, None);
            }
            self.show(state);
        }
    }

    fn build<'c>(&self, case: &'c Case) -> Built<'c> {
        let started = Instant::now();
        let name = module::module_name(&[format!("{}.patch", case.name)]);
        let work = self.work.join(&case.name);
        let mut result = self.livepatch(&case.patches, &name, true, &work);
        let mut then = None;
        if let (Ok(_), Some(second)) = (&result, &case.then) {
            let name = module::module_name(&[format!("{}-then.patch", case.name)]);
            match self.livepatch(&second.patches, &name, second.replace, &work.join("then")) {
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

    fn livepatch(&self, patches: &[PathBuf], name: &str, replace: bool, work: &Path) -> Result<Livepatch> {
        let request = livepatch::Request {
            kernel: &self.baseline.kernel,
            patches,
            name,
            replace,
            dry_run: false,
            work,
            cache: self.cache,
            jobs: self.jobs,
        };
        livepatch::build(&request, &|_| {})
    }

    /// Boots batches until nothing can come any more. `helps_late`: only once all builders are done.
    fn boot_all<'c>(&self, state: &Shared<'c>, helps_late: bool, on_done: OnDone<'_, 'c>) {
        while let Some(batch) = next_batch(state, helps_late) {
            let number = state.boots.fetch_add(1, Ordering::Relaxed);
            let names: Vec<&str> = batch.iter().map(|built| built.case.name.as_str()).collect();
            let shown = names.first().copied().unwrap_or_default().to_owned();
            state.lock().now.booting.push((number, shown));
            self.show(state);
            let folder = self.work.join(format!("boot-{number}"));
            let progress = |text: &str| {
                let mut queue = state.lock();
                for (_, shown) in queue.now.booting.iter_mut().filter(|(of, _)| *of == number) {
                    text.clone_into(shown);
                }
                drop(queue);
                self.show(state);
            };
            let (batch, report) = self.boot(batch, &folder, &progress, on_done);
            state.lock().now.booting.retain(|(of, _)| *of != number);
            self.show(state);
            deliver(batch, &report, &folder, on_done);
        }
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

    fn show(&self, state: &Shared<'_>) {
        let queue = state.lock();
        let mut parts = Vec::new();
        if !queue.now.building.is_empty() {
            parts.push(format!("building {}", queue.now.building.join(", ")));
        }
        parts.extend(queue.now.booting.iter().map(|(_, shown)| format!("booting {shown}")));
        self.phase.message(&parts.join(" | "));
    }
}

fn needs_own_machine(case: &Case) -> bool {
    case.boot == Boot::Fresh || !case.modules.after.is_empty()
}

/// The next machine's cases: one that needs it for itself, or enough that share it, or what is left at the end.
fn next_batch<'c>(state: &Shared<'c>, helps_late: bool) -> Option<Vec<Built<'c>>> {
    let mut queue = state.lock();
    loop {
        let done = queue.builders == 0;
        if done && queue.ready.is_empty() {
            return None;
        }
        if done || !helps_late {
            if let Some(at) = queue.ready.iter().position(|built| needs_own_machine(built.case)) {
                return queue.ready.remove(at).map(|built| vec![built]);
            }
            // At the end two machines share what is left.
            let ready = queue.ready.len();
            let share = if done {
                ready.div_ceil(2).max(CASES_PER_BOOT.min(ready))
            } else {
                ready
            };
            if done || ready >= CASES_PER_BOOT {
                return Some(queue.ready.drain(..share).collect());
            }
        }
        queue = state.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
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
    let modules = guest.case_modules(case)?;
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
        files: &guest::case_files(Some(case), guest)?,
        before: &modules.before,
        after: &modules.after,
        reload: &case.modules.reload,
        then: second.transpose()?,
        shared: case.boot == Boot::Shared,
    };
    proof::plans(&proof, work)
}
