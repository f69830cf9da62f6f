//! Everything that one boot left behind, in one value. The verdicts are a pure function of it.

use std::time::Duration;

use super::channel::{Fault, Parser, Record};
use super::message::{self, Hello, Message};
use super::outcome::CaseOutcome;

/// Limit of console lines in a report.
const TAIL_LINES: usize = 30;

/// How the machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineEnd {
    /// QEMU exited by itself; after the final record this is the guest's power-off.
    Exited {
        /// Exit status in words.
        status: String,
        /// The end of what QEMU itself printed.
        stderr: String,
    },
    /// The limit for the whole boot.
    OutOfTime(Duration),
    /// No record for this long.
    Silent(Duration),
}

/// Everything that one boot left behind.
#[derive(Debug)]
pub struct Transcript {
    /// In the order sent.
    pub messages: Vec<Message>,
    /// Damage on the channel.
    pub faults: Vec<Fault>,
    /// How the machine ended.
    pub end: MachineEnd,
    /// The whole console log.
    pub console: String,
    /// From the start of QEMU to the first record.
    pub up_after: Option<Duration>,
}

impl Transcript {
    /// The guest's first record.
    pub fn hello(&self) -> Option<&Hello> {
        self.messages.iter().find_map(|message| match message {
            Message::Hello(hello) => Some(hello),
            _ => None,
        })
    }

    /// `uname -r`, once the guest has said hello.
    pub fn release(&self) -> Option<&str> {
        self.hello().map(|hello| hello.release.as_str())
    }

    /// Whether the final record came and no record before it is missing.
    pub fn is_complete(&self) -> bool {
        let before = self.messages.len().saturating_sub(1);
        matches!(self.messages.last(), Some(Message::Final { records }) if *records as usize == before)
    }

    /// The last console lines.
    pub fn console_tail(&self) -> Vec<String> {
        super::console::tail(&self.console, TAIL_LINES)
    }

    /// An infrastructure verdict with the end of the console.
    pub fn infrastructure(&self, why: String) -> CaseOutcome {
        CaseOutcome::Infrastructure {
            why,
            console: self.console_tail(),
        }
    }
}

/// Collects the messages of a running machine.
#[derive(Debug)]
pub struct Collector {
    parser: Parser,
    /// The messages so far.
    pub messages: Vec<Message>,
}

impl Collector {
    /// For the boot with this nonce.
    pub fn new(nonce: u64) -> Self {
        Collector {
            parser: Parser::new(nonce),
            messages: Vec::new(),
        }
    }

    /// Takes bytes from the channel and returns how many messages they completed.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let records = self.parser.push(bytes);
        let before = self.messages.len();
        for record in &records {
            self.take(record);
        }
        self.messages.len() - before
    }

    fn take(&mut self, record: &Record) {
        match message::decode(record) {
            Some(message) => self.messages.push(message),
            None => self.parser.faults.push(Fault::Malformed),
        }
    }

    /// Whether the final record has come.
    pub fn is_final(&self) -> bool {
        matches!(self.messages.last(), Some(Message::Final { .. }))
    }

    /// Ends the collection: the transcript of the boot.
    pub fn finish(self, end: MachineEnd, console: String, up_after: Option<Duration>) -> Transcript {
        Transcript {
            messages: self.messages,
            faults: self.parser.faults,
            end,
            console,
            up_after,
        }
    }
}
