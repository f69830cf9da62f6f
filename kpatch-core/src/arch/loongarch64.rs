//! 64-bit LoongArch.
//!
//! Unusual: a difference of two addresses in data is a pair of relocations at one field, one that adds and one that
//! subtracts. Assemblers keep references to local labels as relocations, so that linkers may relax the code between.
//!
//! ABI: "ELF for the LoongArch Architecture", 20231219, relocation types. What the kernel's module loader accepts:
//! arch/loongarch/kernel/module.c, `reloc_rela_handlers` (6.12).

use object::elf;

use super::fixed::{self, Branch, Effect};
use super::special::{self, COMMON, SpecialSection, Split, joined};
use super::types::{absolute, relative};
use super::{
    Arch, CodeMap, Facts, LineArgument, LoaderFacts, ObjtoolFacts, RelocKind, RelocTypes, Tracing, TracingFacts,
};

/// The one value of this architecture.
pub struct LoongArch64;

/// Primary opcodes, bits 31 to 26.
const JIRL: u32 = 0x13;
const B: u32 = 0x14;
const BL: u32 = 0x15;

impl Arch for LoongArch64 {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn clear_filled(&self, field: &mut [u8]) {
        if let Ok(bytes) = <[u8; 4]>::try_from(&*field) {
            let insn = u32::from_le_bytes(bytes);
            let distance = match insn >> 26 {
                B | BL => 0x03ff_ffff,
                0x10..=0x12 => 0x03ff_fc1f,
                _ => 0x03ff_fc00,
            };
            field.copy_from_slice(&(insn & !distance).to_le_bytes());
        }
    }

    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap {
        fixed::code_map(code, relocs, |insn| branch(insn).is_some(), branch)
    }

    fn is_call(&self, code: &[u8], offset: u64) -> bool {
        fixed::word(code, offset).is_some_and(|insn| insn >> 26 == BL)
    }

    fn is_branch(&self, code: &[u8], offset: u64) -> bool {
        fixed::word(code, offset).is_some_and(|insn| branch(insn).is_some())
    }

    /// "LoongArch ELF psABI", calling convention: r4 to r11.
    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        fixed::constants(code, relocs, effect)
    }
}

static FACTS: Facts = Facts {
    name: "loongarch",
    machine: elf::EM_LOONGARCH,
    big_endian: false,
    section_anchors: true,
    relocs: TYPES,
    slot_section: None,
    has_module_pointer: false,
    loader: LoaderFacts {
        accepts: None,
        writes_protected: None,
        fills_once: &[],
        far_data: false,
        late_stub: None,
        // It overwrites whole fields of instructions.
        wants_zero_fields: false,
        own_names: &[],
        own_prefixes: &[],
    },
    tracing: TracingFacts {
        // arch/loongarch/Makefile (6.12): -fpatchable-function-entry=2.
        mark: Tracing::PatchableEntries,
        callee: None,
        max_offset: 0,
        before_entry: 0,
        patched: 0,
        opcode: 0,
        call: None,
        lists_sites: false,
    },
    landing: None,
    special_sections: SPECIAL,
    objtool: ObjtoolFacts {
        derived: &[special::ORC_UNWIND],
        required: &[],
        unwind: Some(special::ORC_UNWIND),
        unwind_misfits: None,
        unlisted: Some(".altinstr"),
    },
};

/// "LoongArch Reference Manual", volume 1, section 2.2.5: distances count words; those of 21 and 26 bits have their upper
/// bits at the bottom of the instruction.
fn branch(insn: u32) -> Option<Branch> {
    let low = insn >> 10 & 0xffff;
    match insn >> 26 {
        B | BL => Some((4 * fixed::signed(low | (insn & 0x3ff) << 16, 26), true)),
        0x10 | 0x11 => Some((4 * fixed::signed(low | (insn & 0x1f) << 16, 21), false)),
        0x16..=0x1b => Some((4 * fixed::signed(low, 16), false)),
        _ => None,
    }
}

fn effect(insn: u32) -> Effect {
    let number = |register: u32| (4..12).contains(&register).then(|| (register - 3) as u8);
    let (to, from) = (number(insn & 31), insn >> 5 & 31);
    if insn >> 26 == JIRL || branch(insn).is_some() {
        return Effect::Call;
    }
    match (to, insn >> 22) {
        // addi.w rd, $zero, imm and ori rd, $zero, imm.
        (Some(number), 0x0a | 0x0e) if from == 0 => Effect::Constant(number),
        // addi.d.
        (Some(number), 0x0b) => Effect::Address(number),
        _ => Effect::Writes([to, None, None]),
    }
}

