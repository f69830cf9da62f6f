//! Patched functions in which a task sleeps for long: found in the old code, also behind a helper, else in the new.

use crate::common::case::{Case, pair};
use crate::common::code::{call, imm};
use crate::common::unit::{Function, Unit, function, local};

/// Both sides of a function that calls this and changes.
fn calls(name: &'static str) -> Case {
    let unit = |value| Unit::new().with(function("f", &[call(name), imm(value)]));
    Case::of(unit(1), unit(2))
}

/// A helper that sleeps.
fn waiter() -> Function {
    local("waiter", &[call("schedule_timeout_killable"), imm(4)])
}

cases! {
    waits_for_an_event: Patched => calls("prepare_to_wait_event");
    main_loop_of_a_thread: Patched => {
        let unit = |value| Unit::new()
            .with(function("f", &[call("kthread_should_stop"), call("schedule"), imm(value)]));
        Case::of(unit(1), unit(2))
    };
    waits_in_a_helper: Patched => {
        let unit = |value| Unit::new()
            .with(waiter())
            .with(function("f", &[call("waiter"), imm(value)]))
            .with(function("g", &[imm(value)]));
        Case::of(unit(1), unit(2))
    };
    waits_in_another_unit: Patched => {
        let f = |value| Unit::new().with(function("f", &[call("waits"), imm(value)]));
        let waits = |value| Unit::new()
            .with(function("waits", &[call("schedule"), imm(4)]))
            .with(function("g", &[imm(value)]));
        Case::pairs(vec![pair("a.o", f(1), f(2)), pair("b.o", waits(1), waits(2))])
    };
    waits_since_the_patch: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[call("msleep"), imm(1)])));
    waits_for_a_lock_only: Patched => calls("mutex_lock");
}
