//! ppc64le: two entries, address slots, calls that leave the module, and the tables of this machine.

use crate::common::case::{Case, Pair, pair};
use crate::common::code::{Part, label, long, short};
use crate::common::powerpc::*;
use crate::common::unit::Unit;

/// One function whose constant changes, and the rest of its code.
fn body(value: u16, rest: &[Part]) -> Unit {
    Unit::powerpc().with(function("f", &[&[li(value)], rest]))
}

fn changed(rest: &[Part], more: impl Fn(Unit) -> Unit) -> Case {
    Case::of(more(body(1, rest)), more(body(2, rest)))
}

fn with_static(unit: Unit) -> Unit {
    unit.with(local("helper", &[&[li(7)], &call("printk")]))
}

fn with_leaf(unit: Unit) -> Unit {
    unit.with(local_leaf("helper", &[&[li(7)]]))
}

fn slots(parts: &[Part]) -> impl Fn(Unit) -> Unit {
    let parts: Vec<Part> = parts.to_vec();
    move |unit| unit.bytes(".toc", &parts)
}

fn table_of_slots(unit: Unit) -> Unit {
    slots(&[
        label("a"),
        pointer("variable"),
        label("b"),
        pointer("function"),
        label("c"),
        pointer("@text"),
        label("d"),
        long(0x1234_5678_9abc),
    ])(unit)
    .strings(&["text"])
}

/// The slots of two sides in another order, and one that means something else.
fn renumbered(other: bool) -> Case {
    let first = [label("a"), pointer("variable"), label("b"), pointer("function")];
    let name = if other { "another" } else { "variable" };
    let second = [label("b"), pointer("function"), label("a"), pointer(name)];
    let side = |parts: &[Part]| slots(parts)(body(1, &[slot("@a"), slot("@b")]));
    Case::of(side(&first), side(&second))
}

fn number_in_a_slot(value: u64) -> Unit {
    slots(&[label("a"), long(value)])(body(1, &[slot("@a")]))
}

/// A slot with the address of an element that lies before its array, by the array's section.
fn before_the_first(value: u16, array: &str) -> Unit {
    let unit = ["one", "two"].iter().fold(body(value, &[slot("@a")]), |unit, name| {
        let section = format!(".bss.{name}");
        unit.local(&section, name, &[long(0), long(0)])
            .labelled(name, &section, 0)
    });
    slots(&[label("a"), pointer(&format!("@{array}")).plus(-8)])(unit)
}

/// A table of a `switch` in the code, whose place is loaded from a slot.
fn switch(value: u16) -> Unit {
    let table = [slot("@a"), label("table"), insn(8), insn(12), nop(), nop()];
    slots(&[label("a"), pointer("@table")])(body(value, &table))
}

fn feature_fixup(value: u16) -> Unit {
    let site = [
        label("start"),
        nop(),
        label("end"),
        label("other start"),
        nop(),
        nop(),
        label("other end"),
    ];
    let alternative = [
        label("alternative"),
        insn(0x7c00_04ac),
        label("alternative end"),
        b("@end"),
        insn(0x7c00_06ac),
        label("alternative end 2"),
    ];
    let entry = |from: &str, to: &str, alternative: &str, alternative_end: &str| {
        vec![
            long(1),
            long(1),
            long_distance(from).plus(16),
            long_distance(to).plus(24),
            long_distance(alternative).plus(32),
            long_distance(alternative_end).plus(40),
        ]
    };
    body(value, &site)
        .bytes("__ftr_alt_97", &alternative)
        .bytes(
            "__ftr_fixup",
            &entry("@start", "@end", "@alternative", "@alternative end"),
        )
        .bytes(
            "__ftr_fixup",
            &entry("@other start", "@other end", "@alternative end", "@alternative end 2"),
        )
}

/// A site without an alternative at the end of a function: both ends lie where something else begins.
fn empty_feature_fixup(value: u16) -> Unit {
    let site = Unit::powerpc()
        .with(function("f", &[&[li(value), label("start"), nop()]]).within(".sched.text"))
        .labelled("end", ".sched.text", 28)
        .with(function("g", &[&[li(3)]]).within(".sched.text"));
    let entry = [
        long(1),
        long(1),
        long_distance("@start").plus(16),
        long_distance("@end").plus(24),
        long_distance("@none").plus(32),
        long_distance("@none").plus(40),
    ];
    site.bytes("__ftr_alt_97", &[label("none")])
        .bytes("__mmu_ftr_fixup", &entry)
}

