//! Kernel builds. A kernel contains the paths of its build, so it must be built where it will stay.
//!
//! The folder has the marker file `.incomplete` from the start; the marker is removed last, after everything else has
//! reached the disk. A folder with the marker but without a lock was left by a killed run: it is discarded and the
//! build starts again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::supply::manifest::ProfileTexts;

use super::{FileHashes, Guard, InputHasher, OnWait, Store, cannot, place};

const MARKER: &str = ".incomplete";

/// Everything a build depends on. Two builds with equal inputs are the same build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInputs {
    /// Version of the build recipe, increased when it changes.
    pub recipe: u32,
    /// Kernel version, e.g. `6.12.107`.
    pub version: String,
    /// Architecture as the kernel's tools call it.
    pub arch: String,
    /// Name of the configuration variant.
    pub config: String,
    /// Checksum of the source archive.
    pub source_sha256: String,
    /// The make target that the configuration starts from.
    pub config_base: String,
    /// Text of the fragments laid over it.
    pub fragments: Vec<String>,
    /// What the compiler optimises by.
    #[serde(default, skip_serializing_if = "ProfileTexts::is_empty")]
    pub profiles: ProfileTexts,
    /// Arguments of every make call.
    pub make_variables: Vec<String>,
    /// Make targets, in order.
    pub targets: Vec<String>,
    /// Version lines of the tools.
    pub toolchain: Vec<String>,
}

