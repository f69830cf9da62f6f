//! Proof machines: boots a kernel in QEMU, loads livepatches, checks behaviour, unloads them, and reports what
//! happened.
//!
//! The guest runs one static program (`guest`) that works through a [`Plan`] and reports over its own serial port
//! (`channel`). Success is never just "nothing went wrong": a case passes only if every step reported its end, the
//! kernel log of that time is clean, and the machine sent its final record.
//!
//! One boot can serve several cases. A case that fails or leaves the machine changed is the last of its boot. The cases
//! behind it get a fresh machine, so that a damaged kernel never judges another patch.

mod accel;
mod args;
mod channel;
mod child;
mod console;
mod firmware;
mod guest;
mod initramfs;
mod judge;
mod klog;
mod machine;
mod message;
mod outcome;
mod plan;
mod steps;
mod transcript;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::kernel::Arch;
pub use args::Accel;
pub use firmware::Firmware;
pub use guest::compiler;
pub use outcome::{CaseOutcome, CaseReport, Meaning, StalledTask, StepReport};
pub use plan::{Behaviour, CasePlan, ExpectedObject, GuestFile, Plan, Step};

/// How long a livepatch transition may take unless the plan says otherwise. The kernel signals tasks that block a
/// transition after 15 seconds, so a shorter limit would report a transition as stalled that is still progressing.
pub const TRANSITION_TIMEOUT: Duration = Duration::from_secs(25);

/// What to boot and what to do there.
#[derive(Debug, Clone)]
pub struct BootRequest {
    /// Architecture of the kernel.
    pub arch: Arch,
    /// Bootable image (`bzImage`, also for s390x; `Image` for arm64; for ppc64le the stripped or unstripped `vmlinux`).
    pub image: PathBuf,
    /// Temporary folder for this request; the logs of each boot stay in it.
    pub work: PathBuf,
    /// Folder that later runs share: the compiled guest program.
    pub cache: PathBuf,
    /// Static busybox for the guest's architecture. `None` takes the one on `PATH`.
    pub busybox: Option<PathBuf>,
    /// The cases, in the order in which they run.
    pub plan: Plan,
    /// Limit for one boot, from the start of QEMU to power off.
    pub timeout: Duration,
    /// Memory of the machine.
    pub memory_mib: u32,
    /// Processors of the machine. With two, tasks run while a transition is in progress.
    pub cpus: u32,
    /// The kernel takes only modules that are signed by a key it knows.
    pub signatures_enforced: bool,
}

/// Progress of a running machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// QEMU is about to start.
    Starting {
        /// How the processor is provided.
        accel: Accel,
        /// What runs before the kernel.
        firmware: Firmware,
        /// How many cases this boot has.
        cases: usize,
    },
    /// The guest program runs.
    Up {
        /// Release of the running kernel, as `uname -r` prints it.
        release: String,
        /// Time since QEMU was started.
        after: Duration,
    },
    /// The guest begins a case.
    CaseStarted {
        /// Name of the case.
        case: String,
    },
    /// The guest begins a step.
    StepStarted {
        /// Name of the case.
        case: String,
        /// What the step does.
        label: String,
    },
    /// A step ended, well or badly.
    StepEnded {
        /// Name of the case.
        case: String,
        /// What the step did.
        label: String,
        /// Measured in the guest.
        took: Duration,
    },
    /// The verdict on a case, after its machine has ended.
    CaseJudged {
        /// Name of the case.
        case: String,
        /// Stable name of the verdict: [`CaseOutcome::short_name`].
        outcome: &'static str,
    },
}

/// The result of a request.
#[derive(Debug, Clone)]
pub struct BootReport {
    /// How the processor was provided.
    pub accel: Accel,
    /// Why it was not by KVM, on a machine that could run such a kernel itself.
    pub no_kvm: Option<String>,
    /// What ran before the kernel.
    pub firmware: Firmware,
    /// One entry a case, in the order of the plan.
    pub cases: Vec<CaseReport>,
    /// From the start of QEMU to the first record of the guest, in the first boot.
    pub boot_seconds: f64,
    /// Duration of all boots together, in seconds.
    pub total_seconds: f64,
    /// How many machines were needed.
    pub boots: usize,
    /// Last console lines of the last boot.
    pub console_tail: Vec<String>,
    /// `uname -r` in the guest.
    pub release: String,
    /// Complaints of the kernel before the first case. They concern the kernel, not a patch.
    pub boot_complaints: Vec<String>,
}

impl BootReport {
    /// The worst meaning of all cases, for the exit code. A failure outweighs an infrastructure fault, because it
    /// remains true once the fault is fixed.
    pub fn meaning(&self) -> Meaning {
        self.cases
            .iter()
            .map(|case| case.outcome.meaning())
            .max()
            .unwrap_or(Meaning::Infrastructure)
    }
}

