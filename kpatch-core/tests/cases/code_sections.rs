//! Code that does not lie in a section of its own, and functions in several parts.

use object::elf;

use crate::common::case::Case;
use crate::common::code::{
    call, distance, imm, jmp, label, lea, load, near_call, near_lea, pointer, raw, short as short_number, short_jump,
    word,
};
use crate::common::unit::{Unit, function, local};

/// Two functions in one section with a call between them that the assembler filled in.
fn sched(first: u32, second: u32) -> Unit {
    Unit::new()
        .with(local("inner", &[imm(first)]).within(".sched.text"))
        .with(function("outer", &[imm(second), near_call("inner")]).within(".sched.text"))
}

/// Two functions in one section that pass the address of the first, which the assembler filled in.
fn callback(first: u32, second: u32) -> Unit {
    Unit::new()
        .with(local("inner", &[imm(first), near_lea("inner"), call("use")]).within(".sched.text"))
        .with(function("outer", &[imm(second), near_lea("inner"), call("use")]).within(".sched.text"))
}

fn short(first: u32, second: u32) -> Unit {
    Unit::new()
        .with(function("outer", &[imm(first), short_jump("inner")]).within(".sched.text"))
        .with(local("inner", &[imm(second)]).within(".sched.text"))
        .with(function("bystander", &[imm(second)]))
}

/// A function with parts for what seldom happens, which jump back into it.
fn parts(name: &str, value: u32, cold: &[u32]) -> Unit {
    let part = |index: usize| match index {
        0 => format!("{name}.cold"),
        _ => format!("{name}.cold.{index}"),
    };
    let mut body = vec![imm(value)];
    body.extend((0..cold.len()).map(|index| jmp(&part(index))));
    body.push(label("back"));
    let unit = Unit::new().with(function(name, &body));
    cold.iter().enumerate().fold(unit, |unit, (index, value)| {
        let part = local(&part(index), &[imm(*value), jmp("@back")]).untraced();
        unit.with(part.within(".text.unlikely."))
    })
}

/// A function that was split by a profile: its parts have a size and no type, and each a section of its own.
fn split(value: u32, parts: &[(&str, u32)]) -> Unit {
    let part = |name: &str| format!("f.{name}");
    let mut body = vec![imm(value)];
    body.extend(parts.iter().map(|(name, _)| jmp(&part(name))));
    body.push(label("back"));
    let unit = Unit::new().with(function("f", &body).within(".text.hot.f"));
    parts.iter().fold(unit, |unit, (name, value)| {
        let made = local(&part(name), &[imm(*value), jmp("@back")]).untraced().untyped();
        unit.with(made.within(&format!(".text.split.f.{name}")))
    })
}

/// A system call: what its macro makes has two names, and its part has the second.
fn part_of_an_alias(value: u32, cold: u32) -> Unit {
    let body = [imm(value), jmp("__do_sys_f.cold"), label("back")];
    let part = local("__do_sys_f.cold", &[imm(cold), jmp("@back")]).untraced();
    Unit::new()
        .with(local("__do_sys_f", &body).alias("__x64_sys_f", elf::STB_GLOBAL))
        .with(part.within(".text.unlikely."))
}

/// A part whose function is not there.
fn orphan(value: u32, cold: u32) -> Unit {
    let part = local("gone.cold", &[imm(cold)]).untraced();
    Unit::new()
        .with(function("f", &[imm(value), jmp("gone.cold")]))
        .with(part.within(".text.unlikely."))
}

/// `goto *table[i]`, the table reached through another constant.
fn labels(value: u32) -> Unit {
    Unit::new()
        .local(".rodata.table", "table", &[pointer("@a"), pointer("@b")])
        .local(".rodata.tables", "tables", &[pointer("table")])
        .local(".rodata.unrelated", "unrelated", &[pointer("f")])
        .with(function(
            "f",
            &[
                imm(value),
                load("tables"),
                load("table"),
                load("unrelated"),
                label("a"),
                imm(2),
                label("b"),
                imm(3),
            ],
        ))
}

