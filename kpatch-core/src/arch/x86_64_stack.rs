//! What functions of x86-64 have on the stack.

use std::collections::BTreeSet;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};
use object::elf;

use super::detour::{CodePiece, DetourCode, DetourField, Leads};
use super::x86_64_thunks::RETURN_THUNK;

/// A call with a frame of its own, so that it is right with frame pointers, too:
/// `push %rbp; mov %rsp,%rbp; call f; pop %rbp`, and the way back with the `int3` behind it that straight-line speculation
/// must meet.
pub fn detour(has_thunk: &dyn Fn(&str) -> bool) -> DetourCode {
    let mut bytes = vec![0x55, 0x48, 0x89, 0xe5, 0xe8, 0, 0, 0, 0, 0x5d];
    let field = |offset: usize| DetourField {
        offset: offset as u64,
        r_type: elf::R_X86_64_PLT32.0,
        addend: -4,
    };
    let call = field(5);
    let back = has_thunk(RETURN_THUNK).then(|| (field(bytes.len() + 1), RETURN_THUNK));
    match back {
        Some(_) => bytes.extend([0xe9, 0, 0, 0, 0, 0xcc]),
        None => bytes.extend([0xc3, 0xcc]),
    }
    DetourCode { bytes, call, back }
}

/// Bytes from the stack pointer up to its place at the function's entry, and the same for the frame pointer if it is one.
type Depth = (i64, Option<i64>);

/// An offset of a piece of code.
type At = (usize, u64);

/// How many states of a function are looked at.
const LIMIT: usize = 1 << 16;

/// Follows every path through a function, and looks at what it reads and hands out of the stack. A path that leads away,
/// and anything that moves the stack pointer in another way than compilers do, means that nothing is certain: what the
/// function jumps to may have arguments on the stack as well.
pub fn has_all_arguments_in_registers(pieces: &[CodePiece<'_>]) -> bool {
    let mut seen: BTreeSet<(At, Depth)> = BTreeSet::new();
    let mut open: Vec<(At, Depth)> = vec![((0, 0), (0, None))];
    while let Some(state) = open.pop() {
        if !seen.insert(state) {
            continue;
        }
        match step(pieces, state.0, state.1) {
            Some(next) if seen.len() < LIMIT => open.extend(next),
            _ => return false,
        }
    }
    true
}

/// Where one instruction leads to, and what the stack is like there.
fn step(pieces: &[CodePiece<'_>], (piece, offset): At, depth: Depth) -> Option<Vec<(At, Depth)>> {
    let CodePiece { code, branches } = pieces.get(piece)?;
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    decoder.set_position(usize::try_from(offset).ok()?).ok()?;
    decoder.set_ip(offset);
    if !decoder.can_decode() {
        return None;
    }
    let insn = decoder.decode();
    let behind = (piece, insn.next_ip());
    let own = offset..insn.next_ip();
    let related = branches
        .iter()
        .find(|(at, _)| own.contains(at))
        .map(|(_, leads)| *leads);
    let target = || match related {
        Some(Leads::Inside(piece, offset)) => Some((piece, offset)),
        Some(Leads::Out(_)) => None,
        None => Some((piece, insn.near_branch64())).filter(|(_, to)| *to < code.len() as u64),
    };
    let depth = after(&insn, depth)?;
    Some(match insn.flow_control() {
        _ if matches!(insn.mnemonic(), Mnemonic::Ret | Mnemonic::Int3) => Vec::new(),
        FlowControl::UnconditionalBranch if related == Some(Leads::Out(RETURN_THUNK)) => Vec::new(),
        FlowControl::UnconditionalBranch => vec![(target()?, depth)],
        FlowControl::ConditionalBranch => vec![(target()?, depth), (behind, depth)],
        FlowControl::IndirectBranch => return None,
        // Nothing need follow a trap, or a call of a function that does not return.
        FlowControl::Call | FlowControl::IndirectCall | FlowControl::Exception if behind.1 >= code.len() as u64 => {
            Vec::new()
        }
        _ => vec![(behind, depth)],
    })
}

/// What an instruction makes of the stack; `None` if it may touch what lies above the return address, or if that is not
/// known.
fn after(insn: &Instruction, (stack, frame): Depth) -> Option<Depth> {
    let memory = (0..insn.op_count()).any(|number| insn.op_kind(number) == OpKind::Memory);
    let base = match insn.memory_base().full_register() {
        Register::RSP => Some(stack),
        Register::RBP => frame,
        _ => None,
    };
    let distance = insn.memory_displacement64() as i64;
    if memory && let Some(base) = base {
        // The return address has the eight bytes from the entry's stack pointer on.
        let above = distance.checked_sub(base)?;
        if above >= 8 || insn.memory_index() != Register::None && above >= 0 {
            return None;
        }
    }
    let register = |number: u32| {
        let is = number < insn.op_count() && insn.op_kind(number) == OpKind::Register;
        is.then(|| insn.op_register(number).full_register())
    };
    let (first, second) = (register(0), register(1));
    let number = || (!memory && second.is_none() && insn.op_count() == 2).then(|| insn.immediate(1) as i64);
    let (stack_first, frame_first) = (first == Some(Register::RSP), first == Some(Register::RBP));
    let moved = |by: Option<i64>| Some((by.filter(|stack| *stack >= 0)?, frame));
    match insn.mnemonic() {
        Mnemonic::Push | Mnemonic::Pushfq => moved(stack.checked_add(8)),
        Mnemonic::Popfq => moved(stack.checked_sub(8)),
        Mnemonic::Pop if !stack_first => {
            let (stack, frame) = moved(stack.checked_sub(8))?;
            Some((stack, frame.filter(|_| !frame_first)))
        }
        Mnemonic::Leave => Some((frame?.checked_sub(8).filter(|stack| *stack >= 0)?, None)),
        Mnemonic::Sub if stack_first => moved(stack.checked_add(number()?)),
        Mnemonic::Add if stack_first => moved(stack.checked_sub(number()?)),
        Mnemonic::Lea if stack_first && insn.memory_index() == Register::None => moved(base?.checked_sub(distance)),
        Mnemonic::Mov if stack_first && second == Some(Register::RBP) => Some((frame?, frame)),
        Mnemonic::Mov if frame_first && second == Some(Register::RSP) => Some((stack, Some(stack))),
        Mnemonic::Cmp | Mnemonic::Test => Some((stack, frame)),
        // The address of the lowest variable, as `lea` gives those of the others.
        Mnemonic::Mov if second == Some(Register::RSP) && stack > 0 => Some((stack, frame)),
        // Whoever has one of the two in another register, or changes it otherwise, can reach anything.
        _ => {
            let uses = |of: Register| (0..insn.op_count()).any(|number| register(number) == Some(of));
            let unclear = uses(Register::RSP) || frame.is_some() && uses(Register::RBP);
            let calls = matches!(
                insn.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return
            );
            (!unclear && (calls || insn.stack_pointer_increment() == 0)).then_some((stack, frame))
        }
    }
}
