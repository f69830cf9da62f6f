//! What machines with 4-byte instructions have in common.

use super::arguments::{Arguments, Held};
use super::{CodeField, CodeMap, FilledReference, LineArgument, Use};

/// Bytes of an instruction.
pub const SIZE: usize = 4;

/// The little-endian instructions of some code, with their offsets.
pub fn instructions(code: &[u8]) -> impl Iterator<Item = (u64, u32)> {
    code.chunks_exact(SIZE).enumerate().map(|(index, bytes)| {
        let bytes: [u8; SIZE] = bytes.try_into().expect("chunks_exact gives four bytes");
        ((index * SIZE) as u64, u32::from_le_bytes(bytes))
    })
}

/// The little-endian instruction at an offset.
pub fn word(code: &[u8], offset: u64) -> Option<u32> {
    let start = usize::try_from(offset).ok()?;
    let bytes: [u8; SIZE] = code.get(start..start.checked_add(SIZE)?)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

/// A branch: its distance in bytes, and whether a relocation can replace it.
pub type Branch = (i64, bool);

/// Decodes a text section. `branch` gives the distance of a branch instruction.
pub fn code_map(
    code: &[u8],
    relocs: &[u64],
    is_branch: impl Fn(u32) -> bool,
    branch: impl Fn(u32) -> Option<Branch>,
) -> CodeMap {
    let field = |offset: &u64| {
        let insn = word(code, *offset)?;
        Some(CodeField {
            bias: 0,
            usage: if is_branch(insn) { Use::Branch } else { Use::Address },
        })
    };
    let filled = instructions(code).filter_map(|(offset, insn)| {
        let (distance, movable) = branch(insn)?;
        let target = offset
            .checked_add_signed(distance)
            .filter(|target| *target <= code.len() as u64)?;
        let free = relocs.binary_search(&offset).is_err();
        free.then_some(FilledReference {
            offset,
            size: SIZE as u8,
            bias: 0,
            movable,
            target,
            usage: Use::Branch,
        })
    });
    CodeMap {
        fields: relocs.iter().map(field).collect(),
        filled: filled.collect(),
    }
}

/// What one instruction does to the registers of arguments.
pub enum Effect {
    /// It puts a constant into an argument, counted from 1.
    Constant(u8),
    /// It completes an address in an argument, if it has a relocation.
    Address(u8),
    /// It is a branch; with a relocation, a call. Afterwards nothing is known about any argument.
    Call,
    /// It may write to these arguments.
    Writes([Option<u8>; 3]),
}

/// The constants that straight-line code puts into the arguments of its calls.
pub fn constants(code: &[u8], relocs: &[usize], effect: impl Fn(u32) -> Effect) -> Vec<LineArgument> {
    let mut held = Arguments::default();
    let mut found = Vec::new();
    for (offset, insn) in instructions(code) {
        let start = offset as usize;
        let field = relocs.binary_search(&start).ok();
        match effect(insn) {
            Effect::Constant(number) => {
                let value = if field.is_some() {
                    Held::Unknown
                } else {
                    Held::Constant(start..start + SIZE)
                };
                held.set(number, value);
            }
            Effect::Address(number) => held.set(number, field.map_or(Held::Unknown, |_| Held::Address(start))),
            Effect::Call => {
                if field.is_some() {
                    found.extend(held.report(start));
                }
                held = Arguments::default();
            }
            Effect::Writes(numbers) => numbers
                .into_iter()
                .flatten()
                .for_each(|number| held.set(number, Held::Unknown)),
        }
    }
    found
}

/// The value of the lowest `bits` bits of a field, as a signed number.
pub fn signed(value: u32, bits: u32) -> i64 {
    let shift = 64 - bits;
    (i64::from(value) << shift) >> shift
}
