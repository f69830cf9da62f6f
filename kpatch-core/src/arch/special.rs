//! The table form of special sections: sections whose entries belong to code elsewhere.

/// How a special section is cut into entries, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Entries of a fixed size in bytes; an entry belongs to the function that its first relocation points into.
    Entries(u64),
    /// The same, but the size differs between kernel versions or configurations: it is the shortest period of the
    /// section's relocation offsets.
    Periodic,
    /// Entries with this many relocations each, and so of a size that follows from their number.
    Relocs(u64),
    /// Pieces that start wherever another section points to; a piece belongs to whoever points at it.
    Targets,
    /// Never looked at and never copied: the linker, objtool or modpost make it anew, or nothing reads it in a module.
    Drop,
}

/// How the fields of an entry are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// Each relative value counts from its own field.
    Own,
    /// Relative values count from the start of the entry, and the fields at these offsets name the end of something:
    /// the byte before it is what they are about.
    FromEntry(&'static [u64]),
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
            why,
        }
    }

    /// A row for all names that start so.
    pub const fn prefix(name: &'static str, split: Split, why: &'static str) -> Self {
        SpecialSection {
            name,
            prefix: true,
            split,
            fields: Fields::Own,
            why,
        }
    }

    /// The same row for a table whose fields count from the entry; `ends`: offsets of fields that name an end.
    pub const fn from_entry(self, ends: &'static [u64]) -> Self {
        SpecialSection {
            fields: Fields::FromEntry(ends),
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

/// A table of places in code that is made from the code itself, so that it is never compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DerivedTable {
    /// Section name.
    pub name: &'static str,
    /// Bytes of an entry.
    pub entry: u64,
    /// A section with one entry for each of this one, in the same order and without relocations of its own.
    pub beside: Option<&'static str>,
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

/// Rows that hold for every architecture.
pub const COMMON: &[SpecialSection] = &[
    SpecialSection::exact(
        ".discard.addressable",
        Split::Drop,
        "keeps symbols alive in the TU; made anew for the static call keys in use",
    ),
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
