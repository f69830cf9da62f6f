//! x86-64.
//!
//! Unusual: a PC-relative value counts from the end of its instruction, behind any immediate operand. The distance from
//! the field is 4 bytes only if no immediate follows, so finding the byte that a relocation means takes the instruction
//! boundaries.
//!
//! psABI: <https://gitlab.com/x86-psABIs/x86-64-ABI>, section 4.4 (relocation types).

use std::collections::BTreeSet;

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use object::elf;

use super::special::{self, COMMON, KeyField, Shape, SpecialSection, Split, joined};
use super::types::{absolute, relative};
use super::x86_64_thunks::{INDIRECT_THUNK, RETURN_THUNK};
use super::{
    Arch, CodeField, CodeMap, CodePiece, DerivedTable, DetourCode, Escape, Exits, Facts, FilledReference, LineArgument,
    LoaderFacts, ObjtoolFacts, ObjtoolTable, RelocKind, RelocTypes, RuntimeConst, Source, Thunk, Tracing, TracingFacts,
    Use,
};

/// The one value of this architecture.
pub struct X86_64;

impl Arch for X86_64 {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap {
        let mut map = CodeMap {
            fields: vec![None; relocs.len()],
            filled: Vec::new(),
        };
        let mut next = 0;
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut insn = Instruction::default();
        while decoder.can_decode() {
            let start = decoder.position();
            decoder.decode_out(&mut insn);
            let end = decoder.position();
            while relocs.get(next).is_some_and(|&offset| (offset as usize) < start) {
                next += 1;
            }
            let field = decoder.get_constant_offsets(&insn);
            let mut relocated = false;
            while let Some(&offset) = relocs.get(next).filter(|&&offset| (offset as usize) < end) {
                map.fields[next] = code_field(&insn, &field, (start, end), offset as usize);
                relocated = true;
                next += 1;
            }
            if !relocated && let Some(branch) = filled_branch(&insn, start, &field, code.len()) {
                map.filled.push(branch);
            }
            let address = filled_address(&insn, start, &field, code.len());
            map.filled
                .extend(address.filter(|address| relocs.binary_search(&address.offset).is_err()));
        }
        map
    }

    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        super::x86_64_arguments::constants(code, relocs)
    }

    fn escapes(
        &self,
        code: &[u8],
        entry: u64,
        relocs: &[u64],
        wanted: &BTreeSet<usize>,
        plain: &BTreeSet<usize>,
    ) -> Option<BTreeSet<(Source, Escape)>> {
        Some(super::x86_64_escapes::escapes(code, entry, relocs, wanted, plain))
    }

    fn thunk(&self, name: &str) -> Option<Thunk> {
        match name {
            RETURN_THUNK => Some(Thunk::Return),
            name if name.starts_with(INDIRECT_THUNK) => Some(Thunk::Indirect),
            _ => None,
        }
    }

    /// tools/objtool/arch/x86/decode.c (6.12), `arch_nop_insn`; check.c, `handle_jump_alt`.
    fn branch_as_nop(&self, code: &[u8]) -> Option<&'static [u8]> {
        match code.first()? {
            0xeb => Some(&[0x66, 0x90]),
            0xe9 => Some(&[0x0f, 0x1f, 0x44, 0x00, 0x00]),
            _ => None,
        }
    }

    fn runs_on(&self, code: &[u8]) -> bool {
        // Filler alone is not run at all.
        let mut runs_on = false;
        let mut stopped = false;
        for insn in &mut Decoder::new(64, code, DecoderOptions::NONE) {
            let stops = match insn.flow_control() {
                FlowControl::Return | FlowControl::IndirectBranch | FlowControl::UnconditionalBranch => true,
                // ud2.
                FlowControl::Exception => !insn.is_invalid(),
                _ => false,
            };
            let filler = insn.mnemonic() == Mnemonic::Int3 || stopped && insn.mnemonic() == Mnemonic::Nop;
            if !filler {
                (stopped, runs_on) = (stops, !stops);
            }
        }
        runs_on
    }

    /// Opcode e8; a jump is e9, or 0f 80 to 0f 8f.
    fn is_call(&self, code: &[u8], offset: u64) -> bool {
        offset.checked_sub(1).and_then(|at| code.get(at as usize)) == Some(&0xe8)
    }

    /// Opcodes e8 and e9, 0f 80 to 0f 8f; with a distance of one byte eb, 70 to 7f, and e0 to e3.
    fn is_branch(&self, code: &[u8], offset: u64) -> bool {
        let byte = |back: u64| offset.checked_sub(back).and_then(|at| code.get(at as usize)).copied();
        matches!(
            (byte(2), byte(1)),
            (_, Some(0xe0..=0xe3 | 0xe8 | 0xe9 | 0xeb | 0x70..=0x7f)) | (Some(0x0f), Some(0x80..=0x8f))
        )
    }

    fn detour(&self, has_thunk: &dyn Fn(&str) -> bool) -> Option<DetourCode> {
        Some(super::x86_64_stack::detour(has_thunk))
    }

    fn has_all_arguments_in_registers(&self, pieces: &[CodePiece<'_>]) -> bool {
        super::x86_64_stack::has_all_arguments_in_registers(pieces)
    }

    fn exits(&self, code: &[u8], relocs: &[u64]) -> Option<Exits> {
        let mut exits = Exits::default();
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let mut insn = Instruction::default();
        while decoder.can_decode() {
            let start = decoder.position() as u64;
            decoder.decode_out(&mut insn);
            let own = start..decoder.position() as u64;
            match insn.flow_control() {
                FlowControl::Return | FlowControl::IndirectBranch => exits.returns = true,
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                    let at = relocs.partition_point(|offset| *offset < own.start);
                    if relocs.get(at).is_some_and(|offset| own.contains(offset)) {
                        exits.jumps.push(at);
                    } else {
                        exits.returns |= insn.near_branch64() >= code.len() as u64;
                    }
                }
                _ => {}
            }
        }
        Some(exits)
    }

    fn stays_by_name(&self, code: &[u8]) -> bool {
        super::x86_64_stays::stays_by_name(code)
    }

    /// arch/x86/include/asm/runtime-const.h (6.12): a `mov $imm64,%reg` whose immediate the kernel writes at boot, in
    /// its own image only. In a module it becomes a load of the variable that holds the constant:
    /// `mov disp32(%rip),%reg`, three bytes shorter.
    fn runtime_const<'s>(&self, section: &'s str, code: &[u8], field: u64) -> Option<RuntimeConst<'s>> {
        let variable = section.strip_prefix("runtime_ptr_")?;
        let start = usize::try_from(field).ok()?.checked_sub(2)?;
        let insn = code.get(start..start + 10)?;
        let (rex, reg) = (insn[0], insn[1].checked_sub(0xb8).filter(|reg| *reg < 8)?);
        if rex & 0xfe != 0x48 {
            return None;
        }
        let rex_load = if rex & 1 == 1 { 0x4c } else { 0x48 };
        let mut bytes = vec![rex_load, 0x8b, 0x05 | (reg << 3), 0, 0, 0, 0];
        bytes.extend([0x0f, 0x1f, 0x00]);
        Some(RuntimeConst {
            variable,
            offset: start as u64,
            bytes,
            reloc_offset: start as u64 + 3,
            r_type: elf::R_X86_64_PC32.0,
            addend: -4,
        })
    }
}

