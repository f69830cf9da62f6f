//! What the file of a livepatch module says about itself.

use std::fs;
use std::path::{Path, PathBuf};

use object::{Object as _, ObjectSection as _};
use serde::Serialize;

use crate::about::{self, About};
use crate::error::{Error, Result};

/// A livepatch module as a file.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleFile {
    /// Where it is.
    pub path: PathBuf,
    /// The name under which the kernel has it.
    pub name: String,
    /// The release that it is for, the first word of its `vermagic`.
    pub release: String,
    /// Its build id in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// What it is, by its author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it carries about itself; empty for modules of other builders.
    #[serde(flatten)]
    pub about: About,
    #[serde(skip)]
    image: Vec<u8>,
}

impl ModuleFile {
    /// Reads one.
    ///
    /// # Errors
    /// A file that is no kernel module, or a module that is no livepatch.
    pub fn read(path: &Path) -> Result<Self> {
        let image = fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::Usage(format!("there is no file {}", path.display())),
            _ => Error::file("read", path, &error),
        })?;
        let wrong = |why: &str| Error::Usage(format!("{}: {why}", path.display()));
        let info = info(&image).ok_or_else(|| wrong("not a kernel module"))?;
        let first = |key: &str| {
            info.iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value.clone())
        };
        // The mark that makes the kernel accept `.klp.rela` sections (kernel/module/main.c, `check_modinfo_livepatch`).
        if first("livepatch").is_none() {
            return Err(wrong("a module, but not a livepatch"));
        }
        let vermagic = first("vermagic").ok_or_else(|| wrong("does not say which kernel it is for (vermagic)"))?;
        let release = vermagic.split_whitespace().next().unwrap_or_default().to_owned();
        let name = first("name").or_else(|| of_file(path));
        Ok(ModuleFile {
            name: name.ok_or_else(|| wrong("has no name"))?,
            release,
            build_id: section(&image, ".note.gnu.build-id").and_then(|note| about::build_id(&note)),
            description: first("description"),
            about: section(&image, about::SECTION)
                .and_then(|note| About::read(&note))
                .unwrap_or_default(),
            path: path.to_owned(),
            image,
        })
    }

    /// The bytes for the kernel.
    pub fn image(&self) -> &[u8] {
        &self.image
    }
}

/// A module that does not carry its name has that of its file, as kbuild makes it.
fn of_file(path: &Path) -> Option<String> {
    Some(path.file_stem()?.to_string_lossy().replace('-', "_"))
}

/// The pairs of `.modinfo`, in order.
fn info(image: &[u8]) -> Option<Vec<(String, String)>> {
    let data = section(image, ".modinfo")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pair = |entry: &[u8]| {
        let at = entry.iter().position(|byte| *byte == b'=')?;
        Some((text(&entry[..at]), text(&entry[at + 1..])))
    };
    Some(data.split(|byte| *byte == 0).filter_map(pair).collect())
}

pub(crate) fn section(image: &[u8], name: &str) -> Option<Vec<u8>> {
    let file = object::File::parse(image).ok()?;
    Some(file.section_by_name(name)?.data().ok()?.to_vec())
}
