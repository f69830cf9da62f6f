//! From changed bitcode to pairs of native objects: which modules must be generated again, and their machine code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use super::backend::Backend;
use super::imports;
use super::index::{self, Index};
use super::view::View;
use crate::build::kbuild::facts::tool_beside;
use crate::build::kbuild::{ThinLink, distributed};
use crate::build::recompile::{ChangedTu, same_content};
use crate::build::site::Site;
use crate::build::timings::Timings;
use crate::build::way::Unit;
use crate::ui::count;

/// Generates the native objects of changed links.
pub struct Generator<'a> {
    site: &'a Site<'a>,
    work: PathBuf,
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
    pub timings: Timings,
}

/// Both sides of one link.
pub(super) struct Sides {
    pub orig_view: View,
    pub orig: Index,
    pub patched_view: View,
    pub patched: Index,
}

impl<'a> Generator<'a> {
    /// A generator that works in a folder of its own.
    pub fn new(site: &'a Site<'a>) -> Generator<'a> {
        Generator {
            site,
            work: site.work.join("links"),
        }
    }

    /// Links both sides up to the summaries and generates every module that can have changed.
    pub fn run(&self, name: &str, link: &ThinLink, changed: &[&ChangedTu]) -> Result<Generated> {
        let progress = self.site.progress;
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut timings = Timings::default();
        progress.message(&format!("thin link of {name}, index only"));
        let sides = timings.of(&format!("thin link of {name}"), || self.sides(&folder, link, changed))?;
        let step = format!("compare what files of {name} import");
        progress.message(&step);
        let (affected, spared) = timings.of(&step, || self.affected(&sides, changed))?;
        let started = Instant::now();
        progress.expect(&format!("back end of {name}"), 2 * affected.len() as u64);
        let units: Vec<_> = affected
            .par_iter()
            .map(|unit| self.unit(&folder, &sides, unit, changed))
            .collect::<Result<_>>()?;
        let all = count(units.len(), "module", "modules");
        timings.add(format!("back end of {name} ({all})"), started);
        let same = |unit: &Unit| unit.orig.as_ref().is_some_and(|orig| same_content(orig, &unit.patched));
        let (unchanged, units): (Vec<_>, Vec<_>) = units.into_iter().partition(same);
        Ok(Generated {
            units,
            order: sides.orig.order,
            unchanged: unchanged.into_iter().map(|unit| unit.unit).collect(),
            spared,
            timings,
        })
    }

    /// Generates files of a link on both sides, whether they can have changed or not.
    pub fn callers(
        &self,
        name: &str,
        link: &ThinLink,
        changed: &[&ChangedTu],
        units: &BTreeSet<String>,
    ) -> Result<Vec<Unit>> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let sides = self.sides(&folder, link, changed)?;
        let there: Vec<&String> = sides.orig.order.iter().filter(|unit| units.contains(*unit)).collect();
        there
            .par_iter()
            .map(|unit| self.unit(&folder, &sides, unit, changed))
            .collect()
    }

    /// The modules whose machine code can differ, and those that import from a changed one only what did not change.
    fn affected(&self, sides: &Sides, changed: &[&ChangedTu]) -> Result<(Vec<String>, BTreeSet<String>)> {
        let changed: BTreeSet<&str> = changed.iter().map(|tu| tu.object.as_str()).collect();
        let mut differing = sides.patched.differing(&sides.orig)?;
        differing.retain(|unit| !changed.contains(unit.as_str()));
        let spared = imports::unaffected(self.site, sides, &differing, &changed)?;
        let is_affected =
            |unit: &&String| changed.contains(unit.as_str()) || (differing.contains(*unit) && !spared.contains(*unit));
        let affected = sides.patched.order.iter().filter(is_affected).cloned().collect();
        Ok((affected, spared))
    }

    /// The bitcode modules of an original link in link order, for links that no patch touches.
    pub fn order(&self, name: &str, link: &ThinLink) -> Result<Vec<String>> {
        let folder = self.work.join(name).join("untouched");
        let view = View::new(folder, &self.site.kbuild.trees.objects, link, &BTreeMap::new(), &[])?;
        Ok(self.orig_index(&view)?.order)
    }

    fn orig_index(&self, view: &View) -> Result<Index> {
        let kbuild = self.site.kbuild;
        if view.link.distributed {
            return Index::of_build(&kbuild.trees.build, tool_beside(&kbuild.compiler, "llvm-dis")?);
        }
        let key = index::key(view, &self.site.kbuild.tools.linker, &self.site.hashes)?;
        Index::open(&self.site.cache.get("index", &key, |entry| index::make(view, entry))?)
    }

    fn sides(&self, folder: &Path, link: &ThinLink, changed: &[&ChangedTu]) -> Result<Sides> {
        let build = &self.site.kbuild.trees.objects;
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

    fn unit(&self, folder: &Path, sides: &Sides, unit: &str, changed: &[&ChangedTu]) -> Result<Unit> {
        let progress = self.site.progress;
        progress.message(&format!("generating {unit}"));
        let backend = self.backend(&sides.orig_view, unit, changed)?;
        let make_orig = || {
            let orig = self.orig(sides, unit, &backend)?;
            progress.step();
            anyhow::Ok(orig)
        };
        let make_patched = || {
            let out = folder.join("native").join(unit);
            let parent = out.parent().with_context(|| format!("{unit} is no file name"))?;
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            backend.run(&sides.patched_view, &sides.patched, unit, &out)?;
            progress.step();
            anyhow::Ok(out)
        };
        let (orig, patched) = rayon::join(make_orig, make_patched);
        let (patched, orig) = (patched?, orig?);
        Ok(Unit {
            unit: unit.to_owned(),
            imports_changed: sides.imports_changed(unit, orig.is_some(), changed)?,
            rerun: Some(backend.command(&sides.patched_view, &sides.patched, unit, &patched)),
            shipped: None,
            orig,
            patched,
        })
    }

    /// The original native object of a module, if the kernel has the module.
    fn orig(&self, sides: &Sides, unit: &str, backend: &Backend) -> Result<Option<PathBuf>> {
        if !sides.orig.order.iter().any(|known| known == unit) {
            return Ok(None);
        }
        if sides.orig_view.link.distributed {
            return distributed::native(&self.site.kbuild.trees.build, unit).map(Some);
        }
        let (view, index) = (&sides.orig_view, &sides.orig);
        let key = backend.key(view, index, unit, &self.site.kbuild.tools, &self.site.hashes)?;
        let make = |entry: &Path| backend.run(view, index, unit, &entry.join(NATIVE));
        Ok(Some(self.site.cache.get("native", &key, make)?.join(NATIVE)))
    }

    /// The back end options of a module; a new one is generated like the neighbour it follows.
    fn backend(&self, view: &View, unit: &str, changed: &[&ChangedTu]) -> Result<Backend> {
        let added = changed
            .iter()
            .find(|tu| tu.object == unit)
            .and_then(|tu| tu.after.as_deref());
        let known = added.unwrap_or(unit);
        if view.link.distributed {
            let build = &self.site.kbuild.trees.build;
            return Backend::of_build(&distributed::command(build, known)?, build);
        }
        let tu = self
            .site
            .kbuild
            .tus
            .get(known)
            .with_context(|| format!("{known} has no recorded command"))?;
        Backend::new(&tu.recorded()?.compiler, &view.link.flags)
    }
}

