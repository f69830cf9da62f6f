//! What came of a run, for a person in five seconds and for a program in JSON.

mod before;
mod boot;
mod handed_out;
mod series;

use std::fmt;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use kpatch_core::{
    Callback, Carried, Element, Ignored, ObjectName, Reason, Refusal, SetValue, State, explained, names,
};
use serde::Serialize;

use crate::build::fates::{Fate, Told};
use crate::build::livepatch::{self, Livepatch, Shipped};
use crate::build::module::{Signature, identity};
use crate::build::recompile::affected::Counts;
use crate::build::series::Replaced;
use crate::outcome::{self, Kind};
use crate::prove::vm::Meaning;
use crate::ui::{self, Phases};

use before::{Facts, Notice};
pub use boot::Boot;
use handed_out::HandedOut;
use series::Patched;

/// On a terminal longer lines are cut, unless everything was asked for.
const MAX_LINE: usize = 110;

/// The result of `build`.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// `built`, `would-build`, or the name of a [`Kind`].
    outcome: &'static str,
    /// The exit code that goes with it.
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside: Option<String>,
    /// Whether a module of an earlier run is still where this one was to go.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    earlier: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    functions: Vec<Patched>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    series: Vec<Fate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    new_functions: Vec<NewFunction>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    carried: Vec<Carried>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    callbacks: Vec<Callback>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<SetValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    states: Vec<State>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replaces: Vec<Replaced>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    handed_out: Vec<HandedOut>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    before_load: Vec<Notice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readers: Option<Counts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    units: Vec<Unit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elements: Vec<Element>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    next_boot: Vec<Ignored>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<Ignored>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shipped: Vec<Shipped>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<Refusal>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    livepatch: Option<Relocations>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    packages: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<Boot>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusals: Vec<Refusal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    phases: Phases,
    #[serde(skip)]
    shown: Shown,
}

/// How much of it a person gets to see.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// Why each symbol is in.
    pub explain: bool,
    /// How long everything took.
    pub times: bool,
    /// Long lines are cut.
    pub cut: bool,
}

impl Shown {
    /// What these options ask for on this standard output.
    pub fn on_standard_output(explain: bool, verbose: bool) -> Self {
        Shown {
            explain,
            times: verbose,
            cut: !explain && io::stdout().is_terminal(),
        }
    }
}

/// Where the module is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// Nowhere: only the verdict was wanted.
    Nowhere,
    /// Where it was asked for.
    Installed(PathBuf),
    /// Beside that place under another name, since it is not proven.
    Aside {
        /// Where it is.
        path: PathBuf,
        /// Whether a module of an earlier run is at the good name.
        earlier: bool,
    },
}

/// A translation unit that was compared, and why.
#[derive(Debug, Serialize)]
struct Unit {
    name: String,
    cause: String,
}

/// A function that the kernel does not have.
#[derive(Debug, Serialize)]
struct NewFunction {
    unit: String,
    name: String,
    reason: Reason,
}

impl NewFunction {
    fn of(element: &Element) -> Option<Self> {
        element.is_new_function().then(|| NewFunction {
            unit: element.unit.clone(),
            name: element.name.clone(),
            reason: element.reason.clone(),
        })
    }
}

/// What livepatch does when it loads the module.
#[derive(Debug, Serialize)]
struct Relocations {
    /// Symbols it looks up.
    symbols: usize,
    /// Relocations it applies, over all objects.
    relocations: usize,
}