fn tables(value: u16) -> Unit {
    let code = [
        label("bug"),
        insn(0x0fe0_0000),
        label("site"),
        nop(),
        label("after"),
        nop(),
    ];
    body(value, &code)
        .strings(&["file.c"])
        .bytes(
            "__bug_table",
            &[distance("@bug"), distance("@file.c"), short(10), short(0)],
        )
        .bytes(
            "__jump_table",
            &[distance("@site"), distance("@after"), long_distance("key")],
        )
        .bytes("__lwsync_fixup", &[long_distance("@site")])
        .bytes("__barrier_nospec_fixup", &[long_distance("@after")])
}

fn fault(value: u16) -> Unit {
    let code = [label("access"), insn(0x8123_0000), label("after"), nop()];
    let fixup = [
        label("fixup"),
        li(14),
        b("@after"),
        label("other fixup"),
        li(15),
        b("@after"),
    ];
    body(value, &code)
        .bytes(".fixup", &fixup)
        .bytes("__ex_table", &[distance("@access"), distance("@fixup")])
        .bytes("__ex_table", &[distance("@after"), distance("@other fixup")])
}

/// Both functions share a section, and the first calls the second by its distance.
fn near(value: u16, call: Part) -> Unit {
    Unit::powerpc()
        .with(function("f", &[&[li(value), call, nop()]]).within(".sched.text"))
        .with(local_leaf("helper", &[&[li(7)]]).within(".sched.text"))
}

fn large_model(value: u16) -> Unit {
    let (prefix, f) = large("f", &[&[li(value)], &call("printk")]);
    let (prefix_of_g, g) = large("g", &[&[li(3)], &call("printk")]);
    Unit::powerpc()
        .bytes(".sched.text", &[prefix])
        .with(f.within(".sched.text"))
        .bytes(".sched.text", &[prefix_of_g])
        .with(g.within(".sched.text"))
}

/// The kernel was linked from objects of other code.
fn linked_from(shipped: Unit) -> Case {
    let side = |value| with_static(body(value, &call("helper")));
    Case::pairs(vec![pair("fs/a.o", side(1), side(2)).linked_from(shipped)])
}

fn counted(names: &[&str]) -> Unit {
    let unit = slots(&[label("a"), pointer("buf.1")])(body(1, &[slot("@a")]));
    names
        .iter()
        .fold(unit, |unit, name| unit.local(".bss", name, &[long(0)]))
}

fn counted_case(shipped: &[&str]) -> Case {
    let change = |unit: Unit| unit.with(function("g", &[&[li(4)]]));
    let orig = counted(&["buf.1", "buf.2"]);
    let mut patched = slots(&[label("a"), pointer("buf.1")])(body(2, &[slot("@a")]));
    patched = ["buf.1", "buf.2"]
        .iter()
        .fold(patched, |unit, name| unit.local(".bss", name, &[long(0)]));
    Case::pairs(vec![
        pair("fs/a.o", change(orig), change(patched)).linked_from(change(counted(shipped))),
    ])
}

fn of_module(pair: Pair) -> Case {
    Case::pairs(vec![pair.of_module("mod")])
}

