//! What a person sees while the tool works, and how long each phase took.
//!
//! Results go to standard output; everything else (phases, notes, warnings) goes to standard error. On a terminal a
//! phase is one moving line; elsewhere it is one line when it starts (if it is a long one, one more for each tenth)
//! and one when it ends. With `--json` only warnings are shown, and standard output carries nothing but JSON.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::outcome::Ending;
use crate::progress::Progress;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Moving lines, on a terminal.
    Live,
    /// One line for each event.
    Plain,
    /// Warnings only.
    Quiet,
}

/// The phases of one run, in the order they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Phases(Vec<PhaseTime>);

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhaseTime {
    /// Its name, as shown.
    pub name: String,
    /// Wall time in milliseconds.
    pub milliseconds: u64,
}

impl Phases {
    /// Adds a phase that was timed elsewhere.
    pub fn record(&mut self, name: impl Into<String>, took: Duration) {
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.0.push(PhaseTime {
            name: name.into(),
            milliseconds,
        });
    }

    /// All of them.
    pub fn times(&self) -> &[PhaseTime] {
        &self.0
    }
}

/// The user's view of a run.
pub struct Ui {
    mode: Mode,
    color: bool,
    verbose: bool,
    phases: Mutex<Phases>,
    /// The first result that could not be written.
    undelivered: Mutex<Option<io::Error>>,
    gave_json: AtomicBool,
}

