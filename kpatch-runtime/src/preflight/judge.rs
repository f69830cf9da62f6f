//! What would become of a livepatch on a machine, by the rules of its kernel.

use std::collections::BTreeMap;

use kpatch_core::klp::Registered;
use kpatch_core::names;
use serde::Serialize;

use super::facts::{Facts, Hook, Task};
use crate::livepatch::State;

/// What is known of the livepatch.
pub struct Module {
    /// Its name as in `/proc/modules`.
    pub name: String,
    /// The processor that it is for, as `uname -m` names it; none if that has no livepatches.
    pub processor: Option<&'static str>,
    /// Its `vermagic`.
    pub vermagic: Option<String>,
    /// Whether somebody has signed it.
    pub signed: bool,
    /// What it registers.
    pub objects: Vec<Registered>,
}

/// How bad it is, from harmless to hopeless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Good to know.
    Note,
    /// It was not to be found out.
    Unknown,
    /// It loads, and the transition waits.
    Stalls,
    /// It does not load.
    Fails,
    /// It was built for another kernel.
    OtherKernel,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub kind: Kind,
    /// The error that the kernel would give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<&'static str>,
    /// Function, object or livepatch that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// In words.
    pub text: String,
}

/// From this release on BPF and a livepatch share a function.
const SHARED_WITH_BPF: (u32, u32) = (6, 0);
/// From this release on the kernel prints and finds full names of promoted statics.
const FULL_NAMES: (u32, u32) = (6, 11);

/// Everything that is to be said, the worst first.
pub fn judge(module: &Module, machine: &Facts) -> Vec<Finding> {
    let mut judge = Judge {
        module,
        machine,
        found: Vec::new(),
    };
    judge.kernel();
    judge.loading();
    judge.objects();
    for object in &module.objects {
        for (function, position) in &object.functions {
            judge.symbol(object.object.as_str(), function, *position);
            judge.hooks(object.object.as_str(), function);
            judge.probes(object.object.as_str(), function);
            judge.tasks(object.object.as_str(), function);
        }
    }
    judge.unread();
    judge.found.sort_by_key(|finding| std::cmp::Reverse(finding.kind));
    judge.found
}

struct Judge<'a> {
    module: &'a Module,
    machine: &'a Facts,
    found: Vec<Finding>,
}

