//! QEMU's command line: one small function for each group of options.
//!
//! Measured with a small 6.12 ThinLTO kernel under TCG on two processors, from the start of QEMU to power off:
//! `q35` 2.0 s, `pc` 2.4 s, `microvm` 1.9 s (it needs ACPI to power off, and an ISA port that its default lacks);
//! `-cpu max` 2.0 s, `qemu64` 1.7 s (it lacks SMAP and most of what the code under test meets in real machines);
//! a compressed initramfs, `mitigations=off` and a quiet console change less than one run differs from the next.
//! So: the common machine, the rich processor, mitigations and address randomisation as the kernel is configured,
//! and the whole console log. (The measured kernel is built without KASLR, so its cost is not known.)

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use super::firmware::Firmware;
use crate::kernel::Arch;

/// How the guest's processor is provided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// By the host's processor, through KVM.
    Kvm,
    /// By QEMU's translator (Tiny Code Generator).
    Tcg,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accel::Kvm => "KVM",
            Accel::Tcg => "TCG",
        })
    }
}

/// The machine without its files.
#[derive(Debug, Clone, Copy)]
pub struct Board {
    /// Architecture of the kernel.
    pub arch: Arch,
    /// How instructions are executed.
    pub accel: Accel,
    /// What starts the kernel.
    pub firmware: Firmware,
    /// Main memory in MiB.
    pub memory_mib: u32,
    /// Number of processors.
    pub cpus: u32,
    /// The kernel takes only modules that are signed by a key it knows.
    pub signatures_enforced: bool,
}

/// The files that one machine reads and writes.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// Kernel image for direct boot: `bzImage`, `vmlinux` on ppc64le, or `Image` on arm64.
    pub kernel: &'a Path,
    /// Root file system: an uncompressed cpio archive.
    pub initramfs: &'a Path,
    /// QEMU writes the kernel's console here.
    pub console: &'a Path,
    /// QEMU writes the guest's records here.
    pub channel: &'a Path,
}

/// Name of the QEMU program for this architecture.
pub fn qemu(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "qemu-system-x86_64",
        Arch::Ppc64le => "qemu-system-ppc64",
        Arch::Arm64 => "qemu-system-aarch64",
        Arch::S390x => "qemu-system-s390x",
    }
}

/// The guest's name of the second serial port. That of arm64 is a card: the `virt` board has one port of its own. That of
/// s390x is the second terminal of the service processor (drivers/s390/char/sclp_vt220.c), which passes all bytes on.
pub fn channel_device(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "/dev/ttyS1",
        Arch::Ppc64le => "/dev/hvc1",
        Arch::Arm64 => "/dev/ttyS0",
        Arch::S390x => "/dev/ttysclp0",
    }
}

/// The whole command line after the program's name.
pub fn all(board: Board, files: Files<'_>) -> Vec<OsString> {
    let Board { arch, accel, .. } = board;
    [
        bare(),
        accelerator(arch, accel),
        machine(board.firmware),
        processor(arch, accel, board.cpus),
        memory(board.memory_mib),
        kernel(board, files),
        console(arch, files.console),
        channel(arch, files.channel),
    ]
    .concat()
}

/// No defaults: no user configuration, no default devices, no screen, no network. A reset ends QEMU, and so does a
/// panic (with `panic=-1`, see [`command_line`]).
pub fn bare() -> Vec<OsString> {
    words(&[
        "-no-user-config",
        "-nodefaults",
        "-display",
        "none",
        "-nic",
        "none",
        "-no-reboot",
    ])
}

/// How instructions are executed. Several host threads let two processors really race during a transition; but not
/// where the kernel patches code with a breakpoint (arch/x86/kernel/alternative.c, `text_poke_bp_batch`): while one
/// processor writes, the emulation of another can pick up the breakpoint and execute it after it is gone. No real
/// processor does that, and the kernel reports a bug. With PREEMPT_DYNAMIC, where livepatch patches every
/// cond_resched() when a transition begins and ends, one boot in thirty ended this way.
pub fn accelerator(arch: Arch, accel: Accel) -> Vec<OsString> {
    const WEAKLY_ORDERED: bool = cfg!(any(target_arch = "aarch64", target_arch = "powerpc64"));
    match accel {
        Accel::Kvm => words(&["-accel", "kvm"]),
        Accel::Tcg => words(&["-accel", threads(arch, WEAKLY_ORDERED)]),
    }
}