impl Ui {
    /// Chooses how to speak from what standard error is and from the environment (`NO_COLOR`).
    pub fn new(json: bool, verbose: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let mode = match (json, terminal) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Live,
            (false, false) => Mode::Plain,
        };
        let color = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ui {
            mode,
            color,
            verbose,
            phases: Mutex::default(),
            undelivered: Mutex::default(),
            gave_json: AtomicBool::new(false),
        }
    }

    /// Runs one phase, shows it and records how long it took, also when it fails.
    pub fn phase<T>(&self, name: &str, work: impl FnOnce(&Phase) -> Result<T>) -> Result<T> {
        let phase = Phase::start(name, self.mode);
        let started = Instant::now();
        let result = work(&phase);
        let took = started.elapsed();
        phase.bar.finish_and_clear();
        self.timed().record(name, took);
        match &result {
            Ok(_) => self.progress_line(&format!("{} {name} ({})", self.painted("32", "ok"), seconds(took))),
            Err(_) => self.progress_line(&format!("{} {name} ({})", self.painted("31", "failed"), seconds(took))),
        }
        result
    }

    /// Adds a phase that was timed elsewhere.
    pub fn record(&self, name: &str, took: Duration) {
        self.timed().record(name, took);
    }

    /// All phases so far.
    pub fn phases(&self) -> Phases {
        self.timed().clone()
    }

    /// Something worth knowing that asks for nothing.
    pub fn note(&self, text: impl Display) {
        self.progress_line(&format!("{} {text}", self.painted("36", "note")));
    }

    /// A note for `--verbose`.
    pub fn detail(&self, text: impl Display) {
        if self.verbose {
            self.note(text);
        }
    }

    /// Something that may need attention. Shown in every mode.
    pub fn warn(&self, text: impl Display) {
        write_stderr(&format!("{} {text}", self.painted("33", "warning")));
    }

    /// A result, on standard output. With `--json` the caller prints its JSON instead.
    pub fn say(&self, text: impl Display) {
        if self.mode != Mode::Quiet {
            self.write_stdout(&text.to_string());
        }
    }

    /// The one JSON document of a run.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.gave_json.store(true, Ordering::Relaxed);
        self.write_stdout(&text);
        Ok(())
    }

    /// Whether a program reads what comes of this run.
    pub fn wants_json(&self) -> bool {
        self.mode == Mode::Quiet
    }

    /// Whether there was a JSON document already.
    pub fn gave_json(&self) -> bool {
        self.gave_json.load(Ordering::Relaxed)
    }

    /// An error if a result did not get to standard output. A closed pipe (`| head`) is none: whoever read has seen
    /// enough.
    pub fn delivered(&self) -> Result<()> {
        let failed = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failed {
            Some(error) => Err(Ending::infrastructure(format!(
                "cannot write to standard output: {error}"
            ))),
            None => Ok(()),
        }
    }

    fn write_stdout(&self, text: &str) {
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let mut failed = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
        }
    }

    /// Prints the phases with the time each took.
    pub fn summary(&self) {
        for phase in self.timed().times() {
            let took = Duration::from_millis(phase.milliseconds);
            self.progress_line(&format!("{:>9}  {}", seconds(took), phase.name));
        }
    }

    fn timed(&self) -> MutexGuard<'_, Phases> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress_line(&self, text: &str) {
        if self.mode != Mode::Quiet {
            write_stderr(text);
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// One running phase. Its methods may be called from any thread.
pub struct Phase {
    name: String,
    mode: Mode,
    bar: ProgressBar,
    tenths_shown: Mutex<u64>,
}

impl Phase {
    fn start(name: &str, mode: Mode) -> Self {
        let bar = match mode {
            Mode::Live => ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()),
            Mode::Plain | Mode::Quiet => ProgressBar::hidden(),
        };
        bar.set_style(style("{spinner} {prefix} {elapsed} {wide_msg}"));
        bar.set_prefix(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        if mode == Mode::Plain {
            write_stderr(&format!(".. {name}"));
        }
        Phase {
            name: name.to_owned(),
            mode,
            bar,
            tenths_shown: Mutex::new(0),
        }
    }

    /// The number of steps this phase is expected to take: from now on there is a bar with the time left.
    pub fn expect_steps(&self, total: u64) {
        self.bar.set_length(total);
        self.bar.set_style(style(
            "{spinner} {prefix} {bar:20} {pos}/{len} {elapsed} (left {eta}) {wide_msg}",
        ));
    }

    /// One step was taken.
    pub fn step(&self) {
        self.bar.inc(1);
        let Some(total) = self.bar.length().filter(|total| *total > 0) else {
            return;
        };
        let tenth = (self.bar.position() * 10 / total).min(10);
        let mut shown = self
            .tenths_shown
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if tenth > *shown {
            *shown = tenth;
            if self.mode == Mode::Plain && tenth < 10 {
                write_stderr(&format!(
                    ".. {} {}0% ({})",
                    self.name,
                    tenth,
                    seconds(self.bar.elapsed())
                ));
            }
        }
    }

    /// Several steps were taken: the work counted in them differs in size.
    pub fn steps(&self, count: u64) {
        (0..count).for_each(|_| self.step());
    }

    /// What is being done just now.
    pub fn message(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// A line that must be seen although a bar is moving.
    pub fn line(&self, text: &str) {
        match self.mode {
            Mode::Live => self.bar.suspend(|| write_stderr(text)),
            Mode::Plain => write_stderr(text),
            Mode::Quiet => {}
        }
    }
}

impl Progress for Phase {
    fn message(&self, text: &str) {
        Phase::message(self, text);
    }

    fn expect(&self, what: &str, steps: u64) {
        self.bar.set_position(0);
        self.message(what);
        self.expect_steps(steps);
    }

    fn step(&self) {
        Phase::step(self);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are well formed")
}

/// What somebody is told who waits for a lock that another run holds.
pub fn waiting(holder: &str, so_far: Duration) -> String {
    format!("waiting for {holder} ({} so far)", seconds(so_far))
}

/// A duration as people read it.
pub fn seconds(took: Duration) -> String {
    let tenths = took.as_millis() / 100;
    match took.as_secs() {
        0..60 => format!("{}.{} s", tenths / 10, tenths % 10),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// A size as people read it.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

// Nothing depends on what a person is told on the way.
fn write_stderr(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints the error that ends a run.
pub fn show_error(error: &anyhow::Error) {
    write_stderr(&format!("error: {error:#}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_recorded_also_when_they_fail() {
        let ui = Ui::new(true, false);
        ui.phase("first", |_| Ok(())).unwrap();
        ui.phase("second", |_| -> Result<()> { anyhow::bail!("no") })
            .unwrap_err();
        let names: Vec<_> = ui.phases().times().iter().map(|phase| phase.name.clone()).collect();
        assert_eq!(names, ["first", "second"]);
    }

    #[test]
    fn durations_and_sizes_read_well() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(567)), "9 min 27 s");
        assert_eq!(size(1), "1 kB");
        assert_eq!(size(152_784_256), "152 MB");
        assert_eq!(size(4_250_000_000), "4.2 GB");
    }
}
