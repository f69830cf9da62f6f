//! Variables that go to another section: what they begin with, and the memory that they lie in.
//!
//! Compilers choose the section by the initial value (`.bss` for zero), by `const`, by an attribute, and by what they find
//! out about who writes. So the section of a variable changes with nearly every change of its definition.

use object::elf;

use crate::common::case::{Case, pair};
use crate::common::code::{How, Part, call, field, imm, lea, load, long, pointer, this_cpu, word};
use crate::common::unit::{Unit, function, local};

/// A variable that one function reads, and a function that a patch may change.
fn global(section: &str, value: u64, beside: u32) -> Unit {
    Unit::new()
        .global(section, "v", &[long(value)])
        .with(function("reader", &[load("v")]))
        .with(function("beside", &[imm(beside)]))
}

/// The same with a static variable under another name.
fn private(section: &str, name: &str, value: u64, beside: u32) -> Unit {
    Unit::new()
        .local(section, name, &[long(value)])
        .with(function("reader", &[load(name)]))
        .with(function("beside", &[imm(beside)]))
}

/// A variable, and a function that begins to use it. Nobody tells from the object whether that reads or writes.
fn user(section: &str, value: u64, uses: bool) -> Unit {
    let body: &[Part] = if uses { &[lea("v"), call("change")] } else { &[imm(1)] };
    Unit::new()
        .local(section, "v", &[long(value)])
        .with(function("reader", &[load("v")]))
        .with(function("f", body))
}

/// A variable of each processor or not, and a function for each.
fn processor(section: &str, per_cpu: bool) -> Unit {
    let reader = if per_cpu { this_cpu("v") } else { load("v") };
    Unit::new()
        .local(section, "v", &[long(0)])
        .with(function("reader", &[reader]))
}

/// A weak variable, or not.
fn bound(bind: elf::SymbolBind, section: &str, value: u64, beside: u32) -> Unit {
    global(section, value, beside).rebound("v", bind)
}

/// A row with a name, in a table that is not known.
fn row(value: u64, beside: u32) -> Unit {
    Unit::new()
        .local("__mystery", "row", &[long(value)])
        .with(function("beside", &[imm(beside)]))
}

/// A row of a known table that is about something in another file.
fn row_of_nobody(value: u32, beside: u32) -> Unit {
    let place = field(&[0; 4], 0, How::Relocation(elf::R_X86_64_PC32.0), "elsewhere", 0);
    Unit::new()
        .bytes("__ex_table", &[place.clone(), place, word(value)])
        .with(function("beside", &[imm(beside)]))
}

