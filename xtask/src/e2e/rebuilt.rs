//! Another build of a module: what somebody has who built it again from a source that says something else.
//!
//! It has all that the livepatch asks for, under the same names and at the same places, so nothing but the build id tells
//! the two apart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use kpatch_build::build::kbuild::modules::name_of_ko;
use kpatch_build::supply::stock::vmlinuz;

/// Other builds of those of these modules that are named, as files in this folder.
pub fn of(names: &[String], modules: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>> {
    let named = modules.iter().filter(|ko| names.contains(&name_of_ko(ko)));
    named.map(|ko| write(ko, folder)).collect()
}

fn write(ko: &Path, folder: &Path) -> Result<PathBuf> {
    let bytes = fs::read(ko).with_context(|| format!("cannot read {}", ko.display()))?;
    let other = other_build(bytes).with_context(|| format!("{} cannot be another build", ko.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(ko.file_name().unwrap_or_default());
    fs::write(&path, other).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The same module with another description, and another build id for that.
fn other_build(mut module: Vec<u8>) -> Result<Vec<u8>> {
    let id = vmlinuz::build_id(&module)?;
    let digits = |at: usize| u8::from_str_radix(&id[at..at + 2], 16);
    let id: Vec<u8> = (0..id.len()).step_by(2).map(digits).collect::<Result<_, _>>()?;
    let description: &[u8] = b"description=";
    for (wanted, behind) in [(&*id, 0), (description, description.len())] {
        let at = module.windows(wanted.len()).position(|window| window == wanted);
        let at = at.context("it lacks a build id or a description")? + behind;
        *module.get_mut(at).context("the file is cut short")? ^= 1;
    }
    Ok(module)
}
