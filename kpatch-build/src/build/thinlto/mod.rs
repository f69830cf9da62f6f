//! From changed bitcode to pairs of native objects: which modules must be generated again, and their machine code.

pub mod backend;
mod imports;
pub mod index;
pub mod symbols;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use crate::build::inlining::Rerun;
use crate::build::kbuild::{Kbuild, ThinLink};
use crate::build::recompile::{ChangedTu, same_content};
use crate::supply::store::cache::{Cache, Hashes};
use backend::Backend;
use index::Index;
use view::View;

/// Generates the native objects of changed links.
pub struct Generator<'a> {
    /// The kernel build.
    pub kbuild: &'a Kbuild,
    /// Where outputs go.
    pub work: &'a Path,
    /// Where originals are kept.
    pub cache: &'a Cache,
    /// Content hashes.
    pub hashes: &'a Hashes,
    /// Called for each finished object.
    pub report: &'a (dyn Fn(String) + Sync),
}

/// What became of one link.
#[derive(Debug)]
pub struct Generated {
    /// Modules with different machine code.
    pub units: Vec<Unit>,
    /// All bitcode modules of the original in link order.
    pub order: Vec<String>,
    /// Modules that went through the back end and came out with the same bytes.
    pub unchanged: Vec<String>,
    /// Modules that did not go through the back end, since all they import from changed modules is as it was.
    pub spared: BTreeSet<String>,
    /// What took how long.
    pub timings: Vec<(String, Duration)>,
}

/// A module and its native objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Object relative to the build directory.
    pub unit: String,
    /// Original native object; nothing if the original link did not have the module.
    pub orig: Option<PathBuf>,
    /// Patched native object.
    pub patched: PathBuf,
    /// Changed modules it imports from, before or after. Empty if facts about symbols are all that changed.
    pub imports_changed: Vec<String>,
    /// How the patched object was made.
    pub rerun: Rerun,
}

/// Both sides of one link.
struct Sides {
    orig_view: View,
    orig: Index,
    patched_view: View,
    patched: Index,
}

