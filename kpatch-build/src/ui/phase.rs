//! One running phase, and the thread that shows how far it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::count::{Count, Doing};
use super::events::Event;
use super::outputs::{Mode, Outputs};
use super::phases::StepTime;
use crate::progress::Progress;

/// A line at least every ten seconds where nothing moves: a little earlier, so that it never is a little later.
const PLAIN_EVERY: Duration = Duration::from_millis(9_500);
/// A line that moves, moves.
const LIVE_EVERY: Duration = Duration::from_millis(150);
/// For a program that watches.
const EVENT_EVERY: Duration = Duration::from_secs(1);
/// A narrower terminal has no room for a bar beside the text.
const WIDE: u16 = 80;

/// One running phase. Its methods may be called from any thread.
pub struct Phase {
    running: Arc<Running>,
    tickers: Vec<Ticker>,
}

/// What the phase and its threads share.
struct Running {
    name: String,
    outputs: Arc<Outputs>,
    begun: Instant,
    doing: Mutex<Doing>,
    steps: Mutex<Vec<StepTime>>,
    failed: AtomicBool,
    bar: Option<ProgressBar>,
}

impl Phase {
    pub(super) fn start(name: &str, outputs: &Arc<Outputs>) -> Self {
        outputs.event(&Event::PhaseBegun { phase: name });
        let running = Arc::new(Running {
            name: name.to_owned(),
            begun: outputs.now(),
            doing: Mutex::default(),
            steps: Mutex::default(),
            failed: AtomicBool::new(false),
            bar: outputs.new_bar(),
            outputs: Arc::clone(outputs),
        });
        let mut tickers = Vec::new();
        match outputs.mode {
            Mode::Live => {
                running.draw();
                tickers.extend(Ticker::start(LIVE_EVERY, &running, Running::draw));
            }
            Mode::Plain => {
                outputs.line(&format!(".. {name}"));
                tickers.extend(Ticker::start(PLAIN_EVERY, &running, Running::say));
            }
            Mode::Quiet => {}
        }
        if outputs.has_events() {
            tickers.extend(Ticker::start(EVENT_EVERY, &running, Running::tell));
        }
        Phase { running, tickers }
    }

    /// Takes the phase off the screen; what it recorded, whether it called itself failed, and how long it took.
    pub(super) fn end(mut self) -> (Vec<StepTime>, bool, Duration) {
        self.tickers.clear();
        let running = &self.running;
        if let Some(bar) = &running.bar {
            bar.finish_and_clear();
        }
        let steps = std::mem::take(&mut *lock(&running.steps));
        (steps, running.failed.load(Ordering::Relaxed), running.elapsed())
    }

    /// The number of steps this phase is expected to take: from now on there is a bar with the time left.
    pub fn expect_steps(&self, total: u64) {
        self.count("", None, total);
    }

    /// The same, with what is done and the plural of what it is done to: `compile`, `files`.
    pub fn expect_of(&self, what: &str, unit: &'static str, total: u64) {
        self.count(what, Some(unit), total);
    }

    fn count(&self, what: &str, unit: Option<&'static str>, total: u64) {
        let since = self.running.elapsed();
        self.doing().count = Some(Count {
            what: what.to_owned(),
            unit,
            done: 0,
            total,
            since,
        });
    }

    /// One step was taken.
    pub fn step(&self) {
        self.steps(1);
    }

    /// Several steps were taken: the work counted in them differs in size.
    pub fn steps(&self, count: u64) {
        if let Some(known) = &mut self.doing().count {
            known.done += count;
        }
    }

    /// What is being done just now. Once all steps are taken this is something else than what was counted.
    pub fn message(&self, text: &str) {
        let mut doing = self.doing();
        text.clone_into(&mut doing.now);
        if doing.count.as_ref().is_some_and(|count| count.done == count.total) {
            doing.count = None;
        }
    }

    /// A line that must be seen although a bar is moving.
    pub fn line(&self, text: &str) {
        self.running.outputs.line(text);
    }

    /// Adds a step of this phase that was timed where it was taken.
    pub fn record(&self, name: &str, took: Duration) {
        lock(&self.running.steps).push(StepTime::new(name, took));
    }

