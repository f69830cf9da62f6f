//! Headers for the authors of patches: a patch may include them although the kernel does not have them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Name below the folder, and text.
const ALL: [(&str, &str); 3] = [
    ("kpatch-macros.h", include_str!("../../../headers/kpatch-macros.h")),
    ("kpatch-syscall.h", include_str!("../../../headers/kpatch-syscall.h")),
    (
        "linux/livepatch_helpers.h",
        include_str!("../../../headers/linux/livepatch_helpers.h"),
    ),
];

/// Writes them into a folder of the work folder.
pub fn write(work: &Path) -> Result<PathBuf> {
    let folder = work.join("headers");
    for (name, text) in ALL {
        let file = folder.join(name);
        let parent = file.parent().unwrap_or(&folder);
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(folder)
}

/// A command of the patched side that finds them behind all of the kernel's own: a file of the same name that the kernel
/// has comes first.
pub fn with(words: &[String], headers: &Path) -> Vec<String> {
    let last = ["-idirafter".to_owned(), headers.display().to_string()];
    words.iter().cloned().chain(last).collect()
}
