//! The files by which a machine is known: its release, its livepatches and modules, and what is kept for its next boot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::about::{self, About};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::livepatch::Livepatch;

/// A machine, seen from its root folder.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine whose files are below this folder; `/` is the running one.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Machine { root: root.into() }
    }

    /// A path of the machine, given without its leading slash.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// What `uname -r` prints.
    pub fn release(&self) -> Result<String> {
        self.line("proc/sys/kernel/osrelease")
    }

    /// Which boot this is. No two boots of a machine have the same (random(4)).
    pub fn boot_id(&self) -> Result<String> {
        self.line("proc/sys/kernel/random/boot_id")
    }

    /// The words of the kernel's command line.
    pub fn command_line(&self) -> Result<Vec<String>> {
        Ok(self
            .line("proc/cmdline")?
            .split_whitespace()
            .map(str::to_owned)
            .collect())
    }

    /// Why the kernel loads only modules that a key it knows has signed, if it does: `module.sig_enforce`, or lockdown, as
    /// with Secure Boot (Documentation/admin-guide/module-signing.rst, kernel_lockdown(7)).
    pub fn wants_signatures(&self) -> Option<&'static str> {
        let text = |path| fs::read_to_string(self.path(path)).unwrap_or_default();
        if matches!(text("sys/module/module/parameters/sig_enforce").trim(), "Y" | "1") {
            return Some("module.sig_enforce");
        }
        let lockdown = text("sys/kernel/security/lockdown");
        (lockdown.contains('[') && !lockdown.contains("[none]")).then_some("lockdown")
    }

    /// Whether this is a machine that is up, with livepatches. A folder in which somebody installs packages (a chroot, an
    /// image that is being made) is none, even if it shows the attributes of the kernel below.
    pub fn is_up(&self) -> bool {
        let has = |path| self.path(path).is_dir();
        has("run/systemd/system") && has("sys/kernel/livepatch") && self.is_root_of_all()
    }

    /// Whether the first process has the same root. Who may not see that is taken to have it.
    fn is_root_of_all(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let place = |path| fs::metadata(self.path(path)).map(|file| (file.dev(), file.ino())).ok();
        place("proc/1/root/").is_none_or(|of_first| place("").is_none_or(|own| own == of_first))
    }

    fn line(&self, relative: &str) -> Result<String> {
        let path = self.path(relative);
        let text = fs::read_to_string(&path).map_err(|error| Error::file("read", &path, &error))?;
        Ok(text.trim_end().to_owned())
    }

    /// All livepatches that the kernel knows, by name.
    ///
    /// # Errors
    /// A kernel without livepatch support.
    pub fn livepatches(&self) -> Result<Vec<Livepatch>> {
        let folder = self.livepatch_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = "this kernel has no livepatch support (CONFIG_LIVEPATCH), or sysfs is not mounted";
                return Err(Error::Environment(text.to_owned()));
            }
            entries => entries.map_err(|error| Error::file("list", &folder, &error))?,
        };
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        // One may go between the listing and the look.
        Ok(names.iter().filter_map(|name| self.livepatch(name)).collect())
    }

    /// One livepatch, if the kernel has it.
    pub fn livepatch(&self, name: &str) -> Option<Livepatch> {
        Livepatch::read(&self.livepatch_folder().join(name), name)
    }

    /// Where the kernel shows its livepatches (Documentation/ABI/testing/sysfs-kernel-livepatch).
    fn livepatch_folder(&self) -> PathBuf {
        self.path("sys/kernel/livepatch")
    }

    /// Whether a module of this name is loaded. A folder of a part of the image has no `initstate`.
    pub fn has_module(&self, name: &str) -> bool {
        self.module_folder(name).join("initstate").exists()
    }

    /// The build id of a loaded module, in hexadecimal.
    pub fn module_build_id(&self, name: &str) -> Option<String> {
        let note = fs::read(self.module_folder(name).join("notes/.note.gnu.build-id")).ok()?;
        about::build_id(&note)
    }

    /// The build id of the running kernel, in hexadecimal.
    pub fn kernel_build_id(&self) -> Option<String> {
        about::build_id(&fs::read(self.path("sys/kernel/notes")).ok()?)
    }

    /// What a loaded livepatch carries about itself; none if it is of another builder.
    ///
    /// # Errors
    /// Why that cannot be read, in words.
    pub fn about(&self, name: &str) -> std::result::Result<Option<About>, String> {
        let path = self.module_folder(name).join("notes").join(about::SECTION);
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            note => About::read(&note.map_err(|error| format!("its note cannot be read: {error}"))?).map(Some),
        }
    }

    /// How many hold a loaded module.
    pub fn references(&self, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.module_folder(name).join("refcnt")).ok()?;
        text.trim().parse().ok()
    }

    fn module_folder(&self, name: &str) -> PathBuf {
        self.path("sys/module").join(name)
    }

    /// Writes an attribute of a livepatch.
    pub fn write_attribute(
        &self,
        kernel: &dyn Kernel,
        livepatch: &str,
        attribute: &str,
        value: &str,
    ) -> io::Result<()> {
        kernel.write(&self.livepatch_folder().join(livepatch).join(attribute), value)
    }

    /// Whether a livepatch has this attribute.
    pub fn has_attribute(&self, livepatch: &str, attribute: &str) -> bool {
        self.livepatch_folder().join(livepatch).join(attribute).exists()
    }
}

/// Writes a file in one step, and so that it survives a power cut: the content, then the name.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let written = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        io::Write::write_all(&mut file, bytes)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    };
    written().map_err(|error| Error::file("write", path, &error))
}

/// Removes a file so that a power cut does not bring it back. One that is not there is as good.
pub fn remove_durably(path: &Path) -> Result<()> {
    let removed = || -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    removed().map_err(|error| Error::file("remove", path, &error))
}
