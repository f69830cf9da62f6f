//! Changed functions that the tracer cannot hook, and who may come to them.

use object::elf;

use crate::common::case::{Case, pair};
use crate::common::code::{
    address, call, distance, imm, jmp, label, lea, load, long, near_call, near_lea, pointer, raw, short, word,
};
use crate::common::unit::{Function, Unit, function, local};

/// A static function without a site.
fn helper(value: u32) -> Function {
    local("helper", &[imm(value)]).untraced()
}

/// A unit with `helper` and a caller of it.
fn called(value: u32) -> Unit {
    Unit::new()
        .with(helper(value))
        .with(function("caller", &[call("helper"), imm(7)]))
}

/// The same on both sides, but for what `helper` returns.
fn change(make: impl Fn(u32) -> Unit) -> Case {
    Case::of(make(1), make(2))
}

/// `helper` and its caller, with something more on both sides.
fn beside(more: impl Fn(Unit) -> Unit) -> Case {
    change(|value| more(called(value)))
}

/// A function of 65 callers.
fn many(value: u32) -> Unit {
    let names = (0..65).map(|number| format!("caller_{number}"));
    names.fold(Unit::new().with(helper(value)), |unit, name| {
        unit.with(function(&name, &[call("helper"), imm(1)]))
    })
}

/// A row about a function, and a replacement for some of its code that calls `helper`.
fn replaced(value: u32) -> Unit {
    Unit::new()
        .with(helper(value))
        .with(function(
            "caller",
            &[raw(&[0x0f, 0x1f, 0x44, 0, 0]), label("site"), imm(7)],
        ))
        .bytes(".altinstr_replacement", &[label("new"), call("helper")])
        .bytes(
            ".altinstructions",
            &[distance("@site").plus(-5), distance("@new"), word(5), short(0x0505)],
        )
}

const NO_SITE: &[&str] = &["select.no-ftrace-site"];

