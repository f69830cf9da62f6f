//! What the guest must do, and the text form in which it reads it.
//!
//! One line per step, words separated by blanks, each word percent-encoded, so that the C program in the guest needs no
//! real parser. The plan is checked before it is written: a step that names a missing file would otherwise fail in the
//! guest, minutes later, with a worse message.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use super::TRANSITION_TIMEOUT;

/// Limit of a check: it tests one behaviour, and even on an emulated processor it is broken if it takes longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Loading resolves each symbol by walking the symbol table on old kernels. With `CONFIG_PREEMPT_DYNAMIC` each transition,
/// there and back, also rewrites every `cond_resched()` of the kernel one after the other (`sched_dynamic_klp_enable()`,
/// kernel/sched/core.c, 6.12), and for each of them every processor is interrupted three times
/// (`text_poke_bp_batch()`, arch/x86/kernel/alternative.c): tens of seconds with busy processors that are emulated on a
/// busy host.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// All cases of a run.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// In the order in which they run.
    pub cases: Vec<CasePlan>,
}

/// One case: the files and steps of one proof.
#[derive(Debug, Clone)]
pub struct CasePlan {
    /// Name of the case in reports.
    pub name: String,
    /// The files that the steps need in the guest.
    pub files: Vec<GuestFile>,
    /// The steps; they run in order until one fails.
    pub steps: Vec<Step>,
    /// Texts in the kernel's log that belong to the old behaviour: complaints with them count only while a livepatch is
    /// loaded.
    pub reports: Vec<String>,
}

/// A file of the host that the guest gets.
#[derive(Debug, Clone)]
pub struct GuestFile {
    /// Absolute path in the guest.
    pub guest_path: String,
    /// Path on the host.
    pub host_path: PathBuf,
    /// Permission bits, e.g. `0o644`.
    pub mode: u32,
}

/// The behaviour that a check should see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behaviour {
    /// The behaviour of the unpatched kernel: the check exits with 1.
    Old,
    /// The behaviour with the patch: the check exits with 0.
    New,
}

impl Behaviour {
    /// The exit status by which a check script reports this behaviour.
    pub fn exit_status(self) -> i32 {
        match self {
            Behaviour::New => 0,
            Behaviour::Old => 1,
        }
    }

    /// The word for it in messages.
    pub fn name(self) -> &'static str {
        match self {
            Behaviour::Old => "old",
            Behaviour::New => "new",
        }
    }
}

/// What a livepatch should patch in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedObject {
    /// `vmlinux` or the module's name.
    pub name: String,
    /// Function names; `name,2` where the position in the symbol table matters.
    pub functions: Vec<String>,
    /// Whether the object is loaded now, so that its functions must be patched at once.
    pub patched_now: bool,
    /// Functions of a livepatch that this one replaces: the kernel lists them here, too, until the transition ends.
    pub leaving: Vec<String>,
}

/// One step of the guest. Paths are paths in the guest.
#[derive(Debug, Clone)]
pub enum Step {
    /// Loads an ordinary module.
    LoadModule {
        /// The `.ko` in the guest.
        ko: String,
        /// Module parameters, `a=1 b=2`.
        params: String,
    },
    /// Tries to load a module that a livepatch must not let in.
    RefuseModule {
        /// The `.ko` in the guest.
        ko: String,
        /// Name of the livepatch, which has to say why.
        livepatch: String,
    },
    /// Removes an ordinary module.
    UnloadModule {
        /// Name as in `/proc/modules`.
        name: String,
    },
    /// Removes an ordinary module to clean up for the next case; a module without an exit function stays.
    TidyModule {
        /// Name as in `/proc/modules`.
        name: String,
    },
    /// Runs a check script.
    Check {
        /// Run by `/bin/sh`: exit 0 = new behaviour seen, 1 = old behaviour seen, anything else = the check is broken.
        script: String,
        /// What it should see.
        expect: Behaviour,
        /// When it runs, for reports: `before load`, `after load` …
        when: String,
    },
    /// Loads a livepatch and compares what the kernel registered with what was promised.
    LoadLivepatch {
        /// The `.ko` in the guest.
        ko: String,
        /// Module name, with `_` for `-`.
        name: String,
        /// Exactly these objects and functions.
        objects: Vec<ExpectedObject>,
    },
    /// Starts a task that sleeps in a function that the livepatch patches, or lets it go.
    Hold {
        /// Run by `/bin/sh`; exit 0 = done.
        script: String,
        /// Whether the task is let go.
        release: bool,
    },
    /// Waits until all that a check runs in has switched over while the livepatch is still in transition.
    HeldTransition {
        /// Module name, with `_` for `-`.
        name: String,
    },
    /// Waits until no livepatch is in transition.
    WaitTransition {
        /// After this time the transition counts as stalled.
        timeout: Duration,
    },
    /// Writes 0 to the livepatch's `enabled`.
    DisableLivepatch {
        /// Module name, with `_` for `-`.
        name: String,
    },
    /// Disables where needed, waits for the transition, and removes the module.
    UnloadLivepatch {
        /// Module name, with `_` for `-`.
        name: String,
    },
}

