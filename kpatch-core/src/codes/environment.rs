//! Codes of an environment that a livepatch cannot be built in.

codes! {
    ARM64_CFI = "env.arm64-cfi", Environment {
        words: "type hashes without symbols",
        meaning: "The kernel is for arm64 and checks indirect calls by type (kCFI). The hash in front of a function has no symbol there, so nothing tells which functions may be called through a pointer.",
        remedy: "Build the kernel without CONFIG_CFI (before 6.18: CONFIG_CFI_CLANG).",
    }

    COMPILER_MISMATCH = "env.compiler-mismatch", Environment {
        words: "another compiler",
        meaning: "The compiler that runs now is not the one that built the kernel.",
        remedy: "Install exactly that version: another compiler generates other code.",
    }

    DISTRIBUTED_LTO = "env.distributed-lto", Environment {
        words: "distributed LTO",
        meaning: "The kernel was built with CONFIG_LTO_CLANG_THIN_DIST, and its link did not leave what that of Linux 7.3 leaves.",
        remedy: "Build the kernel as Linux 7.3 does, or with CONFIG_LTO_CLANG_THIN.",
    }

    FULL_LTO = "env.full-lto", Environment {
        words: "full LTO",
        meaning: "The kernel was built with full LTO, where every function depends on the whole kernel.",
        remedy: "Build the kernel with CONFIG_LTO_CLANG_THIN.",
    }

    LATENT_ENTROPY = "env.latent-entropy", Environment {
        words: "latent entropy plugin",
        meaning: "Recompiling an unpatched file does not give the recorded object, and the kernel has random numbers compiled into functions.",
        remedy: "Make the change in a file without `__latent_entropy` functions, or build the kernel without CONFIG_GCC_PLUGIN_LATENT_ENTROPY.",
    }

    LINKER_MISMATCH = "env.linker-mismatch", Environment {
        words: "another linker",
        meaning: "The linker that runs now is not the one that linked the kernel.",
        remedy: "Install exactly that version: the linker decides what is inlined across files.",
    }

    MANY_READERS = "env.many-readers", Environment {
        words: "too many readers of a header",
        meaning: "The patch changes a file that more files of this stock kernel include than can be compiled in an hour or so.",
        remedy: "Make the change in C files, or use a build directory of this kernel.",
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

    NO_MODULE = "env.no-module", Environment {
        words: "module is not in the package",
        meaning: "The patch changes a module that the kernel's package does not have.",
        remedy: "Unpack the kernel's package as a whole.",
    }

    NOT_REPRODUCIBLE = "env.not-reproducible", Environment {
        words: "file does not reproduce",
        meaning: "Recompiling an unpatched file does not give the recorded object.",
        remedy: "Use the source tree and compiler that built the kernel, unchanged since then.",
    }

    NOT_SHIPPED = "env.not-shipped", Environment {
        words: "file is not as shipped",
        meaning: "Compiling the unpatched file of a stock kernel does not give the code and data that the kernel has.",
        remedy: "Use source, configuration and compiler of exactly the version of the kernel's package.",
    }

    PACKAGE_GONE = "env.package-gone", Environment {
        words: "package left the archive",
        meaning: "A package of the distribution's kernel is in none of the archives that apt knows.",
        remedy: "Add an archive that keeps old versions to apt's sources, or update to a kernel that the archive has.",
    }

    RANDSTRUCT = "env.randstruct", Environment {
        words: "randomised structures",
        meaning: "The kernel shuffles the members of structures, and the build folder does not have the seed that belongs to its version magic.",
        remedy: "Use the build folder as the build left it, with `scripts/basic/randstruct.seed`.",
    }

    STOCK_LTO = "env.stock-lto", Environment {
        words: "stock kernel built with LTO",
        meaning: "The stock kernel was built with link time optimisation, so the object of a file is no part of it.",
        remedy: "Use the build directory of this kernel.",
    }

    STRIPPED_NAMES = "env.stripped-names", Environment {
        words: "kernel cuts names off",
        meaning: "kallsyms of this kernel cuts names off, and neither at `.llvm.` nor at the first dot as those of 6.2 to 6.10 with LTO do.",
        remedy: "Backport \"kallsyms: Match symbols exactly with CONFIG_LTO_CLANG\" (6.11), or build without LTO.",
    }

    UNKNOWN_RELEASE = "env.unknown-release", Environment {
        words: "unknown kernel release",
        meaning: "No package in the archives that apt knows has a kernel of this release.",
        remedy: "Name a release as `uname -r` prints it; `kernel list --distro` shows those that there are.",
    }
    // The module takes its vermagic from the headers of the source tree and the build directory.
    VERMAGIC_MISMATCH = "env.vermagic-mismatch", Environment {
        words: "another vermagic",
        meaning: "The finished module has another vermagic than the kernel's own modules, so the kernel would not load it.",
        remedy: "Use the source tree and build directory that built the modules of the kernel.",
    }
}
