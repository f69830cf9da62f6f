//! 64-bit IBM Z, big endian.
//!
//! Unusual: instructions have two, four or six bytes. A relocated distance follows the opcode but counts from the start
//! of the instruction, so addends are two more than the offset that is meant. Distances count halfwords. A traceable
//! function begins with a six-byte NOP, and no relocation or table marks it.
//!
//! ABI: "s390x ELF Application Binary Interface", version 1.6.1, section 1.2.7 (relocation). What the kernel's module
//! loader accepts: arch/s390/kernel/module.c, `apply_rela` (6.12).

use object::elf;

use super::special::{self, COMMON, SpecialSection, Split, joined};
use super::types::{absolute, relative};
use super::{
    Arch, Arguments, CodeField, CodeMap, Exchange, Facts, FilledReference, Held, LineArgument, LoaderFacts,
    ObjtoolFacts, RelocKind, RelocTypes, Tracing, TracingFacts, Use,
};

/// The one value of this architecture.
pub struct S390x;

impl Arch for S390x {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn code_map(&self, code: &[u8], relocs: &[u64]) -> CodeMap {
        let mut map = CodeMap {
            fields: vec![None; relocs.len()],
            filled: Vec::new(),
        };
        let mut next = 0;
        for (start, insn) in instructions(code) {
            let end = start + insn.len();
            let mut relocated = false;
            while let Some(&offset) = relocs.get(next).filter(|&&offset| (offset as usize) < end) {
                if offset as usize >= start {
                    map.fields[next] = Some(CodeField {
                        bias: -((offset as usize - start) as i16),
                        usage: if branch(insn).is_some() {
                            Use::Branch
                        } else {
                            Use::Address
                        },
                    });
                    relocated = true;
                }
                next += 1;
            }
            let named = branch(insn).map(|(size, distance)| (size, distance, Use::Branch));
            let named = named.or_else(|| Some((4, address(insn)?, Use::Address)));
            if !relocated && let Some((size, distance, usage)) = named {
                let target = (start as u64).checked_add_signed(distance);
                map.filled.extend(
                    target
                        .filter(|target| *target <= code.len() as u64)
                        .map(|target| FilledReference {
                            offset: start as u64 + 2,
                            size,
                            bias: -2,
                            movable: size == 4,
                            target,
                            usage,
                        }),
                );
            }
        }
        map
    }

    /// `brasl` and `bras`, whose relocated distance follows two bytes of opcode.
    fn is_call(&self, code: &[u8], offset: u64) -> bool {
        let start = offset.checked_sub(2).and_then(|start| usize::try_from(start).ok());
        let opcode = start.and_then(|start| code.get(start..)?.first_chunk::<2>().copied());
        opcode.is_some_and(|[first, second]| matches!((first, second & 15), (0xc0 | 0xa7, 5)))
    }

    /// `lgrl` of a slot becomes `larl`, as linkers do it.
    fn without_slot(&self, code: &[u8], offset: u64, r_type: u32) -> Option<Exchange> {
        let register = address_opcode(code, offset, 0xc4, 8).filter(|_| r_type == elf::R_390_GOTENT.0)?;
        Some(Exchange {
            start: offset - 2,
            bytes: [0xc0, register],
            r_type: elf::R_390_PC32DBL.0,
        })
    }

    /// `larl` becomes `lgrl` of a slot that is aligned to eight bytes, as it must be.
    fn with_slot(&self, code: &[u8], offset: u64, r_type: u32) -> Option<Exchange> {
        let distance = [elf::R_390_PC32DBL.0, elf::R_390_PLT32DBL.0].contains(&r_type);
        let register = address_opcode(code, offset, 0xc0, 0).filter(|_| distance)?;
        Some(Exchange {
            start: offset - 2,
            bytes: [0xc4, register | 8],
            r_type: elf::R_390_PC32DBL.0,
        })
    }

    fn is_branch(&self, code: &[u8], offset: u64) -> bool {
        let start = offset.checked_sub(2).and_then(|start| usize::try_from(start).ok());
        start
            .and_then(|start| code.get(start..))
            .is_some_and(|insn| branch(insn).is_some())
    }

