//! Finds everything a finished build compiled: one [`Tu`] for each `.cmd` file that names a source.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use super::cmdfile::CmdFile;

/// What the compiler made of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// LLVM bitcode, compiled to machine code at link time. Also the object of a module with a single source, where
    /// kbuild replaces the bitcode by the linked object at once.
    Bitcode,
    /// A native object compiled from C.
    NativeC,
    /// A native object assembled from `.S`.
    Assembly,
    /// Text that other steps read: `asm-offsets.s`, linker scripts.
    Generated,
    /// A program (or part of one) that runs on the build machine.
    Host,
}

/// One translation unit of a build.
#[derive(Debug, Clone)]
pub struct Tu {
    /// What was made, relative to the build directory: `fs/proc/meminfo.o`.
    pub object: String,
    /// The source as the command spells it.
    pub source: String,
    /// What kind of thing was made.
    pub kind: Kind,
    file: CmdFile,
    /// How the record spells what was made, and kbuild's temporary beside it, where that is not as here.
    spelt: Vec<(String, String)>,
}

/// The recorded command of a TU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The compiler and its arguments.
    pub compiler: Vec<String>,
    /// What kbuild ran afterwards on the object: objtool, or the link of a module with a single source.
    pub tail: Vec<Vec<String>>,
}

/// Programs known to work on one finished object. Anything else after a compile is not understood.
const TAIL_PROGRAMS: &[&str] = &["objtool", "ld.lld", "ld", "mv", "recordmcount", ":"];

impl Tu {
    /// Every file the TU was made from except its source, spelt as in the build.
    pub fn deps(&self) -> impl Iterator<Item = &str> {
        self.file.deps()
    }

    /// The recorded command, in a form that can be run again.
    pub fn recorded(&self) -> Result<Recorded> {
        let what = || format!("the recorded command of {} is not understood", self.object);
        let mut commands = self.file.commands().with_context(what)?.into_iter();
        let compiler = commands.next().with_context(what)?;
        let tail: Vec<_> = commands.collect();
        for command in &tail {
            if !is_tail_program(&command[0]) {
                bail!("{}: `{}` after the compiler is unknown", what(), command[0]);
            }
        }
        let mut recorded = Recorded { compiler, tail };
        self.rename(&mut recorded);
        Ok(recorded)
    }

    /// What was made, as its record spells it.
    pub fn target(&self) -> Option<&str> {
        self.file.target()
    }

    /// Says how the folder is spelt that objects are counted from, if records name them with it: as kbuild does for modules
    /// outside of the kernel's tree.
    pub fn spelt_below(&mut self, folder: &str) {
        let temporary = temporary(&self.object);
        let names = [&self.object, &temporary];
        let names = names.map(|name| (format!("{folder}{name}"), name.clone()));
        self.spelt = names.into_iter().collect();
        self.spelt.push((format!("./{temporary}"), temporary));
    }

    fn rename(&self, recorded: &mut Recorded) {
        let words = recorded.compiler.iter_mut().chain(recorded.tail.iter_mut().flatten());
        for word in words {
            if let Some((_, name)) = self.spelt.iter().find(|(spelt, _)| spelt == word) {
                word.clone_from(name);
            }
        }
    }
}

/// What kbuild calls an object while a module with a single source is linked.
pub fn temporary(object: &str) -> String {
    match object.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/.tmp_{name}"),
        None => format!(".tmp_{object}"),
    }
}

fn is_tail_program(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or(program);
    // A version suffix as in `ld.lld-19` does not make it another program.
    let name = name
        .trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
        .trim_end_matches('-');
    TAIL_PROGRAMS.contains(&name)
}

/// Reads all `.cmd` files below a build directory, keyed by what they made.
pub fn scan(build: &Path) -> Result<BTreeMap<String, Tu>> {
    let files = cmd_files(build.to_path_buf(), 0)?;
    let found: Result<Vec<_>> = files.par_iter().map(|path| one(build, path)).collect();
    Ok(found?.into_iter().flatten().map(|tu| (tu.object.clone(), tu)).collect())
}

