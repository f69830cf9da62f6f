//! Everything two processors answer differently.
//!
//! This folder is the only place where relocation types, machine numbers and opcode bytes appear. Default deny: what
//! nobody has decided is `None`, and the caller refuses it by name.

mod aarch64;
mod arguments;
mod fixed;
mod loongarch64;
mod ppc64;
mod ppc64_arguments;
mod s390x;
mod special;
mod types;
mod x86_64;
mod x86_64_arguments;

use object::elf::Machine;

pub use special::{Callers, DerivedTable, Fields, KeyField, ObjtoolTable, Shape, SpecialSection, Split};
pub use types::RelocTypes;

use aarch64::Aarch64;
use arguments::{Arguments, Held};
use loongarch64::LoongArch64;
use ppc64::Ppc64;
use s390x::S390x;
pub(crate) use x86_64::X86_64;

/// What a relocation type does, as far as comparing and moving it needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelocKind {
    /// Nothing is written.
    None,
    /// The address of the target.
    Absolute {
        /// Bytes written.
        size: u8,
    },
    /// The distance from the field to the target.
    Relative {
        /// Bytes written.
        size: u8,
    },
    /// The distance from the TOC pointer of the module to the target.
    TocRelative {
        /// Bytes written.
        size: u8,
    },
}

impl RelocKind {
    /// Bytes written.
    pub fn size(self) -> u8 {
        match self {
            RelocKind::None => 0,
            RelocKind::Absolute { size } | RelocKind::Relative { size } | RelocKind::TocRelative { size } => size,
        }
    }
}

/// How an instruction uses the address that a relocation in it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Control goes there: call, jump.
    Branch,
    /// The address is taken or memory there is accessed.
    Address,
    /// Memory is accessed at that very byte, where an instruction alone can tell.
    Access,
}

/// A relocation field inside code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeField {
    /// Distance in bytes from the field to the point that a relative value counts from (the end of the instruction
    /// on x86). Negative if that point lies before the field.
    pub bias: i16,
    /// What the instruction does with the address.
    pub usage: Use,
}

/// A reference inside a section whose distance the assembler has already filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilledReference {
    /// Offset of the distance field in the section.
    pub offset: u64,
    /// Bytes of the distance field.
    pub size: u8,
    /// Distance in bytes from the field to the point that the distance counts from.
    pub bias: i16,
    /// Whether [`Arch::filled_reloc`] can take the place of the distance.
    pub movable: bool,
    /// Offset in the section that is meant.
    pub target: u64,
    /// What the instruction does with the address.
    pub usage: Use,
}

/// What is wrong with an instruction through which control leaves the livepatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadExit {
    /// Behind the call there is no room for restoring what the callee's module pointer replaced.
    NoRestore,
    /// It is a jump, so nothing behind it could restore anything.
    NotACall,
}

/// What walking over the instructions of a section tells.
#[derive(Debug, Default)]
pub struct CodeMap {
    /// For each requested relocation offset (same order), the field it is, or `None` if no instruction has a field there.
    pub fields: Vec<Option<CodeField>>,
    /// References that carry no relocation.
    pub filled: Vec<FilledReference>,
}

/// How an instruction with a constant that the kernel writes at boot is replaced in a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConst<'s> {
    /// The variable that holds the value.
    pub variable: &'s str,
    /// Offset in the section of the first byte to replace.
    pub offset: u64,
    /// The new bytes, as many as are replaced.
    pub bytes: Vec<u8>,
    /// Offset in the section of the relocation against the variable.
    pub reloc_offset: u64,
    /// Its type.
    pub r_type: u32,
    /// Its addend.
    pub addend: i64,
}

/// A constant that an instruction puts into the register of an argument, and the call that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineArgument {
    /// The bytes of the constant, as offsets in the code.
    pub constant: std::ops::Range<usize>,
    /// Which argument, counted from 1.
    pub number: u8,
    /// Offset of the relocation of the call.
    pub call: usize,
    /// Other arguments of the call that are addresses: which, and the offset of their relocation.
    pub others: Vec<(u8, usize)>,
}

/// How an object shows that the tracer can hook a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracing {
    /// By a relocation to the tracing callee near the entry.
    Call,
    /// By an entry of `__patchable_function_entries` that points near the function's entry.
    PatchableEntries,
    /// By these bytes at the entry.
    Bytes(&'static [u8]),
}

/// What differs between processors.
pub trait Arch: Sync {
    /// Short name, as the kernel's `ARCH` knows it.
    fn name(&self) -> &'static str;

    /// `e_machine`.
    fn machine(&self) -> Machine;

    /// Whether numbers are big endian.
    fn big_endian(&self) -> bool {
        false
    }

    /// The relocation types that somebody has decided.
    fn reloc_types(&self) -> &'static RelocTypes;

    /// The kind of a relocation type; `None`: undecided, the caller refuses.
    fn reloc(&self, r_type: u32) -> Option<RelocKind> {
        self.reloc_types().kind(r_type)
    }

    /// The name of a relocation type in the psABI.
    fn reloc_name(&self, r_type: u32) -> String {
        self.reloc_types().name(r_type)
    }

