//! Special sections: entries travel with the code they belong to.

use crate::common::case::{Case, Pair, pair};
use crate::common::code::{
    Part, address, call, distance, imm, jmp, label, lea, load, long, long_distance, movabs, near_jump, pointer, raw,
    short, word,
};
use crate::common::unit::{Unit, function};

/// A site in function `f`, with an instruction of two bytes (`ud2`), and one in a function that never changes.
fn sites(value: u32) -> Unit {
    Unit::new()
        .strings(&["fs/a.c", "other"])
        .with(function(
            "f",
            &[imm(value), label("site"), raw(&[0x0f, 0x0b]), label("after")],
        ))
        .with(function("rest", &[label("rest"), raw(&[0x0f, 0x0b])]))
}

/// struct bug_entry: site, file, line, flags.
fn bug(site: &str, line: u16) -> [Part; 4] {
    [distance(site), distance("@fs/a.c"), short(line), short(1)]
}

fn bugs(value: u32, line: u16) -> Unit {
    sites(value)
        .bytes("__bug_table", &bug("@rest", 7))
        .bytes("__bug_table", &bug("@site", line))
}

fn fixups(value: u32) -> Unit {
    let entry = |from, to| [distance(from), distance(to), word(3)];
    sites(value)
        .bytes("__ex_table", &entry("@rest", "@rest"))
        .bytes("__ex_table", &entry("@site", "@after"))
}

fn branch(value: u32, key: &str, define: bool) -> Unit {
    let entry = [
        label("entry"),
        distance("@site"),
        distance("@after"),
        long_distance(key).plus(1),
    ];
    let unit = sites(value).bytes("__jump_table", &entry);
    match define {
        true => unit.global(".data.key", key, &[long(0), long(0)]),
        false => unit,
    }
}

fn branch_in_module(key: &str, define: bool) -> Pair {
    pair("drivers/a.o", branch(1, key, define), branch(2, key, define)).of_module("mod")
}

/// As of 7.3, where objtool is told about each entry of the table.
fn annotated_branch() -> Pair {
    let side = |value| {
        branch(value, "__tracepoint_thing", true).bytes(".discard.annotate_data", &[distance("@entry"), word(1)])
    };
    pair("drivers/a.o", side(1), side(2)).of_module("mod")
}

/// struct alt_instr of 6.12: site, replacement, flags, lengths.
fn alternatives(value: u32, replacement: u32) -> Unit {
    let entry = |site, with| [distance(site), distance(with), word(5), short(0x0202)];
    sites(value)
        .bytes(".altinstr_replacement", &[label("with"), imm(replacement)])
        .bytes(".altinstr_replacement", &[label("rest with"), imm(9)])
        .bytes(".altinstructions", &entry("@site", "@with"))
        .bytes(".altinstructions", &entry("@rest", "@rest with"))
}

/// An entry that copies nothing names the place where another's replacement begins.
fn without_replacement(value: u32) -> Unit {
    let entry = |site, with, lengths| [distance(site), distance(with), word(5), short(lengths)];
    sites(value)
        .bytes(".altinstr_replacement", &[label("rest with"), imm(9)])
        .bytes(".altinstructions", &entry("@site", "@rest with", 0x0002))
        .bytes(".altinstructions", &entry("@rest", "@rest with", 0x0202))
}

/// Code behind the site of static_cpu_has(), reached by a jump.
fn out_of_line(value: u32) -> Unit {
    let jump = call("@aux");
    Unit::new()
        .with(function("f", &[imm(value), jump, label("after")]))
        .bytes(
            ".altinstr_aux",
            &[raw(&[0xcc; 3]), label("aux"), imm(3), call("@after")],
        )
}

/// The code for faults of three functions in one section, as x86 kernels up to 5.15 have it. Control may pass from the
/// code of the second to that of the third.
fn fault_code(value: u32, passes: &[Part]) -> Unit {
    let unit = ["one", "two", "three"].iter().fold(Unit::new(), |unit, name| {
        let (site, after) = (format!("site of {name}"), format!("after {name}"));
        let own = if *name == "two" { value } else { 1 };
        unit.with(function(name, &[imm(own), label(&site), raw(&[0x90]), label(&after)]))
    });
    let back = |name: &str| jmp(&format!("@after {name}"));
    let entry = |name: &str| {
        [
            distance(&format!("@site of {name}")),
            distance(&format!("@code of {name}")),
            word(1),
        ]
    };
    unit.bytes(".fixup", &[label("code of one"), imm(1), back("one")])
        .bytes(".fixup", &[label("code of two"), imm(2)])
        .bytes(".fixup", passes)
        .bytes(".fixup", &[label("code of three"), imm(3), back("three")])
        .bytes("__ex_table", &entry("one"))
        .bytes("__ex_table", &entry("two"))
        .bytes("__ex_table", &entry("three"))
}

