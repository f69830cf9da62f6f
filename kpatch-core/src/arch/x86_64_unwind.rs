//! Whether the rows of x86-64's unwinder (ORC) fit the code that they describe.
//!
//! A row says where the caller's frame is from one place of the code to the next row. objtool finds it by following the
//! code from each entry; what it does not follow gets an empty row, and a lost row lets the one before it go on. Both
//! disagree with the code at some step from one instruction to the next, so this looks at each step on its own:
//!
//! - an instruction that does not touch the stack pointer keeps the row;
//! - a push, a pop, or an addition moves the frame by what it adds;
//! - a branch within the section arrives at a place with the same row;
//! - a function returns with the return address on top of the stack;
//! - the caller can be found from the entry of a function.
//!
//! Steps that only objtool's whole analysis could judge are left alone: what comes behind a call (it may not return),
//! another way to write the stack or frame pointer, rows that count from a third register, and NOPs, whose rows may
//! be those of an alternative that takes their place.
//!
//! `struct orc_entry`: arch/x86/include/asm/orc_types.h, 6.1 to 7.3. Its six bytes are two offsets, two registers of
//! four bits, and bits for the type, which moved in 6.3 and 6.4 and are only compared with each other here.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register,
};

use super::x86_64_thunks::RETURN_THUNK;
use super::{Misfit, UnwindRange};

/// Size of a row in bytes.
pub const ROW: usize = 6;

/// `ORC_REG_UNDEFINED`: nobody can unwind from here.
const NOWHERE: u8 = 0;
/// `ORC_REG_BP`.
const FRAME_POINTER: u8 = 4;
/// `ORC_REG_SP`.
const STACK_POINTER: u8 = 5;
/// The size of a return address, and so the distance to the caller's frame at a function's entry.
const RETURN_ADDRESS: i64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    sp_offset: i16,
    bp_offset: i16,
    sp_reg: u8,
    bp_reg: u8,
    kind: u8,
}

impl Row {
    fn read(bytes: [u8; ROW]) -> Row {
        Row {
            sp_offset: i16::from_le_bytes([bytes[0], bytes[1]]),
            bp_offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            sp_reg: bytes[4] & 15,
            bp_reg: bytes[4] >> 4,
            kind: bytes[5],
        }
    }

    fn counts_from_known(self) -> bool {
        matches!(self.sp_reg, FRAME_POINTER | STACK_POINTER)
    }
}

/// What an instruction does to what a row talks about.
enum Step {
    /// Neither the stack nor the frame pointer changes, and the frame pointer is not saved.
    Nothing,
    /// The stack pointer grows by this many bytes; the frame pointer may have been saved or restored.
    Moves(i64),
    /// Only objtool knows.
    Unknown,
}

/// Every place of a function where rows and code disagree.
pub fn misfits(range: &UnwindRange<'_>) -> Vec<Misfit> {
    let mut found = Vec::new();
    let mut info = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, range.code, range.start, DecoderOptions::NONE);
    let mut insn = Instruction::default();
    let end = range.start + range.code.len() as u64;
    // A function that the compiler found to be unreachable has no code.
    if !range.code.is_empty() && known(range, range.start).is_none() {
        let why = "the entry has no row".to_owned();
        found.push(Misfit {
            place: range.start,
            why,
        });
    }
    while decoder.can_decode() {
        decoder.decode_out(&mut insn);
        if insn.is_invalid() {
            break;
        }
        let (at, next) = (insn.ip(), insn.next_ip());
        let Some(row) = known(range, at) else {
            continue;
        };
        let mut wrong = |place, why: String| found.push(Misfit { place, why });
        let target = (range.relocated)(at..next);
        match insn.flow_control() {
            FlowControl::Return => returns(row, at, &mut wrong),
            FlowControl::UnconditionalBranch if target == Some(RETURN_THUNK) => returns(row, at, &mut wrong),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let to = insn.near_branch_target();
                if target.is_none() && (range.start..end).contains(&to) && self::row(range, to) != Some(row) {
                    wrong(
                        to,
                        format!("the row is not that of the branch at +{:#x}", at - range.start),
                    );
                }
                if insn.flow_control() == FlowControl::ConditionalBranch && next < end {
                    follows(range, row, &Step::Nothing, next, &mut wrong);
                }
            }
            FlowControl::Next | FlowControl::IndirectCall if next < end => {
                follows(range, row, &step(&insn, &mut info, target), next, &mut wrong);
            }
            _ => {}
        }
    }
    found
}

