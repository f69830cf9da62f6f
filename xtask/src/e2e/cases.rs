//! The cases of the corpus as a [`Line`] of the pipeline: how each is built, and what a guest does for it.
//!
//! Cases that leave something behind get a machine of their own. They are built first, so that their machines run while
//! the rest is built.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use super::built::Built;
use super::{judge, module_dir, rebuilt};
use crate::corpus::{Boot, Case};
use crate::pipeline::{Booted, Line, Pipeline};
use kpatch_build::build::intake::{self, Given};
use kpatch_build::build::kbuild::ModuleFolder;
use kpatch_build::build::livepatch::{self, Livepatch};
use kpatch_build::build::{leave_out, module};
use kpatch_build::prove::guest::{self, Guest};
use kpatch_build::prove::proof::{self, Proof, Second};
use kpatch_build::prove::vm::CasePlan;
use kpatch_build::sh;

/// Takes a case that is through, with its boot if there was one. Called from any thread.
pub type OnDone<'f, 'c> = &'f (dyn Fn(Built<'c>, Option<Booted>) + Sync);

/// Takes every case through, in no particular order.
pub fn run<'c>(pipeline: &Pipeline<'_>, boot: bool, cases: &'c [Case], on_done: OnDone<'_, 'c>) {
    let (fresh, shared): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| needs_own_machine(case));
    let order: Vec<&Case> = fresh.into_iter().chain(shared).collect();
    let cases = Cases {
        pipeline,
        boot,
        on_done,
    };
    pipeline.run(&cases, &order);
}

struct Cases<'a, 'c> {
    pipeline: &'a Pipeline<'a>,
    boot: bool,
    on_done: OnDone<'a, 'c>,
}

impl<'c> Line for Cases<'_, 'c> {
    type Item = &'c Case;
    type Built = Built<'c>;

    fn item_name<'i>(&self, case: &'i &'c Case) -> &'i str {
        &case.name
    }

    fn plan_name<'b>(&self, built: &'b Built<'c>) -> &'b str {
        &built.case.name
    }

    fn build(&self, case: &&'c Case) -> Option<Built<'c>> {
        let built = self.built(case);
        if self.boot && judge::is_worth_booting(&built) {
            return Some(built);
        }
        (self.on_done)(built, None);
        None
    }

    fn needs_own_machine(&self, built: &Built<'c>) -> bool {
        needs_own_machine(built.case)
    }

    fn plans(&self, built: &Built<'c>, guest: &Guest<'_>) -> Result<Vec<CasePlan>> {
        plans_of(guest, built)
    }

    fn booted(&self, built: Built<'c>, booted: Booted) {
        (self.on_done)(built, Some(booted));
    }

    fn machine_ended(&self, _: &Path) {
        // The folder is kept: those of failed cases are looked at after the run.
    }

    fn is_over(&self) -> bool {
        // What an interrupt cuts short says nothing about a case.
        sh::was_interrupted()
    }
}

/// What is asked for.
struct Wish<'w> {
    patches: &'w [PathBuf],
    /// Leave out what is refused.
    leave_out: bool,
    accept: &'w [String],
    replace: bool,
    /// The livepatch that is there before.
    replaces: &'w [PathBuf],
}