impl Step {
    /// The step in words.
    pub fn label(&self) -> String {
        match self {
            Step::LoadModule { ko, .. } => format!("load module {ko}"),
            Step::RefuseModule { ko, .. } => format!("see that {ko} is refused"),
            Step::UnloadModule { name } | Step::TidyModule { name } => format!("unload module {name}"),
            Step::Check { when, .. } => format!("check {when}"),
            Step::LoadLivepatch { name, .. } => format!("load livepatch {name}"),
            Step::Hold { release: false, .. } => "hold the transition open".to_owned(),
            Step::Hold { release: true, .. } => "let the transition go on".to_owned(),
            Step::HeldTransition { name } => format!("see that the transition of {name} is held open"),
            Step::WaitTransition { .. } => "wait for the transition".to_owned(),
            Step::DisableLivepatch { name } => format!("disable livepatch {name}"),
            Step::UnloadLivepatch { name } => format!("unload livepatch {name}"),
        }
    }

    /// The exit status that the step must have for the next one to run.
    pub fn expected_status(&self) -> i32 {
        match self {
            Step::Check { expect, .. } => expect.exit_status(),
            _ => 0,
        }
    }

    /// The time after which the guest kills the step.
    pub fn timeout(&self) -> Duration {
        match self {
            Step::Check { .. } | Step::Hold { .. } | Step::HeldTransition { .. } => CHECK_TIMEOUT,
            Step::WaitTransition { timeout } => *timeout,
            Step::UnloadLivepatch { .. } => TRANSITION_TIMEOUT,
            Step::LoadModule { .. }
            | Step::RefuseModule { .. }
            | Step::LoadLivepatch { .. }
            | Step::DisableLivepatch { .. } => LOAD_TIMEOUT,
            Step::UnloadModule { .. } | Step::TidyModule { .. } => CHECK_TIMEOUT,
        }
    }

    /// The operation's name and arguments as the guest reads them.
    fn words(&self) -> Vec<&str> {
        match self {
            Step::LoadModule { ko, params } => vec!["load-module", ko, params],
            Step::RefuseModule { ko, .. } => vec!["refuse-module", ko],
            Step::UnloadModule { name } => vec!["unload-module", name],
            Step::TidyModule { name } => vec!["tidy-module", name],
            Step::Check { script, .. } | Step::Hold { script, .. } => vec!["script", script],
            Step::HeldTransition { name } => vec!["held-transition", name],
            Step::LoadLivepatch { ko, name, .. } => vec!["load-livepatch", ko, name],
            Step::WaitTransition { .. } => vec!["wait-transition"],
            Step::DisableLivepatch { name } => vec!["disable-livepatch", name],
            Step::UnloadLivepatch { name } => vec!["unload-livepatch", name],
        }
    }

    /// The file in the guest that the step opens.
    fn file(&self) -> Option<&str> {
        match self {
            Step::LoadModule { ko: file, .. }
            | Step::RefuseModule { ko: file, .. }
            | Step::LoadLivepatch { ko: file, .. }
            | Step::Hold { script: file, .. }
            | Step::Check { script: file, .. } => Some(file),
            _ => None,
        }
    }
}

