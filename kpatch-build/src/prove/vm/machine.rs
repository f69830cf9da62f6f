//! One run of QEMU: starts it, reads its output, and decides when it is over.
//!
//! The loop checks the process before its files: once it has ended, the files are complete. Three limits apply: until
//! the first record, between records, and for the whole boot.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::args::Accel;
use super::args::{self, Board, Files};
use super::console;
use super::firmware::Firmware;
use super::message::Message;
use super::plan::Plan;
use super::transcript::{Collector, MachineEnd, Transcript};
use super::{BootRequest, Event, child};

/// The guest reports at least once a second. This much silence is a hang, even on a busy host.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// The kernel prints its first line long before this, even after the slowest firmware on a busy host.
const FIRMWARE_LIMIT: Duration = Duration::from_secs(60);
/// With KVM it takes a second. If the firmware runs but no kernel does, waiting is pointless; a wrong guess costs only
/// speed, since the machine is then emulated.
const KVM_FIRMWARE_LIMIT: Duration = Duration::from_secs(8);
/// The guest program reports nothing before it runs, and emulated kernels with many drivers boot slowly.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// After the final record the machine only powers off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(10);
/// Interval at which the files are read.
const POLL: Duration = Duration::from_millis(10);

/// What one run needs.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// What to boot, and the limits.
    pub request: &'a BootRequest,
    /// The cases of this boot.
    pub plan: &'a Plan,
    /// The logs of this boot go here.
    pub folder: &'a Path,
    /// Root file system of this boot.
    pub initramfs: &'a Path,
    /// Ties the guest's records to this boot.
    pub nonce: u64,
    /// The accelerator: KVM or emulation.
    pub accel: Accel,
    /// The firmware that starts the kernel.
    pub firmware: Firmware,
}

/// Runs the machine until it ends or exceeds a limit.
pub fn run(setup: &Setup<'_>, on_event: &mut dyn FnMut(&Event)) -> anyhow::Result<Transcript> {
    let (console, channel) = (setup.folder.join("console.log"), setup.folder.join("channel.bin"));
    let log = setup.folder.join("qemu.log");
    // Created here, so that they can be opened before QEMU starts, and are empty.
    for path in [&console, &channel] {
        File::create(path).with_context(|| format!("create {}", path.display()))?;
    }
    let request = setup.request;
    let files = Files {
        kernel: &request.image,
        initramfs: setup.initramfs,
        console: &console,
        channel: &channel,
    };
    anyhow::ensure!(request.image.is_file(), "no kernel image: {}", request.image.display());
    let board = Board {
        arch: request.arch,
        accel: setup.accel,
        firmware: setup.firmware,
        memory_mib: request.memory_mib,
        cpus: request.cpus,
        signatures_enforced: request.signatures_enforced,
    };
    let options = args::all(board, files);
    let reader = File::open(&channel).with_context(|| format!("open {}", channel.display()))?;
    let mut watch = Watch {
        machine: child::spawn(args::qemu(request.arch), options, &log)?,
        reader,
        console: console.clone(),
        kernel_began: false,
        collector: Collector::new(setup.nonce),
        begun: Instant::now(),
        last_record: Instant::now(),
        up_after: None,
        told: 0,
    };
    let end = watch.until_the_end(setup, &log, on_event)?;
    let console = std::fs::read(&console).with_context(|| format!("read {}", console.display()))?;
    Ok(watch
        .collector
        .finish(end, String::from_utf8_lossy(&console).into_owned(), watch.up_after))
}

/// A running machine: its files, its clocks and what it has said so far.
struct Watch {
    machine: child::ChildGuard,
    reader: File,
    console: PathBuf,
    /// Whether the console has a line of the kernel.
    kernel_began: bool,
    collector: Collector,
    begun: Instant,
    last_record: Instant,
    up_after: Option<Duration>,
    /// Number of messages that were reported as events.
    told: usize,
}

impl Watch {
    fn until_the_end(
        &mut self,
        setup: &Setup<'_>,
        log: &Path,
        on_event: &mut dyn FnMut(&Event),
    ) -> anyhow::Result<MachineEnd> {
        loop {
            let ended = self.machine.ended()?;
            self.read_channel()?;
            self.look_at_console();
            self.tell(setup.plan, on_event);
            if let Some(status) = ended {
                return Ok(exited(status, log));
            }
            if let Some(end) = self.out_of_time(setup) {
                return Ok(end);
            }
            std::thread::sleep(POLL);
        }
    }

    fn read_channel(&mut self) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        self.reader
            .read_to_end(&mut bytes)
            .context("read the channel of the guest")?;
        if self.collector.push(&bytes) > 0 {
            self.last_record = Instant::now();
            self.up_after.get_or_insert_with(|| self.begun.elapsed());
        }
        Ok(())
    }

    /// Searches the console for the kernel's first line until it is found.
    fn look_at_console(&mut self) {
        if !self.kernel_began {
            let text = std::fs::read(&self.console).unwrap_or_default();
            self.kernel_began = console::kernel_began(&String::from_utf8_lossy(&text));
        }
    }

    /// Which limit is exceeded, if any.
    fn out_of_time(&self, setup: &Setup<'_>) -> Option<MachineEnd> {
        let whole = setup.request.timeout;
        let limit = match (self.collector.is_final(), self.up_after) {
            (true, _) => POWER_OFF_LIMIT,
            (false, Some(_)) => SILENCE_LIMIT,
            (false, None) if !self.kernel_began && setup.accel == Accel::Kvm => KVM_FIRMWARE_LIMIT,
            (false, None) if !self.kernel_began => FIRMWARE_LIMIT,
            (false, None) => BOOT_LIMIT,
        };
        if self.last_record.elapsed() > limit {
            return Some(MachineEnd::Silent(limit));
        }
        (self.begun.elapsed() > whole).then_some(MachineEnd::OutOfTime(whole))
    }

    /// Turns new messages into events.
    fn tell(&mut self, plan: &Plan, on_event: &mut dyn FnMut(&Event)) {
        for message in &self.collector.messages[self.told..] {
            if let Some(event) = event_of(message, plan, self.up_after.unwrap_or_default()) {
                on_event(&event);
            }
        }
        self.told = self.collector.messages.len();
    }
}

fn event_of(message: &Message, plan: &Plan, up_after: Duration) -> Option<Event> {
    let case_name = |case: usize| plan.cases.get(case).map(|case| case.name.clone());
    let label = |case: usize, step: usize| plan.cases.get(case)?.steps.get(step).map(super::Step::label);
    Some(match message {
        Message::Hello(hello) => Event::Up {
            release: hello.release.clone(),
            after: up_after,
        },
        Message::CaseBegin { case } => Event::CaseStarted {
            case: case_name(*case)?,
        },
        Message::StepBegin { case, step } => Event::StepStarted {
            case: case_name(*case)?,
            label: label(*case, *step)?,
        },
        Message::StepEnd(end) => Event::StepEnded {
            case: case_name(end.case)?,
            label: label(end.case, end.step)?,
            took: end.took,
        },
        _ => return None,
    })
}

/// The end of a QEMU that exited. QEMU's own output (a bad option, no memory) explains it, so it is included.
fn exited(status: ExitStatus, log: &Path) -> MachineEnd {
    MachineEnd::Exited {
        status: status.to_string(),
        stderr: child::log_tail(log, 10),
    }
}
