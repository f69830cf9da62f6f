//! Takes things through building and booting, side by side: the cases of the corpus as well as the pieces of a survey.
//!
//! What does not disturb each other shares a boot, since most of a short boot is the kernel coming up. Something that ran
//! out of time there is booted once more, alone: that may be the fault of a busy host, or of what ran before it. What is
//! built, what a machine is to do and what its report means is said by a [`Line`].

mod batch;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use kpatch_build::kernel::Kernel;
use kpatch_build::outcome::Ending;
use kpatch_build::prove::guest::Guest;
use kpatch_build::prove::vm::{BootReport, CasePlan, CaseReport};
use kpatch_build::ui::Phase;

use self::workers::Take;

/// One kind of thing that is built and booted. Called from any thread.
pub trait Line: Sync {
    /// What is to be built.
    type Item: Sync;
    /// What was built, and waits for a machine.
    type Built: Send;

    /// What an item is called.
    fn item_name<'i>(&self, item: &'i Self::Item) -> &'i str;

    /// What its plans in the guest are called, or begin with before ` (`.
    fn plan_name<'b>(&self, built: &'b Self::Built) -> &'b str;

    /// Builds an item. One that is not to be booted is through, and nothing comes back.
    fn build(&self, item: &Self::Item) -> Option<Self::Built>;

    /// Whether it leaves something behind, so that nothing may run after it in the same machine.
    fn needs_own_machine(&self, built: &Self::Built) -> bool;

    /// What the guest does for it.
    fn plans(&self, built: &Self::Built, guest: &Guest<'_>) -> Result<Vec<CasePlan>>;

    /// It is through.
    fn booted(&self, built: Self::Built, booted: Booted);

    /// All that were in this machine are through.
    fn machine_ended(&self, folder: &Path);

    /// Whether nothing more is to be begun.
    fn is_over(&self) -> bool;
}

/// What a machine said, and in which folder its logs are.
pub struct Booted {
    /// The report; those who shared a machine get the same one.
    pub report: Result<BootReport>,
    pub folder: PathBuf,
}

/// The place where things are built and booted.
pub struct Pipeline<'a> {
    pub kernel: Kernel<'a>,
    /// The image that boots, if there is one.
    pub image: Option<&'a Path>,
    /// A folder for this run alone.
    pub work: &'a Path,
    /// A folder that runs share.
    pub cache: &'a Path,
    /// How many processors to use.
    pub jobs: usize,
    /// What people see meanwhile.
    pub phase: &'a Phase,
}

/// Runs plans in a guest.
type Machine<'m> = &'m (dyn Fn(&Guest<'_>, Vec<CasePlan>, &dyn Fn(&str)) -> Result<BootReport> + Sync);

impl Pipeline<'_> {
    /// Takes all items through. They are begun in this order; they end in any.
    pub fn run<L: Line>(&self, line: &L, items: &[L::Item]) {
        self.run_with(line, items, &|guest, plans, progress| guest.run(plans, progress));
    }

    fn run_with<L: Line>(&self, line: &L, items: &[L::Item], machine: Machine<'_>) {
        let run = Run {
            pipeline: self,
            line,
            machine,
            now: Mutex::new(Now::default()),
        };
        let alone = |built: &L::Built| line.needs_own_machine(built);
        let next = |ready: &mut VecDeque<L::Built>, done: bool| batch::next(ready, done, &alone);
        let last = |ready: &mut VecDeque<L::Built>, done: bool| batch::last(ready, done, &alone);
        let machines: [Take<'_, L::Built>; 2] = [&next, &last];
        workers::run(
            items,
            self.jobs,
            &machines[..self.jobs.clamp(1, machines.len())],
            &|item| run.build(item),
            &|batch| run.boot_batch(batch),
        );
    }

    /// A machine with a folder of its own.
    pub fn guest<'g>(&'g self, folder: &'g Path) -> Result<Guest<'g>> {
        Guest::new(self.kernel, self.image, folder, self.cache)
    }
}

/// What a machine said about the plans of this name.
pub fn own_plans<'r>(name: &str, report: &'r BootReport) -> Vec<&'r CaseReport> {
    let own = |plan: &&CaseReport| {
        let rest = plan.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" ("))
    };
    report.cases.iter().filter(own).collect()
}

