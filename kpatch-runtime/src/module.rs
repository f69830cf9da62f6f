//! What the file of a livepatch module says about itself.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use object::{Object as _, ObjectSection as _};
use serde::{Serialize, Serializer};

use crate::about::{self, About};
use crate::error::{Error, Result};

/// No livepatch is larger by far, and all of it is read into memory.
const LARGEST: u64 = 256 << 20;
/// The kernel's own limit of a name, `MODULE_NAME_LEN` without the NUL (include/linux/moduleparam.h), on 64 bit.
const LONGEST_NAME: usize = 55;

/// A livepatch module as a file.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleFile {
    /// Where it is.
    #[serde(serialize_with = "lossy")]
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
    /// A file that is no kernel module, a module that is no livepatch, or one whose name, release or note no builder makes.
    pub fn read(path: &Path) -> Result<Self> {
        let image = bytes(path)?;
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
        if !is_release(&release) {
            return Err(wrong(
                "is for a release that no kernel has (vermagic): it has other characters",
            ));
        }
        let name = first("name")
            .or_else(|| of_file(path))
            .ok_or_else(|| wrong("has no name"))?;
        // As kbuild and the kernel do it.
        let name = name.replace('-', "_");
        if !is_name(&name) {
            return Err(wrong(
                "has a name that no module has: it may have letters, digits and `_`",
            ));
        }
        let about = section(&image, about::SECTION)
            .map(|note| About::read(&note))
            .transpose();
        Ok(ModuleFile {
            name,
            release,
            build_id: section(&image, ".note.gnu.build-id").and_then(|note| about::build_id(&note)),
            description: first("description").map(|text| about::plain(&text)),
            about: about.map_err(|why| wrong(&why))?.unwrap_or_default(),
            path: path.to_owned(),
            image,
        })
    }

    /// The bytes for the kernel.
    pub fn image(&self) -> &[u8] {
        &self.image
    }
}

/// The bytes of a module's file.
///
/// # Errors
/// [`Error::Usage`] for what is no file of a size that a module can have, or is packed.
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    let wrong = |why: &str| Error::Usage(format!("{}: {why}", path.display()));
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Error::Usage(format!("there is no file {}", path.display()))
        }
        _ => Error::file("read", path, &error),
    };
    // A pipe that nobody writes to would be waited for.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::File::options().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(cannot)?;
    let kind = file.metadata().map_err(cannot)?;
    if kind.is_dir() {
        return Err(wrong("is a folder"));
    }
    if !kind.is_file() {
        return Err(wrong("is no ordinary file"));
    }
    let mut bytes = Vec::new();
    if kind.len() <= LARGEST {
        // It may grow while it is read.
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
    }
    if kind.len() > LARGEST || bytes.len() as u64 > LARGEST {
        return Err(wrong("is larger than 256 MiB: no livepatch"));
    }
    let packed = [&b"\xfd7zXZ\0"[..], b"\x1f\x8b", b"\x28\xb5\x2f\xfd"];
    if packed.iter().any(|magic| bytes.starts_with(magic)) {
        return Err(wrong("is compressed; unpack it first (xz -d, gzip -d or zstd -d)"));
    }
    Ok(bytes)
}

/// Whether a module can have this name. It becomes part of paths and of scripts.
pub fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain && (1..=LONGEST_NAME).contains(&name.len())
}

/// Whether a kernel can have this release. It becomes part of paths, of scripts and of the dependencies of packages.
pub fn is_release(release: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
    // The first character keeps out hidden folders, `.` and `..`, and what looks like an option.
    release.starts_with(|first: char| first.is_ascii_alphanumeric()) && release.bytes().all(plain)
}

/// A path as text: one that is not UTF-8 is shown as well as possible.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
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