    /// The ABI, section 1.2.3: r2 to r6.
    fn constant_arguments(&self, code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
        let mut held = Arguments::default();
        let mut found = Vec::new();
        for (start, insn) in instructions(code) {
            let first = relocs.partition_point(|at| *at < start);
            let field = relocs.get(first).copied().filter(|at| *at < start + insn.len());
            let number = |register: u8| (2..=6).contains(&register).then(|| register - 1);
            match (insn, number(insn[1] >> 4), field) {
                // lhi, lghi.
                (&[0xa7, second, ..], Some(number), None) if matches!(second & 15, 8 | 9) => {
                    held.set(number, Held::Constant(start + 2..start + 4));
                }
                // llill; lgfi: numbers that are too large for lghi.
                (&[0xa5, second, ..], Some(number), None) if second & 15 == 15 => {
                    held.set(number, Held::Constant(start + 2..start + 4));
                }
                (&[0xc0, second, ..], Some(number), None) if second & 15 == 1 => {
                    held.set(number, Held::Constant(start + 2..start + 6));
                }
                // larl.
                (&[0xc0, second, ..], Some(number), Some(field)) if second & 15 == 0 => {
                    held.set(number, Held::Address(field));
                }
                // brasl is a call, brcl 15 a sibling call. After any other branch nothing is known.
                (&[0xc0, second, ..], _, Some(call)) if second & 15 == 5 || second == 0xf4 => {
                    found.extend(held.report(call));
                    held = Arguments::default();
                }
                _ if branch(insn).is_some() => held = Arguments::default(),
                _ => match writes(insn) {
                    Some(fields) => {
                        // A result may take a pair of registers, of which the field names the even one.
                        let registers = fields.into_iter().flatten().flat_map(|field| [field, field | 1]);
                        for number in registers.filter_map(number) {
                            held.set(number, Held::Unknown);
                        }
                    }
                    None => held = Arguments::default(),
                },
            }
        }
        found
    }
}

static FACTS: Facts = Facts {
    name: "s390",
    machine: elf::EM_S390,
    big_endian: true,
    section_anchors: true,
    relocs: TYPES,
    slot_section: None,
    has_module_pointer: false,
    loader: LoaderFacts {
        accepts: None,
        writes_protected: None,
        // `apply_rela` looks at `got_initialized` of the symbol.
        fills_once: &[elf::R_390_GOTENT],
        // Per-CPU variables lie in the dynamic area, and until 6.9 modules do as well, far from the image
        // (arch/s390/boot/startup.c, `setup_kernel_memory_layout`). Since then the image is up to 4 GB away, and QEMU before
        // 8.0 mistakes distances of more than 2 GB, but for branches (target/s390x/tcg/translate.c, `gen_ri2`).
        far_data: true,
        late_stub: None,
        // It overwrites whole fields.
        wants_zero_fields: false,
        own_names: &[],
        own_prefixes: &[],
    },
    tracing: TracingFacts {
        // arch/s390/kernel/ftrace.c (6.12): `brcl 0,0` (`jgnop`), left by -mnop-mcount.
        mark: Tracing::Bytes(&[0xc0, 0x04, 0, 0, 0, 0]),
        callee: None,
        max_offset: 0,
        before_entry: 0,
        patched: 0,
        opcode: 0,
        call: None,
        lists_sites: true,
    },
    landing: None,
    special_sections: SPECIAL,
    objtool: ObjtoolFacts {
        derived: &[],
        required: &[],
        unwind: None,
        unwind_misfits: None,
        unlisted: None,
    },
};

/// "z/Architecture Principles of Operation", chapter 5: the first two bits of an instruction tell its length.
fn instructions(code: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let length = match code.get(start)? >> 6 {
            0 => 2,
            3 => 6,
            _ => 4,
        };
        let insn = code.get(start..start + length)?;
        start += length;
        Some((start - length, insn))
    })
}

/// Size of the distance field of a relative branch in bytes, and the distance in bytes. The field is always two bytes
/// behind the start of the instruction.
fn branch(insn: &[u8]) -> Option<(u8, i64)> {
    let short = |insn: &[u8]| Some((2, 2 * i64::from(i16::from_be_bytes([*insn.get(2)?, *insn.get(3)?]))));
    match (*insn.first()?, *insn.get(1)?) {
        // brc, bras, brct, brctg.
        (0xa7, second) if (4..=7).contains(&(second & 15)) => short(insn),
        // brxh, brxle.
        (0x84 | 0x85, _) => short(insn),
        // brcl, brasl.
        (0xc0, second) if matches!(second & 15, 4 | 5) => {
            let field: [u8; 4] = insn.get(2..6)?.try_into().ok()?;
            Some((4, 2 * i64::from(i32::from_be_bytes(field))))
        }
        // Compare and branch relative; brxhg, brxlg.
        (0xec, _) if matches!(insn.get(5)?, 0x44 | 0x45 | 0x64 | 0x65 | 0x76 | 0x77 | 0x7c..=0x7f) => short(insn),
        _ => None,
    }
}

