//! What the running kernel says about itself: its release, the version of its package, and the build id of its image.

use anyhow::{Context, Result};
use kpatch_runtime::about;

use crate::outcome::Ending;

const RELEASE: &str = "/proc/sys/kernel/osrelease";
const VERSION: &str = "/proc/sys/kernel/version";
const NOTES: &str = "/sys/kernel/notes";

/// The kernel of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// `uname -r`.
    pub release: String,
    /// Version of its source package, which Debian writes into `uname -v`.
    pub version: Option<String>,
    /// Build id in hex, where the kernel shows its notes.
    pub build_id: Option<String>,
}

impl Running {
    /// Asks the kernel.
    pub fn read() -> Result<Self> {
        let release = std::fs::read_to_string(RELEASE).with_context(|| format!("cannot read {RELEASE}"))?;
        let release = release.trim().to_owned();
        if !super::is_release(&release) {
            return Err(Ending::infrastructure(format!(
                "the running kernel, {release}, is no kernel of a distribution; use --source and --build-dir for your own"
            )));
        }
        Ok(Running {
            release,
            version: std::fs::read_to_string(VERSION)
                .ok()
                .and_then(|text| package_version(&text)),
            build_id: std::fs::read(NOTES).ok().and_then(|notes| about::build_id(&notes)),
        })
    }
}

/// `6.1.170-3` of `#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-05-08)`.
fn package_version(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "Debian");
    words.nth(1).map(str::to_owned)
}

/// The archive's kernel of this release is not the one that runs.
pub fn another_build(release: &str, running: &str, found: &str) -> anyhow::Error {
    Ending::infrastructure(format!(
        "this machine runs another build of {release} (build id {running}) than the packages have ({found})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_writes_the_version_of_its_package_behind_its_name() {
        let text = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-3 (2026-05-08)\n";
        assert_eq!(package_version(text).as_deref(), Some("6.1.170-3"));
        assert_eq!(package_version("#2 SMP Fri Nov 27\n"), None);
    }

    #[test]
    fn the_build_id_is_found_behind_other_notes() {
        let note = |name: &[u8], kind: u32, contents: &[u8]| {
            let mut bytes = Vec::new();
            for word in [name.len() as u32, contents.len() as u32, kind] {
                bytes.extend(word.to_ne_bytes());
            }
            for part in [name, contents] {
                bytes.extend(part);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes
        };
        let notes = [note(b"Xen\0", 6, b"x"), note(b"GNU\0", 3, &[0xab, 1, 2, 3, 4, 5, 6, 7])].concat();
        assert_eq!(about::build_id(&notes).as_deref(), Some("ab01020304050607"));
        for end in 0..notes.len() {
            let _ = about::build_id(&notes[..end]);
        }
        assert_eq!(about::build_id(&note(b"GNU\0", 4, b"y")), None);
    }
}
