//! Units of modules: whose loading triggers what, and what is left to the module loader.

use crate::common::case::{Case, Pair, pair};
use crate::common::code::{call, imm, load, long};
use crate::common::unit::{Unit, function, local};

/// A unit of module `mod` that calls something.
fn caller(callee: &str) -> Vec<Pair> {
    let side = |value| {
        Unit::new()
            .with(function("f", &[imm(value), call(callee)]))
            .with(local("own", &[imm(0)]))
    };
    vec![pair("drivers/a.o", side(1), side(2)).of_module("mod")]
}

fn in_image(callee: &str) -> Case {
    let side = |value| Unit::new().with(function("f", &[imm(value), call(callee)]));
    Case::of(side(1), side(2))
}

fn used_before_init(name: &str) -> Unit {
    Unit::new().with(local(name, &[imm(1)]).within(".init.text"))
}

cases! {
    module_calls_its_own_static: Patched => Case::pairs(caller("own"));
    module_calls_hidden_kernel_function: Patched => Case::pairs(caller("hidden"));
    module_calls_exported_kernel_function: Patched =>
        Case::pairs(caller("kfree")).on(|kernel| kernel.exports.push(("kfree", "vmlinux", "")));
    module_calls_function_of_another_module: Patched =>
        Case::pairs(caller("their")).on(|kernel| {
            kernel.absent.insert("their");
            kernel.exports.push(("their", "drivers/x/other-mod", ""));
        });
    module_uses_what_the_patch_adds_to_the_image: Patched => Case::pairs(vec![
        pair("fs/a.o", Unit::new().with(function("f", &[imm(1)])),
            Unit::new().with(function("f", &[imm(2)])).with(function("added", &[imm(3)])).global(".bss.more", "more", &[long(0)])),
        pair("drivers/m.o", Unit::new().with(function("g", &[imm(1)])), Unit::new().with(function("g", &[call("added"), load("more")])))
            .of_module("mod")]);
    same_names_in_image_and_module: Patched => Case::pairs(vec![
        pair("fs/a.o", Unit::new().with(function("f", &[imm(1), call("own")])).with(local("own", &[imm(0)])),
            Unit::new().with(function("f", &[imm(2), call("own")])).with(local("own", &[imm(0)]))),
        pair("drivers/a.o", Unit::new().with(function("f", &[imm(1), call("own")])).with(local("own", &[imm(0)])),
            Unit::new().with(function("f", &[imm(3), call("own")])).with(local("own", &[imm(0)]))).of_module("mod")]);
    static_of_the_last_unit_is_not_meant_by_others: Patched => Case::pairs(vec![
        caller("kfree").remove(0),
        pair("drivers/z.o", Unit::new().with(local("kfree", &[imm(1)])), Unit::new().with(local("kfree", &[imm(1)])))
            .of_module("mod")])
        .on(|kernel| { kernel.exports.push(("kfree", "vmlinux", "")); });
    static_of_the_last_unit_of_the_image_is_not_meant_by_others: Refused(&["resolve.unknown-symbol"]) => Case::pairs(vec![
        in_image("lone").pairs.remove(0),
        pair("lib/z.o", Unit::new().with(local("lone", &[imm(1)])), Unit::new().with(local("lone", &[imm(1)])))]);
    module_is_not_there: Refused(&["resolve.unknown-module"]) => Case::pairs(caller("own")).on(|kernel| kernel.no_modules = true);
    position_differs_while_the_module_is_loaded: Refused(&["resolve.unsettled-position"]) => Case::pairs(vec![
        pair("drivers/init.o", used_before_init("own"), used_before_init("own")).of_module("mod"),
        caller("own").remove(0)]);
    exported_function_of_the_image_stays_plain: Patched =>
        in_image("kfree").on(|kernel| kernel.exports.push(("kfree", "vmlinux", "")));
    namespace_is_collected: Patched =>
        in_image("dma_thing").on(|kernel| kernel.exports.push(("dma_thing", "vmlinux", "DMA_BUF")));
    image_uses_its_own_symbol_that_a_module_exports_too: Patched =>
        in_image("hidden").on(|kernel| kernel.exports.push(("hidden", "lib/crc-thing", "")));
    namespace_that_names_modules: Patched =>
        in_image("kvm_thing").on(|kernel| kernel.exports.push(("kvm_thing", "vmlinux", "module:kvm,kvm-intel")));
    module_calls_what_is_exported_to_it_by_name: Patched =>
        Case::pairs(caller("kvm_thing")).on(|kernel| kernel.exports.push(("kvm_thing", "vmlinux", "module:mod")));
    image_uses_symbol_that_a_module_exports: Refused(&["resolve.module-symbol"]) => in_image("their").on(|kernel| {
        kernel.absent.insert("their");
        kernel.exports.push(("their", "lib/crc-thing", ""));
    });
}