/// The distance in bytes to the operand of an instruction that addresses it relatively, with a 4-byte field
/// ("z/Architecture Principles of Operation", appendix B, format RIL-b and RIL-c).
fn address(insn: &[u8]) -> Option<i64> {
    match (*insn.first()?, insn.get(1)? & 15) {
        // larl; loads and stores relative long; compares relative long, exrl, pfdrl.
        (0xc0, 0) | (0xc4 | 0xc6, _) => {
            let field: [u8; 4] = insn.get(2..6)?.try_into().ok()?;
            Some(2 * i64::from(i32::from_be_bytes(field)))
        }
        _ => None,
    }
}

/// The register field, in its place, of an instruction with this opcode whose relocated distance lies at `offset`.
fn address_opcode(code: &[u8], offset: u64, first: u8, second: u8) -> Option<u8> {
    let start = usize::try_from(offset.checked_sub(2)?).ok()?;
    let insn: &[u8; 6] = code.get(start..)?.first_chunk()?;
    (insn[0] == first && insn[1] & 15 == second).then_some(insn[1] & 0xf0)
}

/// The register fields that an instruction may write, by its format ("z/Architecture Principles of Operation", appendix B);
/// `None` if it goes elsewhere, or if the format does not tell.
fn writes(insn: &[u8]) -> Option<[Option<u8>; 2]> {
    let byte = |at: usize| insn.get(at).copied().unwrap_or(0);
    let (first, third) = (Some(byte(1) >> 4), Some(byte(1) & 15));
    match byte(0) {
        // bcr to the address in no register: a NOP that the assembler fills up with, or a barrier.
        0x07 if byte(1) & 0xf0 == 0 || byte(1) & 15 == 0 => Some([None, None]),
        // RR, but for branches and what moves memory.
        0x10..=0x1f => Some([first, None]),
        // RX: stores, then what loads and calculates.
        0x40 | 0x42 | 0x50 | 0x60 | 0x70 => Some([None, None]),
        0x41 | 0x43 | 0x48..=0x4c | 0x54..=0x5f | 0x68..=0x6f | 0x71 | 0x78..=0x7f => Some([first, None]),
        // RS: shifts; store multiple.
        0x88..=0x8f => Some([first, None]),
        0x90 => Some([None, None]),
        // SI: tm, mvi, ni, cli, oi, xi, mc; stnsm, stosm.
        0x91 | 0x92 | 0x94..=0x97 | 0xac | 0xad | 0xaf => Some([None, None]),
        // RI: immediates, and tests of them.
        0xa5 | 0xa7 => Some([first, None]),
        // RRE: loads and arithmetic of 64 bits; then RRE and RRF.
        0xb9 if matches!(byte(1), 0x00..=0x1f | 0x80..=0x8a) => Some([Some(byte(3) >> 4), None]),
        0xb2 | 0xb3 | 0xb9 => Some([Some(byte(3) >> 4), Some(byte(3) & 15)]),
        // RS: cs, cds, clm, stcm, icm.
        0xba | 0xbb | 0xbd..=0xbf => Some([first, None]),
        // RIL.
        0xc0 | 0xc2 | 0xc4 | 0xc6 | 0xcc => Some([first, None]),
        // SS: mvc and its kin; SIL: mvhi and its kin.
        0xd1..=0xd7 => Some([None, None]),
        0xe5 if matches!(byte(1), 0x44 | 0x48 | 0x4c | 0x54..=0x5d) => Some([None, None]),
        // RXY: stg, sthy, sty, stcy, stmh; then what loads and calculates.
        0xe3 if matches!(byte(5), 0x24 | 0x25 | 0x2f | 0x3e | 0x3f | 0x50 | 0x70 | 0x72) => Some([None, None]),
        0xe3 => Some([first, None]),
        // RSY: stmg, stmh; SIY: tmy, mviy, niy, cliy, oiy, xiy, asi, alsi, agsi, algsi.
        0xeb if matches!(
            byte(5),
            0x24 | 0x26 | 0x51 | 0x52 | 0x54..=0x57 | 0x6a | 0x6e | 0x7a | 0x7e
        ) =>
        {
            Some([None, None])
        }
        // Shifts; compare and swap; load and add, and its kin; stcmh, icmh; load on condition.
        0xeb if matches!(
            byte(5),
            0x0a..=0x0d | 0x14 | 0x1c | 0x1d | 0x2c | 0x30 | 0x31 | 0x3e | 0x80 | 0x81
        ) || matches!(byte(5), 0xdc..=0xdf | 0xe2..=0xe8 | 0xea | 0xf2..=0xf8 | 0xfa) =>
        {
            Some([first, third])
        }
        // RIE: risbg and its kin, additions of an immediate.
        0xec => Some([first, None]),
        _ => None,
    }
}

