//! What happens, one JSON object a line, for programs that watch a run. docs/JSON.md is the reference.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::ending::PhaseEnd;
use crate::outcome::Ending;

/// One thing that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The first line of the stream.
    Begun {
        /// Of this stream and of all documents.
        format: u32,
        /// Name of the program that writes the stream.
        program: &'a str,
        /// Version of that program.
        version: &'a str,
    },
    /// A phase begins.
    PhaseBegun {
        /// Name of the phase.
        phase: &'a str,
    },
    /// How far a phase is; at most once a second.
    Progress {
        /// Name of the phase.
        phase: &'a str,
        /// What is being done.
        doing: &'a str,
        /// Steps taken, if they can be counted.
        #[serde(skip_serializing_if = "Option::is_none")]
        done: Option<u64>,
        /// Steps that are expected in all, if that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
        /// Estimate of the seconds that are left.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<u64>,
    },
    /// A phase has ended.
    PhaseEnded {
        /// Name of the phase.
        phase: &'a str,
        /// How the phase ended.
        outcome: PhaseEnd,
        /// Wall time of the phase in milliseconds.
        milliseconds: u64,
    },
    /// A message that is no failure.
    Note {
        /// The message as a sentence.
        text: &'a str,
    },
    /// Something that may need attention.
    Warning {
        /// The message as a sentence.
        text: &'a str,
    },
    /// The last line of the stream.
    Ended {
        /// What the program ends with.
        exit_code: u8,
        /// The document, if one was asked for or the run failed.
        #[serde(skip_serializing_if = "Option::is_none")]
        document: Option<Value>,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    /// Since the beginning of the run.
    seconds: f64,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// The stream of events, one JSON object a line.
pub(super) struct Events {
    to: Mutex<Box<dyn Write + Send>>,
    begun: Instant,
    /// The first line that could not be written.
    lost: Mutex<Option<io::Error>>,
}

impl Events {
    /// Into a file, or standard output for `-`.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::to(Box::new(io::stdout())));
        }
        let cannot = |error| Ending::usage(format!("--events: cannot write {}: {error}", path.display()));
        Ok(Self::to(Box::new(File::create(path).map_err(cannot)?)))
    }

    pub(super) fn to(to: Box<dyn Write + Send>) -> Self {
        Events {
            to: Mutex::new(to),
            begun: Instant::now(),
            lost: Mutex::default(),
        }
    }

    /// Writes one line. Who has stopped reading misses the rest.
    pub fn tell(&self, event: &Event<'_>) {
        let line = Line {
            seconds: (self.begun.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            event,
        };
        let text = serde_json::to_string(&line).map_err(io::Error::other);
        let written = text.and_then(|text| {
            let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(to, "{text}").and_then(|()| to.flush())
        });
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
            lost.get_or_insert(error);
        }
    }

    /// Why some line is missing.
    pub fn lost(&self) -> Option<io::Error> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
