//! 64-bit PowerPC, little endian, ELFv2 ABI.
//!
//! Unusual: a function may have two entries. Callers in other modules use the global entry with its address in r12, and
//! the code there computes the module pointer (TOC pointer, r2) from r12. Callers in the same module share r2 and use
//! the local entry. So a call that leaves its module must restore r2 afterwards, and the compiler leaves room for that
//! (a `nop`) only where it knows that the callee is elsewhere.
//!
//! ABI: "64-Bit ELF V2 ABI Specification: Power Architecture", revision 1.5, sections 2.3.2 (TOC pointer usage),
//! 3.4.1 (`st_other`), 3.5.3 (relocation types). What the kernel's module loader accepts:
//! arch/powerpc/kernel/module_64.c, `apply_relocate_add` and `restore_r2` (6.1 and 6.12).

use object::elf::{self, RelocationType};

use super::special::{self, COMMON, SpecialSection, Split, joined};
use super::types::{absolute, relative};
use super::{
    Arch, BadExit, CodeField, CodeMap, Facts, FilledReference, LineArgument, LoaderFacts, ObjtoolFacts, RelocKind,
    RelocTypes, Tracing, TracingFacts, Use,
};

/// The one value of this architecture.
pub struct Ppc64;

/// `ori 0,0,0`: the compiler puts it behind a call that may leave the module.
const NOP: u32 = 0x6000_0000;
/// `ld r2,24(r1)`: the module loader replaces the nop with it.
const RESTORE_TOC: u32 = 0xe841_0018;
/// Primary opcode of `b` and `bl`.
const BRANCH: u32 = 18;
/// Primary opcode of conditional branches.
const CONDITIONAL: u32 = 16;
/// The distance field of `b` and `bl`.
const LI: u32 = 0x03ff_fffc;
/// The distance field of conditional branches.
const BD: u32 = 0xfffc;
/// The link bit: the instruction is a call.
const LK: u32 = 1;
/// The bit that makes the distance an address.
const AA: u32 = 2;
/// EF_PPC64_ABI in `e_flags`: the bits that hold the version of the ABI, 2 for ELFv2.
const ABI_MASK: u32 = 3;

impl Arch for Ppc64 {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn clear_filled(&self, field: &mut [u8]) {
        if let Some(insn) = word(field, 0) {
            let distance = if insn >> 26 == CONDITIONAL { BD } else { LI };
            field.copy_from_slice(&(insn & !distance).to_le_bytes());
        }
    }

    fn accepts_flags(&self, e_flags: u32) -> bool {
        e_flags & ABI_MASK == 2
    }

