//! Codes of a finished module that the kernel would refuse.

codes! {
    BAD_CALL = "klp.bad-call", Defect {
        words: "call without a way back",
        meaning: "A branch out of the finished module would come back with the wrong module pointer, or the loader would refuse it.",
        remedy: "Report this with the module.",
    }

    BAD_MODINFO = "klp.bad-modinfo", Defect {
        words: "wrong module information",
        meaning: "The finished module is not marked as a livepatch, not under the GPL, or depends on other modules.",
        remedy: "Report this with the module.",
    }

    BAD_MODULE = "klp.bad-module", Defect {
        words: "module not readable",
        meaning: "The linked module cannot be read, or defines what the kernel should.",
        remedy: "Report this with the module.",
    }

    BAD_NAME = "klp.bad-name", Defect {
        words: "livepatch name not parseable",
        meaning: "A livepatch symbol or section has a name that the kernel cannot parse.",
        remedy: "Report this with the module.",
    }

    BAD_POINTER = "klp.bad-pointer", Defect {
        words: "pointer that no call may follow",
        meaning: "The finished module has a pointer to a function that this kernel does not let anybody call through one (IBT, kCFI).",
        remedy: "Report this with the module.",
    }

    BAD_RELOCATION = "klp.bad-relocation", Defect {
        words: "relocation not loadable",
        meaning: "The module loader would refuse a relocation, or livepatch would find it in the wrong place.",
        remedy: "Report this with the module.",
    }

    BAD_UNWIND = "klp.bad-unwind", Defect {
        words: "unwinding rows do not fit the code",
        meaning: "A row of the unwinder's table in the finished module does not fit the code: a stack trace through it would be wrong.",
        remedy: "Report this with the module.",
    }

    FIELD_NOT_ZERO = "klp.field-not-zero", Defect {
        words: "relocated field not zero",
        meaning: "The bytes under a relocation are not zero, so the module would not load.",
        remedy: "Report this with the module.",
    }

    INCOMPLETE = "klp.incomplete", Defect {
        words: "module lost something",
        meaning: "The linked module lost or changed part of its input.",
        remedy: "Report this with the module.",
    }

    // The kernel has the defect, but most patches do not meet it.
    LATE_CALL = "klp.late-call", Patch {
        words: "stub of a late call cannot be written",
        meaning: "This kernel would write the stub of a call of a module over the code that redirects the livepatch's functions (ppc64le, 6.13 to 6.17), or into write-protected memory (arm64 with RANDOMIZE_MODULE_REGION_FULL).",
        remedy: "ppc64le: backport \"powerpc64/modules: correctly iterate over stubs in setup_ftrace_ool_stubs\" (6.18) to the kernel. arm64: build the kernel without that option.",
        by_hand: "Sometimes: without calls of functions of the patched module.",
    }

    // The patched function uses a static key or alternative of the module, which no builder can make load.
    LATE_RELOCATION = "klp.late-relocation", Patch {
        words: "relocation comes too late",
        meaning: "The kernel reads a section before livepatch applies its relocations, has write-protected it by then, or would not fill a slot again when the module is loaded a second time (s390x).",
        remedy: "Do not use static keys or alternatives of the patched module in the patched function.",
        by_hand: "Yes: without static keys, static calls and alternatives of the module.",
    }

    // The source chose the name.
    NAME_TOO_LONG = "klp.name-too-long", Patch {
        words: "symbol name too long",
        meaning: "A livepatch symbol has a longer name than livepatch reads (511 characters).",
        remedy: "Shorten the name in the source.",
        by_hand: "Yes: without the long name.",
    }

    // The function to redirect is the choice of the patch.
    NO_FTRACE_SITE = "klp.no-ftrace-site", Patch {
        words: "function not traceable in the kernel",
        meaning: "A function to redirect cannot be traced in the kernel.",
        remedy: "Patch its callers instead.",
        by_hand: "Sometimes: in a traceable caller.",
    }

    NOTHING_PATCHED = "klp.nothing-patched", Defect {
        words: "module patches nothing",
        meaning: "The finished module redirects no function, or lacks the new code of one.",
        remedy: "Report this with the module.",
    }

    OBJTOOL_INCOMPLETE = "klp.objtool-incomplete", Defect {
        words: "objtool did not finish",
        meaning: "objtool did not finish: return sites or unwind tables are missing from the module.",
        remedy: "Read objtool's warnings in the build log, and report this with the module.",
    }

    OBJTOOL_WARNING = "klp.objtool-warning", Defect {
        words: "objtool warns about the module",
        meaning: "objtool warns about the linked module and did not when the kernel was built: code that it did not follow has no unwinding rows.",
        remedy: "Report this with the module and the warning.",
    }

    OLD_KERNEL = "klp.old-kernel", Environment {
        words: "kernel before 5.8",
        meaning: "The kernel is older than 5.8 and reads sections (`.klp.arch.`) that are not made.",
        remedy: "Use kpatch's own programs for such a kernel.",
    }

    // The builder resolved the symbol against the same kernel that the check looks into.
    NOT_FOUND = "klp.symbol-not-found", Defect {
        words: "symbol not in the kernel",
        meaning: "A livepatch symbol is not in the kernel, or not at its position.",
        remedy: "Build against the vmlinux and modules that run.",
    }

    UNDEFINED = "klp.undefined-symbol", Defect {
        words: "undefined symbol",
        meaning: "The module uses a symbol that the kernel does not export.",
        remedy: "Report this with the module.",
    }
}
