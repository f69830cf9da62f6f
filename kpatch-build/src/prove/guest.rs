//! The guest that proofs run in: what a case puts into it, and how it boots a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use kpatch_core::ObjectName;

use crate::build::kbuild::modules;
use crate::kernel::Kernel;
use crate::outcome::Ending;
use crate::prove::proof::During;
use crate::prove::vm::{self, BootReport, BootRequest, CasePlan, Event, Plan};
use crate::sh;
use crate::supply::guest_busybox;
use crate::supply::stock::modules as shipped;
use crate::ui;

/// Guest memory in MiB: enough for a small kernel with its initramfs unpacked.
const MEMORY_MIB: u32 = 512;
/// Guest processors: with two, tasks run while a transition is in progress.
const CPUS: u32 = 2;

/// A kernel to boot.
#[derive(Clone)]
pub struct Guest<'a> {
    /// The kernel, which has the modules.
    pub kernel: Kernel<'a>,
    /// Modules that were built outside of the kernel's tree.
    pub others: Vec<PathBuf>,
    /// The image that boots.
    pub image: &'a Path,
    /// A folder for this run alone.
    pub work: &'a Path,
    /// A folder that runs share, for compiled guest programs.
    pub cache: &'a Path,
    /// The kernel takes only modules that are signed by a key it knows.
    pub signatures_enforced: bool,
}

/// Modules to load around a livepatch, as files.
#[derive(Debug, Clone, Default)]
pub struct Modules {
    /// Loaded before the livepatch, in this order.
    pub before: Vec<PathBuf>,
    /// Loaded after it, in this order.
    pub after: Vec<PathBuf>,
}

impl Modules {
    /// Whether nothing but the livepatch is loaded.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

impl<'a> Guest<'a> {
    /// A guest that works in this folder, which is made.
    ///
    /// # Errors
    /// If the build has no image that can be booted.
    pub fn new(kernel: Kernel<'a>, image: Option<&'a Path>, work: &'a Path, cache: &'a Path) -> Result<Self> {
        let text = "this kernel has no image that can be booted: build its bzImage (x86_64, s390x), vmlinux (ppc64le) or Image (arm64)";
        let image = image.ok_or_else(|| Ending::infrastructure(text))?;
        fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
        Ok(Guest {
            kernel,
            others: Vec::new(),
            image,
            work,
            cache,
            signatures_enforced: false,
        })
    }
}

impl<'a> Guest<'a> {
    /// The same guest, with modules that are none of the kernel's.
    pub fn with_others(&self, others: Vec<PathBuf>) -> Guest<'a> {
        Guest { others, ..self.clone() }
    }
}

