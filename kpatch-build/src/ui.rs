//! What a person sees while the tool works, and how long each phase took.
//!
//! Results go to standard output; everything else (phases, notes, warnings) goes to standard error. On a terminal a
//! phase is one moving line; elsewhere it is one line when it starts, one at least every ten seconds, and one when it
//! ends. With `--json` only warnings are shown, and standard output carries nothing but JSON. With `--events` what
//! happens is also written down for a program.

mod count;
mod ending;
mod events;
mod outputs;
mod phase;
mod phases;
mod words;

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::outcome::Ending;
use outputs::{Mode, Outputs};

pub use ending::{PhaseEnd, told};
pub use events::Event;
pub use phase::Phase;
pub use phases::{PhaseTime, Phases, StepTime};
pub use words::{count, seconds, size, waiting};

/// Of all JSON documents and of the stream of events. It is raised when a key goes or changes its meaning, not when one
/// is added.
pub const FORMAT: u32 = 1;

/// A JSON document with the version of its format.
#[derive(Debug, Serialize)]
pub struct Document<T> {
    format: u32,
    #[serde(flatten)]
    content: T,
}

impl<T: Serialize> Document<T> {
    /// With the format of today.
    pub fn new(content: T) -> Self {
        Document {
            format: FORMAT,
            content,
        }
    }
}

/// The user's view of a run.
pub struct Ui {
    outputs: Arc<Outputs>,
    phases: Mutex<Phases>,
    /// The first result that could not be written.
    undelivered: Mutex<Option<io::Error>>,
    gave_json: AtomicBool,
    /// The document, for the last event.
    document: Mutex<Option<Value>>,
}

impl Ui {
    /// Chooses how to speak from what standard error is and from the environment (`NO_COLOR`, `TERM`).
    pub fn new(json: bool, verbose: bool) -> Self {
        let outputs = Outputs::of_process(json, verbose, None).expect("only a stream of events can fail to be opened");
        Self::with(Arc::new(outputs))
    }

    /// The same, with a stream of events in a file; `-` is standard output, and then there is nothing else.
    pub fn with_events(json: bool, verbose: bool, events: &Path) -> Result<Self> {
        let ui = Self::with(Arc::new(Outputs::of_process(json, verbose, Some(events))?));
        ui.outputs.event(&Event::Begun {
            format: FORMAT,
            program: crate::program::this().name,
            version: env!("CARGO_PKG_VERSION"),
        });
        Ok(ui)
    }

    fn with(outputs: Arc<Outputs>) -> Self {
        Ui {
            outputs,
            phases: Mutex::default(),
            undelivered: Mutex::default(),
            gave_json: AtomicBool::new(false),
            document: Mutex::default(),
        }
    }

    /// Runs one phase, shows it and records how long it took, also when it fails.
    pub fn phase<T>(&self, name: &str, work: impl FnOnce(&Phase) -> Result<T>) -> Result<T> {
        let phase = Phase::start(name, &self.outputs);
        let result = work(&phase);
        let (steps, failed, took) = phase.end();
        let end = match &result {
            Ok(_) if failed => PhaseEnd::Failed,
            Ok(_) => PhaseEnd::Ok,
            Err(error) => PhaseEnd::of(error),
        };
        self.outputs.event(&Event::PhaseEnded {
            phase: name,
            outcome: end,
            milliseconds: phases::milliseconds(took),
        });
        self.timed().record(name, took, steps);
        let (color, word) = end.word();
        self.outputs
            .line(&format!("{} {name} ({})", self.painted(color, word), seconds(took)));
        result
    }

    /// All phases so far.
    pub fn phases(&self) -> Phases {
        self.timed().clone()
    }

    /// Something worth knowing that asks for nothing.
    pub fn note(&self, text: impl Display) {
        let text = text.to_string();
        self.outputs.event(&Event::Note { text: &text });
        self.outputs.line(&format!("{} {text}", self.painted("36", "note")));
    }

    /// A note for `--verbose`.
    pub fn detail(&self, text: impl Display) {
        if self.outputs.verbose {
            self.note(text);
        }
    }

    /// Something that may need attention. Shown in every mode.
    pub fn warn(&self, text: impl Display) {
        let text = text.to_string();
        self.outputs.event(&Event::Warning { text: &text });
        self.outputs
            .always(&format!("{} {text}", self.painted("33", "warning")));
    }

    /// What ended the run. Shown in every mode.
    pub fn error(&self, error: &anyhow::Error) {
        match ending::line(error) {
            (true, text) => self.outputs.always(&format!("{}: {text}", self.painted("31", "error"))),
            (false, text) => self.outputs.always(&text),
        }
    }

    /// A result, on standard output. With `--json` the caller prints its JSON instead.
    pub fn say(&self, text: impl Display) {
        if self.outputs.mode != Mode::Quiet {
            self.write_stdout(&text.to_string());
        }
    }

    /// The one JSON document of a run, with the version of its format.
    pub fn document(&self, content: impl Serialize) -> Result<()> {
        self.json(&Document::new(content))
    }

    /// The one JSON document of a run, just as it is: for formats that others have made.
    pub fn json(&self, value: &impl Serialize) -> Result<()> {
        self.gave_json.store(true, Ordering::Relaxed);
        if self.outputs.has_events() {
            let kept = serde_json::to_value(value)?;
            *self.document.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
        if !self.outputs.events_only {
            self.write_stdout(&serde_json::to_string_pretty(value)?);
        }
        Ok(())
    }

    /// Whether a program reads what comes of this run.
    pub fn wants_json(&self) -> bool {
        self.outputs.mode == Mode::Quiet
    }

    /// Whether there was a JSON document already.
    pub fn gave_json(&self) -> bool {
        self.gave_json.load(Ordering::Relaxed)
    }

    /// Ends the stream of events.
    pub fn ended(&self, exit_code: u8) {
        let document = self.document.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.outputs.event(&Event::Ended { exit_code, document });
    }

    /// An error if a result did not get to standard output, or an event to where it should be. A closed pipe (`| head`)
    /// is none: whoever read has seen enough.
    pub fn delivered(&self) -> Result<()> {
        let failed = self.undelivered.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = failed {
            let text = format!("cannot write to standard output: {error}");
            return Err(Ending::infrastructure(text));
        }
        match self.outputs.lost_event() {
            Some(error) => Err(Ending::infrastructure(format!("cannot write the events: {error}"))),
            None => Ok(()),
        }
    }

    fn write_stdout(&self, text: &str) {
        if let Err(error) = self.outputs.result(text)
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
            self.outputs.line(&format!("{:>9}  {}", seconds(took), phase.name));
        }
    }

    fn timed(&self) -> MutexGuard<'_, Phases> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.outputs.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests;
