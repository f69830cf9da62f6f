//! A stock kernel whose parts the user has: unpacked somewhere, or as packages that are not from an archive of Debian's.
//!
//! The source tree and the modules are used where they are. What kbuild wants in its object folder is copied into the
//! store: it gets other times, and headers are often in a folder of root's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::codes::environment::NOT_SHIPPED;
use kpatch_core::{Refusal, Subject};
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
    let state = State {
        source: state(&parts.source, Links::Stay)?,
        headers: state(&parts.headers, Links::LeadOut)?,
    };
    let inputs = InputHasher::new("copied headers")
        .input("build id", build_id.as_bytes())
        .input("configuration", configuration.as_bytes())
        .input("path of the source", parts.source.to_string_lossy().as_bytes())
        .input("source", state.source.as_bytes())
        .input("headers", state.headers.as_bytes());
    let key = format!("{release}-{}", &inputs.finish()[..16]);
    let entry = parts.copied(store, &release, &key, compiler.enter.as_deref(), ui)?;
    let mut notes = Vec::new();
    if !parts.headers.join("include/linux").is_dir() {
        notes.push(format!(
            "{} has no headers of the source (include/linux): that structures are as the kernel has them is not seen, beyond the \
             code that uses them",
            parts.headers.display()
        ));
    }
    let kernel = StockKernel {
        version: release.clone(),
        release,
        arch: Arch::X86_64,
        id: format!("{build_id}-{}-{}", state.source, state.headers),
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
        notes,
        _held: held,
    })
}

impl Parts {
    /// With absolute paths, and each part seen to be one.
    fn found(&self) -> Result<Parts> {
        let lacks = |option: &str, path: &Path, what: &str| {
            Err(Ending::usage(format!("{option} {}: no {what}", path.display())))
        };
        let found = |option: &str, given: &Path| {
            let path = given.canonicalize();
            path.map_err(|error| Ending::usage(format!("{option} {}: {error}", given.display())))
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
        if !parts.image.is_file() {
            return lacks("--image", &self.image, "file");
        }
        for file in OF_HEADERS {
            if !parts.headers.join(file).is_file() {
                let what = format!("{file} there; name the folder that modules are built against");
                return lacks("--headers", &self.headers, &what);
            }
        }
        for program in PROGRAMS {
            if !parts.kbuild.as_ref().unwrap_or(&parts.headers).join(program).is_file() {
                return lacks(
                    "--headers",
                    &self.headers,
                    &format!("{program} there, which kbuild needs"),
                );
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
        // make takes the path apart at some characters, and runs what is in others.
        let is_plain = |c: char| c.is_alphanumeric() || "/._-+~@,=".contains(c);
        if !parts.source.to_string_lossy().chars().all(is_plain) {
            let text = format!(
                "--source {}: make cannot work with this path; rename the folder",
                parts.source.display()
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
        let is_of_release = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        let release =
            release.filter(|name| name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(is_of_release));
        let lacks = || Ending::usage(format!("{} does not name a release", path.display()));
        release.map(str::to_owned).ok_or_else(lacks)
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
    fn copied(&self, store: &Store, release: &str, key: &str, enter: Option<&Path>, ui: &Ui) -> Result<Unpacked> {
        let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
        let _guard = store.fetch_lock(key, &wait)?;
        if let Some(entry) = store.unpacked(key, &wait)? {
            return Ok(entry);
        }
        ui.phase(&format!("copy the headers of {release}"), |_| {
            self.expect_headers_of_source()?;
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
                copied_for: release.to_owned(),
            };
            store.add_unpacked(new, key, &record, &wait)
        })
    }

    /// The proof of a file shows that its code is the kernel's. What a patch brings may use a structure that the file has not
    /// used before, so headers that were shipped must be those of the source.
    fn expect_headers_of_source(&self) -> Result<()> {
        for folder in ["include", "arch/x86/include"] {
            let shipped = self.headers.join(folder);
            if !shipped.is_dir() {
                continue;
            }
            let files = files_below(&shipped, &|name| name.ends_with(".h"));
            for file in files.with_context(|| format!("cannot read {}", shipped.display()))? {
                let name = file.strip_prefix(&self.headers).unwrap_or(&file);
                if name.starts_with("include/config") || name.components().any(|part| part.as_os_str() == "generated") {
                    continue;
                }
                if fs::read(&file).ok() != fs::read(self.source.join(name)).ok() {
                    let why = "the kernel's headers have this file with other contents than the source";
                    let refusal = Refusal::new(NOT_SHIPPED, Subject::file(name.to_string_lossy()), why);
                    return Err(Ending::refused(refusal.hint(
                        "pass the source that this kernel was built from, with its patches applied",
                    )));
                }
            }
        }
        Ok(())
    }
}

/// What kbuild has made in the folder of headers.
const OF_HEADERS: [&str; 4] = [
    "Module.symvers",
    "include/config/auto.conf",
    "include/generated/autoconf.h",
    "include/generated/utsrelease.h",
];

/// The build programs without which kbuild compiles nothing.
const PROGRAMS: [&str; 3] = ["scripts/basic/fixdep", "scripts/mod/modpost", "tools/objtool/objtool"];

/// What the user's folders look like.
struct State {
    source: String,
    headers: String,
}

/// What a folder of the user's looks like: it can change between two runs, and what was kept of the first would be wrong.
///
/// # Errors
/// A usage error for links that lead out of it and must not.
fn state(folder: &Path, links: Links) -> Result<String> {
    let mut hasher = InputHasher::new("state of a folder");
    let mut open = vec![folder.to_owned()];
    while let Some(folder_here) = open.pop() {
        let cannot = || format!("cannot read {}", folder_here.display());
        let mut entries = fs::read_dir(&folder_here)
            .with_context(cannot)?
            .collect::<Result<Vec<_>, _>>()
            .with_context(cannot)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let meta = entry.metadata().with_context(cannot)?;
            if meta.is_dir() {
                open.push(path);
                continue;
            }
            let state = format!("{} {} {}", meta.len(), meta.mtime(), meta.mtime_nsec());
            let leads_out = || path.canonicalize().is_ok_and(|to| !to.starts_with(folder));
            if links == Links::Stay && meta.is_symlink() && is_text_of_kernel(&path) && leads_out() {
                let text = format!(
                    "{} is a link that leads out of {}; copy the tree with `cp -aL`",
                    path.display(),
                    folder.display()
                );
                return Err(Ending::usage(text));
            }
            hasher = hasher.input(&path.to_string_lossy(), state.as_bytes());
        }
    }
    Ok(hasher.finish()[..16].to_owned())
}

/// Where the links of a folder may lead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// Nowhere else, as in a source: readers of headers are looked for among the files themselves.
    Stay,
    /// Anywhere: `scripts` and `tools` of Debian's headers are links into the package of the build programs.
    LeadOut,
}

/// A file that is compiled or included, or a folder of such files.
fn is_text_of_kernel(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    path.is_dir() || ending.is_some_and(|ending| ["c", "h", "S"].contains(&ending))
}

#[cfg(test)]
mod tests;
