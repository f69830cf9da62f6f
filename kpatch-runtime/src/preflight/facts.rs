//! What a machine says of itself in `/proc` and `/sys`, as far as it matters to a livepatch. Nothing here judges it.
//!
//! A file that is not there is a fact; one that is there and cannot be read is not, and is remembered as such.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::livepatch::Livepatch;
use crate::machine::Machine;
use crate::threads;

/// `PF_KTHREAD` (include/linux/sched.h), in the ninth field of `/proc/PID/stat`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What was found.
#[derive(Debug, Default)]
pub struct Facts {
    /// `uname -r`.
    pub release: Option<String>,
    /// `uname -m`.
    pub processor: Option<String>,
    /// Whether the attributes of the kernel can be seen, so that what is not among them is not there.
    pub has_sysfs: bool,
    /// The livepatches; `None` if the kernel has no livepatching.
    pub livepatches: Option<Vec<Livepatch>>,
    /// The modules that are loaded.
    pub modules: BTreeSet<String>,
    /// The modules that are part of the image.
    pub built_in: BTreeSet<String>,
    /// What hooks functions; `None` if that is not to be found out.
    pub hooks: Option<Vec<Hook>>,
    /// The kprobes.
    pub kprobes: Vec<Kprobe>,
    /// Every thread with the functions on its stack; `None` if nobody may see them.
    pub tasks: Option<Vec<Task>>,
    /// How many symbols of each name that was asked for the image (`vmlinux`) and the modules have; `None` if the table is
    /// not there.
    pub symbols: Option<BTreeMap<(String, String), u64>>,
    /// Whether the tracer is switched off.
    pub tracing_off: bool,
    /// Whether no module may be loaded any more.
    pub modules_disabled: bool,
    /// Whether only signed modules are loaded.
    pub wants_signature: bool,
    /// Files that are there and could not be read, with the reason.
    pub unread: Vec<String>,
}

/// A function that the tracer calls somebody for.
#[derive(Debug, PartialEq, Eq)]
pub struct Hook {
    /// `vmlinux` or a module.
    pub object: String,
    /// Name of the function.
    pub function: String,
    /// Whether somebody decides where the call goes (`I`).
    pub redirects: bool,
    /// Whether it goes to a trampoline of its own (`D`): BPF.
    pub direct: bool,
}

/// A probe.
#[derive(Debug, PartialEq, Eq)]
pub struct Kprobe {
    /// `vmlinux` or a module.
    pub object: String,
    /// The function that it is in.
    pub function: String,
    /// Bytes from its start.
    pub offset: u64,
    /// Whether it waits for the function to return.
    pub on_return: bool,
    /// Whether the tracer calls it, as it does a livepatch.
    pub traced: bool,
}

/// A thread.
#[derive(Debug, PartialEq, Eq)]
pub struct Task {
    /// Number of the thread.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Whether no signal ends its sleep: a thread of the kernel, or one in a wait that takes none.
    pub deaf: bool,
    /// The functions on its stack.
    pub stack: Vec<String>,
}

impl Facts {
    /// Reads a machine whose file system begins at `root`; of its symbols only those with these names are counted.
    pub fn read(root: &Path, names: &BTreeSet<String>) -> Facts {
        let mut reader = Reader {
            root: root.to_owned(),
            unread: Vec::new(),
        };
        let machine = Machine::at(root);
        let (modules, built_in) = reader.modules();
        let is_on = |text: Option<String>| text.is_some_and(|text| matches!(text.trim(), "1" | "Y"));
        Facts {
            release: reader
                .text("proc/sys/kernel/osrelease")
                .map(|text| text.trim().to_owned()),
            processor: reader.processor(),
            has_sysfs: root.join("sys/kernel").is_dir(),
            livepatches: machine.livepatches().ok(),
            modules,
            built_in,
            hooks: reader.hooks(),
            kprobes: reader.kprobes(),
            tasks: reader.tasks(),
            symbols: reader.symbols(names),
            tracing_off: reader
                .text("proc/sys/kernel/ftrace_enabled")
                .is_some_and(|text| text.trim() == "0"),
            modules_disabled: is_on(reader.text("proc/sys/kernel/modules_disabled")),
            wants_signature: machine.wants_signatures().is_some(),
            unread: reader.unread,
        }
    }
}

struct Reader {
    root: PathBuf,
    unread: Vec<String>,
}