impl Summary {
    /// A run that built something.
    pub fn of(name: &str, built: &Livepatch, placed: &Placed, boot: Option<&Boot>, phases: Phases) -> Self {
        let (outcome, exit_code) = match (boot.map(Boot::meaning), placed) {
            (Some(Meaning::Infrastructure), _) => (Kind::Environment.name(), Kind::Environment.exit_code()),
            (Some(Meaning::Failure), _) => (Kind::Failed.name(), Kind::Failed.exit_code()),
            (_, Placed::Nowhere) => ("would-build", outcome::EXIT_OK),
            _ => ("built", outcome::EXIT_OK),
        };
        let module = built.module.as_ref();
        let of_module = module.into_iter().flat_map(|module| &module.warnings);
        let left_out = built.ignored().iter().cloned();
        let (next_boot, ignored) = left_out.partition(Ignored::is_at_boot);
        // JSON has no other bytes than those of Unicode.
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let unit = |(name, cause): &(String, String)| Unit {
            name: name.clone(),
            cause: cause.clone(),
        };
        let handed_out: Vec<HandedOut> = built.patch.elements.iter().filter_map(HandedOut::of).collect();
        let objects = built.objects();
        let is_untold = |object: &&ObjectName| !identity::is_told(object, &built.patch, &built.about);
        let facts = Facts {
            untold: objects.iter().filter(is_untold).cloned().collect(),
            objects,
            callbacks: &built.patch.callbacks,
            sleeps: &built.patch.sleeps,
            handed_out: &handed_out,
            permanent: built.patch.is_permanent(),
        };
        Summary {
            before_load: facts.notices(),
            module: match placed {
                Placed::Installed(path) => Some(text(path)),
                Placed::Nowhere | Placed::Aside { .. } => None,
            },
            set_aside: match placed {
                Placed::Aside { path, .. } => Some(text(path)),
                Placed::Nowhere | Placed::Installed(_) => None,
            },
            earlier: matches!(placed, Placed::Aside { earlier: true, .. }),
            module_name: Some(name.to_owned()),
            functions: Patched::of(built.functions(), &built.causes),
            series: built.series.clone(),
            new_functions: built.patch.elements.iter().filter_map(NewFunction::of).collect(),
            carried: built.patch.carried.clone(),
            callbacks: built.patch.callbacks.clone(),
            values: built.patch.values.clone(),
            states: built.patch.states.clone(),
            replaces: built.replaces.clone(),
            handed_out,
            readers: Some(built.readers).filter(Counts::is_wide),
            units: built.units.iter().map(unit).collect(),
            elements: built.patch.elements.clone(),
            next_boot,
            ignored,
            notes: built.notes.clone(),
            shipped: built.shipped.clone(),
            accepted: built.accepted.clone(),
            warnings: built.warnings.iter().chain(of_module).cloned().collect(),
            livepatch: module.map(|module| Relocations {
                symbols: module.symbols,
                relocations: module.relocations.values().sum(),
            }),
            boot: boot.cloned(),
            ..Summary::empty(outcome, exit_code, phases)
        }
    }

    /// A run that ended before anything was built, and the exit code it ends with.
    pub fn of_error(error: &anyhow::Error, kind: Kind, phases: Phases) -> Self {
        Summary {
            refusals: outcome::refusals(error).to_vec(),
            series: error
                .downcast_ref::<Told>()
                .map_or_else(Vec::new, |told| told.series.clone()),
            error: Some(ui::told(error)),
            ..Summary::empty(kind.name(), kind.exit_code(), phases)
        }
    }

    fn empty(outcome: &'static str, exit_code: u8, phases: Phases) -> Self {
        Summary {
            outcome,
            exit_code,
            module: None,
            set_aside: None,
            earlier: false,
            module_name: None,
            functions: Vec::new(),
            series: Vec::new(),
            digest: None,
            new_functions: Vec::new(),
            carried: Vec::new(),
            callbacks: Vec::new(),
            values: Vec::new(),
            states: Vec::new(),
            replaces: Vec::new(),
            handed_out: Vec::new(),
            before_load: Vec::new(),
            readers: None,
            units: Vec::new(),
            elements: Vec::new(),
            next_boot: Vec::new(),
            ignored: Vec::new(),
            notes: Vec::new(),
            shipped: Vec::new(),
            accepted: Vec::new(),
            warnings: Vec::new(),
            livepatch: None,
            signature: None,
            packages: Vec::new(),
            boot: None,
            refusals: Vec::new(),
            error: None,
            phases,
            shown: Shown::default(),
        }
    }

    /// The same for a module with this signature.
    #[must_use]
    pub fn signed(mut self, signature: Option<Signature>) -> Self {
        self.signature = signature;
        self
    }

