//! 64-bit Arm, little endian.
//!
//! Unusual: an address takes two instructions, one for its page and one for the rest, each with a relocation. NOPs at
//! its entry make a function traceable, and only `__patchable_function_entries` lists them. With
//! CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS there are two more NOPs before the entry.
//!
//! ABI: "ELF for the Arm 64-bit Architecture", 2023Q3, section 5.7 (relocation codes). What the kernel's module loader
//! accepts: arch/arm64/kernel/module.c, `apply_relocate_add` (6.12 and 7.3); it makes veneers for calls that do not reach
//! their target, also for those that livepatch asks for (arch/arm64/kernel/module-plts.c, `count_plts`).

use object::elf::{self, RelocationType};

use super::fixed::{self, Branch, Effect};
use super::special::{self, COMMON, SpecialSection, Split, joined};
use super::types::{absolute, relative};
use super::{
    Arch, CodeMap, Facts, LineArgument, LoaderFacts, ObjtoolFacts, RelocKind, RelocTypes, Tracing, TracingFacts,
};

/// The one value of this architecture.
pub struct Aarch64;

impl Arch for Aarch64 {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn clear_filled(&self, field: &mut [u8]) {
        if let Ok(bytes) = <[u8; 4]>::try_from(&*field) {
            let insn = u32::from_le_bytes(bytes);
            let distance = match insn >> 26 {
                0b00_0101 | 0b10_0101 => 0x03ff_ffff,
                _ if insn >> 25 & 0x3f == 0b01_1011 => 0x7_ffe0,
                _ => 0xff_ffe0,
            };
            field.copy_from_slice(&(insn & !distance).to_le_bytes());
        }
    }

    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap {
        fixed::code_map(code, relocs, |insn| branch(insn).is_some(), branch)
    }

    /// "Arm Architecture Reference Manual", section C6.2: `bl`.
    fn is_call(&self, code: &[u8], offset: u64) -> bool {
        fixed::word(code, offset).is_some_and(|insn| insn >> 26 == 0b10_0101)
    }

    fn is_branch(&self, code: &[u8], offset: u64) -> bool {
        fixed::word(code, offset).is_some_and(|insn| branch(insn).is_some())
    }

    /// "Procedure Call Standard for the Arm 64-bit Architecture", section 6.8.2: x0 to x7.
    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        fixed::constants(code, relocs, effect)
    }
}

static FACTS: Facts = Facts {
    name: "arm64",
    machine: elf::EM_AARCH64,
    big_endian: false,
    section_anchors: true,
    relocs: TYPES,
    slot_section: None,
    has_module_pointer: false,
    loader: LoaderFacts {
        accepts: Some(LOADED),
        writes_protected: None,
        fills_once: &[],
        far_data: false,
        late_stub: Some((
            "in memory that is write-protected by then",
            "call no function of the module, or build the kernel without CONFIG_RANDOMIZE_MODULE_REGION_FULL",
        )),
        // It overwrites whole fields of instructions.
        wants_zero_fields: false,
        own_names: &[],
        own_prefixes: &[],
    },
    tracing: TracingFacts {
        mark: Tracing::PatchableEntries,
        callee: None,
        // A landing pad (`bti c`) may precede the NOPs: arch/arm64/kernel/ftrace.c, `ftrace_call_adjust`.
        max_offset: 4,
        // With CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS two NOPs stand before the entry, for the address of the tracer's own
        // record, and the place is that of the first (same function, 6.3 to 7.3).
        before_entry: 8,
        // The first NOP behind the entry saves the link register; the second becomes the call.
        patched: 4,
        opcode: 0,
        call: None,
        lists_sites: false,
    },
    landing: Some(&super::landing::AARCH64),
    special_sections: SPECIAL,
    objtool: ObjtoolFacts {
        derived: &[],
        required: &[],
        unwind: None,
        unwind_misfits: None,
        unlisted: None,
    },
};

