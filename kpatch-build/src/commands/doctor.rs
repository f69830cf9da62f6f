//! `doctor`: is everything here that the tool needs, and which one command gets the rest?

use anyhow::Result;
use kpatch_runtime::machine::Machine;
use serde::Serialize;

use super::Context;
use crate::cli::{Arches, DoctorArgs};
use crate::kernel::Arch;
use crate::outcome::Ending;
use crate::program;
use crate::supply::deps::{self, Host, Job};
use crate::supply::manifest::Manifest;
use crate::supply::stock;

#[derive(Serialize)]
struct Report {
    jobs: Vec<JobReport>,
    packages: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    /// Why this machine's own kernel takes signed modules only, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    signatures_enforced_by: Option<&'static str>,
}

#[derive(Serialize)]
struct JobReport {
    name: String,
    missing: Vec<String>,
}

/// Runs `doctor`. It ends well only if nothing is missing.
pub fn run(args: &DoctorArgs, context: &Context<'_>) -> Result<()> {
    let manifests = match &args.kernel {
        Some(kernel) => vec![context.catalog.find(kernel)?.0],
        None => context.catalog.load_all()?,
    };
    let jobs = all_jobs(&manifests, args.arch);
    let none = !manifests
        .iter()
        .any(|manifest| manifest.arches.keys().any(|arch| args.arch.has(*arch)));
    if none {
        let kernels = manifests.iter().map(|manifest| manifest.series.as_str());
        let text = format!("no {} kernels in {}", args.arch, kernels.collect::<Vec<_>>().join(", "));
        return Err(Ending::usage(text));
    }
    if args.install_deps {
        deps::install(&deps::missing_packages(&jobs), context.ui)?;
    }
    let packages = deps::missing_packages(&jobs);
    if context.common.json {
        context.ui.document(report(&jobs, &packages))?;
    } else {
        context.ui.say(table(&jobs));
        if let Some(why) = Machine::at("/").wants_signatures() {
            context.ui.note(format!(
                "the kernel of this machine loads signed modules only ({why}): build livepatches for it with --sign-key"
            ));
        }
    }
    let of_all = !packages.is_empty() && args.kernel.is_none() && !context.common.json;
    if of_all {
        let one = program::command("doctor --kernel 6.12");
        context.ui.note(format!(
            "that is for all kernels and architectures; `{one}` looks at one"
        ));
    }
    deps::verdict(&packages)
}

/// The jobs of some manifests, each once.
fn all_jobs(manifests: &[Manifest], arches: Arches) -> Vec<Job> {
    let mut jobs: Vec<Job> = Vec::new();
    if arches.has(Arch::X86_64) && stock::expect_machine().is_ok() {
        jobs.push(deps::stock_job());
    }
    for manifest in manifests {
        for (arch, of_arch) in manifest.arches.iter().filter(|(arch, _)| arches.has(**arch)) {
            let build = of_arch.toolchains.values();
            let build = build.flat_map(|toolchain| deps::build_jobs(*arch, toolchain));
            for job in build.chain([deps::boot_job(*arch)]) {
                if !jobs.contains(&job) {
                    jobs.push(job);
                }
            }
        }
    }
    jobs
}

fn report(jobs: &[Job], packages: &[String]) -> Report {
    let job_report = |job: &Job| JobReport {
        name: job.name.clone(),
        missing: job.missing().iter().map(|need| need.shown()).collect(),
    };
    Report {
        jobs: jobs.iter().map(job_report).collect(),
        packages: packages.to_vec(),
        command: (!packages.is_empty()).then(|| Host::of_this_machine().install_command(packages)),
        signatures_enforced_by: Machine::at("/").wants_signatures(),
    }
}

fn table(jobs: &[Job]) -> String {
    let host = Host::of_this_machine();
    let width = jobs.iter().map(|job| job.name.len()).max().unwrap_or(0);
    let line = |job: &Job| {
        let missing: Vec<_> = job.missing().iter().map(|need| need.with_package(host)).collect();
        let state = if missing.is_empty() {
            "ok".to_owned()
        } else {
            format!("missing: {}", missing.join(", "))
        };
        format!("{:width$}  {state}", job.name)
    };
    jobs.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
pub(super) fn documents() -> Vec<serde_json::Value> {
    let job = JobReport {
        name: "boot x86_64 kernels".into(),
        missing: vec!["bc".into()],
    };
    let report = Report {
        jobs: vec![job],
        packages: vec!["bc".into()],
        command: Some("apt-get install bc".into()),
        signatures_enforced_by: Some("lockdown"),
    };
    vec![serde_json::to_value(crate::ui::Document::new(report)).unwrap()]
}
