//! One object as a new unit, and the file as rows: whatever the bytes are, the answer is a result or an error.
#![no_main]

use kpatch_core::{Input, ObjectName, changes};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    let new = Input {
        name: "fuzz.o".into(),
        parent: ObjectName::vmlinux(),
        orig: None,
        shipped: None,
        patched: bytes,
    };
    drop(changes(&[new], &mut |_| {}));
    drop(kpatch_core::elf::read(bytes));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match kpatch_fuzz::mutate(&data[..size], seed).filter(|made| seed % 4 != 0 && made.len() <= max_size) {
        Some(made) => {
            data[..made.len()].copy_from_slice(&made);
            made.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