static FACTS: Facts = Facts {
    name: "x86_64",
    machine: elf::EM_X86_64,
    big_endian: false,
    section_anchors: false,
    relocs: TYPES,
    slot_section: None,
    has_module_pointer: false,
    loader: LoaderFacts {
        accepts: None,
        writes_protected: None,
        fills_once: &[],
        far_data: false,
        late_stub: None,
        // arch/x86/kernel/module.c, `__write_relocate_add` (6.12).
        wants_zero_fields: true,
        own_names: &[],
        own_prefixes: &[],
    },
    tracing: TracingFacts {
        mark: Tracing::Call,
        callee: Some("__fentry__"),
        // The call comes first or behind an `endbr64`; arch/x86/kernel/ftrace.c (6.12), `ftrace_location` accepts both.
        max_offset: 4,
        before_entry: 0,
        patched: 0,
        opcode: 1,
        call: Some((&[0xe8, 0, 0, 0, 0], elf::R_X86_64_PC32)),
        lists_sites: false,
    },
    landing: Some(&super::landing::X86_64),
    special_sections: SPECIAL,
    objtool: ObjtoolFacts {
        derived: DERIVED,
        required: OBJTOOL,
        unwind: Some(special::ORC_UNWIND),
        unwind_misfits: Some(super::x86_64_unwind::misfits),
        unlisted: Some(".altinstr"),
    },
};

