//! Damages good modules, one rule at a time, and shows that each damaged one is caught: by the checks that every
//! module goes through, or else by the booted machine. A damage that nothing notices is a hole in the proof.

mod damage;
mod tables;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use kpatch_core::resolve::{Exports, Image, Lookup, Target};
use kpatch_core::{ObjectName, elf, klp};

use super::built::Built;
use super::cases::plans_of;
use super::judge;
use super::outcome::Outcome;
use super::record::MutantRecord;
use crate::pipeline::Pipeline;
use kpatch_build::build::kbuild::ModuleFolder;
use kpatch_build::build::kernel_symbols;
use kpatch_build::build::livepatch::Livepatch;
use kpatch_build::build::module;
use kpatch_build::kernel::KernelBuild;
use kpatch_build::prove::guest::Guest;
use kpatch_build::ui::Phase;

/// Damages every good module in every way, and says what noticed.
pub fn run(
    pipeline: &Pipeline<'_>,
    kernel: &KernelBuild,
    good: &[&Built<'_>],
    phase: &Phase,
) -> Result<Vec<MutantRecord>> {
    phase.expect_steps(good.len() as u64);
    let guest_folder = pipeline.work.join("mutants");
    let guest = pipeline.guest(&guest_folder)?;
    let folders = good.iter().filter_map(|built| built.folder.as_ref());
    let others = folders.map(ModuleFolder::with_others).collect::<Result<Vec<_>>>()?;
    let guest = guest.with_others(others.concat());
    let files = Files::read(kernel, &guest, good)?;
    let target = files.target()?;
    let mut records = Vec::new();
    for built in good {
        let Ok(livepatch) = &built.result else { continue };
        let Some(made) = &livepatch.module else { continue };
        let bytes = fs::read(&made.path).with_context(|| format!("cannot read {}", made.path.display()))?;
        let checks = Checks {
            target: &target,
            vermagic: files.vermagic.as_deref(),
            livepatch,
            glue: &made.glue,
        };
        unharmed(&checks, &bytes).with_context(|| built.case.name.clone())?;
        for damage in damage::ALL {
            let mut file = elf::read(&bytes).map_err(|why| anyhow!(why))?;
            let Some(detail) = (damage.apply)(&mut file, livepatch.functions()) else {
                continue;
            };
            let damaged = file.write();
            let caught = match checks.codes(&damaged) {
                Some(codes) => Some(codes),
                None => {
                    phase.message(&format!("booting {} with {}", built.case.name, damage.name));
                    boot(&guest, built, &damaged, damage.name)?
                }
            };
            if caught.is_none() {
                phase.line(&format!("{}: {} SURVIVED: {detail}", built.case.name, damage.name));
            }
            records.push(MutantRecord {
                case: built.case.name.clone(),
                damage: damage.name.to_owned(),
                detail,
                caught,
            });
        }
        phase.step();
    }
    Ok(records)
}

/// A good module that is only read and written again has to pass, or the checks would say no to everything.
fn unharmed(checks: &Checks<'_>, bytes: &[u8]) -> Result<()> {
    let file = elf::read(bytes).map_err(|why| anyhow!(why))?;
    match checks.codes(&file.write()) {
        None => Ok(()),
        Some(codes) => Err(anyhow!("the undamaged module does not pass: {codes}")),
    }
}

/// The checks that every finished module goes through.
struct Checks<'a> {
    target: &'a Target<'a>,
    vermagic: Option<&'a str>,
    livepatch: &'a Livepatch,
    /// The object that registers everything.
    glue: &'a [u8],
}

impl Checks<'_> {
    /// The codes of what is wrong; `None`: nothing is.
    fn codes(&self, module: &[u8]) -> Option<String> {
        let expected = klp::Expected {
            functions: self.livepatch.functions(),
            callbacks: &self.livepatch.patch.callbacks,
            vermagic: self.vermagic,
            addressed: &self.livepatch.patch.addressed,
        };
        let mut refusals = klp::check(module, self.target, &expected);
        refusals.extend(module::complete(
            module,
            &self.livepatch.patch,
            &self.livepatch.about,
            self.glue,
        ));
        let mut codes: Vec<String> = refusals.iter().map(|refusal| refusal.code.to_string()).collect();
        codes.sort();
        codes.dedup();
        (!codes.is_empty()).then(|| format!("check {}", codes.join(" ")))
    }
}

/// Boots a damaged module; says what the machine noticed.
fn boot(guest: &Guest<'_>, built: &Built<'_>, module: &[u8], damage: &str) -> Result<Option<String>> {
    let path = guest.work.join(format!("{}-{damage}.ko", built.case.name));
    fs::write(&path, module).with_context(|| format!("cannot write {}", path.display()))?;
    let mut plans = plans_of(guest, built)?;
    for file in plans.iter_mut().flat_map(|plan| &mut plan.files) {
        if file.guest_path.ends_with(&format!("/{}.ko", built.name)) {
            file.host_path.clone_from(&path);
        }
    }
    let report = guest.run(plans, &|_| {})?;
    let worst = report.cases.iter().map(|case| judge::of_guest(&case.outcome)).max();
    Ok(match worst {
        None | Some(Outcome::Passed | Outcome::Infrastructure) => None,
        Some(outcome) => Some(format!("boot: {}", outcome.shown().to_lowercase())),
    })
}

/// The kernel that the modules are for.
struct Files {
    vmlinux: Vec<u8>,
    modules: BTreeMap<ObjectName, Vec<u8>>,
    symvers: String,
    lookup: Lookup,
    vermagic: Option<String>,
}

impl Files {
    fn read(kernel: &KernelBuild, guest: &Guest<'_>, good: &[&Built<'_>]) -> Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let mut modules = BTreeMap::new();
        let built = good.iter().filter_map(|built| built.result.as_ref().ok());
        let objects = built.flat_map(Livepatch::objects);
        for object in objects.filter(|object| !object.is_vmlinux()) {
            if let Entry::Vacant(slot) = modules.entry(object) {
                let bytes = read(&guest.module_file(slot.key().as_str())?)?;
                slot.insert(bytes);
            }
        }
        let mut symvers = read(&kernel.build.join("Module.symvers"))?;
        for folder in good.iter().filter_map(|built| built.folder.as_ref()) {
            for exports in folder.exports()? {
                symvers.extend(read(&exports)?);
            }
        }
        Ok(Files {
            vmlinux: read(&kernel.vmlinux)?,
            modules,
            symvers: String::from_utf8_lossy(&symvers).into_owned(),
            lookup: kernel_symbols::lookup(kernel)?,
            vermagic: kernel_symbols::vermagic_of_build(kernel),
        })
    }

    fn target(&self) -> Result<Target<'_>> {
        let mut modules = BTreeMap::new();
        for (name, bytes) in &self.modules {
            // Who is whose neighbour in the link does not matter for finding symbols by name and position.
            modules.insert(name.clone(), Image::read(name.clone(), bytes, &[])?);
        }
        Ok(Target {
            vmlinux: Image::read(ObjectName::vmlinux(), &self.vmlinux, &[])?.with_lookup(self.lookup),
            modules,
            exports: Exports::parse(&self.symvers)?,
            partial: false,
        })
    }
}
