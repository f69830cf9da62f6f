//! The pairs of native objects, original and patched, that the differ compares.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::build::kbuild::{Home, Kbuild, TreePath, modules};
use crate::build::recompile::{ChangedTu, Rerun};
use crate::build::site::Site;
use crate::build::timings::Timings;
use crate::build::way::{Order, Unit, Way};
use crate::outcome::Ending;

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

impl Parent {
    /// What a home is in the running kernel.
    pub fn of(home: &Home, build: &Path) -> Result<Parent> {
        match home {
            Home::Vmlinux => Ok(Parent::Vmlinux),
            Home::Module(module) => {
                let ko = build.join(module).with_extension("ko");
                Ok(Parent::Module {
                    name: modules::name_of_ko(&ko),
                    ko,
                })
            }
            Home::Other(other) => Err(other.no_link()),
        }
    }
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
    /// It calls a changed function that cannot be traced.
    Calls,
    /// It was not in the kernel before.
    New,
}

impl Cause {
    /// Why a unit differs, if these files have changed.
    fn of(unit: &Unit, changed: &[&ChangedTu], kbuild: &Kbuild) -> Cause {
        let Some(tu) = changed.iter().find(|tu| tu.object == unit.unit) else {
            return match unit.orig {
                None => Cause::New,
                Some(_) => Cause::Importer {
                    of: unit.imports_changed.clone(),
                },
            };
        };
        match tu.via.first() {
            _ if tu.orig.is_none() => Cause::New,
            Some(file) if kbuild.trees.place(&tu.source) != TreePath::Source(file.clone()) => {
                Cause::Includes(file.clone())
            }
            _ => Cause::Edited,
        }
    }
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
    pub units: Order,
}

/// All that the differ compares.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    /// What differs, grouped by parent, in link order.
    pub pairs: Vec<UnitPair>,
    /// Link order of the image and of each module with a pair.
    pub orders: Vec<LinkOrder>,
    /// What was ignored or came out equal.
    pub notes: Vec<String>,
    /// How objects were made of what the compiler wrote.
    pub reruns: Vec<Rerun>,
    /// How long each step took.
    pub timings: Timings,
}

impl Pairs {
    /// Everything in the kernel that differs, since these files have changed. `notes` say what was found out before.
    ///
    /// # Errors
    /// [`Ending::NoChange`] with all notes if nothing does.
    pub fn of(site: &Site<'_>, way: &dyn Way, changed: &[ChangedTu], notes: Vec<String>) -> Result<Pairs> {
        if changed.is_empty() {
            return Err(no_change("no file of this kernel compiles to different code", &notes));
        }
        let mut all = Pairs {
            notes,
            ..Pairs::default()
        };
        for (home, changed) in by_home(changed) {
            all.append(Pairs::of_home(site, way, &home, &changed)?);
        }
        if all.pairs.is_empty() {
            return Err(no_change("the machine code is the same", &all.notes));
        }
        // A module refers to the image, so the image's link order is needed even if nothing in it changes. No file of one
        // that was built outside of the tree is part of the image, too, and static symbols of other files are none of its.
        let may_share = site.kbuild.module_dir.is_none();
        if may_share && !all.orders.iter().any(|order| order.parent == Parent::Vmlinux) {
            site.progress.message("reading the link order of vmlinux");
            let changed: Vec<&ChangedTu> = changed.iter().collect();
            all.orders.push(LinkOrder {
                parent: Parent::Vmlinux,
                units: way.order(&Home::Vmlinux, &changed)?,
            });
        }
        Ok(all)
    }

    fn of_home(site: &Site<'_>, way: &dyn Way, home: &Home, changed: &[&ChangedTu]) -> Result<Pairs> {
        let kbuild = site.kbuild;
        let parent = Parent::of(home, &kbuild.trees.objects)?;
        let found = way.units(home, changed)?;
        let order = (!found.units.is_empty()).then(|| LinkOrder {
            parent: parent.clone(),
            units: found.order,
        });
        let pair = |unit: &Unit| UnitPair {
            unit: unit.unit.clone(),
            source: source(kbuild, &unit.unit, changed),
            parent: parent.clone(),
            orig: unit.orig.clone(),
            patched: unit.patched.clone(),
            shipped: unit.shipped.clone(),
            cause: Cause::of(unit, changed, kbuild),
        };
        Ok(Pairs {
            pairs: found.units.iter().map(pair).collect(),
            orders: order.into_iter().collect(),
            notes: found.notes,
            reruns: found.units.into_iter().filter_map(|unit| unit.rerun).collect(),
            timings: found.timings,
        })
    }

    /// Adds files of the image that call what changed.
    pub fn add_callers(&mut self, kbuild: &Kbuild, units: Vec<Unit>) {
        let pair = |unit: Unit| UnitPair {
            source: source(kbuild, &unit.unit, &[]),
            unit: unit.unit,
            parent: Parent::Vmlinux,
            orig: unit.orig,
            patched: unit.patched,
            shipped: unit.shipped,
            cause: Cause::Calls,
        };
        self.pairs.extend(units.into_iter().map(pair));
    }

    fn append(&mut self, more: Pairs) {
        self.pairs.extend(more.pairs);
        self.orders.extend(more.orders);
        self.notes.extend(more.notes);
        self.reruns.extend(more.reruns);
        self.timings.extend(more.timings);
    }
}

fn no_change(what: &str, notes: &[String]) -> anyhow::Error {
    let notes: String = notes.iter().map(|note| format!("\n  {note}")).collect();
    Ending::NoChange(format!("{what}{notes}")).into()
}

/// The source of a unit relative to the source tree, also of one that is new.
pub fn source(kbuild: &Kbuild, unit: &str, changed: &[&ChangedTu]) -> String {
    let changed = changed.iter().find(|tu| tu.object == unit).map(|tu| &tu.source);
    let spelt = changed.or_else(|| kbuild.tus.get(unit).map(|tu| &tu.source));
    spelt.map(|spelt| kbuild.trees.place(spelt).shown()).unwrap_or_default()
}

/// The changed files of each home; one that is part of several is in each.
fn by_home(changed: &[ChangedTu]) -> BTreeMap<Home, Vec<&ChangedTu>> {
    let mut homes: BTreeMap<Home, Vec<&ChangedTu>> = BTreeMap::new();
    for tu in changed {
        for home in &tu.homes {
            homes.entry(home.clone()).or_default().push(tu);
        }
    }
    homes
}

#[cfg(test)]
mod tests;