/// Which field of the instruction a relocation at `offset` is, given where the instruction starts and ends.
fn code_field(
    insn: &Instruction,
    field: &ConstantOffsets,
    (start, end): (usize, usize),
    offset: usize,
) -> Option<CodeField> {
    let bias = i16::try_from(end.checked_sub(offset)?).ok()?;
    let place = field.has_displacement() && start + field.displacement_offset() == offset;
    let fixed = matches!(insn.memory_base(), Register::None | Register::RIP) && insn.memory_index() == Register::None;
    let usage = match insn.flow_control() {
        FlowControl::Call | FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => Use::Branch,
        FlowControl::IndirectCall | FlowControl::IndirectBranch => Use::Access,
        _ if place && fixed && insn.mnemonic() != Mnemonic::Lea => Use::Access,
        _ => Use::Address,
    };
    Some(CodeField { bias, usage })
}

/// A near branch inside the section whose distance is already in the code. `loop` and `jrcxz` are such branches, with a
/// distance of one byte.
fn filled_branch(insn: &Instruction, start: usize, field: &ConstantOffsets, len: usize) -> Option<FilledReference> {
    if insn.op_count() == 0 || insn.op0_kind() != OpKind::NearBranch64 {
        return None;
    }
    let target = insn.near_branch64();
    let size = u8::try_from(field.immediate_size()).ok()?;
    (target as usize <= len).then_some(FilledReference {
        offset: (start + field.immediate_offset()) as u64,
        size,
        bias: size.into(),
        movable: size >= 4,
        target,
        usage: Use::Branch,
    })
}

/// A RIP-relative memory operand inside the section: position-independent code and inline assembly take the address of
/// a static function this way.
fn filled_address(insn: &Instruction, start: usize, field: &ConstantOffsets, len: usize) -> Option<FilledReference> {
    if !insn.is_ip_rel_memory_operand() || field.displacement_size() != 4 {
        return None;
    }
    let target = insn.ip_rel_memory_address();
    let inside = field.displacement_offset();
    (target <= len as u64).then_some(FilledReference {
        offset: (start + inside) as u64,
        size: 4,
        bias: (insn.len() - inside) as i16,
        movable: true,
        target,
        usage: Use::Address,
    })
}

/// The types that arch/x86/kernel/module.c, `__write_relocate_add` (6.12), handles; any other ends in "Unknown rela
/// relocation".
const TYPES: &RelocTypes = &RelocTypes {
    prefix: "R_X86_64",
    rows: &[
        (elf::R_X86_64_PC32, "PC32", relative(4)),
        (elf::R_X86_64_PLT32, "PLT32", relative(4)),
        (elf::R_X86_64_32S, "32S", absolute(4)),
        (elf::R_X86_64_64, "64", absolute(8)),
        (elf::R_X86_64_32, "32", absolute(4)),
        (elf::R_X86_64_PC64, "PC64", relative(8)),
        (elf::R_X86_64_NONE, "NONE", RelocKind::None),
    ],
    pointer: elf::R_X86_64_64,
    filled_branch: elf::R_X86_64_PLT32,
    filled_address: elf::R_X86_64_PC32,
    branches: &[],
};

/// tools/objtool/check.c (6.12), `create_*_sections`: one 4-byte distance for each place.
const DERIVED: &[DerivedTable] = &{
    const fn sites(name: &'static str) -> DerivedTable {
        DerivedTable {
            name,
            entry: 4,
            beside: None,
        }
    }
    [
        sites(".retpoline_sites"),
        sites(".return_sites"),
        sites(".call_sites"),
        sites(".cfi_sites"),
        sites(".ibt_endbr_seal"),
        special::ORC_UNWIND,
    ]
};

/// tools/objtool/check.c (6.12): `create_static_call_sections` writes two distances for each site, the other functions
/// one. include/asm-generic/vmlinux.lds.h (6.12), `STATIC_CALL_DATA`: in the image the sites are part of another
/// section.
const OBJTOOL: &[ObjtoolTable] = &[
    ObjtoolTable::of_callers(".return_sites", RETURN_THUNK, 1),
    ObjtoolTable::of_callers(".retpoline_sites", INDIRECT_THUNK, 1),
    ObjtoolTable::of_callers(".static_call_sites", "__SCT__", 2).at("__start_static_call_sites"),
    ObjtoolTable::any(".orc_unwind"),
    ObjtoolTable::any(".orc_unwind_ip"),
];

