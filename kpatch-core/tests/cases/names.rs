//! Names: several for one place, names that go elsewhere, names that are there already.

use object::elf;

use crate::common::case::{Case, Pair, pair};
use crate::common::code::{call, imm, lea, load, long, pointer};
use crate::common::unit::{Unit, function, local};

/// A static function, perhaps with a global name besides.
fn named(value: u32, alias: Option<&str>) -> Unit {
    let named = local("named", &[imm(value), load("shared")]);
    let named = alias
        .into_iter()
        .fold(named, |one, name| one.alias(name, elf::STB_GLOBAL));
    Unit::new()
        .local(".data.shared", "shared", &[long(5)])
        .with(named)
        .with(function("caller", &[call("named")]))
}

/// Two functions, of which one has another name.
fn alias_of(first: bool) -> Unit {
    let (one, two) = (function("one", &[imm(1)]), function("two", &[imm(2)]));
    let (one, two) = match first {
        true => (one.alias("zero", elf::STB_GLOBAL), two),
        false => (one, two.alias("zero", elf::STB_GLOBAL)),
    };
    Unit::new().with(one).with(two)
}

/// A unit that calls a function and does not have it.
fn calls(helper: &str) -> Pair {
    let user = |value| Unit::new().with(function("user", &[imm(value), call(helper)]));
    pair("drivers/m.o", user(1), user(2))
}

/// A unit that gets a function of its own.
fn gets(helper: &str) -> Pair {
    let before = Unit::new().with(function("other", &[imm(1)]));
    let after = Unit::new()
        .with(function("other", &[imm(2), call(helper)]))
        .with(function(helper, &[imm(9)]));
    pair("drivers/n.o", before, after)
}

/// What a macro makes for a structure that the kernel must hear of: the structure, and a row in a table.
fn with_row(section: &str) -> Pair {
    pair(
        "drivers/m.o",
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new()
            .with(function("f", &[lea("thing")]))
            .local(".data.thing", "thing", &[long(1)])
            .local(section, "row_of_thing", &[pointer("thing")]),
    )
    .of_module("mod")
}

cases! {
    function_gets_another_name => Case::of(named(1, None), named(2, Some("also")));
    function_loses_another_name => Case::of(named(1, Some("also")), named(2, None));
    global_name_moves_to_another_function => Case::of(alias_of(true), alias_of(false));
    new_function_of_another_module_is_not_the_exported_one =>
        Case::pairs(vec![calls("helper").of_module("moda"), gets("helper").of_module("modb")])
            .on(|kernel| { kernel.also.insert("helper"); kernel.exports.push(("helper", "vmlinux", "")); });
    new_function_has_the_name_of_one_in_another_file =>
        Case::pairs(vec![gets("helper")]).on(|kernel| { kernel.also.insert("helper"); });
    row_of_a_table_for_a_new_variable => Case::pairs(vec![with_row("___srcu_struct_ptrs")]);
    row_of_a_new_parameter => Case::pairs(vec![with_row("__param")]);
}
