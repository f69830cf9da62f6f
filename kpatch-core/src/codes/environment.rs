//! Codes of an environment that a livepatch cannot be built in.

codes! {
    COMPILER_MISMATCH = "env.compiler-mismatch", Environment {
        words: "another compiler",
        meaning: "The compiler that runs now is not the one that built the kernel.",
        remedy: "Install exactly that version: another compiler generates other code.",
    }

    DISTRIBUTED_LTO = "env.distributed-lto", Environment {
        words: "distributed LTO",
        meaning: "The kernel was built with CONFIG_LTO_CLANG_THIN_DIST.",
        remedy: "Build the kernel with CONFIG_LTO_CLANG_THIN.",
    }

    FULL_LTO = "env.full-lto", Environment {
        words: "full LTO",
        meaning: "The kernel was built with full LTO, where every function depends on the whole kernel.",
        remedy: "Build the kernel with CONFIG_LTO_CLANG_THIN.",
    }

    LATENT_ENTROPY = "env.latent-entropy", Environment {
        words: "latent entropy plugin",
        meaning: "Random numbers were compiled into functions, so no two compilations agree.",
        remedy: "Build the kernel without CONFIG_GCC_PLUGIN_LATENT_ENTROPY.",
    }

    LINKER_MISMATCH = "env.linker-mismatch", Environment {
        words: "another linker",
        meaning: "The linker that runs now is not the one that linked the kernel.",
        remedy: "Install exactly that version: the linker decides what is inlined across files.",
    }

    NAME_TAKEN = "env.name-taken", Environment {
        words: "livepatch named like a module",
        meaning: "The livepatch has the same name as a module of the kernel, or as the image.",
        remedy: "Choose another name with `--name`.",
    }

    NO_LIVEPATCH = "env.no-livepatch", Environment {
        words: "kernel without livepatch",
        meaning: "The kernel was built without CONFIG_LIVEPATCH.",
        remedy: "Use a kernel that can load livepatches.",
    }

    NOT_REPRODUCIBLE = "env.not-reproducible", Environment {
        words: "file does not reproduce",
        meaning: "Recompiling an unpatched file does not give the recorded object.",
        remedy: "Use the source tree and compiler that built the kernel, unchanged since then.",
    }

    RANDSTRUCT = "env.randstruct", Environment {
        words: "randomised structures",
        meaning: "The kernel randomizes structure layouts.",
        remedy: "Build the kernel with CONFIG_RANDSTRUCT_NONE.",
    }

    STRIPPED_NAMES = "env.stripped-names", Environment {
        words: "kernel cuts names off",
        meaning: "kallsyms of this kernel (6.2 to 6.10 with LTO) strips `.llvm.<hash>`, so livepatch cannot find promoted statics.",
        remedy: "Backport \"kallsyms: Match symbols exactly with CONFIG_LTO_CLANG\" (6.11), or build without LTO.",
    }

    // The module takes its vermagic from the headers of the source tree and the build directory.
    VERMAGIC_MISMATCH = "env.vermagic-mismatch", Environment {
        words: "another vermagic",
        meaning: "The finished module has another vermagic than the kernel's own modules, so the kernel would not load it.",
        remedy: "Use the source tree and build directory that built the modules of the kernel.",
    }
}
