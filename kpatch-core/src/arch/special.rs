//! Special sections as a table: sections whose entries belong to code elsewhere.

/// How a special section is cut into entries, and whether they are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Entries of a fixed size in bytes; an entry belongs to the function that its first relocation points into.
    Entries(u64),
    /// The same, but the last one may lack the padding at its end.
    Padded(u64),
    /// As [`Split::Entries`], but the size differs between kernel versions or configurations. Exactly one of these
    /// shapes must fit the section's relocations.
    OneOf(&'static [Shape]),
    /// Entries with this many relocations each; the size of an entry follows from their number.
    Relocs(u64),
    /// Pieces that start where another section points; a piece belongs to whatever points at it.
    Targets,
    /// Ignored and never copied: the linker, objtool or modpost makes it anew, or nothing reads it in a module.
    Drop,
}

/// An entry of some kernel versions or configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Size of the entry in bytes.
    pub size: u64,
    /// Offsets of the fields that always have a relocation.
    pub always: &'static [u64],
    /// Offsets of the fields that may have one.
    pub perhaps: &'static [u64],
    /// Offset of the byte that holds how many bytes are copied from the address in `perhaps`; 0 means none, and then
    /// the address means nothing.
    pub copied: Option<u64>,
}

impl Shape {
    /// An entry of `size` bytes.
    pub const fn new(size: u64, always: &'static [u64], perhaps: &'static [u64]) -> Self {
        Shape {
            size,
            always,
            perhaps,
            copied: None,
        }
    }

    /// The same with a byte that says how much is copied.
    pub const fn copied(self, offset: u64) -> Self {
        Shape {
            copied: Some(offset),
            ..self
        }
    }
}

/// How the fields of an entry are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Each relative value counts from its own field.
    Own,
    /// Relative values count from the start of the entry. Fields at these offsets name the end of a range, so they
    /// refer to the byte before.
    FromEntry(&'static [u64]),
}

/// Which relocated field of an entry, counted from 0, names a key. The kernel reads such tables when a module is
/// loaded, before livepatch applies relocations against other modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyField {
    /// A static key. Without an entry the site stays as it was compiled.
    Branch(usize),
    /// The key of a static call. Without an entry the site calls the trampoline, which the kernel updates as well
    /// (kernel/static_call_inline.c, `__static_call_update`).
    Call(usize),
}

/// One row of an architecture's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialSection {
    /// Section name, or its start where `prefix` is set.
    pub name: &'static str,
    /// Whether `name` is only the start of the name.
    pub prefix: bool,
    /// What is done with it.
    pub split: Split,
    /// How its fields are read.
    pub fields: Fields,
    /// The field with a key, if there is one.
    pub key: Option<KeyField>,
    /// Whether its entries name replacement code by its start: code that is copied elsewhere before it runs.
    pub names_replacements: bool,
    /// For [`Split::Targets`]: the only table that points at the start of the pieces, if there is only one.
    pub pointed_at_by: Option<&'static str>,
    /// For [`Split::Targets`]: whether its code runs where it lies, so that control can pass from one piece to the next.
    pub in_place: bool,
    /// Whether its entries are places of constants that the kernel writes at boot ([`super::Arch::runtime_const`]). The
    /// code is rewritten instead, and the entries are not copied.
    pub boot_constants: bool,
    /// Whether the kernel reads it while it loads the livepatch, before livepatch applies relocations against other
    /// modules: kernel/module/main.c, `post_relocation` and the module notifiers (6.1 to 7.3).
    pub read_early: bool,
    /// Why, with the source of the layout.
    pub why: &'static str,
}

impl SpecialSection {
    /// A row for an exact name.
    pub const fn exact(name: &'static str, split: Split, why: &'static str) -> Self {
        SpecialSection {
            name,
            prefix: false,
            split,
            fields: Fields::Own,
            key: None,
            names_replacements: false,
            pointed_at_by: None,
            in_place: false,
            boot_constants: false,
            read_early: false,
            why,
        }
    }

    /// A row for all names that start so.
    pub const fn prefix(name: &'static str, split: Split, why: &'static str) -> Self {
        SpecialSection {
            prefix: true,
            ..SpecialSection::exact(name, split, why)
        }
    }

    /// The same row for a table whose fields count from the entry; `ends`: offsets of fields that name an end.
    pub const fn from_entry(self, ends: &'static [u64]) -> Self {
        SpecialSection {
            fields: Fields::FromEntry(ends),
            ..self
        }
    }

