//! Everything two processors answer differently.
//!
//! This folder is the only place where relocation types, machine numbers and opcode bytes appear. Default deny: what
//! nobody has decided is `None`, and the caller refuses it by name.

mod special;
mod x86_64;
mod x86_64_arguments;

use object::elf::Machine;

pub use special::{SpecialSection, Split};
pub use x86_64::X86_64;

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
}

impl RelocKind {
    /// Bytes written.
    pub fn size(self) -> u8 {
        match self {
            RelocKind::None => 0,
            RelocKind::Absolute { size } | RelocKind::Relative { size } => size,
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
}

/// A relocation field inside code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeField {
    /// Distance in bytes from the field to the point that a relative value counts from (the end of the instruction
    /// on x86).
    pub bias: u8,
    /// What the instruction does with the address.
    pub usage: Use,
}

/// A branch inside a section whose distance the assembler has already filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResolvedBranch {
    /// Offset of the distance field in the section.
    pub offset: u64,
    /// Bytes of the distance field.
    pub size: u8,
    /// Offset in the section that control goes to.
    pub target: u64,
}

/// What walking over the instructions of a section tells.
#[derive(Debug, Default)]
pub struct CodeMap {
    /// For each requested relocation offset (same order), the field it is, or `None` if no instruction has a field there.
    pub fields: Vec<Option<CodeField>>,
    /// Branches that carry no relocation.
    pub branches: Vec<ResolvedBranch>,
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

/// What differs between processors.
pub trait Arch: Sync {
    /// Short name, as the kernel's `ARCH` knows it.
    fn name(&self) -> &'static str;

    /// `e_machine`.
    fn machine(&self) -> Machine;

    /// Whether numbers are big endian.
    fn big_endian(&self) -> bool;

    /// The kind of a relocation type; `None`: undecided, the caller refuses.
    fn reloc(&self, r_type: u32) -> Option<RelocKind>;

    /// The name of a relocation type in the psABI.
    fn reloc_name(&self, r_type: u32) -> String;

    /// The relocation type of a pointer-sized address.
    fn absolute_reloc(&self) -> u32;

    /// The relocation type of a branch whose distance field was already filled in by the assembler.
    fn branch_reloc(&self) -> u32;

    /// Whether the kernel's module loader accepts the type in a livepatch relocation section.
    fn loader_accepts(&self, r_type: u32) -> bool;

    /// Walks over the instructions of a text section. `relocs` are the offsets of relocations in ascending order.
    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap;

    /// Constants that become arguments of the next call behind them. `relocs` are the offsets of relocations in `code`
    /// in ascending order. Nothing is found where nobody taught the architecture how, and then every constant counts.
    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        let _ = (code, relocs);
        Vec::new()
    }

    /// Names of the functions whose call at the entry makes a function traceable.
    fn is_tracing_callee(&self, name: &str) -> bool;

    /// How far from its entry a function's call to the tracing callee may start.
    fn max_tracing_offset(&self) -> u64;

    /// The sections that need more than being copied.
    fn special_sections(&self) -> &'static [SpecialSection];

    /// Tables that objtool must have made for a module if the kernel has them, with the function whose callers they
    /// list; without one, any content will do.
    fn objtool_tables(&self) -> &'static [(&'static str, Option<&'static str>)];

    /// The replacement for a constant written at boot, for an entry of `section` that points at offset `field` of
    /// `code`; `None` if the form of the instruction is not known.
    fn runtime_const<'s>(&self, section: &'s str, code: &[u8], field: u64) -> Option<RuntimeConst<'s>>;
}

/// The architecture of an ELF machine number; `None` if it is not supported.
pub fn for_machine(machine: Machine) -> Option<&'static dyn Arch> {
    [&X86_64 as &'static dyn Arch]
        .into_iter()
        .find(|arch| arch.machine() == machine)
}