/// Deeper than any kernel tree; a loop of links must not hang the search.
const DEEPEST: usize = 40;

fn cmd_files(folder: PathBuf, depth: usize) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // Links are not followed: `source` and `build` in a build directory lead to whole other trees.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(entry.path());
        } else if name.starts_with('.') && name.ends_with(".cmd") {
            files.push(entry.path());
        }
    }
    if depth < DEEPEST {
        let below: Result<Vec<_>> = folders
            .into_par_iter()
            .map(|below| cmd_files(below, depth + 1))
            .collect();
        files.extend(below?.into_iter().flatten());
    }
    Ok(files)
}

/// The TU of one `.cmd` file, if it is of one.
pub fn one(build: &Path, path: &Path) -> Result<Option<Tu>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Ok(None);
    };
    let file = CmdFile::new(text);
    let Some(source) = file
        .source()
        .filter(|source| source.ends_with(".c") || source.ends_with(".S"))
    else {
        return Ok(None);
    };
    let Some(object) = target_of(build, path) else {
        return Ok(None);
    };
    let Some(kind) = kind(build, &object, source, file.raw_command().unwrap_or_default())? else {
        return Ok(None);
    };
    Ok(Some(Tu {
        object,
        source: source.to_owned(),
        kind,
        file,
        spelt: Vec::new(),
    }))
}

/// `fs/proc/.meminfo.o.cmd` belongs to `fs/proc/meminfo.o`. The name inside the file may be spelt otherwise.
fn target_of(build: &Path, cmd: &Path) -> Option<String> {
    let name = cmd.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(".cmd")?;
    Some(cmd.with_file_name(name).strip_prefix(build).ok()?.to_str()?.to_owned())
}

fn kind(build: &Path, object: &str, source: &str, command: &str) -> Result<Option<Kind>> {
    if !command.contains(" -D__KERNEL__ ") && !command.contains(" -D__KERNEL__=") {
        // Also real-mode boot code, which the place of the object tells apart later.
        return Ok(Some(Kind::Host));
    }
    let extension = object.rsplit_once('.').map_or("", |(_, extension)| extension);
    Ok(match extension {
        "s" | "lds" => Some(Kind::Generated),
        "o" if source.ends_with(".S") => Some(Kind::Assembly),
        "o" if is_bitcode(&build.join(object))? || compiles_to_bitcode(command) => Some(Kind::Bitcode),
        "o" => Some(Kind::NativeC),
        _ => None,
    })
}

/// Whether the last word on link time optimisation was yes; kbuild appends `-fno-lto` or `-flto` for exceptions.
fn compiles_to_bitcode(command: &str) -> bool {
    let mut words = command.split(" ; ").next().unwrap_or_default().split_whitespace();
    words
        .rfind(|word| word.starts_with("-flto") || *word == "-fno-lto")
        .is_some_and(|word| word != "-fno-lto")
}

