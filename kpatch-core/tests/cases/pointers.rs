//! Pointers to functions in a kernel that checks indirect calls.

use crate::common::case::{Case, pair};
use crate::common::code::{address, call, distance, imm, lea, load, pointer, raw};
use crate::common::kernel::Kernel;
use crate::common::unit::{Unit, function, local};

/// A function that begins to take an address in some way.
fn takes(how: crate::common::code::Part) -> Case {
    let f = |body: &[_]| Unit::new().with(function("f", body));
    Case::of(f(&[call("callee")]), f(&[how, call("callee")])).on(|kernel| kernel.ibt = true)
}

fn sealed(kernel: &mut Kernel) {
    kernel.sealed.insert("callee");
}

/// A static function that was only called, until the patch stores its address as well.
fn first_pointer(helper: impl Fn(bool) -> crate::common::unit::Function) -> Case {
    let orig = Unit::new().with(helper(false)).with(function("f", &[call("helper")]));
    let patched = Unit::new()
        .with(helper(true))
        .with(function("f", &[lea("helper"), call("helper")]));
    Case::of(orig, patched).on(|kernel| {
        kernel.ibt = true;
        kernel.unpadded.insert("helper");
    })
}

fn unpadded_before(patched: bool) -> crate::common::unit::Function {
    let helper = local("helper", &[imm(5)]);
    if patched { helper } else { helper.unpadded() }
}

/// The same code, with a landing pad or without.
fn padded(pad: bool, more: u32) -> Unit {
    let helper = local("helper", &[imm(5), call("other"), raw(&[0xeb, 0xf4])]);
    Unit::new()
        .with(if pad { helper } else { helper.unpadded() })
        .bytes(
            "__bug_table",
            &[
                distance("helper").plus(if pad { 17 } else { 13 }),
                distance("f"),
                raw(&[0; 4]),
            ],
        )
        .with(function("f", &[imm(more), call("helper")]))
}

fn typed(hash: u32, callers: u32) -> Case {
    let f = |body: &[_]| Unit::new().with(function("f", body)).declared("callee", callers);
    Case::of(f(&[call("callee")]), f(&[lea("callee")])).on(|kernel| {
        kernel.ibt = true;
        kernel.hashes.extend([("f", 1), ("callee", hash)]);
    })
}

/// A table that the patch brings, with a row for a function of the same file.
fn table(target: &str) -> Unit {
    Unit::new()
        .with(function("callee", &[imm(1)]))
        .local(".rodata.rows", "rows", &[pointer(target)])
        .with(function("f", &[imm(2), lea("rows")]))
}

