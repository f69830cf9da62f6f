//! The firmware that starts the kernel, and the alternative if it does not get that far.
//!
//! QEMU's pseries board has two: SLOF, a full Open Firmware that takes six seconds under emulation, and VOF ("virtual
//! Open Firmware", `x-vof`), which QEMU itself implements and which takes none. The `x-` marks the option as
//! experimental, so SLOF stays as the fallback that always works.

use std::fmt;

use crate::kernel::Arch;

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// The firmware of the x86 machines.
    SeaBios,
    /// pseries without firmware: QEMU itself answers the kernel.
    Vof,
    /// pseries with a full Open Firmware.
    Slof,
    /// The board of arm64: QEMU puts kernel and device tree into memory and starts the kernel.
    None,
    /// The board of s390x: QEMU puts the kernel into memory and its own boot program starts it.
    Ccw,
}

impl Firmware {
    /// The one to try first.
    pub fn usual(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Firmware::SeaBios,
            Arch::Ppc64le => Firmware::Vof,
            Arch::Arm64 => Firmware::None,
            Arch::S390x => Firmware::Ccw,
        }
    }

    /// The one to try if this one did not start the kernel.
    pub fn instead(self) -> Option<Self> {
        (self == Firmware::Vof).then_some(Firmware::Slof)
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Firmware::SeaBios => "SeaBIOS",
            Firmware::Vof => "VOF",
            Firmware::Slof => "SLOF",
            Firmware::None => "no firmware",
            Firmware::Ccw => "s390-ccw",
        })
    }
}
