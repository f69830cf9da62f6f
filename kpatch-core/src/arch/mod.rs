//! Everything that differs between processors.
//!
//! What is known without looking at code stands in one table for each architecture ([`Facts`]); what takes the bytes of
//! an object is a method of [`Arch`]. Only this folder knows relocation types, machine numbers, opcode bytes and the
//! tables of one architecture (`tests/house_rules.rs`). Anything that no table lists is `None`, and the caller refuses
//! it by name.

mod aarch64;
mod arguments;
mod detour;
mod escapes;
mod facts;
mod fixed;
mod landing;
mod loongarch64;
mod ppc64;
mod ppc64_arguments;
mod s390x;
mod special;
mod types;
mod x86_64;
mod x86_64_arguments;
mod x86_64_escapes;
mod x86_64_stack;
mod x86_64_stays;
mod x86_64_thunks;
mod x86_64_unwind;

use std::collections::BTreeSet;
use std::ops::Range;

use object::elf::Machine;

pub use detour::{CodePiece, DetourCode, DetourField, Leads};
pub use escapes::{Escape, Source, Thunk};
pub use facts::{Facts, LoaderFacts, ObjtoolFacts, Tracing, TracingFacts};
pub use landing::Landing;
pub use special::{Callers, DerivedTable, Fields, KeyField, ObjtoolTable, Shape, SpecialSection, Split};
pub use types::RelocTypes;

use aarch64::Aarch64;
use arguments::{Arguments, Held};
use loongarch64::LoongArch64;
use ppc64::Ppc64;
use s390x::S390x;
pub(crate) use x86_64::X86_64;

/// A function, and the unwinder's rows of its section.
pub struct UnwindRange<'a> {
    /// The function's code.
    pub code: &'a [u8],
    /// Where the code starts in its section, in bytes.
    pub start: u64,
    /// The rows of the section in order: where each starts, and its number in `table`.
    pub rows: &'a [(u64, usize)],
    /// The table of the rows' contents.
    pub table: &'a [u8],
    /// The target of the first relocation in a range of the section.
    pub relocated: &'a dyn Fn(Range<u64>) -> Option<&'a str>,
}

/// A place where a function and the unwinder's rows disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Where, in bytes from the start of the section.
    pub place: u64,
    /// What is wrong.
    pub why: String,
}

/// What a relocation type writes: all that comparing and moving a relocation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelocKind {
    /// Nothing is written: a marker for linkers.
    None,
    /// The address of the target (S + A in psABIs).
    Absolute {
        /// Bytes of the field.
        size: u8,
    },
    /// The distance from the field to the target (S + A - P).
    Relative {
        /// Bytes of the field.
        size: u8,
    },
    /// The distance from the module's TOC pointer to the target (S + A - .TOC. on ppc64le).
    TocRelative {
        /// Bytes of the field.
        size: u8,
    },
}

impl RelocKind {
    /// Bytes of the field that the relocation writes; 0 for a marker.
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
    /// The instruction accesses memory at that very byte. Only the x86-64 decoder tells this apart from taking the
    /// address.
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
    /// Whether a relocation of the type [`RelocTypes::filled`] can replace the distance.
    pub movable: bool,
    /// Offset in the section that the reference leads to.
    pub target: u64,
    /// What the instruction does with the address.
    pub usage: Use,
}

/// Why control must not leave the livepatch through an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadExit {
    /// No instruction behind the call can restore the module pointer that the callee replaced.
    NoRestore,
    /// It is a jump: nothing behind it runs that could restore the module pointer.
    NotACall,
}

/// What decoding the instructions of a section gives.
#[derive(Debug, Default)]
pub struct CodeMap {
    /// The field at each requested relocation offset, in the same order; `None` if no instruction has a field there.
    pub fields: Vec<Option<CodeField>>,
    /// References that carry no relocation.
    pub filled: Vec<FilledReference>,
}

/// How control leaves a piece of code other than by a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exits {
    /// Whether it returns, jumps to a computed address, or jumps out without a relocation.
    pub returns: bool,
    /// Which of the relocations are jumps.
    pub jumps: Vec<usize>,
}

/// The replacement in a module for an instruction whose constant the kernel writes at boot.
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
    /// Type of that relocation.
    pub r_type: u32,
    /// Addend of that relocation.
    pub addend: i64,
}

/// An instruction that gets the same address in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Where its first two bytes lie in the code.
    pub start: u64,
    /// These bytes: its opcode and register.
    pub bytes: [u8; 2],
    /// The type of its relocation, whose place and addend stay.
    pub r_type: u32,
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

/// What differs between processors: a table of facts, and the questions whose answer is in the bytes of an object.
pub trait Arch: Sync {
    /// What is known without looking at any code.
    fn facts(&self) -> &'static Facts;

    /// Whether an object with these `e_flags` follows the supported ABI.
    fn accepts_flags(&self, _e_flags: u32) -> bool {
        true
    }

    /// Walks over the instructions of a text section. `relocs` are the offsets of relocations in ascending order.
    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap;

