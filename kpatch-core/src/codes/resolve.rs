//! Codes of references that the running kernel cannot resolve.

codes! {
    AMBIGUOUS_SYMBOL = "resolve.ambiguous-symbol", Patch {
        words: "ambiguous global symbol",
        meaning: "The kernel has several global symbols of a name.",
        remedy: "Do not use this name from a patched function.",
    }

    BAD_IMAGE = "resolve.bad-image", Environment {
        words: "kernel image not readable",
        meaning: "vmlinux or a module cannot be read.",
        remedy: "Use the vmlinux and modules of this build, with their symbol tables.",
    }

    BAD_LISTING = "resolve.bad-listing", Environment {
        words: "symbol listing not readable",
        meaning: "A line of the symbol table is not one that `readelf -s --wide` prints.",
        remedy: "Create the listing again, or pass the ELF file itself.",
    }

    BAD_SYMVERS = "resolve.bad-symvers", Environment {
        words: "Module.symvers not readable",
        meaning: "A line of Module.symvers does not have its columns.",
        remedy: "Use the Module.symvers of this build.",
    }

    BASELINE_MISMATCH = "resolve.baseline-mismatch", Environment {
        words: "kernel is not this build",
        meaning: "The compared objects are not those of this kernel: a function has another size, or the options for a livepatch changed which functions and variables exist.",
        remedy: "Use the vmlinux that was linked from these objects.",
    }

    // The builder puts the nops in; only inline assembly of the source comes without one.
    NO_RESTORE = "resolve.call-without-restore", Patch {
        words: "call without TOC restore",
        meaning: "No nop follows a call that leaves the livepatch (powerpc).",
        remedy: "Add a nop after each call in inline assembly, or compile both sides with one.",
    }

    INDIRECT_TARGET = "resolve.indirect-target", Patch {
        words: "function that no pointer may lead to",
        meaning: "The livepatch takes the address of a function that this kernel does not let anybody call through a pointer (IBT, kCFI): its landing pad is missing or removed at boot, or its type hash is missing or another.",
        remedy: "Take the address of a new function that only calls it.",
        by_hand: "Yes: a new function in between has a landing pad of its own.",
    }

    LINK_ORDER = "resolve.link-order", Environment {
        words: "link order differs",
        meaning: "The FILE symbols of an image are not those of its objects in link order.",
        remedy: "Use the vmlinux that was linked from these objects.",
    }

    MODULE_STATIC_KEY = "resolve.module-static-key", Patch {
        words: "static key of a module",
        meaning: "A patched function uses a static key that a module owns.",
        remedy: "Use static_key_enabled() in the patched function: it reads the key at run time.",
        by_hand: "Yes: static_key_enabled() reads the key at run time.",
    }

    MODULE_SYMBOL = "resolve.module-symbol", Patch {
        words: "image uses a module's symbol",
        meaning: "vmlinux cannot use a symbol that only a module exports.",
        remedy: "Do not use it: the module may not be loaded.",
        by_hand: "No, unless the module is always there.",
    }

    NO_FTRACE_RECORD = "resolve.no-ftrace-record", Patch {
        words: "no tracing record",
        meaning: "The kernel has no ftrace record for a changed function.",
        remedy: "Patch its callers instead.",
        by_hand: "Sometimes: in a traceable caller.",
    }

    NO_MODULE_POINTER = "resolve.no-module-pointer", Patch {
        words: "call without TOC pointer",
        meaning: "A function without r2 set up calls out of the livepatch (powerpc).",
        remedy: "Make the call from another function.",
    }

    OVERRIDDEN = "resolve.overridden-function", Patch {
        words: "weak function that another replaced",
        meaning: "A changed weak function is not in the kernel: the definition of another file took its place.",
        remedy: "Patch the definition that is in the kernel.",
    }

    SHARED_FTRACE_RECORD = "resolve.shared-ftrace-record", Patch {
        words: "hook of a dropped weak function",
        meaning: "A weak function that the link replaced follows a changed function; the kernel may hook that one instead, and the livepatch would never be called.",
        remedy: "Patch its callers instead.",
        by_hand: "Sometimes: in a traceable caller.",
    }

    // The caller chose the options of the compiler.
    SIBLING_CALL = "resolve.sibling-call", Environment {
        words: "sibling call out of the livepatch",
        meaning: "A function ends in a jump out of the livepatch (powerpc).",
        remedy: "Compile both sides with `-fno-optimize-sibling-calls`.",
    }

    // The caller chose the options of the compiler.
    TOO_FAR = "resolve.toc-relative", Environment {
        words: "data relative to the kernel's TOC",
        meaning: "The kernel's data is named by its distance from the TOC of its own image (powerpc).",
        remedy: "Compile both sides with `-mcmodel=small` or `-mcmodel=large`.",
    }

    UNKNOWN_MODULE = "resolve.unknown-module", Environment {
        words: "module not in this build",
        meaning: "A module that is patched is not among the modules of the kernel.",
        remedy: "Use the modules of this build.",
    }

    UNKNOWN_SYMBOL = "resolve.unknown-symbol", Patch {
        words: "symbol neither in kernel nor livepatch",
        meaning: "A symbol is in neither the kernel nor the livepatch.",
        remedy: "Check that the configuration provides what the patch uses.",
        by_hand: "Mostly: what another file of the same fix brings comes into the patch as well.",
    }

    UNSETTLED_POSITION = "resolve.unsettled-position", Patch {
        words: "position differs while loading",
        meaning: "The name also exists in the init section of a module, so its position changes once the module has loaded.",
        remedy: "Patch a caller instead, or rename what the patch adds.",
        by_hand: "Yes: in a caller, or with another name for what is new.",
    }
}
