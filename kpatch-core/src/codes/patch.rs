//! Codes of patch files that cannot become a livepatch.

codes! {
    ASSEMBLY = "patch.assembly", Patch {
        words: "assembly source",
        meaning: "The patch changes assembly source.",
        remedy: "Make the change in C, or in a caller that is written in C.",
        by_hand: "Rarely: in a C caller.",
    }

    BINARY = "patch.binary", Patch {
        words: "binary file",
        meaning: "The patch changes a binary file.",
        remedy: "Drop this file from the patch.",
    }

    BOOT = "patch.boot", Patch {
        words: "boot code",
        meaning: "The patch changes the boot stub or decompressor, which has already run.",
        remedy: "Drop this file from the patch.",
        by_hand: "No, and nothing is lost: it has run.",
    }

    DEFINITION_REMOVED = "patch.definition-removed", Patch {
        words: "definition taken away",
        meaning: "The patch removes a definition that other files use, or that a weak definition elsewhere would replace.",
        remedy: "Keep the definition and change what it does, or also patch its users.",
    }

    DOES_NOT_APPLY = "patch.does-not-apply", Patch {
        words: "patch does not apply",
        meaning: "A hunk does not fit the source.",
        remedy: "Rebase the patch onto the source that built the kernel.",
    }

    EMPTY = "patch.empty", Patch {
        words: "empty patch",
        meaning: "The patch changes no file.",
        remedy: "Pass a unified diff, as `git diff` or `diff -u` writes it.",
    }

    FILE_KIND = "patch.file-kind", Patch {
        words: "kind of file",
        meaning: "A livepatch cannot be made from this kind of file.",
        remedy: "Drop this file if the kernel does not depend on it.",
        by_hand: "Yes: it is left out if the kernel does not read it.",
    }

    HOST_TOOL = "patch.host-tool", Patch {
        words: "program of the build",
        meaning: "The patch changes a program that runs on the build machine.",
        remedy: "Drop this file from the patch.",
    }

    KCONFIG = "patch.kconfig", Patch {
        words: "configuration",
        meaning: "The patch changes the configuration.",
        remedy: "Drop this change: a livepatch cannot change the configuration of a running kernel.",
    }

    LAYOUT_CHANGED = "patch.layout-changed", Patch {
        words: "structure changed",
        meaning: "The patch changes the layout of a structure or variable, or the number of an enumerator, and existing objects use the old one.",
        remedy: "Use shadow variables and append new enumerators at the end; or, if no existing object is used afterwards, `--accept` it.",
        by_hand: "Often: new members go into shadow variables; or nobody keeps objects of it, and the change can be accepted.",
    }

    MAKEFILE = "patch.makefile", Patch {
        words: "Makefile",
        meaning: "The patch changes a Makefile beyond adding an object.",
        remedy: "Add objects only, with lines like `obj-y += new.o` or `name-y += new.o`.",
    }

    MALFORMED = "patch.malformed", Patch {
        words: "malformed patch",
        meaning: "The text is not a patch that can be read.",
        remedy: "Create it again with `git diff` or `git format-patch`.",
    }

    MERGE = "patch.merge", Patch {
        words: "merge in the range",
        meaning: "A commit of the range has several parents, so its change is one to each of them.",
        remedy: "Name a range without merges, or pass one diff of the whole range.",
    }

    NATIVE_CHANGED = "patch.native-changed", Patch {
        words: "code outside image and modules",
        meaning: "The change reaches code outside the image and the modules.",
        remedy: "Keep that file's view of the header unchanged, or reboot into a new kernel.",
        by_hand: "Mostly: it comes from a header; the objects outside the links keep their view of it.",
    }

    NOT_BUILT = "patch.not-built", Patch {
        words: "not in this configuration",
        meaning: "The configuration does not build this source, or its object is missing.",
        remedy: "Drop this file from the patch, or use the kernel that builds it.",
    }

    NOTHING_TO_ACCEPT = "patch.nothing-to-accept", Patch {
        words: "nothing to accept",
        meaning: "An `--accept` name matches no refusal.",
        remedy: "Drop the option, or correct the name.",
    }

    ORIGINAL_READ = "patch.original-read", Patch {
        words: "original read through a link",
        meaning: "A symbolic link leads the compiler to the unpatched original of a patched file.",
        remedy: "Change the #include to a path without symbolic links.",
    }

    OUTSIDE_TREE = "patch.outside-tree", Patch {
        words: "path outside the tree",
        meaning: "A path of the patch leads out of the source tree.",
        remedy: "Make the paths relative to the top of the source tree.",
    }

    PURGATORY = "patch.purgatory", Patch {
        words: "kexec purgatory",
        meaning: "The patch changes the kexec purgatory.",
        remedy: "Drop this file from the patch.",
        by_hand: "No.",
    }

    REALMODE = "patch.realmode", Patch {
        words: "real-mode code",
        meaning: "The patch changes the real-mode trampoline.",
        remedy: "Drop this file from the patch.",
        by_hand: "No.",
    }

    REMOVED = "patch.removed-file", Patch {
        words: "source removed",
        meaning: "The patch deletes or renames a source of the running kernel.",
        remedy: "Keep the file and change its contents.",
        by_hand: "Yes: by keeping the file and changing what is in it.",
    }

    VDSO = "patch.vdso", Patch {
        words: "vDSO",
        meaning: "The patch changes the vDSO, which processes have already mapped.",
        remedy: "Drop this file from the patch.",
        by_hand: "No: processes have it mapped.",
    }

    SIGNATURE_CHANGED = "patch.signature-changed", Patch {
        words: "other parameters of a shared function",
        meaning: "The patch changes the result or the parameters of an exported function, or of an operation that a header for modules declares: modules that are not patched call the new code with the old arguments.",
        remedy: "Add a new function and leave the old one as it is; or, if no module has to do with it, `--accept` it.",
        by_hand: "Often: the old function stays and calls a new one.",
    }
}
