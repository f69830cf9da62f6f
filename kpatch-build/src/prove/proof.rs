//! The plan of a proof. The guest must show the old behaviour before the livepatch is loaded, the new one once every
//! task has switched over, and the old one again after it is unloaded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::Callback;
use kpatch_core::resolve::PatchedFunction;

use crate::build::kbuild::modules::name_of_ko;
use crate::prove::vm::{Behaviour, CasePlan, ExpectedObject, GuestFile, Step, TRANSITION_TIMEOUT};

/// One livepatch to prove.
pub struct Proof<'a> {
    /// Name in reports; also the folder in the guest.
    pub name: &'a str,
    /// Path of the livepatch module (`.ko`) on the host.
    pub ko: &'a Path,
    /// Name of the module as in `/sys/kernel/livepatch`.
    pub module: &'a str,
    /// The functions that must be redirected.
    pub functions: &'a [PatchedFunction],
    /// The functions that are called when objects are patched.
    pub callbacks: &'a [Callback],
    /// Whether the module keeps itself, so that it can be disabled and never be removed.
    pub permanent: bool,
    /// The check script; without one the proof covers only loading and unloading.
    pub check: Option<PathBuf>,
    /// What the check must see while the transition is held open, if it can be.
    pub during: Option<&'a During>,
    /// What the kernel's log says while the behaviour is the old one.
    pub reports: &'a [String],
    /// Other files that the check needs, by name.
    pub files: &'a [(String, PathBuf)],
    /// Modules to load before the livepatch, in order.
    pub before: &'a [PathBuf],
    /// Modules to load after it, in order.
    pub after: &'a [PathBuf],
    /// Other builds of modules of `after`, which the livepatch must not let in before those come.
    pub rebuilt: &'a [PathBuf],
    /// The modules of `before` that are removed and loaded again while the livepatch is loaded.
    pub reload: &'a [String],
    /// Another livepatch, loaded while this one is.
    pub then: Option<Second<'a>>,
    /// Whether other cases follow in this guest, so that the modules must be removed.
    pub shared: bool,
}

/// A look at the machine while some tasks run old code and others new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct During {
    /// Guest script: makes a task sleep in a function that is patched; with the argument `release` it lets that task go.
    pub hold: PathBuf,
    /// What the check, which runs new code then, must see.
    pub expect: Behaviour,
}

/// A livepatch that is loaded while another one is.
pub struct Second<'a> {
    /// Path of the livepatch module (`.ko`) on the host.
    pub ko: &'a Path,
    /// Name of the module as in `/sys/kernel/livepatch`.
    pub module: &'a str,
    /// The functions that must be redirected.
    pub functions: &'a [PatchedFunction],
    /// The functions that are called when objects are patched.
    pub callbacks: &'a [Callback],
    /// Whether it replaces the first one, instead of stacking on it.
    pub replace: bool,
    /// The check script: exit 0 for this one's behaviour, 1 for the first one's.
    pub check: &'a Path,
}

/// The plans of a proof, each for the guest in one go. `work` receives the scripts that the guest runs.
///
/// A module that is loaded after the livepatch cannot show the old behaviour before it, and some modules can never be
/// removed. So its old behaviour is a plan of its own, which leaves a changed machine behind.
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
    let rebuilt = proof.rebuilt.iter().map(|ko| Step::RefuseModule {
        ko: place(&format!("rebuilt/{}.ko", name_of_ko(ko)), ko, 0o644),
        livepatch: proof.module.to_owned(),
    });
    let rebuilt = rebuilt.collect();
    // Checks name their files relative to the case, since a boot can have several cases.
    let mut script = |name: &str, check: &Path, argument: &str| -> Result<String> {
        place(&format!("{name}.sh"), check, 0o755);
        let host = work.join(format!("{}.{name}{argument}.run.sh", proof.name));
        let text = format!("cd {folder} && exec /bin/sh ./{name}.sh {argument}\n");
        fs::write(&host, text).with_context(|| format!("cannot write {}", host.display()))?;
        Ok(place(&format!("{name}{argument}.run.sh"), &host, 0o755))
    };
    let during = match proof.during {
        Some(during) => Some(Held {
            hold: script("hold", &during.hold, "")?,
            release: script("hold", &during.hold, "release")?,
            expect: during.expect,
        }),
        None => None,
    };
    let mut script = |name: &str, check: &Path| script(name, check, "");
    let own = proof.check.as_ref().map(|check| script("check", check)).transpose()?;
    let then = proof.then.as_ref().map(|then| script("then", then.check)).transpose()?;
    let second = proof
        .then
        .as_ref()
        .map(|then| place(&format!("{}.ko", then.module), then.ko, 0o644));
    let parts = Parts {
        ko,
        before,
        rebuilt,
        after,
        script: own,
        during,
        second: second.zip(then),
    };
    let mut plans = Vec::new();
    if let Some(steps) = parts.late_baseline() {
        plans.push(CasePlan {
            name: format!("{} (old behaviour)", proof.name),
            files: files.clone(),
            steps,
            reports: proof.reports.to_vec(),
        });
    }
    plans.push(CasePlan {
        name: proof.name.to_owned(),
        files,
        steps: parts.steps(proof),
        reports: proof.reports.to_vec(),
    });
    Ok(plans)
}

