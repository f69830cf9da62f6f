//! Names and sections that compilers make up: numbers that move, private constants, groups, and what a linker drops.

use object::elf;

use crate::common::case::{Case, pair};
use crate::common::code::{call, distance, imm, jmp, label, load, long, pointer, raw, short, word};
use crate::common::unit::{Unit, function, local};

/// Copies of a function for constant parameters, each with a part that was split off; GCC up to 9 numbers all of a file.
fn clones(numbers: &[(u32, u32)], value: u32) -> Unit {
    let unit = Unit::new().with(function("show", &[imm(value)]));
    (1..).zip(numbers).fold(unit, |unit, (which, (clone, part))| {
        let (name, back) = (format!("f.constprop.{clone}"), format!("back of {which}"));
        let cold = format!("{name}.cold.{part}");
        let body = [imm(which), jmp(&cold), label(&back)];
        let split = [imm(which + 40), jmp(&format!("@{back}"))];
        unit.with(local(&name, &body))
            .with(local(&cold, &split).untraced().within(".text.unlikely."))
            .with(function(&format!("user{which}"), &[call(&name)]))
    })
}

/// A clone of a clone: both numbers move.
fn clone_of_a_clone(first: u32, value: u32) -> Unit {
    let name = format!("copy.isra.{first}.part.{}", first + 1);
    Unit::new()
        .with(local(&name, &[imm(value)]))
        .with(function("user", &[call(&name)]))
}

/// A function that reads three constants without a symbol, in sections that clang names.
fn private_constants(number: u32, value: u32) -> Unit {
    let unnamed = format!(".rodata..L__unnamed_{number}");
    let anonymous = format!(".rodata..Lanon.9f3a.{number}");
    Unit::new()
        .bytes(".rodata..L__const.f.a", &[label("copied"), word(1), word(2)])
        .bytes(&unnamed, &[label("unnamed"), word(value)])
        .bytes(&anonymous, &[label("anonymous"), word(3)])
        .with(function("f", &[load("@copied"), load("@unnamed")]))
        .with(function("g", &[load("@copied"), load("@anonymous")]))
}

/// The same with data that the sanitizer writes to.
fn sanitized(number: u32, line: u32) -> Unit {
    let unnamed = format!(".data..L__unnamed_{number}");
    Unit::new()
        .bytes(&unnamed, &[label("unnamed"), word(line), word(7)])
        .with(function("f", &[load("@unnamed")]))
        .with(function("g", &[imm(number)]))
}

/// A function that another file has, too, under the same name.
fn namesakes(global: bool, value: u32) -> Vec<crate::common::case::Pair> {
    let side = |global, value| {
        let helper = match global {
            true => function("helper", &[imm(1)]),
            false => local("helper", &[imm(1)]),
        };
        Unit::new()
            .with(helper)
            .with(function("f", &[imm(value), call("helper")]))
    };
    let other = |value| {
        Unit::new()
            .with(local("helper", &[imm(2)]))
            .with(function("g", &[imm(value), call("helper")]))
    };
    vec![
        pair("fs/a.o", side(global, 1), side(!global, value)),
        pair("fs/b.o", other(1), other(value)),
    ]
}

/// Functions that only a table leads to, told apart by their place in it.
fn family(first: u32, values: &[u32]) -> Unit {
    let name = |index: usize| format!("__quirk.{}", first + index as u32);
    let unit = values.iter().enumerate().fold(Unit::new(), |unit, (index, value)| {
        unit.with(local(&name(index), &[imm(*value), raw(&[0x90])]))
    });
    let rows: Vec<_> = (0..values.len()).map(|index| pointer(&name(index))).collect();
    unit.local(".data.rel.ro.quirks", "quirks", &rows)
        .with(function("runs", &[load("quirks")]))
}