/// Tables of 6.1 to 6.12 kernels; entry sizes are those of the structures named in each row.
const OWN: &[SpecialSection] = &[
    special::BUG_TABLE,
    special::EX_TABLE,
    special::JUMP_TABLE,
    SpecialSection::exact(
        ".altinstructions",
        // 13 bytes up to 5.15, 12 up to 6.2, then 14. An entry that only removes code has no replacement: its field is
        // empty (asm/cpufeature.h, `_static_cpu_has`, up to 5.10), or it points at the start of the next replacement.
        Split::OneOf(&[
            Shape::new(12, &[0], &[4]).copied(11),
            Shape::new(13, &[0], &[4]).copied(11),
            Shape::new(14, &[0], &[4]).copied(13),
        ]),
        "struct alt_instr, asm/alternative.h",
    )
    .of_replacements()
    .early(),
    special::REPLACEMENTS,
    SpecialSection::exact(
        ".altinstr_aux",
        Split::Targets,
        "out-of-line code of static_cpu_has(); pointed at by the site",
    )
    .in_place(),
    // Up to 5.15.
    special::FIXUP,
    SpecialSection::exact(
        ".text..refcount",
        Split::Targets,
        "out-of-line code of refcount_inc() and its kin, asm/refcount.h, 4.15 to 5.4; pointed at by the site",
    )
    .in_place(),
    SpecialSection::exact(
        ".smp_locks",
        Split::Entries(4),
        "offsets of lock prefixes, asm/alternative.h",
    ),
    SpecialSection::exact(
        ".kcfi_traps",
        Split::Entries(4),
        "offsets of kCFI traps, include/linux/cfi.h",
    ),
    SpecialSection::exact(
        ".parainstructions",
        Split::Padded(16),
        "struct paravirt_patch_site, asm/paravirt_types.h, up to 6.7",
    )
    .early(),
    special::RUNTIME_CONSTANTS,
    SpecialSection::exact(
        ".discard.unwind_hints",
        Split::Entries(12),
        "struct unwind_hint, include/linux/objtool_types.h",
    ),
    SpecialSection::prefix(".retpoline_sites", Split::Drop, "made by objtool on the linked module"),
    SpecialSection::prefix(".return_sites", Split::Drop, "made by objtool on the linked module"),
    SpecialSection::prefix(".call_sites", Split::Drop, "made by objtool on the linked module"),
    SpecialSection::prefix(".cfi_sites", Split::Drop, "made by objtool on the linked module"),
    SpecialSection::exact(
        ".static_call_sites",
        Split::Entries(8),
        "struct static_call_site, include/linux/static_call_types.h; there only if objtool has run already",
    )
    .keyed(KeyField::Call(1))
    .early(),
    SpecialSection::prefix(".ibt_endbr_seal", Split::Drop, "made by objtool on the linked module"),
    SpecialSection::prefix(".orc_", Split::Drop, "made by objtool on the linked module"),
    SpecialSection::exact(
        "__mcount_loc",
        Split::Drop,
        "made by objtool on the linked module, or anew where the compiler made it",
    ),
    SpecialSection::exact(
        ".discard.addressable",
        Split::Drop,
        "keeps symbols alive in the TU; made anew for the static call keys in use",
    ),
    // The place behind an instruction, which may be the last one of its function.
    SpecialSection::prefix(
        ".discard.reachable",
        Split::Entries(4),
        "annotations for objtool, include/linux/objtool.h",
    )
    .from_entry(&[0]),
    SpecialSection::prefix(
        ".discard.unreachable",
        Split::Entries(4),
        "annotations for objtool, include/linux/compiler.h",
    )
    .from_entry(&[0]),
    SpecialSection::prefix(
        ".discard.",
        Split::Relocs(1),
        "annotations for objtool, include/linux/objtool.h",
    ),
];

const SPECIAL: &[SpecialSection] = &joined::<{ OWN.len() + COMMON.len() }>(OWN);

#[cfg(test)]
mod tests {
    use super::*;

    fn field(code: &[u8], offset: u64) -> Option<CodeField> {
        X86_64.code_map(code, &[offset]).fields[0]
    }

    #[test]
    fn bias_counts_to_the_end_of_the_instruction() {
        // cmpl $0x1, disp(%rip): one immediate byte follows the field.
        let code = [0x83, 0x3d, 0, 0, 0, 0, 1];
        assert_eq!(
            field(&code, 2),
            Some(CodeField {
                bias: 5,
                usage: Use::Access
            })
        );
        // mov disp(%rip), %rax
        let code = [0x48, 0x8b, 0x05, 0, 0, 0, 0];
        assert_eq!(
            field(&code, 3),
            Some(CodeField {
                bias: 4,
                usage: Use::Access
            })
        );
    }

