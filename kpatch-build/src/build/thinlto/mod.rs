//! Kernels linked with ThinLTO: objects are bitcode, and the linker makes the machine code, across files.
//!
//! The files that a patch touches are compiled to bitcode on both sides. Links that stop after their summaries tell which
//! other files' code can differ, and the back end generates just these.

pub mod backend;
mod compile;
mod generate;
mod imports;
pub mod index;
mod order;
pub mod symbols;
pub mod view;

use std::collections::BTreeSet;

use anyhow::Result;

use crate::build::applied::Applied;
use crate::build::kbuild::{Home, ThinLink};
use crate::build::recompile::ChangedTu;
use crate::build::recompile::affected::Affected;
use crate::build::site::Site;
use crate::build::way::{Compiled, Order, Unit, Units, Way};
use generate::{Generated, Generator};

/// The way.
pub struct ThinLto<'a> {
    /// What it works with.
    pub site: &'a Site<'a>,
}

impl Way for ThinLto<'_> {
    fn compile<'c>(&'c self, applied: &'c Applied, affected: &Affected) -> Result<Compiled<'c>> {
        compile::compile(self.site, applied, affected)
    }

    fn units(&self, home: &Home, changed: &[&ChangedTu]) -> Result<Units> {
        let (name, link) = self.link(home)?;
        let generated = Generator::new(self.site).run(&name, &link, changed)?;
        let notes = notes(&generated);
        let order = if generated.units.is_empty() {
            Order::new()
        } else {
            order::file_names(self.site.kbuild, &link, &generated.order, changed)
        };
        Ok(Units {
            units: generated.units,
            order,
            notes,
            timings: generated.timings,
        })
    }

    fn callers(&self, changed: &[&ChangedTu], units: &BTreeSet<String>) -> Result<Vec<Unit>> {
        let (name, link) = self.link(&Home::Vmlinux)?;
        Generator::new(self.site).callers(&format!("{name}-callers"), &link, changed, units)
    }

    fn order(&self, home: &Home, changed: &[&ChangedTu]) -> Result<Order> {
        let (name, link) = self.link(home)?;
        let order = Generator::new(self.site).order(&name, &link)?;
        Ok(order::file_names(self.site.kbuild, &link, &order, changed))
    }
}

impl ThinLto<'_> {
    /// The link of a home, and a name for its folder.
    fn link(&self, home: &Home) -> Result<(String, ThinLink)> {
        let (members, trees) = (&self.site.kbuild.members, &self.site.kbuild.trees);
        match home {
            Home::Vmlinux => Ok(("vmlinux".to_owned(), members.vmlinux.clone())),
            Home::Module(module) => {
                let stem = module.strip_suffix(".o").unwrap_or(module);
                Ok((stem.replace('/', "_"), members.module_link(trees, module)?))
            }
            Home::Other(other) => Err(other.no_link()),
        }
    }
}

fn notes(generated: &Generated) -> Vec<String> {
    let mut notes = Vec::new();
    if !generated.unchanged.is_empty() {
        let all = generated.unchanged.join(", ");
        notes.push(format!("compiled to the same machine code: {all}"));
    }
    if !generated.spared.is_empty() {
        let (import, all) = match generated.spared.len() {
            1 => ("imports", "1 file".to_owned()),
            count => ("import", format!("{count} files")),
        };
        notes.push(format!(
            "{all} {import} from a changed file, but none of its changed code"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::Other;
    use crate::build::kbuild::fake::Fake;
    use crate::build::timings::Timings;

    #[test]
    fn each_home_has_its_link_and_a_folder_of_its_own() {
        let fake = Fake::of(b"BC\xc0\xde");
        let (work, vmlinux) = (fake.work(), fake.kernel().vmlinux);
        let site = Site::new(&fake.kbuild, &vmlinux, &work, &work, &()).unwrap();
        let inputs = |home: Home| {
            let (name, link) = ThinLto { site: &site }.link(&home)?;
            let paths: Vec<_> = link.inputs.into_iter().map(|input| input.path).collect();
            anyhow::Ok(format!("{name}: {}", paths.join(" ")))
        };
        assert_eq!(
            inputs(Home::Vmlinux).unwrap(),
            "vmlinux: init/main.o fs/open.o lib/string.o"
        );
        let module = |object: &str| inputs(Home::Module(object.to_owned()));
        assert_eq!(
            module("fs/ext4/ext4.o").unwrap(),
            "fs_ext4_ext4: fs/ext4/super.o fs/ext4/inode.o"
        );
        assert_eq!(module("sound/snd-a.o").unwrap(), "sound_snd-a: sound/snd-a.o");
        assert!(module("fs/no.o").is_err());
        assert!(inputs(Home::Other(Other::Rest)).is_err());
    }

    #[test]
    fn what_came_out_equal_is_told_and_nothing_else() {
        let generated = |unchanged: &[&str], spared: &[&str]| Generated {
            units: Vec::new(),
            order: Vec::new(),
            unchanged: unchanged.iter().map(|unit| (*unit).to_owned()).collect(),
            spared: spared.iter().map(|unit| (*unit).to_owned()).collect::<BTreeSet<_>>(),
            timings: Timings::default(),
        };
        assert!(notes(&generated(&[], &[])).is_empty());
        assert_eq!(
            notes(&generated(&["a.o", "b.o"], &["c.o"])),
            [
                "compiled to the same machine code: a.o, b.o",
                "1 file imports from a changed file, but none of its changed code"
            ]
        );
    }
}
