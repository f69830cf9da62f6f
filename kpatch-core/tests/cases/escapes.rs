//! Data of the livepatch whose address somebody else gets: stored, passed on, returned; and what is only read.

use crate::common::case::Case;
use crate::common::code::How::Relocation;
use crate::common::code::{Part, address, call, field, imm, lea, long, pointer, raw};
use crate::common::unit::{Unit, function, local};
use object::elf;

/// `mov $target, %rdi`: the first argument.
fn argument(target: &str) -> Part {
    field(
        &[0x48, 0xc7, 0xc7, 0, 0, 0, 0],
        3,
        Relocation(elf::R_X86_64_32S.0),
        target,
        0,
    )
}

/// `mov %rax, 8(%rbx)`
fn store() -> Part {
    raw(&[0x48, 0x89, 0x43, 8])
}

/// `ret`
fn ret() -> Part {
    raw(&[0xc3])
}

/// A function that begins to do this with a new variable `fresh`, a new table `table` and a new constant `number`.
fn does(body: &[Part]) -> Case {
    let patched = Unit::new()
        .with(function("f", body))
        .with(function("given", &[imm(7), ret()]))
        .local(".data.fresh", "fresh", &[long(1)])
        .local(".data..percpu", "of_cpu", &[long(1)])
        .local(".rodata.number", "number", &[long(2)])
        .local(".rodata.table", "table", &[pointer("given")]);
    let orig = Unit::new()
        .with(function("f", &[imm(1), ret()]))
        .with(function("given", &[imm(7), ret()]));
    Case::of(orig, patched)
}

cases! {
    escape_by_a_store: Patched => does(&[lea("fresh"), store(), imm(2), ret()]);
    escape_of_a_constant_by_a_store: Patched => does(&[address("number"), store(), imm(2), ret()]);
    escape_of_a_string: Patched => {
        let unit = |body: &[Part]| Unit::new().strings(&["kept", "other"]).with(function("f", body));
        Case::of(unit(&[imm(1), ret()]), unit(&[lea("@kept"), store(), imm(2), ret()]))
    };
    escape_of_a_place_of_this_cpu: Patched => does(&[
        address("of_cpu"),
        // add %gs:(%rdx), %rax
        raw(&[0x65, 0x48, 0x03, 0x02]),
        store(),
        imm(2),
        ret(),
    ]);
    escape_to_the_stack_only: Patched => does(&[
        lea("fresh"),
        // mov %rax, 8(%rsp)
        raw(&[0x48, 0x89, 0x44, 0x24, 8]),
        imm(2),
        ret(),
    ]);
    escape_into_the_livepatch_itself: Patched => does(&[
        lea("number"),
        // mov %rax, fresh(%rip)
        field(&[0x48, 0x89, 0x05, 0, 0, 0, 0], 3, Relocation(elf::R_X86_64_PC32.0), "fresh", -4),
        imm(2),
        ret(),
    ]);
    escape_to_a_function_that_may_keep_it: Patched => does(&[argument("fresh"), call("queue_it"), imm(2), ret()]);
    escape_of_a_table_to_a_function: Patched => does(&[argument("table"), call("queue_it"), imm(2), ret()]);
    escape_to_a_lock: Patched => does(&[argument("fresh"), call("mutex_lock"), imm(2), ret()]);
    escape_of_a_constant_to_a_function: Patched => does(&[argument("number"), call("queue_it"), imm(2), ret()]);
    escape_of_a_constant_to_a_registration: Patched => does(&[
        argument("number"),
        call("register_it"),
        imm(2),
        ret(),
    ]);
    escape_through_a_pointer: Patched => does(&[
        argument("fresh"),
        // call *%rax
        raw(&[0xff, 0xd0]),
        imm(2),
        ret(),
    ]);
    escape_to_the_caller: Patched => does(&[lea("fresh"), ret()]);
    new_identifiers_for_bpf: Refused(&["select.bpf-identifiers"]) => {
        let unit = |body: &[Part]| Unit::new().with(function("f", body));
        let patched = unit(&[lea("ids"), imm(2), ret()]).local(".BTF_ids", "ids", &[long(0), long(0)]);
        Case::of(unit(&[imm(1), ret()]), patched)
    };
    identifiers_for_bpf_of_the_kernel: Patched => {
        let unit = |value| Unit::new()
            .with(function("f", &[lea("ids"), imm(value), ret()]))
            .local(".BTF_ids", "ids", &[long(0), long(0)]);
        Case::of(unit(1), unit(2))
    };
    escape_through_a_new_helper: Patched => {
        let helper = |body: &[Part]| Unit::new()
            .with(function("f", body))
            // mov %rdi, 8(%rbx) ; ret
            .with(local("keep_it", &[raw(&[0x48, 0x89, 0x7b, 8, 0xc3])]))
            // mov (%rdi), %rax ; ret
            .with(local("read_it", &[raw(&[0x48, 0x8b, 0x07, 0xc3])]))
            .local(".rodata.number", "number", &[long(2)])
            .local(".data.fresh", "fresh", &[long(1)]);
        let new = [argument("number"), call("keep_it"), argument("fresh"), call("read_it"), ret()];
        Case::of(Unit::new().with(function("f", &[imm(1), ret()])), helper(&new))
    };
}
