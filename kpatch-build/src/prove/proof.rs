//! What a booted machine must show before anybody believes in a livepatch: the old behaviour before it is loaded, the
//! new one once every task has switched over, the old one again after it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::resolve::PatchedFunction;

use crate::build::kbuild::modules::name_of_ko;
use crate::prove::vm::{Behaviour, CasePlan, ExpectedObject, GuestFile, Step, TRANSITION_TIMEOUT};

/// One livepatch to prove.
pub struct Proof<'a> {
    /// Name for people; also the folder in the guest.
    pub name: &'a str,
    /// The module.
    pub ko: &'a Path,
    /// Module name.
    pub module: &'a str,
    /// The functions that must be redirected.
    pub functions: &'a [PatchedFunction],
    /// The check script; without one only loading and unloading is proven.
    pub check: Option<PathBuf>,
    /// Other files that the check needs, by name.
    pub files: &'a [(String, PathBuf)],
    /// Modules to load before the livepatch, in order.
    pub before: &'a [PathBuf],
    /// Modules to load after it, in order.
    pub after: &'a [PathBuf],
    /// Those of the modules before that are removed and loaded again while the livepatch is there.
    pub reload: &'a [String],
    /// Another livepatch that comes while this one is there.
    pub then: Option<Second<'a>>,
    /// Whether the machine goes on to other cases, so that the modules must go again.
    pub shared: bool,
}

/// A livepatch that comes while another is there.
pub struct Second<'a> {
    /// The module.
    pub ko: &'a Path,
    /// Module name.
    pub module: &'a str,
    /// The functions that must be redirected.
    pub functions: &'a [PatchedFunction],
    /// Whether it takes the place of the first.
    pub replace: bool,
    /// Exit 0 for what this one does, 1 for what the first does.
    pub check: &'a Path,
}

/// The plans of a proof, each for the guest in one go. `work` receives the scripts that the guest runs.
///
/// A module that is loaded after the livepatch cannot show the old behaviour before it, and some modules can never be
/// removed again; so its old behaviour is a plan of its own, which ends with a changed machine.
pub fn plans(proof: &Proof<'_>, work: &Path) -> Result<Vec<CasePlan>> {
    let folder = format!("/case/{}", proof.name);
    let mut files = Vec::new();
    let mut place = |name: &str, host: &Path, mode: u32| {
        let guest_path = format!("{folder}/{name}");
        files.push(GuestFile {
            guest_path: guest_path.clone(),
            host_path: host.to_owned(),
            mode,
        });
        guest_path
    };
    let ko = place(&format!("{}.ko", proof.module), proof.ko, 0o644);
    for (name, host) in proof.files {
        place(name, host, 0o755);
    }
    let mut modules = |kos: &[PathBuf]| -> Vec<Step> {
        let path = |ko: &PathBuf| format!("modules/{}.ko", name_of_ko(ko));
        kos.iter()
            .map(|ko| Step::LoadModule {
                ko: place(&path(ko), ko, 0o644),
                params: String::new(),
            })
            .collect()
    };
    let (before, after) = (modules(proof.before), modules(proof.after));
    // Checks name their files relative to the case, wherever several cases of one boot are put.
    let mut script = |name: &str, check: &Path| -> Result<String> {
        place(&format!("{name}.sh"), check, 0o755);
        let host = work.join(format!("{}.{name}.run.sh", proof.name));
        let text = format!("cd {folder} && exec /bin/sh ./{name}.sh\n");
        fs::write(&host, text).with_context(|| format!("cannot write {}", host.display()))?;
        Ok(place(&format!("{name}.run.sh"), &host, 0o755))
    };
    let own = proof.check.as_ref().map(|check| script("check", check)).transpose()?;
    let then = proof.then.as_ref().map(|then| script("then", then.check)).transpose()?;
    let second = proof
        .then
        .as_ref()
        .map(|then| place(&format!("{}.ko", then.module), then.ko, 0o644));
    let parts = Parts {
        ko,
        before,
        after,
        script: own,
        second: second.zip(then),
    };
    let mut plans = Vec::new();
    if let Some(steps) = parts.late_baseline() {
        plans.push(CasePlan {
            name: format!("{} (old behaviour)", proof.name),
            files: files.clone(),
            steps,
        });
    }
    plans.push(CasePlan {
        name: proof.name.to_owned(),
        files,
        steps: parts.steps(proof),
    });
    Ok(plans)
}

/// What the steps are made of.
struct Parts {
    ko: String,
    before: Vec<Step>,
    after: Vec<Step>,
    script: Option<String>,
    /// Module and check of the livepatch that comes while the first is there.
    second: Option<(String, String)>,
}

impl Parts {
    fn check(&self, expect: Behaviour, when: &str) -> Option<Step> {
        self.script.clone().map(|script| Step::Check {
            script,
            expect,
            when: when.to_owned(),
        })
    }

