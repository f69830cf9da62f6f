//! Where the addresses go that x86-64 code takes.
//!
//! A forward analysis over the instructions of one function: for each register and each slot of the stack, which
//! addresses it may hold. Where two ways meet, the sets are joined. Each instruction is also looked at as if control
//! came there from nowhere, so that code behind a computed jump counts, too. Arguments, results and the registers that
//! survive a call are those of the psABI, section 3.2.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

use super::escapes::{Escape, Source};
use super::x86_64_arguments::ARGUMENTS;

/// Registers that a call leaves as they were.
const SURVIVE: [Register; 6] = [
    Register::RBX,
    Register::RBP,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// What a place may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    Address(Source),
    /// A place on the function's own stack.
    Stack,
}

type Set = BTreeSet<Held>;

/// What the registers and the slots of the stack may hold; who is not listed holds nothing of interest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    registers: BTreeMap<Register, Set>,
    slots: BTreeMap<(Register, u64), Set>,
}

impl State {
    fn at_entry() -> Self {
        let arguments = ARGUMENTS.iter().zip(1..);
        let registers = arguments
            .map(|(register, number)| (*register, [Held::Address(Source::Argument(number))].into()))
            .collect();
        State {
            registers,
            slots: BTreeMap::new(),
        }
    }

    fn get(&self, register: Register) -> Set {
        match register.full_register() {
            Register::RSP => [Held::Stack].into(),
            full => self.registers.get(&full).cloned().unwrap_or_default(),
        }
    }

    fn set(&mut self, register: Register, held: Set) {
        let full = register.full_register();
        if held.is_empty() {
            self.registers.remove(&full);
        } else {
            self.registers.insert(full, held);
        }
    }

    /// Adds what another way brings along; whether that was new.
    fn join(&mut self, other: &State) -> bool {
        let mut new = false;
        for (register, held) in &other.registers {
            let own = self.registers.entry(*register).or_default();
            new |= !held.is_subset(own);
            own.extend(held);
        }
        for (slot, held) in &other.slots {
            let own = self.slots.entry(*slot).or_default();
            new |= !held.is_subset(own);
            own.extend(held);
        }
        new
    }
}

/// An instruction, and its relocations.
struct Step {
    start: u64,
    insn: Instruction,
    /// That of the memory operand.
    displacement: Option<usize>,
    /// That of the immediate, or of the branch.
    immediate: Option<usize>,
}

/// What becomes of the addresses that the relocations in `wanted` stand for, and of the function's arguments. `entry` is
/// where the function begins in `code`, and `relocs` are the offsets of the relocations in ascending order; calls
/// of those in `plain` leave all registers as they are.
pub fn escapes(
    code: &[u8],
    entry: u64,
    relocs: &[u64],
    wanted: &BTreeSet<usize>,
    plain: &BTreeSet<usize>,
) -> BTreeSet<(Source, Escape)> {
    let steps = steps(code, entry, relocs);
    let index: BTreeMap<u64, usize> = steps.iter().enumerate().map(|(at, step)| (step.start, at)).collect();
    let mut states = vec![State::default(); steps.len()];
    if let Some(first) = states.first_mut() {
        *first = State::at_entry();
    }
    let mut analysis = Analysis {
        wanted,
        plain,
        found: BTreeSet::new(),
        info: InstructionInfoFactory::new(),
    };
    // The last one is on top, so that the first is looked at first.
    let mut queue: Vec<usize> = (0..steps.len()).rev().collect();
    while let Some(at) = queue.pop() {
        let (step, mut state) = (&steps[at], states[at].clone());
        analysis.step(step, &mut state);
        for next in successors(step, at, &index) {
            if next < states.len() && states[next].join(&state) {
                queue.push(next);
            }
        }
    }
    analysis.found
}

fn steps(code: &[u8], entry: u64, relocs: &[u64]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    if decoder
        .set_position(usize::try_from(entry).unwrap_or(usize::MAX))
        .is_err()
    {
        return steps;
    }
    decoder.set_ip(entry);
    while decoder.can_decode() {
        let start = decoder.position() as u64;
        let insn = decoder.decode();
        let places = decoder.get_constant_offsets(&insn);
        let at = |offset: usize| relocs.binary_search(&(start + offset as u64)).ok();
        let displacement = places
            .has_displacement()
            .then(|| at(places.displacement_offset()))
            .flatten();
        let immediate = places.has_immediate().then(|| at(places.immediate_offset())).flatten();
        steps.push(Step {
            start,
            insn,
            displacement,
            immediate,
        });
    }
    steps
}

/// Where control goes from there within the function.
fn successors(step: &Step, at: usize, index: &BTreeMap<u64, usize>) -> Vec<usize> {
    let jump = || match step.immediate {
        None => index.get(&step.insn.near_branch_target()).copied(),
        Some(_) => None,
    };
    match step.insn.flow_control() {
        FlowControl::Return | FlowControl::IndirectBranch => Vec::new(),
        FlowControl::Exception if step.insn.mnemonic() == Mnemonic::Ud2 => Vec::new(),
        FlowControl::UnconditionalBranch => jump().into_iter().collect(),
        FlowControl::ConditionalBranch => jump().into_iter().chain([at + 1]).collect(),
        _ => vec![at + 1],
    }
}