/// Runs every case of the plan, in as many boots as that takes.
pub fn boot(request: &BootRequest, on_event: &mut dyn FnMut(&Event)) -> anyhow::Result<BootReport> {
    request.plan.check()?;
    let begun = Instant::now();
    let tools = guest::Tools::find(request)?;
    let choice = accel::choose(request.arch, &request.work)?;
    let mut hardware = Hardware {
        accel: choice.accel,
        no_kvm: choice.no_kvm,
        firmware: Firmware::usual(request.arch),
    };
    let mut waiting: Vec<usize> = (0..request.plan.cases.len()).collect();
    let mut reports: Vec<Option<CaseReport>> = request.plan.cases.iter().map(|_| None).collect();
    let mut first: Option<BootFacts> = None;
    let mut boots = 0;
    let mut console_tail = Vec::new();
    while !waiting.is_empty() {
        let plan = request.plan.subset(&waiting);
        let folder = request.work.join(format!("boot-{boots}"));
        boots += 1;
        let transcript = run_machine(request, &tools, &plan, &mut hardware, &folder, on_event)?;
        console_tail = transcript.console_tail();
        first.get_or_insert_with(|| BootFacts::of(&transcript));
        let judged = judge::judge(&plan, &transcript);
        waiting = keep_judged(judged, &waiting, &mut reports, on_event);
    }
    let facts = first.context("a plan without cases proves nothing")?;
    Ok(BootReport {
        accel: hardware.accel,
        no_kvm: hardware.no_kvm,
        firmware: hardware.firmware,
        cases: reports.into_iter().flatten().collect(),
        boot_seconds: facts.boot_seconds,
        total_seconds: begun.elapsed().as_secs_f64(),
        boots,
        console_tail,
        release: facts.release,
        boot_complaints: facts.complaints,
    })
}

/// Facts from the first boot of a request that hold for all boots.
struct BootFacts {
    boot_seconds: f64,
    release: String,
    complaints: Vec<String>,
}

impl BootFacts {
    fn of(transcript: &transcript::Transcript) -> Self {
        BootFacts {
            boot_seconds: transcript.up_after.unwrap_or_default().as_secs_f64(),
            release: transcript.release().unwrap_or_default().to_owned(),
            complaints: judge::boot_complaints(transcript),
        }
    }
}

/// The parts of a machine that may turn out not to work.
#[derive(Debug, Clone)]
struct Hardware {
    accel: Accel,
    no_kvm: Option<String>,
    firmware: Firmware,
}

/// Boots once. If KVM does not bring this kernel to its first record, boots again without KVM; if the firmware does not
/// start the kernel, boots again with another firmware.
fn run_machine(
    request: &BootRequest,
    tools: &guest::Tools,
    plan: &Plan,
    hardware: &mut Hardware,
    folder: &Path,
    on_event: &mut dyn FnMut(&Event),
) -> anyhow::Result<transcript::Transcript> {
    let nonce = channel::fresh_nonce();
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let initramfs = guest::write_initramfs(request.arch, tools, plan, nonce, folder)?;
    let mut run = |hardware: &Hardware| {
        on_event(&Event::Starting {
            accel: hardware.accel,
            firmware: hardware.firmware,
            cases: plan.cases.len(),
        });
        machine::run(
            &machine::Setup {
                request,
                plan,
                folder,
                initramfs: &initramfs,
                nonce,
                accel: hardware.accel,
                firmware: hardware.firmware,
            },
            on_event,
        )
    };
    let mut transcript = run(hardware)?;
    if hardware.accel == Accel::Kvm && transcript.release().is_none() {
        let choice = accel::distrust_kvm();
        (hardware.accel, hardware.no_kvm) = (choice.accel, choice.no_kvm);
        transcript = run(hardware)?;
    }
    while let Some(other) = hardware.firmware.instead()
        && !console::kernel_began(&transcript.console)
        && transcript.release().is_none()
    {
        hardware.firmware = other;
        transcript = run(hardware)?;
    }
    Ok(transcript)
}

/// Stores the verdicts and returns the cases that still need a machine.
fn keep_judged(
    judged: Vec<CaseReport>,
    indices: &[usize],
    reports: &mut [Option<CaseReport>],
    on_event: &mut dyn FnMut(&Event),
) -> Vec<usize> {
    let mut waiting = Vec::new();
    for (report, &index) in judged.into_iter().zip(indices) {
        if matches!(report.outcome, CaseOutcome::NotRun { .. }) {
            waiting.push(index);
            continue;
        }
        on_event(&Event::CaseJudged {
            case: report.name.clone(),
            outcome: report.outcome.short_name(),
        });
        reports[index] = Some(report);
    }
    waiting
}