impl BuildInputs {
    /// The name of the build: readable, and different for different inputs.
    pub fn key(&self) -> Result<String> {
        let text = serde_json::to_vec(self).context("cannot write down the inputs of a build")?;
        let hash = InputHasher::new("kernel build").input("inputs", &text).finish();
        Ok(format!(
            "{}-{}-{}-{}",
            self.version,
            self.arch,
            self.config,
            &hash[..16]
        ))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct BuildRecord {
    inputs: BuildInputs,
    release: String,
    /// How long the build took in seconds; benchmarks compare with it.
    build_seconds: Option<f64>,
}

/// The state of a build's folder.
pub enum BuildSlot {
    /// A finished build, locked against removal.
    Ready(OpenBuild),
    /// No build yet: a folder to make it in.
    Empty(Box<NewBuild>),
}

/// A finished build. It cannot be removed while this value lives.
#[derive(Debug)]
pub struct OpenBuild {
    /// Name of the build: version, architecture, configuration and hash of its inputs.
    pub key: String,
    /// The build directory, to be read only.
    pub build: PathBuf,
    /// `kernelrelease` of the build.
    pub release: String,
    /// How long the build took, if that was recorded.
    pub build_seconds: Option<f64>,
    _guard: Guard,
}

/// A build in progress. Dropping it before `finish` removes the folder.
#[derive(Debug)]
pub struct NewBuild {
    folder: PathBuf,
    trash: PathBuf,
    inputs: BuildInputs,
    finished: bool,
    _guard: Guard,
}

impl Store {
    /// The build with these inputs. Waits while another run makes it.
    pub fn build(&self, inputs: &BuildInputs, wait: OnWait<'_>) -> Result<BuildSlot> {
        let key = inputs.key()?;
        let lock = self.build_lock(&key);
        let guard = Guard::shared(&lock, wait)?;
        if let Some(open) = self.open_build(inputs, &key, guard)? {
            return Ok(BuildSlot::Ready(open));
        }
        self.must_be_writable(&format!("a finished build of {key}"))?;
        let purpose = format!("building Linux {} ({}, {})", inputs.version, inputs.arch, inputs.config);
        let guard = Guard::exclusive(&lock, &purpose, wait)?;
        if self.is_complete(&key) {
            // Another run finished it meanwhile. A shared lock would do, but the exclusive one serves as well.
            let open = self.open_build(inputs, &key, guard)?;
            return open
                .map(BuildSlot::Ready)
                .context("a finished build became unfinished under our lock");
        }
        self.start_build(inputs, &key, guard)
            .map(|new| BuildSlot::Empty(Box::new(new)))
    }

    fn open_build(&self, inputs: &BuildInputs, key: &str, guard: Guard) -> Result<Option<OpenBuild>> {
        if !self.is_complete(key) {
            return Ok(None);
        }
        let folder = self.build_folder(key);
        let record = read_record(&folder)?;
        ensure!(
            record.inputs == *inputs,
            "{} does not match its name: built from other inputs",
            folder.display()
        );
        Ok(Some(OpenBuild {
            key: key.to_owned(),
            build: folder.join("build"),
            release: record.release,
            build_seconds: record.build_seconds,
            _guard: guard,
        }))
    }

    fn start_build(&self, inputs: &BuildInputs, key: &str, guard: Guard) -> Result<NewBuild> {
        let folder = self.build_folder(key);
        let trash = self.root.join("trash");
        place::remove(&folder, &trash)?;
        let make = || -> std::io::Result<()> {
            std::fs::create_dir(&folder)?;
            std::fs::File::create(folder.join(MARKER))?;
            std::fs::create_dir(folder.join("build"))
        };
        make().map_err(|error| cannot(&format!("create {}", folder.display()), &error))?;
        Ok(NewBuild {
            folder,
            trash,
            inputs: inputs.clone(),
            finished: false,
            _guard: guard,
        })
    }

    /// Whether there is a finished build. A folder without its record is unfinished even without the marker: the run
    /// was killed before it wrote the marker.
    pub(super) fn is_complete(&self, key: &str) -> bool {
        let folder = self.build_folder(key);
        folder.join("manifest.json").is_file() && !folder.join(MARKER).exists()
    }

    pub(super) fn build_folder(&self, key: &str) -> PathBuf {
        self.root.join("builds").join(key)
    }

    pub(super) fn build_lock(&self, key: &str) -> PathBuf {
        self.lock_file(&format!("build-{key}"))
    }

    /// The checksum of the source that a finished build was made from.
    pub(super) fn source_of_build(&self, key: &str) -> Result<String> {
        Ok(read_record(&self.build_folder(key))?.inputs.source_sha256)
    }

    /// Files of a finished build that are missing or changed.
    pub(super) fn damage_of_build(&self, key: &str) -> Result<Vec<String>> {
        let folder = self.build_folder(key);
        let path = folder.join("files.json");
        let text = std::fs::read(&path).map_err(|error| cannot(&format!("read {}", path.display()), &error))?;
        let hashes: FileHashes = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        Ok(hashes.differences(&folder.join("build")))
    }
}

impl NewBuild {
    /// The build directory to fill.
    pub fn build(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// Finishes the build: records its files, then removes the marker.
    pub fn finish(mut self, release: &str, took: Duration) -> Result<()> {
        let hashes = FileHashes::of(&self.build(), &is_recorded)?;
        ensure!(
            !hashes.is_empty(),
            "no files in the finished build {}",
            self.build().display()
        );
        self.write("files.json", &hashes)?;
        self.write(
            "manifest.json",
            &BuildRecord {
                inputs: self.inputs.clone(),
                release: release.to_owned(),
                build_seconds: Some(took.as_secs_f64()),
            },
        )?;
        let marker = self.folder.join(MARKER);
        let last = || -> std::io::Result<()> {
            rustix::fs::syncfs(std::fs::File::open(&self.folder)?)?;
            std::fs::remove_file(&marker)?;
            place::sync_folder(&self.folder)
        };
        last().map_err(|error| cannot(&format!("finish {}", self.folder.display()), &error))?;
        self.finished = true;
        Ok(())
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(value).with_context(|| format!("cannot write {name}"))?;
        place::write_whole(&self.folder.join(name), &text)
    }
}

impl Drop for NewBuild {
    fn drop(&mut self) {
        if !self.finished {
            // If this fails, the marker still shows that the folder is incomplete.
            let _ = place::remove(&self.folder, &self.trash);
        }
    }
}

/// Whether a file is recorded: later steps read it, so it must not change (objects, images, commands, generated
/// headers).
fn is_recorded(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "vmlinux",
        "bzImage",
        ".config",
        "Module.symvers",
        "modules.order",
        "kernel.release",
    ];
    const EXTENSIONS: &[&str] = &["o", "a", "ko", "cmd", "mod", "h"];
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    NAMES.contains(&name) || extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

fn read_record(folder: &Path) -> Result<BuildRecord> {
    let path = folder.join("manifest.json");
    let text = std::fs::read(&path).map_err(|error| cannot(&format!("read {}", path.display()), &error))?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
