//! Changed functions that the tracer cannot hook, and that another function goes on to by a jump. Nothing of that one is
//! on the stack then.

use crate::common::case::{Case, pair};
use crate::common::code::{Part, call, imm, jmp, lea, raw};
use crate::common::unit::{Function, Unit, function, local};

/// `je target`.
fn je(target: &str) -> Part {
    let mut part = jmp(target);
    part.bytes = vec![0x0f, 0x84, 0, 0, 0, 0];
    part.field.as_mut().expect("a jump has one").at = 2;
    part
}

/// A caller that ends with a jump to `helper`, whose code follows the number that it returns.
fn jumped_to(value: u32, body: &[Part]) -> Unit {
    let body = [&[imm(value)], body].concat();
    Unit::new()
        .with(local("helper", &body).untraced())
        .with(function("caller", &[imm(7), jmp("helper")]).without_return())
}

fn change(body: &[Part]) -> Case {
    Case::of(jumped_to(1, body), jumped_to(2, body))
}

fn code(bytes: &[u8]) -> Case {
    change(&[raw(bytes)])
}

/// The same with another function that changes.
fn with_another(caller: impl Fn() -> Function) -> Case {
    let side = |value| {
        Unit::new()
            .with(local("helper", &[imm(value), call("other"), imm(4)]).untraced())
            .with(caller())
            .with(function("other", &[imm(value)]))
    };
    Case::of(side(1), side(2))
}

const OUTLIVES: &[&str] = &["select.outlives-transition"];
const UNSEEN: &[&str] = &["select.unseen-old-code"];

cases! {
    jump_to_untraced: Patched => code(&[]);
    jump_to_untraced_where_code_returns_through_a_function: Patched => Case::of(
        jumped_to(1, &[]).with(local("returns", &[jmp("__x86_return_thunk")])),
        jumped_to(2, &[]).with(local("returns", &[jmp("__x86_return_thunk")])));
    two_jumps_to_untraced: Patched => {
        let side = |value| Unit::new().with(local("helper", &[imm(value)]).untraced())
            .with(local("second", &[imm(value)]).untraced())
            .with(function("caller", &[je("second"), je("helper"), jmp("second")]).without_return());
        Case::of(side(1), side(2))
    };
    jump_to_untraced_from_a_cold_part: Patched => {
        let side = |value| Unit::new().with(local("helper", &[imm(value)]).untraced())
            .with(function("caller", &[imm(7), jmp("caller.cold")]))
            .with(local("caller.cold", &[imm(1), jmp("helper")]).within(".text.unlikely.caller").untraced().without_return());
        Case::of(side(1), side(2))
    };
    jump_to_untraced_from_an_untraced_one: Patched => {
        let side = |value| Unit::new().with(local("helper", &[imm(value), jmp("far_away")]).untraced())
            .with(local("between", &[imm(3), jmp("helper")]).untraced())
            .with(function("caller", &[call("between"), imm(7)]));
        Case::of(side(1), side(2))
    };
    // push %rbx ; sub $16,%rsp ; mov 8(%rsp),%rax ; add $16,%rsp ; pop %rbx
    jump_to_untraced_with_locals: Patched => code(&[0x53, 0x48, 0x83, 0xec, 0x10, 0x48, 0x8b, 0x44, 0x24, 0x08,
        0x48, 0x83, 0xc4, 0x10, 0x5b]);
    // push %rbp ; mov %rsp,%rbp ; mov -8(%rbp),%rax ; pop %rbp
    jump_to_untraced_with_a_frame: Patched => code(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x45, 0xf8, 0x5d]);
    // push %rbx ; mov %rsp,%rdi ; pop %rbx
    jump_to_untraced_with_the_address_of_a_local: Patched => code(&[0x53, 0x48, 0x89, 0xe7, 0x5b]);
    // mov 8(%rsp),%rax: the seventh argument.
    jump_to_untraced_with_arguments_on_the_stack: Refused(OUTLIVES) => code(&[0x48, 0x8b, 0x44, 0x24, 0x08]);
    // push %rbx ; mov 16(%rsp),%rax ; pop %rbx
    jump_to_untraced_with_arguments_below_a_register: Refused(OUTLIVES) =>
        code(&[0x53, 0x48, 0x8b, 0x44, 0x24, 0x10, 0x5b]);
    // push %rbp ; mov %rsp,%rbp ; mov 16(%rbp),%rax ; pop %rbp
    jump_to_untraced_with_arguments_by_the_frame: Refused(OUTLIVES) =>
        code(&[0x55, 0x48, 0x89, 0xe5, 0x48, 0x8b, 0x45, 0x10, 0x5d]);
    // lea 8(%rsp),%rdi: the list of a variadic function.
    jump_to_untraced_with_a_list_of_arguments: Refused(OUTLIVES) => code(&[0x48, 0x8d, 0x7c, 0x24, 0x08]);
    // mov %rsp,%rax ; mov 8(%rax),%rax
    jump_to_untraced_with_the_stack_in_another_register: Refused(OUTLIVES) =>
        code(&[0x48, 0x89, 0xe0, 0x48, 0x8b, 0x40, 0x08]);
    // and $-32,%rsp
    jump_to_untraced_that_aligns_the_stack: Refused(OUTLIVES) => code(&[0x48, 0x83, 0xe4, 0xe0]);
    jump_to_untraced_that_jumps_on: Refused(OUTLIVES) => change(&[jmp("far_away")]);
    jump_to_untraced_that_jumps_on_accepted: Patched => change(&[jmp("far_away")]).accepting("helper");
    // jmp *%rax
    jump_to_untraced_that_jumps_anywhere: Refused(OUTLIVES) => code(&[0xff, 0xe0]);
    jump_to_untraced_and_another_change: Refused(UNSEEN) =>
        with_another(|| function("caller", &[imm(7), jmp("helper")]).without_return());
    jump_to_untraced_and_another_change_accepted: Patched =>
        with_another(|| function("caller", &[imm(7), jmp("helper")]).without_return()).accepting("helper");
    jump_to_untraced_and_another_that_has_it_inlined: Patched =>
        with_another(|| function("caller", &[imm(7), jmp("helper")]).without_return()).of_one_function();
    call_of_untraced_and_another_change: Patched => with_another(|| function("caller", &[call("helper"), imm(7)]));
    jump_to_untraced_only_with_the_patch: Patched => Case::pairs(vec![pair("fs/a.o",
        Unit::new().with(local("helper", &[imm(1)]).untraced()).with(function("caller", &[call("helper"), imm(7)])),
        Unit::new().with(local("helper", &[imm(2)]).untraced()).with(function("caller", &[imm(7), jmp("helper")])))]);
    jump_to_new_function: Patched => Case::pairs(vec![pair("fs/a.o",
        Unit::new().with(function("caller", &[imm(7)])),
        Unit::new().with(local("added", &[imm(2), lea("far_away")])).with(function("caller", &[imm(7), jmp("added")])))]);
}
