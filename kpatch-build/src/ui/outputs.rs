//! Where a run's words go: standard output, standard error, and the stream of events.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use super::events::{Event, Events};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Moving lines, on a terminal.
    Live,
    /// One line for each event, and one now and then.
    Plain,
    /// Only warnings are shown.
    Quiet,
}

/// What standard error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Lines can be drawn anew.
    moves: bool,
    /// Whether to use colours.
    pub color: bool,
}

impl Terminal {
    fn of_standard_error() -> Self {
        Self::of(io::stderr().is_terminal(), |name| std::env::var_os(name))
    }

    /// `TERM=dumb` is a terminal that can do nothing; `NO_COLOR` with any value means no colours (no-color.org).
    fn of(terminal: bool, variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Self {
        let moves = terminal && variable("TERM").is_none_or(|term| term != "dumb");
        Terminal {
            moves,
            color: moves && variable("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// What all parts of the user's view share.
pub(super) struct Outputs {
    pub mode: Mode,
    pub color: bool,
    /// Standard output carries events and nothing else.
    pub events_only: bool,
    /// Whether details are shown.
    pub verbose: bool,
    out: Mutex<Box<dyn Write + Send>>,
    err: Mutex<Box<dyn Write + Send>>,
    bars: MultiProgress,
    events: Option<Events>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
}

impl Outputs {
    /// Those of this process.
    pub fn of_process(json: bool, verbose: bool, events: Option<&Path>) -> Result<Self> {
        let terminal = Terminal::of_standard_error();
        let events_only = events == Some(Path::new("-"));
        let mode = match (json || events_only, terminal.moves) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Live,
            (false, false) => Mode::Plain,
        };
        Ok(Outputs {
            mode,
            color: terminal.color,
            events_only,
            verbose,
            out: Mutex::new(Box::new(io::stdout())),
            err: Mutex::new(Box::new(io::stderr())),
            bars: MultiProgress::with_draw_target(match mode {
                Mode::Live => ProgressDrawTarget::stderr(),
                Mode::Plain | Mode::Quiet => ProgressDrawTarget::hidden(),
            }),
            events: events.map(Events::open).transpose()?,
            clock: Box::new(Instant::now),
        })
    }

    pub fn now(&self) -> Instant {
        (self.clock)()
    }

    /// A moving line, where there are any.
    pub fn new_bar(&self) -> Option<ProgressBar> {
        (self.mode == Mode::Live).then(|| self.bars.add(ProgressBar::new_spinner()))
    }

    /// How wide the terminal is now.
    pub fn columns(&self) -> u16 {
        rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col)
    }

    /// A line of progress, on standard error.
    pub fn line(&self, text: &str) {
        if self.mode != Mode::Quiet {
            self.always(text);
        }
    }

    /// A line on standard error in every mode. Nothing depends on what a person is told on the way, so it may get lost.
    pub fn always(&self, text: &str) {
        let write = || {
            let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(err, "{text}").and_then(|()| err.flush());
        };
        match self.mode {
            Mode::Live => self.bars.suspend(write),
            Mode::Plain | Mode::Quiet => write(),
        }
    }

    /// A result, on standard output.
    pub fn result(&self, text: &str) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let mut write = || writeln!(out, "{text}").and_then(|()| out.flush());
        match self.mode {
            Mode::Live => self.bars.suspend(write),
            Mode::Plain | Mode::Quiet => write(),
        }
    }

    pub fn has_events(&self) -> bool {
        self.events.is_some()
    }

    pub fn event(&self, event: &Event<'_>) {
        if let Some(events) = &self.events {
            events.tell(event);
        }
    }

    /// Why some event is missing.
    pub fn lost_event(&self) -> Option<io::Error> {
        self.events.as_ref().and_then(Events::lost)
    }
}

#[cfg(test)]
pub(super) mod testing {
    //! Outputs that are kept, and a clock that stands until somebody moves it.

    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[derive(Clone, Default)]
    pub struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a test can look at.
    pub struct World {
        pub out: Kept,
        pub err: Kept,
        pub events: Kept,
        now: Arc<Mutex<Instant>>,
    }

    impl World {
        pub fn wait(&self, seconds: u64) {
            *self.now.lock().unwrap() += Duration::from_secs(seconds);
        }
    }

    impl Outputs {
        pub fn for_tests(mode: Mode) -> (Arc<Outputs>, World) {
            let world = World {
                out: Kept::default(),
                err: Kept::default(),
                events: Kept::default(),
                now: Arc::new(Mutex::new(Instant::now())),
            };
            let now = Arc::clone(&world.now);
            let outputs = Outputs {
                mode,
                color: false,
                events_only: false,
                verbose: false,
                out: Mutex::new(Box::new(world.out.clone())),
                err: Mutex::new(Box::new(world.err.clone())),
                bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
                events: Some(Events::to(Box::new(world.events.clone()))),
                clock: Box::new(move || *now.lock().unwrap()),
            };
            (Arc::new(outputs), world)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_neither_moves_nor_has_colours() {
        let terminal = |terminal, set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(known, _)| *known == name);
            Terminal::of(terminal, |name| found(name).map(|(_, value)| value.into()))
        };
        let is = |moves, color| Terminal { moves, color };
        assert_eq!(terminal(true, &[("TERM", "xterm")]), is(true, true));
        assert_eq!(terminal(true, &[]), is(true, true));
        assert_eq!(terminal(true, &[("TERM", "dumb")]), is(false, false));
        assert_eq!(terminal(true, &[("NO_COLOR", "1")]), is(true, false));
        assert_eq!(terminal(true, &[("NO_COLOR", "")]), is(true, true));
        assert_eq!(terminal(false, &[("TERM", "xterm")]), is(false, false));
    }
}
