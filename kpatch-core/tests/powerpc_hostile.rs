//! Damaged files for ppc64le: what only this machine has must not panic either.

mod common;

use common::case::{Case, pair};
use common::code::{Part, label, long};
use common::damage::survives;
use common::powerpc::*;
use common::unit::Unit;
use kpatch_core::klp::{self, Expected};
use kpatch_core::{Author, Input, ObjectName, build_patch};

/// A unit with something of everything that this machine has.
fn unit(value: u16) -> Unit {
    let mut code: Vec<Part> = vec![
        li(value),
        slot("@variable"),
        slot("@number"),
        slot("@text"),
        label("site"),
        nop(),
        label("end"),
        bl("added"),
    ];
    code.extend(call("helper"));
    code.extend(call("outside"));
    let fixup = [
        long(1),
        long(1),
        long_distance("@site").plus(16),
        long_distance("@end").plus(24),
        long_distance("@other").plus(32),
        long_distance("@other end").plus(40),
    ];
    let (prefix, h) = large("h", &[&[li(value)], &call("outside")]);
    let unit = Unit::powerpc()
        .strings(&["string"])
        .with(function("f", &[&code]))
        .with(function("g", &[&[li(value), near_bl("leaf"), nop()]]).within(".sched.text"))
        .with(local_leaf("leaf", &[&[li(1)]]).within(".sched.text"))
        .with(local("helper", &[&[li(3)]]))
        .bytes(".text.h", &[prefix])
        .with(h.within(".text.h"))
        .bytes(
            ".toc",
            &[label("variable"), pointer("variable"), label("number"), long(77)],
        )
        .bytes(".toc", &[label("text"), pointer("@string")])
        .bytes("__ftr_alt_97", &[label("other"), b("@end"), label("other end")])
        .bytes("__ftr_fixup", &fixup)
        .bytes(".fixup", &[label("fixup"), b("@end")])
        .bytes("__ex_table", &[distance("@site"), distance("@fixup")]);
    match value {
        1 => unit,
        _ => unit.with(local("added", &[&[li(1)]])),
    }
}

fn case() -> Case {
    Case::pairs(vec![pair("fs/a.o", unit(1), unit(2)).linked_from(unit(1))])
}

#[test]
fn the_good_files_are_good() {
    let patch = case().run().expect("otherwise the tests below stop at the first check");
    assert!(patch.elements.len() > 6, "{:#?}", patch.elements);
}

#[test]
fn spoilt_objects() {
    let files = case().kernel.files(&case().pairs);
    let target = files.target();
    let (orig, patched) = (unit(1).build(), unit(2).build());
    let run = |orig: &[u8], patched: &[u8], shipped: &[u8]| {
        let inputs = [Input {
            name: "fs/a.o".into(),
            parent: ObjectName::vmlinux(),
            orig: Some(orig),
            patched,
            shipped: Some(shipped),
        }];
        drop(build_patch(&inputs, &target, &Author::default()));
    };
    survives("patched object", &patched, |bytes| run(&orig, bytes, &orig));
    survives("original object", &orig, |bytes| run(bytes, &patched, &orig));
    survives("shipped object", &orig, |bytes| run(&orig, &patched, bytes));
}

#[test]
fn spoilt_finished_module() {
    let patch = case().run().expect("a good patch");
    let files = case().kernel.files(&case().pairs);
    let target = files.target();
    let module = klp::convert(&patch.objects[0].bytes, &patch.symbols)
        .expect("converts")
        .bytes;
    survives("finished module", &module, |bytes| {
        let expected = Expected {
            functions: &patch.functions,
            callbacks: &patch.callbacks,
            addressed: &patch.addressed,
            vermagic: None,
        };
        drop(klp::check(bytes, &target, &expected));
    });
}