    fn late_baseline(&self) -> Option<Vec<Step>> {
        let check = self
            .check(Behaviour::Old, "without the livepatch")
            .filter(|_| !self.after.is_empty())?;
        Some(self.before.iter().chain(&self.after).cloned().chain([check]).collect())
    }

    fn steps(&self, proof: &Proof<'_>) -> Vec<Step> {
        let name = proof.module.to_owned();
        let mut steps = self.before.clone();
        if self.after.is_empty() {
            steps.extend(self.check(Behaviour::Old, "before load"));
        }
        steps.push(Step::LoadLivepatch {
            ko: self.ko.clone(),
            name: name.clone(),
            objects: objects(proof.functions, proof.after),
        });
        steps.push(WAIT);
        steps.extend(self.after.iter().cloned());
        steps.extend(self.check(Behaviour::New, "after load"));
        steps.extend(self.reload(proof));
        steps.extend(self.second(proof));
        if proof.then.as_ref().is_some_and(|then| then.replace) {
            return steps;
        }
        // Still in memory but switched off: what remains of the livepatch now is what it left behind elsewhere.
        steps.push(Step::DisableLivepatch { name: name.clone() });
        steps.push(WAIT);
        steps.extend(self.check(Behaviour::Old, "after disable"));
        steps.push(Step::UnloadLivepatch { name });
        steps.extend(self.check(Behaviour::Old, "after unload"));
        if proof.shared {
            let loaded = proof.after.iter().rev().chain(proof.before.iter().rev());
            steps.extend(loaded.map(|ko| Step::TidyModule { name: name_of_ko(ko) }));
        }
        steps
    }
}

impl Parts {
    /// A module that comes again has to be patched again as it comes.
    fn reload(&self, proof: &Proof<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let reloaded = |ko: &&PathBuf| proof.reload.contains(&name_of_ko(ko));
        for ko in proof.before.iter().rev().filter(reloaded) {
            steps.push(Step::UnloadModule { name: name_of_ko(ko) });
        }
        let again = proof.before.iter().zip(&self.before).filter(|(ko, _)| reloaded(ko));
        steps.extend(again.map(|(_, load)| load.clone()));
        if !steps.is_empty() {
            steps.extend(self.check(Behaviour::New, "after the module came again"));
        }
        steps
    }

    /// The second livepatch. One that replaces the first is the end of it: without the second one all is old again. One
    /// that lies on top goes first, and the behaviour of the first one has to come back.
    fn second(&self, proof: &Proof<'_>) -> Vec<Step> {
        let (Some(then), Some((ko, script))) = (&proof.then, &self.second) else {
            return Vec::new();
        };
        let check = |expect, when: &str| Step::Check {
            script: script.clone(),
            expect,
            when: when.to_owned(),
        };
        let (first, second) = (proof.module.to_owned(), then.module.to_owned());
        let mut steps = vec![
            check(Behaviour::Old, "of the second before it is loaded"),
            Step::LoadLivepatch {
                ko: ko.clone(),
                name: second.clone(),
                objects: if then.replace {
                    replacing(
                        objects(then.functions, proof.after),
                        objects(proof.functions, proof.after),
                    )
                } else {
                    objects(then.functions, proof.after)
                },
            },
            WAIT,
            check(Behaviour::New, "of the second after load"),
        ];
        if then.replace {
            // The kernel has switched the first one off; what is left is a module that nobody uses.
            steps.push(Step::UnloadLivepatch { name: first });
            steps.push(check(Behaviour::New, "of the second without the first"));
        }
        steps.push(Step::DisableLivepatch { name: second.clone() });
        steps.push(WAIT);
        steps.push(Step::UnloadLivepatch { name: second });
        let back = if then.replace { Behaviour::Old } else { Behaviour::New };
        steps.extend(self.check(back, "after the second is gone"));
        steps
    }
}

/// Until every task has switched over.
const WAIT: Step = Step::WaitTransition {
    timeout: TRANSITION_TIMEOUT,
};

/// What the second livepatch registers while it takes the place of the first.
fn replacing(mut second: Vec<ExpectedObject>, first: Vec<ExpectedObject>) -> Vec<ExpectedObject> {
    for old in first {
        match second.iter_mut().find(|object| object.name == old.name) {
            Some(object) => object.leaving = old.functions,
            None => second.push(ExpectedObject {
                leaving: old.functions,
                functions: Vec::new(),
                ..old
            }),
        }
    }
    second
}

fn objects(functions: &[PatchedFunction], after: &[PathBuf]) -> Vec<ExpectedObject> {
    let mut by_object: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for function in functions {
        let name = match function.sympos.0 {
            0 => function.name.clone(),
            sympos => format!("{},{sympos}", function.name),
        };
        by_object.entry(function.object.as_str()).or_default().push(name);
    }
    let late: BTreeSet<String> = after.iter().map(|ko| name_of_ko(ko)).collect();
    by_object
        .into_iter()
        .map(|(name, functions)| ExpectedObject {
            name: name.to_owned(),
            functions,
            patched_now: !late.contains(name),
            leaving: Vec::new(),
        })
        .collect()
}