impl Plan {
    /// The cases with these indices, in this order.
    pub fn subset(&self, indices: &[usize]) -> Plan {
        Plan {
            cases: indices
                .iter()
                .filter_map(|&index| self.cases.get(index).cloned())
                .collect(),
        }
    }

    /// Refuses plans that would prove nothing or contradict themselves.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !self.cases.is_empty(),
            "the plan has no case, so a boot would prove nothing"
        );
        self.files()?;
        for case in &self.cases {
            anyhow::ensure!(
                !case.steps.is_empty(),
                "case {} has no step, so it would prove nothing",
                case.name
            );
            for step in &case.steps {
                check_step(case, step)?;
            }
        }
        Ok(())
    }

    /// Every file of every case, by its path in the guest. The cases of a boot share one file system.
    pub fn files(&self) -> anyhow::Result<BTreeMap<&str, &GuestFile>> {
        let mut files: BTreeMap<&str, &GuestFile> = BTreeMap::new();
        for file in self.cases.iter().flat_map(|case| &case.files) {
            check_guest_path(&file.guest_path)?;
            match files.insert(&file.guest_path, file) {
                Some(other) if other.host_path != file.host_path || other.mode != file.mode => {
                    anyhow::bail!(
                        "two cases of one boot put different files at {}: {} and {}",
                        file.guest_path,
                        other.host_path.display(),
                        file.host_path.display()
                    )
                }
                _ => {}
            }
        }
        Ok(files)
    }

    /// The text that the guest reads from `/plan`.
    pub fn encode(&self, nonce: u64, channel: &str) -> String {
        let mut text = format!("plan 1 {nonce:016x} {}\n", encode_word(channel));
        for (index, case) in self.cases.iter().enumerate() {
            writeln!(text, "case {index} {}", case.steps.len()).expect("writing to a String cannot fail");
            for (number, step) in case.steps.iter().enumerate() {
                write!(
                    text,
                    "step {number} {} {}",
                    step.timeout().as_millis(),
                    step.expected_status()
                )
                .expect("writing to a String cannot fail");
                for word in step.words() {
                    text.push(' ');
                    text.push_str(&encode_word(word));
                }
                text.push('\n');
            }
        }
        text.push_str("end\n");
        text
    }
}

fn check_step(case: &CasePlan, step: &Step) -> anyhow::Result<()> {
    if let Some(path) = step.file() {
        anyhow::ensure!(
            case.files.iter().any(|file| file.guest_path == path),
            "case {}: the step `{}` needs {path}, which is not among the files of the case",
            case.name,
            step.label()
        );
    }
    if let Step::LoadLivepatch { name, objects, .. } = step {
        anyhow::ensure!(
            !objects.is_empty(),
            "case {}: livepatch {name} promises no object, so loading it would prove nothing",
            case.name
        );
    }
    Ok(())
}

/// A path must not replace one of the guest's own files or leave the archive's tree.
fn check_guest_path(path: &str) -> anyhow::Result<()> {
    let plain = path.starts_with('/') && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
    anyhow::ensure!(
        plain,
        "{path}: a path in the guest must be absolute and without `.`, `..` or empty parts"
    );
    let first = path.split('/').nth(1).unwrap_or_default();
    let taken = matches!(first, "init" | "plan" | "bin" | "dev" | "proc" | "sys" | "tmp");
    anyhow::ensure!(
        !taken,
        "{path}: /{first} belongs to the guest itself; use a folder such as /case"
    );
    Ok(())
}

