//! Whether a kernel can write the stub of a call of a module that is loaded after the livepatch.
//!
//! arm64 needs none if modules lie within reach of a branch, and cannot write one if they do not
//! (`kpatch_core::klp::late_calls`).
//!
//! ppc64le: with CONFIG_PPC_FTRACE_OUT_OF_LINE both lie in one area of each module. The place of a stub is taken if something is
//! written there, so the tracer's must be marked; kernels from 6.13 to 6.17 mark the first again and again instead of each.
//! Distributions take the repair back to older versions, so the source is asked and not the version.

use std::fs;
use std::path::Path;

use super::facts::Config;

/// The function that sets the tracer's part of the area up.
const SETS_UP: &str = "static int setup_ftrace_ool_stubs(";

/// Whether a call of a module may be bound after the livepatch was loaded.
pub fn can_be_late(config: &Config, source: &Path) -> bool {
    if config.is_on("ARM64") && config.is_on("RANDOMIZE_MODULE_REGION_FULL") {
        return false;
    }
    if !config.is_on("PPC_FTRACE_OUT_OF_LINE") {
        return true;
    }
    let file = source.join("arch/powerpc/kernel/module_64.c");
    fs::read_to_string(file).is_ok_and(|text| body(&text).is_some_and(marks_each))
}

/// The body of the function.
fn body(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(SETS_UP)?;
    let (_, rest) = rest.split_once("\n{")?;
    rest.split_once("\n}").map(|(body, _)| body)
}

/// Whether the function goes from place to place as it marks them, or the area has a counter in the place of marks.
fn marks_each(body: &str) -> bool {
    let mark = body.split_once("patch_u32(").map_or("", |(_, rest)| rest);
    let steps = ["stub++", "++stub"].iter().any(|step| mark.contains(step));
    let indexed = mark.split_once(';').is_some_and(|(call, _)| call.contains("stub[i]"));
    steps || indexed || counts(body)
}

/// Whether the body adds to the module's number of stubs. The tracer's own number has a longer name.
fn counts(body: &str) -> bool {
    let counter = "arch.stub_count";
    let mut after = body.match_indices(counter).map(|(at, _)| &body[at + counter.len()..]);
    after.any(|rest| ["+=", "++"].iter().any(|step| rest.trim_start().starts_with(step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree whose function has this body.
    fn judge(config: &str, body: Option<&str>) -> bool {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("arch/powerpc/kernel");
        fs::create_dir_all(&folder).unwrap();
        if let Some(body) = body {
            let text =
                format!("int f(void)\n{{\n\tstub++;\n}}\n\n{SETS_UP}struct module *me)\n{{\n{body}\n}}\nint g;\n");
            fs::write(folder.join("module_64.c"), text).unwrap();
        }
        fs::write(tree.path().join(".config"), config).unwrap();
        can_be_late(&Config::read(tree.path()).unwrap(), tree.path())
    }

    const ON: &str = "CONFIG_PPC_FTRACE_OUT_OF_LINE=y\n";
    const FIND: &str = "\tfor (i = 0; stub_func_addr(stub[i].funcdata); i++)\n\t\tcontinue;\n\tstub += i;\n\
                        \tcount = me->arch.ool_stub_count;\n";

    #[test]
    fn a_kernel_that_marks_one_place_only_is_known() {
        let first =
            format!("{FIND}\tfor (i = 0; i < n; i++)\n\t\tif (patch_u32(&stub->funcdata, NOP))\n\t\t\treturn -1;");
        assert!(!judge(ON, Some(&first)));
        assert!(
            judge("", Some(&first)),
            "without stubs of the tracer nothing can be hit"
        );
    }

    #[test]
    fn each_repair_is_known() {
        let step = format!(
            "{FIND}\tfor (i = 0; i < n; i++) {{\n\t\tif (patch_u32(&stub->funcdata, NOP))\n\t\t\treturn -1;\n\t\tstub++;\n\t}}"
        );
        let index =
            format!("{FIND}\tfor (i = 0; i < n; i++)\n\t\tif (patch_u32(&stub[i].funcdata, NOP))\n\t\t\treturn -1;");
        let counter = "\tme->arch.ool_stubs = &stubs[me->arch.stub_count];\n\tme->arch.stub_count += n;";
        assert!(judge(ON, Some(&step)) && judge(ON, Some(&index)) && judge(ON, Some(counter)));
        assert!(
            !judge(ON, Some("\tme->arch.ool_stub_count += n;")),
            "that is another counter"
        );
    }

    #[test]
    fn modules_of_arm64_may_be_out_of_reach() {
        assert!(judge("CONFIG_ARM64=y\nCONFIG_RANDOMIZE_BASE=y\n", None));
        assert!(!judge("CONFIG_ARM64=y\nCONFIG_RANDOMIZE_MODULE_REGION_FULL=y\n", None));
    }

    #[test]
    fn what_cannot_be_read_is_not_trusted() {
        assert!(!judge(ON, None));
    }
}