struct Analysis<'a> {
    wanted: &'a BTreeSet<usize>,
    plain: &'a BTreeSet<usize>,
    found: BTreeSet<(Source, Escape)>,
    info: InstructionInfoFactory,
}

impl Analysis<'_> {
    fn escapes(&mut self, held: &Set, how: Escape) {
        let addresses = held.iter().filter_map(|held| match held {
            Held::Address(source) => Some((*source, how)),
            Held::Stack => None,
        });
        self.found.extend(addresses);
    }

    /// The address that a relocation stands for, if that is asked for.
    fn address(&self, reloc: Option<usize>) -> Set {
        let wanted = reloc.filter(|reloc| self.wanted.contains(reloc));
        wanted
            .map(|reloc| Held::Address(Source::Reloc(reloc)))
            .into_iter()
            .collect()
    }

    fn step(&mut self, step: &Step, state: &mut State) {
        let insn = &step.insn;
        match insn.flow_control() {
            FlowControl::Call if step.immediate.is_some_and(|to| self.plain.contains(&to)) => {}
            FlowControl::Call | FlowControl::IndirectCall => {
                self.passed(step.immediate, state);
                state.registers.retain(|register, _| SURVIVE.contains(register));
            }
            FlowControl::Return => self.escapes(&state.get(Register::RAX), Escape::Returned { by: None }),
            FlowControl::IndirectBranch => self.passed(None, state),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                if let Some(to) = step.immediate {
                    self.passed(Some(to), state);
                    self.escapes(&state.get(Register::RAX), Escape::Returned { by: Some(to) });
                }
            }
            _ => self.straight(step, state),
        }
    }

    fn passed(&mut self, to: Option<usize>, state: &State) {
        for (register, argument) in ARGUMENTS.iter().zip(1..) {
            self.escapes(&state.get(*register), Escape::Passed { to, argument });
        }
    }

    fn straight(&mut self, step: &Step, state: &mut State) {
        let insn = &step.insn;
        let value = self.value(step, state);
        if insn.op_count() > 0 && insn.op0_kind() == OpKind::Memory {
            self.store(step, state, &value);
        }
        let target = (insn.op_count() > 0 && insn.op0_kind() == OpKind::Register).then(|| insn.op0_register());
        let before = target.map(|target| state.get(target)).unwrap_or_default();
        let written: Vec<Register> = self
            .info
            .info(insn)
            .used_registers()
            .iter()
            .filter(|used| !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None))
            .map(iced_x86::UsedRegister::register)
            .collect();
        for register in written {
            state.set(register, Set::new());
        }
        let Some(target) = target else { return };
        match insn.mnemonic() {
            Mnemonic::Mov | Mnemonic::Lea | Mnemonic::Movsxd => state.set(target, value),
            Mnemonic::Xor | Mnemonic::Sub if insn.op1_kind() == OpKind::Register && insn.op1_register() == target => {}
            Mnemonic::Add
            | Mnemonic::Sub
            | Mnemonic::And
            | Mnemonic::Or
            | Mnemonic::Xadd
            | Mnemonic::Inc
            | Mnemonic::Dec => {
                state.set(target, &before | &value);
            }
            Mnemonic::Xchg if insn.op1_kind() == OpKind::Register => {
                state.set(target, value);
                state.set(insn.op1_register(), before);
            }
            Mnemonic::Cmp | Mnemonic::Test => state.set(target, before),
            _ if is_conditional_move(insn) => state.set(target, &before | &value),
            _ => {}
        }
    }

    /// What the last operand, or the only one, stands for.
    fn value(&self, step: &Step, state: &State) -> Set {
        let insn = &step.insn;
        if insn.mnemonic() == Mnemonic::Lea {
            let index = state.get(insn.memory_index());
            return &(&self.address(step.displacement) | &state.get(insn.memory_base())) | &index;
        }
        if insn.op_count() < 2 {
            return Set::new();
        }
        match insn.op1_kind() {
            OpKind::Register => state.get(insn.op1_register()),
            OpKind::Memory => {
                let slot = slot(insn, state);
                slot.and_then(|slot| state.slots.get(&slot).cloned())
                    .unwrap_or_default()
            }
            _ => self.address(step.immediate),
        }
    }

    fn store(&mut self, step: &Step, state: &mut State, value: &Set) {
        let insn = &step.insn;
        let stores = matches!(
            insn.mnemonic(),
            Mnemonic::Mov | Mnemonic::Xchg | Mnemonic::Cmpxchg | Mnemonic::Movnti
        );
        if !stores {
            return;
        }
        let own = &state.get(insn.memory_base()) | &state.get(insn.memory_index());
        if own.contains(&Held::Stack) {
            if let Some(slot) = slot(insn, state) {
                state.slots.insert(slot, value.clone());
            }
            return;
        }
        let inside = |held: &Held| matches!(held, Held::Address(Source::Reloc(_)));
        if own.iter().any(inside) || !self.address(step.displacement).is_empty() {
            return;
        }
        let into = step.displacement;
        self.escapes(value, Escape::Stored { into });
    }
}

