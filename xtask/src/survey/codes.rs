//! Short names of the codes, for tables and charts, and for each refusal whether a person could do better.
//!
//! docs/CODES.md says what a code means; a name is what fits beside a bar.

/// Code, and its name.
const NAMES: &[(&str, &str)] = &[
    ("env.compiler-mismatch", "another compiler"),
    ("env.distributed-lto", "distributed LTO"),
    ("env.full-lto", "full LTO"),
    ("env.latent-entropy", "latent entropy plugin"),
    ("env.linker-mismatch", "another linker"),
    ("env.name-taken", "livepatch named like a module"),
    ("env.no-livepatch", "kernel without livepatch"),
    ("env.not-reproducible", "file does not reproduce"),
    ("env.randstruct", "randomised structures"),
    ("env.stripped-names", "kernel cuts names off"),
    ("group.mixed-machines", "objects of two machines"),
    ("intermediate.bad-table", "objtool's table not understood"),
    ("intermediate.struct-size", "size of a structure contradicted"),
    ("klp.bad-call", "call without a way back"),
    ("klp.bad-modinfo", "wrong module information"),
    ("klp.bad-module", "module not readable"),
    ("klp.bad-name", "livepatch name not parseable"),
    ("klp.bad-relocation", "relocation not loadable"),
    ("klp.field-not-zero", "relocated field not zero"),
    ("klp.incomplete", "module lost something"),
    ("klp.late-relocation", "relocation comes too late"),
    ("klp.no-ftrace-site", "function not traceable in the kernel"),
    ("klp.nothing-patched", "module patches nothing"),
    ("klp.objtool-incomplete", "objtool did not finish"),
    ("klp.old-kernel", "kernel before 5.8"),
    ("klp.symbol-not-found", "symbol not in the kernel"),
    ("klp.undefined-symbol", "undefined symbol"),
    ("layout.bad-debug-info", "debugging information not readable"),
    ("macro.bad-mark", "author's macro points nowhere"),
    ("macro.callback-alone", "callback of what is not patched"),
    ("macro.callback-twice", "two callbacks at once"),
    ("patch.assembly", "assembly source"),
    ("patch.binary", "binary file"),
    ("patch.boot", "boot code"),
    ("patch.definition-removed", "definition taken away"),
    ("patch.does-not-apply", "patch does not apply"),
    ("patch.empty", "empty patch"),
    ("patch.file-kind", "kind of file"),
    ("patch.host-tool", "program of the build"),
    ("patch.kconfig", "configuration"),
    ("patch.layout-changed", "structure changed"),
    ("patch.makefile", "Makefile"),
    ("patch.malformed", "malformed patch"),
    ("patch.native-changed", "code outside image and modules"),
    ("patch.not-built", "not in this configuration"),
    ("patch.nothing-to-accept", "nothing to accept"),
    ("patch.original-read", "original read through a link"),
    ("patch.outside-tree", "path outside the tree"),
    ("patch.purgatory", "kexec purgatory"),
    ("patch.realmode", "real-mode code"),
    ("patch.removed-file", "source removed"),
    ("patch.vdso", "vDSO"),
    ("read.bad-elf", "damaged object"),
    ("read.bad-entries", "damaged special section"),
    ("read.unknown-relocation", "unknown relocation"),
    ("read.unsupported-machine", "unsupported machine"),
    ("resolve.ambiguous-symbol", "ambiguous global symbol"),
    ("resolve.bad-image", "kernel image not readable"),
    ("resolve.bad-listing", "symbol listing not readable"),
    ("resolve.bad-symvers", "Module.symvers not readable"),
    ("resolve.baseline-mismatch", "kernel is not this build"),
    ("resolve.call-without-restore", "call without TOC restore"),
    ("resolve.link-order", "link order differs"),
    ("resolve.module-static-key", "static key of a module"),
    ("resolve.module-symbol", "image uses a module's symbol"),
    ("resolve.no-ftrace-record", "no tracing record"),
    ("resolve.no-module-pointer", "call without TOC pointer"),
    ("resolve.overridden-function", "weak function that another replaced"),
    ("resolve.shared-ftrace-record", "hook of a dropped weak function"),
    ("resolve.sibling-call", "sibling call out of the livepatch"),
    ("resolve.toc-relative", "data relative to the kernel's TOC"),
    ("resolve.unknown-module", "module not in this build"),
    ("resolve.unknown-symbol", "symbol neither in kernel nor livepatch"),
    ("resolve.unsettled-position", "position differs while loading"),
    ("select.ambiguous-function", "ambiguous function"),
    ("select.ambiguous-static", "ambiguous static variable"),
    ("select.data-changed", "initial data changed"),
    ("select.data-moved", "variable in other memory"),
    ("select.data-resized", "variable resized"),
    ("select.function-renamed", "callback with another name"),
    ("select.init-code", "code that is gone after boot"),
    ("select.init-reference", "reference to what is gone after boot"),
    ("select.name-moved", "global name moved"),
    ("select.name-taken", "global name of another file"),
    ("select.no-ftrace-site", "function not traceable"),
    ("select.operations-changed", "table of functions changed"),
    ("select.orphan-part", "part without its function"),
    ("select.runtime-constant", "constant written at boot"),
    ("select.short-branch", "branch too short to move"),
    ("select.unaccounted", "lost on the way"),
    ("select.unclear-address", "end of one variable or start of another"),
    ("select.unknown-section", "unknown table"),
    ("select.variable-renamed", "variable with another name"),
    // Not codes of a refusal, but what a survey calls other endings.
    ("no-code", "error without a code"),
    ("too-wide", "needs a header with many readers"),
    ("panic", "this tool panicked"),
    ("load-failed", "kernel refused the module"),
    ("not-patched", "functions not patched"),
    ("transition-stalled", "transition stalled"),
    ("unload-failed", "not removable"),
    ("kernel-complained", "kernel complained"),
    ("no-final-record", "machine vanished"),
    ("timed-out", "machine hung"),
];

