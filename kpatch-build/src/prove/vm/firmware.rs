//! What a machine runs before the kernel, and what to do if that does not get as far as the kernel.
//!
//! QEMU's pseries board has two: SLOF, a full Open Firmware that takes six seconds under emulation, and VOF
//! ("virtual Open Firmware", `x-vof`), which QEMU itself plays and which takes none. The option's name says that it is
//! an experiment, so SLOF stays as the way that always works.

use std::fmt;

use crate::kernel::Arch;

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// Of the x86 boards.
    SeaBios,
    /// Of pseries: none but QEMU.
    Vof,
    /// Of pseries: the full one.
    Slof,
}

impl Firmware {
    /// The one to try first.
    pub fn usual(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Firmware::SeaBios,
            Arch::Ppc64le => Firmware::Vof,
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
        })
    }
}
