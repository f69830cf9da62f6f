//! From a kernel build and patch files to pairs of native objects, original and patched: what the differ compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kpatch_core::layout::LayoutChange;
use object::{Object, ObjectSymbol};
use rayon::prelude::*;

use crate::build::inlining::Trail;
use crate::build::kbuild::{Home, Kbuild, Kind, Place, ThinLink, Tu};
use crate::build::layouts;
use crate::build::no_lto;
use crate::build::patchset;
use crate::build::patchset::apply::{Applied, Patched};
use crate::build::patchset::dropped;
use crate::build::patchset::functions;
use crate::build::patchset::scope::{Scope, scope};
use crate::build::recompile::{ChangedTu, Recompiler, overlay};
use crate::build::thinlto::{Generated, Generator, Unit};
use crate::kernel::KernelBuild;
use crate::outcome::Ending;
use crate::supply::store::cache::{Cache, Hashes};

/// What a translation unit is part of when the kernel runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    /// The kernel image.
    Vmlinux,
    /// A module.
    Module {
        /// Its name as the running kernel shows it: `ext4`, `snd_hda_intel`.
        name: String,
        /// Absolute path of the built module.
        ko: PathBuf,
    },
}

/// Why a pair is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The patch changes its source.
    Edited,
    /// The patch changes this file, which it includes.
    Includes(String),
    /// It has code or facts of these changed TUs. Empty if only facts without an owner changed, such as which symbols
    /// are promoted.
    Importer {
        /// The changed TUs.
        of: Vec<String>,
    },
    /// It was not in the kernel before.
    New,
}

/// One translation unit whose machine code differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPair {
    /// Object relative to the build directory: `fs/proc/meminfo.o`.
    pub unit: String,
    /// Source relative to the source tree.
    pub source: String,
    /// What it is part of.
    pub parent: Parent,
    /// Native object as the running kernel has it; nothing for new TUs.
    pub orig: Option<PathBuf>,
    /// Native object with the patch.
    pub patched: PathBuf,
    /// The object that was linked, where `orig` was compiled with other options.
    pub shipped: Option<PathBuf>,
    /// Why it is here.
    pub cause: Cause,
}

/// The objects of an image or module in the order of their symbols.
///
/// In `vmlinux.o`, in `vmlinux` and in a module's `.ko` the symbol table has one `STT_FILE` symbol for each of these, in
/// this order, with this name. C that was compiled natively comes first, whatever its place in the link (with x86_64's
/// defconfig that is arch/x86/power/cpu.c): lld adds what LTO generates after everything else. Assembly has no
/// `STT_FILE` symbol. What is linked afterwards (kallsyms, the version, `.mod.o`) comes behind. So the k-th unit is the
/// k-th group if the table starts with these, which its file names confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkOrder {
    /// The image or module.
    pub parent: Parent,
    /// Unit, and the base name of its source as in its `STT_FILE` symbol.
    pub units: Vec<(String, String)>,
}

/// Everything [`native_pairs`] found.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// What differs, grouped by parent, in link order.
    pub pairs: Vec<UnitPair>,
    /// Link order of the image and of each module with a pair.
    pub orders: Vec<LinkOrder>,
    /// How long each step took.
    pub timings: Vec<(String, Duration)>,
    /// Structures that lie otherwise in memory with the patch.
    pub layouts: BTreeSet<LayoutChange>,
    /// What was ignored or came out equal.
    pub notes: Vec<String>,
    /// How the change got where it is.
    pub trail: Trail,
}