    /// The same row for a table whose entries name a key.
    pub const fn keyed(self, key: KeyField) -> Self {
        SpecialSection { key: Some(key), ..self }
    }

    /// The same row for a table whose entries name replacement code.
    pub const fn of_replacements(self) -> Self {
        SpecialSection {
            names_replacements: true,
            ..self
        }
    }

    /// The same row for pieces that one table points at.
    pub const fn only_from(self, table: &'static str) -> Self {
        SpecialSection {
            pointed_at_by: Some(table),
            ..self
        }
    }

    /// The same row for pieces of code that run where they lie.
    pub const fn in_place(self) -> Self {
        SpecialSection { in_place: true, ..self }
    }

    /// The same row for a table that the kernel reads while it loads the livepatch.
    pub const fn early(self) -> Self {
        SpecialSection {
            read_early: true,
            ..self
        }
    }

    /// Whether this row is for a section name.
    pub fn covers(&self, section: &str) -> bool {
        if self.prefix {
            section.starts_with(self.name)
        } else {
            section == self.name
        }
    }
}

/// A table of places in code that is derived from the code, and so never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DerivedTable {
    /// Name of the section that has the table.
    pub name: &'static str,
    /// Bytes of an entry.
    pub entry: u64,
    /// A section with one entry for each entry of this one, in the same order and without relocations.
    pub beside: Option<&'static str>,
}

/// A table that objtool makes on a linked module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjtoolTable {
    /// Name of the section that has the table.
    pub name: &'static str,
    /// Whose callers it lists; if `None`, only its existence is checked.
    pub callers: Option<Callers>,
    /// The symbol at its start in a kernel image, where the table is part of another section.
    pub symbol: Option<&'static str>,
}

/// The branches of which a table has one entry each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callers {
    /// Prefix of the names of the functions that they lead to.
    pub of: &'static str,
    /// Relocations of an entry.
    pub relocs: usize,
}

impl ObjtoolTable {
    /// A table of the callers of functions.
    pub const fn of_callers(name: &'static str, of: &'static str, relocs: usize) -> Self {
        ObjtoolTable {
            name,
            callers: Some(Callers { of, relocs }),
            symbol: None,
        }
    }

    /// The same, within another section of the image.
    pub const fn at(self, symbol: &'static str) -> Self {
        ObjtoolTable {
            symbol: Some(symbol),
            ..self
        }
    }

    /// A table of which only the existence is checked.
    pub const fn any(name: &'static str) -> Self {
        ObjtoolTable {
            name,
            callers: None,
            symbol: None,
        }
    }
}

/// An architecture's own rows, then those that hold for all.
pub const fn joined<const N: usize>(own: &[SpecialSection]) -> [SpecialSection; N] {
    let mut all = [COMMON[0]; N];
    let mut index = 0;
    while index < N {
        all[index] = if index < own.len() {
            own[index]
        } else {
            COMMON[index - own.len()]
        };
        index += 1;
    }
    all
}

/// The unwinder's table: `.orc_unwind_ip` has the places, `.orc_unwind` the unwind information for each
/// (tools/objtool/orc_gen.c; `unwind_module_init` in arch/x86/kernel/unwind_orc.c, 6.1 to 7.3, and in
/// arch/loongarch/kernel/unwind_orc.c, 6.12).
pub const ORC_UNWIND: DerivedTable = DerivedTable {
    name: ".orc_unwind_ip",
    entry: 4,
    beside: Some(".orc_unwind"),
};

// Rows that several architectures share; each architecture lists those that its kernel has.

/// Sites of `WARN_ON` and `BUG_ON`.
pub const BUG_TABLE: SpecialSection = SpecialSection::exact(
    "__bug_table",
    Split::OneOf(&[
        // Relative pointers, with the file's name; in 7.3 on x86-64 with the format, too.
        Shape::new(12, &[0, 4], &[]),
        Shape::new(16, &[0, 4, 8], &[]),
        // Without CONFIG_DEBUG_BUGVERBOSE.
        Shape::new(8, &[0], &[]),
        // Absolute pointers, with the file's name and without.
        Shape::new(24, &[0, 8], &[]),
        Shape::new(16, &[0], &[]),
    ]),
    "struct bug_entry, include/asm-generic/bug.h",
);

/// Instructions that may fault, and where to continue.
pub const EX_TABLE: SpecialSection = SpecialSection::exact(
    "__ex_table",
    Split::Entries(12),
    "struct exception_table_entry, asm/extable.h",
);

