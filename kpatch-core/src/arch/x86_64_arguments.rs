//! Which constants of x86-64 code are arguments of which call.
//!
//! psABI, section 3.2.3: integer arguments go into rdi, rsi, rdx, rcx, r8 and r9. Only straight-line code between the
//! instruction that sets a register and the call counts: after a branch the register may hold something else.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

use super::LineArgument;
use super::arguments::{Arguments, Held};

/// The registers of the first six arguments, in order.
pub(super) const ARGUMENTS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// The constants that straight-line code puts into the argument registers of its calls.
pub fn constants(code: &[u8], relocs: &[usize]) -> Vec<LineArgument> {
    let mut found = Vec::new();
    let mut held = Arguments::default();
    let mut info = InstructionInfoFactory::new();
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut insn = Instruction::default();
    while decoder.can_decode() {
        let start = decoder.position();
        decoder.decode_out(&mut insn);
        let end = decoder.position();
        let first = relocs.partition_point(|at| *at < start);
        let field = relocs.get(first).copied().filter(|at| *at < end);
        match insn.flow_control() {
            FlowControl::Next => {
                for used in info.info(&insn).used_registers() {
                    let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
                    if written && let Some(number) = argument(used.register()) {
                        held.set(number, Held::Unknown);
                    }
                }
                if let Some(number) = argument(insn.op0_register()) {
                    held.set(number, value(&insn, start, end, field, &decoder));
                }
            }
            // A jump with a relocation leaves the function: a sibling call.
            FlowControl::Call | FlowControl::UnconditionalBranch => {
                if let Some(call) = field {
                    found.extend(held.report(call));
                }
                held = Arguments::default();
            }
            _ => held = Arguments::default(),
        }
    }
    found
}

/// Which argument a register holds, counted from 1.
fn argument(register: Register) -> Option<u8> {
    let full = register.full_register();
    let index = ARGUMENTS.iter().position(|argument| *argument == full)?;
    Some(index as u8 + 1)
}

fn value(insn: &Instruction, start: usize, end: usize, field: Option<usize>, decoder: &Decoder<'_>) -> Held {
    let address = field.map_or(Held::Unknown, Held::Address);
    match insn.code() {
        Code::Mov_r32_imm32 | Code::Mov_rm64_imm32 | Code::Mov_r64_imm64 => match field {
            Some(field) => Held::Address(field),
            None => {
                let place = decoder.get_constant_offsets(insn);
                let from = start + place.immediate_offset();
                let to = from + place.immediate_size();
                if to <= end {
                    Held::Constant(from..to)
                } else {
                    Held::Unknown
                }
            }
        },
        Code::Lea_r64_m => address,
        _ => Held::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_before_the_call_counts() {
        // mov $1,%esi ; mov $2,%esi ; mov $0,%rdi (relocated) ; call
        let code = [
            0xbe, 1, 0, 0, 0, 0xbe, 2, 0, 0, 0, 0x48, 0xc7, 0xc7, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0,
        ];
        let found = constants(&code, &[13, 18]);
        assert_eq!(
            found,
            [LineArgument {
                constant: 6..10,
                number: 2,
                call: 18,
                others: vec![(1, 13)]
            }]
        );
    }

    #[test]
    fn a_jump_or_another_write_ends_the_knowledge() {
        // mov $1,%esi ; jmp +0 ; call
        assert!(constants(&[0xbe, 1, 0, 0, 0, 0xeb, 0, 0xe8, 0, 0, 0, 0], &[8]).is_empty());
        // mov $1,%esi ; add %eax,%esi ; call
        assert!(constants(&[0xbe, 1, 0, 0, 0, 0x01, 0xc6, 0xe8, 0, 0, 0, 0], &[8]).is_empty());
    }
}