/// Code, and what a person could do about it.
const BETTER: &[(&str, &str)] = &[
    (
        "select.operations-changed",
        "Often: a function that is there can be changed instead; or nobody keeps the address, and it can be accepted.",
    ),
    (
        "patch.layout-changed",
        "Often: new members go into shadow variables; or nobody keeps objects of it, and the change can be accepted.",
    ),
    (
        "select.init-code",
        "Partly. What ran at boot cannot run again; if only __init code changed, nothing is lost by leaving it out, and what \
         it set up can be set by a callback.",
    ),
    (
        "select.init-reference",
        "Yes, mostly: the value can be looked up or copied by hand.",
    ),
    (
        "select.data-changed",
        "Often: set the new value in a callback, if no running code depends on the old one.",
    ),
    (
        "select.data-resized",
        "Sometimes: new members go into shadow variables, new entries into a table of the livepatch.",
    ),
    (
        "select.no-ftrace-site",
        "Sometimes: if a traceable caller can do the work instead. The kernel's `inline` means notrace, too, so an inline \
         function whose address is taken is one of these.",
    ),
    ("resolve.no-ftrace-record", "Sometimes: in a traceable caller."),
    ("resolve.shared-ftrace-record", "Sometimes: in a traceable caller."),
    ("klp.no-ftrace-site", "Sometimes: in a traceable caller."),
    (
        "select.unknown-section",
        "Yes: a person can see whether the table matters; or this tool learns the table.",
    ),
    (
        "select.ambiguous-static",
        "Yes: a name of its own for the variable in the patch.",
    ),
    (
        "select.name-taken",
        "Yes: the change can be made in the file that has the function.",
    ),
    (
        "select.variable-renamed",
        "Yes: the old name can stay; or it is another variable, and can be accepted.",
    ),
    (
        "select.function-renamed",
        "Yes: the old name can stay; or nobody keeps the address, and it can be accepted.",
    ),
    (
        "select.runtime-constant",
        "Yes: the access moves into a helper that the patch does not change.",
    ),
    (
        "resolve.unknown-symbol",
        "Mostly: what another file of the same fix brings comes into the patch as well.",
    ),
    (
        "resolve.module-static-key",
        "Yes: static_key_enabled() reads the key at run time.",
    ),
    ("resolve.module-symbol", "No, unless the module is always there."),
    (
        "resolve.unsettled-position",
        "Yes: in a caller, or with another name for what is new.",
    ),
    (
        "klp.late-relocation",
        "Yes: without static keys, static calls and alternatives of the module.",
    ),
    ("patch.assembly", "Rarely: in a C caller."),
    ("patch.vdso", "No: processes have it mapped."),
    ("patch.boot", "No, and nothing is lost: it has run."),
    ("patch.realmode", "No."),
    ("patch.purgatory", "No."),
    (
        "patch.native-changed",
        "Mostly: it comes from a header; the objects outside the links keep their view of it.",
    ),
    (
        "patch.removed-file",
        "Yes: by keeping the file and changing what is in it.",
    ),
    ("patch.file-kind", "Yes: it is left out if the kernel does not read it."),
];

/// What fits beside a bar.
pub fn name(code: &str) -> &str {
    NAMES
        .iter()
        .find(|(known, _)| *known == code)
        .map_or(code, |(_, name)| name)
}

/// Whether a person could do better than to refuse.
pub fn better(code: &str) -> &'static str {
    let found = BETTER.iter().find(|(known, _)| *known == code);
    found.map_or("Not judged yet.", |(_, better)| better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_has_a_name() {
        let table = include_str!("../../../docs/CODES.md");
        let codes = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let nameless: Vec<&str> = codes.filter(|code| name(code) == *code).collect();
        assert!(nameless.is_empty(), "{nameless:?}");
    }

    #[test]
    fn names_are_short_and_different() {
        let mut names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
        assert!(names.iter().all(|name| name.len() <= 40));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
