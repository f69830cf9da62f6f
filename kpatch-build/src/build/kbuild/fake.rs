//! A small finished build for tests: an image with a library, two modules, and the records of what was compiled.

use std::fs;
use std::path::{Path, PathBuf};

use kpatch_core::elf::{File, Section};
use object::elf;

use super::{Config, Kbuild, Members, Tools, Trees, tu};
use crate::kernel::{Arch, KernelBuild};

/// The build. The folder is gone with it.
pub struct Fake {
    folder: tempfile::TempDir,
    /// As it would be read.
    pub kbuild: Kbuild,
}

/// Objects and what they are linked into: the image, its library, a module of two files and one of a single file.
const OBJECTS: [&str; 6] = [
    "init/main.o",
    "fs/open.o",
    "lib/string.o",
    "fs/ext4/super.o",
    "fs/ext4/inode.o",
    "sound/snd-a.o",
];

impl Fake {
    /// A build whose objects start with these bytes.
    pub fn of(magic: &[u8]) -> Fake {
        let folder = tempfile::tempdir().unwrap();
        let trees = Trees {
            source: folder.path().join("source"),
            build: folder.path().join("build"),
            objects: folder.path().join("build"),
            recorded: None,
        };
        links(&trees.build);
        for object in OBJECTS {
            put(&trees.build, object, &[magic, b" of ", object.as_bytes()].concat());
            let (folder, name) = object.rsplit_once('/').unwrap();
            let source = trees.source.join(object).with_extension("c");
            put(&trees.source, &format!("{folder}/{name}").replace(".o", ".c"), b"a;\n");
            let (source, record) = (source.display(), format!("{folder}/.{name}.cmd"));
            let text = format!(
                "savedcmd_{object} := cc -Wp,-MMD,{folder}/.{name}.d -D__KERNEL__ -c -o {object} {source}\n\n\
                 source_{object} := {source}\n"
            );
            // A module with a single file has the link behind the compiler.
            if object.starts_with("sound/") {
                put(&trees.build, "sound/snd-a.mod", b"sound/snd-a.o\n");
                let text = text.replacen('\n', " ; ld.lld -r -o sound/.tmp_snd-a.o sound/snd-a.o\n", 1);
                put(&trees.build, &record, text.as_bytes());
            } else {
                put(&trees.build, &record, text.as_bytes());
            }
        }
        let kbuild = Kbuild {
            arch: Arch::X86_64,
            config: Config::default(),
            tools: Tools {
                compiler: "cc 1".into(),
                linker: "ld 1".into(),
            },
            compiler: "cc".into(),
            path: Vec::new(),
            make: Vec::new(),
            module_dir: None,
            tus: tu::scan(&trees.build).unwrap(),
            members: Members::read(&trees.build, &Config::default()).unwrap(),
            trees,
        };
        Fake { folder, kbuild }
    }

    /// The kernel of this build.
    pub fn kernel(&self) -> KernelBuild {
        KernelBuild {
            source: self.kbuild.trees.source.clone(),
            build: self.kbuild.trees.build.clone(),
            vmlinux: self.kbuild.trees.build.join("vmlinux"),
            arch: self.kbuild.arch,
            release: "6.12.1".into(),
            id: "fake".into(),
            log: None,
        }
    }

    /// A folder for outputs.
    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }
}

/// What the image and the modules are linked of.
pub fn links(build: &Path) {
    put(
        build,
        ".vmlinux.o.cmd",
        b"savedcmd_vmlinux.o := ld.lld -r -o vmlinux.o --whole-archive vmlinux.a --no-whole-archive --start-group \
          lib/lib.a --end-group ; ./tools/objtool/objtool --link vmlinux.o\n",
    );
    put(build, "vmlinux.a", &thin(&["init/main.o", "fs/open.o"]));
    put(build, "lib/lib.a", &thin(&["string.o"]));
    put(build, "modules.order", b"fs/ext4/ext4.o\nsound/snd-a.o\n");
    put(build, "fs/ext4/ext4.mod", b"fs/ext4/super.o\nfs/ext4/inode.o\n");
    put(
        build,
        "fs/ext4/.ext4.o.cmd",
        b"savedcmd_fs/ext4/ext4.o := ld.lld -r -o fs/ext4/ext4.o @fs/ext4/ext4.mod  ; ./o\n",
    );
}

/// Writes a file below a folder.
pub fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A thin archive as llvm-ar writes it: names in the long-name table, no member data.
pub fn thin(names: &[&str]) -> Vec<u8> {
    let table: String = names.iter().map(|name| format!("{name}/\n")).collect();
    let mut out = b"!<thin>\n".to_vec();
    out.extend(format!("//{:46}{:<10}`\n{table}", "", table.len()).bytes());
    if out.len() % 2 == 1 {
        out.push(b'\n');
    }
    let mut at = 0;
    for name in names {
        out.extend(format!("{:<16}0           0     0     644     {:<10}`\n", format!("/{at}"), 8).bytes());
        at += name.len() + 2;
    }
    out
}

/// A module that says nothing but its version string.
pub fn ko(vermagic: &str) -> Vec<u8> {
    let data = format!("license=GPL\0vermagic={vermagic}\0").into_bytes();
    let modinfo = Section {
        name: ".modinfo".into(),
        sh_type: elf::SHT_PROGBITS.0,
        size: data.len() as u64,
        data,
        ..Section::default()
    };
    let file = File {
        e_machine: elf::EM_X86_64.0,
        sections: vec![modinfo],
        ..File::default()
    };
    file.write()
}
