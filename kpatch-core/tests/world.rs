//! Callers in files that a patch does not touch, found in the image as one object.

mod common;

use std::collections::BTreeSet;

use common::case::{Pair, codes, pair};
use common::code::{call, imm, lea, pointer};
use common::kernel::Kernel;
use common::unit::{Unit, function, local};
use kpatch_core::{Author, Input, Patch, Stop, Wanted, World, build_patch};

/// A file with a global function that cannot be traced.
fn callee(value: u32) -> Unit {
    Unit::new().with(function("helper", &[imm(value)]).untraced())
}

/// A file that calls it.
fn caller() -> Unit {
    Unit::new().with(function("caller", &[call("helper"), imm(7)]))
}

/// The image of both, as one object.
fn image() -> Unit {
    callee(1).with(function("caller", &[call("helper"), imm(7)]))
}

fn both() -> Vec<Pair> {
    vec![pair("fs/a.o", callee(1), callee(2)), pair("fs/b.o", caller(), caller())]
}

struct Run {
    pairs: Vec<Pair>,
    image: Unit,
    imported: BTreeSet<String>,
    exports: bool,
    accepted: Vec<String>,
}

impl Run {
    fn of(pairs: Vec<Pair>, image: Unit) -> Run {
        Run {
            pairs,
            image,
            imported: BTreeSet::new(),
            exports: false,
            accepted: Vec::new(),
        }
    }

    fn with<T>(&self, then: impl FnOnce(&[Input<'_>], &kpatch_core::resolve::Target<'_>, &World<'_>) -> T) -> T {
        let mut kernel = Kernel::default();
        if self.exports {
            kernel.exports.push(("helper", "vmlinux", "EXPORT_SYMBOL"));
        }
        let files = kernel.files(&self.pairs);
        let bytes: Vec<_> = self
            .pairs
            .iter()
            .map(|pair| (pair.orig.as_ref().map(Unit::build), pair.patched.build()))
            .collect();
        let inputs: Vec<Input<'_>> = self
            .pairs
            .iter()
            .zip(&bytes)
            .map(|(pair, (orig, patched))| Input {
                name: pair.name.clone(),
                parent: pair.parent.clone(),
                orig: orig.as_deref(),
                patched,
                shipped: None,
            })
            .collect();
        let image = self.image.build();
        let order = [("fs/a.o".to_owned(), "a.c".to_owned())];
        let world = World::read(&image, &order, self.imported.clone()).expect("the image can be read");
        then(&inputs, &files.target(), &world)
    }

    fn patch(&self) -> Result<Patch, Stop> {
        self.with(|inputs, target, world| {
            let author = Author {
                accepted: &self.accepted,
                edits: None,
                world: Some(world),
            };
            build_patch(inputs, target, &author)
        })
    }

    /// The codes against it.
    fn refused(&self) -> String {
        match self.patch() {
            Err(Stop::Refused(refusals)) => codes(&refusals),
            Err(stop) => panic!("{stop}"),
            Ok(_) => panic!("it is a livepatch"),
        }
    }
}

const REFUSED: &str = "refused select.no-ftrace-site fs/a.o .text.helper `helper`";

#[test]
fn a_caller_in_another_file_is_patched_and_calls_the_new_one() {
    let patch = Run::of(both(), image()).patch().expect("all callers are there");
    let functions: Vec<_> = patch.functions.iter().map(|function| &*function.name).collect();
    let carried: Vec<_> = patch.carried.iter().map(|carried| &*carried.name).collect();
    assert_eq!((functions, carried), (vec!["caller"], vec!["helper"]));
    let files: Vec<_> = patch
        .objects
        .iter()
        .map(|object| kpatch_core::elf::read(&object.bytes).expect("it reads back"))
        .collect();
    let found = |file: &kpatch_core::elf::File, defined: bool| {
        let is = |place| matches!(place, kpatch_core::elf::Place::Section(_)) == defined;
        file.symbols
            .iter()
            .any(|symbol| symbol.name == "helper" && !symbol.is_local() && is(symbol.place))
    };
    assert!(
        found(&files[0], true) && found(&files[1], false),
        "one defines it, the other has it undefined"
    );
    assert!(!patch.symbols.contains_key("helper"), "and it is not the kernel's");
}

#[test]
fn a_file_that_is_missing_is_wanted() {
    let run = Run::of(vec![pair("fs/a.o", callee(1), callee(2))], image());
    let wanted =
        run.with(|inputs, target, world| kpatch_core::wanted(inputs, target, world).expect("they can be read"));
    let caller = Wanted {
        name: "caller".into(),
        unit: None,
    };
    assert_eq!(wanted, BTreeSet::from([caller]));
    assert_eq!(run.refused(), REFUSED);
}

#[test]
fn a_static_caller_is_told_with_its_file() {
    let image = callee(1).with(local("caller", &[call("helper"), imm(7)]));
    let run = Run::of(vec![pair("fs/c.o", callee(1), callee(2))], image);
    let wanted =
        run.with(|inputs, target, world| kpatch_core::wanted(inputs, target, world).expect("they can be read"));
    assert_eq!(wanted.first().and_then(|one| one.unit.as_deref()), Some("fs/a.o"));
}

#[test]
fn whoever_else_in_the_image_has_its_address_is_seen() {
    let taken = image().with(function("taker", &[lea("helper")]));
    let kept = image().local(".data.ops", "ops", &[pointer("helper")]);
    let assembly = image().bytes(".text.assembly", &[call("helper")]);
    for image in [taken, kept, assembly] {
        assert_eq!(Run::of(both(), image).refused(), REFUSED);
    }
}

#[test]
fn an_address_that_another_file_takes_with_the_patch_is_seen() {
    let taker = Unit::new().with(function("caller", &[call("helper"), lea("helper"), imm(7)]));
    let pairs = vec![pair("fs/a.o", callee(1), callee(2)), pair("fs/b.o", caller(), taker)];
    assert_eq!(Run::of(pairs, image()).refused(), REFUSED);
}

#[test]
fn what_a_module_uses_is_refused() {
    let run = Run {
        imported: BTreeSet::from(["helper".to_owned()]),
        ..Run::of(both(), image())
    };
    assert_eq!(run.refused(), REFUSED);
}

#[test]
fn what_is_exported_must_be_accepted_by_name() {
    let exported = || Run {
        exports: true,
        ..Run::of(both(), image())
    };
    assert_eq!(
        exported().refused(),
        "refused select.exported-untraced fs/a.o .text.helper `helper`"
    );
    let accepted = Run {
        accepted: vec!["helper".into()],
        ..exported()
    };
    let patch = accepted.patch().expect("the author answers for it");
    assert_eq!((patch.accepted.len(), patch.is_permanent()), (1, false));
}

#[test]
fn an_image_of_another_build_is_told() {
    let mut run = Run::of(both(), image());
    assert!(run.with(|_, target, world| target.is_placed_from(world)));
    run.image = callee(1).with(function("caller", &[call("helper"), imm(7), imm(8)]));
    assert!(!run.with(|_, target, world| target.is_placed_from(world)));
}
