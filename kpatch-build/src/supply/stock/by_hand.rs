//! A stock kernel whose parts the user has: unpacked somewhere, or as packages that are not from an archive of Debian's.
//!
//! The source tree and the modules are used where they are. What kbuild wants in its object folder is copied into the
//! store: it gets other times, and headers are often in a folder of root's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Supplied, compiler, foreign, objects, vmlinuz};
use crate::kernel::{Arch, StockKernel};
use crate::outcome::Ending;
use crate::supply::apt::debian_codename;
use crate::supply::store::{InputHasher, Store, Unpacked, files_below};
use crate::ui::{Ui, waiting};

/// What the user has of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByHand {
    /// Unpacked parts.
    Parts(Parts),
    /// Packages of any maker, as files or in folders, and the source tree if it is in none of them.
    Packages {
        /// `.deb` and `.rpm`.
        files: Vec<PathBuf>,
        /// The source tree.
        source: Option<PathBuf>,
    },
}

/// The parts of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// `vmlinuz` as it is booted.
    pub image: PathBuf,
    /// `lib/modules/RELEASE`.
    pub modules: PathBuf,
    /// What modules are built against: configuration, generated headers, `Module.symvers`, `scripts`, `tools/objtool`.
    pub headers: PathBuf,
    /// The folder of `scripts` and `tools`, where they are in a package of their own.
    pub kbuild: Option<PathBuf>,
    /// The source that it was built from.
    pub source: PathBuf,
}

/// The record of the copied parts.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    about: String,
    copied_for: String,
}

/// Supplies the kernel.
pub fn supply(store: &Store, by_hand: &ByHand, ui: &Ui) -> Result<Supplied> {
    match by_hand {
        ByHand::Parts(parts) => of_parts(store, parts, Vec::new(), ui),
        ByHand::Packages { files, source } => {
            let (parts, held) = foreign::unpacked(store, files, source.as_deref(), ui)?;
            of_parts(store, &parts, vec![held], ui)
        }
    }
}

fn of_parts(store: &Store, parts: &Parts, mut held: Vec<Unpacked>, ui: &Ui) -> Result<Supplied> {
    let parts = parts.found()?;
    let bytes = fs::read(&parts.image).with_context(|| format!("cannot read {}", parts.image.display()))?;
    let image = vmlinuz::unpack(&bytes).with_context(|| parts.image.display().to_string())?;
    let build_id = vmlinuz::build_id(&image).with_context(|| parts.image.display().to_string())?;
    let release = parts.release()?;
    parts.expect_of_one_kernel(&release, vmlinuz::release(&bytes).as_deref())?;
    let config = parts.config()?;
    let configuration = fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
    if objects::setting(&configuration, "CONFIG_X86_64") != Some("y") {
        let text = format!("{release}: kernels that were built elsewhere are supported for x86_64 only");
        return Err(Ending::infrastructure(text));
    }
    objects::expect_livepatch(&configuration, &release)?;
    // Another distribution's machine has the compiler or cannot get it.
    let codename = debian_codename().unwrap_or_default();
    let compiler = compiler::of(store, &configuration, &codename, ui)?;
    let entry = parts.copied(store, &release, &build_id, compiler.enter.as_deref(), ui)?;
    let kernel = StockKernel {
        version: release.clone(),
        release,
        arch: Arch::X86_64,
        id: format!("{build_id}-{}-{}", state(&parts.source)?, state(&parts.headers)?),
        source: parts.source,
        objects: entry.folder.join("objects"),
        vmlinuz: parts.image,
        modules: parts.modules,
        tools: compiler.tools,
        build_id,
    };
    held.push(entry);
    held.extend(compiler.held);
    Ok(Supplied {
        kernel,
        notes: Vec::new(),
        _held: held,
    })
}