cases! {
    ppc_call_of_a_static: Patched => changed(&call("helper"), with_static);
    ppc_call_of_a_static_by_its_local_entry: Patched => changed(&[bl("@local entry"), nop()],
        |unit| with_static(unit).labelled("local entry", ".text.helper", 8));
    ppc_branch_into_a_static: Refused(&["resolve.sibling-call"]) => changed(&[bl("@inside"), nop()],
        |unit| with_static(unit).labelled("inside", ".text.helper", 16));
    ppc_call_of_a_static_leaf: Patched => changed(&call("helper"), with_leaf);
    ppc_call_of_an_exported_function: Patched =>
        changed(&call("kfree"), |unit| unit).on(|kernel| kernel.exports.push(("kfree", "vmlinux", "")));
    ppc_call_without_restore: Refused(&["resolve.call-without-restore"]) => changed(&[bl("helper"), li(3)], with_static);
    ppc_call_in_the_last_instruction: Refused(&["resolve.call-without-restore"]) => changed(&[bl("helper")], with_static);
    ppc_call_within_the_livepatch_needs_no_restore: Patched => Case::of(body(1, &[]), body(1, &[bl("added")])
        .with(local("added", &[&[li(3)]])));
    ppc_call_of_a_changed_static_stays_in_the_livepatch: Patched => Case::of(
        body(1, &[bl("helper")]).with(local("helper", &[&[li(7)]])),
        body(2, &[bl("helper")]).with(local("helper", &[&[li(8)]])));
    ppc_sibling_call: Refused(&["resolve.sibling-call"]) => changed(&[b("helper")], with_static);
    ppc_sibling_call_within_the_livepatch: Patched => Case::of(body(1, &[]), body(1, &[b("added")])
        .with(local("added", &[&[li(3)]])));
    ppc_save_routines_are_of_each_module: Patched => changed(&[bl("_savegpr0_14"), b("_restgpr0_14")], |unit| unit);
    ppc_leaf_that_calls_out: Refused(&["resolve.no-module-pointer"]) => Case::of(
        with_static(Unit::powerpc().with(leaf("f", &[&[li(1)], &call("helper")]))),
        with_static(Unit::powerpc().with(leaf("f", &[&[li(2)], &call("helper")]))));
    ppc_leaf_that_calls_nobody: Patched => Case::of(
        Unit::powerpc().with(leaf("f", &[&[li(1)]])),
        Unit::powerpc().with(leaf("f", &[&[li(2)]])));
    ppc_function_without_tracer_call: Refused(&["select.no-ftrace-site"]) => Case::of(
        Unit::powerpc().with(crate::common::unit::function("f", &[li(1)])),
        Unit::powerpc().with(crate::common::unit::function("f", &[li(2)])));
    ppc_slots: Patched => changed(&[slot("@a"), slot("@b"), slot("@a"), slot("@c"), slot("@d")], table_of_slots);
    ppc_slots_renumbered: NoChange => renumbered(false);
    ppc_slot_means_something_else: Patched => renumbered(true);
    ppc_element_before_the_first: Patched => Case::of(before_the_first(1, "one"), before_the_first(2, "one"));
    ppc_element_before_the_first_of_another: Patched => Case::of(before_the_first(1, "one"), before_the_first(1, "two"));
    ppc_number_in_a_slot_changed: Patched => Case::of(number_in_a_slot(1), number_in_a_slot(2));
    ppc_no_slot_there: Failed("read.unknown-relocation") => changed(&[slot("@a").plus(8)], slots(&[label("a"), pointer("variable")]));
    ppc_half_a_slot: Failed("read.unknown-relocation") => changed(&[slot("@a").plus(4)], slots(&[label("a"), pointer("variable")]));
    ppc_slot_with_a_distance: Failed("read.unknown-relocation") => changed(&[slot("@a")], slots(&[label("a"), long_distance("variable")]));
    ppc_data_by_distance_from_the_toc: Refused(&["resolve.toc-relative"]) => changed(&direct("variable"), |unit| unit);
    ppc_new_data_by_distance_from_the_toc: Patched => Case::of(body(1, &[]),
        body(1, &direct("more")).local(".data.more", "more", &[long(1)]));
    ppc_switch_table_in_the_code: Patched => Case::of(switch(1), switch(2));
    ppc_pointer_to_changed_function_is_the_kernels: Patched => changed(&[slot("@a")], slots(&[label("a"), pointer("f")]));
    ppc_feature_fixups: Patched => Case::of(feature_fixup(1), feature_fixup(2));
    ppc_feature_fixup_at_the_end_of_a_function: Patched => Case::of(empty_feature_fixup(1), empty_feature_fixup(2));
    ppc_tables: Patched => Case::of(tables(1), tables(2));
    ppc_fault_code: Patched => Case::of(fault(1), fault(2));
    ppc_filled_in_call: Patched => Case::of(near(1, near_bl("helper")), near(2, near_bl("helper")));
    ppc_filled_in_call_against_a_relocation: NoChange => Case::of(near(1, near_bl("helper")), near(1, bl("helper")));
    ppc_filled_in_call_became_another_instruction: Refused(&["resolve.sibling-call"]) => Case::of(near(1, near_bl("helper")), near(1, near_b("helper")));
    ppc_large_model: Patched => Case::of(large_model(1), large_model(2));
    ppc_shipped_object_has_another_size: Patched => linked_from(with_static(body(1, &[bl("helper")])));
    ppc_image_is_not_from_the_shipped_object: Refused(&["resolve.baseline-mismatch"]) => linked_from(with_static(body(1, &call("helper")))).on(|kernel| {
        kernel.sizes.insert("helper", 96);
    });
    ppc_shipped_object_lacks_the_function: Refused(&["resolve.baseline-mismatch", "resolve.unknown-symbol"]) => linked_from(Unit::powerpc().with(function("g", &[&[li(4)]])))
        .on(|kernel| {
            kernel.also.insert("f");
        });
    ppc_shipped_object_lacks_a_function: Refused(&["resolve.unknown-symbol"]) => linked_from(body(1, &[li(4)]));
    ppc_shipped_object_has_the_same_counted_variables: Patched => counted_case(&["buf.1", "buf.2"]);
    ppc_shipped_object_has_other_counted_variables: Refused(&["resolve.baseline-mismatch"]) => counted_case(&["buf.1", "buf.3"]);
    ppc_call_of_a_modules_static: Patched =>
        of_module(pair("drivers/a.o", with_static(body(1, &call("helper"))), with_static(body(2, &call("helper")))));
    ppc_relocation_of_position_independent_code: Failed("read.unknown-relocation") =>
        changed(&[reference(0x3d82_0000, object::elf::R_PPC64_PLT16_HA, "variable")], |unit| unit);
}