    /// The same for a module of which these packages were made, or could not be: the module is there all the same.
    #[must_use]
    pub fn packaged(mut self, packages: &Result<Vec<PathBuf>>) -> Self {
        match packages {
            Ok(packages) => {
                let text = |path: &PathBuf| path.to_string_lossy().into_owned();
                self.packages = packages.iter().map(text).collect();
            }
            Err(error) => {
                let kind = Kind::of(error);
                (self.outcome, self.exit_code) = (kind.name(), kind.exit_code());
                self.error = Some(ui::told(error));
            }
        }
        self
    }

    /// The same with the digest of its change.
    #[must_use]
    pub fn digest(mut self, digest: String) -> Self {
        self.digest = Some(digest);
        self
    }

    /// The same for somebody who wants to see so much. Elements are many, so only who asks why gets them.
    #[must_use]
    pub fn shown(mut self, shown: Shown) -> Self {
        if !shown.explain {
            self.elements.clear();
        }
        self.shown = shown;
        self
    }

    /// What a person reads, line by line: the module, what it does, what is worth knowing about it, the boot test.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.headline()];
        lines.extend(self.shipped.iter().map(|shipped| format!("proven      {shipped}")));
        lines.extend(self.readers.iter().map(|readers| format!("readers     {readers}")));
        lines.extend(series::lines(&self.series, self.shown.explain));
        lines.extend(self.functions());
        lines.extend(self.contents());
        lines.extend(self.before_load());
        lines.extend(self.next_boot());
        lines.extend(self.ignored());
        lines.extend(
            self.signature
                .iter()
                .map(|signature| format!("signed      {signature}")),
        );
        lines.extend(self.packages.iter().map(|package| format!("package     {package}")));
        lines.extend(self.warnings.iter().map(|warning| format!("warning     {warning}")));
        lines.extend(self.boot.iter().flat_map(Boot::lines));
        if self.shown.times {
            lines.push(format!("time        {}", times(&self.phases)));
            lines.extend(self.digest.iter().map(|digest| format!("digest      {digest}")));
        }
        lines
    }

    fn headline(&self) -> String {
        match (&self.module, &self.set_aside) {
            (Some(path), _) => format!("livepatch   {path}{}", self.other_name(path)),
            (None, Some(path)) if self.earlier => {
                format!("unproven    {path} (not installed; the .ko beside it is from an earlier run)")
            }
            (None, Some(path)) => format!("unproven    {path} (not installed)"),
            (None, None) => "livepatch   not built (--dry-run)".to_owned(),
        }
    }

    /// How the module is called if its file is called otherwise: that is what `rmmod` takes.
    fn other_name(&self, path: &str) -> String {
        let of_file = Path::new(path)
            .file_stem()
            .map(|stem| stem.to_string_lossy().replace('-', "_"));
        match &self.module_name {
            Some(name) if of_file.as_ref() != Some(name) => format!(" (the module is called {name})"),
            _ => String::new(),
        }
    }

    fn functions(&self) -> Vec<String> {
        let key = |function: &Patched| {
            let name = names::unpromoted(&function.name).to_owned();
            (function.object.as_str().to_owned(), name)
        };
        let keys: Vec<(String, String)> = self.functions.iter().map(key).collect();
        let mut lines = vec![format!(
            "patched     {}",
            ui::count(keys.len(), "function", "functions")
        )];
        for (function, key) in self.functions.iter().zip(&keys) {
            let sympos = match function.sympos.0 {
                0 | 1 => String::new(),
                sympos => format!(",{sympos}"),
            };
            // Of two functions with one name each has its file.
            let unit = match keys.iter().filter(|other| *other == key).count() {
                1 => String::new(),
                _ => format!(" ({})", function.unit),
            };
            let (object, name) = key;
            let patches = match &function.patches[..] {
                [] => String::new(),
                patches => format!(" [{}]", patches.join(", ")),
            };
            lines.push(format!(
                "  {object:<12}{name}{sympos}{unit}: {}{patches}",
                function.reason
            ));
        }
        lines
    }

    /// Boot code that is not in the livepatch, and that nothing in it needs.
    fn next_boot(&self) -> Vec<String> {
        let left = self.next_boot.iter();
        let line = |one: &Ignored| format!("next boot   {} ({}): {}", one.name, one.unit, one.why);
        left.map(line).collect()
    }

    fn ignored(&self) -> Vec<String> {
        let explain = self.shown.explain;
        let ignored = self
            .ignored
            .iter()
            .filter(|ignored| explain || livepatch::is_news(ignored));
        let ignored = ignored.map(|ignored| {
            let text = format!("{} ({}): {}", ignored.name, ignored.unit, ignored.why);
            ("ignored     ", text)
        });
        let notes = self.notes.iter().map(|note| ("note        ", note.clone()));
        let all: Vec<_> = ignored.chain(notes).collect();
        let shown = if explain { all.len() } else { all.len().min(4) };
        let mut lines: Vec<String> = all[..shown].iter().map(|(head, line)| self.cut(head, line)).collect();
        if shown < all.len() {
            lines.push(format!("note        {} more (--explain lists them)", all.len() - shown));
        }
        lines
    }

    fn cut(&self, head: &str, line: &str) -> String {
        let short: String = line.chars().take(MAX_LINE).collect();
        if self.shown.cut && short.len() < line.len() {
            format!("{head}{short} …")
        } else {
            format!("{head}{line}")
        }
    }

    fn contents(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.new_functions.is_empty() {
            let count = ui::count(self.new_functions.len(), "function", "functions");
            lines.push(format!("new         {count}"));
        }
        for function in &self.new_functions {
            lines.push(format!("  {} ({}): {}", function.name, function.unit, function.reason));
        }
        for carried in &self.carried {
            let (name, unit, reason) = (&carried.name, &carried.unit, &carried.reason);
            lines.push(format!("carried     {name} ({unit}), for its callers only: {reason}"));
        }
        for callback in &self.callbacks {
            let (object, moment, name) = (&callback.object, callback.moment, &callback.name);
            lines.push(format!("callback    {name}: {moment} of {object}"));
        }
        for value in &self.values {
            let (name, unit, from, to) = (&value.name, &value.unit, value.from, value.to);
            lines.push(format!(
                "sets        {name} ({unit}): {from} -> {to}, if it has {from}; back when the livepatch goes, if it still has {to}"
            ));
        }
        for state in &self.states {
            lines.push(format!("state       {} in version {}", state.id, state.version));
        }
        lines.extend(self.replaces.iter().map(|old| format!("replaces    {old}")));
        if self.shown.explain {
            let compared = self.units.iter();
            lines.extend(compared.map(|unit| format!("compared    {}: {}", unit.name, unit.cause)));
            let elements = explained(&self.elements).into_iter();
            lines.extend(elements.map(|element| format!("contains    {element}")));
        }
        let accepted = self.accepted.iter();
        lines.extend(accepted.map(|accepted| format!("accepted    {}: {}", accepted.at, accepted.why)));
        lines
    }

    /// The list for who loads the module, unless all there is to say is that it can be removed.
    fn before_load(&self) -> Vec<String> {
        if !self.before_load.iter().any(before::is_news) {
            return Vec::new();
        }
        let notices = before::lines(&self.before_load, self.shown.explain);
        ["before you load this:".to_owned()]
            .into_iter()
            .chain(notices)
            .collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

/// The phases on one line; the steps of a phase follow it in brackets.
fn times(phases: &Phases) -> String {
    let shown = |name: &str, milliseconds| format!("{name} {}", ui::seconds(Duration::from_millis(milliseconds)));
    let phase = |phase: &ui::PhaseTime| {
        let whole = shown(&phase.name, phase.milliseconds);
        let steps: Vec<String> = phase
            .steps
            .iter()
            .map(|step| shown(&step.name, step.milliseconds))
            .collect();
        if steps.is_empty() {
            whole
        } else {
            format!("{whole} ({})", steps.join(", "))
        }
    };
    phases.times().iter().map(phase).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
pub(crate) mod tests;
