//! ThinLTO: names with a hash that changes with any edit, and one change spread over several units.

use crate::common::case::{Case, Pair, pair};
use crate::common::code::{call, imm, lea, load, long, pointer, word};
use crate::common::unit::{Unit, function, local};

/// Defines a static that another unit imports, promoted under this name.
fn definer(name: &str, value: u32) -> Unit {
    Unit::new()
        .with(function(name, &[imm(value)]))
        .with(function("near", &[imm(0), call(name)]))
}

fn importer(name: &str, value: u32) -> Unit {
    Unit::new().with(function("far", &[imm(value), call(name), lea(name)]))
}

fn both(definer_values: [u32; 2], importer_values: [u32; 2]) -> Vec<Pair> {
    let (old, new) = ("helper.llvm.111", "helper.llvm.222");
    vec![
        pair(
            "fs/def.o",
            definer(old, definer_values[0]),
            definer(new, definer_values[1]),
        ),
        pair(
            "fs/imp.o",
            importer(old, importer_values[0]),
            importer(new, importer_values[1]),
        ),
    ]
}

fn variable(name: &str, section: &str, value: u32, code: u32) -> Unit {
    Unit::new()
        .global(section, name, &[word(value)])
        .with(function("near", &[imm(code), load(name)]))
}

fn reader(name: &str) -> Unit {
    Unit::new().with(function("far", &[load(name)]))
}

/// What LLVM calls a descriptor of UBSAN that other files import.
fn descriptor(number: u32, hash: u32) -> String {
    format!("anon.b6b687433458652100ea286fe00ddd18.{number}.llvm.{hash}")
}

/// A file with a descriptor, a function that reports with it, and one that it has to do with no more.
fn reports(name: &str, place: [u32; 2], kind: u64, value: u32) -> Unit {
    let row = [pointer("@fs/def.c"), word(place[0]), word(place[1]), long(kind)];
    Unit::new()
        .strings(&["fs/def.c"])
        .global(&format!(".data.{name}"), name, &row)
        .with(function("near", &[lea(name)]))
        .with(function("f", &[imm(value)]))
}

fn reports_elsewhere(name: &str) -> Unit {
    Unit::new().with(function("far", &[lea(name)]))
}

/// A line in front of everything, and a descriptor in front of the first.
fn moved_descriptor(kind: u64, value: u32) -> Vec<Pair> {
    let (old, new) = (descriptor(0, 111), descriptor(1, 222));
    vec![
        pair(
            "fs/def.o",
            reports(&old, [10, 3], 7, 1),
            reports(&new, [11, 5], kind, value),
        ),
        pair("fs/imp.o", reports_elsewhere(&old), reports_elsewhere(&new)),
    ]
}

cases! {
    descriptor_of_the_sanitizer_moves: NoChange => Case::pairs(moved_descriptor(7, 1));
    descriptor_of_the_sanitizer_moves_and_a_function_changes: Patched => Case::pairs(moved_descriptor(7, 2));
    descriptor_of_the_sanitizer_changes: Patched => Case::pairs(moved_descriptor(8, 1));
    only_the_hash_changed: NoChange => Case::pairs(both([1, 1], [1, 1]));
    promoted_function_changed: Patched => Case::pairs(both([1, 2], [1, 1]));
    importer_of_promoted_function_changed: Patched => Case::pairs(both([1, 1], [1, 2]));
    definer_and_importer_changed: Patched => Case::pairs(both([1, 2], [1, 2]));
    static_promoted_by_the_patch: Patched => Case::pairs(vec![
        pair("fs/def.o", Unit::new().with(local("helper", &[imm(1)])).with(function("near", &[imm(0), call("helper")])),
            definer("helper.llvm.5", 1)),
        pair("fs/imp.o", Unit::new().with(function("far", &[imm(1)])), importer("helper.llvm.5", 1))]);
    static_no_longer_promoted: Patched => Case::pairs(vec![
        pair("fs/def.o", definer("helper.llvm.5", 1),
            Unit::new().with(local("helper", &[imm(2)])).with(function("near", &[imm(0), call("helper")]))),
        pair("fs/imp.o", importer("helper.llvm.5", 1), Unit::new().with(function("far", &[imm(1)])))]);
    promoted_variable_read_by_both: Patched => Case::pairs(vec![
        pair("fs/def.o", variable("v.llvm.1", ".data.v", 1, 1), variable("v.llvm.2", ".data.v", 1, 2)),
        pair("fs/imp.o", reader("v.llvm.1"), Unit::new().with(function("far", &[imm(0), load("v.llvm.2")])))]);
    promoted_constant_changed: Patched => Case::pairs(vec![
        pair("fs/def.o", variable("v.llvm.1", ".rodata.v", 1, 1), variable("v.llvm.2", ".rodata.v", 2, 1)),
        pair("fs/imp.o", reader("v.llvm.1"), reader("v.llvm.2"))]);
    new_promoted_function: Patched => Case::pairs(vec![
        pair("fs/def.o", Unit::new().with(function("near", &[imm(0)])), definer("helper.llvm.5", 1)),
        pair("fs/imp.o", Unit::new().with(function("far", &[imm(1)])), importer("helper.llvm.5", 1))]);
    promoted_name_of_the_kernel_in_two_units: Patched => Case::pairs(both([1, 2], [1, 2]))
        .on(|kernel| kernel.before.push(("fs/early.o", "helper.llvm.111")));
}
