//! The code that a stock kernel ships, and the proof that the touched files are part of it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kpatch_core::ObjectName;
use kpatch_core::codes::environment::NO_MODULE;
use kpatch_core::codes::patch::NOT_BUILT;
use kpatch_core::klp::Modinfo;
use kpatch_core::located::{self, Located, Memory};
use kpatch_core::resolve::{Exports, Image, Target};
use kpatch_core::{Refusal, Subject};
use rayon::prelude::*;

use crate::build::kbuild::{Home, Kbuild, Kind, modules};
use crate::build::livepatch::Shipped;
use crate::kernel::StockKernel;
use crate::outcome::Ending;
use crate::supply::stock::modules as shipped;
use crate::supply::stock::vmlinuz;

/// The bytes of the image and of those modules that touched files belong to.
pub struct ShippedFiles {
    image: Vec<u8>,
    modules: BTreeMap<ObjectName, Vec<u8>>,
    symvers: String,
    /// `vermagic` of the kernel's own modules.
    pub vermagic: Option<String>,
}

/// Everything that was proven.
pub struct Proven<'a> {
    vmlinux: Memory<'a>,
    modules: BTreeMap<ObjectName, Memory<'static>>,
    /// For each touched file and what it is part of, where it is.
    units: Vec<(String, ObjectName, Located)>,
    /// The same for a person and for programs.
    pub summary: Vec<Shipped>,
    /// Objects that read a changed header and are no part of the kernel: it has none of their functions.
    pub absent: BTreeSet<String>,
}

impl ShippedFiles {
    /// The build ids of what was read, in hexadecimal. A kernel can be built without.
    pub fn build_ids(&self) -> BTreeMap<ObjectName, String> {
        let modules = self.modules.iter().map(|(name, bytes)| (name.clone(), bytes));
        let all = modules.chain([(ObjectName::vmlinux(), &self.image)]);
        all.filter_map(|(name, bytes)| Some((name, vmlinuz::build_id(bytes).ok()?)))
            .collect()
    }

    /// Reads them. `image` is that of the kernel, unpacked; `units` are those whose modules are wanted.
    ///
    /// # Errors
    /// [`NO_MODULE`] if one is part of a module that the kernel's package does not have.
    pub fn read(
        stock: &StockKernel,
        image: Vec<u8>,
        kbuild: &Kbuild,
        units: &BTreeSet<String>,
    ) -> Result<ShippedFiles> {
        let files = shipped::files(&stock.modules)?;
        let mut found = BTreeMap::new();
        for home in parts(kbuild, units).into_iter().map(|(_, home)| home) {
            let Home::Module(module) = &home else { continue };
            let name = name_of(&home);
            let Some(path) = files.get(name.as_str()) else {
                let why = format!("{} has no module {name}, which the patch changes", stock.release);
                let refusal = Refusal::new(NO_MODULE, Subject::file(module), why);
                return Err(Ending::refused(refusal.hint("unpack the kernel's package as a whole")));
            };
            if let Entry::Vacant(free) = found.entry(name) {
                free.insert(shipped::read(path)?);
            }
        }
        let symvers = stock.objects.join("Module.symvers");
        let vermagic = match found.values().next() {
            Some(module) => vermagic(module),
            None => match files.values().next() {
                Some(path) => vermagic(&shipped::read(path)?),
                None => None,
            },
        };
        Ok(ShippedFiles {
            image,
            modules: found,
            symvers: fs::read_to_string(&symvers).with_context(|| format!("cannot read {}", symvers.display()))?,
            vermagic,
        })
    }

