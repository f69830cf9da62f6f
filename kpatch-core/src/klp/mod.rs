//! The livepatch format of a finished module: making it, and checking it by the kernel's own rules.
//!
//! Documentation/livepatch/module-elf-format.rst describes the format; what is enforced is in
//! kernel/livepatch/core.c (`klp_resolve_symbols`, `klp_write_section_relocs`) and kernel/module/main.c.

mod check;
mod complete;
mod convert;
mod from_records;

use crate::error::Code;

pub use check::{Expected, check};
pub use complete::{Origin, complete};
pub use convert::{Converted, convert};
pub use from_records::from_records;

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