/// "Arm Architecture Reference Manual", section C4.1.66 (branches): b and bl, b.cond, cbz and cbnz, tbz and tbnz.
fn branch(insn: u32) -> Option<Branch> {
    match insn >> 26 {
        0b00_0101 | 0b10_0101 => return Some((4 * fixed::signed(insn, 26), true)),
        _ => {}
    }
    let conditional = insn >> 24 == 0x54 || insn >> 25 & 0x3f == 0b01_1010;
    if conditional {
        return Some((4 * fixed::signed(insn >> 5, 19), false));
    }
    (insn >> 25 & 0x3f == 0b01_1011).then(|| (4 * fixed::signed(insn >> 5, 14), false))
}

fn effect(insn: u32) -> Effect {
    let register = |shift: u32| {
        let number = (insn >> shift & 31) as u8;
        (number < 8).then_some(number + 1)
    };
    let to = register(0);
    // bl, and every other branch (bits 28 to 26 are 101).
    if insn >> 26 & 7 == 5 {
        return Effect::Call;
    }
    match (to, insn >> 23, insn >> 22) {
        // movz, 32 bits, not shifted.
        (Some(number), 0b0_1010_0101, _) if insn >> 21 & 3 == 0 => Effect::Constant(number),
        // add (immediate), 64 bits.
        (Some(number), _, 0b10_0100_0100) => Effect::Address(number),
        // Loads and stores (bit 27 is 1, bit 25 is 0) may write their base register, and pairs write two registers.
        _ if insn >> 27 & 1 == 1 && insn >> 25 & 1 == 0 => Effect::Writes([to, register(5), register(10)]),
        _ => Effect::Writes([to, None, None]),
    }
}

/// A distance of 32 bits to a function or its veneer; the crate has no name for it.
const PLT32: RelocationType = RelocationType(314);

