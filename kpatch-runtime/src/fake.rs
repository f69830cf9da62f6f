//! A machine in a folder, and a kernel that changes it as the real one would.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use object::write::Object;
use object::{Architecture, BinaryFormat, Endianness, SectionKind};
use tempfile::TempDir;

use crate::about::{self, About};
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::module::ModuleFile;

/// The release of the fake machine.
pub const RELEASE: &str = "6.1.0-fake";

/// How a module is made.
#[derive(Default, Clone)]
pub struct Spec {
    pub release: Option<&'static str>,
    pub keep: bool,
    pub build: u8,
    pub foreign: bool,
    /// The build id of the image that it is for.
    pub image: &'static str,
}

/// A machine and its kernel.
pub struct Fake {
    pub folder: TempDir,
    pub machine: Machine,
    /// How many pauses a transition takes.
    pub pauses: Cell<u32>,
    /// Livepatches whose module holds itself.
    pub permanent: RefCell<Vec<String>>,
    /// What the kernel answers to the next module.
    pub refuses: Cell<Option<i32>>,
    /// The livepatches that lie on top of each other, from the bottom; others replace all that are there.
    pub stack: RefCell<Vec<String>>,
    /// The livepatch at which the machine ends.
    pub dies_of: RefCell<Option<String>>,
    left: Cell<u32>,
    now: Cell<Duration>,
}

impl Fake {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let fake = Fake {
            machine: Machine::at(folder.path()),
            folder,
            pauses: Cell::new(3),
            permanent: RefCell::default(),
            refuses: Cell::default(),
            stack: RefCell::default(),
            dies_of: RefCell::default(),
            left: Cell::default(),
            now: Cell::default(),
        };
        fake.put("proc/sys/kernel/osrelease", RELEASE);
        fake.put("proc/cmdline", "quiet");
        fake.boot("one");
        fake
    }

    /// Starts the machine again: nothing is loaded any more.
    pub fn boot(&self, id: &str) {
        _ = fs::remove_dir_all(self.path("sys"));
        fs::create_dir_all(self.path("sys/kernel/livepatch")).unwrap();
        self.put("sys/kernel/notes", note(b"GNU\0", 3, &[0xab; 4]));
        self.put("proc/sys/kernel/random/boot_id", id);
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn put(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A task that a transition waits for.
    pub fn task(&self, number: u32, patch_state: &str, function: &str) {
        let folder = format!("proc/{number}/task/{number}");
        self.put(&format!("{folder}/patch_state"), patch_state);
        self.put(&format!("{folder}/comm"), "a (sleeper)\n");
        self.put(&format!("{folder}/stat"), format!("{number} (a (sleeper)) D 1 1"));
        let stack = format!("[<0>] schedule+0x1/0x2\n[<0>] {function}+0x12/0x340\n");
        self.put(&format!("{folder}/stack"), stack);
        self.put(&format!("{folder}/wchan"), "schedule");
    }

    /// Writes a livepatch into the machine's `/root`.
    pub fn file(&self, name: &str, spec: &Spec) -> ModuleFile {
        let path = format!("root/{name}.ko");
        self.put(&path, image(name, spec));
        ModuleFile::read(&self.path(&path)).unwrap()
    }

    fn attribute(&self, name: &str, attribute: &str) -> Option<String> {
        let path = self.path(&format!("sys/kernel/livepatch/{name}/{attribute}"));
        fs::read_to_string(path).ok()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("sys/kernel/livepatch")).unwrap().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    fn release(&self, name: &str) {
        _ = fs::remove_dir_all(self.path(&format!("sys/kernel/livepatch/{name}")));
        if !self.permanent.borrow().iter().any(|one| one == name) {
            self.put(&format!("sys/module/{name}/refcnt"), "0");
        }
    }

    /// The transition that is under way ends. Each livepatch replaces all others.
    fn end_transition(&self) {
        let is = |name: &str, attribute: &str| self.attribute(name, attribute).as_deref() == Some("1");
        let names = self.names();
        let Some(name) = names.iter().find(|name| is(name, "transition")) else {
            return;
        };
        if !is(name, "enabled") {
            return self.release(name);
        }
        self.put(&format!("sys/kernel/livepatch/{name}/transition"), "0");
        if self.stack.borrow().contains(name) {
            return;
        }
        for other in names.iter().filter(|other| *other != name) {
            self.release(other);
        }
    }
}

impl Kernel for Fake {
    fn insert(&self, image: &[u8]) -> (io::Result<()>, Vec<String>) {
        if let Some(code) = self.refuses.take() {
            let log = vec![
                "livepatch: symbol 'f' not found in symbol table".to_owned(),
                "usb: hello".to_owned(),
            ];
            return (Err(io::Error::from_raw_os_error(code)), log);
        }
        let path = self.path("root/inserted.ko");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, image).unwrap();
        let file = ModuleFile::read(&path).unwrap();
        let name = &file.name;
        assert_ne!(self.dies_of.borrow().as_ref(), Some(name), "the machine ends here");
        for (attribute, value) in [("enabled", "1"), ("transition", "1"), ("vmlinux/patched", "1")] {
            self.put(&format!("sys/kernel/livepatch/{name}/{attribute}"), value);
        }
        fs::create_dir_all(self.path(&format!("sys/kernel/livepatch/{name}/vmlinux/wait_for_it,1"))).unwrap();
        self.put(&format!("sys/module/{name}/initstate"), "live");
        self.put(&format!("sys/module/{name}/refcnt"), "1");
        for section in [".note.gnu.build-id", about::SECTION] {
            if let Some(bytes) = crate::module::section(image, section) {
                self.put(&format!("sys/module/{name}/notes/{section}"), bytes);
            }
        }
        self.left.set(self.pauses.get());
        (Ok(()), Vec::new())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let error = |code: rustix::io::Errno| Err(io::Error::from_raw_os_error(code.raw_os_error()));
        match self.machine.references(name) {
            None => error(rustix::io::Errno::NOENT),
            Some(0) => fs::remove_dir_all(self.path(&format!("sys/module/{name}"))),
            Some(_) => error(rustix::io::Errno::WOULDBLOCK),
        }
    }

    fn write(&self, attribute: &Path, value: &str) -> io::Result<()> {
        fs::metadata(attribute)?;
        if attribute.ends_with("enabled") {
            let is_there = |name: &&String| self.attribute(name, "enabled").is_some();
            let top = self.stack.borrow().iter().rfind(is_there).cloned();
            let folder = attribute.parent().and_then(Path::file_name);
            if top.is_some_and(|top| folder != Some(top.as_ref())) {
                return Err(io::Error::from_raw_os_error(rustix::io::Errno::BUSY.raw_os_error()));
            }
            fs::write(attribute.with_file_name("transition"), "1")?;
            self.left.set(self.pauses.get());
        }
        fs::write(attribute, value)
    }

    fn sleep(&self, time: Duration) {
        self.now.set(self.now.get() + time);
        match self.left.get() {
            0 => self.end_transition(),
            u32::MAX => {}
            left => self.left.set(left - 1),
        }
    }

    fn elapsed(&self) -> Duration {
        self.now.get()
    }

    fn wall_clock(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }
}