/// What the steps are made of.
struct Parts {
    ko: String,
    before: Vec<Step>,
    rebuilt: Vec<Step>,
    after: Vec<Step>,
    script: Option<String>,
    during: Option<Held>,
    /// Module and check of the second livepatch.
    second: Option<(String, String)>,
}

/// [`During`] in the guest.
struct Held {
    hold: String,
    release: String,
    expect: Behaviour,
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
        let load = Step::LoadLivepatch {
            ko: self.ko.clone(),
            name: name.clone(),
            objects: objects(proof.functions, proof.callbacks, proof.after),
        };
        match &self.during {
            Some(held) => steps.extend(self.held(held, &load, proof)),
            None => steps.push(load),
        }
        steps.push(WAIT);
        steps.extend(self.rebuilt.iter().chain(&self.after).cloned());
        steps.extend(self.check(Behaviour::New, "after load"));
        steps.extend(self.reload(proof));
        steps.extend(self.second(proof));
        if proof.then.as_ref().is_some_and(|then| then.replace) {
            return steps;
        }
        // Still loaded but disabled: any remaining new behaviour is something that the livepatch left behind elsewhere.
        steps.push(Step::DisableLivepatch { name: name.clone() });
        steps.push(WAIT);
        steps.extend(self.check(Behaviour::Old, "after disable"));
        if proof.permanent {
            return steps;
        }
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
    /// The livepatch is loaded, looked at while its transition is held open, reverted, and loaded again.
    fn held(&self, held: &Held, load: &Step, proof: &Proof<'_>) -> Vec<Step> {
        let name = || proof.module.to_owned();
        let hold = |script: &String, release| Step::Hold {
            script: script.clone(),
            release,
        };
        let mut steps = vec![hold(&held.hold, false), load.clone()];
        steps.push(Step::HeldTransition { name: name() });
        steps.extend(self.check(held.expect, "during the transition"));
        // Else it may have ended before the check looked.
        steps.push(Step::HeldTransition { name: name() });
        if !proof.permanent {
            steps.push(Step::DisableLivepatch { name: name() });
            steps.push(WAIT);
            steps.extend(self.check(Behaviour::Old, "after the transition was reverted"));
            steps.push(Step::UnloadLivepatch { name: name() });
            steps.push(load.clone());
            steps.push(Step::HeldTransition { name: name() });
        }
        steps.push(hold(&held.release, true));
        steps
    }

    /// A module that is loaded again must be patched again as it loads.
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

    /// The steps of the second livepatch. After a replacing one is unloaded, all behaviour is old. A stacked one is
    /// unloaded first, and the behaviour of the first one must come back.
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
                        objects(then.functions, then.callbacks, proof.after),
                        objects(proof.functions, proof.callbacks, proof.after),
                    )
                } else {
                    objects(then.functions, then.callbacks, proof.after)
                },
            },
            WAIT,
            check(Behaviour::New, "of the second after load"),
        ];
        if then.replace {
            // The kernel has disabled the first one; its module remains, unused.
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

/// Waits until every task has switched over.
const WAIT: Step = Step::WaitTransition {
    timeout: TRANSITION_TIMEOUT,
};

/// What the second livepatch registers while it replaces the first.
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

fn objects(functions: &[PatchedFunction], callbacks: &[Callback], after: &[PathBuf]) -> Vec<ExpectedObject> {
    let called = callbacks.iter().map(|callback| (callback.object.as_str(), Vec::new()));
    let mut by_object: BTreeMap<&str, Vec<String>> = called.collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(during: Option<&During>, permanent: bool) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let proof = Proof {
            name: "case",
            ko: Path::new("k.ko"),
            module: "k",
            functions: &[],
            callbacks: &[],
            permanent,
            check: Some("check.sh".into()),
            during,
            reports: &[],
            files: &[],
            before: &[],
            after: &[],
            rebuilt: &[],
            reload: &[],
            then: None,
            shared: false,
        };
        let plan = plans(&proof, folder.path()).unwrap().remove(0);
        plan.steps.iter().map(Step::label).collect()
    }

    #[test]
    fn a_transition_that_is_held_open_is_looked_at_and_reverted() {
        let during = During {
            hold: "hold.sh".into(),
            expect: Behaviour::New,
        };
        let held = "see that the transition of k is held open";
        let expected = [
            "check before load",
            "hold the transition open",
            "load livepatch k",
            held,
            "check during the transition",
            held,
            "disable livepatch k",
            "wait for the transition",
            "check after the transition was reverted",
            "unload livepatch k",
            "load livepatch k",
            held,
            "let the transition go on",
            "wait for the transition",
            "check after load",
        ];
        let got = labels(Some(&during), false);
        assert_eq!(got[..expected.len()], expected);
        assert_eq!(got[expected.len()..], labels(None, false)[4..]);
        let permanent = labels(Some(&during), true);
        let loads = permanent.iter().filter(|label| label.starts_with("load livepatch"));
        assert_eq!(loads.count(), 1, "what cannot be removed is loaded once: {permanent:?}");
    }
}
