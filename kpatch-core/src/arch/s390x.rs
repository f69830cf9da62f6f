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
    Arch, Arguments, CodeField, CodeMap, Facts, FilledReference, Held, LineArgument, LoaderFacts, ObjtoolFacts,
    RelocKind, RelocTypes, Tracing, TracingFacts, Use,
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
            let number = |nibble: u8| (2..=6).contains(&nibble).then(|| nibble - 1);
            match (insn, number(insn[1] >> 4), field) {
                // lhi, lghi.
                (&[0xa7, second, ..], Some(number), None) if matches!(second & 15, 8 | 9) => {
                    held.set(number, Held::Constant(start + 2..start + 4));
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
                _ if branch(insn).is_some() || ends_block(insn) => held = Arguments::default(),
                _ => {
                    for byte in insn.iter().skip(1).step_by(2) {
                        let numbers = [number(byte >> 4), number(byte & 15)];
                        numbers
                            .into_iter()
                            .flatten()
                            .for_each(|number| held.set(number, Held::Unknown));
                    }
                }
            }
        }
        found
    }
}

static FACTS: Facts = Facts {
    name: "s390",
    machine: elf::EM_S390,
    big_endian: true,
    relocs: TYPES,
    slot_section: None,
    has_module_pointer: false,
    loader: LoaderFacts {
        accepts: None,
        writes_protected: None,
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

/// bcr, basr, bc, bas; and load multiple, which writes more registers than its fields name.
fn ends_block(insn: &[u8]) -> bool {
    matches!(insn.first(), Some(0x07 | 0x0d | 0x47 | 0x4d | 0x98)) || insn.first() == Some(&0xeb)
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
    branches: &[elf::R_390_PLT16DBL, elf::R_390_PLT32DBL],
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
    fn types_that_no_kernel_has_are_undecided() {
        assert_eq!(FACTS.relocs.kind(elf::R_390_TLS_LE64.0), None);
        assert_eq!(FACTS.relocs.kind(elf::R_390_20.0), None);
    }
}