    /// The relocation type of a pointer-sized address.
    fn absolute_reloc(&self) -> u32;

    /// The relocation type for a field whose distance was already filled in by the assembler.
    fn filled_reloc(&self, usage: Use) -> u32;

    /// Clears the distance in such a field, and nothing else that shares its bytes.
    fn clear_filled(&self, field: &mut [u8]) {
        field.fill(0);
    }

    /// Whether a relocation type is for branches only, also where no instruction is decoded.
    fn is_branch(&self, _r_type: u32) -> bool {
        false
    }

    /// Whether an object with these `e_flags` follows the ABI that is meant here.
    fn accepts_flags(&self, _e_flags: u32) -> bool {
        true
    }

    /// Bytes before a function's entry that belong to it, judged by its code from the entry on.
    fn entry_prefix(&self, _code: &[u8]) -> u64 {
        0
    }

    /// Distance in bytes from a function's entry to the entry for callers that share its module pointer, by `st_other`.
    /// A branch to a function's symbol goes there; 0: there is only one entry.
    fn local_entry(&self, _st_other: u8) -> u64 {
        0
    }

    /// Whether code reaches what lies outside its module by way of a pointer that each function sets up at its
    /// entry (the TOC pointer). Then [`Arch::local_entry`] tells which functions do.
    fn has_module_pointer(&self) -> bool {
        false
    }

    /// Checks the instruction at `offset` of `code` through which control leaves the livepatch.
    ///
    /// # Errors
    /// What the module loader would refuse, or what would come back with the wrong module pointer.
    fn check_exit(&self, _code: &[u8], _offset: u64) -> Result<(), BadExit> {
        Ok(())
    }

    /// The section of address slots: code loads an address from there instead of having it in the instruction. A
    /// reference to a slot stands for a reference to what the slot holds. Slots have the size of a pointer.
    fn slot_section(&self) -> Option<&'static str> {
        None
    }

    /// Whether every module has a symbol of this name of its own, from its link or from the module loader.
    fn is_own_in_each_module(&self, _name: &str) -> bool {
        false
    }

    /// Whether the module loader wants the bytes that a relocation writes to be zero before.
    fn wants_zero_fields(&self) -> bool {
        true
    }

    /// Whether the loader may apply a relocation of this type to memory that is write-protected already.
    fn writes_protected(&self, _r_type: u32) -> bool {
        true
    }

    /// How an object shows that the tracer can hook a function.
    fn tracing(&self) -> Tracing {
        Tracing::Call
    }

    /// The place that the tracer records, by the relocation of the call to the tracing callee. `None`: no instruction
    /// can have a relocation there.
    fn tracing_site(&self, call: u64) -> Option<u64> {
        Some(call)
    }

    /// What a call to the tracing callee looks like before the kernel's build replaces it with a NOP: the bytes from
    /// the recorded place on, and the relocation type of their call.
    fn tracing_call(&self) -> Option<(&'static [u8], u32)> {
        None
    }

    /// Tables that are made from code, one entry for each place in it: objtool has added them to some objects.
    fn derived_tables(&self) -> &'static [DerivedTable] {
        &[]
    }

    /// Whether the emitted objects must list their places for the tracer: no later step makes the list.
    fn lists_tracing_sites(&self) -> bool {
        false
    }

    /// Whether the kernel's module loader accepts the type in a livepatch relocation section: what is listed, unless
    /// the list has types that linkers resolve before.
    fn loader_accepts(&self, r_type: u32) -> bool {
        self.reloc(r_type).is_some()
    }

    /// Walks over the instructions of a text section. `relocs` are the offsets of relocations in ascending order.
    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap;

    /// Constants that become arguments of the next call behind them. `relocs` are the offsets of relocations in `code`
    /// in ascending order. Nothing is found where nobody taught the architecture how, and then every constant counts.
    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        let _ = (code, relocs);
        Vec::new()
    }

    /// Names of the functions whose call at the entry makes a function traceable.
    fn is_tracing_callee(&self, _name: &str) -> bool {
        false
    }

    /// How far in bytes from its entry a function's tracing site may start.
    fn max_tracing_offset(&self) -> u64 {
        0
    }

    /// The sections that need more than being copied.
    fn special_sections(&self) -> &'static [SpecialSection];

    /// Tables that objtool must have made for a module if the kernel has them.
    fn objtool_tables(&self) -> &'static [ObjtoolTable] {
        &[]
    }

    /// The replacement for a constant written at boot, for an entry of `section` that points at offset `field` of
    /// `code`; `None` if the form of the instruction is not known.
    fn runtime_const<'s>(&self, section: &'s str, code: &[u8], field: u64) -> Option<RuntimeConst<'s>>;
}

/// The architecture of an ELF machine number; `None` if it is not supported.
pub fn for_machine(machine: Machine) -> Option<&'static dyn Arch> {
    [&X86_64 as &'static dyn Arch, &Ppc64, &S390x, &Aarch64, &LoongArch64]
        .into_iter()
        .find(|arch| arch.machine() == machine)
}
