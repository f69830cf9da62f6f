//! What the author says with macros: what to call when an object is patched, and what to overlook.

use crate::common::case::{Case, Pair, pair};
use crate::common::code::{Part, call, imm, long, pointer};
use crate::common::unit::{Function, Unit, function, local};

/// The record of kpatch-macros.h.
const PRE_PATCH: &str = ".kpatch.callbacks.pre_patch";
/// The pointer of the kernel's livepatch_helpers.h.
const POINTERS: &str = ".discard.klp_callback_ptrs";
/// The records of states.
const STATES: &str = ".kpatch.states";
const POST_UNPATCH: &str = "__klp_post_unpatch_callback_vmlinux";

fn before() -> Unit {
    Unit::new()
        .with(function("f", &[imm(1)]))
        .with(function("g", &[imm(1)]))
        .local(".data.state", "state", &[long(1)])
}

/// A patched function, and a callback that the patch adds.
fn with(callback: Function) -> Unit {
    changed(2).with(callback)
}

fn changed(value: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value)]))
        .with(function("g", &[imm(1)]))
        .local(".data.state", "state", &[long(1)])
}

fn record(function: &str) -> [Part; 2] {
    [pointer(function), long(0)]
}

fn prepare() -> Function {
    local("prepare", &[call("printk")])
}

fn unit(name: &str, patched: Unit) -> Pair {
    pair(name, before(), patched)
}

cases! {
    callbacks_of_both_forms: Patched => Case::of(before(), with(prepare())
        .with(local("finish", &[call("helper")]))
        .with(local("helper", &[imm(3)]))
        .local(PRE_PATCH, "prepare_record", &record("prepare"))
        .global(POINTERS, POST_UNPATCH, &[pointer("finish")]));
    one_function_for_two_moments: Patched => Case::of(before(), with(prepare())
        .local(".kpatch.callbacks.post_patch", "first", &record("prepare"))
        .local(".kpatch.callbacks.pre_unpatch", "second", &record("prepare")));
    callback_of_a_module: Patched => Case::pairs(vec![
        unit("fs/a.o", changed(2)),
        unit("drivers/m.o", with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare"))).of_module("mod")]);
    two_callbacks_for_one_moment: Refused(&["macro.callback-twice"]) => Case::pairs(vec![
        unit("fs/a.o", with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare"))),
        pair("fs/b.o", Unit::new(), Unit::new().with(prepare()).global(POINTERS, "__klp_pre_patch_callback_vmlinux", &[pointer("prepare")]))]);
    callbacks_for_one_moment_of_two_objects: Patched => Case::pairs(vec![
        unit("fs/a.o", with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare"))),
        unit("drivers/m.o", with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare"))).of_module("mod")]);
    /// Nothing of the module is patched.
    callback_alone: Patched => Case::pairs(vec![
        unit("fs/a.o", changed(2)),
        unit("drivers/m.o", changed(1).with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare")))
            .of_module("mod")]);
    callback_beside_a_value_that_is_set: Refused(&["select.data-changed"]) => Case::of(
        before().local(".data.v", "v", &[long(1)]),
        with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare")).local(".data.v", "v", &[long(2)])).accepting("v");
    callback_at_another_moment_beside_a_value_that_is_set: Patched => Case::of(
        before().local(".data.v", "v", &[long(1)]),
        with(prepare()).local(".kpatch.callbacks.post_patch", "prepare_record", &record("prepare"))
            .local(".data.v", "v", &[long(2)])).accepting("v");
    callback_and_nothing_else: Patched => Case::of(before(),
        changed(1).with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare")));
    callback_is_a_function_of_the_kernel: Refused(&["macro.bad-mark"]) =>
        Case::of(before(), changed(2).local(PRE_PATCH, "prepare_record", &record("g")));
    callback_is_gone_after_loading: Refused(&["macro.bad-mark"]) => Case::of(before(),
        with(prepare().within(".init.text")).local(PRE_PATCH, "prepare_record", &record("prepare")));
    callback_is_in_another_file: Refused(&["macro.bad-mark"]) =>
        Case::of(before(), changed(2).local(PRE_PATCH, "prepare_record", &record("elsewhere")));
    callback_is_a_variable: Refused(&["macro.bad-mark"]) => Case::of(before(), changed(2).local(PRE_PATCH, "prepare_record", &record("state")));
    callback_is_nothing: Refused(&["macro.bad-mark"]) => Case::of(before(), changed(2).local(PRE_PATCH, "prepare_record", &[long(0), long(0)]));
    callback_for_no_moment: Refused(&["macro.bad-mark"]) => Case::of(before(),
        with(prepare()).local(".kpatch.callbacks.sometimes", "prepare_record", &record("prepare")));
    states_are_listed_by_number: Patched => Case::pairs(vec![
        unit("fs/a.o", with(prepare()).local(PRE_PATCH, "prepare_record", &record("prepare"))
            .local(STATES, "s", &[long(7), long(2)])),
        pair("fs/b.o", Unit::new().with(function("h", &[imm(1)])), Unit::new().with(function("h", &[imm(2)]))
            .local(STATES, "s", &[long(3), long(1)]).local(STATES, "t", &[long(9), long(4)]))]);
    state_twice: Refused(&["macro.bad-mark"]) => Case::of(before(),
        changed(2).local(STATES, "s", &[long(7), long(1)]).local(STATES, "t", &[long(7), long(2)]));
    state_without_a_number: Refused(&["macro.bad-mark"]) => Case::of(before(), changed(2).local(STATES, "s", &[long(0), long(1)]));
    state_with_half_a_record: Refused(&["macro.bad-mark"]) => Case::of(before(), changed(2).local(STATES, "s", &[long(7)]));
    state_that_is_an_address: Refused(&["macro.bad-mark"]) => Case::of(before(), changed(2).local(STATES, "s", &[pointer("f"), long(1)]));
    mark_of_no_macro: Refused(&["macro.bad-mark"]) => Case::of(before(), changed(2).local(".kpatch.something", "mark", &[pointer("f")]));
    function_to_overlook: NoChange => Case::of(before(),
        changed(2).with(function("h", &[imm(1)])).global(".kpatch.ignore.functions", "ignored", &[pointer("f")]));
}