/// Whether a file is LLVM bitcode, plain or in its wrapper.
pub fn is_bitcode(path: &Path) -> Result<bool> {
    let mut magic = [0; 4];
    let mut file = match File::open(path) {
        Ok(file) => file,
        // A `.cmd` file may outlive its object (intermediate files are deleted).
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", path.display())),
    };
    match file.read_exact(&mut magic) {
        Ok(()) => Ok(has_bitcode_magic(magic)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn has_bitcode_magic(magic: [u8; 4]) -> bool {
    magic == *b"BC\xc0\xde" || magic == 0x0b17_c0de_u32.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(build: &Path, path: &str, bytes: &[u8]) {
        let path = build.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn cmd(object: &str, source: &str, flags: &str) -> Vec<u8> {
        format!("savedcmd_{object} := clang {flags} -c -o {object} {source}\n\nsource_{object} := {source}\n")
            .into_bytes()
    }

    #[test]
    fn kinds_come_from_magic_and_command() {
        let folder = tempfile::tempdir().unwrap();
        let build = folder.path();
        for (name, source, flags, bytes) in [
            ("plain", "c", " -D__KERNEL__ ", &b"BC\xc0\xde...."[..]),
            ("wrapped", "c", " -D__KERNEL__ ", b"\xde\xc0\x17\x0b...."),
            ("single", "c", " -D__KERNEL__ -fno-lto -flto=thin", b"\x7fELF"),
            ("native", "c", " -D__KERNEL__ -flto=thin -fno-lto", b"\x7fELF"),
            ("assembly", "S", " -D__KERNEL__ ", b"\x7fELF"),
            ("host", "c", "", b"\x7fELF"),
        ] {
            put(build, &format!("fs/{name}.o"), bytes);
            let object = format!("fs/{name}.o");
            put(
                build,
                &format!("fs/.{name}.o.cmd"),
                &cmd(&object, &format!("/s/fs/{name}.{source}"), flags),
            );
        }
        put(
            build,
            "fs/.linked.o.cmd",
            b"savedcmd_fs/linked.o := ld -r -o fs/linked.o a.o\n",
        );
        let found: Vec<_> = scan(build)
            .unwrap()
            .into_values()
            .map(|tu| (tu.object, tu.kind))
            .collect();
        let expected = [
            ("fs/assembly.o", Kind::Assembly),
            ("fs/host.o", Kind::Host),
            ("fs/native.o", Kind::NativeC),
            ("fs/plain.o", Kind::Bitcode),
            ("fs/single.o", Kind::Bitcode),
            ("fs/wrapped.o", Kind::Bitcode),
        ];
        assert_eq!(found, expected.map(|(object, kind)| (object.to_owned(), kind)));
    }

    #[test]
    fn tails_are_known_or_refused() {
        let tu = |tail: &str| Tu {
            object: "a.o".into(),
            source: "a.c".into(),
            kind: Kind::Bitcode,
            file: CmdFile::new(format!("savedcmd_a.o := clang -c a.c {tail}\n")),
            spelt: Vec::new(),
        };
        let recorded = tu("; ld.lld-19 -r -o .tmp_a.o a.o; mv .tmp_a.o a.o ; ./tools/objtool/objtool a.o")
            .recorded()
            .unwrap();
        assert_eq!((recorded.compiler.len(), recorded.tail.len()), (3, 3));
        assert!(
            tu("; sed -i s/a/b/ a.o")
                .recorded()
                .unwrap_err()
                .to_string()
                .contains("`sed`")
        );
        assert!(tu("> a.log").recorded().is_err());
    }

    #[test]
    fn what_a_record_spells_otherwise_is_called_as_everywhere() {
        let folder = tempfile::tempdir().unwrap();
        let text = "savedcmd_/m/s/a.o := cc -D__KERNEL__ -Wp,-MMD,/m/s/.a.o.d -c -o /m/s/a.o /m/s/a.c ; ld -r -o /m/s/.tmp_a.o \
                    /m/s/a.o; mv /m/s/.tmp_a.o /m/s/a.o\n\nsource_/m/s/a.o := /m/s/a.c\n";
        put(folder.path(), "s/.a.o.cmd", text.as_bytes());
        let mut tu = scan(folder.path()).unwrap().remove("s/a.o").unwrap();
        assert_eq!(tu.target(), Some("/m/s/a.o"));
        tu.spelt_below("/m/");
        let recorded = tu.recorded().unwrap();
        assert_eq!(recorded.compiler[3..], ["-c", "-o", "s/a.o", "/m/s/a.c"]);
        assert_eq!(recorded.tail[0], ["ld", "-r", "-o", "s/.tmp_a.o", "s/a.o"]);
        assert_eq!(recorded.tail[1], ["mv", "s/.tmp_a.o", "s/a.o"]);
    }
}
