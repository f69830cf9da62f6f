//! Kernels without link time optimisation: the compiler makes the machine code, so a file's object, compiled twice, is
//! all there is to compare.
//!
//! Each touched file is compiled up to four times. As recorded and unpatched, which must give the recorded object: the
//! proof that compiler and tree are those that built the kernel. As recorded and patched, where that can spare the
//! rest. Then both sides with sections for each function ([`command::options`]), for the differ.

pub mod command;
mod compile;
pub mod definitions;
pub mod nops;
pub mod order;
pub mod view;

use std::path::Path;

use anyhow::Result;

use crate::build::applied::Applied;
use crate::build::kbuild::Home;
use crate::build::pairs::Parent;
use crate::build::recompile::ChangedTu;
use crate::build::recompile::affected::Affected;
use crate::build::site::Site;
use crate::build::timings::Timings;
use crate::build::way::{Compiled, Order, Unit, Units, Way};

/// The way.
pub struct NoLto<'a> {
    /// What it works with.
    pub site: &'a Site<'a>,
}

impl Way for NoLto<'_> {
    fn compile<'c>(&'c self, applied: &'c Applied, affected: &Affected) -> Result<Compiled<'c>> {
        compile::compile(self.site, applied, affected)
    }

    fn units(&self, home: &Home, changed: &[&ChangedTu]) -> Result<Units> {
        Ok(Units {
            order: self.order(home, changed)?,
            units: changed
                .iter()
                .map(|tu| unit(tu, &self.site.kbuild.trees.objects))
                .collect(),
            notes: Vec::new(),
            timings: Timings::default(),
        })
    }

    fn order(&self, home: &Home, _changed: &[&ChangedTu]) -> Result<Order> {
        // Where nobody knows the link, what was proven says where each file is ([`crate::build::stock`]).
        if !self.site.kbuild.members.is_complete {
            return Ok(Order::new());
        }
        let linked = match Parent::of(home, &self.site.kbuild.trees.objects)? {
            Parent::Vmlinux => self.site.vmlinux.to_owned(),
            Parent::Module { ko, .. } => ko,
        };
        let shown = linked.file_name().unwrap_or_default().display();
        self.site.progress.message(&format!("reading the order of {shown}"));
        order::order(self.site.kbuild, home, &linked)
    }
}

/// The compiled objects are the pair, and the one that was linked tells what the kernel has.
fn unit(tu: &ChangedTu, build: &Path) -> Unit {
    Unit {
        unit: tu.object.clone(),
        orig: tu.orig.clone(),
        patched: tu.patched.clone(),
        shipped: tu.orig.as_ref().map(|_| build.join(&tu.object)),
        imports_changed: Vec::new(),
        rerun: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::Fake;

    #[test]
    fn what_was_linked_answers_for_the_kernel_unless_the_file_is_new() {
        let fake = Fake::of(b"\x7fELF");
        let work = fake.work();
        let vmlinux = fake.kernel().vmlinux;
        let site = Site::new(&fake.kbuild, &vmlinux, &work, &work, &()).unwrap();
        let tu = |object: &str, orig: Option<&str>| ChangedTu {
            object: object.to_owned(),
            source: object.replace(".o", ".c"),
            homes: vec![Home::Vmlinux],
            orig: orig.map(Into::into),
            patched: "patched.o".into(),
            via: Vec::new(),
            after: None,
        };
        let build = &site.kbuild.trees.build;
        let known = unit(&tu("fs/open.o", Some("sections.o")), build);
        assert_eq!(known.orig.as_deref(), Some(Path::new("sections.o")));
        assert_eq!(known.shipped, Some(build.join("fs/open.o")));
        let added = unit(&tu("fs/added.o", None), build);
        assert_eq!((added.orig, added.shipped), (None, None));
    }

    #[test]
    fn the_order_of_a_module_is_read_off_the_module() {
        let fake = Fake::of(b"\x7fELF");
        let work = fake.work();
        let vmlinux = fake.kernel().vmlinux;
        let site = Site::new(&fake.kbuild, &vmlinux, &work, &work, &()).unwrap();
        let asked = |home: &Home| format!("{:#}", NoLto { site: &site }.order(home, &[]).unwrap_err());
        let module = asked(&Home::Module("fs/ext4/ext4.o".to_owned()));
        assert!(module.contains("fs/ext4/ext4.ko"), "{module}");
        assert!(asked(&Home::Vmlinux).contains("build/vmlinux"));
    }
}