impl Sides {
    /// The changed modules that a module imports from, on either side.
    fn imports_changed(&self, unit: &str, has_orig: bool, changed: &[&ChangedTu]) -> Result<Vec<String>> {
        let mut imports = self.patched.imports(unit)?;
        if has_orig {
            imports.extend(self.orig.imports(unit)?);
        }
        let changed = changed.iter().map(|tu| &tu.object);
        Ok(changed.filter(|object| imports.contains(*object)).cloned().collect())
    }
}

/// Name of an object in its cache entry.
const NATIVE: &str = "native.o";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::Home;
    use crate::build::kbuild::fake::{Fake, put};

    fn tu(object: &str, after: Option<&str>) -> ChangedTu {
        ChangedTu {
            object: object.to_owned(),
            source: object.replace(".o", ".c"),
            homes: vec![Home::Vmlinux],
            orig: None,
            patched: "/patched.o".into(),
            via: Vec::new(),
            after: after.map(str::to_owned),
        }
    }

    /// A side whose modules import what is given.
    fn side(fake: &Fake, name: &str, imports: &[(&str, &str)]) -> (View, Index) {
        let folder = fake.work().join(name);
        let order: Vec<_> = imports.iter().map(|(unit, _)| *unit).collect();
        put(&folder, "order", order.join("\n").as_bytes());
        for (unit, from) in imports {
            put(&folder, &format!("shards/{unit}.imports"), from.as_bytes());
        }
        let link = &fake.kbuild.members.vmlinux;
        let view = View::new(
            folder.join("view"),
            &fake.kbuild.trees.build,
            link,
            &BTreeMap::new(),
            &[],
        );
        (view.unwrap(), Index::open(&folder).unwrap())
    }

    #[test]
    fn imports_of_either_side_count() {
        let fake = Fake::of(b"BC\xc0\xde");
        let (orig_view, orig) = side(&fake, "orig", &[("fs/open.o", "a.o\n")]);
        let (patched_view, patched) = side(&fake, "patched", &[("fs/open.o", "b.o\n"), ("n.o", "")]);
        let sides = Sides {
            orig_view,
            orig,
            patched_view,
            patched,
        };
        let changed = ["a.o", "b.o", "c.o"].map(|object| tu(object, None));
        let changed: Vec<&ChangedTu> = changed.iter().collect();
        assert_eq!(
            sides.imports_changed("fs/open.o", true, &changed).unwrap(),
            ["a.o", "b.o"]
        );
        // What the original link does not have has imported nothing there.
        assert!(sides.imports_changed("n.o", true, &changed).is_err());
        assert!(sides.imports_changed("n.o", false, &changed).unwrap().is_empty());
    }

    #[test]
    fn a_new_module_is_generated_like_the_one_it_follows() {
        let fake = Fake::of(b"BC\xc0\xde");
        let (work, vmlinux) = (fake.work(), fake.kernel().vmlinux);
        let site = Site::new(&fake.kbuild, &vmlinux, &work, &work, &()).unwrap();
        let generator = Generator::new(&site);
        let (view, _) = side(&fake, "orig", &[]);
        let backend = |unit: &str, changed: &[&ChangedTu]| generator.backend(&view, unit, changed);
        let added = tu("fs/added.o", Some("fs/open.o"));
        assert_eq!(
            backend("fs/added.o", &[&added]).unwrap(),
            backend("fs/open.o", &[&added]).unwrap()
        );
        assert!(backend("fs/added.o", &[]).is_err());
    }
}
