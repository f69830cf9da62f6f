//! The livepatch format of a finished module: making it, and checking it by the kernel's own rules.
//!
//! Documentation/livepatch/module-elf-format.rst describes the format; what is enforced is in
//! kernel/livepatch/core.c (`klp_resolve_symbols`, `klp_write_section_relocs`) and kernel/module/main.c.

mod check;
mod complete;
mod convert;
mod from_records;
mod modinfo;
mod registered;

use crate::error::{Code, Refusal, Subject};

pub use check::{Expected, check};
pub use complete::{Origin, complete};
pub use convert::{Converted, convert};
pub use from_records::from_records;
pub use modinfo::Modinfo;

/// The kernel wants `.klp.arch.` sections, which are not made.
pub const OLD_KERNEL: Code = Code("klp.old-kernel");
/// The linked module is not what was expected.
pub const BAD_MODULE: Code = Code("klp.bad-module");
/// A livepatch symbol's name cannot be parsed by the kernel.
pub const BAD_NAME: Code = Code("klp.bad-name");
/// A livepatch symbol is not in the kernel, or not at its position.
pub const NOT_FOUND: Code = Code("klp.symbol-not-found");
/// A relocation that the module loader refuses.
pub const BAD_RELOCATION: Code = Code("klp.bad-relocation");
/// A branch out of the module that the loader refuses, or that comes back with the wrong module pointer.
pub const BAD_CALL: Code = Code("klp.bad-call");
/// The bytes that a relocation writes are not zero before.
pub const FIELD_NOT_ZERO: Code = Code("klp.field-not-zero");
/// A section that the kernel reads before late relocations are applied has one.
pub const LATE_RELOCATION: Code = Code("klp.late-relocation");
/// An undefined symbol that nobody exports.
pub const UNDEFINED: Code = Code("klp.undefined-symbol");
/// A redirected function is not traceable in the kernel.
pub const NO_FTRACE_SITE: Code = Code("klp.no-ftrace-site");
/// The module is for another kernel, or is not marked as a livepatch.
pub const BAD_MODINFO: Code = Code("klp.bad-modinfo");
/// objtool did not do all its work on the module: places that the kernel rewrites, or unwind tables, are missing.
pub const OBJTOOL_INCOMPLETE: Code = Code("klp.objtool-incomplete");
/// Something that was emitted is not in the linked module, or is there in another form.
pub const INCOMPLETE: Code = Code("klp.incomplete");
/// The module does not redirect what it should.
pub const NOTHING_PATCHED: Code = Code("klp.nothing-patched");

/// MODULE_NAME_LEN is 64 - sizeof(unsigned long) on 64-bit machines: include/linux/moduleparam.h, and the scan format
/// in `klp_resolve_symbols` takes 55 characters of it.
pub const MAX_OBJECT_NAME: usize = 55;
/// KSYM_NAME_LEN is 512: include/linux/kallsyms.h, and the scan format takes 511 characters.
pub const MAX_SYMBOL_NAME: usize = 511;

/// The first release without `.klp.arch.` sections: before, alternatives and paravirtual calls of a livepatch waited
/// there for its module (arch/x86/kernel/livepatch.c, `arch_klp_init_object_loaded`, up to 5.7).
const OLDEST: (u32, u32) = (5, 8);

/// Refuses a kernel that is older than what livepatches are made for. `release` is what `uname -r` prints there.
pub fn old_kernel(release: &str) -> Option<Refusal> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((major, minor) < OLDEST).then(|| wants_old_sections(&format!("Linux {release}")))
}

/// The refusal of whatever asks for sections of old kernels.
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
