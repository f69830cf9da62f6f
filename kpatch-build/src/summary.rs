//! What came of a run, for a person in five seconds and for a program in JSON.

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use kpatch_core::resolve::PatchedFunction;
use kpatch_core::{Callback, Element, Ignored, Refusal, names};
use serde::Serialize;

use crate::build::livepatch::{self, Livepatch};
use crate::outcome::{self, Ending, Kind};
use crate::prove::vm::{BootReport, Meaning};
use crate::ui::{self, Phases};

/// On a terminal longer lines are cut, unless everything was asked for.
const MAX_LINE: usize = 110;

/// The result of `build-patch`.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// `built`, `would-build`, or the name of a [`Kind`].
    outcome: &'static str,
    /// The exit code that goes with it.
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    functions: Vec<PatchedFunction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    callbacks: Vec<Callback>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    handed_out: Vec<HandedOut>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    units: Vec<Unit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elements: Vec<Element>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<Ignored>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<Refusal>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    livepatch: Option<Relocations>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<Boot>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    phases: Phases,
    #[serde(skip)]
    explain: bool,
    #[serde(skip)]
    cut: bool,
}

/// A function of the livepatch that somebody may call until later than the livepatch is there.
#[derive(Debug, Serialize)]
struct HandedOut {
    unit: String,
    function: String,
    /// Who takes its address.
    by: Vec<String>,
}

/// A translation unit that was compared, and why.
#[derive(Debug, Serialize)]
struct Unit {
    name: String,
    cause: String,
}

/// What livepatch does when it loads the module.
#[derive(Debug, Serialize)]
struct Relocations {
    /// Symbols it looks up.
    symbols: usize,
    /// Relocations it applies, over all objects.
    relocations: usize,
}

/// What a booted machine showed.
#[derive(Debug, Clone, Serialize)]
pub struct Boot {
    passed: bool,
    infrastructure: bool,
    checked: bool,
    accelerator: String,
    release: String,
    boots: usize,
    boot_seconds: f64,
    total_seconds: f64,
    cases: Vec<BootCase>,
    /// What the kernel complained about before the first case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    boot_complaints: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    console_tail: Vec<String>,
}

/// One plan of the boot.
#[derive(Debug, Clone, Serialize)]
struct BootCase {
    name: String,
    outcome: &'static str,
    detail: String,
    steps: Vec<BootStep>,
}

/// One step of a plan.
#[derive(Debug, Clone, Serialize)]
struct BootStep {
    label: String,
    milliseconds: u128,
    #[serde(skip_serializing_if = "String::is_empty")]
    output: String,
    /// What the kernel logged meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernel: Vec<String>,
}

impl HandedOut {
    fn of(element: &Element) -> Option<Self> {
        (!element.address_taken_by.is_empty()).then(|| HandedOut {
            unit: element.unit.clone(),
            function: element.name.clone(),
            by: element.address_taken_by.clone(),
        })
    }
}

impl Boot {
    /// Condenses a report; `checked` says whether behaviour was looked at.
    pub fn of(report: &BootReport, checked: bool) -> Self {
        let meaning = report.meaning();
        let cases = report.cases.iter().map(|case| BootCase {
            name: case.name.clone(),
            outcome: case.outcome.short_name(),
            detail: case.outcome.to_string(),
            steps: case
                .steps
                .iter()
                .map(|step| BootStep {
                    label: step.label.clone(),
                    milliseconds: step.took.as_millis(),
                    output: step.output.clone(),
                    kernel: step.kernel.clone(),
                })
                .collect(),
        });
        Boot {
            passed: meaning == Meaning::Success,
            infrastructure: meaning == Meaning::Infrastructure,
            checked,
            accelerator: format!("{} {}", format!("{:?}", report.accel).to_uppercase(), report.firmware),
            release: report.release.clone(),
            boots: report.boots,
            boot_seconds: report.boot_seconds,
            total_seconds: report.total_seconds,
            cases: cases.collect(),
            boot_complaints: report.boot_complaints.clone(),
            console_tail: if meaning == Meaning::Success {
                Vec::new()
            } else {
                report.console_tail.clone()
            },
        }
    }

    /// The error that a boot without success ends with.
    pub fn verdict(&self) -> Result<()> {
        if self.passed {
            return Ok(());
        }
        let bad = self.cases.iter().filter(|case| case.outcome != "passed");
        let text: Vec<String> = bad.map(|case| format!("{}: {}", case.name, case.detail)).collect();
        if self.infrastructure {
            return Err(Ending::infrastructure(text.join("\n")));
        }
        anyhow::bail!("the booted machine says no:\n{}", text.join("\n"))
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.passed, self.checked) {
            (true, true) => "passed: old behaviour before, new with the livepatch, old again without it",
            (true, false) => "loaded and unloaded cleanly; no --check was given, so behaviour was not looked at",
            (false, _) => "FAILED",
        };
        let (release, accelerator, total) = (&self.release, &self.accelerator, self.total_seconds);
        write!(f, "{what} (Linux {release}, QEMU {accelerator}, {total:.1} s)")
    }
}

