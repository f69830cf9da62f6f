//! Reads a finished kernel build: what was compiled, how, and what it was linked into. Never writes to it.

pub mod cmdfile;
pub mod distributed;
pub mod facts;
#[cfg(test)]
pub mod fake;
pub mod folder;
pub mod link;
pub mod members;
pub mod modules;
pub mod randomised;
pub mod shell;
pub mod stubs;
pub mod trees;
pub mod tu;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::klp;

pub use facts::{Config, Tools};
pub use folder::ModuleFolder;
pub use members::{Home, Input, Members, Other, ThinLink};
pub use trees::{TreePath, Trees};
pub use tu::{Kind, Recorded, Tu};

use crate::kernel::{Arch, KernelBuild};
use crate::outcome::Ending;

/// A kernel build that was found fit for livepatching with the tools installed now.
#[derive(Debug, Clone)]
pub struct Kbuild {
    /// Architecture.
    pub arch: Arch,
    /// Source and build directory as recorded commands spell them.
    pub trees: Trees,
    /// The configuration.
    pub config: Config,
    /// Compiler and linker versions.
    pub tools: Tools,
    /// The compiler of the kernel, as recorded.
    pub compiler: String,
    /// Folders in front of `PATH` in which the recorded programs are found.
    pub path: Vec<PathBuf>,
    /// Variables for make that select the tools; none if they follow from the compiler.
    pub make: Vec<String>,
    /// The folder whose modules these are, if they were built outside of the kernel's tree.
    pub module_dir: Option<PathBuf>,
    /// Everything compiled, keyed by what was made.
    pub tus: BTreeMap<String, Tu>,
    /// Everything linked.
    pub members: Members,
}

/// A TU that every kernel has; it tells how paths are spelt and which compiler was used.
const KNOWN_OBJECT: &str = "init/main.o";
const KNOWN_SOURCE: &str = "init/main.c";

impl Kbuild {
    /// Reads a build and refuses one that no livepatch can be made for.
    pub fn read(kernel: &KernelBuild) -> Result<Kbuild> {
        let config = checked(kernel)?;
        let (tus, members) = rayon::join(|| tu::scan(&kernel.build), || Members::read(&kernel.build, &config));
        let (tus, members) = (tus?, members?);
        let known = tus.get(KNOWN_OBJECT).with_context(|| {
            format!(
                "{} has no record of {KNOWN_OBJECT}; is the build finished?",
                kernel.build.display()
            )
        })?;
        let trees = Trees::new(&kernel.source, &kernel.build, KNOWN_SOURCE, &known.source)?;
        let compiler = known.recorded()?.compiler.remove(0);
        Kbuild::of(kernel, config, trees, compiler, tus, members)
    }

    /// Reads a folder with modules that were built for this kernel outside of its tree. The kernel itself is looked at as
    /// [`Kbuild::read`] does, but for what was compiled there.
    pub fn of_folder(kernel: &KernelBuild, folder: &ModuleFolder) -> Result<Kbuild> {
        let config = checked(kernel)?;
        let trees = folder.trees();
        let (tus, members) = (folder.tus()?, Members::of_folder(&trees)?);
        let compiled = tus.values().find(|tu| matches!(tu.kind, Kind::Bitcode | Kind::NativeC));
        let compiled = compiled.with_context(|| format!("nothing in {} was compiled from C", folder.path.display()))?;
        let compiler = compiled.recorded()?.compiler.remove(0);
        let read = Kbuild::of(kernel, config, trees, compiler, tus, members)?;
        Ok(Kbuild {
            module_dir: Some(folder.path.clone()),
            ..read
        })
    }

    fn of(
        kernel: &KernelBuild,
        config: Config,
        trees: Trees,
        compiler: String,
        tus: BTreeMap<String, Tu>,
        members: Members,
    ) -> Result<Kbuild> {
        let tools = Tools::ask(&[], &compiler, &members.vmlinux.linker)?;
        let objections = tools.objections(&config);
        if !objections.is_empty() {
            return Err(Ending::Refused(objections).into());
        }
        Ok(Kbuild {
            arch: kernel.arch,
            trees,
            config,
            tools,
            compiler,
            path: Vec::new(),
            make: Vec::new(),
            module_dir: None,
            tus,
            members,
        })
    }

    /// Whether files were compiled to bitcode and the linker made the machine code.
    pub fn is_thin_lto(&self) -> bool {
        self.config.is_thin_lto()
    }

    /// What C of the kernel itself was compiled to.
    pub fn kind_of_c(&self) -> Kind {
        if self.is_thin_lto() {
            Kind::Bitcode
        } else {
            Kind::NativeC
        }
    }

    /// A TU by its object.
    pub fn tu(&self, object: &str) -> Result<&Tu> {
        let found = self.tus.get(object);
        found.with_context(|| format!("{object} is not in the build"))
    }
}

/// The TU that every kernel has, and nothing else of the build.
fn known(build: &Path) -> Result<Tu> {
    let (folder, name) = KNOWN_OBJECT.rsplit_once('/').unwrap_or(("", KNOWN_OBJECT));
    let record = build.join(folder).join(format!(".{name}.cmd"));
    let known = tu::one(build, &record)?;
    known.with_context(|| format!("{} is no record of a compilation", record.display()))
}

/// The compiler of a kernel, as recorded.
pub fn compiler_of(build: &Path) -> Result<String> {
    Ok(known(build)?.recorded()?.compiler.remove(0))
}

/// The configuration of a kernel that livepatches can be made for.
fn checked(kernel: &KernelBuild) -> Result<Config> {
    let config = Config::read(&kernel.build)?;
    let mut objections = facts::objections(&config);
    objections.extend(klp::old_kernel(&kernel.release));
    objections.extend(facts::lookup(&config, &kernel.source).err());
    objections.extend(distributed::objection(&config, &kernel.build));
    objections.extend(randomised::objection(&config, &kernel.build));
    if !objections.is_empty() {
        return Err(Ending::Refused(objections).into());
    }
    let release = facts::release(&kernel.build)?;
    if release != kernel.release {
        bail!(
            "{} is a build of {release}, not of {}",
            kernel.build.display(),
            kernel.release
        );
    }
    Ok(config)
}