/// An inline function and its constant, which each file brings and a linker keeps once.
fn grouped(value: u32) -> Unit {
    Unit::new()
        .global(".rodata.limit", "limit", &[word(5)])
        .flagged(".rodata.limit", elf::SHF_GROUP)
        .with(function("inlined", &[imm(value), load("limit")]).bound(elf::STB_WEAK))
        .flagged(".text.inlined", elf::SHF_GROUP)
        .with(function("f", &[call("inlined")]))
}

/// A table of the kernel's that has a name at its start.
fn named_table(value: u32, line: u16) -> Unit {
    Unit::new()
        .strings(&["fs/a.c"])
        .sizeless("__bug_table", "first_bug")
        .with(function("f", &[imm(value), label("site"), raw(&[0x0f, 0x0b])]))
        .with(function("g", &[label("rest"), raw(&[0x0f, 0x0b])]))
        .bytes(
            "__bug_table",
            &[distance("@site"), distance("@fs/a.c"), short(line), short(1)],
        )
        .bytes(
            "__bug_table",
            &[distance("@rest"), distance("@fs/a.c"), short(9), short(1)],
        )
}

/// A name that something has which the linker drops, too.
fn dropped_namesake(value: u32, dropped: u64) -> Unit {
    Unit::new()
        .with(local("f", &[imm(value)]))
        .with(function("g", &[call("f")]))
        .local(".discard.addressable", "f", &[long(dropped)])
}

/// The assembler's own label in a function, as it stays where a linker relaxes code.
fn made_up_label(value: u32, made_up: &str) -> Unit {
    Unit::new()
        .sizeless(".text.f", made_up)
        .with(function("f", &[imm(value)]))
}

cases! {
    clone_and_its_part_get_other_numbers: Patched => Case::of(clones(&[(18, 27)], 1), clones(&[(19, 28)], 2));
    clones_and_their_parts_get_the_numbers_of_others: Patched =>
        Case::of(clones(&[(18, 27), (19, 28)], 1), clones(&[(19, 28), (20, 29)], 2));
    clones_get_other_numbers_and_nothing_else: NoChange =>
        Case::of(clones(&[(18, 27), (19, 28)], 1), clones(&[(19, 28), (20, 29)], 1));
    clone_of_a_clone_gets_other_numbers: NoChange => Case::of(clone_of_a_clone(6, 1), clone_of_a_clone(7, 1));
    clone_of_a_clone_changes: Patched => Case::of(clone_of_a_clone(6, 1), clone_of_a_clone(7, 2));
    private_constants_get_other_numbers: NoChange => Case::of(private_constants(1, 4), private_constants(2, 4));
    private_constant_changes: Patched => Case::of(private_constants(1, 4), private_constants(2, 5));
    data_of_the_sanitizer_gets_another_number: Patched => Case::of(sanitized(1, 4), sanitized(2, 4));
    static_function_with_a_namesake_becomes_global: Patched => Case::pairs(namesakes(false, 2));
    global_function_with_a_namesake_becomes_static: Patched => Case::pairs(namesakes(true, 2));
    function_with_a_namesake_changes_its_binding_only: NoChange => Case::pairs(namesakes(false, 1));
    one_of_a_family_changes: Patched => Case::of(family(3, &[1, 2, 3]), family(4, &[1, 5, 3]));
    a_family_gets_other_numbers: NoChange => Case::of(family(3, &[1, 2, 3]), family(4, &[1, 2, 3]));
    function_of_a_group: Patched => Case::of(grouped(1), grouped(2));
    table_with_a_name_at_its_start: Patched => Case::of(named_table(1, 5), named_table(2, 5));
    name_that_something_dropped_has_too: Patched => Case::of(dropped_namesake(1, 3), dropped_namesake(2, 4));
    only_what_is_dropped_changes: NoChange => Case::of(dropped_namesake(1, 3), dropped_namesake(1, 4));
    label_of_the_assembler: Patched => Case::of(made_up_label(1, "L0\u{1}"), made_up_label(2, "L7\u{2}1"));
}