    /// The phase did its work, and the result is bad.
    pub fn fail(&self) {
        self.running.failed.store(true, Ordering::Relaxed);
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        lock(&self.running.doing)
    }

    /// What the thread does now and then, for tests that have no time to wait.
    #[cfg(test)]
    pub(super) fn tick(&self) {
        self.running.say();
        self.running.tell();
    }
}

impl Progress for Phase {
    fn message(&self, text: &str) {
        Phase::message(self, text);
    }

    fn expect(&self, what: &str, steps: u64) {
        self.count(what, None, steps);
    }

    fn step(&self) {
        Phase::step(self);
    }

    fn note(&self, text: &str) {
        self.running.outputs.event(&Event::Note { text });
        self.line(&format!("note {text}"));
    }

    fn detail(&self, text: &str) {
        if self.running.outputs.verbose {
            self.note(text);
        }
    }
}

impl Running {
    fn elapsed(&self) -> Duration {
        self.outputs.now().saturating_duration_since(self.begun)
    }

    /// Prints a line without control sequences.
    fn say(&self) {
        let line = lock(&self.doing).line(&self.name, self.elapsed());
        self.outputs.line(&format!(".. {line}"));
    }

    /// A moving line, with a bar if there is a count and room.
    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let doing = lock(&self.doing).clone();
        let wide = self.outputs.columns() >= WIDE;
        let text = match &doing.count {
            // Lines that move have room for what is being done besides; what does not fit is cut off.
            Some(_) if wide => format!("{}  {}", doing.line(&self.name, self.elapsed()), doing.now),
            None if wide => doing.line(&self.name, self.elapsed()),
            _ => doing.short_line(&self.name, self.elapsed()),
        };
        match &doing.count {
            Some(count) if wide => {
                bar.set_style(style("{spinner} [{bar:20}] {wide_msg}"));
                bar.set_length(count.total);
                bar.set_position(count.done.min(count.total));
            }
            _ => bar.set_style(style("{spinner} {wide_msg}")),
        }
        bar.set_message(text);
        bar.tick();
    }

    /// Writes an event into the stream.
    fn tell(&self) {
        let doing = lock(&self.doing).clone();
        let count = doing.count.as_ref();
        let left = count.and_then(|count| count.left(self.elapsed()));
        self.outputs.event(&Event::Progress {
            phase: &self.name,
            doing: &doing.now,
            done: count.map(|count| count.done),
            total: count.map(|count| count.total),
            seconds_left: left.map(|left| left.as_secs()),
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the templates in this file are well formed");
    style.progress_chars("=> ")
}

/// A thread that does something again and again until it is dropped.
struct Ticker {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Nothing if there can be no more threads: the work goes on without being shown.
    fn start(every: Duration, running: &Arc<Running>, work: fn(&Running)) -> Option<Self> {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let (ended, running) = (Arc::clone(&over), Arc::clone(running));
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            while !waited(&ended, every) {
                work(&running);
            }
        });
        Some(Ticker {
            over,
            thread: Some(thread.ok()?),
        })
    }
}

/// Waits that long; whether it is over by then.
fn waited(ended: &(Mutex<bool>, Condvar), every: Duration) -> bool {
    let (over, changed) = ended;
    let waiting = changed.wait_timeout_while(lock(over), every, |over| !*over);
    *waiting.unwrap_or_else(PoisonError::into_inner).0
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *lock(&self.over.0) = true;
        self.over.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It can only have panicked, and then there is nothing left to end.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_ticker_ticks_and_ends_with_its_owner() {
        static TICKS: AtomicUsize = AtomicUsize::new(0);
        let (outputs, _) = Outputs::for_tests(Mode::Quiet);
        let phase = Phase::start("x", &outputs);
        let ticker = Ticker::start(Duration::from_millis(1), &phase.running, |_| {
            TICKS.fetch_add(1, Ordering::SeqCst);
        });
        while TICKS.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        drop(ticker);
        let after = TICKS.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(TICKS.load(Ordering::SeqCst), after);
    }

    #[test]
    fn a_long_interval_does_not_hold_up_the_end() {
        let (outputs, _) = Outputs::for_tests(Mode::Plain);
        let started = Instant::now();
        drop(Phase::start("x", &outputs));
        assert!(started.elapsed() < PLAIN_EVERY / 2);
    }
}
