//! Variables that go to another section: what they begin with, and the memory that they lie in.
//!
//! Compilers choose the section by the initial value (`.bss` for zero), by `const`, by an attribute, and by what they find
//! out about who writes. So the section of a variable changes with nearly every change of its definition.

use crate::common::case::{Case, pair};
use crate::common::code::{imm, lea, load, long};
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

cases! {
    zero_becomes_a_value => Case::of(global(".bss.v", 0, 1), global(".data.v", 5, 2));
    zero_becomes_a_value_alone => Case::of(global(".bss.v", 0, 1), global(".data.v", 5, 1));
    value_becomes_zero => Case::of(global(".data.v", 5, 1), global(".bss.v", 0, 2));
    value_becomes_zero_alone => Case::of(global(".data.v", 5, 1), global(".bss.v", 0, 1));
    static_zero_becomes_a_value => Case::of(private(".bss.v", "v", 0, 1), private(".data.v", "v", 2, 2));
    static_value_becomes_zero => Case::of(private(".data.v", "v", 2, 1), private(".bss.v", "v", 0, 2));
    static_local_of_gcc_becomes_a_value =>
        Case::of(private(".bss.v.0", "v.0", 0, 1), private(".data.v.1", "v.1", 2, 2));
    static_local_of_clang_becomes_zero =>
        Case::of(private(".data.reader.v", "reader.v", 2, 1), private(".bss.reader.v", "reader.v", 0, 2));
    value_in_a_section_that_variables_share => Case::of(global(".bss.v", 0, 1), global(".data..read_mostly", 1, 2));
    read_mostly_value_becomes_zero => Case::of(global(".data..read_mostly", 1, 1), global(".bss.v", 0, 2));
    page_of_zeros_becomes_a_value => Case::of(global(".bss..page_aligned", 0, 1), global(".data..page_aligned", 1, 2));
    variable_of_a_module_becomes_a_value => Case::pairs(vec![
        pair("fs/m.o", private(".bss.v", "v", 0, 1), private(".data.v", "v", 2, 2)).of_module("fs")]);
    promoted_variable_becomes_a_value => Case::pairs(vec![
        pair("fs/def.o", Unit::new().global(".bss.v.llvm.1", "v.llvm.1", &[long(0)]).with(function("near", &[load("v.llvm.1")])),
            Unit::new().global(".data.v.llvm.2", "v.llvm.2", &[long(2)]).with(function("near", &[load("v.llvm.2")]))),
        pair("fs/imp.o", Unit::new().with(function("far", &[imm(1), load("v.llvm.1")])),
            Unit::new().with(function("far", &[imm(2), load("v.llvm.2")])))]);
    value_promoted_by_the_patch => Case::pairs(vec![
        pair("fs/def.o", private(".bss.v", "v", 0, 1),
            Unit::new().global(".data.v.llvm.2", "v.llvm.2", &[long(2)]).with(function("reader", &[load("v.llvm.2")]))
                .with(function("beside", &[imm(1)]))),
        pair("fs/imp.o", Unit::new().with(function("far", &[imm(1)])),
            Unit::new().with(function("far", &[load("v.llvm.2")])))]);
    /// `= 0` with -fno-zero-initialized-in-bss, or a section attribute: the same content.
    zeros_that_are_written_out => Case::of(global(".bss.v", 0, 1), global(".data.v", 0, 2));
    zeros_that_are_no_longer_written_out => Case::of(global(".data.v", 0, 1), global(".bss.v", 0, 2));
    pointer_that_was_null => Case::of(
        Unit::new().local(".bss.v", "v", &[long(0)]).with(local("target", &[imm(1)]))
            .with(function("f", &[load("v"), lea("target")])),
        Unit::new().local(".data.v", "v", &[crate::common::code::pointer("target")]).with(local("target", &[imm(1)]))
            .with(function("f", &[load("v"), lea("target")])));
}