impl Parts {
    /// With absolute paths, and each part seen to be one.
    fn found(&self) -> Result<Parts> {
        let lacks = |option: &str, path: &Path, what: &str| {
            Err(Ending::usage(format!("{option} {}: no {what}", path.display())))
        };
        let found = |option: &str, path: &Path| {
            let path = path.canonicalize();
            path.map_err(|error| Ending::usage(format!("{option}: {error}")))
        };
        let parts = Parts {
            image: found("--image", &self.image)?,
            modules: found("--modules", &self.modules)?,
            headers: found("--headers", &self.headers)?,
            kbuild: self.kbuild.clone(),
            source: found("--source", &self.source)?,
        };
        if !parts.modules.join("modules.builtin").is_file() {
            return lacks(
                "--modules",
                &self.modules,
                "modules.builtin there; name the folder lib/modules/RELEASE",
            );
        }
        for file in [
            "Module.symvers",
            "include/config/auto.conf",
            "include/generated/autoconf.h",
        ] {
            if !parts.headers.join(file).is_file() {
                let what = format!("{file} there; name the folder that modules are built against");
                return lacks("--headers", &self.headers, &what);
            }
        }
        if !parts.source.join("kernel/fork.c").is_file() {
            return lacks("--source", &self.source, "kernel source there");
        }
        if parts.source.join("include/generated").exists() {
            let text = format!(
                "--source {}: a kernel was built in this tree, and its generated headers would be taken; name an unpacked \
                 source, or leave --image out and use --build-dir",
                self.source.display()
            );
            return Err(Ending::usage(text));
        }
        Ok(parts)
    }

    /// The configuration. `make bindeb-pkg` leaves it out of the headers and puts it beside the image, `make rpm-pkg` beside
    /// the modules.
    fn config(&self) -> Result<PathBuf> {
        let boot = self.image.with_file_name(format!("config-{}", self.release()?));
        let places = [self.headers.join(".config"), self.modules.join("config"), boot];
        let found = places.iter().find(|path| path.is_file()).cloned();
        found.ok_or_else(|| {
            let [headers, modules, boot] = places.map(|path| path.display().to_string());
            Ending::usage(format!("no configuration: looked for {headers}, {modules} and {boot}"))
        })
    }

    /// As `uname -r` prints it. Debian's kernel.release has another.
    fn release(&self) -> Result<String> {
        let path = self.headers.join("include/generated/utsrelease.h");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let release = text
            .lines()
            .find_map(|line| line.strip_prefix("#define UTS_RELEASE \""));
        let release = release.and_then(|rest| rest.strip_suffix('"'));
        release
            .map(str::to_owned)
            .with_context(|| format!("{} has no UTS_RELEASE", path.display()))
    }

    /// Parts of two kernels would fit each other almost everywhere, which is the worst that they can do.
    fn expect_of_one_kernel(&self, release: &str, of_image: Option<&str>) -> Result<()> {
        let of_modules = self.modules.file_name().and_then(|name| name.to_str());
        // A folder with another kind of name says nothing.
        let of_modules = of_modules.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()));
        for (option, found) in [("--image", of_image), ("--modules", of_modules)] {
            if let Some(found) = found.filter(|found| *found != release) {
                let text = format!("{option} is of {found}, and --headers is of {release}");
                return Err(Ending::usage(text));
            }
        }
        Ok(())
    }

    /// The object folder, in the store.
    fn copied(&self, store: &Store, release: &str, build_id: &str, enter: Option<&Path>, ui: &Ui) -> Result<Unpacked> {
        let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
        let key = InputHasher::new("copied headers")
            .input("build id", build_id.as_bytes())
            .input("source", self.source.to_string_lossy().as_bytes())
            .input("headers", state(&self.headers)?.as_bytes())
            .finish();
        let key = format!("{release}-{}", &key[..16]);
        let _guard = store.fetch_lock(&key, &wait)?;
        if let Some(entry) = store.unpacked(&key, &wait)? {
            return Ok(entry);
        }
        ui.phase(&format!("copy the headers of {release}"), |_| {
            let new = store.new_unpacked()?;
            let folder = new.folder().join("objects");
            objects::copy(
                &self.headers,
                &self.config()?,
                self.kbuild.as_deref(),
                &self.source,
                &folder,
            )?;
            objects::make_programs_run(&folder, enter)?;
            let record = Record {
                about: format!("{release} (headers of a kernel from elsewhere)"),
                copied_for: build_id.to_owned(),
            };
            store.add_unpacked(new, &key, &record, &wait)
        })
    }
}

/// What a folder of the user's looks like: it can change between two runs, and what was kept of the first would be wrong.
fn state(folder: &Path) -> Result<String> {
    let mut hasher = InputHasher::new("state of a folder");
    let files = files_below(folder, &|_| true);
    for file in files.with_context(|| format!("cannot read {}", folder.display()))? {
        let meta = file.metadata();
        let meta = meta.with_context(|| format!("cannot look at {}", file.display()))?;
        let state = format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec());
        hasher = hasher.input(&file.to_string_lossy(), state.as_bytes());
    }
    Ok(hasher.finish()[..16].to_owned())
}

#[cfg(test)]
mod tests;