cases! {
    split_function_changed: Patched => Case::of(split(1, &[("cold", 7)]), split(2, &[("cold", 7)]));
    part_of_a_split_function_changed: Patched => Case::of(split(1, &[("cold", 7)]), split(1, &[("cold", 8)]));
    split_by_the_patch: Patched => Case::of(split(1, &[]), split(2, &[("cold", 7)]));
    no_longer_split: Patched => Case::of(split(1, &[("cold", 7)]), split(2, &[]));
    one_of_several_clusters_changed: Patched => Case::of(
        split(1, &[("__part.1", 7), ("__part.2", 8), ("cold", 9)]),
        split(1, &[("__part.1", 7), ("__part.2", 6), ("cold", 9)]));
    split_function_unchanged: NoChange => Case::of(split(1, &[("cold", 7)]), split(1, &[("cold", 7)]));
    cold_part_of_a_system_call_changed: Patched => Case::of(part_of_an_alias(1, 7), part_of_an_alias(1, 8));
    system_call_with_a_cold_part_changed: Patched => Case::of(part_of_an_alias(1, 7), part_of_an_alias(2, 7));
    cold_part_without_a_function_changed: Refused(&["select.orphan-part"]) => Case::of(orphan(1, 7), orphan(1, 8));
    jump_into_a_cold_part_without_a_function: Refused(&["select.orphan-part"]) => Case::of(orphan(1, 7), orphan(2, 7));
    table_of_labels: Patched => Case::of(labels(1), labels(2));
    table_of_labels_unchanged: NoChange => Case::of(labels(1), labels(1));
    function_in_a_shared_section: Patched => Case::of(sched(1, 1), sched(1, 2));
    callee_in_a_shared_section: Patched => Case::of(sched(1, 1), sched(2, 1));
    both_in_a_shared_section: Patched => Case::of(sched(1, 1), sched(2, 2));
    shared_section_unchanged: NoChange => Case::of(sched(1, 1), sched(1, 1));
    shared_section_grew_before: Patched => Case::of(sched(1, 1), Unit::new()
        .with(local("inner", &[imm(1), raw(&[0x90; 40])]).within(".sched.text"))
        .with(function("outer", &[imm(1), near_call("inner")]).within(".sched.text")));
    address_in_a_shared_section: Patched => Case::of(callback(1, 1), callback(1, 2));
    own_address_in_a_shared_section: Patched => Case::of(callback(1, 1), callback(2, 1));
    address_in_a_shared_section_changed: Patched => Case::of(callback(1, 1), Unit::new()
        .with(local("inner", &[imm(1), near_lea("inner"), call("use")]).within(".sched.text"))
        .with(function("outer", &[imm(1), near_lea("outer"), call("use")]).within(".sched.text")));
    short_jump_out_of_a_changed_function: Refused(&["select.short-branch"]) => Case::of(short(1, 1), short(2, 1));
    short_jump_elsewhere_is_no_matter: NoChange => Case::of(
        short(1, 1), short(1, 1).with(function("more", &[imm(1)])).with(function("other", &[call("more")])));
    short_jump_in_unselected_function: Patched => Case::of(
        short(1, 1).with(function("f", &[imm(1)])), short(1, 1).with(function("f", &[imm(2)])));
    replacement_behind_the_function: Patched => Case::of(outside(1, 7), outside(2, 7));
    replacement_behind_the_function_changed: Patched => Case::of(outside(1, 7), outside(1, 8));
    out_of_line_code_with_a_relocation: Patched => Case::of(calls_outside(1), calls_outside(2));
    parent_of_a_cold_part_changed: Patched => Case::of(parts("f", 1, &[7]), parts("f", 2, &[7]));
    cold_part_changed: Patched => Case::of(parts("f", 1, &[7]), parts("f", 1, &[8]));
    cold_part_appeared: Patched => Case::of(parts("f", 1, &[]), parts("f", 2, &[8]));
    one_of_two_cold_parts_changed: Patched => Case::of(parts("f", 1, &[7, 9]), parts("f", 1, &[7, 10]));
    cold_part_of_a_promoted_function_changed: Patched =>
        Case::of(parts("f.llvm.1", 1, &[7]), parts("f.llvm.2", 1, &[8]));
    cold_part_of_a_promoted_function_unchanged: NoChange =>
        Case::of(parts("f.llvm.1", 1, &[7, 8]), parts("f.llvm.2", 1, &[7, 8]));
    callee_in_a_shared_section_promoted: NoChange => Case::of(sched(1, 1), Unit::new()
        .with(function("inner.llvm.5", &[imm(1)]).within(".sched.text"))
        .with(function("outer", &[imm(1), call("inner.llvm.5")]).within(".sched.text")));
    padding_in_a_shared_section_is_recorded: Patched => Case::of(padded(1), padded(2));
    code_in_noinstr_section: Refused(&["select.no-ftrace-site"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)]).untraced().within(".noinstr.text")),
        Unit::new().with(function("f", &[imm(2)]).untraced().within(".noinstr.text")));
    jump_table_of_a_switch: Patched => Case::of(switch(1, ["@a", "@b"]), switch(2, ["@a", "@b"]));
    distances_to_labels_in_a_shared_section: Patched => Case::of(distances(1), distances(2));
    distances_that_count_past_the_end_of_the_code: Patched => Case::of(long_switch(1), long_switch(2));
    jump_table_of_a_switch_reordered: Patched => Case::of(switch(1, ["@a", "@b"]), switch(1, ["@b", "@a"]));
}

