//! Names: several for one place, names that go elsewhere, names that are there already.

use object::elf;

use crate::common::case::{Case, Pair, pair};
use crate::common::code::{Part, address, call, imm, lea, load, long, pointer, raw, word};
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

/// A patch that only moves a function: nobody in the patched files calls it.
fn moves() -> Vec<Pair> {
    let stays = || Unit::new().with(function("stays", &[imm(1)]));
    vec![
        pair("fs/a.o", stays().with(function("moves", &[imm(1)])), stays()),
        pair(
            "fs/b.o",
            Unit::new().with(function("other", &[imm(1)])),
            Unit::new()
                .with(function("other", &[imm(1)]))
                .with(function("moves", &[imm(2)])),
        ),
    ]
}

fn remembers(value: u32, name: &str) -> Unit {
    Unit::new()
        .local(&format!(".bss.{name}"), name, &[long(0)])
        .with(function("f", &[imm(value), load(name)]))
}

/// A structure that LLVM has taken apart.
fn taken_apart(value: u32) -> Unit {
    Unit::new()
        .local(".bss.state.0", "state.0", &[word(0)])
        .local(".bss.state.1", "state.1", &[word(0)])
        .with(function("f", &[imm(value), load("state.0"), load("state.1")]))
}

fn whole(value: u32) -> Unit {
    Unit::new()
        .local(".bss.state", "state", &[word(0), word(0)])
        .with(function("f", &[imm(value), load("state"), load("state").plus(4)]))
}

/// Hands out a function, as one that is called when a file is read.
fn hands_out(value: u32, name: &str) -> Unit {
    Unit::new()
        .with(function("opens", &[imm(value), address(name)]))
        .with(local(name, &[imm(3), call("kfree")]))
}

/// Boot code that is no longer, with its caller at boot and a new one.
fn sets_up(at_boot: bool, user: &[Part]) -> Unit {
    let section = if at_boot { ".init.text.set_up" } else { ".text.set_up" };
    Unit::new()
        .with(function("set_up", &[imm(7)]).within(section))
        .with(local("at_boot", &[call("set_up")]).within(".init.text"))
        .with(function("later", user))
}

/// Functions that only a table leads to, with names that count.
fn quirks(first: u32, values: &[u32]) -> Unit {
    let name = |index: usize| format!("__UNIQUE_ID_quirk{}", first + index as u32);
    let unit = values.iter().enumerate().fold(Unit::new(), |unit, (index, value)| {
        unit.with(local(&name(index), &[imm(*value), raw(&vec![0x90; *value as usize])]))
    });
    let rows: Vec<Part> = (0..values.len()).map(|index| pointer(&name(index))).collect();
    unit.bytes(".pci_fixup_final", &rows)
}

/// A function that asks whether somebody has a name.
fn asks_for(name: &str, value: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value), lea(name), call(name)]))
        .weak(name)
}

/// Quirks with names and devices, beside a function that changes.
fn quirks_with(value: u32, numbers: &[u32]) -> Unit {
    let unit = Unit::new().with(function("f", &[imm(value)]));
    numbers.iter().fold(unit, |unit, number| {
        let name = format!("quirk_{number}");
        unit.with(local(&name, &[imm(*number)]))
            .bytes(".pci_fixup_final", &[word(*number), pointer(&name)])
    })
}

fn quirk_for(value: u32, device: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value)]))
        .with(local("quirk_1", &[imm(1)]))
        .bytes(".pci_fixup_final", &[word(device), pointer("quirk_1")])
}

fn this_module(value: u32) -> Unit {
    Unit::new().with(function("f", &[imm(value), lea("__this_module")]))
}