/// Percent-encodes characters that would split a line or a word. An empty word is written as `-`, so a lone `-` is
/// encoded.
pub fn encode_word(word: &str) -> String {
    if word.is_empty() {
        return "-".to_owned();
    }
    if word == "-" {
        return "%2d".to_owned();
    }
    let mut out = String::with_capacity(word.len());
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"_./,:@+=-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02x}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// The inverse of [`encode_word`], also for words that the guest encodes. Invalid escapes stay as they are.
pub fn decode_word(word: &str) -> String {
    if word == "-" {
        return String::new();
    }
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(value) = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(value);
            rest = &tail[2..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(files: &[(&str, &str)], steps: Vec<Step>) -> CasePlan {
        let files = files.iter().map(|(guest, host)| GuestFile {
            guest_path: (*guest).to_owned(),
            host_path: PathBuf::from(host),
            mode: 0o644,
        });
        CasePlan {
            name: "case".to_owned(),
            files: files.collect(),
            steps,
            reports: Vec::new(),
        }
    }

    fn shell(script: &str) -> Step {
        let (script, when) = (script.to_owned(), "set up".to_owned());
        Step::Check {
            script,
            expect: Behaviour::New,
            when,
        }
    }

    #[test]
    fn words_survive_the_round_trip() {
        for word in [
            "",
            "-",
            "a b",
            "100%",
            "%41",
            "é\n\t",
            "a=1 b=\"2 3\"",
            "/lib/x-y.ko",
            "foo.llvm.123,1",
        ] {
            let encoded = encode_word(word);
            assert!(
                !encoded.is_empty() && !encoded.contains([' ', '\n']),
                "{encoded:?} is one word"
            );
            assert_eq!(decode_word(&encoded), word);
        }
    }

    #[test]
    fn damaged_escapes_are_kept() {
        assert_eq!(decode_word("a%zz%4"), "a%zz%4");
    }

    #[test]
    fn a_plan_is_one_line_a_step() {
        let steps = vec![
            Step::Check {
                script: "/case/c.sh".into(),
                expect: Behaviour::Old,
                when: "before load".into(),
            },
            Step::LoadModule {
                ko: "/case/m.ko".into(),
                params: "a=1 b=2".into(),
            },
            Step::WaitTransition {
                timeout: Duration::from_secs(3),
            },
            Step::LoadModule {
                ko: "/case/m.ko".into(),
                params: String::new(),
            },
        ];
        let plan = Plan {
            cases: vec![case(&[], steps)],
        };
        assert_eq!(
            plan.encode(0x1234, "/dev/ttyS1"),
            "plan 1 0000000000001234 /dev/ttyS1\ncase 0 4\nstep 0 10000 1 script /case/c.sh\n\
             step 1 120000 0 load-module /case/m.ko a=1%20b=2\nstep 2 3000 0 wait-transition\n\
             step 3 120000 0 load-module /case/m.ko -\nend\n"
        );
    }

    #[test]
    fn a_step_needs_its_file() {
        let plan = Plan {
            cases: vec![case(&[("/case/a.sh", "/a")], vec![shell("/case/b.sh")])],
        };
        assert!(plan.check().unwrap_err().to_string().contains("needs /case/b.sh"));
    }

    #[test]
    fn cases_may_share_a_file_but_not_a_path() {
        let one = || case(&[("/case/a.sh", "/a")], vec![shell("/case/a.sh")]);
        let other = case(&[("/case/a.sh", "/b")], vec![shell("/case/a.sh")]);
        assert!(
            Plan {
                cases: vec![one(), one()]
            }
            .check()
            .is_ok()
        );
        assert!(
            Plan {
                cases: vec![one(), other]
            }
            .check()
            .unwrap_err()
            .to_string()
            .contains("different files")
        );
    }

    #[test]
    fn a_plan_that_proves_nothing_is_refused() {
        assert!(Plan::default().check().is_err());
        assert!(
            Plan {
                cases: vec![case(&[], vec![])]
            }
            .check()
            .is_err()
        );
        let load = Step::LoadLivepatch {
            ko: "/k".into(),
            name: "k".into(),
            objects: vec![],
        };
        assert!(
            Plan {
                cases: vec![case(&[("/k", "/k")], vec![load])]
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn guest_paths_stay_in_their_place() {
        for bad in ["relative", "/a/../b", "/a//b", "/bin/sh", "/init", "/dev/null", "/"] {
            assert!(check_guest_path(bad).is_err(), "{bad}");
        }
        assert!(check_guest_path("/case/check.sh").is_ok());
    }
}