    #[test]
    fn an_address_that_is_taken_or_indexed_is_no_access() {
        // lea disp(%rip), %rax ; mov $imm, %rax ; mov disp(,%rax,4), %eax ; movl $imm, disp
        let code = [
            0x48, 0x8d, 0x05, 0, 0, 0, 0, 0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0x8b, 0x04, 0x85, 0, 0, 0, 0, 0xc7, 0x04, 0x25,
            0, 0, 0, 0, 0, 0, 0, 0,
        ];
        let map = X86_64.code_map(&code, &[3, 10, 17, 24, 28]);
        let usage: Vec<_> = map.fields.iter().map(|field| field.expect("a field").usage).collect();
        let (address, access) = (Use::Address, Use::Access);
        assert_eq!(usage, [address, address, address, access, address]);
    }

    #[test]
    fn what_stops_control_and_what_does_not() {
        // jmp ; jmp and filler ; ret ; ud2 ; int3 alone
        for code in [
            &[0xe9, 0, 0, 0, 0][..],
            &[0xeb, 0, 0x90, 0xcc],
            &[0xc3],
            &[0x0f, 0x0b],
            &[0xcc, 0xcc],
        ] {
            assert!(!X86_64.runs_on(code), "{code:x?}");
        }
        // nop ; jmp, then inc ; je ; call ; half of a jmp
        for code in [
            &[0x90][..],
            &[0xeb, 0, 0xff, 0xc0],
            &[0x74, 0],
            &[0xe8, 0, 0, 0, 0],
            &[0xe9, 0],
        ] {
            assert!(X86_64.runs_on(code), "{code:x?}");
        }
    }

    #[test]
    fn calls_and_jumps_are_branches() {
        assert_eq!(
            field(&[0xe8, 0, 0, 0, 0], 1),
            Some(CodeField {
                bias: 4,
                usage: Use::Branch
            })
        );
        assert_eq!(
            field(&[0x0f, 0x84, 0, 0, 0, 0], 2),
            Some(CodeField {
                bias: 4,
                usage: Use::Branch
            })
        );
    }

    #[test]
    fn a_filled_in_call_is_found_with_its_target() {
        // call +1 ; nop ; ret
        let code = [0xe8, 1, 0, 0, 0, 0x90, 0xc3];
        let map = X86_64.code_map(&code, &[]);
        assert_eq!(
            map.filled,
            vec![FilledReference {
                offset: 1,
                size: 4,
                bias: 4,
                movable: true,
                target: 6,
                usage: Use::Branch
            }]
        );
    }

    #[test]
    fn a_filled_in_operand_counts_from_the_end_of_its_instruction() {
        // cmpl $1, 1(%rip) ; nop ; ret
        let code = [0x83, 0x3d, 1, 0, 0, 0, 1, 0x90, 0xc3];
        let row = FilledReference {
            offset: 2,
            size: 4,
            bias: 5,
            movable: true,
            target: 8,
            usage: Use::Address,
        };
        assert_eq!(X86_64.code_map(&code, &[]).filled, vec![row]);
        assert_eq!(X86_64.code_map(&code, &[2]).filled, vec![]);
    }

    #[test]
    fn short_branches_have_fields_of_one_byte() {
        // jrcxz +1 ; jmp +1 ; je +1 ; loop +0
        let code = [0xe3, 1, 0xeb, 1, 0x74, 1, 0xe2, 0, 0xc3];
        let map = X86_64.code_map(&code, &[]);
        let fields: Vec<_> = map
            .filled
            .iter()
            .map(|branch| (branch.offset, branch.size, branch.target))
            .collect();
        assert_eq!(fields, [(1, 1, 3), (3, 1, 5), (5, 1, 7), (7, 1, 8)]);
    }

    #[test]
    fn a_runtime_constant_becomes_a_load() {
        // movabs $0x0123456789abcdef, %r9
        let code = [0x49, 0xb9, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01];
        let load = X86_64
            .runtime_const("runtime_ptr_USER_PTR_MAX", &code, 2)
            .expect("the pattern is known");
        assert_eq!(load.variable, "USER_PTR_MAX");
        assert_eq!(load.bytes, [0x4c, 0x8b, 0x0d, 0, 0, 0, 0, 0x0f, 0x1f, 0x00]);
        assert_eq!(load.reloc_offset, 3);
        assert!(X86_64.runtime_const("runtime_shift_d_hash_shift", &code, 2).is_none());
    }

    #[test]
    fn unknown_relocation_types_are_undecided() {
        assert_eq!(FACTS.relocs.kind(elf::R_X86_64_GOTPCRELX.0), None);
    }

    #[test]
    fn the_table_is_full_and_own_rows_come_first() {
        assert!(SPECIAL.iter().any(|row| row.name == "_kprobe_blacklist"));
        let row = SPECIAL
            .iter()
            .find(|row| row.covers(".discard.unwind_hints"))
            .expect("listed");
        assert_eq!(row.split, Split::Entries(12));
    }
}
