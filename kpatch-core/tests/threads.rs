//! The number of threads decides nothing: the same bytes, elements and messages come out with one thread and with many.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kpatch_core::intermediate::{StructSizes, create};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Author, Input, ObjectName, Stop, build_patch};

fn objects() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/objects/x86_64-clang");
    let entries = std::fs::read_dir(&folder).expect("it is part of the workspace");
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.expect("a folder can be listed").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".orig.o").map(str::to_owned))
        .collect();
    names.sort();
    let read = |path: PathBuf| std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let side = |name: &str, side: &str| read(folder.join(format!("{name}.{side}.o")));
    let rows = names
        .iter()
        .map(|name| (name.clone(), side(name, "orig"), side(name, "patched")));
    rows.collect()
}

fn input<'d>(row: &'d (String, Vec<u8>, Vec<u8>)) -> Input<'d> {
    Input {
        name: format!("{}.o", row.0),
        parent: ObjectName::vmlinux(),
        orig: Some(&row.1),
        shipped: None,
        patched: &row.2,
    }
}

fn stop(result: Result<String, Stop>) -> String {
    result.unwrap_or_else(|stop| stop.to_string())
}

/// Everything that comes out: of each pair alone, and of all of them as the units of one livepatch.
fn everything(objects: &[(String, Vec<u8>, Vec<u8>)]) -> String {
    let mut text = String::new();
    let target = |bytes| {
        let image = Image::from_symbols(ObjectName::vmlinux(), bytes)?;
        Ok::<_, Stop>(Target::partial(ObjectName::vmlinux(), image, Exports::default()))
    };
    for row in objects {
        let made = target(&row.1).and_then(|mut target| create(&input(row), &mut target, &StructSizes::default(), &[]));
        let made = made.map(|made| format!("{:?} {:?} {:?}", made.bytes, made.elements, made.ignored));
        writeln!(text, "{}: {}", row.0, stop(made)).expect("a string takes everything");
    }
    let inputs: Vec<Input<'_>> = objects.iter().map(input).collect();
    let changed: Vec<Input<'_>> = inputs
        .iter()
        .filter(|input| {
            let image = target(input.orig.unwrap_or_default());
            image.is_ok_and(|target| build_patch(std::slice::from_ref(*input), &target, &Author::default()).is_ok())
        })
        .cloned()
        .collect();
    assert!(changed.len() > 3, "{} units make a livepatch", changed.len());
    for inputs in [&inputs, &changed] {
        let made = target(&objects[0].1).and_then(|target| build_patch(inputs, &target, &Author::default()));
        let made = made.map(|made| format!("{:?} {:?}", made.objects, made.elements));
        writeln!(text, "together: {}", stop(made)).expect("a string takes everything");
    }
    text
}

#[test]
fn one_thread_makes_the_same_bytes() {
    let objects = objects();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads can be started").install(|| everything(&objects))
    };
    let one = with(1);
    for _ in 0..3 {
        assert!(with(7) == one, "more threads make something else");
    }
}
