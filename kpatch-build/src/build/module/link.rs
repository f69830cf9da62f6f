//! The kernel's kbuild links the module.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use kpatch_core::codes::klp::OBJTOOL_WARNING;
use kpatch_core::{Refusal, Subject};

use super::Request;
use super::glue;
use crate::kernel::Arch;
use crate::outcome::Ending;
use crate::sh;

/// What kbuild made.
pub struct Linked {
    /// The module.
    pub ko: PathBuf,
    /// The object that registers everything, as it went into the link.
    pub glue: Vec<u8>,
    /// What it said that a person should see.
    pub warnings: Vec<String>,
}

/// kbuild at work on a module whose objects are yet to come.
///
/// Before it looks at a module, the kernel's makefile asks the compiler some thirty questions, one after the other, and
/// remembers no answer. That is more than half of the time that linking takes, and none of it depends on the patch.
pub struct Linking {
    make: sh::Running,
    folder: PathBuf,
}

const OUT: &str = "make.out";
const ERR: &str = "make.err";

impl Linking {
    /// Starts `make modules` for the folder against the kernel build, which is only read.
    pub fn start(start: &super::Start<'_>) -> Result<Linking> {
        let folder = start.work.to_owned();
        glue::begin(&folder, start.name)?;
        let mut make = sh::command("make");
        make.arg("-C")
            .arg(&start.kernel.build)
            .args(start.makefile.iter().map(|path| format!("--file={}", path.display())))
            .args(toolchain(start.kernel.arch, start.compiler))
            .args(start.make)
            .envs(sh::path_with(start.path).map(|path| ("PATH", path)));
        make.arg(format!("M={}", folder.display()))
            .arg(format!("-j{}", start.jobs));
        // The undefined symbols are found by livepatch and not by the module loader.
        make.args(["KBUILD_MODPOST_WARN=1", "modules"]);
        // What is compiled here is the glue object and, behind objtool, kbuild's own two. KASAN would give each of these a
        // constructor, and the latter no rows for the unwinder (scripts/Makefile.modfinal).
        make.arg("KASAN_SANITIZE=n");
        if start.kernel.arch == Arch::X86_64 {
            // Where objtool works on each object as it is compiled it has not seen ours, and must be told to work on the
            // linked module (scripts/Makefile.lib). Elsewhere it only lists tracing sites, and ours are listed already.
            make.arg("delay-objtool=y");
        }
        let make = sh::start(&mut make, &folder.join(OUT), &folder.join(ERR))?;
        Ok(Linking { make, folder })
    }

    /// Hands over the objects and waits for the module.
    pub fn finish(self, request: &Request<'_>) -> Result<Linked> {
        let Linking { make, folder } = self;
        glue::write(&folder, request)?;
        let status = make.wait()?;
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let err = String::from_utf8_lossy(&text(ERR)?).into_owned();
        let ko = folder.join(format!("{}.ko", request.name));
        if !status.success() || !ko.is_file() {
            let out = String::from_utf8_lossy(&text(OUT)?).into_owned();
            bail!("linking the livepatch failed with {status}:\n{out}\n{err}");
        }
        let warnings = judge(&err, request)?;
        let glue = glue::object(&folder)?;
        Ok(Linked { ko, glue, warnings })
    }
}

/// What of the messages a person should see.
fn judge(err: &str, request: &Request<'_>) -> Result<Vec<String>> {
    let planned: BTreeSet<&str> = request
        .patch
        .symbols
        .keys()
        .map(|name| as_modpost_prints(name))
        .collect();
    let (warnings, unexpected) = warnings(err, |name| planned.contains(name));
    if !unexpected.is_empty() {
        bail!("the linked livepatch lacks: {}", unexpected.join(", "));
    }
    let baseline = request.baseline_log.map(std::fs::read).transpose();
    let baseline = baseline.context("cannot read the log of the kernel's build")?;
    if let Some(baseline) = baseline {
        let own = complaints(&warnings, &String::from_utf8_lossy(&baseline));
        if !own.is_empty() {
            return Err(Ending::Refused(own).into());
        }
    }
    Ok(warnings)
}