    /// Proves that each of these objects is as the kernel has it. Of those that are not `edited` some may be no part of it:
    /// the link takes of a library what is wanted.
    ///
    /// # Errors
    /// [`Ending::Refused`] with everything that differs.
    pub fn prove(&self, kbuild: &Kbuild, units: &BTreeSet<String>, edited: &BTreeSet<String>) -> Result<Proven<'_>> {
        let (vmlinux, modules) = rayon::join(
            || Memory::of_vmlinux(&self.image),
            || -> Result<BTreeMap<_, _>, kpatch_core::Error> {
                let module = |(name, bytes): (&ObjectName, &Vec<u8>)| {
                    Ok((name.clone(), Memory::of_module(name.clone(), bytes)?))
                };
                self.modules.iter().map(module).collect()
            },
        );
        let mut proven = Proven {
            vmlinux: vmlinux?,
            modules: modules?,
            units: Vec::new(),
            summary: Vec::new(),
            absent: BTreeSet::new(),
        };
        let parts: Vec<(String, ObjectName)> = parts(kbuild, units)
            .into_iter()
            .map(|(unit, home)| (unit, name_of(&home)))
            .collect();
        let prove = |(unit, owner): &(String, ObjectName)| -> Result<Result<Located, Vec<Refusal>>> {
            let path = kbuild.trees.build.join(unit);
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let memory = if owner.is_vmlinux() {
                &proven.vmlinux
            } else {
                &proven.modules[owner]
            };
            Ok(located::prove(unit, &bytes, memory))
        };
        let outcomes: Vec<_> = parts.par_iter().map(prove).collect::<Result<_>>()?;
        let mut refusals = Vec::new();
        for ((unit, owner), outcome) in parts.into_iter().zip(outcomes) {
            match outcome {
                Ok(located) => {
                    let source = kbuild.trees.place(&kbuild.tu(&unit)?.source);
                    proven.summary.push(Shipped::of(source.shown(), &owner, &located));
                    proven.units.push((unit, owner, located));
                }
                Err(more) if !edited.contains(&unit) && more.iter().all(|refusal| refusal.code == NOT_BUILT) => {
                    proven.absent.insert(unit);
                }
                Err(more) => refusals.extend(more),
            }
        }
        if refusals.is_empty() {
            Ok(proven)
        } else {
            Err(Ending::Refused(refusals).into())
        }
    }
}

impl Proven<'_> {
    /// The kernel's symbols, with the touched files where they were found.
    pub fn target<'a>(&'a self, files: &'a ShippedFiles) -> Result<Target<'a>> {
        let mut modules = BTreeMap::new();
        for (name, bytes) in &files.modules {
            modules.insert(name.clone(), Image::read(name.clone(), bytes, &[])?);
        }
        let mut target = Target {
            vmlinux: Image::of_memory(&self.vmlinux),
            modules,
            exports: Exports::parse(&files.symvers)?,
            partial: false,
        };
        for (unit, owner, located) in &self.units {
            let memory = if owner.is_vmlinux() {
                &self.vmlinux
            } else {
                &self.modules[owner]
            };
            if let Some(image) = target.image_mut(owner) {
                image.locate(memory, unit, &located.parts);
            }
        }
        Ok(target)
    }
}

/// What these objects are part of, as far as it is the image or a module.
fn parts(kbuild: &Kbuild, units: &BTreeSet<String>) -> Vec<(String, Home)> {
    let native = kbuild
        .tus
        .values()
        .filter(|tu| tu.kind == Kind::NativeC && units.contains(&tu.object));
    let homes = native.flat_map(|tu| {
        let homes: BTreeSet<Home> = kbuild.members.homes(tu).into_iter().collect();
        homes.into_iter().map(move |home| (tu.object.clone(), home))
    });
    homes.filter(|(_, home)| !matches!(home, Home::Other(_))).collect()
}

/// The image of a kernel, unpacked.
pub fn image(stock: &StockKernel) -> Result<Vec<u8>> {
    let path = &stock.vmlinuz;
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    vmlinuz::unpack(&bytes).with_context(|| format!("cannot unpack {}", path.display()))
}

fn name_of(home: &Home) -> ObjectName {
    match home {
        Home::Module(module) => ObjectName::module(&modules::name_of_ko(Path::new(module))),
        Home::Vmlinux | Home::Other(_) => ObjectName::vmlinux(),
    }
}

fn vermagic(module: &[u8]) -> Option<String> {
    Modinfo::read(module).value("vermagic").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_modules_have_the_names_of_the_running_kernel() {
        assert!(name_of(&Home::Vmlinux).is_vmlinux());
        assert_eq!(
            name_of(&Home::Module("sound/snd-a.o".into())),
            ObjectName::module("snd_a")
        );
    }
}
