//! What is asked of the kernel by system calls, and the time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The running kernel, or a stand-in for tests.
pub trait Kernel {
    /// Loads a module: init_module(2). The second value is what the kernel logged meanwhile.
    fn insert(&self, image: &[u8]) -> (io::Result<()>, Vec<String>);
    /// Removes a module: delete_module(2), without waiting.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Writes an attribute of sysfs.
    fn write(&self, attribute: &Path, value: &str) -> io::Result<()>;
    /// Lets time pass.
    fn sleep(&self, time: Duration);
    /// Time since some moment in the past.
    fn elapsed(&self) -> Duration;
    /// The time of day.
    fn wall_clock(&self) -> SystemTime;
}

/// The kernel that this process runs on.
pub struct Running {
    started: Instant,
}

impl Running {
    /// Time is counted from now.
    #[expect(clippy::new_without_default, reason = "a clock has no default")]
    pub fn new() -> Self {
        Running {
            started: Instant::now(),
        }
    }
}

impl Kernel for Running {
    fn insert(&self, image: &[u8]) -> (io::Result<()>, Vec<String>) {
        let log = Log::from_now();
        let inserted = rustix::system::init_module(image, c"");
        (
            inserted.map_err(io::Error::from),
            log.map(Log::read).unwrap_or_default(),
        )
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let name = std::ffi::CString::new(name)?;
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
        rustix::system::delete_module(&name, nonblocking).map_err(io::Error::from)
    }

    fn write(&self, attribute: &Path, value: &str) -> io::Result<()> {
        // Not created: an attribute that is not there is an error.
        File::options().write(true).open(attribute)?.write_all(value.as_bytes())
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A reader of the kernel's log.
struct Log(File);

impl Log {
    /// What comes from now on; none where the log cannot be read.
    fn from_now() -> Option<Self> {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).ok()?;
        let mut file = File::options()
            .read(true)
            .custom_flags(nonblocking)
            .open("/dev/kmsg")
            .ok()?;
        // Behind the last record: Documentation/ABI/testing/dev-kmsg.
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Log(file))
    }

    /// The messages since then, without their time. One read is one record; the first that would block ends it.
    fn read(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        while let Ok(length @ 1..) = self.0.read(&mut record) {
            let text = String::from_utf8_lossy(&record[..length]);
            let line = text.lines().next().unwrap_or_default();
            lines.extend(line.split_once(';').map(|(_, message)| message.to_owned()));
        }
        lines
    }
}
