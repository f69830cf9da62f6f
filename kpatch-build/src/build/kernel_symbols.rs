//! Reads the kernel that the livepatch is for: the symbols of the image and its modules, and what is exported.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use kpatch_core::ObjectName;
use kpatch_core::klp::Modinfo;
use kpatch_core::resolve::{Exports, Image, Lookup, Target};

use crate::build::kbuild::facts::{self, Config};
use crate::build::kbuild::{ModuleFolder, modules};
use crate::build::pairs::{LinkOrder, Pairs, Parent};
use crate::kernel::KernelBuild;
use crate::outcome::Ending;
use crate::supply::stock::vmlinuz;

/// The bytes that a [`Target`] borrows from.
pub struct KernelSymbols {
    vmlinux: Vec<u8>,
    modules: BTreeMap<ObjectName, Vec<u8>>,
    symvers: String,
    lookup: Lookup,
    orders: Vec<LinkOrder>,
    /// `vermagic` of the kernel's own modules, if it has one that was looked at.
    pub vermagic: Option<String>,
}

/// The name the running kernel has for what a unit is part of.
pub fn object_name(parent: &Parent) -> ObjectName {
    match parent {
        Parent::Vmlinux => ObjectName::vmlinux(),
        Parent::Module { name, .. } => ObjectName::module(name),
    }
}

impl KernelSymbols {
    /// The build ids of what was read, in hexadecimal. A kernel can be built without.
    pub fn build_ids(&self) -> BTreeMap<ObjectName, String> {
        let modules = self.modules.iter().map(|(name, bytes)| (name.clone(), bytes));
        let all = modules.chain([(ObjectName::vmlinux(), &self.vmlinux)]);
        all.filter_map(|(name, bytes)| Some((name, vmlinuz::build_id(bytes).ok()?)))
            .collect()
    }

    /// Reads the image, and those modules that something is patched in.
    /// The folder's exports count with the kernel's, and those of the modules that it was built with.
    pub fn read(kernel: &KernelBuild, folder: Option<&ModuleFolder>, pairs: &Pairs) -> Result<Self> {
        let read = |path: &std::path::Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let parents: BTreeSet<&Parent> = pairs.pairs.iter().map(|pair| &pair.parent).collect();
        let mut modules = BTreeMap::new();
        for parent in parents {
            if let Parent::Module { ko, .. } = parent {
                modules.insert(object_name(parent), read(ko)?);
            }
        }
        let mut symvers = vec![kernel.build.join("Module.symvers")];
        symvers.extend(folder.map(ModuleFolder::exports).transpose()?.unwrap_or_default());
        let lookup = lookup(kernel)?;
        let vermagic = modules.values().find_map(|bytes| vermagic(bytes));
        let vermagic = vermagic.or_else(|| vermagic_of_build(kernel));
        Ok(KernelSymbols {
            vmlinux: read(&kernel.vmlinux)?,
            modules,
            symvers: symvers
                .iter()
                .map(|path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())))
                .collect::<Result<_>>()?,
            lookup,
            orders: pairs.orders.clone(),
            vermagic,
        })
    }

    /// The kernel's symbols.
    pub fn target(&self) -> Result<Target<'_>> {
        let order = |name: &ObjectName| {
            let order = self.orders.iter().find(|order| object_name(&order.parent) == *name);
            order.map_or(&[][..], |order| &order.units)
        };
        let image = |name: &ObjectName, bytes| Image::read(name.clone(), bytes, order(name));
        let mut modules = BTreeMap::new();
        for (name, bytes) in &self.modules {
            modules.insert(name.clone(), image(name, bytes)?);
        }
        let vmlinux = image(&ObjectName::vmlinux(), &self.vmlinux)?;
        Ok(Target {
            vmlinux: vmlinux.with_lookup(self.lookup),
            modules,
            exports: Exports::parse(&self.symvers)?,
            partial: false,
        })
    }
}

/// How livepatch finds symbols of a kernel.
pub fn lookup(kernel: &KernelBuild) -> Result<Lookup> {
    let found = facts::lookup(&Config::read(&kernel.build)?, &kernel.source);
    found.map_err(Ending::refused)
}