/// The types that the module loader handles and compilers use. For GOTENT the loader makes a GOT slot for the symbol.
const TYPES: &RelocTypes = &RelocTypes {
    prefix: "R_390",
    rows: &[
        (elf::R_390_NONE, "NONE", RelocKind::None),
        (elf::R_390_8, "8", absolute(1)),
        (elf::R_390_16, "16", absolute(2)),
        (elf::R_390_32, "32", absolute(4)),
        (elf::R_390_64, "64", absolute(8)),
        (elf::R_390_PC16, "PC16", relative(2)),
        (elf::R_390_PC16DBL, "PC16DBL", relative(2)),
        (elf::R_390_PLT16DBL, "PLT16DBL", relative(2)),
        (elf::R_390_PC32, "PC32", relative(4)),
        (elf::R_390_PC32DBL, "PC32DBL", relative(4)),
        (elf::R_390_PLT32DBL, "PLT32DBL", relative(4)),
        (elf::R_390_PC64, "PC64", relative(8)),
        (elf::R_390_GOTENT, "GOTENT", relative(4)),
    ],
    pointer: elf::R_390_64,
    filled_branch: elf::R_390_PLT32DBL,
    filled_address: elf::R_390_PC32DBL,
    // GCC also gives the type of a call to `larl` of a function's address, so the instruction decides.
    branches: &[],
};

const OWN: &[SpecialSection] = &[
    special::BUG_TABLE,
    special::EX_TABLE,
    special::JUMP_TABLE,
    special::ALTERNATIVES,
    special::REPLACEMENTS,
    SpecialSection::prefix(
        ".s390_return",
        Split::Entries(4),
        "places of expolines, arch/s390/include/asm/nospec-insn.h",
    ),
    SpecialSection::prefix(
        ".s390_indirect",
        Split::Entries(4),
        "places of expolines, arch/s390/include/asm/nospec-insn.h",
    ),
    special::RUNTIME_CONSTANTS,
    special::FIXUP,
    special::EMITTED_SITES,
    SpecialSection::prefix(".discard.", Split::Drop, "annotations for objtool, which does not run"),
];