/// The slot of the stack that a memory operand means, if it is one.
fn slot(insn: &Instruction, state: &State) -> Option<(Register, u64)> {
    let base = insn.memory_base();
    let is_slot = insn.memory_index() == Register::None
        && insn.segment_prefix() == Register::None
        && (base == Register::RSP || base == Register::RBP && state.get(base).contains(&Held::Stack));
    is_slot.then(|| (base, insn.memory_displacement64()))
}

fn is_conditional_move(insn: &Instruction) -> bool {
    insn.mnemonic() != Mnemonic::Cmpxchg
        && insn.condition_code() != iced_x86::ConditionCode::None
        && insn.op_count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &[u8], relocs: &[u64]) -> Vec<(Source, Escape)> {
        let wanted = (0..relocs.len()).collect();
        let all = escapes(code, 0, relocs, &wanted, &BTreeSet::new());
        all.into_iter()
            .filter(|(source, _)| matches!(source, Source::Reloc(_)))
            .collect()
    }

    const STORED: Escape = Escape::Stored { into: None };

    #[test]
    fn an_immediate_is_stored_behind_a_pointer_and_not_on_the_stack() {
        // movq $sym, 8(%rbx) ; movq $sym, 8(%rsp)
        let code = [
            0x48, 0xc7, 0x43, 8, 0, 0, 0, 0, 0x48, 0xc7, 0x44, 0x24, 8, 0, 0, 0, 0, 0xc3,
        ];
        assert_eq!(found(&code, &[4, 13]), [(Source::Reloc(0), STORED)]);
    }

    #[test]
    fn an_address_is_followed_through_registers_slots_and_jumps() {
        let code = [
            0x48, 0x8d, 0x05, 0, 0, 0, 0, // lea sym(%rip), %rax
            0x65, 0x48, 0x03, 0x05, 0, 0, 0, 0, // add %gs:off(%rip), %rax
            0x48, 0x89, 0x04, 0x24, // mov %rax, (%rsp)
            0xeb, 1,    // jmp +1
            0xc3, // ret
            0x48, 0x8b, 0x0c, 0x24, // mov (%rsp), %rcx
            0x48, 0x89, 0x4b, 0x10, // mov %rcx, 0x10(%rbx)
            0x31, 0xc0, // xor %eax, %eax
            0xc3, // ret
        ];
        let wanted = [0].into();
        let all = escapes(&code, 0, &[3, 11], &wanted, &BTreeSet::new());
        assert!(all.contains(&(Source::Reloc(0), STORED)));
        assert!(!all.iter().any(|(_, how)| matches!(how, Escape::Returned { .. })));
    }

    #[test]
    fn a_call_takes_arguments_and_forgets_them() {
        let code = [
            0x48, 0xc7, 0xc7, 0, 0, 0, 0, // mov $sym, %rdi
            0xe8, 0, 0, 0, 0, // call
            0xe8, 0, 0, 0, 0, // call
            0x48, 0xc7, 0xc0, 0, 0, 0, 0,    // mov $sym, %rax
            0xc3, // ret
        ];
        let wanted = [0, 3].into();
        let all = escapes(&code, 0, &[3, 8, 13, 20], &wanted, &BTreeSet::new());
        let of = |source| {
            all.iter()
                .filter(|(from, _)| *from == source)
                .map(|(_, how)| *how)
                .collect::<Vec<_>>()
        };
        let passed = Escape::Passed {
            to: Some(1),
            argument: 1,
        };
        assert_eq!(of(Source::Reloc(0)), [passed]);
        assert_eq!(of(Source::Reloc(3)), [Escape::Returned { by: None }]);
        assert_eq!(
            of(Source::Argument(2)).len(),
            1,
            "only the first call takes what came in"
        );
    }

    #[test]
    fn what_is_stored_into_the_livepatch_itself_stays() {
        // movq $sym, own(%rip)
        let code = [0x48, 0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3];
        assert_eq!(found(&code, &[3, 7]), []);
        let theirs = escapes(&code, 0, &[3, 7], &[1].into(), &BTreeSet::new());
        assert_eq!(
            theirs.into_iter().collect::<Vec<_>>(),
            [(Source::Reloc(1), Escape::Stored { into: Some(0) })]
        );
    }

    #[test]
    fn any_bytes_are_decoded() {
        for length in 0..64u8 {
            let code: Vec<u8> = (0..length).map(|at| at.wrapping_mul(37) ^ length).collect();
            escapes(&code, 0, &[0, 4], &[0, 1].into(), &BTreeSet::new());
        }
        assert!(escapes(&[], 7, &[], &BTreeSet::new(), &BTreeSet::new()).is_empty());
    }
}