/// The version string of the first module of the build, if it has any.
pub fn vermagic_of_build(kernel: &KernelBuild) -> Option<String> {
    let modules = modules::files(&kernel.build).ok()?;
    vermagic(&fs::read(modules.first()?).ok()?)
}

/// The version string of a module.
pub fn vermagic(module: &[u8]) -> Option<String> {
    Modinfo::read(module).value("vermagic").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::build::kbuild::fake::{Fake, ko, put};
    use crate::build::pairs::{Cause, UnitPair};

    fn pair(parent: Parent) -> UnitPair {
        UnitPair {
            unit: "a.o".into(),
            source: "a.c".into(),
            parent,
            orig: None,
            patched: "patched.o".into(),
            shipped: None,
            cause: Cause::New,
        }
    }

    fn module(build: &Path) -> Parent {
        Parent::Module {
            name: "snd_a".into(),
            ko: build.join("sound/snd-a.ko"),
        }
    }

    #[test]
    fn a_module_that_is_patched_says_the_version_and_else_the_first_of_the_build() {
        let fake = Fake::of(b"\x7fELF");
        let (kernel, build) = (fake.kernel(), &fake.kbuild.trees.build);
        put(build, ".config", b"");
        put(build, "vmlinux", b"image");
        put(build, "Module.symvers", b"");
        let read = |pairs: Vec<UnitPair>| {
            let pairs = Pairs {
                pairs,
                ..Pairs::default()
            };
            KernelSymbols::read(&kernel, None, &pairs)
        };
        assert_eq!(read(vec![pair(Parent::Vmlinux)]).unwrap().vermagic, None);
        assert!(read(vec![pair(module(build))]).is_err(), "the module is not there");
        put(build, "fs/ext4/ext4.ko", &ko("6.12.1 SMP "));
        put(build, "sound/snd-a.ko", &ko("6.12.1 of sound "));
        assert_eq!(vermagic_of_build(&kernel).as_deref(), Some("6.12.1 SMP "));
        let image = read(vec![pair(Parent::Vmlinux)]).unwrap();
        assert_eq!(image.vermagic.as_deref(), Some("6.12.1 SMP "));
        let both = read(vec![pair(Parent::Vmlinux), pair(module(build))]).unwrap();
        assert_eq!(both.vermagic.as_deref(), Some("6.12.1 of sound "));
        assert_eq!(both.modules.keys().collect::<Vec<_>>(), [&ObjectName::module("snd_a")]);
    }

    #[test]
    fn a_kernel_without_its_exports_is_no_target() {
        let fake = Fake::of(b"\x7fELF");
        put(&fake.kbuild.trees.build, ".config", b"");
        put(&fake.kbuild.trees.build, "vmlinux", b"image");
        let error = KernelSymbols::read(&fake.kernel(), None, &Pairs::default())
            .err()
            .unwrap();
        assert!(error.to_string().contains("Module.symvers"), "{error}");
    }

    #[test]
    fn symbols_are_of_the_image_and_the_patched_modules() {
        let fake = Fake::of(b"\x7fELF");
        let build = &fake.kbuild.trees.build;
        put(build, ".config", b"");
        put(build, "vmlinux", &ko(""));
        put(build, "sound/snd-a.ko", &ko(""));
        put(build, "Module.symvers", b"");
        let pairs = Pairs {
            pairs: vec![pair(module(build))],
            orders: vec![LinkOrder {
                parent: module(build),
                units: vec![("sound/snd-a.o".into(), "snd-a.c".into())],
            }],
            ..Pairs::default()
        };
        let files = KernelSymbols::read(&fake.kernel(), None, &pairs).unwrap();
        // The module has no symbol of a file, so it is not the one that this order is of.
        assert!(files.target().is_err());
        let files = KernelSymbols {
            orders: Vec::new(),
            ..files
        };
        let target = files.target().unwrap();
        assert_eq!(
            target.modules.keys().collect::<Vec<_>>(),
            [&ObjectName::module("snd_a")]
        );
    }
}