cases! {
    function_moves_to_another_file: Refused(&["select.name-taken"]) => Case::pairs(moves());
    variable_with_another_name: Refused(&["select.variable-renamed"]) => Case::of(remembers(1, "before"), remembers(1, "after"));
    variable_with_another_name_accepted: Patched => Case::of(remembers(1, "before"), remembers(1, "after")).accepting("after");
    structure_is_no_longer_taken_apart: Refused(&["select.ambiguous-static"]) => Case::of(taken_apart(1), whole(2));
    structure_is_taken_apart: Refused(&["select.ambiguous-static"]) => Case::of(whole(1), taken_apart(2));
    callback_with_another_name: Refused(&["select.function-renamed"]) => Case::of(hands_out(1, "shows"), hands_out(1, "prints"));
    boot_code_is_called_later: Patched => Case::of(sets_up(true, &[imm(1)]), sets_up(false, &[imm(1), call("set_up")]));
    boot_code_stays_uncalled: Patched => Case::of(sets_up(true, &[imm(1)]), sets_up(false, &[imm(2)]));
    weak_name_that_is_nowhere: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])), asks_for("maybe", 2)).on(|kernel| { kernel.absent.insert("maybe"); });
    weak_name_of_a_module_that_is_nowhere: Patched => Case::pairs(vec![
        pair("fs/m.o", Unit::new().with(function("f", &[imm(1)])), asks_for("maybe", 2)).of_module("m")])
        .on(|kernel| { kernel.absent.insert("maybe"); });
    weak_name_that_the_kernel_has: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])), asks_for("maybe", 2));
    weak_name_that_a_module_exports: Refused(&["resolve.module-symbol"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)])), asks_for("maybe", 2))
        .on(|kernel| { kernel.absent.insert("maybe"); kernel.exports.push(("maybe", "m", "")); });
    /// A name that the link has made static of a file is somebody's.
    weak_name_that_is_static_somewhere: Refused(&["resolve.unknown-symbol"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)])), asks_for("maybe", 2))
        .on(|kernel| { kernel.absent.insert("maybe"); kernel.before.push(("fs/b.o", "maybe")); });
    strong_name_that_is_nowhere: Refused(&["resolve.unknown-symbol"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[imm(2), lea("maybe"), call("maybe")])))
        .on(|kernel| { kernel.absent.insert("maybe"); });
    quirk_changes: Patched => Case::of(quirks(3, &[1, 2]), quirks(3, &[1, 3]));
    quirk_changes_and_counters_move: Patched => Case::of(quirks(3, &[1, 2]), quirks(4, &[1, 3]));
    equal_quirks_change: Patched => Case::of(quirks(3, &[2, 2]), quirks(5, &[3, 3]));
    quirk_comes_before_a_changed_one: Refused(&["select.ambiguous-function", "select.unknown-section"]) => Case::of(quirks(3, &[1, 2]), quirks(3, &[5, 7, 8]));
    quirk_comes: Refused(&["select.unknown-section"]) => Case::of(quirks(3, &[1, 2]), quirks(3, &[1, 2, 4]));
    quirk_comes_and_is_accepted: Patched => Case::of(quirks_with(1, &[1]), quirks_with(2, &[1, 2])).accepting("quirk_2");
    quirk_comes_and_another_is_accepted: Refused(&["select.unknown-section"]) =>
        Case::of(quirks_with(1, &[1]), quirks_with(2, &[1, 2])).accepting("quirk_1");
    quirk_for_another_device: Refused(&["select.unknown-section"]) => Case::of(quirks_with(1, &[1]), quirk_for(2, 0x77));
    quirk_goes: Refused(&["select.unknown-section"]) => Case::of(quirks(3, &[1, 2]), quirks(3, &[1]));
    all_quirks_go: Refused(&["select.unknown-section"]) => Case::of(quirks(3, &[1, 2]), quirks(3, &[]));
    module_names_itself: Patched => Case::pairs(vec![
        pair("drivers/m.o", this_module(1), this_module(2)).of_module("mod"),
        pair("drivers/m.mod.o", Unit::new().global(".data.this", "__this_module", &[long(0)]),
            Unit::new().global(".data.this", "__this_module", &[long(0)])).of_module("mod")]);
    function_gets_another_name: Patched => Case::of(named(1, None), named(2, Some("also")));
    function_loses_another_name: Patched => Case::of(named(1, Some("also")), named(2, None));
    global_name_moves_to_another_function: Refused(&["select.name-moved"]) => Case::of(alias_of(true), alias_of(false));
    new_function_of_another_module_is_not_the_exported_one: Patched =>
        Case::pairs(vec![calls("helper").of_module("moda"), gets("helper").of_module("modb")])
            .on(|kernel| { kernel.also.insert("helper"); kernel.exports.push(("helper", "vmlinux", "")); });
    new_function_has_the_name_of_one_in_another_file: Refused(&["select.name-taken"]) =>
        Case::pairs(vec![gets("helper")]).on(|kernel| { kernel.also.insert("helper"); });
    row_of_a_table_for_a_new_variable: Refused(&["select.unknown-section"]) => Case::pairs(vec![with_row("___srcu_struct_ptrs")]);
    row_of_a_new_parameter: Patched => Case::pairs(vec![with_row("__param")]);
}