cases! {
    zero_becomes_a_value: Refused(&["select.data-changed"]) => Case::of(global(".bss.v", 0, 1), global(".data.v", 5, 2));
    zero_becomes_a_value_alone: Refused(&["select.data-changed"]) => Case::of(global(".bss.v", 0, 1), global(".data.v", 5, 1));
    value_becomes_zero: Refused(&["select.data-changed"]) => Case::of(global(".data.v", 5, 1), global(".bss.v", 0, 2));
    value_becomes_zero_alone: Refused(&["select.data-changed"]) => Case::of(global(".data.v", 5, 1), global(".bss.v", 0, 1));
    static_zero_becomes_a_value: Refused(&["select.data-changed"]) => Case::of(private(".bss.v", "v", 0, 1), private(".data.v", "v", 2, 2));
    static_value_becomes_zero: Refused(&["select.data-changed"]) => Case::of(private(".data.v", "v", 2, 1), private(".bss.v", "v", 0, 2));
    static_local_of_gcc_becomes_a_value: Refused(&["select.data-changed"]) =>
        Case::of(private(".bss.v.0", "v.0", 0, 1), private(".data.v.1", "v.1", 2, 2));
    static_local_of_clang_becomes_zero: Refused(&["select.data-changed"]) =>
        Case::of(private(".data.reader.v", "reader.v", 2, 1), private(".bss.reader.v", "reader.v", 0, 2));
    value_in_a_section_that_variables_share: Refused(&["select.data-changed"]) => Case::of(global(".bss.v", 0, 1), global(".data..read_mostly", 1, 2));
    read_mostly_value_becomes_zero: Refused(&["select.data-changed"]) => Case::of(global(".data..read_mostly", 1, 1), global(".bss.v", 0, 2));
    page_of_zeros_becomes_a_value: Refused(&["select.data-changed"]) => Case::of(global(".bss..page_aligned", 0, 1), global(".data..page_aligned", 1, 2));
    variable_of_a_module_becomes_a_value: Refused(&["select.data-changed"]) => Case::pairs(vec![
        pair("fs/m.o", private(".bss.v", "v", 0, 1), private(".data.v", "v", 2, 2)).of_module("fs")]);
    promoted_variable_becomes_a_value: Refused(&["select.data-changed"]) => Case::pairs(vec![
        pair("fs/def.o", Unit::new().global(".bss.v.llvm.1", "v.llvm.1", &[long(0)]).with(function("near", &[load("v.llvm.1")])),
            Unit::new().global(".data.v.llvm.2", "v.llvm.2", &[long(2)]).with(function("near", &[load("v.llvm.2")]))),
        pair("fs/imp.o", Unit::new().with(function("far", &[imm(1), load("v.llvm.1")])),
            Unit::new().with(function("far", &[imm(2), load("v.llvm.2")])))]);
    value_promoted_by_the_patch: Refused(&["select.data-changed"]) => Case::pairs(vec![
        pair("fs/def.o", private(".bss.v", "v", 0, 1),
            Unit::new().global(".data.v.llvm.2", "v.llvm.2", &[long(2)]).with(function("reader", &[load("v.llvm.2")]))
                .with(function("beside", &[imm(1)]))),
        pair("fs/imp.o", Unit::new().with(function("far", &[imm(1)])),
            Unit::new().with(function("far", &[load("v.llvm.2")])))]);
    /// `= 0` with -fno-zero-initialized-in-bss, or a section attribute: the same content.
    zeros_that_are_written_out: Patched => Case::of(global(".bss.v", 0, 1), global(".data.v", 0, 2));
    zeros_that_are_no_longer_written_out: Patched => Case::of(global(".data.v", 0, 1), global(".bss.v", 0, 2));
    pointer_that_was_null: Refused(&["select.data-changed"]) => Case::of(
        Unit::new().local(".bss.v", "v", &[long(0)]).with(local("target", &[imm(1)]))
            .with(function("f", &[load("v"), lea("target")])),
        Unit::new().local(".data.v", "v", &[pointer("target")]).with(local("target", &[imm(1)]))
            .with(function("f", &[load("v"), lea("target")])));
    const_becomes_writable_and_is_used: Refused(&["select.data-moved"]) => Case::of(user(".rodata.v", 1, false), user(".data.v", 1, true));
    const_becomes_writable_beside_a_change: Patched => Case::of(global(".rodata.v", 1, 1), global(".data.v", 1, 2));
    const_becomes_writable_and_changes: Refused(&["select.data-changed"]) => Case::of(global(".rodata.v", 1, 1), global(".data.v", 2, 2));
    const_zero_becomes_writable_and_is_used: Refused(&["select.data-moved"]) => Case::of(user(".rodata.v", 0, false), user(".bss.v", 0, true));
    relocated_const_becomes_writable_and_is_used: Refused(&["select.data-moved"]) =>
        Case::of(user(".data.rel.ro.v", 1, false), user(".data.v", 1, true));
    ro_after_init_becomes_writable_and_is_used: Refused(&["select.data-moved"]) =>
        Case::of(user(".data..ro_after_init", 1, false), user(".data.v", 1, true));
    ro_after_init_zero_becomes_writable_and_is_used: Refused(&["select.data-moved"]) =>
        Case::of(user(".data..ro_after_init", 0, false), user(".bss.v", 0, true));
    ro_after_init_becomes_const: Patched => Case::of(user(".data..ro_after_init", 1, false), user(".rodata.v", 1, true));
    sealed_variable_of_the_image_is_used_by_a_module: Refused(&["select.data-moved"]) => Case::pairs(vec![
        pair("fs/a.o", global(".rodata.v", 1, 1), global(".data.v", 1, 1)),
        pair("fs/m.o", Unit::new().with(function("in_module", &[imm(1)])),
            Unit::new().with(function("in_module", &[lea("v"), call("change")]))).of_module("fs")])
        .on(|kernel| { kernel.exports.push(("v", "vmlinux", "")); });
    variable_becomes_const: Patched => Case::of(user(".data.v", 1, false), user(".rodata.v", 1, true));
    zero_becomes_const: Patched => Case::of(user(".bss.v", 0, false), user(".rodata.v", 0, true));
    variable_becomes_const_and_changes: Refused(&["select.data-changed"]) => Case::of(user(".data.v", 1, false), user(".rodata.v", 2, true));
    variable_becomes_ro_after_init: Patched => Case::of(user(".data.v", 1, false), user(".data..ro_after_init", 1, true));
    table_of_functions_becomes_const: Patched => Case::of(
        Unit::new().local(".data.ops", "ops", &[pointer("open")]).with(local("open", &[imm(1)]))
            .with(function("f", &[imm(1), lea("ops")])),
        Unit::new().local(".data.rel.ro.ops", "ops", &[pointer("open")]).with(local("open", &[imm(1)]))
            .with(function("f", &[imm(2), lea("ops")])));
    variable_becomes_per_cpu: Refused(&["select.data-moved"]) => Case::of(processor(".data.v", false), processor(".data..percpu", true));
    per_cpu_variable_becomes_plain: Refused(&["select.data-moved"]) => Case::of(processor(".data..percpu", true), processor(".bss.v", false));
    per_cpu_variable_becomes_read_mostly: NoChange =>
        Case::of(processor(".data..percpu", true), processor(".data..percpu..read_mostly", true));
    variable_becomes_decrypted: Refused(&["select.data-moved"]) => Case::of(global(".bss.v", 0, 1), global(".bss..decrypted", 0, 2));
    variable_becomes_a_row_of_a_table: Refused(&["select.data-moved"]) => Case::of(global(".data.v", 1, 1), global("__mystery", 1, 2));
    variable_becomes_one_of_each_thread: Refused(&["select.data-moved"]) => Case::of(global(".bss.v", 0, 1),
        global(".bss.v", 0, 2).flagged(".bss.v", elf::SHF_TLS));
    variable_becomes_boot_data: Patched => Case::of(global(".data.v", 1, 1),
        Unit::new().global(".init.data", "v", &[long(1)]).with(function("reader", &[load("v")]))
            .with(function("beside", &[imm(2)])));
    boot_data_stays: Refused(&["select.data-moved"]) => Case::of(user(".init.data", 1, false), user(".data.v", 1, true));
    mergeable_constant_gets_a_name: Patched => Case::of(
        global(".rodata.cst8", 1, 1), global(".rodata.v", 1, 2));
    variable_needs_more_alignment_and_is_used: Refused(&["select.data-moved"]) => Case::of(
        user(".data.v", 1, false), user(".data.v", 1, true).aligned(".data.v", 64));
    variable_needs_more_alignment_beside_a_change: Patched => Case::of(
        global(".data.v", 1, 1), global(".data.v", 1, 2).aligned(".data.v", 64));
    variable_becomes_page_aligned_and_is_used: Refused(&["select.data-moved"]) => Case::of(
        user(".bss.v", 0, false), user(".bss..page_aligned", 0, true).aligned(".bss..page_aligned", 4096));
    variable_needs_less_alignment: Patched => Case::of(
        user(".data..cacheline_aligned", 1, false).aligned(".data..cacheline_aligned", 64), user(".data.v", 1, true));
    common_symbol_gets_a_section: Patched => Case::of(
        Unit::new().common("v", 8).with(function("f", &[imm(1), load("v")])),
        Unit::new().global(".bss.v", "v", &[long(0)]).with(function("f", &[imm(2), load("v")])));
    common_symbol_becomes_a_value: Refused(&["select.data-changed"]) => Case::of(
        Unit::new().common("v", 8).with(function("f", &[imm(1), load("v")])),
        Unit::new().global(".data.v", "v", &[long(3)]).with(function("f", &[imm(2), load("v")])));
    common_symbol_resized: Refused(&["select.data-resized"]) => Case::of(
        Unit::new().common("v", 8).with(function("f", &[imm(1), load("v")])),
        Unit::new().common("v", 16).with(function("f", &[imm(1), load("v")])));
    common_symbol_is_new: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().common("v", 8).with(function("f", &[imm(1), load("v")])));
    common_symbol_stays: Patched => Case::of(
        Unit::new().common("v", 8).with(function("f", &[imm(1), load("v")])),
        Unit::new().common("v", 8).with(function("f", &[imm(2), load("v")])));
    weak_variable_becomes_strong: Patched => Case::of(
        bound(elf::STB_WEAK, ".data.v", 1, 1), bound(elf::STB_GLOBAL, ".data.v", 1, 2));
    weak_zero_becomes_a_strong_value: Refused(&["select.data-changed"]) => Case::of(
        bound(elf::STB_WEAK, ".bss.v", 0, 1), bound(elf::STB_GLOBAL, ".data.v", 1, 2));
    static_variable_becomes_global: Patched => Case::of(private(".bss.v", "v", 0, 1), global(".bss.v", 0, 2));
    static_variable_becomes_global_and_a_value: Refused(&["select.data-changed"]) => Case::of(private(".bss.v", "v", 0, 1), global(".data.v", 1, 2));
    row_of_a_table_changed: Refused(&["select.unknown-section"]) => Case::of(row(1, 1), row(2, 2));
    row_of_a_table_stays: Patched => Case::of(row(1, 1), row(1, 2));
    row_of_nobody_changed: Refused(&["select.unknown-section"]) => Case::of(row_of_nobody(1, 1), row_of_nobody(2, 2));
    row_of_nobody_removed: Refused(&["select.unknown-section"]) => Case::of(row_of_nobody(1, 1), Unit::new().with(function("beside", &[imm(2)])));
    row_of_nobody_stays: Patched => Case::of(row_of_nobody(1, 1), row_of_nobody(1, 2));
    constant_that_nobody_reads_changed: Patched => Case::of(
        Unit::new().local(".rodata.v", "v", &[long(1)]).with(function("beside", &[imm(1)])),
        Unit::new().local(".rodata.v", "v", &[long(2)]).with(function("beside", &[imm(2)])));
    variable_that_nobody_uses_goes: Patched => Case::of(
        Unit::new().global(".data.v", "v", &[long(1)]).with(function("beside", &[imm(1)])),
        Unit::new().with(function("beside", &[imm(2)])));
    variable_goes_with_its_only_user: Patched => Case::of(
        user(".data.v", 1, true).with(function("beside", &[imm(1)])),
        Unit::new().with(function("f", &[imm(1)])).with(function("reader", &[imm(3)])).with(function("beside", &[imm(2)])));
    boot_data_goes: Patched => Case::of(
        Unit::new().local(".init.data", "v", &[long(1)]).with(function("beside", &[imm(1)])),
        Unit::new().with(function("beside", &[imm(2)])));
    function_goes_to_another_section: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)]).within(".text.unlikely.f")).with(function("beside", &[imm(1)])),
        Unit::new().with(function("f", &[imm(1)]).within(".text.hot.f")).with(function("beside", &[imm(2)])));
    function_goes_to_another_section_and_changes: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)]).within(".text.unlikely.f")),
        Unit::new().with(function("f", &[imm(2)]).within(".text.hot.f")));
    function_becomes_noinstr: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])),
        Unit::new().with(function("f", &[imm(1)]).within(".noinstr.text").untraced()));
    function_is_no_longer_noinstr: Refused(&["select.no-ftrace-site"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)]).within(".noinstr.text").untraced()),
        Unit::new().with(function("f", &[imm(1)])));
    function_becomes_boot_code: Refused(&["select.init-code"]) => Case::of(
        Unit::new().with(function("f", &[imm(1)])).with(function("beside", &[imm(1)])),
        Unit::new().with(function("f", &[imm(1)]).within(".init.text")).with(function("beside", &[imm(2)])));
    weak_function_becomes_strong: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)]).bound(elf::STB_WEAK)),
        Unit::new().with(function("f", &[imm(2)])));
    function_becomes_one_of_the_scheduler: Patched => Case::of(
        Unit::new().with(function("f", &[imm(1)])).with(function("beside", &[imm(1)])),
        Unit::new().with(function("f", &[imm(1)]).within(".sched.text")).with(function("beside", &[imm(2)])));
}
