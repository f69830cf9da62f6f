//! Reads the kernel that the livepatch is for: the symbols of the image and its modules, and what is exported.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use kpatch_core::ObjectName;
use kpatch_core::resolve::{Exports, Image, Target};

use crate::build::pairs::{LinkOrder, Pairs, Parent};
use crate::kernel::KernelBuild;

/// The bytes that a [`Target`] borrows from.
pub struct TargetFiles {
    vmlinux: Vec<u8>,
    modules: BTreeMap<ObjectName, Vec<u8>>,
    symvers: String,
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

impl TargetFiles {
    /// Reads the image, and those modules that something is patched in.
    pub fn read(kernel: &KernelBuild, pairs: &Pairs) -> Result<Self> {
        let read = |path: &std::path::Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let parents: BTreeSet<&Parent> = pairs.pairs.iter().map(|pair| &pair.parent).collect();
        let mut modules = BTreeMap::new();
        for parent in parents {
            if let Parent::Module { ko, .. } = parent {
                modules.insert(object_name(parent), read(ko)?);
            }
        }
        let symvers = kernel.build.join("Module.symvers");
        let vermagic = modules.values().find_map(|bytes| vermagic(bytes));
        let vermagic = vermagic.or_else(|| vermagic_of_build(kernel));
        Ok(TargetFiles {
            vmlinux: read(&kernel.vmlinux)?,
            modules,
            symvers: fs::read_to_string(&symvers).with_context(|| format!("cannot read {}", symvers.display()))?,
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
            vmlinux,
            modules,
            exports: Exports::parse(&self.symvers)?,
            partial: false,
        })
    }
}

/// The version string of the first module of the build, if it has any.
pub fn vermagic_of_build(kernel: &KernelBuild) -> Option<String> {
    let order = fs::read_to_string(kernel.build.join("modules.order")).ok()?;
    let first = kernel.build.join(order.lines().next()?).with_extension("ko");
    vermagic(&fs::read(first).ok()?)
}

/// The version string in the bytes of a module.
fn vermagic(bytes: &[u8]) -> Option<String> {
    let key = b"\0vermagic=";
    let at = bytes.windows(key.len()).position(|window| window == key)? + key.len();
    let end = bytes[at..].iter().position(|byte| *byte == 0)? + at;
    String::from_utf8(bytes[at..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::vermagic;

    #[test]
    fn vermagic_is_found_between_other_entries() {
        let bytes = b"x\0name=a\0vermagic=6.12.107 SMP mod_unload \0other=1\0";
        assert_eq!(vermagic(bytes).as_deref(), Some("6.12.107 SMP mod_unload "));
        assert_eq!(vermagic(b"nothing"), None);
    }
}
