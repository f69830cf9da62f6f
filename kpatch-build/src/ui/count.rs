//! What a running phase says about itself: what it does, how far it is, and how long the rest may take.

use std::time::Duration;

use super::words::{about, grouped, seconds};

/// Below this nobody can tell from what was done how long the rest takes.
const FIRST_ESTIMATE: Duration = Duration::from_secs(3);

/// The state of a phase.
#[derive(Debug, Clone, Default)]
pub(super) struct Doing {
    /// What is being done just now.
    pub now: String,
    /// How far it is, if that can be counted.
    pub count: Option<Count>,
}

/// Equal steps, some of which were taken.
#[derive(Debug, Clone)]
pub(super) struct Count {
    /// What is counted: `compile`.
    pub what: String,
    /// What one is called, in the plural: `files`.
    pub unit: Option<&'static str>,
    /// Steps that are done.
    pub done: u64,
    /// Steps that are expected in all.
    pub total: u64,
    /// When it began, since the beginning of the phase.
    pub since: Duration,
}

impl Count {
    /// How long the rest takes if it goes on like this.
    pub fn left(&self, elapsed: Duration) -> Option<Duration> {
        let spent = elapsed.saturating_sub(self.since);
        let rest = self.total.checked_sub(self.done).filter(|rest| *rest > 0)?;
        // A few of many say nothing of the rest: the first file of a kernel build waits for its tools.
        let is_few = self.done < 10 && self.done * 50 < self.total;
        if self.done == 0 || is_few || spent < FIRST_ESTIMATE {
            return None;
        }
        Some(spent.mul_f64(rest as f64 / self.done as f64))
    }

    fn shown(&self, elapsed: Duration) -> String {
        let unit = self.unit.map(|unit| format!(" {unit}")).unwrap_or_default();
        let done = grouped(self.done);
        // The number of steps of a kernel build is known only about.
        let amount = if self.done > self.total {
            done
        } else {
            format!("{done}/{}", grouped(self.total))
        };
        let left = self.left(elapsed).map(|left| format!(", {} left", about(left)));
        let what = match self.what.as_str() {
            "" => String::new(),
            what => format!("{what} "),
        };
        format!("{what}{amount}{unit}{}", left.unwrap_or_default())
    }
}

impl Doing {
    /// One line: `build Linux: compile 212/1,358 files, about 9 min left`, or without a count what is being done and for
    /// how long.
    pub fn line(&self, phase: &str, elapsed: Duration) -> String {
        match &self.count {
            Some(count) => format!("{phase}: {}", count.shown(elapsed)),
            None if self.now.is_empty() => format!("{phase}, {}", seconds(elapsed)),
            None => format!("{phase}: {}, {}", self.now, seconds(elapsed)),
        }
    }

    /// The same for a narrow terminal, where the end of a line is cut off: without the phase, the numbers first.
    pub fn short_line(&self, phase: &str, elapsed: Duration) -> String {
        match &self.count {
            Some(count) => count.shown(elapsed),
            None if self.now.is_empty() => format!("{} {phase}", seconds(elapsed)),
            None => format!("{} {}", seconds(elapsed), self.now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(done: u64, total: u64) -> Doing {
        Doing {
            now: "net/ipv6/anycast.o".into(),
            count: Some(Count {
                what: "compile".into(),
                unit: Some("files"),
                done,
                total,
                since: Duration::from_secs(10),
            }),
        }
    }

    #[test]
    fn a_count_has_the_time_left() {
        let line = |done, seconds| counted(done, 1358).line("build Linux", Duration::from_secs(seconds));
        assert_eq!(line(0, 40), "build Linux: compile 0/1,358 files");
        assert_eq!(line(1, 11), "build Linux: compile 1/1,358 files");
        assert_eq!(line(1, 70), "build Linux: compile 1/1,358 files");
        assert_eq!(line(212, 108), "build Linux: compile 212/1,358 files, about 9 min left");
        assert_eq!(line(1358, 600), "build Linux: compile 1,358/1,358 files");
        assert_eq!(line(1400, 600), "build Linux: compile 1,400 files");
        let short = counted(212, 1358).short_line("build Linux", Duration::from_secs(108));
        assert_eq!(short, "compile 212/1,358 files, about 9 min left");
    }

    #[test]
    fn without_a_count_there_is_the_time_spent() {
        let mut doing = Doing::default();
        let elapsed = Duration::from_secs(75);
        assert_eq!(doing.line("fetch Linux", elapsed), "fetch Linux, 1 min 15 s");
        doing.now = "unpacking".into();
        assert_eq!(doing.line("fetch Linux", elapsed), "fetch Linux: unpacking, 1 min 15 s");
        assert_eq!(doing.short_line("fetch Linux", elapsed), "1 min 15 s unpacking");
    }
}
