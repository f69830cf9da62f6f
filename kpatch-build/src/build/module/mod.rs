//! From the objects of a livepatch to a module that the kernel loads.
//!
//! The kernel's own kbuild links the objects with a small glue file of ours, runs objtool over the whole and makes the
//! module information. Only then do relocations to kernel symbols move to the sections that livepatch applies, and
//! the result is checked by the kernel's rules before anybody sees it.

mod glue;
pub mod identity;
mod link;
mod note;
mod sign;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::klp;
use kpatch_core::resolve::Target;
use kpatch_core::{ObjectName, Patch, Refusal, Subject};
use kpatch_runtime::about::About;

use crate::build::kbuild::{ModuleFolder, modules};
use crate::kernel::KernelBuild;
use crate::outcome::Ending;

pub use glue::{checked_name, livepatch_name};
pub use link::{Linking, toolchain};
pub use note::about;
pub use sign::{Key, Signature, Signer, knows_signatures};

use kpatch_core::codes::environment::NAME_TAKEN;
/// Why no livepatch can have this name: the running kernel has the folder in `/sys/module` already, or may get it any
/// time. Modules that are part of the image have one, too (Documentation/kbuild/kbuild.rst, `modules.builtin`), and a
/// livepatch says `vmlinux` for the image.
///
/// # Errors
/// A list of modules that cannot be read.
pub fn taken(kernel: &KernelBuild, folder: Option<&ModuleFolder>, name: &str) -> Result<Option<Refusal>> {
    let mut modules = modules::files(&kernel.build)?;
    modules.extend(folder.map(ModuleFolder::modules).transpose()?.unwrap_or_default());
    let why = if name == "vmlinux" {
        "this is the name of the kernel image"
    } else if modules.iter().any(|ko| modules::name_of_ko(ko) == name) {
        "there is a module of this name already"
    } else if modules::built_in(&kernel.build)?.contains(name) {
        "a part of the kernel image has this name among the modules"
    } else {
        return Ok(None);
    };
    let hint = "give the livepatch another name with --name";
    Ok(Some(
        Refusal::new(NAME_TAKEN, Subject::default().symbol(name), why).hint(hint),
    ))
}

/// What is known before anything is compared.
pub struct Start<'a> {
    /// The kernel it is for.
    pub kernel: &'a KernelBuild,
    /// The compiler as the kernel's commands name it.
    pub compiler: &'a str,
    /// The kernel's makefile, if the build directory has another one in mind, which was there once.
    pub makefile: Option<PathBuf>,
    /// Folders in front of `PATH`.
    pub path: &'a [PathBuf],
    /// Variables for make that select the tools; none if they follow from the compiler.
    pub make: &'a [String],
    /// Module name.
    pub name: &'a str,
    /// A folder that is not there yet.
    pub work: &'a Path,
    /// How many processors to use.
    pub jobs: usize,
}

/// What to build.
pub struct Request<'a> {
    /// The compared objects.
    pub patch: &'a Patch,
    /// The kernel's symbols.
    pub target: &'a Target<'a>,
    /// Module name.
    pub name: &'a str,
    /// What it carries about itself.
    pub about: &'a About,
    /// Whether it replaces all livepatches that are there already.
    pub replace: bool,
    /// `vermagic` of the kernel's own modules.
    pub vermagic: Option<&'a str>,
    /// Whether calls of modules may be bound when these are loaded.
    pub late_calls: bool,
    /// What the tools said when the kernel was built, if that is known.
    pub baseline_log: Option<&'a Path>,
    /// The folder that kbuild was started in.
    pub work: &'a Path,
}

/// A finished module.
#[derive(Debug)]
pub struct Module {
    /// The file.
    pub path: PathBuf,
    /// The object that registers everything, as it went into the link.
    pub glue: Vec<u8>,
    /// How many relocations livepatch applies, by the object whose loading triggers it.
    pub relocations: BTreeMap<ObjectName, usize>,
    /// How many symbols livepatch looks up.
    pub symbols: usize,
    /// What the build said that a person should see.
    pub warnings: Vec<String>,
}

/// What a module lacks of the objects it was made of: those of the patch, and the one that registers everything.
pub fn complete(module: &[u8], patch: &Patch, about: &About, glue: &[u8]) -> Vec<Refusal> {
    let (callbacks, behind) = identity::callbacks(patch, about);
    let emitted = patch.objects.iter().map(|object| object.bytes.as_slice());
    let objects: Vec<&[u8]> = emitted.chain([glue]).collect();
    let origin = klp::Origin {
        objects: &objects,
        symbols: &patch.symbols,
        functions: &patch.functions,
        callbacks: &callbacks,
        behind: &behind,
    };
    klp::complete(module, &origin)
}

/// Links, converts and checks.
pub fn build(linking: Linking, request: &Request<'_>) -> Result<Module> {
    let folder = request.work;
    let linked = linking.finish(request)?;
    let bytes = std::fs::read(&linked.ko).with_context(|| format!("cannot read {}", linked.ko.display()))?;
    let converted = klp::convert(&bytes, &request.patch.symbols)?;
    let expected = klp::Expected {
        functions: &request.patch.functions,
        callbacks: &request.patch.callbacks,
        vermagic: request.vermagic,
        addressed: &request.patch.addressed,
    };
    let mut refusals = klp::check(&converted.bytes, request.target, &expected);
    if !request.late_calls {
        refusals.extend(klp::late_calls(&converted.bytes));
    }
    refusals.extend(complete(&converted.bytes, request.patch, request.about, &linked.glue));
    if !refusals.is_empty() {
        return Err(Ending::Refused(refusals).into());
    }
    let path = folder.join("finished").join(format!("{}.ko", request.name));
    std::fs::create_dir_all(folder.join("finished")).context("cannot make the folder of the finished module")?;
    std::fs::write(&path, &converted.bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Module {
        path,
        glue: linked.glue,
        relocations: converted.relocations,
        symbols: converted.symbols,
        warnings: linked.warnings,
    })
}