/// The `make` variables that select architecture and tools. `clang-19` wants `LLVM=-19`, a clang in a folder wants that
/// folder (Documentation/kbuild/llvm.rst); a GCC with a prefix has its binutils under the same one.
pub fn toolchain(arch: Arch, compiler: &str) -> Vec<String> {
    let mut variables = match arch {
        Arch::X86_64 => vec!["ARCH=x86".to_owned()],
        Arch::Ppc64le => vec!["ARCH=powerpc".to_owned()],
        Arch::Arm64 => vec!["ARCH=arm64".to_owned()],
        Arch::S390x => vec!["ARCH=s390".to_owned()],
    };
    let (folder, program) = compiler
        .rsplit_once('/')
        .map_or(("", compiler), |(folder, program)| (folder, program));
    if let Some(suffix) = program.strip_prefix("clang") {
        variables.push(match (folder, suffix) {
            ("", suffix) if suffix.starts_with('-') => format!("LLVM={suffix}"),
            ("", _) => "LLVM=1".to_owned(),
            (folder, _) => format!("LLVM={folder}/"),
        });
        return variables;
    }
    if let Some((prefix, _)) = compiler.rsplit_once("gcc").filter(|(prefix, _)| prefix.ends_with('-')) {
        variables.push(format!("CROSS_COMPILE={prefix}"));
    }
    variables.push(format!("CC={compiler}"));
    variables
}

/// What objtool says about the livepatch, and did not say about the kernel. It gives up on a function after a warning, and
/// code that it has not seen has no unwinding rows and no sites of calls.
fn complaints(warnings: &[String], baseline: &str) -> Vec<Refusal> {
    let known: BTreeSet<(&str, &str)> = baseline.lines().filter_map(complaint).collect();
    let own = warnings.iter().filter_map(|warning| complaint(warning));
    let own = own.filter(|complaint| !known.contains(complaint));
    own.map(|(function, text)| {
        let why = format!("objtool: {function}: {text}");
        Refusal::new(OBJTOOL_WARNING, Subject::default().symbol(function), why)
    })
    .collect()
}

/// The function of a warning of objtool, and what is wrong with it; without places, which differ between builds
/// (tools/objtool/include/objtool/warn.h, `WARN_FUNC`, 6.1 to 7.3).
fn complaint(line: &str) -> Option<(&str, &str)> {
    let (_, said) = line.split_once("warning: objtool: ")?;
    let (place, text) = said.split_once(": ").or(said.split_once(' '))?;
    let function = place.split_once("+0x").map_or(place, |(function, _)| function);
    Some((function.trim_end_matches("()"), text))
}

/// Splits what kbuild wrote into warnings for a person and undefined symbols that nobody planned.
fn warnings(text: &str, planned: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let (mut warnings, mut unexpected) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(name) = undefined_symbol(line) {
            if !planned(name) {
                unexpected.push(name.to_owned());
            }
        } else if line.starts_with("WARNING: modpost: suppressed") {
            // More planned symbols than modpost lists. The check of the finished module sees every one.
            continue;
        } else if line.contains("objtool: klp_funcs_") && line.contains("data relocation to !ENDBR") {
            // The table of functions. They are entered by a return and not by an indirect jump, so they need no ENDBR
            // (arch/x86/kernel/ftrace_64.S, `ftrace_caller`).
            continue;
        } else if line.contains("warning:") || line.starts_with("WARNING:") {
            warnings.push(line.to_owned());
        }
    }
    (warnings, unexpected)
}