/// The bytes of a module.
pub fn image(name: &str, spec: &Spec) -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let mut section = |name: &str, kind, bytes: &[u8]| {
        let id = object.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
        object.append_section_data(id, bytes, 4);
    };
    let release = spec.release.unwrap_or(RELEASE);
    let info = format!("livepatch=Y\0name={name}\0vermagic={release} SMP mod_unload \0");
    section(".modinfo", SectionKind::ReadOnlyData, info.as_bytes());
    section(
        ".note.gnu.build-id",
        SectionKind::Note,
        &note(b"GNU\0", 3, &[spec.build; 4]),
    );
    if !spec.foreign {
        let about = About {
            fixes: vec![format!("fix of {name}")],
            functions: vec!["vmlinux:wait_for_it,1".to_owned()],
            build_ids: [("vmlinux", spec.image), ("ext4", "01010101")]
                .into_iter()
                .filter(|(_, id)| !id.is_empty())
                .map(|(name, id)| (name.to_owned(), id.to_owned()))
                .collect(),
            keep: if spec.keep {
                vec!["new_timer".to_owned()]
            } else {
                Vec::new()
            },
            series: Vec::new(),
        };
        let text = about.text() + "\0";
        section(
            about::SECTION,
            SectionKind::Note,
            &note(b"kpatch\0\0", about::TYPE, text.as_bytes()),
        );
    }
    object.write().unwrap()
}

/// A note whose name is padded already.
pub fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
    let length = name.iter().rposition(|byte| *byte != 0).unwrap() + 2;
    let mut note = Vec::new();
    for word in [
        u32::try_from(length).unwrap(),
        u32::try_from(content.len()).unwrap(),
        kind,
    ] {
        note.extend(word.to_ne_bytes());
    }
    note.extend(name);
    note.extend(content);
    note
}
