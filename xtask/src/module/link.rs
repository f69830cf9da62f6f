//! The kernel's kbuild links the module.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Request;
use crate::sh;

/// What kbuild made.
pub struct Linked {
    /// The module.
    pub ko: PathBuf,
    /// What it said that a person should see.
    pub warnings: Vec<String>,
}

/// Runs `make modules` for the folder against the kernel build, which is only read.
pub fn link(request: &Request<'_>) -> Result<Linked> {
    let mut make = sh::command("make");
    make.arg("-C").arg(&request.kernel.build).args(request.toolchain);
    make.arg(format!("M={}", request.work.display())).arg(format!("-j{}", request.jobs));
    // The undefined symbols are found by livepatch and not by the module loader.
    make.args(["KBUILD_MODPOST_WARN=1", "modules"]);
    let (status, out, err) = sh::captured(&mut make)?;
    let ko = request.work.join(format!("{}.ko", request.name));
    if !status.success() || !ko.is_file() {
        bail!("linking the livepatch failed with {status} ({make:?}):\n{out}\n{err}");
    }
    let (warnings, unexpected) = warnings(&err, |name| request.patch.symbols.contains_key(name));
    if !unexpected.is_empty() {
        bail!("the linked livepatch lacks: {}", unexpected.join(", "));
    }
    Ok(Linked { ko, warnings })
}

/// Splits what kbuild wrote into warnings for a person and undefined symbols that nobody planned.
fn warnings(text: &str, planned: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let (mut warnings, mut unexpected) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = undefined_symbol(line) {
            if !planned(name) {
                unexpected.push(name.to_owned());
            }
        } else if line.contains("warning:") || line.starts_with("WARNING:") {
            warnings.push(line.to_owned());
        }
    }
    (warnings, unexpected)
}

/// `WARNING: modpost: "name" [path/module.ko] undefined!`
fn undefined_symbol(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("WARNING: modpost: \"")?;
    let (name, rest) = rest.split_once('"')?;
    rest.ends_with("undefined!").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_undefined_symbols_are_silent_and_others_are_not() {
        let text = "WARNING: modpost: \"a\" [/x/m.ko] undefined!\nWARNING: modpost: \"b.llvm.7\" [/x/m.ko] undefined!\n\
                    m.o: warning: objtool: f() falls through\n";
        let (warnings, unexpected) = warnings(text, |name| name == "a");
        assert_eq!(unexpected, ["b.llvm.7"]);
        assert_eq!(warnings, ["m.o: warning: objtool: f() falls through"]);
    }

    #[test]
    fn a_suppressed_list_is_not_taken_for_a_symbol() {
        assert_eq!(undefined_symbol("WARNING: modpost: suppressed 3 unresolved symbol warnings"), None);
    }
}
