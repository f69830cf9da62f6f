//! The guest's records in typed form: decodes a [`Record`].
//!
//! A record that does not decode is a fault of the transcript and never a default value: host and guest are built from
//! one tree, so a missing field means damage.

use std::time::Duration;

use super::channel::Record;

/// One report of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The guest program runs, and its environment is as it needs it.
    Hello(Hello),
    /// Lines of the kernel log, as `/dev/kmsg` gives them.
    Klog {
        /// The log overran, so lines are missing.
        lost: bool,
        /// The records as `/dev/kmsg` gives them, unparsed.
        lines: String,
    },
    /// Still running, with nothing to report.
    Alive,
    /// The guest begins a case.
    CaseBegin {
        /// Index in the plan of this boot.
        case: usize,
    },
    /// The guest begins a step.
    StepBegin {
        /// Index of the case.
        case: usize,
        /// Index in the case.
        step: usize,
    },
    /// A step ended, well or badly.
    StepEnd(StepEnd),
    /// A case ended: all its steps ran, or one of them failed.
    CaseEnd {
        /// Index of the case.
        case: usize,
        /// The kernel's taint bits before it.
        taint_before: u64,
        /// The kernel's taint bits after it.
        taint_after: u64,
    },
    /// The guest's environment is not as it needs it.
    Fault {
        /// The operation that failed, e.g. a mount.
        what: String,
        /// The error text of the system.
        error: String,
    },
    /// The last record of a boot. Without it the transcript is incomplete.
    Final {
        /// How many records came before.
        records: u32,
    },
}

/// The first record of a boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Release of the running kernel, as `uname -r` prints it.
    pub release: String,
    /// Whether the kernel has livepatching.
    pub livepatch: bool,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepEnd {
    /// Index of the case.
    pub case: usize,
    /// Index in the case.
    pub step: usize,
    /// Measured in the guest.
    pub took: Duration,
    /// What ended its process.
    pub ending: Ending,
    /// What each of its processes was doing at the time-out: name, and kernel stack, innermost first.
    pub whereabouts: Vec<String>,
    /// The end of what it printed.
    pub output: String,
}

/// What ended a step's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself with this status.
    Exit(i32),
    /// This signal ended it. A kernel oops also ends a process this way.
    Signal(i32),
    /// The guest killed it after a time-out.
    TimedOut,
    /// Not even SIGKILL ended it.
    Stuck,
}

impl Ending {
    /// The ending in words. `limit` is the time that the step had.
    pub fn in_words(self, limit: Duration) -> String {
        match self {
            Ending::Exit(status) => format!("exit status {status}"),
            Ending::Signal(signal) => format!("killed by signal {signal}"),
            Ending::TimedOut => format!("not done after {} s", limit.as_secs_f64()),
            Ending::Stuck => format!("not done after {} s, and SIGKILL does not end it", limit.as_secs_f64()),
        }
    }
}

/// Decodes a record; `None` if the guest sends no such record.
pub fn decode(record: &Record) -> Option<Message> {
    Some(match record.kind.as_str() {
        "hello" => Message::Hello(Hello {
            release: text(record, "release")?,
            livepatch: flag(record, "livepatch")?,
        }),
        "klog" => Message::Klog {
            lost: flag(record, "lost")?,
            lines: text(record, "lines")?,
        },
        "alive" => Message::Alive,
        "case-begin" => Message::CaseBegin {
            case: number(record, "case")?,
        },
        "step-begin" => Message::StepBegin {
            case: number(record, "case")?,
            step: number(record, "step")?,
        },
        "step-end" => Message::StepEnd(step_end(record)?),
        "case-end" => Message::CaseEnd {
            case: number(record, "case")?,
            taint_before: number(record, "taint-before")?,
            taint_after: number(record, "taint-after")?,
        },
        "fault" => Message::Fault {
            what: text(record, "what")?,
            error: text(record, "error")?,
        },
        "final" => Message::Final {
            records: number(record, "records")?,
        },
        _ => return None,
    })
}

fn step_end(record: &Record) -> Option<StepEnd> {
    let status = number(record, "status")?;
    let ending = match record.bytes("end")? {
        b"exit" => Ending::Exit(status),
        b"signal" => Ending::Signal(status),
        b"timeout" => Ending::TimedOut,
        b"stuck" => Ending::Stuck,
        _ => return None,
    };
    let dropped: u64 = number(record, "dropped")?;
    let output = text(record, "output")?;
    Some(StepEnd {
        case: number(record, "case")?,
        step: number(record, "step")?,
        took: Duration::from_millis(number(record, "millis")?),
        ending,
        whereabouts: text(record, "where")?
            .lines()
            .map(|line| line.replace("[<0>]", " "))
            .collect(),
        output: if dropped == 0 {
            output
        } else {
            format!("[{dropped} bytes before this]\n{output}")
        },
    })
}

/// Scripts and kernels print any bytes; invalid UTF-8 becomes replacement characters.
fn text(record: &Record, name: &str) -> Option<String> {
    record
        .bytes(name)
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn number<T: std::str::FromStr>(record: &Record, name: &str) -> Option<T> {
    std::str::from_utf8(record.bytes(name)?).ok()?.parse().ok()
}

fn flag(record: &Record, name: &str) -> Option<bool> {
    number::<u8>(record, name).map(|value| value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: &str, fields: &[(&str, &str)]) -> Record {
        let fields = fields
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        Record {
            kind: kind.to_owned(),
            fields: fields.collect(),
        }
    }

    #[test]
    fn a_step_end_decodes() {
        let fields = [
            ("case", "2"),
            ("step", "3"),
            ("millis", "1500"),
            ("end", "signal"),
            ("status", "9"),
            ("dropped", "7"),
            ("where", "grep (pid 7)\n[<0>] f+0x1/0x2\n"),
            ("output", "tail"),
        ];
        let Some(Message::StepEnd(end)) = decode(&record("step-end", &fields)) else {
            panic!("must decode")
        };
        assert_eq!((end.case, end.step, end.ending), (2, 3, Ending::Signal(9)));
        assert_eq!(end.took, Duration::from_millis(1500));
        assert_eq!(end.whereabouts, ["grep (pid 7)", "  f+0x1/0x2"]);
        assert_eq!(end.output, "[7 bytes before this]\ntail");
    }

    #[test]
    fn a_missing_field_is_not_a_default() {
        assert_eq!(decode(&record("final", &[])), None);
        assert_eq!(decode(&record("final", &[("records", "x")])), None);
        assert_eq!(
            decode(&record("final", &[("records", "4")])),
            Some(Message::Final { records: 4 })
        );
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        assert_eq!(decode(&record("greeting", &[])), None);
    }
}