/// A processor that orders its memory accesses more weakly than the guest's would show the guest an order that no real one
/// does (QEMU 7.2, accel/tcg/tcg-all.c, `check_tcg_memory_orders_compatible`).
fn threads(arch: Arch, host_is_weakly_ordered: bool) -> &'static str {
    match arch {
        Arch::X86_64 => "tcg,thread=single",
        Arch::S390x if host_is_weakly_ordered => "tcg,thread=single",
        Arch::Ppc64le | Arch::Arm64 | Arch::S390x => "tcg,thread=multi",
    }
}

/// The machine. For pseries this disables the capabilities that emulation cannot provide, else QEMU warns or refuses.
/// An environment variable for the firmware, here one with its usual value, makes QEMU lay out the memory for such
/// variables (hw/nvram/spapr_nvram.c); the kernel calls an empty one corrupt.
pub fn machine(firmware: Firmware) -> Vec<OsString> {
    const PSERIES: &str = "cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off";
    let pseries = |options: &str| {
        let board = format!("pseries,{options}{PSERIES}");
        words(&["-machine", &board, "-vga", "none", "-prom-env", "auto-boot?=true"])
    };
    match firmware {
        Firmware::SeaBios => words(&["-machine", "q35"]),
        Firmware::Vof => pseries("x-vof=on,"),
        Firmware::Slof => pseries(""),
        Firmware::None => words(&["-machine", "virt"]),
        Firmware::Ccw => words(&["-machine", "s390-ccw-virtio"]),
    }
}

/// Processor model and number of processors. Emulation of the architected algorithm of pointer authentication takes most
/// of a guest's time; one of QEMU's own has the same instructions and the same faults.
pub fn processor(arch: Arch, accel: Accel, cpus: u32) -> Vec<OsString> {
    let model = match (arch, accel) {
        (Arch::X86_64 | Arch::Arm64 | Arch::S390x, Accel::Kvm) => "host",
        (Arch::X86_64 | Arch::S390x, Accel::Tcg) => "max",
        (Arch::Ppc64le, _) => "power9",
        (Arch::Arm64, Accel::Tcg) => "max,pauth-impdef=on",
    };
    words(&["-cpu", model, "-smp", &cpus.to_string()])
}

/// Main memory in MiB.
pub fn memory(mib: u32) -> Vec<OsString> {
    words(&["-m", &format!("{mib}M")])
}

/// Direct kernel boot, without a boot loader or a disk.
pub fn kernel(board: Board, files: Files<'_>) -> Vec<OsString> {
    vec![
        "-kernel".into(),
        files.kernel.into(),
        "-initrd".into(),
        files.initramfs.into(),
        "-append".into(),
        command_line(board).into(),
    ]
}

/// The kernel's own parameters.
pub fn command_line(board: Board) -> String {
    let Board { arch, accel, .. } = board;
    let mut parameters = vec![
        match arch {
            Arch::X86_64 => "console=ttyS0",
            Arch::Ppc64le => "console=hvc0",
            Arch::Arm64 => "console=ttyAMA0",
            Arch::S390x => "console=ttyS0",
        },
        // With -no-reboot a panic ends QEMU at once, instead of leaving a silent machine. There is deliberately no
        // oops=panic: an oops kills only the process that caused it, and the guest reports it over the channel with the
        // step, the whole splat and everything before. That record is better than the console's, and the outcome is
        // "the kernel complained" either way.
        "panic=-1",
        // Room for a whole run: if the log overruns, a case cannot be judged.
        "log_buf_len=2M",
    ];
    if arch == Arch::X86_64 && accel == Accel::Tcg {
        // An emulated clock is irregular when the host is busy. Without these the kernel spends a third of a second
        // calibrating it and may declare it unstable in the middle of a proof.
        parameters.extend(["tsc=reliable", "no_timer_check"]);
    }
    if board.signatures_enforced {
        parameters.push("module.sig_enforce=1");
    }
    parameters.join(" ")
}

/// The first serial port: the kernel's console, into a file.
pub fn console(arch: Arch, path: &Path) -> Vec<OsString> {
    let port = match arch {
        Arch::X86_64 | Arch::Ppc64le | Arch::Arm64 => ["-serial", "chardev:console"],
        Arch::S390x => ["-device", "sclplmconsole,chardev=console"],
    };
    [chardev("console", path), words(&port)].concat()
}

/// The second serial port: the guest's records, into a file. A file cannot block the guest, needs no fast reader, and
/// remains for debugging.
pub fn channel(arch: Arch, path: &Path) -> Vec<OsString> {
    let port = match arch {
        Arch::X86_64 | Arch::Ppc64le => ["-serial", "chardev:channel"],
        Arch::Arm64 => ["-device", "pci-serial,chardev=channel"],
        Arch::S390x => ["-device", "sclpconsole,chardev=channel"],
    };
    [chardev("channel", path), words(&port)].concat()
}

