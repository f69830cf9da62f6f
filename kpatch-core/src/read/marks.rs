//! Sections in which the author's macros leave marks. They are part of neither the kernel nor the livepatch.

/// Prefix of sections with callback records of kpatch-macros.h; the moment follows.
pub const CALLBACK_RECORDS: &str = ".kpatch.callbacks.";
/// Pointers to callbacks, whose names tell the moment: include/linux/livepatch_helpers.h (6.19), `KLP_CALLBACK_PTRS`.
pub const CALLBACK_POINTERS: &str = ".discard.klp_callback_ptrs";

/// Whether a section holds marks.
pub fn is_mark(section: &str) -> bool {
    section.starts_with(".kpatch.") || section == CALLBACK_POINTERS
}