/// The types that compilers use for kernel code. Those of the GOT and PLT32 are here so that a refusal can name them; the
/// module loader takes none of them. No thread-local storage.
const TYPES: &RelocTypes = &RelocTypes {
    prefix: "R_AARCH64",
    rows: &[
        (elf::R_AARCH64_NONE, "NONE", RelocKind::None),
        (elf::R_AARCH64_ABS64, "ABS64", absolute(8)),
        (elf::R_AARCH64_ABS32, "ABS32", absolute(4)),
        (elf::R_AARCH64_ABS16, "ABS16", absolute(2)),
        (elf::R_AARCH64_PREL64, "PREL64", relative(8)),
        (elf::R_AARCH64_PREL32, "PREL32", relative(4)),
        (elf::R_AARCH64_PREL16, "PREL16", relative(2)),
        (elf::R_AARCH64_MOVW_UABS_G0, "MOVW_UABS_G0", absolute(4)),
        (elf::R_AARCH64_MOVW_UABS_G0_NC, "MOVW_UABS_G0_NC", absolute(4)),
        (elf::R_AARCH64_MOVW_UABS_G1, "MOVW_UABS_G1", absolute(4)),
        (elf::R_AARCH64_MOVW_UABS_G1_NC, "MOVW_UABS_G1_NC", absolute(4)),
        (elf::R_AARCH64_MOVW_UABS_G2, "MOVW_UABS_G2", absolute(4)),
        (elf::R_AARCH64_MOVW_UABS_G2_NC, "MOVW_UABS_G2_NC", absolute(4)),
        (elf::R_AARCH64_MOVW_UABS_G3, "MOVW_UABS_G3", absolute(4)),
        (elf::R_AARCH64_MOVW_SABS_G0, "MOVW_SABS_G0", absolute(4)),
        (elf::R_AARCH64_MOVW_SABS_G1, "MOVW_SABS_G1", absolute(4)),
        (elf::R_AARCH64_MOVW_SABS_G2, "MOVW_SABS_G2", absolute(4)),
        (elf::R_AARCH64_MOVW_PREL_G0, "MOVW_PREL_G0", relative(4)),
        (elf::R_AARCH64_MOVW_PREL_G0_NC, "MOVW_PREL_G0_NC", relative(4)),
        (elf::R_AARCH64_MOVW_PREL_G1, "MOVW_PREL_G1", relative(4)),
        (elf::R_AARCH64_MOVW_PREL_G1_NC, "MOVW_PREL_G1_NC", relative(4)),
        (elf::R_AARCH64_MOVW_PREL_G2, "MOVW_PREL_G2", relative(4)),
        (elf::R_AARCH64_MOVW_PREL_G2_NC, "MOVW_PREL_G2_NC", relative(4)),
        (elf::R_AARCH64_MOVW_PREL_G3, "MOVW_PREL_G3", relative(4)),
        (elf::R_AARCH64_LD_PREL_LO19, "LD_PREL_LO19", relative(4)),
        (elf::R_AARCH64_ADR_PREL_LO21, "ADR_PREL_LO21", relative(4)),
        (elf::R_AARCH64_ADR_PREL_PG_HI21, "ADR_PREL_PG_HI21", relative(4)),
        (elf::R_AARCH64_ADR_PREL_PG_HI21_NC, "ADR_PREL_PG_HI21_NC", relative(4)),
        (elf::R_AARCH64_ADD_ABS_LO12_NC, "ADD_ABS_LO12_NC", absolute(4)),
        (elf::R_AARCH64_LDST8_ABS_LO12_NC, "LDST8_ABS_LO12_NC", absolute(4)),
        (elf::R_AARCH64_LDST16_ABS_LO12_NC, "LDST16_ABS_LO12_NC", absolute(4)),
        (elf::R_AARCH64_LDST32_ABS_LO12_NC, "LDST32_ABS_LO12_NC", absolute(4)),
        (elf::R_AARCH64_LDST64_ABS_LO12_NC, "LDST64_ABS_LO12_NC", absolute(4)),
        (elf::R_AARCH64_LDST128_ABS_LO12_NC, "LDST128_ABS_LO12_NC", absolute(4)),
        (elf::R_AARCH64_TSTBR14, "TSTBR14", relative(4)),
        (elf::R_AARCH64_CONDBR19, "CONDBR19", relative(4)),
        (elf::R_AARCH64_JUMP26, "JUMP26", relative(4)),
        (elf::R_AARCH64_CALL26, "CALL26", relative(4)),
        (PLT32, "PLT32", relative(4)),
        (elf::R_AARCH64_ADR_GOT_PAGE, "ADR_GOT_PAGE", relative(4)),
        (elf::R_AARCH64_LD64_GOT_LO12_NC, "LD64_GOT_LO12_NC", absolute(4)),
    ],
    pointer: elf::R_AARCH64_ABS64,
    filled_branch: elf::R_AARCH64_CALL26,
    filled_address: elf::R_AARCH64_CALL26,
    branches: &[
        elf::R_AARCH64_CALL26,
        elf::R_AARCH64_JUMP26,
        elf::R_AARCH64_CONDBR19,
        elf::R_AARCH64_TSTBR14,
    ],
};