fn locks(value: u32) -> Unit {
    sites(value)
        .bytes(".smp_locks", &[distance("@rest")])
        .bytes(".smp_locks", &[distance("@site")])
}

/// The assembler aligns each entry, so that the last one lacks its padding.
fn paravirt(value: u32, last: u32) -> Unit {
    let site = |label: &str| [pointer(label), raw(&[7, 6, 1, 0])];
    let padded = |label: &str| [pointer(label), raw(&[7, 6, 1, 0, 0, 0, 0, 0])];
    Unit::new()
        .with(function("before", &[label("one"), imm(9)]))
        .with(function("f", &[label("two"), imm(value)]))
        .with(function("behind", &[label("three"), imm(last)]))
        .bytes(".parainstructions", &padded("@one"))
        .bytes(".parainstructions", &padded("@two"))
        .bytes(".parainstructions", &site("@three"))
}

fn annotations(value: u32) -> Unit {
    sites(value)
        .bytes(".discard.reachable", &[distance("@rest")])
        .bytes(".discard.reachable", &[distance("@after")])
        .bytes(".discard.unwind_hints", &[distance("@rest"), word(1), word(2)])
        .bytes(".discard.unwind_hints", &[distance("@site"), word(1), word(2)])
}

fn runtime(section: &str, value: u32) -> Unit {
    Unit::new()
        .with(function("f", &[imm(value), label("const"), movabs()]))
        .bytes(section, &[distance("@const").plus(2)])
}

fn static_call(value: u32) -> Unit {
    Unit::new().with(function(
        "f",
        &[imm(value), call("__SCT__pv_thing"), call("__SCT__pv_thing")],
    ))
}

/// Calls whose sites objtool has listed already: one of the module's own, a tracepoint's, one of the kernel image's.
fn listed_static_calls(value: u32) -> Unit {
    let own = |unit: Unit, name: &str| {
        unit.with(function(&format!("__SCT__{name}"), &[imm(1)]).untraced())
            .global(&format!(".data.{name}"), &format!("__SCK__{name}"), &[long(0)])
    };
    let names = ["thing", "tp_func_thing", "pv_thing"];
    let calls = names
        .iter()
        .flat_map(|name| [label(name), call(&format!("__SCT__{name}"))]);
    let body: Vec<Part> = [imm(value)].into_iter().chain(calls).collect();
    let unit = own(own(Unit::new(), "thing"), "tp_func_thing").with(function("f", &body));
    names.iter().fold(unit, |unit, name| {
        let site = [distance(&format!("@{name}")), distance(&format!("__SCK__{name}"))];
        unit.bytes(".static_call_sites", &site)
    })
}

fn debug_print(number: u32, value: u32, line: u32) -> Unit {
    let name = format!("f.__UNIQUE_ID_ddebug{number}");
    Unit::new()
        .strings(&["format %d"])
        .local("__dyndbg", &name, &[pointer("@format %d"), word(line), word(0)])
        .with(function("f", &[imm(value), lea(&name), call("__dynamic_pr_debug")]))
        .with(function("g", &[imm(1)]))
}

