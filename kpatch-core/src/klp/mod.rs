//! The livepatch format of a finished module: converts a linked module, and checks the result by the kernel's own
//! rules.
//!
//! Documentation/livepatch/module-elf-format.rst describes the format; the kernel enforces it in
//! kernel/livepatch/core.c (`klp_resolve_symbols`, `klp_write_section_relocs`) and kernel/module/main.c.

mod at_load;
mod check;
mod code;
mod complete;
mod convert;
mod from_records;
mod late_calls;
mod modinfo;
mod pointers;
mod registered;
mod symbol_name;
mod unwind;

use crate::error::{Refusal, Subject};

pub use check::{Expected, check};
pub use complete::{Origin, complete};
pub use convert::{Converted, convert};
pub use from_records::from_records;
pub use late_calls::late_calls;
pub use modinfo::Modinfo;
pub use registered::{NewCode, Registered, SAME_BUILD, new_code, registered, states};

pub use crate::codes::environment::VERMAGIC_MISMATCH;
pub use crate::codes::klp::{
    BAD_CALL, BAD_MODINFO, BAD_MODULE, BAD_NAME, BAD_POINTER, BAD_RELOCATION, BAD_UNWIND, FIELD_NOT_ZERO, INCOMPLETE,
    LATE_CALL, LATE_RELOCATION, NAME_TOO_LONG, NO_FTRACE_SITE, NOT_FOUND, NOTHING_PATCHED, OBJTOOL_INCOMPLETE,
    OLD_KERNEL, UNDEFINED,
};
/// MODULE_NAME_LEN is 64 - sizeof(unsigned long) on 64-bit machines: include/linux/moduleparam.h, and the scan format
/// in `klp_resolve_symbols` takes 55 characters of it.
pub const MAX_OBJECT_NAME: usize = 55;
/// KSYM_NAME_LEN is 512: include/linux/kallsyms.h, and the scan format takes 511 characters.
pub const MAX_SYMBOL_NAME: usize = 511;

/// The first release without `.klp.arch.` sections. Earlier kernels applied alternatives and paravirtual calls of a
/// livepatch from there once its object was loaded (arch/x86/kernel/livepatch.c, `arch_klp_init_object_loaded`, up to
/// 5.7).
const OLDEST: (u32, u32) = (5, 8);

/// The refusal of a kernel older than 5.8. `release` is what `uname -r` prints there.
pub fn old_kernel(release: &str) -> Option<Refusal> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((major, minor) < OLDEST).then(|| wants_old_sections(&format!("Linux {release}")))
}

/// The refusal of input that asks for `.klp.arch.` sections.
pub fn wants_old_sections(who: &str) -> Refusal {
    let why = format!(
        "{who} wants sections `.klp.arch.`, which kernels before {}.{} read",
        OLDEST.0, OLDEST.1
    );
    Refusal::new(OLD_KERNEL, Subject::default(), why).hint("use kpatch's own programs for such a kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_read_the_old_sections_are_refused() {
        for release in ["5.7.19", "4.18.0-553.el8", "5.0"] {
            assert_eq!(old_kernel(release).expect(release).code, OLD_KERNEL);
        }
        for release in ["5.8.0", "5.10.0-9-amd64", "6.1.170", "10.0-rc1"] {
            assert_eq!(old_kernel(release), None, "{release}");
        }
    }
}