cases! {
    untraced_static_with_a_caller: Patched => change(called);
    untraced_static_whose_caller_changes_too: Patched => Case::of(called(1),
        Unit::new().with(helper(2)).with(function("caller", &[call("helper"), imm(8)])));
    untraced_static_that_a_new_function_calls: Patched => Case::of(called(1),
        Unit::new().with(helper(2)).with(function("caller", &[call("added"), call("helper"), imm(8)]))
            .with(local("added", &[call("helper"), imm(3)])));
    untraced_static_with_an_untraced_caller: Patched => change(|value| Unit::new().with(helper(value))
        .with(local("between", &[call("helper"), imm(5)]).untraced())
        .with(function("caller", &[call("between"), imm(7)]))
        .with(function("other", &[imm(9)])));
    untraced_static_that_calls_itself: Patched => change(|value| Unit::new()
        .with(local("helper", &[imm(value), call("helper")]).untraced())
        .with(function("caller", &[call("helper"), imm(7)])));
    untraced_caller_with_a_cold_part: Patched => change(|value| Unit::new().with(helper(value))
        .with(function("caller", &[imm(7), jmp("caller.cold")]))
        .with(local("caller.cold", &[call("helper"), imm(4)]).within(".text.unlikely.caller").untraced()));
    untraced_static_with_a_cold_part: Patched => change(|value| Unit::new()
        .with(local("helper", &[imm(value), jmp("helper.cold")]).untraced())
        .with(local("helper.cold", &[imm(4)]).within(".text.unlikely.helper").untraced())
        .with(function("caller", &[call("helper"), imm(7)])));
    untraced_in_a_section_of_several: Patched => change(|value| Unit::new()
        .with(helper(value).within(".noinstr.text"))
        .with(local("between", &[near_call("helper"), imm(5)]).untraced().within(".noinstr.text"))
        .with(function("caller", &[call("between"), imm(7)])));
    untraced_static_that_boot_code_calls_too: Patched => beside(|unit| unit
        .with(local("at_boot", &[call("helper")]).within(".init.text")));
    untraced_static_called_from_replaced_code: Patched => change(replaced);
    untraced_caller_that_the_patch_removes: Patched => Case::of(
        Unit::new().with(helper(1)).with(local("between", &[call("helper"), imm(5)]))
            .with(function("caller", &[call("between"), imm(7)])),
        Unit::new().with(helper(2)).with(function("caller", &[call("helper"), imm(8)])));
    untraced_row_of_its_own: Patched => change(|value| Unit::new()
        .with(local("helper", &[label("here"), imm(value), imm(3)]).untraced())
        .with(function("caller", &[call("helper"), imm(7)]))
        .bytes("__bug_table", &[distance("@here"), distance("@text"), word(5)]).strings(&["text"]));

    untraced_that_other_files_name: Refused(NO_SITE) => change(|value| Unit::new()
        .with(function("helper", &[imm(value)]).untraced()).with(function("caller", &[call("helper"), imm(7)])));
    untraced_with_a_global_alias: Refused(NO_SITE) => change(|value| Unit::new()
        .with(helper(value).alias("known", elf::STB_GLOBAL)).with(function("caller", &[call("helper"), imm(7)])));
    untraced_with_a_weak_alias: Refused(NO_SITE) => change(|value| Unit::new()
        .with(helper(value).alias("known", elf::STB_WEAK)).with(function("caller", &[call("helper"), imm(7)])));
    untraced_promoted_static: Refused(NO_SITE) => change(|value| Unit::new()
        .with(function("helper.llvm.123", &[imm(value)]).untraced())
        .with(function("caller", &[call("helper.llvm.123"), imm(7)])));
    untraced_without_a_caller: Refused(NO_SITE) => change(|value| Unit::new().with(helper(value)));
    untraced_only_boot_code_calls: Refused(NO_SITE) => change(|value| Unit::new().with(helper(value))
        .with(local("at_boot", &[call("helper")]).within(".init.text")));
    untraced_address_in_data: Refused(NO_SITE) => beside(|unit| unit
        .local(".data.ops", "ops", &[pointer("helper")]));
    untraced_address_in_constants: Refused(NO_SITE) => beside(|unit| unit
        .local(".rodata.ops", "ops", &[pointer("helper")]));
    untraced_address_behind_its_landing_pad_in_data: Refused(&["select.data-changed", "select.no-ftrace-site"]) => beside(|unit| unit
        .local(".data.ops", "ops", &[pointer("helper").plus(4)]));
    untraced_address_in_data_of_boot: Refused(NO_SITE) => beside(|unit| unit
        .local(".init.data", "ops", &[pointer("helper")]));
    untraced_distance_in_a_nameless_table: Refused(&["select.no-ftrace-site", "select.unknown-section"]) => beside(|unit| unit
        .bytes(".own_table", &[distance("helper")]));
    untraced_address_taken_by_code: Refused(NO_SITE) => beside(|unit| unit
        .with(function("taker", &[lea("helper")])));
    untraced_address_taken_as_a_number: Refused(NO_SITE) => beside(|unit| unit
        .with(function("taker", &[address("helper")])));
    untraced_address_taken_by_boot_code: Refused(NO_SITE) => beside(|unit| unit
        .with(local("at_boot", &[lea("helper")]).within(".init.text")));
    untraced_address_taken_by_itself: Refused(NO_SITE) => change(|value| Unit::new()
        .with(local("helper", &[imm(value), lea("helper")]).untraced())
        .with(function("caller", &[call("helper"), imm(7)])));
    untraced_address_that_the_assembler_filled_in: Refused(NO_SITE) => change(|value| Unit::new()
        .with(helper(value).within(".noinstr.text"))
        .with(local("taker", &[near_lea("helper")]).untraced().within(".noinstr.text"))
        .with(function("caller", &[call("helper"), call("taker"), imm(7)])));
    untraced_called_through_memory: Refused(NO_SITE) => beside(|unit| unit
        .with(function("reader", &[load("helper")])));
    untraced_address_that_the_patch_takes: Refused(NO_SITE) => Case::of(called(1),
        Unit::new().with(helper(2)).with(function("caller", &[lea("helper"), call("helper"), imm(7)])));
    untraced_address_in_a_new_table: Refused(NO_SITE) => Case::of(called(1),
        Unit::new().with(helper(2)).local(".rodata.ops", "ops", &[pointer("helper")])
            .with(function("caller", &[lea("ops"), call("helper"), imm(7)])));
    untraced_entered_in_the_middle: Refused(NO_SITE) => beside(|unit| unit
        .with(function("other", &[call("helper").plus(2), imm(1)])));
    untraced_label_of_assembly_calls_it: Refused(NO_SITE) => beside(|unit| unit
        .with(function("last", &[imm(1)])).bytes(".text.last", &[call("helper")]));
    untraced_code_of_nobody_calls_it: Refused(&["select.no-ftrace-site", "select.unknown-section"]) => beside(|unit| unit
        .bytes(".text.assembly", &[call("helper")]));
    untraced_row_of_another: Refused(NO_SITE) => beside(|unit| unit
        .with(function("other", &[label("there"), imm(1), imm(2)]))
        .bytes("__ex_table", &[distance("@there"), distance("helper"), word(0)]));
    untraced_untraced_caller_is_global: Refused(NO_SITE) => change(|value| Unit::new().with(helper(value))
        .with(function("between", &[call("helper"), imm(5)]).untraced())
        .with(function("caller", &[call("between"), imm(7)])));
    untraced_untraced_caller_is_kept_in_data: Refused(NO_SITE) => change(|value| Unit::new().with(helper(value))
        .with(local("between", &[call("helper"), imm(5)]).untraced())
        .with(function("caller", &[call("between"), imm(7)]))
        .local(".data.ops", "ops", &[pointer("between")]));
    untraced_removed_caller_is_global: Refused(NO_SITE) => Case::of(
        Unit::new().with(helper(1)).with(function("between", &[call("helper"), imm(5)]))
            .with(function("caller", &[call("between"), imm(7)])),
        Unit::new().with(helper(2)).with(function("caller", &[call("helper"), imm(8)])));
    untraced_with_too_many_callers: Refused(NO_SITE) => change(many);
    untraced_that_a_module_calls_when_it_starts: Refused(NO_SITE) => Case::pairs(vec![
        pair("drivers/m.o", called(1).with(local("start", &[call("helper")]).within(".init.text")),
            called(2).with(local("start", &[call("helper")]).within(".init.text"))).of_module("m")]);
    untraced_of_a_module: Patched => Case::pairs(vec![pair("drivers/m.o", called(1), called(2)).of_module("m")]);
    untraced_that_bpf_programs_may_call: Refused(NO_SITE) => beside(|unit| unit
        .local(".data.ids", "__BTF_ID__func__helper__42", &[long(0)]));
    untraced_caller_that_does_not_return: Refused(&["select.outlives-transition"]) => change(|value| Unit::new()
        .with(helper(value)).with(function("ends", &[call("helper"), raw(&[0x0f, 0x0b])]).without_return()));
}