cases! {
    // CONFIG_FTRACE_MCOUNT_USE_CC.
    tracing_sites_that_the_compiler_listed: Patched => Case::of(
        sites(1).bytes("__mcount_loc", &[pointer("f").plus(20)]).bytes("__mcount_loc", &[pointer("rest").plus(20)]),
        sites(2).bytes("__mcount_loc", &[pointer("f").plus(20)]).bytes("__mcount_loc", &[pointer("rest").plus(20)]));
    bug_table: Patched => Case::of(bugs(1, 20), bugs(2, 20));
    bug_table_line_changed: Patched => Case::of(bugs(1, 20), bugs(1, 21));
    bug_table_entry_added: Patched => Case::of(sites(1).bytes("__bug_table", &bug("@rest", 7)), bugs(1, 20));
    bug_table_two_entries_lie_without_gaps: Patched => Case::of(
        bugs(1, 20).bytes("__bug_table", &bug("@after", 21)), bugs(2, 20).bytes("__bug_table", &bug("@after", 21)));
    bug_table_unchanged: NoChange => Case::of(bugs(1, 20), bugs(1, 20));
    tables_in_another_order: NoChange => Case::of(
        fixups(1).bytes("__bug_table", &bug("@site", 20)),
        sites(1).bytes("__bug_table", &bug("@site", 20))
            .bytes("__ex_table", &[distance("@rest"), distance("@rest"), word(3)])
            .bytes("__ex_table", &[distance("@site"), distance("@after"), word(3)]));
    exception_table: Patched => Case::of(fixups(1), fixups(2));
    jump_label_with_key_of_the_image: Patched => Case::of(branch(1, "key", true), branch(2, "key", true));
    jump_label_with_exported_key: Patched => Case::pairs(vec![branch_in_module("key", false)])
        .on(|kernel| kernel.exports.push(("key", "vmlinux", "")));
    jump_label_with_key_of_a_module: Refused(&["resolve.module-static-key"]) => Case::pairs(vec![branch_in_module("key", true)]);
    tracepoint_of_a_module: Patched => Case::pairs(vec![branch_in_module("__tracepoint_thing", true)]);
    jump_label_in_a_module_with_unexported_key_of_the_image: Patched => Case::pairs(vec![branch_in_module("key", false)]);
    alternatives_with_replacement: Patched => Case::of(alternatives(1, 3), alternatives(2, 3));
    replacement_changed: Patched => Case::of(alternatives(1, 3), alternatives(1, 4));
    alternative_without_replacement: Patched => Case::of(without_replacement(1), without_replacement(2));
    out_of_line_code: Patched => Case::of(out_of_line(1), out_of_line(2));
    fault_code_in_a_section_of_all: Patched =>
        Case::of(fault_code(1, &[jmp("@after two")]), fault_code(2, &[jmp("@after two")]));
    fault_code_that_runs_on: Patched => Case::of(fault_code(1, &[]), fault_code(2, &[]));
    fault_code_that_jumps_on: Patched =>
        Case::of(fault_code(1, &[near_jump("@code of three")]), fault_code(2, &[near_jump("@code of three")]));
    lock_prefixes: Patched => Case::of(locks(1), locks(2));
    tracepoint_of_a_module_with_annotation: Patched => Case::pairs(vec![annotated_branch()]);
    paravirt_sites: Patched => Case::of(paravirt(1, 9), paravirt(2, 9));
    paravirt_site_that_lacks_its_padding: Patched => Case::of(paravirt(1, 8), paravirt(1, 9));
    objtool_annotations: Patched => Case::of(annotations(1), annotations(2));
    runtime_pointer_becomes_a_load: Patched => Case::of(runtime("runtime_ptr_table", 1), runtime("runtime_ptr_table", 2))
        .on(|kernel| { kernel.also.insert("table"); });
    runtime_pointer_to_nothing: Refused(&["resolve.unknown-symbol"]) => Case::of(runtime("runtime_ptr_table", 1), runtime("runtime_ptr_table", 2));
    runtime_pointer_to_variable_of_the_unit: Patched => Case::of(
        runtime("runtime_ptr_table", 1).local(".data.table", "table", &[long(0)]),
        runtime("runtime_ptr_table", 2).local(".data.table", "table", &[long(0)]));
    runtime_shift: Refused(&["select.runtime-constant"]) => Case::of(runtime("runtime_shift_table", 1), runtime("runtime_shift_table", 2));
    runtime_constant_in_unchanged_code: Patched => Case::of(
        runtime("runtime_shift_table", 1).with(function("g", &[imm(1)])),
        runtime("runtime_shift_table", 1).with(function("g", &[imm(2)])));
    static_call_key: Patched => Case::of(static_call(1), static_call(2))
        .on(|kernel| { kernel.also.insert("__SCK__pv_thing"); });
    exported_static_call_key: Patched => Case::of(static_call(1), static_call(2)).on(|kernel| {
        kernel.exports.push(("__SCT__pv_thing", "vmlinux", ""));
        kernel.exports.push(("__SCK__pv_thing", "vmlinux", ""));
    });
    static_call_of_a_module: Patched => Case::pairs(vec![pair("drivers/a.o",
        static_call(1).with(function("__SCT__pv_thing", &[imm(1)])).global(".data.k", "__SCK__pv_thing", &[long(0)]),
        static_call(2).with(function("__SCT__pv_thing", &[imm(1)])).global(".data.k", "__SCK__pv_thing", &[long(0)]))
        .of_module("mod")]);
    static_call_sites_of_a_module: Patched => Case::pairs(vec![
        pair("drivers/a.o", listed_static_calls(1), listed_static_calls(2)).of_module("mod")])
        .on(|kernel| kernel.exports.extend([("__SCT__pv_thing", "vmlinux", ""), ("__SCK__pv_thing", "vmlinux", "")]));
    dynamic_debug_descriptor: Patched => Case::of(debug_print(4, 1, 10), debug_print(4, 2, 10));
    dynamic_debug_line_changed: Patched => Case::of(debug_print(4, 1, 10), debug_print(5, 1, 12));
    dynamic_debug_counter_changed: NoChange => Case::of(debug_print(4, 1, 10), debug_print(5, 1, 10));
    entry_for_instruction_inside_a_replacement: Patched => Case::of(
        alternatives(1, 3).bytes("__ex_table", &[distance("@with").plus(3), distance("@after"), word(1)]),
        alternatives(2, 3).bytes("__ex_table", &[distance("@with").plus(3), distance("@after"), word(1)]));
    entries_of_unchanged_code_stay_out: Patched => Case::of(
        bugs(1, 20).with(function("g", &[address("f"), load("v")])),
        bugs(1, 20).with(function("g", &[address("f"), load("v"), raw(&[0x90])])));
}
