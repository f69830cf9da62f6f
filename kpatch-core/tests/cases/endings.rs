//! Functions that a task may still run when it is off the list of tasks.

use crate::common::case::{Case, pair};
use crate::common::code::{Part, call, imm, jmp, lea, raw};
use crate::common::unit::{Function, Unit, function, local};

/// A function without a way back: `ud2` follows its last call.
fn endless(name: &str, body: &[Part]) -> Function {
    function(name, &[body, &[raw(&[0x0f, 0x0b])]].concat()).without_return()
}

/// A function that ends a task, with its steps; one of them takes the task off the list.
fn ending(before: u32, notify: u32, behind: u32, shared: u32) -> Unit {
    Unit::new()
        .with(local("first", &[imm(before)]))
        .with(local("notify", &[imm(notify), call("release_task")]))
        .with(local("last", &[imm(behind)]))
        .with(local("both", &[imm(shared)]))
        .with(endless(
            "ends",
            &[call("first"), call("notify"), call("last"), call("both")],
        ))
        .with(function("other", &[call("both")]))
}

fn steps(before: u32, notify: u32, behind: u32, shared: u32) -> Case {
    Case::of(ending(1, 1, 1, 1), ending(before, notify, behind, shared))
}

fn alone(make: impl Fn(u32) -> Unit) -> Case {
    Case::of(make(1), make(2))
}

const OUTLIVES: &[&str] = &["select.outlives-transition"];

cases! {
    function_without_a_way_back: Refused(OUTLIVES) =>
        alone(|value| Unit::new().with(endless("f", &[imm(value), call("g")])));
    function_without_a_way_back_accepted: Patched =>
        alone(|value| Unit::new().with(endless("f", &[imm(value), call("g")]))).accepting("f");
    function_that_loops_for_ever: Refused(OUTLIVES) =>
        alone(|value| Unit::new().with(function("f", &[imm(value), raw(&[0xeb, 0xfe])]).without_return()));
    function_with_a_jump_out_of_it: Patched =>
        alone(|value| Unit::new().with(function("f", &[imm(value), jmp("__x86_return_thunk")]).without_return()));
    cold_part_of_a_function_has_the_way_back: Patched => alone(|value| Unit::new()
        .with(function("f", &[imm(value), jmp("f.cold")]).without_return())
        .with(local("f.cold", &[imm(3)]).within(".text.unlikely.f").untraced()));
    cold_part_of_a_function_has_no_way_back_either: Refused(OUTLIVES) => alone(|value| Unit::new()
        .with(function("f", &[imm(value), jmp("f.cold")]).without_return())
        .with(endless("f.cold", &[imm(3)]).within(".text.unlikely.f").untraced()));
    step_of_an_ending_before_the_list: Patched => steps(2, 1, 1, 1);
    step_of_an_ending_that_leaves_the_list: Refused(OUTLIVES) => steps(1, 2, 1, 1);
    step_of_an_ending_behind_the_list: Refused(OUTLIVES) => steps(1, 1, 2, 1);
    step_of_an_ending_that_others_take: Patched => steps(1, 1, 1, 2);
    function_that_takes_a_task_off_the_list: Refused(OUTLIVES) =>
        alone(|value| Unit::new().with(function("release_task", &[imm(value)])));
    new_function_without_a_way_back: Patched => Case::pairs(vec![pair("fs/a.o",
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[lea("g")])).with(endless("g", &[imm(2)])))]);
}
