//! Which variable is whose twin when their names only differ in a counter, and which symbol of the kernel is meant.

use crate::common::case::{Case, pair};
use crate::common::code::{call, imm, lea, load, long, pointer, raw, word};
use crate::common::unit::{Unit, function, local};

/// A function that uses some of the variables called `f.buf`, in order; each has its size in words.
fn buffers(value: u32, sizes: &[(&str, usize)], used: &[&str]) -> Unit {
    let mut body = vec![imm(value)];
    body.extend(used.iter().map(|name| load(name)));
    let unit = Unit::new().with(function("f", &body));
    sizes.iter().fold(unit, |unit, (name, size)| {
        unit.local(&format!(".bss.{name}"), name, &vec![long(0); *size])
    })
}

fn two_users(first: &str, second: &str, names: &[&str]) -> Unit {
    let unit = Unit::new()
        .with(function("f", &[imm(1), load(first)]))
        .with(function("g", &[imm(1), load(second)]));
    names
        .iter()
        .fold(unit, |unit, name| unit.local(&format!(".bss.{name}"), name, &[long(0)]))
}

/// A variable of the file and one of a function that GCC numbers, used in some order.
fn file_and_function(first: &str, second: &str) -> Unit {
    Unit::new()
        .local(".bss.x", "x", &[long(0)])
        .local(".bss.x.0", "x.0", &[long(0)])
        .with(function("f", &[load(first), load(second)]))
}

fn unique(number: u32, value: u32) -> Unit {
    let name = format!("__UNIQUE_ID_state{number}");
    Unit::new()
        .with(function("f", &[imm(value), load(&name)]))
        .local(&format!(".data.{name}"), &name, &[word(1)])
}

/// One function stops using a variable with such a name, and a new one uses one with another number.
fn other_user(number: u32, is_new: bool) -> Unit {
    let name = format!("__UNIQUE_ID_state{number}");
    let unit = match is_new {
        false => Unit::new().with(function("f", &[imm(1), load(&name)])),
        true => Unit::new()
            .with(function("f", &[imm(1), call("h")]))
            .with(local("h", &[imm(9), load(&name)])),
    };
    unit.local(&format!(".data.{name}"), &name, &[word(1)])
}

fn initcall(line: u32, value: u32) -> Unit {
    let name = format!("__initstub__kmod_a__{line}_{}_setup4", line * 2);
    Unit::new()
        .with(local(&name, &[call("setup")]).within(".init.text").untraced())
        .with(local("setup", &[imm(7)]).within(".init.text"))
        .with(function("f", &[imm(value)]))
}

fn same_name(value: u32, user: &str) -> Unit {
    Unit::new()
        .with(local("helper", &[imm(value)]))
        .with(function(user, &[imm(value), call("helper")]))
}

/// A function that says some things once each; the flags are numbered in the order in which they stand.
fn says_once(texts: &[&str]) -> Unit {
    once("__already_done", texts)
}

fn once(stem: &str, texts: &[&str]) -> Unit {
    let flag = |index: usize| match index {
        0 => format!("f.{stem}"),
        _ => format!("f.{stem}.{index}"),
    };
    let mut body = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        body.extend([load(&flag(index)), lea(&format!("@{text}")), call("_printk")]);
    }
    let unit = Unit::new().strings(texts).with(function("f", &body));
    (0..texts.len()).fold(unit, |unit, index| {
        unit.local(&format!(".data..once.{index}"), &flag(index), &[long(0)])
    })
}

/// A structure that LLVM has taken apart; two of its members are used in some order.
fn pieces(first: &str, second: &str) -> Unit {
    let unit = Unit::new()
        .bytes(".comment", &[raw(b"clang version 19")])
        .with(function(
            "f",
            &[load(first), call("kfree"), load(second), call("kfree")],
        ));
    ["state.0", "state.1"]
        .iter()
        .fold(unit, |unit, name| unit.local(&format!(".bss.{name}"), name, &[word(0)]))
}

/// Constant texts of their own, as `NL_SET_ERR_MSG` makes them; GCC numbers them by use.
fn messages(texts: &[&str]) -> Unit {
    let name = |index: usize| format!("__msg.{index}");
    let body: Vec<_> = (0..texts.len()).map(|index| lea(&name(index))).collect();
    let unit = Unit::new().with(function("f", &body));
    texts.iter().enumerate().fold(unit, |unit, (index, text)| {
        unit.local(
            &format!(".rodata.{}", name(index)),
            &name(index),
            &[raw(text.as_bytes())],
        )
    })
}

