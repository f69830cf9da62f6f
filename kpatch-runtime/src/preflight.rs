//! `preflight MODULE.ko`: what would become of a livepatch on this machine, before it is loaded.
//!
//! It reads and changes nothing. It runs where the module is to be loaded, which need not be where it was built, so it takes
//! everything from the module itself and from `/proc` and `/sys`.

mod facts;
mod judge;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use kpatch_core::klp::{self, Modinfo};
use object::{Architecture, Object as _};
use serde::Serialize;

use crate::answer::Answer;
use crate::cli::PreflightArgs;
use crate::error::{EXIT_ENVIRONMENT, EXIT_OK, Error, Result};
use crate::module::ModuleFile;
use facts::Facts;
use judge::{Finding, Kind, Module};

/// Exit codes of this command; 0 and 69 mean what they do elsewhere.
const EXIT_FAILS: u8 = 1;
const EXIT_STALLS: u8 = 2;
const EXIT_OTHER_KERNEL: u8 = 3;

/// What is at the end of a module that somebody has signed (kernel/module/signing.c).
const SIGNED: &[u8] = b"~Module signature appended~\n";

#[derive(Debug, Serialize)]
struct Report {
    outcome: &'static str,
    exit_code: u8,
    module_name: String,
    objects: Vec<Object>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Object {
    object: String,
    functions: Vec<String>,
}

/// Runs `preflight`.
pub fn run(args: &PreflightArgs) -> Result<Answer> {
    let module = read(&args.module)?;
    if !["proc", "sys"].iter().any(|folder| args.root.join(folder).is_dir()) {
        let text = format!(
            "--root {}: there is neither proc nor sys of a machine",
            args.root.display()
        );
        return Err(Error::Usage(text));
    }
    let report = look(&module, &args.root);
    Ok(Answer::new(report.lines(), &report, report.exit_code))
}

/// What the module says of itself.
fn read(file: &Path) -> Result<Module> {
    // Whatever no module can have is said as by the other commands.
    let known = ModuleFile::read(file)?;
    let bytes = known.image();
    let wrong = |why: &str| Error::Usage(format!("{}: {why}", file.display()));
    let processor = processor(bytes);
    let objects = match klp::registered(bytes) {
        Ok(objects) => objects,
        // It cannot be loaded here, which is to be said.
        Err(_) if !matches!(processor, Some("x86_64" | "ppc64le" | "aarch64" | "s390x")) => Vec::new(),
        Err(why) => return Err(wrong(&format!("not a module: {why}"))),
    };
    let modinfo = Modinfo::read(bytes);
    Ok(Module {
        name: known.name.clone(),
        processor,
        vermagic: modinfo.value("vermagic").map(str::to_owned),
        signed: bytes.ends_with(SIGNED),
        objects,
    })
}

/// The processor that a module is for, as `uname -m` names it; none if it is not one of those with livepatches.
fn processor(module: &[u8]) -> Option<&'static str> {
    let file = object::File::parse(module).ok()?;
    Some(match (file.architecture(), file.is_little_endian()) {
        (Architecture::X86_64, _) => "x86_64",
        (Architecture::PowerPc64, true) => "ppc64le",
        (Architecture::PowerPc64, false) => "ppc64",
        (Architecture::Aarch64, _) => "aarch64",
        (Architecture::S390x, _) => "s390x",
        (Architecture::LoongArch64, _) => "loongarch64",
        _ => return None,
    })
}

fn look(module: &Module, root: &Path) -> Report {
    let all = module.objects.iter().flat_map(|object| &object.functions);
    let names: BTreeSet<String> = all.map(|(name, _)| name.clone()).collect();
    let machine = Facts::read(root, &names);
    let findings = judge::judge(module, &machine);
    let (outcome, exit_code) = match findings.first().map(|finding| finding.kind) {
        Some(Kind::OtherKernel) => ("other-kernel", EXIT_OTHER_KERNEL),
        Some(Kind::Fails) => ("would-fail", EXIT_FAILS),
        Some(Kind::Stalls) => ("would-stall", EXIT_STALLS),
        Some(Kind::Unknown) => ("unknown", EXIT_ENVIRONMENT),
        Some(Kind::Note) | None => ("clear", EXIT_OK),
    };
    let object = |one: &klp::Registered| Object {
        object: one.object.to_string(),
        functions: one.functions.iter().map(|(name, _)| name.clone()).collect(),
    };
    Report {
        outcome,
        exit_code,
        module_name: module.name.clone(),
        objects: module.objects.iter().map(object).collect(),
        findings,
    }
}

impl Report {
    fn headline(&self) -> String {
        let name = &self.module_name;
        match self.outcome {
            "other-kernel" => format!("{name} is not for the kernel of this machine"),
            "would-fail" => format!("{name} would not load"),
            "would-stall" => format!("{name} would load, and its transition would not end"),
            "unknown" => format!("nothing speaks against {name}, but not everything could be read"),
            _ => format!("{name} would load"),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{:<14}{}", self.outcome, self.headline())];
        for finding in &self.findings {
            let kind = match finding.kind {
                Kind::Note => "note",
                Kind::Unknown => "unknown",
                Kind::Stalls => "stalls",
                Kind::Fails => "fails",
                Kind::OtherKernel => "other kernel",
            };
            let errno = finding.errno.map_or(String::new(), |errno| format!("-{errno}: "));
            lines.push(format!("  {kind:<14}{errno}{}", finding.text));
        }
        lines
    }
}