/// What is going on, for the progress line.
#[derive(Default)]
struct Now {
    building: Vec<String>,
    booting: Vec<(usize, String)>,
    /// How many machines there were.
    boots: usize,
}

/// A pipeline at work.
struct Run<'a, L> {
    pipeline: &'a Pipeline<'a>,
    line: &'a L,
    machine: Machine<'a>,
    now: Mutex<Now>,
}

impl<L: Line> Run<'_, L> {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build(&self, item: &L::Item) -> Option<L::Built> {
        if self.line.is_over() {
            return None;
        }
        let name = self.line.item_name(item);
        self.lock().building.push(name.to_owned());
        self.show();
        let built = self.line.build(item);
        self.lock().building.retain(|other| other != name);
        self.show();
        built
    }

    fn boot_batch(&self, batch: Vec<L::Built>) {
        if self.line.is_over() {
            return;
        }
        let first = batch.first().map_or("", |built| self.line.plan_name(built)).to_owned();
        let mut now = self.lock();
        let number = now.boots;
        now.boots += 1;
        now.booting.push((number, first));
        drop(now);
        self.show();
        let progress = |text: &str| {
            for (_, said) in self.lock().booting.iter_mut().filter(|(of, _)| *of == number) {
                text.clone_into(said);
            }
            self.show();
        };
        let folder = self.pipeline.work.join(format!("boot-{number}"));
        let (batch, report) = self.boot(batch, &folder, &progress);
        let ran_out = |built: &L::Built| {
            let own = report
                .as_ref()
                .map(|report| own_plans(self.line.plan_name(built), report));
            own.is_ok_and(|own| own.into_iter().any(CaseReport::ran_out_of_time))
        };
        let (late, judged): (Vec<_>, Vec<_>) = batch.into_iter().partition(ran_out);
        self.deliver(judged, &report, &folder);
        for built in late {
            let name = self.line.plan_name(&built);
            let text = format!("{name} ran out of time; once more, in a machine of its own");
            self.pipeline.phase.line(&text);
            let folder = folder.join(format!("{name}-again"));
            let (alone, report) = self.boot(vec![built], &folder, &progress);
            self.deliver(alone, &report, &folder);
        }
        self.line.machine_ended(&folder);
        self.lock().booting.retain(|(of, _)| *of != number);
        self.show();
    }

    /// Boots a batch. What cannot even be planned is through at once; the rest comes back with the report.
    fn boot(
        &self,
        batch: Vec<L::Built>,
        folder: &Path,
        progress: &dyn Fn(&str),
    ) -> (Vec<L::Built>, Result<BootReport>) {
        let guest = match self.pipeline.guest(folder) {
            Ok(guest) => guest,
            Err(error) => return (batch, Err(error)),
        };
        let (mut plans, mut planned) = (Vec::new(), Vec::new());
        for built in batch {
            match self.line.plans(&built, &guest) {
                Ok(own) => {
                    plans.extend(own);
                    planned.push(built);
                }
                Err(error) => self.deliver(vec![built], &Err(error), folder),
            }
        }
        if plans.is_empty() {
            return (planned, Err(Ending::infrastructure("there is nothing to boot")));
        }
        let report = (self.machine)(&guest, plans, progress);
        (planned, report)
    }

    /// Hands each its machine's report; an error of the machine is everybody's.
    fn deliver(&self, batch: Vec<L::Built>, report: &Result<BootReport>, folder: &Path) {
        for built in batch {
            let report = match report {
                Ok(report) => Ok(report.clone()),
                Err(error) => Err(again(error)),
            };
            let folder = folder.to_owned();
            self.line.booted(built, Booted { report, folder });
        }
    }

    fn show(&self) {
        let now = self.lock();
        let mut parts = Vec::new();
        if !now.building.is_empty() {
            parts.push(format!("building {}", now.building.join(", ")));
        }
        parts.extend(now.booting.iter().map(|(_, said)| format!("booting {said}")));
        self.pipeline.phase.message(&parts.join(" | "));
    }
}

/// An error that several share.
fn again(error: &anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Ending>() {
        Some(Ending::Infrastructure(what)) => Ending::infrastructure(what.clone()),
        _ => anyhow::anyhow!("{error:#}"),
    }
}
