//! The text of Module.symvers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(kpatch_core::resolve::Exports::parse(text));
    }
});
