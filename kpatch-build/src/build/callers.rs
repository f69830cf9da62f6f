//! Files that the patch does not touch and that call what it changes, where the tracer cannot redirect that.
//!
//! Which functions call it is read off `vmlinux.o` ([`World`]); here are their files found and generated, so that they
//! can be patched.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use kpatch_core::codes::select::NO_FTRACE_SITE;
use kpatch_core::resolve::Target;
use kpatch_core::{ObjectName, Wanted, World, names};
use memchr::memmem;
use object::{Object, ObjectSymbol};
use rayon::prelude::*;

use crate::build::compare::{self, Before, Bytes, Compared};
use crate::build::kbuild::facts::tool_beside;
use crate::build::kbuild::{Home, modules};
use crate::build::kernel_symbols::object_name;
use crate::build::pairs::Pairs;
use crate::build::recompile::ChangedTu;
use crate::build::site::Site;
use crate::build::timings::Timings;
use crate::build::way::Way;
use crate::outcome::Ending;
use crate::sh;
use crate::ui::count;

/// How often files are added. Each time brings the callers of functions that were found the last time.
const ROUNDS: usize = 8;

/// What a patch is compared in.
pub struct Scene<'a> {
    /// The kernel build.
    pub site: &'a Site<'a>,
    /// How it compiles.
    pub way: &'a dyn Way,
    /// The compiled files that differ.
    pub changed: &'a [ChangedTu],
    /// What the running kernel has.
    pub target: &'a Target<'a>,
}

impl Scene<'_> {
    /// Compares, and once more with the files of callers, if they may be what a refused patch lacks.
    ///
    /// # Errors
    /// As [`compare::compare`]; a file of the build that cannot be read, or one that cannot be generated.
    pub fn compare(&self, pairs: &mut Pairs, before: &Before<'_>, timings: &mut Timings) -> Compared {
        let step = format!("compare ({})", count(pairs.pairs.len(), "unit", "units"));
        let attempt = timings.of(&step, || compare::compare(pairs, self.target, before));
        let started = Instant::now();
        let Some(files) = Files::read(self.site, pairs, &attempt)? else {
            return attempt;
        };
        let Some(world) = files.world(self.target)? else {
            return attempt;
        };
        self.add(pairs, &world)?;
        let before = Before {
            world: Some(&world),
            ..*before
        };
        let again = compare::compare(pairs, self.target, &before);
        timings.add("callers in other files", started);
        again
    }

    /// Adds the files that the pairs lack, until none is missing or nobody knows where it is.
    fn add(&self, pairs: &mut Pairs, world: &World<'_>) -> Result<()> {
        let of_image = self.changed.iter().filter(|tu| tu.homes.contains(&Home::Vmlinux));
        let changed: Vec<&ChangedTu> = of_image.collect();
        for _ in 0..ROUNDS {
            let bytes = Bytes::of(pairs)?;
            let wanted = kpatch_core::wanted(&compare::inputs(pairs, &bytes), self.target, world)?;
            let known: BTreeSet<&str> = pairs.pairs.iter().map(|pair| &*pair.unit).collect();
            let mut units = files(self.site, &wanted)?;
            units.retain(|unit| !known.contains(&**unit));
            if units.is_empty() {
                break;
            }
            let more = self.way.callers(&changed, &units)?;
            pairs.add_callers(self.site.kbuild, more);
        }
        Ok(())
    }
}

/// The image before it was placed, and what modules want of it.
struct Files {
    object: Vec<u8>,
    imported: BTreeSet<String>,
    order: Vec<(String, String)>,
}

impl Files {
    /// Reads them, if callers may be what a refused patch lacks, and if the build has all that tells who they are.
    fn read(site: &Site<'_>, pairs: &Pairs, attempt: &Compared) -> Result<Option<Files>> {
        let ending = attempt.as_ref().err().and_then(|error| error.downcast_ref::<Ending>());
        let lacks = match ending {
            Some(Ending::Refused(refusals)) => refusals.iter().any(|refusal| refusal.code == NO_FTRACE_SITE),
            _ => false,
        };
        let build = &site.kbuild.trees.objects;
        let object = build.join("vmlinux.o");
        if !lacks || !site.kbuild.is_thin_lto() || !object.exists() {
            return Ok(None);
        }
        site.progress.message("looking for callers in the whole kernel");
        let imported = modules::files(build)?;
        let imported = imported.par_iter().map(undefined).collect::<Result<Vec<_>>>()?;
        let vmlinux = ObjectName::vmlinux();
        let order = pairs.orders.iter().find(|order| object_name(&order.parent) == vmlinux);
        Ok(Some(Files {
            object: fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?,
            imported: imported.into_iter().flatten().collect(),
            order: order.map(|order| order.units.clone()).unwrap_or_default(),
        }))
    }

    /// What they say; nothing if they are not those of this image.
    fn world(&self, target: &Target<'_>) -> Result<Option<World<'_>>> {
        let world = World::read(&self.object, &self.order, self.imported.clone())?;
        Ok(target.is_placed_from(&world).then_some(world))
    }
}

/// The names that a module leaves undefined.
fn undefined(module: &PathBuf) -> Result<BTreeSet<String>> {
    let bytes = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let file = object::File::parse(&*bytes).with_context(|| format!("{} is no module", module.display()))?;
    let symbols = file.symbols().filter(ObjectSymbol::is_undefined);
    Ok(symbols
        .filter_map(|symbol| Some(symbol.name().ok()?.to_owned()))
        .collect())
}

/// The files of functions. Of a global one nobody says where it is, so whoever defines its name may be it.
fn files(site: &Site<'_>, wanted: &BTreeSet<Wanted>) -> Result<BTreeSet<String>> {
    let mut units: BTreeSet<String> = wanted.iter().filter_map(|one| one.unit.clone()).collect();
    let open = wanted.iter().filter(|one| one.unit.is_none());
    let open: BTreeSet<&str> = open.map(|one| names::unpromoted(&one.name)).collect();
    if open.is_empty() {
        return Ok(units);
    }
    let build = &site.kbuild.trees.objects;
    let nm = tool_beside(&site.kbuild.compiler, "llvm-nm")?;
    let inputs = site.kbuild.members.vmlinux.inputs.par_iter();
    let found = inputs.map(|input| {
        let path = build.join(&input.path);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if !open.iter().any(|name| memmem::find(&bytes, name.as_bytes()).is_some()) {
            return Ok(None);
        }
        let mut command = sh::command(&nm);
        command.args(["--defined-only", "--format=posix", "--no-sort", &input.path]);
        let listing = sh::output(command.current_dir(build))?;
        let defines = listing.lines().any(|line| {
            let mut words = line.split_whitespace();
            let (name, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            open.contains(name) && matches!(kind, "T" | "t" | "W")
        });
        anyhow::Ok(defines.then(|| input.path.clone()))
    });
    units.extend(found.collect::<Result<Vec<_>>>()?.into_iter().flatten());
    Ok(units)
}