/// A function with a replacement in a subsection, which the assembler puts behind it.
fn outside(value: u32, replacement: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value), label("site"), raw(&[0x90; 5])]))
        .bytes(".text.f", &[label("with"), imm(replacement)])
        .bytes(
            ".altinstructions",
            &[distance("@site"), distance("@with"), word(5), short_number(0x0505)],
        )
}

fn calls_outside(value: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value)]))
        .bytes(".text.f", &[call("warn")])
}

/// A `switch` of one function with a longer table of distances than the function has bytes. The last entries count to places
/// behind the function, where its section has only filler.
fn long_switch(value: u32) -> Unit {
    let code = [imm(value), lea("@cases"), label("a"), imm(2), label("b"), imm(3)];
    let unit = Unit::new()
        .with(local("f", &code))
        .bytes(".text.f", &[raw(&[0x90; 8])])
        .bytes(".rodata.f", &[label("cases")]);
    let entries = (0..32).zip(["@a", "@b"].iter().cycle());
    entries.fold(unit, |unit, (index, target)| {
        unit.bytes(".rodata.f", &[distance(target).plus(4 * index)])
    })
}

/// Two functions whose padding the compiler has recorded, as with CONFIG_CALL_PADDING.
fn padded(value: u32) -> Unit {
    sched(1, value)
        .labelled("padding", ".sched.text", 0x20)
        .bytes("__patchable_function_entries", &[pointer("@padding")])
}

fn switch(value: u32, cases: [&str; 2]) -> Unit {
    Unit::new()
        .with(function(
            "f",
            &[imm(value), load("@cases"), label("a"), imm(2), label("b"), imm(3)],
        ))
        .bytes(".rodata.f", &[label("cases"), pointer(cases[0]), pointer(cases[1])])
}

/// A `switch` in a section that functions share, by a table of distances from its start. The last entries count from
/// their own places, which are as far behind the start as the next function is behind the label.
fn distances(value: u32) -> Unit {
    let code = [imm(value), lea("@cases"), label("a"), imm(2), label("b"), imm(3)];
    let entries = ["@a", "@b", "@a", "@b", "@a", "@b", "@a", "@b"];
    let entries = entries.iter().zip((0..).step_by(4));
    let unit = Unit::new()
        .with(function("before", &[imm(1)]).within(".sched.text"))
        .with(function("f", &code).within(".sched.text"))
        .with(function("next", &[imm(1), imm(1), imm(1)]).within(".sched.text"))
        .bytes(".rodata", &[raw(&[0xff; 8]), label("cases")]);
    entries.fold(unit, |unit, (target, inside)| {
        unit.bytes(".rodata", &[distance(target).plus(inside)])
    })
}