cases! {
    pointer_to_a_sealed_function: Refused(&["resolve.indirect-target"]) => takes(lea("callee")).on(sealed);
    pointer_to_a_sealed_function_as_an_immediate: Refused(&["resolve.indirect-target"]) => takes(address("callee")).on(sealed);
    pointer_to_a_function_that_is_not_sealed: Patched => takes(lea("callee"));
    call_of_a_sealed_function: Patched => takes(call("callee")).on(sealed);
    memory_of_a_sealed_function: Patched => takes(load("callee")).on(sealed);
    place_in_a_sealed_function: Patched => takes(lea("callee").plus(8)).on(sealed);
    pointer_to_a_sealed_function_without_checks: Patched => takes(lea("callee")).on(|kernel| {
        kernel.ibt = false;
        kernel.sealed.insert("callee");
    });
    pointer_to_a_function_without_a_landing_pad: Refused(&["resolve.indirect-target"]) =>
        takes(lea("callee")).on(|kernel| { kernel.unpadded.insert("callee"); });
    pointer_to_a_function_that_the_original_points_at: Patched => {
        let f = |value| Unit::new().with(function("f", &[imm(value), lea("callee")]));
        Case::of(f(1), f(2)).on(|kernel| {
            kernel.ibt = true;
            kernel.unpadded.insert("callee");
        })
    };
    pointer_to_a_sealed_function_that_the_original_points_at: Refused(&["resolve.indirect-target"]) => {
        let f = |value| Unit::new().with(function("f", &[imm(value), lea("callee")]));
        Case::of(f(1), f(2)).on(|kernel| kernel.ibt = true).on(sealed)
    };
    pointer_to_boot_code: Refused(&["select.init-reference"]) => takes(lea("callee")).on(|kernel| { kernel.init.insert("callee"); });
    pointer_to_a_function_of_this_type: Patched => typed(7, 7);
    pointer_to_a_function_of_another_type: Refused(&["resolve.indirect-target"]) => typed(7, 8);
    pointer_to_a_function_without_a_type: Refused(&["resolve.indirect-target"]) => typed(7, 7).on(|kernel| { kernel.hashes.remove("callee"); });
    first_pointer_to_a_static_function: Patched => first_pointer(unpadded_before);
    first_pointer_where_nothing_is_checked: Patched =>
        first_pointer(|_| local("helper", &[imm(5)]).unpadded()).on(|kernel| kernel.ibt = false);
    first_pointer_to_a_static_function_with_a_type: Patched => first_pointer(|patched| {
        let helper = local("helper", &[imm(5)]);
        if patched { helper.hashed(9) } else { helper }
    }).on(|kernel| { kernel.hashes.insert("f", 1); kernel.unpadded.clear(); });
    pointer_to_a_sealed_function_of_the_same_file: Patched => {
        let f = |body: &[_]| Unit::new().with(local("callee", &[imm(1), call("other")])).with(function("f", body));
        Case::of(f(&[call("callee")]), f(&[lea("callee")])).on(|kernel| kernel.ibt = true).on(sealed)
    };
    pointer_to_a_sealed_function_that_changes: Patched => {
        let f = |value, body: &[_]| Unit::new().with(local("callee", &[imm(value)])).with(function("f", body));
        Case::of(f(1, &[call("callee")]), f(2, &[lea("callee")])).on(|kernel| kernel.ibt = true).on(sealed)
    };
    new_table_with_a_sealed_function: Patched => Case::of(
        Unit::new().with(function("callee", &[imm(1)])).with(function("f", &[imm(2)])), table("callee"))
        .on(|kernel| kernel.ibt = true).on(sealed);
    new_table_with_a_sealed_function_of_another_file: Refused(&["resolve.indirect-target"]) => Case::of(
        Unit::new().with(function("callee", &[imm(1)])).with(function("f", &[imm(2)])), table("else"))
        .on(|kernel| { kernel.ibt = true; kernel.sealed.insert("else"); });
    pointer_in_a_module_to_its_sealed_function: Patched => {
        let f = |body: &[_]| Unit::new().with(function("f", body));
        let other = || Unit::new().with(function("callee", &[imm(1)]));
        Case::pairs(vec![
            pair("drivers/a.o", f(&[call("callee")]), f(&[lea("callee")])).of_module("a"),
            pair("drivers/b.o", other(), other()).of_module("a")]).on(|kernel| kernel.ibt = true).on(sealed)
    };
    only_a_landing_pad_is_gained: Patched => Case::of(padded(false, 1), padded(true, 2));
    only_a_landing_pad_is_lost: Patched => Case::of(padded(true, 1), padded(false, 2));
    only_a_landing_pad_is_gained_and_nothing_else: NoChange => Case::of(padded(false, 1), padded(true, 1));
    only_a_hash_is_gained: Patched => Case::of(
        Unit::new().with(local("helper", &[imm(1)])).with(function("f", &[imm(1)])),
        Unit::new().with(local("helper", &[imm(1)]).hashed(3)).with(function("f", &[imm(2)])));
    landing_pad_and_code_differ: Patched => Case::of(
        Unit::new().with(local("helper", &[imm(1)]).unpadded()), Unit::new().with(local("helper", &[imm(2)])));
}
