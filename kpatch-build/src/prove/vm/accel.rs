//! Chooses KVM or emulation by running something, not by looking at `/dev/kvm`.
//!
//! Even if the device opens, QEMU can die setting up the first processor, or start and never execute an instruction;
//! both were seen. So the probe runs the firmware and waits for its first byte on the debug port. The result is cached
//! for the run. Where guests have no such firmware, the first boot is the probe.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::args::Accel;
use super::firmware::Firmware;
use super::{args, child};
use crate::kernel::Arch;

/// With working KVM the firmware's first byte comes within a tenth of a second.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

static FOUND: Mutex<Option<Choice>> = Mutex::new(None);

/// How guests are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What executes the guest's instructions.
    pub accel: Accel,
    /// Why KVM does not work, on a machine where it could.
    pub no_kvm: Option<String>,
}

impl Choice {
    fn kvm() -> Self {
        Choice {
            accel: Accel::Kvm,
            no_kvm: None,
        }
    }

    fn tcg(why: Option<String>) -> Self {
        Choice {
            accel: Accel::Tcg,
            no_kvm: why,
        }
    }
}

/// The accelerator for guests of this architecture. `work` is a folder for the probe's files.
pub fn choose(arch: Arch, work: &Path) -> anyhow::Result<Choice> {
    if !host_runs(arch) {
        return Ok(Choice::tcg(None));
    }
    let mut found = FOUND.lock().expect("the probe does not panic while it holds the lock");
    if let Some(choice) = &*found {
        return Ok(choice.clone());
    }
    let choice = match why_no_kvm(arch, work)? {
        None => Choice::kvm(),
        why => Choice::tcg(why),
    };
    *found = Some(choice.clone());
    Ok(choice)
}

/// Records that KVM passed the probe but did not boot a kernel.
pub fn distrust_kvm() -> Choice {
    let choice = Choice::tcg(Some("the kernel did not boot with KVM".to_owned()));
    *FOUND.lock().expect("the probe does not panic while it holds the lock") = Some(choice.clone());
    choice
}

/// Whether KVM is tried: the host must run this architecture's instructions. The processor of a pseries guest is one of a
/// certain model, which the host need not be.
fn host_runs(arch: Arch) -> bool {
    Arch::of_this_machine() == Some(arch) && arch != Arch::Ppc64le
}

/// Nothing if a KVM guest executes code, so that its firmware writes to the debug port; else why not.
fn why_no_kvm(arch: Arch, work: &Path) -> anyhow::Result<Option<String>> {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Some(format!("/dev/kvm: {error}")));
    }
    if arch != Arch::X86_64 {
        // There is no firmware that could tell. If the kernel does not boot, it is booted again without KVM.
        return Ok(None);
    }
    std::fs::create_dir_all(work).with_context(|| format!("create {}", work.display()))?;
    let (word, log) = (work.join("kvm-probe.out"), work.join("kvm-probe.log"));
    let options = [
        args::bare(),
        args::accelerator(arch, Accel::Kvm),
        args::machine(Firmware::usual(arch)),
        args::processor(arch, Accel::Kvm, 1),
        args::memory(64),
        args::debug_port(&word),
    ];
    let mut machine = child::spawn(args::qemu(arch), options.concat(), &log)?;
    let begun = Instant::now();
    while begun.elapsed() < PROBE_TIMEOUT && machine.ended()?.is_none() {
        if std::fs::metadata(&word).is_ok_and(|file| file.len() > 0) {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let why = match machine.ended()? {
        Some(status) => format!(
            "a trial guest with KVM ended with {status}\n{}",
            child::log_tail(&log, 1)
        ),
        None => format!("a trial guest with KVM did nothing for {} s", PROBE_TIMEOUT.as_secs()),
    };
    Ok(Some(why))
}
