//! Assembly outside of functions: bytes without a symbol. What nobody refers to cannot run.

use crate::common::case::Case;
use crate::common::code::{call, imm, jmp, label, pointer, raw};
use crate::common::unit::{Unit, function};

const NOP: u8 = 0x90;

/// A function that returns this, behind some bytes of nobody.
fn behind(bytes: &[u8], value: u32) -> Unit {
    let unit = Unit::new().with(function("f", &[imm(value)]));
    match bytes {
        [] => unit,
        bytes => unit.bytes(".text", &[label("there"), raw(bytes)]),
    }
}

const UNKNOWN: &[&str] = &["select.unknown-section"];

cases! {
    assembly_outside_of_functions_added: Patched => Case::of(behind(&[], 1), behind(&[NOP], 2));
    assembly_outside_of_functions_changed: Patched => Case::of(behind(&[NOP], 1), behind(&[NOP, NOP], 2));
    assembly_outside_of_functions_removed: Patched => Case::of(behind(&[NOP], 1), behind(&[], 2));
    assembly_outside_of_functions_alone: NoChange => Case::of(behind(&[], 1), behind(&[NOP], 1));
    assembly_that_a_function_jumps_to: Refused(UNKNOWN) => Case::of(behind(&[], 1),
        behind(&[NOP], 2).with(function("g", &[jmp("@there")])));
    assembly_that_a_table_has: Refused(UNKNOWN) => Case::of(behind(&[], 1),
        behind(&[NOP], 2).local(".data.table", "table", &[pointer("@there")]));
    assembly_that_calls: Refused(UNKNOWN) => Case::of(behind(&[], 1),
        behind(&[], 2).bytes(".text", &[call("f")]));
}
