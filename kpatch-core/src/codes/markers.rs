//! Codes of macros that authors write into a patch.

codes! {
    BAD_MACRO = "macro.bad-mark", Patch {
        words: "author's macro points nowhere",
        meaning: "A macro names a symbol of the wrong kind, or is not known.",
        remedy: "A callback must be a function that the patch adds to the same file, not `__init`; KPATCH_IGNORE names must be functions or sections of the file.",
    }

    CALLBACK_TWICE = "macro.callback-twice", Patch {
        words: "two callbacks at once",
        meaning: "An object has two callbacks for the same moment.",
        remedy: "Call both from one function.",
    }
}