const SPECIAL: &[SpecialSection] = &joined::<{ OWN.len() + COMMON.len() }>(OWN);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_count_from_the_start_of_their_instruction() {
        // larl %r2,. ; brasl %r14,.
        let code = [0xc0, 0x20, 0, 0, 0, 0, 0xc0, 0xe5, 0, 0, 0, 0];
        let map = S390x.code_map(&code, &[2, 8]);
        let rows: Vec<_> = map
            .fields
            .iter()
            .flatten()
            .map(|field| (field.bias, field.usage))
            .collect();
        assert_eq!(rows, [(-2, Use::Address), (-2, Use::Branch)]);
        assert!(map.filled.is_empty());
    }

    #[test]
    fn distances_count_halfwords() {
        // je +8 ; brcl 15,-4 ; cgrje %r2,%r3,-10
        let code = [
            0xa7, 0x84, 0, 4, 0xc0, 0xf4, 0xff, 0xff, 0xff, 0xfe, 0xec, 0x23, 0xff, 0xfb, 0x80, 0x64,
        ];
        let map = S390x.code_map(&code, &[]);
        let rows: Vec<_> = map
            .filled
            .iter()
            .map(|row| (row.offset, row.size, row.target))
            .collect();
        assert_eq!(rows, [(2, 2, 8), (6, 4, 0), (12, 2, 0)]);
    }

    #[test]
    fn operands_by_their_place() {
        // larl %r2,.+12 ; lgrl %r3,.-6
        let code = [0xc0, 0x20, 0, 0, 0, 6, 0xc4, 0x38, 0xff, 0xff, 0xff, 0xfd];
        let map = S390x.code_map(&code, &[]);
        let rows = map.filled.iter().map(|row| (row.offset, row.usage, row.target));
        assert_eq!(rows.collect::<Vec<_>>(), [(2, Use::Address, 12), (8, Use::Address, 0)]);
        assert!(S390x.code_map(&code, &[2, 8]).filled.is_empty());
    }

    #[test]
    fn a_constant_before_a_call_is_an_argument() {
        // lghi %r3,100 ; brasl
        let code = [0xa7, 0x39, 0, 100, 0xc0, 0xe5, 0, 0, 0, 0];
        let found = S390x.constant_arguments(&code, &[6]);
        assert_eq!(
            found
                .iter()
                .map(|row| (row.number, row.constant.clone()))
                .collect::<Vec<_>>(),
            [(2, 2..4)]
        );
    }

    #[test]
    fn only_what_writes_a_register_of_an_argument_loses_its_constant() {
        let found = |between: &[u8]| {
            // lghi %r4,100 ; ... ; brasl
            let code = [&[0xa7, 0x49, 0, 100][..], between, &[0xc0, 0xe5, 0, 0, 0, 0]].concat();
            S390x.constant_arguments(&code, &[code.len() - 4]).len()
        };
        // lgr %r12,%r6 ; mvi 72(%r1),64 ; lay %r15,-160(%r15) ; agsi 0(%r1),68 ; stg %r4,64(%r1) ; lg %r1,1032(%r3)
        for code in [
            &[0xb9, 0x04, 0x00, 0xc6][..],
            &[0x92, 0x40, 0x10, 0x48],
            &[0xe3, 0xf0, 0xff, 0x60, 0xff, 0x71],
            &[0xeb, 0x44, 0x10, 0x00, 0x00, 0x7a],
            &[0xe3, 0x40, 0x10, 0x40, 0x00, 0x24],
            &[0xe3, 0x10, 0x34, 0x08, 0x00, 0x04],
        ] {
            assert_eq!(found(code), 1, "{code:x?}");
        }
        // lgr %r4,%r12 ; lg %r4,0(%r1) ; lmg %r2,%r5,0(%r1) ; basr %r14,%r1 ; mlgr %r4,%r1 ; ahi %r4,1
        for code in [
            &[0xb9, 0x04, 0x00, 0x4c][..],
            &[0xe3, 0x40, 0x10, 0x00, 0x00, 0x04],
            &[0xeb, 0x25, 0x10, 0x00, 0x00, 0x04],
            &[0x0d, 0xe1],
            &[0xb9, 0x86, 0x00, 0x41],
            &[0xa7, 0x4a, 0, 1],
        ] {
            assert_eq!(found(code), 0, "{code:x?}");
        }
    }

    #[test]
    fn an_address_comes_from_a_slot_or_by_its_distance() {
        let exchange = |start, bytes, r_type: elf::RelocationType| {
            Some(Exchange {
                start,
                bytes,
                r_type: r_type.0,
            })
        };
        // larl %r3,. ; lgrl %r1,.
        let code = [0xc0, 0x30, 0, 0, 0, 0, 0xc4, 0x18, 0, 0, 0, 0];
        let (got, distance) = (elf::R_390_GOTENT, elf::R_390_PC32DBL);
        assert_eq!(S390x.without_slot(&code, 8, got.0), exchange(6, [0xc0, 0x10], distance));
        assert_eq!(
            S390x.with_slot(&code, 2, distance.0),
            exchange(0, [0xc4, 0x38], distance)
        );
        // A load of the variable itself, another instruction, and what is too short.
        for (offset, r_type) in [(8, distance), (2, got), (9, got), (1, got), (u64::MAX, got)] {
            assert_eq!(S390x.without_slot(&code, offset, r_type.0), None);
        }
        for (offset, r_type) in [(2, got), (8, distance), (0, distance), (11, distance)] {
            assert_eq!(S390x.with_slot(&code, offset, r_type.0), None);
        }
    }

    #[test]
    fn the_address_of_a_function_is_no_call_though_its_type_is_that_of_one() {
        let call = elf::R_390_PLT32DBL.0;
        assert!(!FACTS.relocs.is_branch(call));
        // larl %r3,. ; brasl %r14,.
        let code = [0xc0, 0x30, 0, 0, 0, 0, 0xc0, 0xe5, 0, 0, 0, 0];
        assert_eq!([2, 8].map(|offset| S390x.is_branch(&code, offset)), [false, true]);
        let slot = S390x.with_slot(&code, 2, call).map(|exchange| exchange.r_type);
        assert_eq!(
            (slot, S390x.with_slot(&code, 8, call)),
            (Some(elf::R_390_PC32DBL.0), None)
        );
    }

    #[test]
    fn types_that_no_kernel_has_are_undecided() {
        assert_eq!(FACTS.relocs.kind(elf::R_390_TLS_LE64.0), None);
        assert_eq!(FACTS.relocs.kind(elf::R_390_20.0), None);
    }
}