/// The debug port, on which the x86 firmware logs its progress.
pub fn debug_port(path: &Path) -> Vec<OsString> {
    let mut device: OsString = "file,id=debug,path=".into();
    device.push(escape_commas(path));
    vec![
        "-chardev".into(),
        device,
        "-device".into(),
        "isa-debugcon,iobase=0x402,chardev=debug".into(),
    ]
}

fn chardev(id: &str, path: &Path) -> Vec<OsString> {
    let mut device: OsString = format!("file,id={id},path=").into();
    device.push(escape_commas(path));
    vec!["-chardev".into(), device]
}

/// Doubles commas: in QEMU's option syntax a single comma ends a value.
fn escape_commas(path: &Path) -> OsString {
    path.to_string_lossy().replace(',', ",,").into()
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arch: Arch, accel: Accel) -> String {
        let files = Files {
            kernel: Path::new("/b/bzImage"),
            initramfs: Path::new("/t/i.cpio"),
            console: Path::new("/t/console.log"),
            channel: Path::new("/t/a,b.bin"),
        };
        let board = Board {
            arch,
            accel,
            firmware: Firmware::usual(arch),
            memory_mib: 512,
            cpus: 2,
            signatures_enforced: false,
        };
        let words = all(board, files);
        words
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_command_line_for_x86_64_without_kvm() {
        assert_eq!(
            line(Arch::X86_64, Accel::Tcg),
            "-no-user-config -nodefaults -display none -nic none -no-reboot -accel tcg,thread=single -machine q35 \
             -cpu max -smp 2 -m 512M -kernel /b/bzImage -initrd /t/i.cpio \
             -append console=ttyS0 panic=-1 log_buf_len=2M tsc=reliable no_timer_check \
             -chardev file,id=console,path=/t/console.log -serial chardev:console \
             -chardev file,id=channel,path=/t/a,,b.bin -serial chardev:channel"
        );
    }

    #[test]
    fn processors_run_side_by_side_where_the_host_keeps_their_order() {
        assert_eq!(threads(Arch::S390x, false), "tcg,thread=multi");
        assert_eq!(threads(Arch::S390x, true), "tcg,thread=single");
        assert_eq!(threads(Arch::Arm64, true), "tcg,thread=multi");
    }

    #[test]
    fn kvm_takes_the_host_processor_and_its_clock() {
        let line = line(Arch::X86_64, Accel::Kvm);
        assert!(
            line.contains("-accel kvm") && line.contains("-cpu host") && !line.contains("tsc="),
            "{line}"
        );
    }

    #[test]
    fn ppc64le_has_its_own_console_and_board() {
        let line = line(Arch::Ppc64le, Accel::Tcg);
        assert!(line.contains("console=hvc0") && line.contains("pseries,x-vof=on") && line.contains("-cpu power9"));
        assert!(line.contains("thread=multi"));
        assert_eq!(channel_device(Arch::Ppc64le), "/dev/hvc1");
        let slof = machine(Firmware::Vof.instead().unwrap());
        assert!(!format!("{slof:?}").contains("x-vof"), "{slof:?}");
    }

    #[test]
    fn arm64_has_its_records_on_a_card() {
        assert_eq!(
            line(Arch::Arm64, Accel::Tcg),
            "-no-user-config -nodefaults -display none -nic none -no-reboot -accel tcg,thread=multi -machine virt \
             -cpu max,pauth-impdef=on -smp 2 -m 512M -kernel /b/bzImage -initrd /t/i.cpio \
             -append console=ttyAMA0 panic=-1 log_buf_len=2M \
             -chardev file,id=console,path=/t/console.log -serial chardev:console \
             -chardev file,id=channel,path=/t/a,,b.bin -device pci-serial,chardev=channel"
        );
        assert_eq!(channel_device(Arch::Arm64), "/dev/ttyS0");
        assert!(line(Arch::Arm64, Accel::Kvm).contains("-cpu host"));
    }

    #[test]
    fn s390x_has_both_terminals_of_the_service_processor() {
        assert_eq!(
            line(Arch::S390x, Accel::Kvm),
            "-no-user-config -nodefaults -display none -nic none -no-reboot -accel kvm \
             -machine s390-ccw-virtio -cpu host -smp 2 -m 512M -kernel /b/bzImage -initrd /t/i.cpio \
             -append console=ttyS0 panic=-1 log_buf_len=2M \
             -chardev file,id=console,path=/t/console.log -device sclplmconsole,chardev=console \
             -chardev file,id=channel,path=/t/a,,b.bin -device sclpconsole,chardev=channel"
        );
        assert_eq!(channel_device(Arch::S390x), "/dev/ttysclp0");
    }
}