/// Static keys: 24 bytes up to 4.18, then 16.
pub const JUMP_TABLE: SpecialSection = SpecialSection::exact(
    "__jump_table",
    Split::Relocs(3),
    "struct jump_entry, include/linux/jump_label.h",
)
.keyed(KeyField::Branch(2))
.early();

/// Alternatives: code chosen at boot by processor features. 12 bytes; 13 on s390 in newer kernels.
pub const ALTERNATIVES: SpecialSection = SpecialSection::exact(
    ".altinstructions",
    Split::OneOf(&[Shape::new(12, &[0], &[4]), Shape::new(13, &[0], &[4])]),
    "struct alt_instr, asm/alternative.h",
)
.of_replacements()
.early();

/// Code that alternatives copy over a site.
pub const REPLACEMENTS: SpecialSection = SpecialSection::exact(
    ".altinstr_replacement",
    Split::Targets,
    "code copied over the site; pointed at by .altinstructions",
)
.early();

/// Constants written at boot (6.11 and later).
pub const RUNTIME_CONSTANTS: SpecialSection = SpecialSection {
    boot_constants: true,
    ..SpecialSection::prefix(
        "runtime_",
        Split::Entries(4),
        "places of constants written at boot, asm/runtime-const.h",
    )
};

/// Out-of-line code that handles a fault.
pub const FIXUP: SpecialSection = SpecialSection::exact(
    ".fixup",
    Split::Targets,
    "out-of-line code for faults; pointed at by __ex_table",
)
.only_from(EX_TABLE.name)
.in_place();

/// Tracing sites, where the module link makes the list from `__patchable_function_entries`.
pub const PATCHABLE_SITES: SpecialSection = SpecialSection::exact(
    "__mcount_loc",
    Split::Drop,
    "made from __patchable_function_entries when a module is linked",
);

/// Tracing sites, where the differ makes the list because no later step does.
pub const EMITTED_SITES: SpecialSection = SpecialSection::exact(
    "__mcount_loc",
    Split::Drop,
    "made anew for the functions that are emitted",
);

/// Rows that hold for every architecture.
pub const COMMON: &[SpecialSection] = &[
    SpecialSection::exact(".llvm_addrsig", Split::Drop, "linker hint"),
    SpecialSection::prefix(".llvm.", Split::Drop, "linker hint"),
    SpecialSection::exact(".comment", Split::Drop, "compiler version"),
    SpecialSection::prefix(".note", Split::Drop, "the module link makes its own notes"),
    SpecialSection::prefix(
        ".debug_",
        Split::Drop,
        "debugging information is not carried into the livepatch",
    ),
    SpecialSection::prefix(".eh_frame", Split::Drop, "the kernel does not unwind with it"),
    SpecialSection::exact(
        ".modinfo",
        Split::Drop,
        "module information belongs to the module that is patched",
    ),
    SpecialSection::exact(
        "__patchable_function_entries",
        Split::Drop,
        "on x86 only padding is recorded here; ftrace sites come from __mcount_loc",
    ),
    SpecialSection::exact(
        ".printk_index",
        Split::Drop,
        "index of printk formats, read by a debugfs file only",
    ),
    SpecialSection::prefix(
        ".export_symbol",
        Split::Drop,
        "modpost turns it into export tables; a livepatch exports nothing",
    ),
    SpecialSection::prefix("__ksymtab", Split::Drop, "export tables; a livepatch exports nothing"),
    SpecialSection::prefix(".initcall", Split::Drop, "runs at boot only"),
    SpecialSection::prefix(".con_initcall", Split::Drop, "runs at boot only"),
    SpecialSection::exact(
        "__tracepoints_ptrs",
        Split::Drop,
        "list of the kernel's own tracepoints",
    ),
    SpecialSection::exact("_kprobe_blacklist", Split::Drop, "list of the kernel's own functions"),
    SpecialSection::exact(
        "_error_injection_whitelist",
        Split::Drop,
        "list of the kernel's own functions",
    ),
    SpecialSection::exact(
        ".static_call_tramp_key",
        Split::Drop,
        "made for exported static calls of the kernel",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_rows_cover_longer_names() {
        let row = SpecialSection::prefix(".debug_", Split::Drop, "test");
        assert!(row.covers(".debug_info"));
        assert!(!row.covers(".data"));
        assert!(!SpecialSection::exact(".modinfo", Split::Drop, "test").covers(".modinfo.x"));
    }
}
