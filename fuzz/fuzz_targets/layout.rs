//! Debugging information of one object, compared with itself: an error, or no change.
#![no_main]

use kpatch_core::layout::Layouts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(layouts) = Layouts::read("fuzz.o", bytes) {
        assert!(layouts.changes(&layouts, &|_| true).is_empty());
    }
});