impl Summary {
    /// A run that built something.
    pub fn of(built: &Livepatch, path: Option<&Path>, boot: Option<&Boot>, explain: bool, phases: Phases) -> Self {
        let module = built.module.as_ref();
        let failed = boot.is_some_and(|boot| !boot.passed);
        let (outcome, exit_code) = match boot {
            Some(boot) if boot.infrastructure => (Kind::Environment.name(), Kind::Environment.exit_code()),
            _ if failed => (Kind::Failed.name(), Kind::Failed.exit_code()),
            _ if module.is_none() => ("would-build", outcome::EXIT_OK),
            _ => ("built", outcome::EXIT_OK),
        };
        Summary {
            outcome,
            exit_code,
            // JSON has no other bytes than those of Unicode.
            module: path.map(|path| path.to_string_lossy().into_owned()),
            functions: built.functions().to_vec(),
            callbacks: built.patch.callbacks.clone(),
            handed_out: built.patch.elements.iter().filter_map(HandedOut::of).collect(),
            units: built
                .units
                .iter()
                .map(|(name, cause)| Unit {
                    name: name.clone(),
                    cause: cause.clone(),
                })
                .collect(),
            elements: if explain {
                built.patch.elements.clone()
            } else {
                Vec::new()
            },
            ignored: built.ignored().to_vec(),
            notes: built.notes.clone(),
            accepted: built.accepted.clone(),
            warnings: module.map(|module| module.warnings.clone()).unwrap_or_default(),
            livepatch: module.map(|module| Relocations {
                symbols: module.symbols,
                relocations: module.relocations.values().sum(),
            }),
            boot: boot.cloned(),
            refusals: Vec::new(),
            error: None,
            phases,
            explain,
            cut: !explain && io::stdout().is_terminal(),
        }
    }

    /// A run that ended before anything was built, and the exit code it ends with.
    pub fn of_error(error: &anyhow::Error, kind: Kind, phases: Phases) -> Self {
        Summary {
            outcome: kind.name(),
            exit_code: kind.exit_code(),
            module: None,
            functions: Vec::new(),
            callbacks: Vec::new(),
            handed_out: Vec::new(),
            units: Vec::new(),
            elements: Vec::new(),
            ignored: Vec::new(),
            notes: Vec::new(),
            accepted: Vec::new(),
            warnings: Vec::new(),
            livepatch: None,
            boot: None,
            refusals: outcome::refusals(error).to_vec(),
            error: Some(format!("{error:#}")),
            phases,
            explain: false,
            cut: false,
        }
    }

    fn functions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for function in &self.functions {
            let name = names::unpromoted(&function.name);
            let sympos = if function.sympos.0 > 1 {
                format!(",{}", function.sympos.0)
            } else {
                String::new()
            };
            writeln!(
                f,
                "  {:<12}{name}{sympos}: {}",
                function.object.as_str(),
                function.reason
            )?;
        }
        Ok(())
    }

    fn ignored(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .ignored
            .iter()
            .filter(|ignored| self.explain || livepatch::is_news(ignored))
            .map(|ignored| format!("{} ({}): {}", ignored.name, ignored.unit, ignored.why))
            .collect();
        let all: Vec<&String> = lines.iter().chain(&self.notes).collect();
        let shown = if self.explain { all.len() } else { all.len().min(4) };
        for line in &all[..shown] {
            let short: String = line.chars().take(MAX_LINE).collect();
            let (text, more) = if self.cut && short.len() < line.len() {
                (&*short, " …")
            } else {
                (line.as_str(), "")
            };
            writeln!(f, "ignored     {text}{more}")?;
        }
        if shown < all.len() {
            writeln!(f, "ignored     and {} more (--explain lists them)", all.len() - shown)?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(path) => writeln!(f, "livepatch   {path}")?,
            None => writeln!(f, "livepatch   none made (--dry-run)")?,
        }
        writeln!(f, "patched     {} functions", self.functions.len())?;
        self.functions(f)?;
        for callback in &self.callbacks {
            let (object, moment, name) = (&callback.object, callback.moment, &callback.name);
            writeln!(f, "callback    {name} at {moment} of {object}")?;
        }
        for HandedOut { function, by, .. } in &self.handed_out {
            let by = by.join(", ");
            writeln!(
                f,
                "keep        {function}: {by} takes its address; whoever keeps that needs the livepatch to stay loaded"
            )?;
        }
        if self.explain {
            for unit in &self.units {
                writeln!(f, "compared    {}: {}", unit.name, unit.cause)?;
            }
            for element in &self.elements {
                writeln!(f, "contains    {element}")?;
            }
        }
        for accepted in &self.accepted {
            writeln!(f, "accepted    {}: {}", accepted.at, accepted.why)?;
        }
        self.ignored(f)?;
        for warning in &self.warnings {
            writeln!(f, "warning     {warning}")?;
        }
        if let Some(boot) = &self.boot {
            for complaint in &boot.boot_complaints {
                writeln!(
                    f,
                    "warning     the kernel complained before anything was loaded: {complaint}"
                )?;
            }
            writeln!(f, "boot        {boot}")?;
        }
        write!(f, "time        {}", times(&self.phases))
    }
}

/// The phases on one line; the steps of a phase follow it in brackets.
fn times(phases: &Phases) -> String {
    let mut whole: Vec<(String, Vec<String>)> = Vec::new();
    for phase in phases.times() {
        let took = ui::seconds(Duration::from_millis(phase.milliseconds));
        let shown = format!("{} {took}", phase.name.trim());
        match whole.last_mut().filter(|_| phase.name.starts_with(' ')) {
            Some((_, steps)) => steps.push(shown),
            None => whole.push((shown, Vec::new())),
        }
    }
    let line = |(phase, steps): (String, Vec<String>)| {
        if steps.is_empty() {
            phase
        } else {
            format!("{phase} ({})", steps.join(", "))
        }
    };
    whole.into_iter().map(line).collect::<Vec<_>>().join(", ")
}
