//! Damaged objects of every machine, through the way of `create-diff-object` and of `create-klp-module`; and damaged
//! texts. Whatever comes in, the answer is a result or an error.
//!
//! The random numbers are always the same, so a failure names its file and round and can be had again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use kpatch_core::intermediate::{StructSizes, create};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Input, ObjectName, klp};

/// Copies of each object; together some thousand.
const ROUNDS: u64 = 40;

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A copy with one to four bytes exchanged, half of them among the tables at the end.
fn spoilt(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=random.below(4) {
        let from = if random.below(2) == 0 { 0 } else { bytes.len() / 2 };
        let at = from + random.below(bytes.len() - from);
        bytes[at] = [0xff, 0, bytes[at] ^ 1, bytes[at] ^ 0x80, random.below(256) as u8][random.below(5)];
    }
    bytes
}

/// The pairs of all machines, by the path of the original.
fn pairs() -> Vec<(PathBuf, Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/objects");
    let mut found = Vec::new();
    for machine in std::fs::read_dir(folder).expect("part of the project") {
        let machine = machine.expect("a folder can be listed").path();
        if !machine.to_string_lossy().contains("-clang") && !machine.to_string_lossy().contains("-gcc") {
            continue;
        }
        for file in std::fs::read_dir(machine).expect("a folder") {
            let orig = file.expect("a folder can be listed").path();
            let Some(stem) = orig.to_str().and_then(|path| path.strip_suffix(".orig.o")) else {
                continue;
            };
            let patched = std::fs::read(format!("{stem}.patched.o")).expect("objects come in pairs");
            let bytes = std::fs::read(&orig).expect("a file");
            found.push((orig, bytes, patched));
        }
    }
    found.sort();
    found
}

fn diff(orig: &[u8], patched: &[u8]) -> Option<Vec<u8>> {
    let vmlinux = ObjectName::vmlinux();
    let image = Image::from_symbols(vmlinux.clone(), orig).ok()?;
    let mut target = Target::partial(vmlinux.clone(), image, Exports::default());
    let input = Input {
        name: "spoilt.o".into(),
        parent: vmlinux,
        orig: Some(orig),
        shipped: None,
        patched,
    };
    Some(create(&input, &mut target, &StructSizes::default(), &[]).ok()?.bytes)
}

fn survives(what: &str, feed: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(feed)).is_ok(), "panic: {what}");
}

#[test]
fn spoilt_sides() {
    let pairs = pairs();
    assert!(pairs.len() >= 60, "{} pairs", pairs.len());
    for (path, orig, patched) in &pairs {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for round in 0..ROUNDS {
            let (one, other) = (spoilt(orig, &mut random), spoilt(patched, &mut random));
            let sides: [(&[u8], &[u8]); 3] = [(&one, patched), (orig, &other), (&one, &other)];
            for (orig, patched) in sides {
                survives(&format!("{}, round {round}", path.display()), || {
                    drop(diff(orig, patched))
                });
            }
        }
    }
}

#[test]
fn spoilt_records() {
    for (path, orig, patched) in pairs() {
        let Some(made) = diff(&orig, &patched) else { continue };
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        survives(&format!("{}", path.display()), || drop(klp::from_records(&made)));
        for round in 0..ROUNDS {
            let bytes = spoilt(&made, &mut random);
            survives(&format!("{}, round {round}", path.display()), || {
                drop(klp::from_records(&bytes))
            });
        }
    }
}

#[test]
fn spoilt_texts() {
    let listing =
        b"1: ffffffff81000000 0x10 FUNC GLOBAL HIDDEN [<localentry>: 8] 1 f\n2: 00 0 FILE LOCAL DEFAULT ABS a.c\n";
    let symvers = b"0x1\tkfree\tvmlinux\tEXPORT_SYMBOL\t\n0x2\tfoo\tNS\tmod\tEXPORT_SYMBOL_GPL\n";
    let mut random = Random(0x1234_5678_9abc_def1);
    for round in 0..5_000 {
        for good in [&listing[..], &symvers[..]] {
            let bytes = spoilt(good, &mut random);
            let text = String::from_utf8_lossy(&bytes);
            survives(&format!("round {round}: {text:?}"), || {
                drop(Image::from_listing(ObjectName::vmlinux(), &text));
                drop(Exports::parse(&text));
            });
        }
    }
}