impl<'c> Cases<'_, 'c> {
    fn built(&self, case: &'c Case) -> Built<'c> {
        let started = Instant::now();
        let name = module::livepatch_name(&[format!("{}.patch", case.name)]);
        let work = self.pipeline.work.join(&case.name);
        let first = Wish {
            patches: &case.patches,
            leave_out: !case.left_out.is_empty(),
            accept: &case.accept,
            replace: case.replace,
            replaces: &[],
        };
        let source = case.module_dir.as_deref();
        let folder = source.map(|source| module_dir::build(self.pipeline.kernel, source, &work, self.pipeline.jobs));
        let (folder, mut result) = match folder.transpose() {
            Ok(folder) => {
                let result = module_dir::unwritten(folder.as_ref(), &|| {
                    self.livepatch(&first, folder.as_ref(), &name, &work)
                });
                (folder, result)
            }
            Err(error) => (None, Err(error)),
        };
        let mut then = None;
        if let (Ok(first), Some(second)) = (&result, &case.then) {
            let name = module::livepatch_name(&[format!("{}-then.patch", case.name)]);
            let old = first.module.iter().map(|module| module.path.clone());
            let old: Vec<PathBuf> = old.filter(|_| second.replace).collect();
            let wish = Wish {
                patches: &second.patches,
                leave_out: false,
                accept: &[],
                replace: second.replace,
                replaces: &old,
            };
            match self.livepatch(&wish, folder.as_ref(), &name, &work.join("then")) {
                Ok(livepatch) => then = Some((name, livepatch)),
                Err(error) => result = Err(error),
            }
        }
        Built {
            case,
            folder,
            took: started.elapsed(),
            name,
            result,
            then,
        }
    }

    fn livepatch(&self, wish: &Wish<'_>, folder: Option<&ModuleFolder>, name: &str, work: &Path) -> Result<Livepatch> {
        let taken = intake::take(Given::Paths(wish.patches), work)?;
        let request = livepatch::Request {
            kernel: self.pipeline.kernel,
            module_dir: folder,
            patches: &taken.patches,
            name,
            replace: wish.replace,
            replaces: wish.replaces,
            accept: wish.accept,
            skip_unbuilt: false,
            all_readers: false,
            fuzz: 0,
            left_out: &[],
            dry_run: false,
            work,
            cache: self.pipeline.cache,
            jobs: self.pipeline.jobs,
        };
        if wish.leave_out {
            return leave_out::build(&request, &());
        }
        livepatch::build(&request, &())
    }
}

fn needs_own_machine(case: &Case) -> bool {
    case.boot == Boot::Fresh || !case.modules.after.is_empty()
}

/// What a guest does for a case.
pub fn plans_of(guest: &Guest<'_>, built: &Built<'_>) -> Result<Vec<CasePlan>> {
    let case = built.case;
    let livepatch = built.result.as_ref().ok();
    let livepatch = livepatch.context("only finished livepatches are booted")?;
    let module = livepatch
        .module
        .as_ref()
        .context("only finished livepatches are booted")?;
    let others = built.folder.as_ref().map(ModuleFolder::with_others).transpose()?;
    let guest = &guest.with_others(others.unwrap_or_default());
    let modules = guest.modules(&case.modules.before, &case.modules.after, &livepatch.objects())?;
    let rebuilt = rebuilt::of(&case.modules.rebuilt, &modules.after, &guest.work.join("rebuilt"))?;
    let program = case.program.as_deref();
    let files = program
        .map(|source| guest::probe(&case.name, source, guest))
        .transpose()?;
    let files: Vec<_> = files.into_iter().collect();
    let second = case.then.as_ref().zip(built.then.as_ref());
    let second = second.map(|(then, (name, livepatch))| -> Result<Second<'_>> {
        let module = livepatch.module.as_ref();
        Ok(Second {
            ko: &module.context("only finished livepatches are booted")?.path,
            module: name,
            functions: livepatch.functions(),
            callbacks: &livepatch.patch.callbacks,
            replace: then.replace,
            check: &then.check,
        })
    });
    let proof = Proof {
        name: &case.name,
        ko: &module.path,
        module: &built.name,
        functions: livepatch.functions(),
        callbacks: &livepatch.patch.callbacks,
        permanent: livepatch.patch.is_permanent(),
        check: case.check.clone(),
        during: case.during.as_ref(),
        reports: &case.reports,
        files: &files,
        before: &modules.before,
        after: &modules.after,
        rebuilt: &rebuilt,
        reload: &case.modules.reload,
        then: second.transpose()?,
        shared: case.boot == Boot::Shared,
    };
    proof::plans(&proof, guest.work)
}