fn row(range: &UnwindRange<'_>, place: u64) -> Option<Row> {
    let index = range
        .rows
        .partition_point(|(start, _)| *start <= place)
        .checked_sub(1)?;
    let bytes = range.table.get(range.rows[index].1 * ROW..)?.first_chunk()?;
    Some(Row::read(*bytes))
}

/// The row of a place from which the caller can be found.
fn known(range: &UnwindRange<'_>, place: u64) -> Option<Row> {
    row(range, place).filter(|row| row.sp_reg != NOWHERE)
}

fn returns(row: Row, at: u64, wrong: &mut impl FnMut(u64, String)) {
    if row.counts_from_known() && (row.sp_reg, i64::from(row.sp_offset)) != (STACK_POINTER, RETURN_ADDRESS) {
        wrong(
            at,
            format!("it returns with the caller's frame {} bytes away", row.sp_offset),
        );
    }
}

fn follows(range: &UnwindRange<'_>, row: Row, step: &Step, next: u64, wrong: &mut impl FnMut(u64, String)) {
    let Some(after) = self::row(range, next) else {
        return wrong(next, "there is no row".to_owned());
    };
    let moved = match step {
        Step::Unknown => return,
        Step::Nothing if after == row => return,
        Step::Nothing => {
            return wrong(
                next,
                "the row is another one, and nothing before it touches the stack".to_owned(),
            );
        }
        Step::Moves(_) if !row.counts_from_known() => return,
        Step::Moves(grows) if row.sp_reg == STACK_POINTER => -grows,
        // Counted from the frame pointer, the caller's frame stays where it is.
        Step::Moves(_) => 0,
    };
    let expected = i64::from(row.sp_offset) + moved;
    if (after.sp_reg, i64::from(after.sp_offset), after.kind) != (row.sp_reg, expected, row.kind) {
        let have = after.sp_offset;
        let why = format!("the row says {have} bytes, the code before it leaves the frame {expected} bytes away");
        wrong(next, why);
    }
}