impl Guest<'_> {
    /// Boots the kernel and runs the plans, in as many boots as that takes.
    pub fn run(&self, cases: Vec<CasePlan>, progress: &dyn Fn(&str)) -> Result<BootReport> {
        let count = u32::try_from(cases.len()).unwrap_or(u32::MAX);
        let request = BootRequest {
            arch: self.kernel.arch(),
            image: self.image.to_owned(),
            work: self.work.join("vm"),
            cache: self.cache.to_owned(),
            busybox: guest_busybox::busybox(self.kernel.arch(), self.cache)?,
            plan: Plan { cases },
            timeout: Duration::from_secs(300) + Duration::from_secs(5) * count,
            memory_mib: MEMORY_MIB,
            cpus: CPUS,
            signatures_enforced: self.signatures_enforced,
        };
        vm::boot(&request, &mut |event| progress(&in_words(event)))
    }

    /// The modules around a livepatch: those that somebody named, or, if nobody did, those among its objects.
    pub fn modules(&self, before: &[String], after: &[String], objects: &BTreeSet<ObjectName>) -> Result<Modules> {
        if before.is_empty() && after.is_empty() {
            self.modules_of(objects)
        } else {
            self.named_modules(before, after)
        }
    }

    /// The files of these modules. Names that are built into this kernel's image are skipped: the configuration decides
    /// whether something is a module, and to its dependents that makes no difference.
    fn named_modules(&self, before: &[String], after: &[String]) -> Result<Modules> {
        let known = self.known_modules()?;
        let built_in = self.built_in()?;
        let find = |names: &[String]| -> Result<Vec<PathBuf>> {
            let separate = names.iter().filter(|name| !built_in.contains(&name.replace('-', "_")));
            separate.map(|name| self.module(&known, name)).collect()
        };
        Ok(Modules {
            before: find(before)?,
            after: find(after)?,
        })
    }

    /// The modules among the objects of a livepatch, with their dependencies, in load order.
    pub fn modules_of(&self, objects: &BTreeSet<ObjectName>) -> Result<Modules> {
        let known = self.known_modules()?;
        let mut before = Vec::new();
        for module in objects.iter().filter(|object| !object.is_vmlinux()) {
            self.with_dependencies(&known, module.as_str(), &mut before)?;
        }
        Ok(Modules {
            before,
            after: Vec::new(),
        })
    }

    fn with_dependencies(
        &self,
        known: &BTreeMap<String, PathBuf>,
        name: &str,
        loaded: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let ko = self.module(known, name)?;
        if loaded.contains(&ko) {
            return Ok(());
        }
        let bytes = fs::read(&ko).with_context(|| format!("cannot read {}", ko.display()))?;
        for other in shipped::depends(&bytes) {
            self.with_dependencies(known, &other, loaded)?;
        }
        loaded.push(ko);
        Ok(())
    }

    /// The file of a module by its name.
    pub fn module_file(&self, name: &str) -> Result<PathBuf> {
        self.module(&self.known_modules()?, name)
    }

    fn module(&self, known: &BTreeMap<String, PathBuf>, name: &str) -> Result<PathBuf> {
        let missing = || Ending::infrastructure(format!("no module {name} in {}", self.modules_folder().display()));
        let file = known.get(&name.replace('-', "_")).ok_or_else(missing)?;
        if file.extension().is_some_and(|extension| extension == "ko") {
            return Ok(file.clone());
        }
        self.decompressed(file)
    }

    /// A distribution's module as the guest loads it: nothing there can decompress.
    fn decompressed(&self, file: &Path) -> Result<PathBuf> {
        let folder = self.work.join("modules");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let name = shipped::name_of(file).unwrap_or_default();
        let ko = folder.join(format!("{name}.ko"));
        if !ko.is_file() {
            fs::write(&ko, shipped::read(file)?).with_context(|| format!("cannot write {}", ko.display()))?;
        }
        Ok(ko)
    }

    fn modules_folder(&self) -> &Path {
        match self.kernel {
            Kernel::Recorded(kernel) => &kernel.build,
            Kernel::Stock(kernel) => &kernel.modules,
        }
    }

    fn built_in(&self) -> Result<BTreeSet<String>> {
        match self.kernel {
            Kernel::Recorded(kernel) => modules::built_in(&kernel.build),
            Kernel::Stock(kernel) => shipped::built_in(&kernel.modules),
        }
    }

    /// The modules of the kernel by name.
    fn known_modules(&self) -> Result<BTreeMap<String, PathBuf>> {
        let named = |files: Vec<PathBuf>| files.into_iter().map(|ko| (modules::name_of_ko(&ko), ko));
        let mut known: BTreeMap<String, PathBuf> = match self.kernel {
            Kernel::Recorded(kernel) => named(modules::files(&kernel.build)?).collect(),
            Kernel::Stock(kernel) => shipped::files(&kernel.modules)?,
        };
        known.extend(named(self.others.clone()));
        Ok(known)
    }
}

/// A check, and what it needs in the guest.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Name of the proof in the report.
    pub name: String,
    /// Guest script: exit code 0 means the new behaviour, 1 the old.
    pub check: Option<PathBuf>,
    /// What the check must see while the transition is held open, if it can be.
    pub during: Option<During>,
    /// Texts in the kernel's log that belong to the old behaviour.
    pub reports: Vec<String>,
    /// C source of a program that the check calls as `probe`.
    pub program: Option<PathBuf>,
    /// Names of the modules to load before the livepatch.
    pub before: Vec<String>,
    /// Names of the modules to load after it.
    pub after: Vec<String>,
}

/// Compiles the C program that a check uses. Returns its name in the guest and its file.
pub fn probe(name: &str, source: &Path, guest: &Guest<'_>) -> Result<(String, PathBuf)> {
    let folder = guest.work.join("programs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let program = folder.join(name);
    let mut command = sh::command(vm::compiler(guest.kernel.arch()));
    command
        .args(["-static", "-O1", "-Wall", "-o"])
        .arg(&program)
        .arg(source);
    sh::output(&mut command).with_context(|| format!("cannot compile {}", source.display()))?;
    Ok(("probe".to_owned(), program))
}

fn in_words(event: &Event) -> String {
    match event {
        Event::Starting { accel, firmware, cases } => {
            let amount = ui::count(*cases, "test", "tests");
            format!("starting QEMU ({accel}, {firmware}) for {amount}")
        }
        Event::Up { release, after } => format!("Linux {release} booted in {:.1} s", after.as_secs_f64()),
        Event::CaseStarted { case } => case.clone(),
        Event::StepStarted { case, label } => format!("{case}: {label}"),
        Event::StepEnded { case, label, .. } => format!("{case}: {label} done"),
        Event::CaseJudged { case, outcome } => format!("{case}: {outcome}"),
    }
}