/// The types that the module loader handles and compilers use, without the stack machine of the first toolchains.
const TYPES: &RelocTypes = &RelocTypes {
    prefix: "R_LARCH",
    rows: &[
        (elf::R_LARCH_NONE, "NONE", RelocKind::None),
        (elf::R_LARCH_32, "32", absolute(4)),
        (elf::R_LARCH_64, "64", absolute(8)),
        (elf::R_LARCH_MARK_LA, "MARK_LA", RelocKind::None),
        (elf::R_LARCH_MARK_PCREL, "MARK_PCREL", RelocKind::None),
        (elf::R_LARCH_ADD32, "ADD32", absolute(4)),
        (elf::R_LARCH_ADD64, "ADD64", absolute(8)),
        (elf::R_LARCH_SUB32, "SUB32", absolute(4)),
        (elf::R_LARCH_SUB64, "SUB64", absolute(8)),
        (elf::R_LARCH_B16, "B16", relative(4)),
        (elf::R_LARCH_B21, "B21", relative(4)),
        (elf::R_LARCH_B26, "B26", relative(4)),
        (elf::R_LARCH_ABS_HI20, "ABS_HI20", absolute(4)),
        (elf::R_LARCH_ABS_LO12, "ABS_LO12", absolute(4)),
        (elf::R_LARCH_ABS64_LO20, "ABS64_LO20", absolute(4)),
        (elf::R_LARCH_ABS64_HI12, "ABS64_HI12", absolute(4)),
        (elf::R_LARCH_PCALA_HI20, "PCALA_HI20", relative(4)),
        (elf::R_LARCH_PCALA_LO12, "PCALA_LO12", absolute(4)),
        (elf::R_LARCH_PCALA64_LO20, "PCALA64_LO20", relative(4)),
        (elf::R_LARCH_PCALA64_HI12, "PCALA64_HI12", relative(4)),
        (elf::R_LARCH_GOT_PC_HI20, "GOT_PC_HI20", relative(4)),
        (elf::R_LARCH_GOT_PC_LO12, "GOT_PC_LO12", absolute(4)),
        (elf::R_LARCH_32_PCREL, "32_PCREL", relative(4)),
        (elf::R_LARCH_64_PCREL, "64_PCREL", relative(8)),
        (elf::R_LARCH_RELAX, "RELAX", RelocKind::None),
        (elf::R_LARCH_PCREL20_S2, "PCREL20_S2", relative(4)),
        (elf::R_LARCH_CALL36, "CALL36", relative(8)),
    ],
    pointer: elf::R_LARCH_64,
    filled_branch: elf::R_LARCH_B26,
    filled_address: elf::R_LARCH_B26,
    branches: &[
        elf::R_LARCH_B16,
        elf::R_LARCH_B21,
        elf::R_LARCH_B26,
        elf::R_LARCH_CALL36,
    ],
};

const OWN: &[SpecialSection] = &[
    special::BUG_TABLE,
    special::EX_TABLE,
    SpecialSection::exact(
        "__jump_table",
        Split::Entries(16),
        "struct jump_entry, include/linux/jump_label.h",
    )
    .early(),
    SpecialSection::exact(
        ".altinstructions",
        Split::Entries(12),
        "struct alt_instr, asm/alternative.h",
    )
    .of_replacements()
    .early(),
    special::REPLACEMENTS,
    special::RUNTIME_CONSTANTS,
    SpecialSection::prefix(
        ".orc_",
        Split::Drop,
        "made by objtool from the code; taken along where it has run",
    ),
    special::PATCHABLE_SITES,
    SpecialSection::exact(".got", Split::Drop, "made for each module"),
    SpecialSection::prefix(".plt", Split::Drop, "made for each module"),
    SpecialSection::prefix(".ftrace_trampoline", Split::Drop, "made for each module"),
    SpecialSection::prefix(
        ".discard.",
        Split::Drop,
        "annotations for objtool, which has run or does not run",
    ),
];

const SPECIAL: &[SpecialSection] = &joined::<{ OWN.len() + COMMON.len() }>(OWN);

#[cfg(test)]
mod tests {
    use super::*;

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn distances_of_all_kinds_of_branches() {
        // bl +8 ; beqz $a0, +8 ; bne $a0, $a1, -8 ; b -12
        let text = code(&[0x5400_0800, 0x4000_0880, 0x5fff_f885, 0x53ff_f7ff]);
        let map = LoongArch64.code_map(&text, &[]);
        let rows: Vec<_> = map
            .filled
            .iter()
            .map(|row| (row.offset, row.target, row.movable))
            .collect();
        assert_eq!(rows, [(0, 8, true), (4, 12, false), (8, 0, false), (12, 0, true)]);
    }

    #[test]
    fn a_constant_before_a_call_is_an_argument() {
        // addi.w $a1, $zero, 100 ; bl (relocated)
        let found = LoongArch64.constant_arguments(&code(&[0x0281_9005, 0x5400_0000]), &[4]);
        assert_eq!(
            found
                .iter()
                .map(|row| (row.number, row.constant.clone()))
                .collect::<Vec<_>>(),
            [(2, 0..4)]
        );
    }

    #[test]
    fn types_that_no_kernel_has_are_undecided() {
        assert_eq!(FACTS.relocs.kind(elf::R_LARCH_SOP_ADD.0), None);
        assert_eq!(FACTS.relocs.kind(elf::R_LARCH_TLS_LE_HI20.0), None);
    }
}
