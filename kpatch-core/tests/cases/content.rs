//! Same or changed: references are compared by what they mean.

use crate::common::case::{Case, pair};
use crate::common::code::{address, call, compare, imm, label, lea, load, pointer, raw, word};
use crate::common::unit::{Unit, function, local};

/// A caller and a bystander, of which one may change.
fn with_value(value: u32) -> Unit {
    Unit::new()
        .with(function("changes", &[imm(value), call("kfree")]))
        .with(function("stays", &[imm(0), call("kfree")]))
}

fn prints(text: &str, table: &[&str]) -> Unit {
    Unit::new()
        .strings(table)
        .with(function("prints", &[lea(&format!("@{text}")), call("_printk")]))
}

/// A loop that counts from the byte in front of a string, and a bystander.
fn before_string(value: u32, text: &str) -> Unit {
    Unit::new()
        .strings(&[text, "rest"])
        .with(function(
            "counts",
            &[lea(&format!("@{text}")).plus(-1), call("_printk")],
        ))
        .with(function("bystander", &[imm(value)]))
}

/// A struct of one pointer to a string in an anonymous constant, as for a compound literal.
fn through_constant(text: &str) -> Unit {
    Unit::new()
        .strings(&["other", text])
        .bytes(".rodata", &[label("anon"), pointer(&format!("@{text}")), word(7)])
        .with(function("reads", &[lea("@anon"), call("use")]))
}

fn cycle(value: u32) -> Unit {
    Unit::new()
        .local(".rodata.one", "one", &[pointer("two"), word(1)])
        .local(".rodata.two", "two", &[pointer("one"), word(value)])
        .with(function("walks", &[load("one")]))
}

/// Compares what an open file has with the operations, of which one is exchanged.
fn operations(open: &str) -> Unit {
    Unit::new()
        .local(".rodata.fops", "fops", &[pointer(open), pointer("seq_read")])
        .with(local("open_one", &[imm(1), call("kfree")]))
        .with(local("open_two", &[imm(2), call("kfree")]))
        .with(function("is_ours", &[compare("fops", 1)]))
}

/// A constant with a name and variables, of which objects keep the address.
fn attributes(name: &str) -> Unit {
    Unit::new()
        .strings(&["old", "new"])
        .local(".data.list", "list", &[word(1)])
        .local(
            ".rodata.group",
            "group",
            &[pointer(&format!("@{name}")), pointer("list")],
        )
        .with(function("registers", &[lea("group"), call("keep")]))
}

fn jumps_to(target: &str) -> Unit {
    Unit::new()
        .with(function("caller", &[call(target)]))
        .with(local("one", &[imm(1)]))
        .with(local("two", &[imm(2)]))
}

cases! {
    nothing_changed: NoChange => Case::of(with_value(1), with_value(1));
    changed_byte: Patched => Case::of(with_value(1), with_value(2));
    changed_reference: Patched => Case::of(jumps_to("one"), jumps_to("two"));
    changed_size: Patched => Case::of(with_value(1), Unit::new()
        .with(function("changes", &[imm(1), raw(&[0x90]), call("kfree")]))
        .with(function("stays", &[imm(0), call("kfree")])));
    string_literal_changed: Patched => Case::of(prints("old", &["old", "rest"]), prints("new", &["new", "rest"]));
    string_table_moved: NoChange => Case::of(prints("text", &["text", "x"]), prints("text", &["a longer one", "x", "text"]));
    string_tail_shared_with_another: NoChange => Case::of(prints("text", &["text"]), Unit::new()
        .strings(&["long text"])
        .with(function("prints", &[lea("@long text").plus(5), call("_printk")])));
    pointer_before_a_string: Patched => Case::of(before_string(1, "text"), before_string(2, "text"));
    pointer_before_another_string: Patched => Case::of(before_string(1, "text"), before_string(1, "next"));
    constant_reached_through_constant: Patched => Case::of(through_constant("old"), through_constant("new"));
    constant_moved: NoChange => Case::of(through_constant("same"), through_constant("same").strings(&["more"]));
    constants_in_a_cycle_unchanged: NoChange => Case::of(cycle(2), cycle(2));
    constants_in_a_cycle_changed: Patched => Case::of(cycle(2), cycle(3));
    operations_changed: Refused(&["select.operations-changed"]) => Case::of(operations("open_one"), operations("open_two"));
    operations_changed_and_accepted: Patched => Case::of(operations("open_one"), operations("open_two")).accepting("fops");
    table_of_variables_changed: Refused(&["select.operations-changed"]) => Case::of(attributes("old"), attributes("new"));
    operations_unchanged: NoChange => Case::of(operations("open_one"), operations("open_one"));
    operand_behind_the_field: Patched => Case::of(
        Unit::new().local(".data.v", "v", &[word(0)]).with(function("f", &[compare("v", 1)])),
        Unit::new().local(".data.v", "v", &[word(0)]).with(function("f", &[compare("v", 2)])));
    string_with_an_operand_behind_the_field: Patched => Case::of(
        Unit::new().strings(&["other", "meant"]).with(function("f", &[imm(1), compare("@meant", 1)])),
        Unit::new().strings(&["other", "meant"]).with(function("f", &[imm(2), compare("@meant", 1)])));
    another_member_of_a_variable: Patched => Case::of(
        Unit::new().global(".data.v", "v", &[word(0), word(0)]).with(function("f", &[load("v")])),
        Unit::new().global(".data.v", "v", &[word(0), word(0)]).with(function("f", &[load("v").plus(4)])));
    new_function: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[call("helper")])).with(local("helper", &[imm(1), call("kfree")])));
    removed_function: Patched => Case::of(
        Unit::new().with(function("f", &[call("helper")])).with(local("helper", &[imm(1)])),
        Unit::new().with(function("f", &[imm(1)])));
    unused_new_function_stays_out: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[imm(2)])).with(function("nobody", &[imm(3)])));
    call_to_changed_function_stays_in_the_patch: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1), call("g")])).with(local("g", &[imm(1)])),
        Unit::new().with(function("f", &[imm(2), call("g")])).with(local("g", &[imm(2)])));
    pointer_to_changed_function_is_the_kernels: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1), lea("g"), address("g")])).with(local("g", &[imm(1)])),
        Unit::new().with(function("f", &[imm(2), lea("g"), address("g")])).with(local("g", &[imm(2)])));
    address_inside_a_changed_function_stays_in_the_patch: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1), lea("@here"), label("here"), imm(3)])),
        Unit::new().with(function("f", &[imm(2), lea("@here"), label("here"), imm(3)])));
    unknown_symbol: Refused(&["resolve.unknown-symbol"]) => Case::of(with_value(1), with_value(2)).on(|kernel| { kernel.absent.insert("kfree"); });
    two_units_without_change: NoChange => Case::pairs(vec![
        pair("fs/a.o", with_value(1), with_value(1)),
        pair("fs/b.o", Unit::new().with(function("other", &[imm(1)])), Unit::new().with(function("other", &[imm(1)])))]);
    added_source_file: Patched => Case::pairs(vec![
        pair("fs/a.o", Unit::new().with(function("f", &[imm(1)])), Unit::new().with(function("f", &[call("added")]))),
        pair("fs/new.o", Unit::new(), Unit::new().with(function("added", &[imm(1)]))).added()]);
}
