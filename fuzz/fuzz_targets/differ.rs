//! The whole differ on two objects. The input is one object and the seed of its twin, so that the two have enough in
//! common to get far; what comes out must read back.
#![no_main]

use kpatch_core::intermediate::{StructSizes, create};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Input, ObjectName};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| {
    let Some((seed, orig)) = bytes.split_last_chunk::<4>().map(|(orig, seed)| (u32::from_le_bytes(*seed), orig)) else {
        return;
    };
    let Some(patched) = kpatch_fuzz::mutate(orig, seed) else { return };
    let vmlinux = ObjectName::vmlinux();
    let Ok(image) = Image::from_symbols(vmlinux.clone(), orig) else { return };
    let mut target = Target::partial(vmlinux.clone(), image, Exports::default());
    let input = Input {
        name: "fuzz.o".into(),
        parent: vmlinux,
        orig: Some(orig),
        shipped: None,
        patched: &patched,
    };
    if let Ok(created) = create(&input, &mut target, &StructSizes::default(), &[]) {
        kpatch_core::elf::read(&created.bytes).expect("what is written reads back");
        drop(kpatch_core::klp::from_records(&created.bytes));
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let orig = size.saturating_sub(4);
    match kpatch_fuzz::mutate(&data[..orig], seed).filter(|made| seed % 4 != 0 && made.len() + 4 <= max_size) {
        Some(made) => {
            data[..made.len()].copy_from_slice(&made);
            data[made.len()..made.len() + 4].copy_from_slice(&seed.rotate_left(7).to_le_bytes());
            made.len() + 4
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});