fn step(insn: &Instruction, info: &mut InstructionInfoFactory, relocated: Option<&str>) -> Step {
    let simple = match insn.mnemonic() {
        Mnemonic::Nop => return Step::Unknown,
        Mnemonic::Push | Mnemonic::Pop | Mnemonic::Pushfq | Mnemonic::Popfq if insn.op0_register() != Register::RSP => {
            Some(i64::from(insn.stack_pointer_increment()))
        }
        // Restoring the frame pointer makes a row count from the stack pointer again.
        Mnemonic::Add | Mnemonic::Sub if insn.op0_register() == Register::RSP && relocated.is_none() => {
            let immediate = insn.try_immediate(1).ok().map(u64::cast_signed);
            immediate.map(|value| {
                if insn.mnemonic() == Mnemonic::Add {
                    value
                } else {
                    -value
                }
            })
        }
        Mnemonic::Lea if insn.op0_register() == Register::RSP && insn.memory_base() == Register::RSP => {
            (insn.memory_index() == Register::None).then(|| insn.memory_displacement64().cast_signed())
        }
        _ => None,
    };
    let mut uses_frame_pointer = false;
    let mut writes_stack_pointer = false;
    for used in info.info(insn).used_registers() {
        let reads_only = matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::None);
        match used.register().full_register() {
            Register::RBP => {
                uses_frame_pointer = true;
                writes_stack_pointer |= !reads_only && insn.mnemonic() != Mnemonic::Pop;
            }
            Register::RSP => writes_stack_pointer |= !reads_only,
            _ => {}
        }
    }
    match simple {
        Some(_) if insn.mnemonic() == Mnemonic::Pop && uses_frame_pointer => Step::Unknown,
        Some(grows) => Step::Moves(grows),
        None if writes_stack_pointer => Step::Unknown,
        None if uses_frame_pointer => Step::Moves(0),
        None => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row that counts from the stack pointer, of an ordinary call.
    fn sp(place: u64, offset: i16) -> (u64, [u8; ROW]) {
        let [low, high] = offset.to_le_bytes();
        (place, [low, high, 0, 0, STACK_POINTER, 2])
    }

    fn none(place: u64) -> (u64, [u8; ROW]) {
        (place, [0; ROW])
    }

    /// Where rows and code disagree, in bytes from the start of the function.
    fn places(code: &[u8], rows: &[(u64, [u8; ROW])]) -> Vec<u64> {
        places_from(0, code, rows)
    }

    fn places_from(start: u64, code: &[u8], rows: &[(u64, [u8; ROW])]) -> Vec<u64> {
        let table: Vec<u8> = rows.iter().flat_map(|(_, row)| *row).collect();
        let starts: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(number, (start, _))| (*start, number))
            .collect();
        let range = UnwindRange {
            code,
            start,
            rows: &starts,
            table: &table,
            relocated: &|_| None,
        };
        misfits(&range).into_iter().map(|misfit| misfit.place).collect()
    }

    /// `push %rbx; sub $16,%rsp; test %edi,%edi; je 12; nop; add $16,%rsp; pop %rbx; ret; ud2`, with the branch to the
    /// `add`.
    const FRAME: &[u8] = &[
        0x53, 0x48, 0x83, 0xec, 0x10, 0x85, 0xff, 0x74, 0x02, 0x31, 0xc0, 0x48, 0x83, 0xc4, 0x10, 0x5b, 0xc3, 0x0f,
        0x0b,
    ];

    fn frame_rows() -> Vec<(u64, [u8; ROW])> {
        vec![sp(0, 8), sp(1, 16), sp(5, 32), sp(15, 16), sp(16, 8), none(17)]
    }

    #[test]
    fn good_rows_fit() {
        assert_eq!(places(FRAME, &frame_rows()), [0; 0]);
    }

    #[test]
    fn each_lost_row_is_noticed() {
        for lost in 1..frame_rows().len() - 1 {
            let mut rows = frame_rows();
            rows.remove(lost);
            assert!(!places(FRAME, &rows).is_empty(), "row {lost}");
        }
    }

    /// Padding before a function has a row that says nothing, which goes on where the function's first row is lost.
    #[test]
    fn an_entry_without_a_row_is_noticed_behind_padding() {
        let mut padded = vec![0x90; 4];
        padded.extend(FRAME);
        let shifted = frame_rows().into_iter().map(|(start, row)| (start + 4, row));
        let good: Vec<_> = [none(0)].into_iter().chain(shifted).collect();
        let at_entry = |rows: &[(u64, [u8; ROW])]| places_from(4, &padded[4..], rows);
        assert_eq!(at_entry(&good), [0; 0]);
        let mut lost = good;
        lost.remove(1);
        assert_eq!(at_entry(&lost), [4]);
        // A function that does not touch the stack has one row.
        assert_eq!(places_from(4, &[0x31, 0xc0, 0xc3], &[none(0)]), [4]);
        assert_eq!(places_from(4, &[], &[none(0)]), [0; 0]);
    }

    #[test]
    fn code_that_objtool_did_not_follow_is_noticed_where_a_branch_leads_there() {
        // push %rbx; test; jne 9; pop %rbx; ret; (branch target) pop %rbx; ret
        let code = [0x53, 0x85, 0xff, 0x75, 0x02, 0x5b, 0xc3, 0x5b, 0xc3];
        let good = [sp(0, 8), sp(1, 16), sp(6, 8), sp(7, 16), sp(8, 8)];
        assert_eq!(places(&code, &good), [0; 0]);
        let unfollowed = [sp(0, 8), sp(1, 16), sp(6, 8), none(7)];
        assert_eq!(places(&code, &unfollowed), [7]);
    }

    #[test]
    fn a_frame_that_counts_from_the_frame_pointer_may_move_the_stack_pointer() {
        // push %rbp; mov %rsp,%rbp; push %rbx; sub $8,%rsp; lea -8(%rbp),%rsp; pop %rbx; pop %rbp; ret
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 0x08, 0x48, 0x8d, 0x65, 0xf8, 0x5b, 0x5d, 0xc3,
        ];
        let bp = |place| (place, [16, 0, 0xf0, 0xff, 0x14, 2]);
        let good = [sp(0, 8), sp(1, 16), bp(4), sp(15, 8)];
        assert_eq!(places(&code, &good), [0; 0]);
        let stays = [sp(0, 8), sp(1, 16), bp(4)];
        assert_eq!(places(&code, &stays), [15]);
    }

    #[test]
    fn rows_that_end_inside_the_table_are_no_panic() {
        let starts = [(0, 7)];
        let range = UnwindRange {
            code: FRAME,
            start: u64::MAX - 40,
            rows: &starts,
            table: &[0; 3],
            relocated: &|_| None,
        };
        assert_eq!(misfits(&range).len(), 1);
    }
}
