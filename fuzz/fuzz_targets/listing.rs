//! The text of a symbol table; positions of what it names must come out without a panic.
#![no_main]

use kpatch_core::ObjectName;
use kpatch_core::resolve::Image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in [ObjectName::vmlinux(), ObjectName::module("fuzz")] {
        let Ok(image) = Image::from_listing(name, text) else { continue };
        for word in text.split_whitespace() {
            for id in image.global(word) {
                let _ = image.sympos(id);
            }
        }
    }
});