/// The types that the module loader accepts (6.12 and 7.3).
const LOADED: &[RelocationType] = &[
    elf::R_AARCH64_ABS64,
    elf::R_AARCH64_ABS32,
    elf::R_AARCH64_ABS16,
    elf::R_AARCH64_PREL64,
    elf::R_AARCH64_PREL32,
    elf::R_AARCH64_PREL16,
    elf::R_AARCH64_MOVW_UABS_G0,
    elf::R_AARCH64_MOVW_UABS_G0_NC,
    elf::R_AARCH64_MOVW_UABS_G1,
    elf::R_AARCH64_MOVW_UABS_G1_NC,
    elf::R_AARCH64_MOVW_UABS_G2,
    elf::R_AARCH64_MOVW_UABS_G2_NC,
    elf::R_AARCH64_MOVW_UABS_G3,
    elf::R_AARCH64_MOVW_SABS_G0,
    elf::R_AARCH64_MOVW_SABS_G1,
    elf::R_AARCH64_MOVW_SABS_G2,
    elf::R_AARCH64_MOVW_PREL_G0,
    elf::R_AARCH64_MOVW_PREL_G0_NC,
    elf::R_AARCH64_MOVW_PREL_G1,
    elf::R_AARCH64_MOVW_PREL_G1_NC,
    elf::R_AARCH64_MOVW_PREL_G2,
    elf::R_AARCH64_MOVW_PREL_G2_NC,
    elf::R_AARCH64_MOVW_PREL_G3,
    elf::R_AARCH64_LD_PREL_LO19,
    elf::R_AARCH64_ADR_PREL_LO21,
    elf::R_AARCH64_ADR_PREL_PG_HI21,
    elf::R_AARCH64_ADR_PREL_PG_HI21_NC,
    elf::R_AARCH64_ADD_ABS_LO12_NC,
    elf::R_AARCH64_LDST8_ABS_LO12_NC,
    elf::R_AARCH64_LDST16_ABS_LO12_NC,
    elf::R_AARCH64_LDST32_ABS_LO12_NC,
    elf::R_AARCH64_LDST64_ABS_LO12_NC,
    elf::R_AARCH64_LDST128_ABS_LO12_NC,
    elf::R_AARCH64_TSTBR14,
    elf::R_AARCH64_CONDBR19,
    elf::R_AARCH64_JUMP26,
    elf::R_AARCH64_CALL26,
];

const OWN: &[SpecialSection] = &[
    special::BUG_TABLE,
    special::EX_TABLE,
    special::JUMP_TABLE,
    special::ALTERNATIVES,
    special::REPLACEMENTS,
    special::RUNTIME_CONSTANTS,
    special::PATCHABLE_SITES,
    SpecialSection::exact(".plt", Split::Drop, "veneers, made for each module"),
    SpecialSection::prefix(".text.ftrace_trampoline", Split::Drop, "veneers, made for each module"),
    SpecialSection::prefix(".discard.", Split::Drop, "annotations for objtool, which does not run"),
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
        // bl +8 ; cbz x0, +8 ; tbz w0, #0, +4 ; b.eq -12 ; b -16
        let text = code(&[0x9400_0002, 0xb400_0040, 0x3600_0020, 0x54ff_ffa0, 0x17ff_fffc]);
        let map = Aarch64.code_map(&text, &[]);
        let rows: Vec<_> = map
            .filled
            .iter()
            .map(|row| (row.offset, row.target, row.movable))
            .collect();
        assert_eq!(
            rows,
            [
                (0, 8, true),
                (4, 12, false),
                (8, 12, false),
                (12, 0, false),
                (16, 0, true)
            ]
        );
    }

    #[test]
    fn a_constant_before_a_call_is_an_argument() {
        // add x0, x0, #0 (relocated) ; mov w1, #100 ; bl (relocated)
        let found = Aarch64.constant_arguments(&code(&[0x9100_0000, 0x5280_0c81, 0x9400_0000]), &[0, 8]);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].number, found[0].constant.clone(), &found[0].others[..]),
            (2, 4..8, &[(1, 0)][..])
        );
        // mov w1, #100 ; add x1, x1, x2 ; bl
        assert!(
            Aarch64
                .constant_arguments(&code(&[0x5280_0c81, 0x8b02_0021, 0x9400_0000]), &[8])
                .is_empty()
        );
    }

    #[test]
    fn the_loader_takes_no_slots_and_no_veneers_in_data() {
        for refused in [elf::R_AARCH64_ADR_GOT_PAGE, elf::R_AARCH64_LD64_GOT_LO12_NC, PLT32] {
            assert!(FACTS.relocs.kind(refused.0).is_some() && !FACTS.loader_accepts(refused.0));
        }
        assert_eq!(FACTS.relocs.kind(elf::R_AARCH64_TLSGD_ADR_PAGE21.0), None);
        assert!(LOADED.iter().all(|taken| FACTS.relocs.kind(taken.0).is_some()));
        assert_eq!(FACTS.relocs.name(elf::R_AARCH64_CALL26.0), "R_AARCH64_CALL26");
    }
}
