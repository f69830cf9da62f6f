//! Whether code of x86-64 stays within what its relocations name.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Whether no instruction branches to a computed address, accesses a fixed one, or changes the processor's own state.
pub fn stays_by_name(code: &[u8]) -> bool {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut insn = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut insn);
        let computed = matches!(
            insn.flow_control(),
            FlowControl::IndirectCall | FlowControl::IndirectBranch | FlowControl::Interrupt
        );
        let own_state = insn.is_privileged()
            || matches!(
                insn.mnemonic(),
                Mnemonic::In
                    | Mnemonic::Out
                    | Mnemonic::Insb
                    | Mnemonic::Insd
                    | Mnemonic::Insw
                    | Mnemonic::Outsb
                    | Mnemonic::Outsd
                    | Mnemonic::Outsw
                    | Mnemonic::Wrpkru
                    | Mnemonic::Xsetbv
                    | Mnemonic::Wrfsbase
                    | Mnemonic::Wrgsbase
            );
        if insn.is_invalid() || (computed && insn.mnemonic() != Mnemonic::Int3) || own_state || is_fixed(&insn) {
            return false;
        }
    }
    true
}

/// Whether memory is accessed at an address that is in the instruction. Where a relocation fills it in, it is zero.
fn is_fixed(insn: &Instruction) -> bool {
    let memory = (0..insn.op_count()).any(|number| insn.op_kind(number) == OpKind::Memory);
    let computed = insn.memory_base() != Register::None || insn.memory_index() != Register::None;
    memory && !computed && insn.segment_prefix() == Register::None && insn.memory_displacement64() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_goes_by_pointers_or_to_the_processor_does_not_stay() {
        assert!(stays_by_name(&[0xf3, 0x0f, 0x1e, 0xfa, 0xe8, 0, 0, 0, 0, 0xc3, 0xcc]));
        assert!(stays_by_name(&[0x0f, 0x0b]), "ud2 of a warning");
        assert!(!stays_by_name(&[0xff, 0xd0]), "call *%rax");
        assert!(!stays_by_name(&[0xff, 0xe0]), "jmp *%rax");
        assert!(!stays_by_name(&[0xff, 0x15, 0, 0, 0, 0]), "call *x(%rip)");
        assert!(!stays_by_name(&[0x0f, 0x30]), "wrmsr");
        assert!(!stays_by_name(&[0x0f, 0x22, 0xe0]), "mov %rax,%cr4");
        assert!(!stays_by_name(&[0xee]), "out %al,(%dx)");
        assert!(
            !stays_by_name(&[0xc7, 0x04, 0x25, 0, 0, 0x5f, 0xff, 0, 0, 0, 0]),
            "movl $0,0xffffffffff5f0000"
        );
        assert!(!stays_by_name(&[0x06]), "no instruction");
    }
}