    /// Clears the distance in a field that the assembler has filled in ([`FilledReference`]), and keeps the opcode bits
    /// that share its bytes.
    fn clear_filled(&self, field: &mut [u8]) {
        field.fill(0);
    }

    /// Bytes before a function's entry that belong to it, as the code at the entry shows.
    fn entry_prefix(&self, _code: &[u8]) -> u64 {
        0
    }

    /// Distance in bytes from a function's entry to the entry for callers that share its module pointer, by `st_other`.
    /// A branch to the function's symbol goes there. 0 means that there is only one entry.
    fn local_entry(&self, _st_other: u8) -> u64 {
        0
    }

    /// Checks the instruction at `offset` of `code` that leaves the livepatch.
    ///
    /// # Errors
    /// The module loader would refuse the instruction, or it would return with the wrong module pointer.
    fn check_exit(&self, _code: &[u8], _offset: u64) -> Result<(), BadExit> {
        Ok(())
    }

    /// The NOP that objtool makes of the jump of a static branch that starts out as off, by the jump's first bytes.
    fn branch_as_nop(&self, _code: &[u8]) -> Option<&'static [u8]> {
        None
    }

    /// Constants that become arguments of the next call. `relocs` are the offsets of relocations in `code` in ascending
    /// order. The default finds none: then any differing constant is a change.
    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        let _ = (code, relocs);
        Vec::new()
    }

    /// Whether control may run past the last instruction of some code. The default knows nothing that speaks for it.
    fn runs_on(&self, _code: &[u8]) -> bool {
        false
    }

    /// Whether the branch with a relocation at `offset` of `code` is a call, so that its function is on the stack meanwhile.
    fn is_call(&self, code: &[u8], offset: u64) -> bool;

    /// Whether the instruction with a relocation at `offset` of `code` is a branch by its opcode alone. Code that is decoded
    /// from a wrong byte on may look like one.
    fn is_branch(&self, code: &[u8], offset: u64) -> bool;

    /// Code that a function goes on to instead of jumping to another one: it calls that one and returns. `has_thunk` tells
    /// whether the code of the kernel returns through a function of that name. `None` if there is no such code.
    fn detour(&self, _has_thunk: &dyn Fn(&str) -> bool) -> Option<DetourCode> {
        None
    }

    /// Whether it is certain that a function finds nothing above its return address on the stack, where arguments are.
    /// `pieces` are its code from its entry on, and its parts.
    fn has_all_arguments_in_registers(&self, _pieces: &[CodePiece<'_>]) -> bool {
        false
    }

    /// How control leaves a function's code, where that is known. `relocs` are the offsets of relocations in ascending
    /// order.
    fn exits(&self, _code: &[u8], _relocs: &[u64]) -> Option<Exits> {
        None
    }

    /// Where the addresses go that the relocations in `wanted` stand for, and the arguments of the function that begins at
    /// `entry` of `code`. `relocs` are the offsets of relocations in ascending order; calls of those in `plain` leave all registers
    /// as they are. `None`: nothing is known.
    fn escapes(
        &self,
        _code: &[u8],
        _entry: u64,
        _relocs: &[u64],
        _wanted: &BTreeSet<usize>,
        _plain: &BTreeSet<usize>,
    ) -> Option<BTreeSet<(Source, Escape)>> {
        None
    }

    /// What a jump to the function of that name stands for, if it stands for another instruction.
    fn thunk(&self, _name: &str) -> Option<Thunk> {
        None
    }

    /// Whether some code goes nowhere but to what its relocations name, and changes nothing of the processor's own state.
    /// The default knows nothing that speaks for it.
    fn stays_by_name(&self, _code: &[u8]) -> bool {
        false
    }

    /// The instruction that takes an address by its distance instead of from the loader's slot, for the relocation at `offset`
    /// of `code`. `None` if the address is not taken from a slot, or not by an instruction that has such a counterpart.
    fn without_slot(&self, _code: &[u8], _offset: u64, _r_type: u32) -> Option<Exchange> {
        None
    }

    /// The instruction that loads an address from a slot instead of taking it by its distance, for the relocation at `offset`
    /// of `code`, which then leads to the slot. `None` as above.
    fn with_slot(&self, _code: &[u8], _offset: u64, _r_type: u32) -> Option<Exchange> {
        None
    }

    /// The replacement for a constant written at boot, for an entry of `section` that points at offset `field` of
    /// `code`; `None` if the form of the instruction is not known, or if no single load can replace it.
    fn runtime_const<'s>(&self, _section: &'s str, _code: &[u8], _field: u64) -> Option<RuntimeConst<'s>> {
        None
    }
}

/// The architecture of an ELF machine number; `None` if it is not supported.
pub fn for_machine(machine: Machine) -> Option<&'static dyn Arch> {
    [&X86_64 as &'static dyn Arch, &Ppc64, &S390x, &Aarch64, &LoongArch64]
        .into_iter()
        .find(|arch| arch.facts().machine == machine)
}
