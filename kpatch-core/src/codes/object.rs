//! Codes of objects that cannot be read or compared.

codes! {
    MIXED_MACHINES = "group.mixed-machines", Defect {
        words: "objects of two machines",
        meaning: "The objects are for different machines.",
        remedy: "Report this with the objects: all units of a kernel are for one machine.",
    }

    BAD_TABLE = "intermediate.bad-table", Defect {
        words: "objtool's table not understood",
        meaning: "A table that objtool made is not in the format that objtool writes.",
        remedy: "Report this with both objects.",
    }

    // The variables belong to the driver that set them.
    STRUCT_SIZE = "intermediate.struct-size", Environment {
        words: "size of a structure contradicted",
        meaning: "A structure size in the environment is no number, or contradicts the entries in the object: then the object counts.",
        remedy: "Take the size from the kernel that the object was built for, or leave it out.",
    }

    BAD_DEBUG_INFO = "layout.bad-debug-info", Defect {
        words: "debugging information not readable",
        meaning: "The debugging information of a unit is missing or cannot be understood.",
        remedy: "Report this with the object.",
    }

    // Objects come from the compiler or from the caller, never from this crate.
    BAD_ELF = "read.bad-elf", Environment {
        words: "damaged object",
        meaning: "An object is not a relocatable ELF file, or is damaged.",
        remedy: "Rebuild the object; if the error stays, report it with the object.",
    }

    BAD_ENTRIES = "read.bad-entries", Defect {
        words: "damaged special section",
        meaning: "A special section is not a whole number of entries.",
        remedy: "Report this with the kernel version: the size of an entry may be new.",
    }

    BAD_RELOCATION = "read.unknown-relocation", Defect {
        words: "unknown relocation",
        meaning: "A relocation type, or a relocation at this place, is not supported.",
        remedy: "Report this with the object.",
    }

    BAD_MACHINE = "read.unsupported-machine", Environment {
        words: "unsupported machine",
        meaning: "The object is for a machine or an ABI that is not supported.",
        remedy: "Use a kernel for a supported machine.",
    }
}