cases! {
    /// It has what was written to it until now.
    unique_variable_of_another_function: Refused(&["select.variable-renamed"]) => Case::of(
        other_user(3, false), other_user(5, true));
    constant_text_comes_before_others: Patched =>
        Case::of(messages(&["one", "two"]), messages(&["new", "one", "two"]));
    constant_text_changes: Patched => Case::of(messages(&["one", "two"]), messages(&["one", "new"]));
    message_once_goes_and_another_comes: Patched =>
        Case::of(says_once(&["deprecated", "unknown"]), says_once(&["unknown", "newest"]));
    messages_once_exchange_places: Patched => Case::of(says_once(&["one", "two"]), says_once(&["two", "one"]));
    what_is_done_once_exchanges_places: Refused(&["select.ambiguous-static"]) => Case::of(once("___done", &["one", "two"]), once("___done", &["two", "one"]));
    pieces_of_a_structure_keep_their_numbers: NoChange => Case::of(
        pieces("state.0", "state.1"), pieces("state.0", "state.1").with(function("more", &[load("state.1")])));
    pieces_of_a_structure_exchange_places: Refused(&["select.ambiguous-static"]) => Case::of(pieces("state.0", "state.1"), pieces("state.1", "state.0"));
    static_local_inserted_before_others: Patched => Case::of(
        buffers(1, &[("f.buf", 1), ("f.buf.1", 2)], &["f.buf", "f.buf.1"]),
        buffers(2, &[("f.buf", 4), ("f.buf.1", 1), ("f.buf.2", 2)], &["f.buf", "f.buf.1", "f.buf.2"]));
    static_locals_renumbered_without_change: NoChange => Case::of(
        buffers(1, &[("f.buf.3", 1), ("f.buf.7", 2)], &["f.buf.3", "f.buf.7"]),
        buffers(1, &[("f.buf.4", 1), ("f.buf.9", 2)], &["f.buf.4", "f.buf.9"]));
    static_locals_swapped: NoChange => Case::of(
        two_users("f.buf", "f.buf.1", &["f.buf", "f.buf.1"]),
        two_users("f.buf.1", "f.buf", &["f.buf", "f.buf.1"]));
    static_local_may_be_any_of_several: Refused(&["select.ambiguous-static"]) => Case::of(
        buffers(1, &[("f.buf", 1), ("f.buf.1", 1)], &["f.buf", "f.buf.1"]),
        buffers(2, &[("f.buf", 1), ("f.buf.1", 1), ("f.buf.2", 1)], &["f.buf", "f.buf.1", "f.buf.2"]));
    variable_without_a_counter_is_itself: Patched => Case::of(
        file_and_function("x", "x.0"),
        file_and_function("x.0", "x").with(function("more", &[imm(1)])));
    unique_id_counter: NoChange => Case::of(unique(3, 1), unique(5, 1));
    unique_id_counter_with_change: Patched => Case::of(unique(3, 1), unique(5, 2));
    initcall_counter: NoChange => Case::of(initcall(10, 1), initcall(12, 1));
    initcall_counter_with_change: Patched => Case::of(initcall(10, 1), initcall(12, 2));
    static_name_in_two_units: Patched => Case::pairs(vec![
        pair("fs/a.o", same_name(1, "one"), same_name(2, "one")),
        pair("fs/b.o", same_name(1, "two"), same_name(3, "two"))]);
    kernels_copies_of_a_name_in_two_units: Patched => Case::pairs(vec![
        pair("fs/a.o", same_name(1, "one"), same_name(1, "one").with(function("three", &[imm(1)]))),
        pair("fs/b.o", two_readers("two", 1), two_readers("two", 2)),
        pair("fs/c.o", two_readers("four", 1), two_readers("four", 2))]);
    static_name_also_in_an_earlier_unit: Patched => Case::of(same_name(1, "one"), same_name(2, "one"))
        .on(|kernel| kernel.before.push(("fs/early.o", "helper")));
    new_static_with_the_name_of_a_kernel_symbol: Patched => Case::pairs(vec![
        pair("fs/a.o", Unit::new().with(function("one", &[imm(1)])),
            Unit::new().with(function("one", &[call("helper")])).with(local("helper", &[imm(1)]))),
        pair("fs/b.o", two_readers("two", 1), two_readers("two", 2))]);
    function_is_not_the_kernels: Refused(&["resolve.baseline-mismatch"]) => Case::of(same_name(1, "one"), same_name(2, "one"))
        .on(|kernel| { kernel.sizes.insert("one", 99); });
    function_without_tracer_call: Refused(&["select.no-ftrace-site"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)]).untraced()),
        Unit::new().with(function("f", &[imm(2)]).untraced()));
    function_without_tracer_record: Refused(&["resolve.no-ftrace-record"]) => Case::of(same_name(1, "one"), same_name(2, "one"))
        .on(|kernel| { kernel.untraced.insert("one"); });
    function_before_a_dropped_weak_one: Refused(&["resolve.shared-ftrace-record"]) => Case::of(same_name(1, "one"), same_name(2, "one"))
        .on(|kernel| { kernel.nameless_behind.insert("one"); });
    table_of_static_locals: Patched => Case::of(
        Unit::new().local(".bss.v.1", "v.1", &[long(0)]).local(".bss.v.2", "v.2", &[long(0)])
            .local(".data.all", "all", &[pointer("v.1"), pointer("v.2")]).with(function("f", &[imm(1), load("all")])),
        Unit::new().local(".bss.v.1", "v.1", &[long(0)]).local(".bss.v.2", "v.2", &[long(0)])
            .local(".data.all", "all", &[pointer("v.1"), pointer("v.2")]).with(function("f", &[imm(2), load("all")])));
}

/// A user of an unchanged static function.
fn two_readers(user: &str, value: u32) -> Unit {
    Unit::new()
        .with(local("helper", &[imm(5)]))
        .with(function(user, &[imm(value), call("helper")]))
}