    /// With `-mcmodel=large` the distance to the TOC is in the eight bytes before the entry, and the entry begins with
    /// `ld r2,-8(r12)` (GCC 12, config/rs6000/rs6000-logue.cc).
    fn entry_prefix(&self, code: &[u8]) -> u64 {
        match word(code, 0) {
            Some(insn) if insn & 0xffff_0003 == 0xe84c_0000 => {
                let distance = (insn & 0xfffc) as u16 as i16;
                u64::try_from(-i64::from(distance)).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// STO_PPC64_LOCAL: bits 5 to 7 of `st_other` hold the distance as a power of two; 0 and 1 mean that there is one
    /// entry.
    fn local_entry(&self, st_other: u8) -> u64 {
        ((1_u64 << (st_other >> 5)) >> 2) << 2
    }

    fn check_exit(&self, code: &[u8], offset: u64) -> Result<(), BadExit> {
        let insn = word(code, offset).unwrap_or(0);
        if insn >> 26 != BRANCH || insn & LK == 0 {
            return Err(BadExit::NotACall);
        }
        match word(code, offset.saturating_add(4)) {
            Some(NOP | RESTORE_TOC) => Ok(()),
            _ => Err(BadExit::NoRestore),
        }
    }

    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap {
        let field = |offset: &u64| {
            word(code, *offset).map(|insn| CodeField {
                bias: 0,
                usage: if is_branch(insn) { Use::Branch } else { Use::Address },
            })
        };
        let branch = |index: usize| {
            let offset = 4 * index as u64;
            let free = relocs.binary_search(&offset).is_err();
            resolved_branch(word(code, offset)?, offset, code.len()).filter(|_| free)
        };
        CodeMap {
            fields: relocs.iter().map(field).collect(),
            filled: (0..code.len() / 4).filter_map(branch).collect(),
        }
    }

    fn is_call(&self, code: &[u8], offset: u64) -> bool {
        word(code, offset).is_some_and(|insn| insn >> 26 == BRANCH && insn & LK != 0)
    }

    fn is_branch(&self, code: &[u8], offset: u64) -> bool {
        word(code, offset).is_some_and(is_branch)
    }

    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        super::ppc64_arguments::constants(code, relocs)
    }
}

static FACTS: Facts = Facts {
    name: "powerpc",
    machine: elf::EM_PPC64,
    big_endian: false,
    section_anchors: true,
    relocs: TYPES,
    slot_section: Some(".toc"),
    has_module_pointer: true,
    loader: LoaderFacts {
        accepts: Some(LOADED),
        // It writes calls with `patch_instruction` and everything else with a plain store.
        writes_protected: Some(&[elf::R_PPC64_REL24]),
        fills_once: &[],
        far_data: false,
        late_stub: Some((
            "in place of one of the tracer's",
            "backport \"powerpc64/modules: correctly iterate over stubs in setup_ftrace_ool_stubs\" to the kernel, \
             or call no function of the module that it does not export",
        )),
        // It replaces the bits of the field, whatever they were, and keeps the others.
        wants_zero_fields: false,
        // The module loader fills it in.
        own_names: &[".TOC."],
        // Each module links its own register save and restore routines for `-Os` code (arch/powerpc/Makefile,
        // KBUILD_LDFLAGS_MODULE); they need no module pointer.
        own_prefixes: &[
            "_savegpr0_",
            "_savegpr1_",
            "_restgpr0_",
            "_restgpr1_",
            "_savefpr_",
            "_restfpr_",
        ],
    },
    tracing: TracingFacts {
        mark: Tracing::Call,
        callee: Some("_mcount"),
        // `-mprofile-kernel`: two instructions set up r2, `mflr r0` follows, perhaps `std r0,16(r1)`, then the call
        // (arch/powerpc/kernel/trace/ftrace.c, `ftrace_init_nop`).
        max_offset: 16,
        before_entry: 0,
        patched: 0,
        opcode: 0,
        call: None,
        lists_sites: true,
    },
    landing: None,
    special_sections: SPECIAL,
    // On this architecture objtool only lists tracing sites, in each file (6.12); 6.1 does not run it.
    objtool: ObjtoolFacts {
        derived: &[],
        required: &[],
        unwind: None,
        unwind_misfits: None,
        unlisted: None,
    },
};

/// The instruction at an offset.
fn word(code: &[u8], offset: u64) -> Option<u32> {
    let start = usize::try_from(offset).ok().filter(|start| start.is_multiple_of(4))?;
    let bytes = code.get(start..start.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn is_branch(insn: u32) -> bool {
    matches!(insn >> 26, BRANCH | CONDITIONAL)
}

/// A relative branch inside the section. Tables of a `switch` lie between the instructions; their entries are small
/// distances, which never have the opcode of a branch.
fn resolved_branch(insn: u32, offset: u64, len: usize) -> Option<FilledReference> {
    if !is_branch(insn) || insn & AA != 0 {
        return None;
    }
    let far = insn >> 26 == BRANCH;
    let distance = if far {
        ((insn & LI) << 6) as i32 >> 6
    } else {
        i32::from((insn & BD) as u16 as i16)
    };
    let target = offset.checked_add_signed(distance.into())?;
    (target <= len as u64).then_some(FilledReference {
        offset,
        size: 4,
        bias: 0,
        movable: far,
        target,
        usage: Use::Branch,
    })
}

/// ELFv2 ABI, table 3.19; the crate has no names for the newer ones.
const REL24_NOTOC: RelocationType = RelocationType(116);
const ENTRY: RelocationType = RelocationType(118);

const TOC_RELATIVE: RelocKind = RelocKind::TocRelative { size: 2 };

/// The types that GCC 12 and the kernel's inline assembly emit. Procedure linkage, GOT, thread-local and PC-relative
/// (Power10) types are left out on purpose: the kernel is built without them.
const TYPES: &RelocTypes = &RelocTypes {
    prefix: "R_PPC64",
    rows: &[
        (elf::R_PPC64_NONE, "NONE", RelocKind::None),
        (elf::R_PPC64_ADDR32, "ADDR32", absolute(4)),
        (elf::R_PPC64_ADDR64, "ADDR64", absolute(8)),
        (elf::R_PPC64_UADDR32, "UADDR32", absolute(4)),
        (elf::R_PPC64_UADDR64, "UADDR64", absolute(8)),
        (elf::R_PPC64_ADDR16, "ADDR16", absolute(2)),
        (elf::R_PPC64_ADDR16_LO, "ADDR16_LO", absolute(2)),
        (elf::R_PPC64_ADDR16_HI, "ADDR16_HI", absolute(2)),
        (elf::R_PPC64_ADDR16_HA, "ADDR16_HA", absolute(2)),
        (elf::R_PPC64_ADDR16_HIGHER, "ADDR16_HIGHER", absolute(2)),
        (elf::R_PPC64_ADDR16_HIGHEST, "ADDR16_HIGHEST", absolute(2)),
        (elf::R_PPC64_REL24, "REL24", relative(4)),
        (elf::R_PPC64_REL14, "REL14", relative(4)),
        (REL24_NOTOC, "REL24_NOTOC", relative(4)),
        (elf::R_PPC64_REL32, "REL32", relative(4)),
        (elf::R_PPC64_REL64, "REL64", relative(8)),
        (elf::R_PPC64_REL16, "REL16", relative(2)),
        (elf::R_PPC64_REL16_LO, "REL16_LO", relative(2)),
        (elf::R_PPC64_REL16_HI, "REL16_HI", relative(2)),
        (elf::R_PPC64_REL16_HA, "REL16_HA", relative(2)),
        (elf::R_PPC64_TOC, "TOC", absolute(8)),
        (elf::R_PPC64_TOC16, "TOC16", TOC_RELATIVE),
        (elf::R_PPC64_TOC16_LO, "TOC16_LO", TOC_RELATIVE),
        (elf::R_PPC64_TOC16_HI, "TOC16_HI", TOC_RELATIVE),
        (elf::R_PPC64_TOC16_HA, "TOC16_HA", TOC_RELATIVE),
        (elf::R_PPC64_TOC16_DS, "TOC16_DS", TOC_RELATIVE),
        (elf::R_PPC64_TOC16_LO_DS, "TOC16_LO_DS", TOC_RELATIVE),
        (elf::R_PPC64_TOCSAVE, "TOCSAVE", RelocKind::None),
        (ENTRY, "ENTRY", RelocKind::None),
    ],
    pointer: elf::R_PPC64_ADDR64,
    filled_branch: elf::R_PPC64_REL24,
    filled_address: elf::R_PPC64_REL24,
    branches: &[elf::R_PPC64_REL24, elf::R_PPC64_REL14, REL24_NOTOC],
};

/// The types that the module loader accepts in kernels without Power10's PC-relative code (6.1 and 6.12).
const LOADED: &[RelocationType] = &[
    elf::R_PPC64_ADDR32,
    elf::R_PPC64_ADDR64,
    elf::R_PPC64_TOC,
    elf::R_PPC64_TOC16,
    elf::R_PPC64_TOC16_LO,
    elf::R_PPC64_TOC16_DS,
    elf::R_PPC64_TOC16_LO_DS,
    elf::R_PPC64_TOC16_HA,
    elf::R_PPC64_REL24,
    elf::R_PPC64_REL32,
    elf::R_PPC64_REL64,
    elf::R_PPC64_REL16_HA,
    elf::R_PPC64_REL16_LO,
    elf::R_PPC64_TOCSAVE,
    ENTRY,
];

/// A table of `struct fixup_entry`: mask, value, then four distances from the entry's start, of which the second and
/// the fourth name ends (arch/powerpc/lib/feature-fixups.c; asm/feature-fixups.h, MAKE_FTR_SECTION_ENTRY).
const fn feature_fixups(name: &'static str) -> SpecialSection {
    SpecialSection::exact(
        name,
        Split::Entries(48),
        "struct fixup_entry, arch/powerpc/lib/feature-fixups.c",
    )
    .from_entry(&[24, 40])
    .of_replacements()
    .early()
}

/// Tables of 6.1 and 6.12 kernels, in files written in C.
const OWN: &[SpecialSection] = &[
    special::BUG_TABLE,
    SpecialSection::exact(
        "__ex_table",
        Split::Entries(8),
        "struct exception_table_entry, arch/powerpc/include/asm/extable.h",
    ),
    special::JUMP_TABLE,
    feature_fixups("__ftr_fixup"),
    feature_fixups("__mmu_ftr_fixup"),
    feature_fixups("__fw_ftr_fixup"),
    SpecialSection::prefix(
        "__ftr_alt_",
        Split::Targets,
        "code copied over the site; pointed at by the feature fixups",
    )
    .early(),
    SpecialSection::exact(
        "__lwsync_fixup",
        Split::Entries(8),
        "distances to the place, asm/feature-fixups.h, MAKE_LWSYNC_SECTION_ENTRY",
    )
    .early(),
    SpecialSection::exact(
        "__barrier_nospec_fixup",
        Split::Entries(8),
        "distances to the place, asm/feature-fixups.h, NOSPEC_BARRIER_FIXUP_SECTION",
    ),
    special::FIXUP,
    SpecialSection::exact(
        ".toc",
        Split::Drop,
        "address slots; those in use are made anew, see Facts::slot_section",
    ),
    special::EMITTED_SITES,
    SpecialSection::prefix(
        ".discard.",
        Split::Drop,
        "annotations for objtool, which does not see the module",
    ),
    SpecialSection::exact(".gnu.attributes", Split::Drop, "floating-point ABI, for linkers"),
];

const SPECIAL: &[SpecialSection] = &joined::<{ OWN.len() + COMMON.len() }>(OWN);

#[cfg(test)]
mod tests {
    use super::*;

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_local_entry_is_a_power_of_two() {
        let entries: Vec<u64> = (0..8).map(|value| Ppc64.local_entry(value << 5)).collect();
        assert_eq!(entries, [0, 0, 4, 8, 16, 32, 64, 128]);
    }

    #[test]
    fn a_call_out_needs_room_for_the_restore() {
        let (bl, b, beq) = (0x4800_0001, 0x4800_0000, 0x4182_0000);
        assert_eq!(Ppc64.check_exit(&code(&[bl, NOP]), 0), Ok(()));
        assert_eq!(Ppc64.check_exit(&code(&[bl, RESTORE_TOC]), 0), Ok(()));
        assert_eq!(Ppc64.check_exit(&code(&[bl, b]), 0), Err(BadExit::NoRestore));
        assert_eq!(Ppc64.check_exit(&code(&[bl]), 0), Err(BadExit::NoRestore));
        assert_eq!(Ppc64.check_exit(&code(&[b, NOP]), 0), Err(BadExit::NotACall));
        assert_eq!(Ppc64.check_exit(&code(&[beq, NOP]), 0), Err(BadExit::NotACall));
    }

    #[test]
    fn distances_are_signed_and_masked() {
        // bl +8 ; beq -4 ; b -8 ; bla 0
        let text = code(&[0x4800_0009, 0x4182_fffc, 0x4bff_fff8, 0x4800_0003]);
        let map = Ppc64.code_map(&text, &[]);
        let rows: Vec<_> = map
            .filled
            .iter()
            .map(|branch| (branch.offset, branch.target, branch.movable))
            .collect();
        assert_eq!(rows, [(0, 8, true), (4, 0, false), (8, 0, true)]);
    }

    #[test]
    fn clearing_a_branch_keeps_what_it_is() {
        let mut field = code(&[0x4800_0009]);
        Ppc64.clear_filled(&mut field);
        assert_eq!(field, code(&[0x4800_0001]));
        let mut field = code(&[0x4182_fffc]);
        Ppc64.clear_filled(&mut field);
        assert_eq!(field, code(&[0x4182_0000]));
    }

    #[test]
    fn the_large_model_keeps_eight_bytes_before_the_entry() {
        assert_eq!(Ppc64.entry_prefix(&code(&[0xe84c_fff8, 0x7c42_6214])), 8);
        assert_eq!(Ppc64.entry_prefix(&code(&[0x3c4c_0000])), 0);
        assert_eq!(Ppc64.entry_prefix(&[]), 0);
    }

    #[test]
    fn types_that_no_kernel_has_are_undecided() {
        for r_type in [elf::R_PPC64_PLT16_HA.0, elf::R_PPC64_GOT16_DS.0, 132, 999] {
            assert_eq!(FACTS.relocs.kind(r_type), None);
        }
        assert_eq!(FACTS.relocs.name(999), "R_PPC64 type 999");
        assert!(!FACTS.loader_accepts(elf::R_PPC64_REL14.0));
    }
}
