//! The pipeline with a machine that is none: what is booted with whom, and what each gets to hear.

use std::sync::Mutex;

use kpatch_build::kernel::{Arch, KernelBuild};
use kpatch_build::prove::vm::{Accel, CaseOutcome, Firmware};
use kpatch_build::ui::Ui;

use super::*;

/// Names as they are. `built…` is through once it is built, `unplanned…` cannot be planned, `fresh…` needs a machine.
#[derive(Default)]
struct Names {
    through: Mutex<Vec<(String, String)>>,
    over: bool,
}

impl Names {
    fn put(&self, name: &str, what: String) {
        self.through.lock().unwrap().push((name.to_owned(), what));
    }

    fn sorted(self) -> Vec<(String, String)> {
        let mut through = self.through.into_inner().unwrap();
        through.sort();
        through
    }
}

impl Line for Names {
    type Item = &'static str;
    type Built = String;

    fn item_name<'i>(&self, item: &'i Self::Item) -> &'i str {
        item
    }

    fn plan_name<'b>(&self, built: &'b String) -> &'b str {
        built
    }

    fn build(&self, item: &Self::Item) -> Option<String> {
        if item.starts_with("built") {
            self.put(item, "built".into());
            return None;
        }
        Some((*item).to_owned())
    }

    fn needs_own_machine(&self, built: &String) -> bool {
        built.starts_with("fresh")
    }

    fn plans(&self, built: &String, _: &Guest<'_>) -> Result<Vec<CasePlan>> {
        anyhow::ensure!(!built.starts_with("unplanned"), "no plan");
        Ok(vec![CasePlan {
            name: built.clone(),
            files: Vec::new(),
            steps: Vec::new(),
            reports: Vec::new(),
        }])
    }

    fn booted(&self, built: String, booted: Booted) {
        let what = match booted.report {
            Ok(report) => format!("with {}", report.cases.len()),
            Err(error) => format!("{error:#}"),
        };
        self.put(&built, what);
    }

    fn machine_ended(&self, _: &Path) {}

    fn is_over(&self) -> bool {
        self.over
    }
}

/// `late…` runs out of time unless it is alone.
fn report(plans: Vec<CasePlan>) -> BootReport {
    let crowd = plans.len();
    let case = |plan: CasePlan| CaseReport {
        outcome: if plan.name.starts_with("late") && crowd > 1 {
            CaseOutcome::TimedOut {
                step: "check".into(),
                what: "a step".into(),
                whereabouts: Vec::new(),
                console: Vec::new(),
            }
        } else {
            CaseOutcome::Passed
        },
        name: plan.name,
        steps: Vec::new(),
    };
    BootReport {
        accel: Accel::Tcg,
        no_kvm: None,
        firmware: Firmware::SeaBios,
        cases: plans.into_iter().map(case).collect(),
        boot_seconds: 0.0,
        total_seconds: 0.0,
        boots: 1,
        console_tail: Vec::new(),
        release: "6.12.107".into(),
        boot_complaints: Vec::new(),
    }
}

fn run(line: Names, items: &[&'static str], image: Option<&Path>) -> Vec<(String, String)> {
    let work = tempfile::tempdir().unwrap();
    let kernel = KernelBuild {
        source: "/source".into(),
        build: "/build".into(),
        vmlinux: "/build/vmlinux".into(),
        arch: Arch::X86_64,
        release: "6.12.107".into(),
        id: "key".into(),
        log: None,
    };
    let ui = Ui::new(true, false);
    ui.phase("test", |phase| {
        let pipeline = Pipeline {
            kernel: Kernel::Recorded(&kernel),
            image,
            work: work.path(),
            cache: work.path(),
            jobs: 1,
            phase,
        };
        pipeline.run_with(&line, items, &|_, plans, _| Ok(report(plans)));
        Ok(())
    })
    .unwrap();
    line.sorted()
}

fn through(items: &[&'static str]) -> Vec<(String, String)> {
    run(Names::default(), items, Some(Path::new("image")))
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, what): &(&str, &str)| ((*name).to_owned(), (*what).to_owned());
    expected.iter().map(owned).collect()
}

#[test]
fn what_ran_out_of_time_gets_a_machine_of_its_own() {
    let expected = pairs(&[("a", "with 3"), ("b", "with 3"), ("late", "with 1")]);
    assert_eq!(through(&["a", "late", "b"]), expected);
}

#[test]
fn what_needs_a_machine_for_itself_shares_it_with_nobody() {
    let expected = pairs(&[("a", "with 2"), ("b", "with 2"), ("fresh", "with 1")]);
    assert_eq!(through(&["fresh", "a", "b"]), expected);
}

#[test]
fn what_cannot_be_planned_costs_the_others_nothing() {
    let expected = pairs(&[("a", "with 1"), ("built", "built"), ("unplanned", "no plan")]);
    assert_eq!(through(&["unplanned", "built", "a"]), expected);
}

#[test]
fn a_kernel_without_an_image_is_told_to_everybody() {
    let all = run(Names::default(), &["a", "b"], None);
    assert_eq!(all.len(), 2);
    assert!(
        all.iter().all(|(_, what)| what.contains("no image that can be booted")),
        "{all:?}"
    );
}

#[test]
fn a_run_that_is_over_begins_nothing() {
    let line = Names {
        over: true,
        ..Names::default()
    };
    assert_eq!(run(line, &["a", "built"], Some(Path::new("image"))), []);
}

#[test]
fn plans_belong_to_the_whole_name() {
    let names = ["a", "a (old behaviour)", "ab", "b"];
    let plan = |name: &str| CasePlan {
        name: name.into(),
        files: Vec::new(),
        steps: Vec::new(),
        reports: Vec::new(),
    };
    let report = report(names.map(plan).to_vec());
    let own: Vec<&str> = own_plans("a", &report).iter().map(|plan| plan.name.as_str()).collect();
    assert_eq!(own, ["a", "a (old behaviour)"]);
}
