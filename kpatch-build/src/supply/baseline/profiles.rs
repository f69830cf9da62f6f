//! Profiles that a kernel is built with. They lie in the build directory, where the recorded commands name them.

use std::fs;

use anyhow::{Context, Result};

use super::make::Make;
use crate::sh;
use crate::supply::manifest::{ProfileTexts, Toolchain};

const SAMPLES: &str = "profile.afdo";
const PREFIX: &str = "profile";

/// The variables that tell kbuild of the profiles. It calls compiler and linker in the build directory, so the names need
/// no folder.
pub(super) fn make_variables(profiles: &ProfileTexts) -> Vec<String> {
    let samples = profiles.samples.iter();
    let samples = samples.map(|_| format!("CLANG_AUTOFDO_PROFILE={SAMPLES}"));
    let clusters = profiles.clusters.iter();
    samples
        .chain(clusters.map(|_| format!("CLANG_PROPELLER_PROFILE_PREFIX={PREFIX}")))
        .collect()
}

/// Writes the profiles into the build directory. Samples become binary, in the form in which tools convert what was
/// sampled on a machine.
pub(super) fn write(profiles: &ProfileTexts, toolchain: &Toolchain, make: &Make<'_>) -> Result<()> {
    let written = |name: &str, text: &str| {
        let path = make.build.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    if let Some(text) = &profiles.clusters {
        written(&format!("{PREFIX}_cc_profile.txt"), text)?;
    }
    if let Some(text) = &profiles.symbols {
        written(&format!("{PREFIX}_ld_profile.txt"), text)?;
    }
    if let Some(text) = &profiles.samples {
        let mut programs = toolchain.programs.keys();
        let program = programs.find(|name| name.starts_with("llvm-profdata"));
        let program = program.context("the toolchain of a configuration with a sample profile has no llvm-profdata")?;
        let text = written(&format!("{SAMPLES}.txt"), text)?;
        let mut merge = sh::command(program);
        merge.args(["merge", "--sample", "--extbinary", "-o"]);
        merge.arg(make.build.join(SAMPLES)).arg(text);
        sh::run_logged(&mut merge, &make.log)?;
    }
    Ok(())
}
