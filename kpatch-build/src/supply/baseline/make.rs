//! Calls the kernel's make, always out of tree and always with the same few variables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::sh;
use crate::ui::Phase;

/// Without these, kbuild compiles in who built the kernel, where and when, and no two builds are equal.
const FIXED: [&str; 3] = [
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER=kpatch",
    "KBUILD_BUILD_HOST=kpatch",
];

/// A source tree, a build directory, and where the output goes.
pub(super) struct Make<'a> {
    pub source: &'a Path,
    pub build: PathBuf,
    pub variables: &'a [String],
    pub log: PathBuf,
    /// Environment variables in addition to those that every program gets.
    pub environment: Vec<(OsString, OsString)>,
}

impl Make<'_> {
    fn command(&self) -> Command {
        let mut command = sh::command("make");
        command
            .arg("-C")
            .arg(self.source)
            .arg(format!("O={}", self.build.display()));
        command.args(self.variables).args(FIXED);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Makes a configuration target, without output.
    pub fn target(&self, target: &str) -> Result<()> {
        sh::run_logged(self.command().arg(target), &self.log)
    }

    /// Makes the kernel. Each step that kbuild prints advances the phase.
    pub fn build(&self, targets: &[String], jobs: usize, phase: &Phase) -> Result<()> {
        let mut command = self.command();
        command.arg(format!("-j{jobs}")).args(targets);
        let mut steps = 0_u64;
        sh::run_streamed(&mut command, &self.log, &mut |line| {
            if let Some(file) = step(line) {
                steps += 1;
                phase.message(file);
                phase.step();
            }
        })?;
        ensure!(
            steps > 0,
            "make succeeded but built nothing; log: {}",
            self.log.display()
        );
        Ok(())
    }

    /// `kernelrelease`, as recorded by the build.
    pub fn release(&self) -> Result<String> {
        let path = self.build.join("include/config/kernel.release");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Fails unless the build has made these files.
    pub fn expect_files<const N: usize>(&self, files: [&Path; N]) -> Result<()> {
        for file in files.map(|file| self.build.join(file)) {
            let made = file.metadata().is_ok_and(|meta| meta.len() > 0);
            ensure!(
                made,
                "make succeeded but did not build {}; log: {}",
                file.display(),
                self.log.display()
            );
        }
        Ok(())
    }
}

/// The file that a line of kbuild's short output is about: `  CC [M]  net/ipv6/anycast.o`.
fn step(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("  ")?;
    let (verb, file) = rest.split_once("  ")?;
    let known = verb.starts_with(|c: char| c.is_ascii_uppercase());
    known.then(|| file.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_kbuilds_short_lines() {
        assert_eq!(step("  CC [M]  net/ipv6/anycast.o"), Some("net/ipv6/anycast.o"));
        assert_eq!(step("  LD      vmlinux.o"), Some("vmlinux.o"));
        assert_eq!(step("make[1]: Entering directory '/x'"), None);
        assert_eq!(step("  warning: something"), None);
        assert_eq!(step("    4 | int x;"), None);
    }
}
