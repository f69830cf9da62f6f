//! Which constants of powerpc code are arguments of which call.
//!
//! ELFv2 ABI, section 2.2.3.3: integer arguments go into r3 to r10. Only `li` and the last instruction of an address
//! are decoded; any other instruction that may write an argument register makes it unknown.

use super::LineArgument;
use super::arguments::{Arguments, Held};

/// r3 holds the first argument.
const FIRST: usize = 3;

const ADDI: u32 = 14;
const LD: u32 = 58;
/// `b` and `bl`; a jump with a relocation is a sibling call.
const BRANCH: u32 = 18;
const BRANCHES: [u32; 4] = [16, 17, BRANCH, 19];

/// The constants that straight-line code puts into the argument registers of its calls.
pub fn constants(code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
    let mut found = Vec::new();
    let mut held = Arguments::default();
    for (index, word) in code.chunks_exact(4).enumerate() {
        let start = 4 * index;
        let insn = u32::from_le_bytes(word.try_into().expect("chunks_exact gives four bytes"));
        let first = relocs.partition_point(|at| *at < start);
        let field = relocs.get(first).copied().filter(|at| *at < start + 4);
        let opcode = insn >> 26;
        if BRANCHES.contains(&opcode) {
            if let Some(call) = field.filter(|_| opcode == BRANCH) {
                found.extend(held.report(call));
            }
            held = Arguments::default();
            continue;
        }
        let (target, base) = ((insn >> 21 & 31) as usize, (insn >> 16 & 31) as usize);
        for register in [target, base] {
            // The second register is where logical and update instructions write; `li` and addresses only read it.
            let only_reads =
                register == base && register != target && (opcode == ADDI || opcode == LD && insn & 3 == 0);
            if !only_reads {
                held.set(number(register), Held::Unknown);
            }
        }
        let value = match (opcode, base, field) {
            (ADDI, 0, None) => Held::Constant(start..start + 2),
            (ADDI, _, Some(field)) => Held::Address(field),
            (LD, _, Some(field)) if insn & 3 == 0 => Held::Address(field),
            _ => continue,
        };
        held.set(number(target), value);
    }
    found
}

/// Which argument a register holds, counted from 1; 0: none.
fn number(register: usize) -> u8 {
    (register + 1).saturating_sub(FIRST) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn li_before_a_call_is_an_argument() {
        // addi r3,r3,0 (relocated) ; li r4,100 ; bl (relocated)
        let found = constants(&code(&[0x3863_0000, 0x3880_0064, 0x4800_0001]), &[0, 8]);
        assert_eq!(
            found,
            [LineArgument {
                constant: 4..6,
                number: 2,
                call: 8,
                others: vec![(1, 0)]
            }]
        );
    }

    #[test]
    fn another_write_or_a_branch_ends_the_knowledge() {
        // li r4,100 ; mr r4,r5 ; bl
        assert!(constants(&code(&[0x3880_0064, 0x7ca4_2b78, 0x4800_0001]), &[8]).is_empty());
        // li r4,100 ; b ; bl
        assert!(constants(&code(&[0x3880_0064, 0x4800_0004, 0x4800_0001]), &[8]).is_empty());
    }
}
