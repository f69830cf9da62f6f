//! What is known about an architecture without looking at any code: one table for each.

use object::elf::{Machine, RelocationType};

use super::{DerivedTable, Landing, Misfit, ObjtoolTable, RelocTypes, SpecialSection, UnwindRange};

/// The table of an architecture. Facts that need the bytes of an object are the methods of [`super::Arch`].
pub struct Facts {
    /// Short name, as the kernel's `ARCH` knows it.
    pub name: &'static str,
    /// `e_machine` of its ELF files.
    pub machine: Machine,
    /// Whether numbers are big endian.
    pub big_endian: bool,
    /// Whether GCC may reach what has no symbol from another place of its section, by a distance that has no relocation
    /// (`-fsection-anchors`, gcc/config of each machine).
    pub section_anchors: bool,
    /// The relocation types that this crate knows. The caller refuses any other.
    pub relocs: &'static RelocTypes,
    /// The section of address slots: code loads an address from there instead of having it in the instruction. A
    /// reference to a slot stands for a reference to what the slot holds. Slots have the size of a pointer.
    pub slot_section: Option<&'static str>,
    /// Whether code needs a pointer that functions set up at their entry (the TOC pointer) to reach other modules.
    /// [`super::Arch::local_entry`] tells which functions set it up.
    pub has_module_pointer: bool,
    /// What the kernel's module loader accepts and does.
    pub loader: LoaderFacts,
    /// How the kernel's function tracer hooks functions.
    pub tracing: TracingFacts,
    /// What an indirect call asks of its target; `None` if nothing is checked. On powerpc and s390x nothing is: there a
    /// function's symbol is the entry that a pointer needs, and relocations name symbols.
    pub landing: Option<&'static Landing>,
    /// The special sections: those that a plain copy would break. The first row that covers a name counts.
    pub special_sections: &'static [SpecialSection],
    /// What objtool adds to objects and modules.
    pub objtool: ObjtoolFacts,
}

/// What the kernel's module loader does with a module of this architecture.
pub struct LoaderFacts {
    /// The types that it accepts in a livepatch relocation section. `None`: every type that is listed in
    /// [`Facts::relocs`]; an architecture states them if its list has types that the link resolves.
    pub accepts: Option<&'static [RelocationType]>,
    /// The types that it can apply to memory that is already write-protected. `None`: all.
    pub writes_protected: Option<&'static [RelocationType]>,
    /// The types whose slot it fills once only, however often livepatch applies them: after the second loading of the object
    /// that the symbol is in, the slot has the address of the first.
    pub fills_once: &'static [RelocationType],
    /// Whether an instruction of a module may be too far away from data to reach them by their distance: from those of others,
    /// and from its own per-CPU variables.
    pub far_data: bool,
    /// What is wrong with the stub of a call that is bound after the livepatch was loaded, in kernels that have such a defect,
    /// and what to do. `None` if no kernel has one.
    pub late_stub: Option<(&'static str, &'static str)>,
    /// Whether it refuses a relocation whose field is not zero.
    pub wants_zero_fields: bool,
    /// Symbols of which each module has its own, from its link or from the loader.
    pub own_names: &'static [&'static str],
    /// The same, by the start of the name.
    pub own_prefixes: &'static [&'static str],
}

/// How the kernel's function tracer hooks functions.
pub struct TracingFacts {
    /// How an object file shows that the tracer can hook a function.
    pub mark: Tracing,
    /// The function whose call at the entry makes a function traceable.
    pub callee: Option<&'static str>,
    /// How far in bytes from its entry a function's tracing site may start.
    pub max_offset: u64,
    /// How many bytes before its entry the place lies that some kernels record for a function; 0 if none does.
    pub before_entry: u64,
    /// How many bytes behind the recorded place, or behind the entry if that comes later, the instruction lies that the
    /// tracer patches and goes by.
    pub patched: u64,
    /// Bytes of the call to the tracing callee before its relocation. The tracer records where the call starts.
    pub opcode: u64,
    /// A call to the tracing callee before the kernel's build replaces it with a NOP: its bytes from the recorded
    /// offset on, and its relocation type.
    pub call: Option<(&'static [u8], RelocationType)>,
    /// Whether the emitted objects must list their own tracing sites, since no later step does.
    pub lists_sites: bool,
}

/// How an object file shows that the tracer can hook a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracing {
    /// By a relocation to the tracing callee near the entry.
    Call,
    /// By an entry of `__patchable_function_entries` that points near the function's entry.
    PatchableEntries,
    /// By these bytes at the entry.
    Bytes(&'static [u8]),
}

/// What objtool adds to objects and modules.
pub struct ObjtoolFacts {
    /// Tables that it derives from code, one entry for each place in it.
    pub derived: &'static [DerivedTable],
    /// Tables that it must have made for the module if the kernel has them.
    pub required: &'static [ObjtoolTable],
    /// The table in which the unwinder looks up every section of code.
    pub unwind: Option<DerivedTable>,
    /// Where a function and the unwinder's rows disagree, if that can be told from the code.
    pub unwind_misfits: Option<fn(&UnwindRange<'_>) -> Vec<Misfit>>,
    /// Start of the names of code sections that none of its tables lists: the kernel copies that code elsewhere before
    /// it runs, or jumps there from a listed place.
    pub unlisted: Option<&'static str>,
}

impl Facts {
    /// The row of a special section; `None` for an ordinary one.
    pub fn special(&self, section: &str) -> Option<&'static SpecialSection> {
        self.special_sections.iter().find(|row| row.covers(section))
    }

    /// Whether the kernel's module loader accepts the type in a livepatch relocation section.
    pub fn loader_accepts(&self, r_type: u32) -> bool {
        match self.loader.accepts {
            Some(accepted) => lists(accepted, r_type),
            None => self.relocs.kind(r_type).is_some(),
        }
    }
}

impl LoaderFacts {
    /// Whether the loader can apply a relocation of this type to memory that is already write-protected.
    pub fn writes_protected(&self, r_type: u32) -> bool {
        self.writes_protected.is_none_or(|types| lists(types, r_type))
    }

    /// Whether the slot of a relocation of this type is filled only once.
    pub fn fills_once(&self, r_type: u32) -> bool {
        lists(self.fills_once, r_type)
    }

    /// Whether each module has its own symbol of this name.
    pub fn is_own_in_each_module(&self, name: &str) -> bool {
        self.own_names.contains(&name) || self.own_prefixes.iter().any(|start| name.starts_with(start))
    }
}

impl TracingFacts {
    /// Whether a call to this name at the entry makes a function traceable.
    pub fn is_callee(&self, name: &str) -> bool {
        self.callee == Some(name)
    }

    /// The offset that the tracer records for a call to the tracing callee, from the offset of the call's relocation.
    /// `None` if no instruction can have a relocation there.
    pub fn site(&self, call: u64) -> Option<u64> {
        call.checked_sub(self.opcode)
    }
}

impl ObjtoolFacts {
    /// Whether a section of code is in none of objtool's tables.
    pub fn is_unlisted(&self, section: &str) -> bool {
        self.unlisted.is_some_and(|start| section.starts_with(start))
    }
}

/// Whether a list has a type.
pub(super) fn lists(types: &[RelocationType], r_type: u32) -> bool {
    types.iter().any(|listed| listed.0 == r_type)
}