impl Reader {
    /// The text of a file, if it is there and may be read.
    fn text(&mut self, path: &str) -> Option<String> {
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    self.unread.push(format!("/{path}: {error}"));
                }
                None
            }
        }
    }

    /// The kernel says it in a file since 6.1 (kernel/utsname_sysctl.c). Of the running machine it is known anyway.
    fn processor(&self) -> Option<String> {
        let running = || {
            let name = rustix::system::uname().machine().to_string_lossy().into_owned();
            (self.root == Path::new("/")).then_some(name)
        };
        let told = fs::read_to_string(self.root.join("proc/sys/kernel/arch")).ok();
        told.map(|text| text.trim().to_owned()).or_else(running)
    }

    /// The folders in a folder.
    fn folders(&self, path: &str) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.root.join(path)).ok()?.filter_map(Result::ok);
        let names = entries.filter(|entry| entry.path().is_dir());
        let mut names: Vec<String> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Some(names)
    }

    /// A module that was loaded has a state, a part of the image has not.
    fn modules(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let names = self.folders("sys/module").unwrap_or_default().into_iter();
        names.partition(|name| self.root.join("sys/module").join(name).join("initstate").exists())
    }

    fn hooks(&mut self) -> Option<Vec<Hook>> {
        let places = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];
        let mut texts = places
            .iter()
            .filter_map(|place| self.text(&format!("{place}/enabled_functions")));
        Some(texts.next()?.lines().filter_map(hook).collect())
    }

    fn kprobes(&mut self) -> Vec<Kprobe> {
        let text = self.text("sys/kernel/debug/kprobes/list").unwrap_or_default();
        text.lines().filter_map(kprobe).collect()
    }

    /// Nothing if no stack can be read.
    fn tasks(&self) -> Option<Vec<Task>> {
        let read = threads::all(&self.root)
            .into_iter()
            .filter_map(|thread| Some((thread.number, thread.text("stat")?, thread.stack()?)));
        let mut read = read.peekable();
        read.peek()?;
        Some(read.filter_map(|(tid, stat, stack)| task(tid, &stat, stack)).collect())
    }

    /// Counts in one pass: the table has more than a hundred thousand rows.
    fn symbols(&mut self, names: &BTreeSet<String>) -> Option<BTreeMap<(String, String), u64>> {
        let mut found = BTreeMap::new();
        for line in self.text("proc/kallsyms").filter(|text| !text.is_empty())?.lines() {
            let mut words = line.split_ascii_whitespace().skip(2);
            let Some(name) = words.next().filter(|name| names.contains(*name)) else {
                continue;
            };
            let object = words.next().map_or("vmlinux", |word| word.trim_matches(['[', ']']));
            *found.entry((object.to_owned(), name.to_owned())).or_default() += 1;
        }
        Some(found)
    }
}

/// `NAME [MODULE] (COUNT) R I D …<tab>…` (kernel/trace/ftrace.c, `t_show`).
fn hook(line: &str) -> Option<Hook> {
    let (name, rest) = line.split_once('(')?;
    let (_, rest) = rest.split_once(')')?;
    let flags = rest.split('\t').next().unwrap_or_default();
    let mut words = name.split_ascii_whitespace();
    Some(Hook {
        function: words.next()?.to_owned(),
        object: words
            .next()
            .map_or("vmlinux", |word| word.trim_matches(['[', ']']))
            .to_owned(),
        redirects: flags.split_ascii_whitespace().any(|flag| flag == "I"),
        direct: flags.split_ascii_whitespace().any(|flag| flag == "D"),
    })
}

/// `ADDRESS k|r FUNCTION+0xOFFSET MODULE [STATE]…` (kernel/kprobes.c, `report_probe`).
fn kprobe(line: &str) -> Option<Kprobe> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let kind = words.next()?;
    let (function, offset) = words.next()?.split_once("+0x")?;
    let rest: Vec<&str> = words.collect();
    let module = rest.first().filter(|word| !word.starts_with('['));
    Some(Kprobe {
        object: module.map_or("vmlinux", |name| name).to_owned(),
        function: function.to_owned(),
        offset: u64::from_str_radix(offset, 16).ok()?,
        on_return: kind == "r",
        traced: rest.contains(&"[FTRACE]"),
    })
}

fn task(tid: u32, stat: &str, stack: Vec<String>) -> Option<Task> {
    let stat = threads::stat(stat)?;
    let flags: u64 = stat.fields.get(6)?.parse().ok()?;
    Some(Task {
        tid,
        name: stat.name.to_owned(),
        deaf: flags & KERNEL_THREAD != 0 || *stat.fields.first()? == "D",
        stack,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_told_apart_by_their_flags() {
        let parse = |line| hook(line).map(|hook| (hook.object, hook.function, hook.redirects, hook.direct));
        let row =
            |object: &str, name: &str, redirects, direct| Some((object.to_owned(), name.to_owned(), redirects, direct));
        let traced = "pipe_read (1)           \ttramp: 0xffffffffa0 (function_trace_call+0x0/0x1)";
        assert_eq!(parse(traced), row("vmlinux", "pipe_read", false, false));
        let patched = "ext4_sync [ext4] (1) R I     M \ttramp: 0xffffffffa0 (klp_ftrace_handler+0x0/0x1)";
        assert_eq!(parse(patched), row("ext4", "ext4_sync", true, false));
        // As a booted 6.12 prints it.
        let promoted =
            "f.llvm.4554626872095446571 (1)   I     M \ttramp: 0xffffffffa000d000 (klp_ftrace_handler+0x0/0xf0) ->g";
        assert_eq!(
            parse(promoted),
            row("vmlinux", "f.llvm.4554626872095446571", true, false)
        );
        let direct = "f (1) R   D   M \tdirect-->bpf_trampoline_6442+0x0/0x1";
        assert_eq!(parse(direct), row("vmlinux", "f", false, true));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn probes_say_where_they_are() {
        let plain = kprobe("ffffffff81234560  k  pipe_read+0x1c    [OPTIMIZED]").unwrap();
        assert_eq!(
            (&*plain.object, plain.offset, plain.on_return, plain.traced),
            ("vmlinux", 28, false, false)
        );
        let other = kprobe("ffffffffc0000000  r  ext4_sync+0x0  ext4 [FTRACE]").unwrap();
        assert_eq!(
            (&*other.object, other.offset, other.on_return, other.traced),
            ("ext4", 0, true, true)
        );
    }

    #[test]
    fn only_what_no_signal_wakes_is_deaf() {
        let deaf = |stat| task(12, stat, Vec::new()).unwrap().deaf;
        assert!(deaf("12 (worker) S 2 0 0 0 -1 69238880 0 0 0"));
        assert!(!deaf("12 (cat) S 2 0 0 0 -1 4194304 0"));
        assert!(deaf("12 (cat) D 2 0 0 0 -1 4194304 0"));
    }
}
