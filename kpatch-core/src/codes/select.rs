//! Codes of changes that cannot be in a livepatch.

codes! {
    AMBIGUOUS_FUNCTION = "select.ambiguous-function", Patch {
        words: "ambiguous function",
        meaning: "A function with a numbered name matches several functions of the kernel.",
        remedy: "Make the change without adding or removing one of them.",
    }

    AMBIGUOUS = "select.ambiguous-static", Patch {
        words: "ambiguous static variable",
        meaning: "A static variable matches several variables of the kernel.",
        remedy: "Rename the variable in the patch, or do not move it.",
        by_hand: "Yes: a name of its own for the variable in the patch.",
    }

    DATA_CHANGED = "select.data-changed", Patch {
        words: "initial data changed",
        meaning: "The initial value of a variable changed; running code already uses it.",
        remedy: "`--accept` a number of the image: the livepatch sets it if it still has the old value, and puts it back. Else keep the initializer and set the value from code, for example in a pre-patch callback.",
        by_hand: "Often: a number can be accepted and is set; else set the new value in a callback, if no running code depends on the old one.",
    }

    DATA_MOVED = "select.data-moved", Patch {
        words: "variable in other memory",
        meaning: "A variable moved to another kind of memory (per-CPU, decrypted, a table), or patched code uses one that lost its `const` or `__ro_after_init` or needs more alignment.",
        remedy: "Keep its attributes and its `const`; put what needs another place into a new variable.",
    }

    DATA_RESIZED = "select.data-resized", Patch {
        words: "variable resized",
        meaning: "The size of a variable changed.",
        remedy: "Keep its size; put new members into a new variable or a shadow variable.",
        by_hand: "Sometimes: new members go into shadow variables, new entries into a table of the livepatch.",
    }

    EXPORTED_UNTRACED = "select.exported-untraced", Patch {
        words: "exported function not traceable",
        meaning: "A changed function cannot be traced and is exported: modules that are not part of the kernel's build would go on calling the old version.",
        remedy: "`--accept` it if no module from elsewhere uses it.",
        by_hand: "Yes: where no other modules are loaded, it can be accepted.",
    }

    FUNCTION_RENAMED = "select.function-renamed", Patch {
        words: "callback with another name",
        meaning: "A patched function stores the address of a new function where it stored that of a removed one; whoever keeps it would call into the livepatch.",
        remedy: "Keep the old name if it is the same function; if nobody keeps the address, `--accept` it.",
        by_hand: "Yes: the old name can stay; or nobody keeps the address, and it can be accepted.",
    }

    INIT_CODE = "select.init-code", Patch {
        words: "code that is gone after boot",
        meaning: "The change is in code or data that is freed after boot, and what runs later may need what it does now; or in the start or the end of a module, which run again.",
        remedy: "Drop this hunk; to redo the setup on a running system, use a pre-patch callback; or, if what runs later gets along with the old version, `--accept` it.",
        by_hand: "Mostly: a person can see whether the rest needs it, and accepts it by name; what it set up can be set by a callback.",
    }

    INIT_REFERENCE = "select.init-reference", Patch {
        words: "reference to what is gone after boot",
        meaning: "Changed code refers to code or data that is freed after boot.",
        remedy: "Do not use __init code or data from code that still runs.",
        by_hand: "Yes, mostly: the value can be looked up or copied by hand.",
    }

    NAME_MOVED = "select.name-moved", Patch {
        words: "global name moved",
        meaning: "A global name now belongs to another function or variable; users in other files would not notice.",
        remedy: "Keep the name where it is and change what the function does.",
    }

    NAME_TAKEN = "select.name-taken", Patch {
        words: "global name of another file",
        meaning: "The patch adds a global name that another file of the kernel already defines (the definition moved, or replaces a weak one).",
        remedy: "Change it in the file that defines it, or give the new one its own name.",
        by_hand: "Yes: the change can be made in the file that has the function.",
    }

    NO_FTRACE_SITE = "select.no-ftrace-site", Patch {
        words: "function not traceable",
        meaning: "A changed function cannot be traced (notrace, noinstr, lib/), so calls to it cannot be redirected, and not all of its callers can be patched instead: its address is kept somewhere, other files may call it, or the callers are too many.",
        remedy: "Leave it as it is, and make the change in its callers.",
        by_hand: "Sometimes: if a traceable caller can do the work instead.",
    }

    OPERATIONS_CHANGED = "select.operations-changed", Patch {
        words: "table of functions changed",
        meaning: "A constant table of functions changed; existing objects hold its address and would not see a copy.",
        remedy: "Change the functions in the table instead; if nobody keeps its address, `--accept` it.",
        by_hand: "Often: a function that is there can be changed instead; or nobody keeps the address, and it can be accepted.",
    }

    ORPHAN_PART = "select.orphan-part", Patch {
        words: "part without its function",
        meaning: "A part that the compiler split off (`.cold`) changed or is jumped to, and its parent function is unknown.",
        remedy: "Patch the parent function.",
    }

    OUTLIVES = "select.outlives-transition", Patch {
        words: "runs in tasks that have ended",
        meaning: "A changed function does not return, or ends a task: a task that is off the list of tasks may still run it when the livepatch is gone. Or it cannot be traced, and a patched function ends by a jump to it, which leaves no sign on the stack.",
        remedy: "Change a function that it calls before; or accept it by name, and the module can never be removed.",
        by_hand: "Yes: with a module that stays loaded for good.",
    }

    RUNTIME_CONSTANT = "select.runtime-constant", Patch {
        words: "constant written at boot",
        meaning: "A changed function contains a constant that the kernel writes at boot, in a form that a module cannot have.",
        remedy: "Move the access into a function that the patch does not change.",
        by_hand: "Yes: the access moves into a helper that the patch does not change.",
    }

    BPF_IDENTIFIERS = "select.bpf-identifiers", Patch {
        words: "new identifiers for BPF",
        meaning: "The patch adds identifiers of types or functions for BPF (`BTF_ID`, `BTF_KFUNCS_START`). The kernel's own build fills them in from the kernel's BTF; in a livepatch they would stay empty, or mean something else.",
        remedy: "Leave the new table out. Functions that BPF programs are to call come with the next kernel.",
        by_hand: "No: BPF takes the identifiers of a livepatch's functions for those of others.",
    }

    SHORT_BRANCH = "select.short-branch", Patch {
        words: "branch too short to move",
        meaning: "A changed function reaches its neighbour by a branch too short to relocate.",
        remedy: "Change both functions, or neither.",
    }

    UNACCOUNTED = "select.unaccounted", Defect {
        words: "lost on the way",
        meaning: "Part of an object is neither in the livepatch, nor the kernel's, nor left out with a reason.",
        remedy: "Report this with both objects.",
    }

    UNCLEAR_ADDRESS = "select.unclear-address", Patch {
        words: "end of one variable or start of another",
        meaning: "An address may be the end of one variable or the start of the next, and the patch moves them apart.",
        remedy: "Define the new variable elsewhere, or without the attribute that puts both into one section.",
    }

    UNKNOWN_SECTION = "select.unknown-section", Patch {
        words: "unknown table",
        meaning: "A special section that is not supported changed or refers to changed code, or a device quirk changed: the kernel reads only its own table.",
        remedy: "Teach the tool this section (kpatch-core/src/arch/special.rs); for quirks, change a function that the table already names, or `--accept` the row by its function: it is left out.",
        by_hand: "Yes: a person can see whether the table matters; or this tool learns the table.",
    }

    UNSEEN_OLD_CODE = "select.unseen-old-code", Patch {
        words: "old code meets new code",
        meaning: "A changed function that cannot be traced is entered by a jump, so that a task in its old version counts as switched, and other functions change with it.",
        remedy: "Make two livepatches of it; or `--accept` it if the old version gets along with the other changes.",
        by_hand: "Yes: a person can see whether the two changes depend on each other.",
    }

    VARIABLE_RENAMED = "select.variable-renamed", Patch {
        words: "variable with another name",
        meaning: "A new variable takes the place of a removed one and would not have its value.",
        remedy: "Keep the old name if it is the same variable; otherwise `--accept` it.",
        by_hand: "Yes: the old name can stay; or it is another variable, and can be accepted.",
    }
}