impl Judge<'_> {
    fn say(&mut self, kind: Kind, about: Option<&str>, text: String) {
        self.found.push(Finding {
            kind,
            errno: None,
            about: about.map(str::to_owned),
            text,
        });
    }

    fn fails(&mut self, errno: &'static str, about: &str, text: String) {
        self.found.push(Finding {
            kind: Kind::Fails,
            errno: Some(errno),
            about: Some(about.to_owned()),
            text,
        });
    }

    /// Whether the running kernel is at least this one; one whose number is not known is taken for a new one.
    fn is_since(&self, wanted: (u32, u32)) -> bool {
        let mut numbers = self
            .machine
            .release
            .iter()
            .flat_map(|release| release.split(['.', '-']));
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        match (next(), next()) {
            (Some(major), Some(minor)) => (major, minor) >= wanted,
            _ => true,
        }
    }

    fn kernel(&mut self) {
        let built_for = self.module.vermagic.as_deref().and_then(|text| text.split(' ').next());
        match (built_for, self.machine.release.as_deref()) {
            (None, _) => self.say(
                Kind::OtherKernel,
                None,
                "the module does not say which kernel it is for".into(),
            ),
            (Some(want), Some(have)) if want != have => {
                let text = format!("it was built for {want}, and {have} runs here");
                self.say(Kind::OtherKernel, None, text);
            }
            (_, None) => self.say(Kind::Unknown, None, "cannot tell which release runs here".into()),
            _ => {}
        }
        // kernel/module/main.c, `elf_validity_check()` and `check_modinfo_livepatch()`.
        let name = self.module.name.clone();
        match (self.module.processor, self.machine.processor.as_deref()) {
            (_, None) => self.say(
                Kind::Unknown,
                None,
                "cannot tell which processor this machine has".into(),
            ),
            (want, Some(have)) if want != Some(have) => {
                let want = want.unwrap_or("a processor without livepatches");
                self.fails(
                    "ENOEXEC",
                    &name,
                    format!("it was built for {want}, and this machine is {have}"),
                );
            }
            _ => {}
        }
        if self.machine.livepatches.is_none() && self.machine.has_sysfs {
            let text = "the running kernel has no livepatching (CONFIG_LIVEPATCH)".to_owned();
            self.fails("ENOEXEC", &name, text);
        } else if self.machine.livepatches.is_none() {
            let text = "cannot tell whether the running kernel has livepatching: sysfs is not mounted";
            self.say(Kind::Unknown, None, text.into());
        }
    }

    /// What stops any livepatch (kernel/module/main.c, kernel/livepatch/core.c, kernel/trace/ftrace.c).
    fn loading(&mut self) {
        let name = self.module.name.clone();
        let machine = self.machine;
        if machine.modules.contains(&name) || machine.built_in.contains(&name) {
            self.fails("EEXIST", &name, format!("a module {name} is there already"));
        }
        for loaded in machine.livepatches.iter().flatten() {
            let other = &loaded.name;
            if matches!(loaded.state, State::Enabling | State::Disabling) {
                let text = format!("the livepatch {other} is in transition, and the kernel does one at a time");
                self.fails("EBUSY", other, text);
            } else if *other != name && loaded.state == State::InEffect {
                let text = format!("the livepatch {other} is loaded: this one replaces it, or lies on top if built so");
                self.say(Kind::Note, Some(other), text);
            }
        }
        if machine.tracing_off {
            let text = "the tracer is switched off (kernel.ftrace_enabled is 0)".to_owned();
            self.fails("EBUSY", &name, text);
        }
        if machine.modules_disabled {
            let text =
                "this machine loads no more modules until it is booted again (kernel.modules_disabled)".to_owned();
            self.fails("EPERM", &name, text);
        }
        if machine.wants_signature && !self.module.signed {
            let text = "this machine loads signed modules only, and nobody has signed this one".to_owned();
            self.fails("EPERM", &name, text);
        }
    }

    fn objects(&mut self) {
        if self.module.objects.is_empty() {
            let text = "what the module registers is not in tables that can be read, so only the machine was looked at";
            self.say(Kind::Unknown, None, text.into());
        }
        for object in self.module.objects.iter().filter(|object| !object.object.is_vmlinux()) {
            let name = object.object.as_str();
            if self.machine.built_in.contains(name) {
                let text =
                    format!("{name} is part of this kernel's image and no module: its functions are never patched");
                self.say(Kind::OtherKernel, Some(name), text);
            } else if !self.machine.modules.contains(name) {
                let text = format!("{name} is not loaded: it is patched when it is");
                self.say(Kind::Note, Some(name), text);
            }
        }
    }

    /// kernel/livepatch/core.c, `klp_find_object_symbol`.
    fn symbol(&mut self, object: &str, function: &str, position: u64) {
        let there = object == "vmlinux" || self.machine.modules.contains(object);
        let prints_less = names::unpromoted(function) != function && !self.is_since(FULL_NAMES);
        let Some(symbols) = self.machine.symbols.as_ref().filter(|_| there && !prints_less) else {
            return;
        };
        let key = (object.to_owned(), function.to_owned());
        match (symbols.get(&key).copied().unwrap_or(0), position) {
            (0, _) => {
                let text = format!("{object} has no function {function}");
                self.say(Kind::OtherKernel, Some(function), text);
            }
            (1, 0 | 1) => {}
            (count, 0) => {
                let text = format!("{object} has {count} symbols {function}, and the livepatch does not say which");
                self.fails("EINVAL", function, text);
            }
            (count, position) if position > count => {
                let text =
                    format!("{object} has {count} symbols {function}, and the livepatch wants number {position}");
                self.say(Kind::OtherKernel, Some(function), text);
            }
            _ => {}
        }
    }

    /// Whether the name says less than the livepatch, which has a position as well.
    fn is_one_of_several(&self, object: &str, function: &str) -> bool {
        let key = (object.to_owned(), function.to_owned());
        let symbols = self.machine.symbols.as_ref();
        symbols
            .and_then(|symbols| symbols.get(&key))
            .is_some_and(|count| *count > 1)
    }

    fn hooks(&mut self, object: &str, function: &str) {
        let shown = names::unpromoted(function);
        let is_it = |hook: &&Hook| hook.object == object && is_named(&hook.function, function);
        let Some(hook) = self.machine.hooks.iter().flatten().find(is_it) else {
            return;
        };
        let patched = self.machine.livepatches.iter().flatten().any(|loaded| {
            let mut own = loaded.functions.iter();
            own.any(|one| one.object == object && is_named(&one.name, function))
        });
        if hook.redirects && !patched && self.is_one_of_several(object, function) {
            let text =
                format!("somebody decides where calls of one of the functions {shown} go; which one is not told");
            self.say(Kind::Unknown, Some(function), text);
        } else if hook.redirects && !patched {
            let probe = self
                .machine
                .kprobes
                .iter()
                .find(|probe| probe.object == object && is_named(&probe.function, function));
            let who = match probe {
                Some(_) => "a kprobe with a post handler",
                None => "a kprobe with a post handler, or another who is not a livepatch",
            };
            self.fails(
                "EBUSY",
                function,
                format!("{who} decides already where calls of {shown} go"),
            );
        } else if hook.direct && !self.is_since(SHARED_WITH_BPF) {
            let text = format!("a BPF program is attached to {shown}, and this kernel lets nobody share it");
            self.fails("EBUSY", function, text);
        } else if hook.direct {
            let text = format!(
                "a BPF program is attached to {shown}: threads of the kernel that are inside can hold up the transition"
            );
            self.say(Kind::Note, Some(function), text);
        }
    }

    fn probes(&mut self, object: &str, function: &str) {
        let shown = names::unpromoted(function);
        let own = |probe: &&super::facts::Kprobe| probe.object == object && is_named(&probe.function, function);
        for probe in self.machine.kprobes.iter().filter(own) {
            if probe.on_return {
                let text = format!(
                    "a return probe is on {shown}: the stack of a task inside cannot be read, which can hold up the transition"
                );
                self.say(Kind::Note, Some(function), text);
            } else if !probe.traced {
                let offset = probe.offset;
                let text =
                    format!("the kprobe at {shown}+{offset:#x} is in code that does not run while it is patched");
                self.say(Kind::Note, Some(function), text);
            }
        }
    }

    /// Who is in a function now. The kernel wakes tasks by a signal that is none (kernel/livepatch/transition.c,
    /// `klp_send_signals`), so that those leave it which signals reach.
    fn tasks(&mut self, object: &str, function: &str) {
        let shown = names::unpromoted(function);
        let inside = |task: &&Task| task.stack.iter().any(|frame| is_named(frame, function));
        let (deaf, other): (Vec<&Task>, Vec<&Task>) = self
            .machine
            .tasks
            .iter()
            .flatten()
            .filter(inside)
            .partition(|task| task.deaf);
        if !deaf.is_empty() {
            let mut text = format!("{} in {shown} now, where no signal wakes a task", are(&deaf));
            let mut kind = Kind::Stalls;
            if self.is_one_of_several(object, function) {
                text.push_str("; there are several functions of that name");
                kind = Kind::Unknown;
            }
            self.say(kind, Some(function), text);
        }
        if !other.is_empty() {
            let text = format!("{} in {shown} now; the kernel wakes such tasks after 15 s", are(&other));
            self.say(Kind::Note, Some(function), text);
        }
    }

    fn unread(&mut self) {
        if self.machine.hooks.is_none() {
            let text = "cannot tell which functions are hooked already: mount tracefs, and be root";
            self.say(Kind::Unknown, None, text.into());
        }
        if self.machine.tasks.is_none() {
            let text = "cannot tell which tasks are in the functions: be root";
            self.say(Kind::Unknown, None, text.into());
        }
        for file in &self.machine.unread {
            self.say(Kind::Unknown, None, format!("cannot read {file}"));
        }
    }
}

/// Tasks as the subject of a sentence, each name once.
fn are(tasks: &[&Task]) -> String {
    let mut by_name: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for task in tasks {
        by_name.entry(&task.name).or_default().push(task.tid);
    }
    let shown = |(name, tids): (&&str, &Vec<u32>)| match tids[..] {
        [tid] => format!("{name} ({tid})"),
        [first, ..] => format!("{name} ({first} and {} more)", tids.len() - 1),
        [] => String::new(),
    };
    let all: Vec<String> = by_name.iter().map(shown).collect();
    format!("{} {}", all.join(", "), if tasks.len() == 1 { "is" } else { "are" })
}

/// Whether the kernel's word for a function means this one. Some print promoted statics without their suffix.
fn is_named(printed: &str, function: &str) -> bool {
    printed == function || printed == names::unpromoted(function)
}
