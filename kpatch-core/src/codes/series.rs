//! Codes of a livepatch that takes the place of others.

codes! {
    CALLBACKS = "series.callbacks-lost", Patch {
        words: "callbacks of the old livepatch lost",
        meaning: "The livepatch that is replaced has a callback for which the new one has none: the kernel does not call those of a livepatch that is replaced.",
        remedy: "Give the new livepatch callbacks that undo what the old one did, or go on with it; or accept it with `--accept` and the name of the old one.",
    }

    KEPT = "series.address-kept", Patch {
        words: "old livepatch stays in memory",
        meaning: "The kernel may have the address of a function of the livepatch that is replaced, and would call that old code.",
        remedy: "Load the new livepatch after a boot, or accept it with `--accept` and the name of the old one.",
    }

    OTHER_KERNEL = "series.other-kernel", Environment {
        words: "old livepatch of another kernel",
        meaning: "The livepatch that is to be replaced is not for this build of the kernel, or of a module.",
        remedy: "Name the livepatch that is loaded on machines with this kernel.",
    }

    SHADOWS = "series.shadow-variables-lost", Patch {
        words: "shadow variables left behind",
        meaning: "The livepatch that is replaced attaches shadow variables, and the new one does nothing with any.",
        remedy: "Let the new livepatch go on with them, or free them in a callback; or accept it with `--accept` and the name of the old one.",
    }

    STATE = "series.state-lost", Patch {
        words: "state of the old livepatch lost",
        meaning: "The livepatch that is replaced declares a state that the new one does not have, or has in a lower version: the kernel does not load it.",
        remedy: "Declare it with KPATCH_STATE in the same or a higher version, and take its data over with klp_get_prev_state().",
    }

    UNREADABLE = "series.unreadable", Environment {
        words: "old livepatch cannot be read",
        meaning: "The module of the livepatch that is to be replaced does not show what it patches.",
        remedy: "Build without `--replaces`, if you know what it does.",
    }
}