/// Compiles what the patches touch, both ways, down to machine code.
///
/// `work` is an empty folder for this run alone; the result points into it and into `cache`. Source and build directory
/// are only read.
pub fn native_pairs(
    kernel: &KernelBuild,
    kbuild: Kbuild,
    patches: &[PathBuf],
    work: &Path,
    cache: &Path,
    jobs: usize,
    progress: &dyn Fn(&str),
) -> Result<Pairs> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(jobs)
        .build()
        .context("cannot start threads")?;
    let (sender, receiver) = mpsc::channel::<String>();
    std::thread::scope(|threads| {
        let worker = threads.spawn(move || {
            // A lost message is no reason to fail: the receiver is gone only if the run is.
            let report = move |message: String| drop(sender.send(message));
            pool.install(|| Run::new(kernel, kbuild, work, cache, &report)?.pairs(patches))
        });
        receiver.iter().for_each(|message| progress(&message));
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Compiles what the patches touch, both ways, and stops at the bitcode.
pub fn changed_bitcode(
    kernel: &KernelBuild,
    patches: &[PathBuf],
    work: &Path,
    cache: &Path,
) -> Result<(Kbuild, Vec<ChangedTu>)> {
    let mut run = Run::new(kernel, Kbuild::read(kernel)?, work, cache, &|_| {})?;
    let changed = run.compile(patches)?;
    Ok((run.kbuild, changed))
}

struct Run<'a> {
    kbuild: Kbuild,
    work: PathBuf,
    cache: Cache,
    hashes: Hashes,
    vmlinux: PathBuf,
    report: &'a (dyn Fn(String) + Sync),
    result: Pairs,
}

impl<'a> Run<'a> {
    fn new(
        kernel: &KernelBuild,
        kbuild: Kbuild,
        work: &Path,
        cache: &Path,
        report: &'a (dyn Fn(String) + Sync),
    ) -> Result<Self> {
        fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        Ok(Run {
            kbuild,
            // Commands run elsewhere, so relative paths would lead to other files.
            work: work
                .canonicalize()
                .with_context(|| format!("cannot find {}", work.display()))?,
            cache: Cache::new(
                &cache
                    .canonicalize()
                    .with_context(|| format!("cannot find {}", cache.display()))?,
            ),
            hashes: Hashes::default(),
            vmlinux: kernel.vmlinux.clone(),
            report,
            result: Pairs::default(),
        })
    }

    fn time(&mut self, what: &str, started: Instant) {
        self.result.timings.push((what.to_owned(), started.elapsed()));
    }

    fn pairs(mut self, patches: &[PathBuf]) -> Result<Pairs> {
        let changed = self.compile(patches)?;
        if changed.is_empty() {
            return Err(Ending::NoChange(self.no_change("no translation unit compiles to different code")).into());
        }
        for (home, tus) in by_home(&changed) {
            if self.kbuild.is_thin_lto() {
                self.generate(&home, &tus)?;
            } else {
                self.take(&home, &tus)?;
            }
        }
        if self.result.pairs.is_empty() {
            return Err(Ending::NoChange(self.no_change("the machine code is the same")).into());
        }
        self.image_order(&changed)?;
        Ok(self.result)
    }

    fn no_change(&self, what: &str) -> String {
        let notes = self.result.notes.iter().map(|note| format!("\n  {note}"));
        format!("{what}{}", notes.collect::<String>())
    }

    fn compile(&mut self, patches: &[PathBuf]) -> Result<Vec<ChangedTu>> {
        (self.report)("applying the patch to copies".to_owned());
        let started = Instant::now();
        let set = patchset::read(patches)?;
        let scope = scope(&set, &self.kbuild);
        let mut applied = Applied::default();
        for change in set.files.iter().filter(|change| scope.overlaid.contains(&change.path)) {
            applied.add(&self.kbuild.trees.source, change)?;
        }
        let refusals: BTreeSet<_> = scope.refusals.iter().chain(&applied.refusals).cloned().collect();
        if !refusals.is_empty() {
            return Err(Ending::Refused(refusals.into_iter().collect()).into());
        }
        let overlays = overlay::write(&self.work, &self.kbuild.trees, &applied.files, scope.overlaid.iter())?;
        let notes = scope.notes.iter().cloned().chain(applied.notes);
        self.result.notes.extend(notes.chain(dropped::notes(&applied.files)));
        self.time("apply the patch", started);
        let started = Instant::now();
        (self.report)(format!(
            "compiling {} translation units",
            scope.touched.len() + scope.added.len()
        ));
        let recompiler = Recompiler {
            kbuild: &self.kbuild,
            work: &self.work,
            cache: &self.cache,
            hashes: &self.hashes,
            overlays: &overlays,
            report: self.report,
        };
        let files = &applied.files;
        let (recompiled, layouts) = if self.kbuild.is_thin_lto() {
            // The thin links need the hashes of all their inputs, and compiling one file leaves a processor idle.
            let (recompiled, _) = rayon::join(|| recompiler.run(&scope), || self.hash_inputs(&scope));
            let recompiled = recompiled?;
            self.result.trail = self.trail(&recompiler, files, &recompiled.changed)?;
            let patched = |tu: &Tu, options: &[String], out: &Path| recompiler.compile_patched_with(tu, options, out);
            let layouts = layouts::changed(&recompiler, files, &recompiled.changed, &patched)?;
            (recompiled, layouts)
        } else {
            let (recompiled, view) = no_lto::compile(&recompiler, &scope)?;
            let patched = |tu: &Tu, options: &[String], out: &Path| {
                no_lto::compile_patched_with(&recompiler, &view, tu, options, out)
            };
            let layouts = layouts::changed(&recompiler, files, &recompiled.changed, &patched)?;
            (recompiled, layouts)
        };
        self.result.layouts = layouts;
        self.result.notes.extend(recompiled.notes);
        self.time(
            &format!(
                "compile ({} touched, {} changed)",
                scope.touched.len(),
                recompiled.changed.len()
            ),
            started,
        );
        Ok(recompiled.changed)
    }

    /// How a change may have spread, for the words of a refusal. GCC tells too little about what it inlines.
    fn trail(&self, recompiler: &Recompiler<'_>, files: &Patched, changed: &[ChangedTu]) -> Result<Trail> {
        let known = changed.iter().filter_map(|tu| self.kbuild.tus.get(&tu.object));
        Ok(Trail {
            edited: functions::edited(files),
            runs: known.map(|tu| recompiler.rerun(tu)).collect::<Result<_>>()?,
        })
    }

    /// Hashes the inputs of the image ahead of their use. Files that cannot be read are reported where they matter.
    fn hash_inputs(&self, scope: &Scope) {
        let build = &self.kbuild.trees.build;
        let homes = scope.touched.keys().filter_map(|object| self.kbuild.tus.get(object));
        if !homes
            .flat_map(|tu| self.kbuild.members.homes(tu))
            .any(|home| home == Home::Vmlinux)
        {
            return;
        }
        let inputs = self.kbuild.members.vmlinux.inputs.par_iter();
        inputs.for_each(|input| drop(self.hashes.of(&build.join(&input.path))));
    }

    /// A module refers to the image, so the image's link order is needed even if nothing in it changes.
    fn image_order(&mut self, changed: &[ChangedTu]) -> Result<()> {
        if self.result.orders.iter().any(|order| order.parent == Parent::Vmlinux) {
            return Ok(());
        }
        if !self.kbuild.is_thin_lto() {
            return self.native_order(&Home::Vmlinux, Parent::Vmlinux);
        }
        let (name, link, parent) = self.link(&Home::Vmlinux)?;
        let order = self.generator(&self.work.join("links")).order(&name, &link)?;
        let units = self.file_names(&link, order, &changed.iter().collect::<Vec<_>>());
        self.result.orders.push(LinkOrder { parent, units });
        Ok(())
    }

    fn native_order(&mut self, home: &Home, parent: Parent) -> Result<()> {
        let linked = match &parent {
            Parent::Vmlinux => &self.vmlinux,
            Parent::Module { ko, .. } => ko,
        };
        let units = no_lto::order::order(&self.kbuild, home, linked)?;
        self.result.orders.push(LinkOrder { parent, units });
        Ok(())
    }

    /// Without link time optimisation the compiled objects are the pairs.
    fn take(&mut self, home: &Home, tus: &[&ChangedTu]) -> Result<()> {
        let parent = self.parent(home)?;
        self.native_order(home, parent.clone())?;
        for tu in tus {
            let shipped = tu.orig.as_ref().map(|_| self.kbuild.trees.build.join(&tu.object));
            self.result.pairs.push(UnitPair {
                unit: tu.object.clone(),
                source: self.kbuild.trees.place(&tu.source).shown(),
                parent: parent.clone(),
                orig: tu.orig.clone(),
                patched: tu.patched.clone(),
                shipped,
                cause: self.cause_of_change(tu),
            });
        }
        Ok(())
    }

    fn file_names(&self, link: &ThinLink, order: Vec<String>, tus: &[&ChangedTu]) -> Vec<(String, String)> {
        let file_name = |unit: String| {
            let source = self.source(&unit, tus);
            let name = source.rsplit('/').next().unwrap_or(&source).to_owned();
            (unit, name)
        };
        let whole = link.inputs.iter().filter(|input| input.lazy.is_none());
        let natives = whole.filter_map(|input| match self.kbuild.tus.get(&input.path) {
            Some(tu) => (tu.kind == Kind::NativeC).then(|| file_name(input.path.clone())),
            None => Some((input.path.clone(), self.own_file_name(&input.path)?)),
        });
        natives
            .collect::<Vec<_>>()
            .into_iter()
            .chain(order.into_iter().map(file_name))
            .collect()
    }

    /// The `STT_FILE` symbol of an object that no compiler wrote: objcopy puts a prefix before all names of the objects
    /// in arch/x86/boot/startup (Linux 6.17 and later), that of the file among them.
    fn own_file_name(&self, unit: &str) -> Option<String> {
        let bytes = std::fs::read(self.kbuild.trees.build.join(unit)).ok()?;
        let object = object::File::parse(bytes.as_slice()).ok()?;
        let mut files = object
            .symbols()
            .filter(|symbol| symbol.kind() == object::SymbolKind::File);
        files.next()?.name().ok().map(str::to_owned)
    }

    fn generator<'r>(&'r self, work: &'r Path) -> Generator<'r> {
        Generator {
            kbuild: &self.kbuild,
            work,
            cache: &self.cache,
            hashes: &self.hashes,
            report: self.report,
        }
    }

    fn generate(&mut self, home: &Home, tus: &[&ChangedTu]) -> Result<()> {
        let (name, link, parent) = self.link(home)?;
        (self.report)(format!("linking the summaries of {name}"));
        let generated = self.generator(&self.work.join("links")).run(&name, &link, tus)?;
        self.collect(parent, &link, tus, generated);
        Ok(())
    }

    fn link(&self, home: &Home) -> Result<(String, ThinLink, Parent)> {
        let parent = self.parent(home)?;
        Ok(match home {
            Home::Module(module) => {
                let stem = module.strip_suffix(".o").unwrap_or(module);
                let link = self.kbuild.members.module_link(&self.kbuild.trees.build, module)?;
                (stem.replace('/', "_"), link, parent)
            }
            _ => ("vmlinux".to_owned(), self.kbuild.members.vmlinux.clone(), parent),
        })
    }

    fn parent(&self, home: &Home) -> Result<Parent> {
        match home {
            Home::Vmlinux => Ok(Parent::Vmlinux),
            Home::Module(module) => {
                let stem = module.strip_suffix(".o").unwrap_or(module);
                Ok(Parent::Module {
                    name: stem.rsplit('/').next().unwrap_or(stem).replace('-', "_"),
                    ko: self.kbuild.trees.build.join(format!("{stem}.ko")),
                })
            }
            Home::Other(other) => anyhow::bail!("{other:?} is linked into neither the image nor a module"),
        }
    }

    fn collect(&mut self, parent: Parent, link: &ThinLink, tus: &[&ChangedTu], generated: Generated) {
        self.result.timings.extend(generated.timings);
        if !generated.unchanged.is_empty() {
            let all = generated.unchanged.join(", ");
            self.result
                .notes
                .push(format!("compiled to the same machine code: {all}"));
        }
        if !generated.spared.is_empty() {
            self.result.notes.push(format!(
                "{} files import from a changed one, but nothing that changed",
                generated.spared.len()
            ));
        }
        if generated.units.is_empty() {
            return;
        }
        let units = self.file_names(link, generated.order, tus);
        self.result.orders.push(LinkOrder {
            parent: parent.clone(),
            units,
        });
        for unit in generated.units {
            self.result.trail.runs.push(unit.rerun.clone());
            let source = self.source(&unit.unit, tus);
            let cause = self.cause(&unit, tus);
            let Unit {
                unit, orig, patched, ..
            } = unit;
            self.result.pairs.push(UnitPair {
                unit,
                source,
                parent: parent.clone(),
                orig,
                patched,
                shipped: None,
                cause,
            });
        }
    }

    fn source(&self, unit: &str, tus: &[&ChangedTu]) -> String {
        let changed = tus.iter().find(|tu| tu.object == unit).map(|tu| &tu.source);
        let spelt = changed.or_else(|| self.kbuild.tus.get(unit).map(|tu| &tu.source));
        spelt
            .map(|spelt| self.kbuild.trees.place(spelt).shown())
            .unwrap_or_default()
    }

    fn cause(&self, unit: &Unit, tus: &[&ChangedTu]) -> Cause {
        let Some(tu) = tus.iter().find(|tu| tu.object == unit.unit) else {
            return if unit.orig.is_none() {
                Cause::New
            } else {
                Cause::Importer {
                    of: unit.imports_changed.clone(),
                }
            };
        };
        self.cause_of_change(tu)
    }

    fn cause_of_change(&self, tu: &ChangedTu) -> Cause {
        match tu.via.first() {
            _ if tu.orig.is_none() => Cause::New,
            Some(file) if self.kbuild.trees.place(&tu.source) != Place::Source(file.clone()) => {
                Cause::Includes(file.clone())
            }
            _ => Cause::Edited,
        }
    }
}

fn by_home(changed: &[ChangedTu]) -> BTreeMap<Home, Vec<&ChangedTu>> {
    let mut homes: BTreeMap<Home, Vec<&ChangedTu>> = BTreeMap::new();
    for tu in changed {
        for home in &tu.homes {
            homes.entry(home.clone()).or_default().push(tu);
        }
    }
    homes
}