impl Generator<'_> {
    /// Links both sides up to the summaries and generates every module that can have changed.
    pub fn run(&self, name: &str, link: &ThinLink, changed: &[&ChangedTu]) -> Result<Generated> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let started = Instant::now();
        let sides = self.sides(&folder, link, changed)?;
        let mut timings = vec![(format!("thin link of {name}"), started.elapsed())];
        let started = Instant::now();
        let (affected, spared) = self.affected(&sides, changed)?;
        timings.push((format!("compare what files of {name} import"), started.elapsed()));
        let started = Instant::now();
        let pairs: Vec<_> = affected
            .par_iter()
            .map(|unit| self.pair(&folder, &sides, unit, changed))
            .collect::<Result<_>>()?;
        timings.push((
            format!("back end of {name} ({} modules)", pairs.len()),
            started.elapsed(),
        ));
        let same = |unit: &Unit| unit.orig.as_ref().is_some_and(|orig| same_content(orig, &unit.patched));
        let (unchanged, units): (Vec<_>, Vec<_>) = pairs.into_iter().partition(same);
        let unchanged = unchanged.into_iter().map(|unit| unit.unit).collect();
        Ok(Generated {
            units,
            order: sides.orig.order,
            unchanged,
            spared,
            timings,
        })
    }

    /// The modules whose machine code can differ, and those that import from a changed one only what did not change.
    fn affected(&self, sides: &Sides, changed: &[&ChangedTu]) -> Result<(Vec<String>, BTreeSet<String>)> {
        let changed: BTreeSet<&str> = changed.iter().map(|tu| tu.object.as_str()).collect();
        let mut differing = sides.patched.differing(&sides.orig)?;
        differing.retain(|unit| !changed.contains(unit.as_str()));
        let spared = imports::unaffected(sides, &differing, &changed, &self.kbuild.compiler)?;
        let is_affected =
            |unit: &&String| changed.contains(unit.as_str()) || (differing.contains(*unit) && !spared.contains(*unit));
        let affected = sides.patched.order.iter().filter(is_affected).cloned().collect();
        Ok((affected, spared))
    }

    /// The bitcode modules of an original link in link order, for links that no patch touches.
    pub fn order(&self, name: &str, link: &ThinLink) -> Result<Vec<String>> {
        let folder = self.work.join(name).join("untouched");
        let view = View::new(folder, &self.kbuild.trees.build, link, &BTreeMap::new(), &[])?;
        Ok(self.orig_index(&view)?.order)
    }

    fn orig_index(&self, view: &View) -> Result<Index> {
        let key = index::key(view, &self.kbuild.tools.linker, self.hashes)?;
        Index::open(&self.cache.get("index", &key, |entry| index::make(view, entry))?)
    }

    fn sides(&self, folder: &Path, link: &ThinLink, changed: &[&ChangedTu]) -> Result<Sides> {
        let build = &self.kbuild.trees.build;
        let orig: BTreeMap<_, _> = changed
            .iter()
            .filter_map(|tu| Some((tu.object.clone(), tu.orig.clone()?)))
            .collect();
        let patched = changed
            .iter()
            .map(|tu| (tu.object.clone(), tu.patched.clone()))
            .collect();
        let added: Vec<_> = changed
            .iter()
            .filter_map(|tu| Some((tu.object.clone(), tu.after.clone()?)))
            .collect();
        let orig_view = View::new(folder.join("orig"), build, link, &orig, &[])?;
        let patched_view = View::new(folder.join("patched"), build, link, &patched, &added)?;
        let (orig, patched) = rayon::join(
            || self.orig_index(&orig_view),
            || -> Result<Index> {
                let entry = folder.join("patched-index");
                index::make(&patched_view, &entry)?;
                Index::open(&entry)
            },
        );
        let sides = Sides {
            orig: orig.context("the original")?,
            patched: patched.context("the patched side")?,
            orig_view,
            patched_view,
        };
        for tu in changed {
            // An archive member that nothing refers to is not in the kernel, so patching it would do nothing.
            if !sides.patched.order.contains(&tu.object) {
                bail!(
                    "{} is in an archive of {}, but nothing there uses it",
                    tu.object,
                    folder.display()
                );
            }
        }
        Ok(sides)
    }

    fn pair(&self, folder: &Path, sides: &Sides, unit: &str, changed: &[&ChangedTu]) -> Result<Unit> {
        let backend = self.backend(&sides.orig_view, unit, changed)?;
        let had = sides.orig.order.iter().any(|known| known == unit);
        let make_orig = || -> Result<Option<PathBuf>> {
            if !had {
                return Ok(None);
            }
            let key = backend.key(&sides.orig_view, &sides.orig, unit, &self.kbuild.tools, self.hashes)?;
            let make = |entry: &Path| backend.run(&sides.orig_view, &sides.orig, unit, &entry.join(NATIVE));
            Ok(Some(self.cache.get("native", &key, make)?.join(NATIVE)))
        };
        let make_patched = || -> Result<PathBuf> {
            let out = folder.join("native").join(unit);
            let parent = out.parent().with_context(|| format!("{unit} is no file name"))?;
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            backend.run(&sides.patched_view, &sides.patched, unit, &out)?;
            Ok(out)
        };
        let (orig, patched) = rayon::join(make_orig, make_patched);
        let patched = patched?;
        (self.report)(format!("generated {unit}"));
        let mut imports = sides.patched.imports(unit)?;
        if had {
            imports.extend(sides.orig.imports(unit)?);
        }
        let imports_changed = changed
            .iter()
            .map(|tu| tu.object.clone())
            .filter(|object| imports.contains(object))
            .collect();
        Ok(Unit {
            unit: unit.to_owned(),
            orig: orig?,
            rerun: backend.command(&sides.patched_view, &sides.patched, unit, &patched),
            patched,
            imports_changed,
        })
    }

    /// The back end options of a module; a new one is generated like the neighbour it follows.
    fn backend(&self, view: &View, unit: &str, changed: &[&ChangedTu]) -> Result<Backend> {
        let added = changed
            .iter()
            .find(|tu| tu.object == unit)
            .and_then(|tu| tu.after.as_deref());
        let known = added.unwrap_or(unit);
        let tu = self
            .kbuild
            .tus
            .get(known)
            .with_context(|| format!("{known} has no recorded command"))?;
        Backend::new(&tu.recorded()?.compiler, &view.link.flags)
    }
}

/// Name of an object in its cache entry.
const NATIVE: &str = "native.o";