/// scripts/mod/modpost.c, `remove_dot`: digits behind the first dot and what follows are cut off.
fn as_modpost_prints(name: &str) -> &str {
    let Some((stem, rest)) = name.split_once('.') else {
        return name;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let ends = rest[digits..].is_empty() || rest[digits..].starts_with('.');
    if digits > 0 && ends && !stem.is_empty() {
        stem
    } else {
        name
    }
}

/// `WARNING: modpost: "name" [path/module.ko] undefined!`, or `WARNING: modpost: module.ko: symbol 'name' undefined!`
/// (7.3).
fn undefined_symbol(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("WARNING: modpost: ")?.strip_suffix("undefined!")?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').map(|(name, _)| name),
        None => rest.split_once(": symbol '")?.1.trim_end().strip_suffix('\''),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_undefined_symbols_are_silent_and_others_are_not() {
        let text = "WARNING: modpost: \"a\" [/x/m.ko] undefined!\nWARNING: modpost: \"b.llvm.7\" [/x/m.ko] undefined!\n\
                    m.o: warning: objtool: klp_funcs_0+0x8: data relocation to !ENDBR: g+0x0\n\
                    m.o: warning: objtool: f() falls through\n";
        let (warnings, unexpected) = warnings(text, |name| name == "a");
        assert_eq!(unexpected, ["b.llvm.7"]);
        assert_eq!(warnings, ["m.o: warning: objtool: f() falls through"]);
    }

    #[test]
    fn what_objtool_says_about_the_kernel_as_well_is_no_complaint() {
        let said = [
            "m.o: warning: objtool: f+0x12: unreachable instruction",
            "m.o: warning: objtool: g() falls through",
        ];
        let said = said.map(str::to_owned);
        let of = |baseline| {
            let found = complaints(&said, baseline);
            found.into_iter().map(|refusal| refusal.why).collect::<Vec<_>>()
        };
        assert_eq!(
            of("  LD vmlinux.o\n"),
            ["objtool: f: unreachable instruction", "objtool: g: falls through"].map(str::to_owned)
        );
        assert_eq!(
            of("vmlinux.o: warning: objtool: f+0x34: unreachable instruction\n").len(),
            1
        );
        assert_eq!(of("vmlinux.o: warning: objtool: f+0x34: another\n").len(), 2);
        assert!(complaint("warning: something else").is_none());
    }

    #[test]
    fn later_kernels_say_it_in_other_words() {
        let line = "WARNING: modpost: livepatch_x.ko: symbol 'pcpu_nr_pages' undefined!";
        assert_eq!(undefined_symbol(line), Some("pcpu_nr_pages"));
        assert_eq!(undefined_symbol("WARNING: modpost: x.ko: section mismatch"), None);
    }

    #[test]
    fn the_tools_go_with_the_compiler() {
        let x86 = |compiler| toolchain(Arch::X86_64, compiler).split_off(1).join(" ");
        assert_eq!(x86("clang-19"), "LLVM=-19");
        assert_eq!(x86("clang"), "LLVM=1");
        assert_eq!(x86("/opt/llvm/bin/clang"), "LLVM=/opt/llvm/bin/");
        assert_eq!(x86("gcc"), "CC=gcc");
        assert_eq!(x86("/opt/bin/gcc-13"), "CC=/opt/bin/gcc-13");
        assert_eq!(
            toolchain(Arch::Ppc64le, "powerpc64le-linux-gnu-gcc-12").join(" "),
            "ARCH=powerpc CROSS_COMPILE=powerpc64le-linux-gnu- CC=powerpc64le-linux-gnu-gcc-12"
        );
    }

    #[test]
    fn modpost_cuts_counters_off() {
        assert_eq!(as_modpost_prints("buf.12"), "buf");
        assert_eq!(as_modpost_prints("f.12.llvm.3"), "f");
        assert_eq!(as_modpost_prints("f.llvm.3"), "f.llvm.3");
        assert_eq!(as_modpost_prints("f.buf.12"), "f.buf.12");
    }

    #[test]
    fn a_suppressed_list_is_not_taken_for_a_symbol() {
        assert_eq!(
            undefined_symbol("WARNING: modpost: suppressed 3 unresolved symbol warnings"),
            None
        );
    }
}
