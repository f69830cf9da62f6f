//! The exact compiler of a stock kernel: this machine's if it is the same, else the one of the kernel's own Debian
//! release, unpacked into the store and run from there.
//!
//! An unpacked compiler needs its own C library, which the loader alone cannot give it: the driver starts `cc1` by
//! itself. So each call gets a mount namespace in which `/usr` is the compiler's. That needs no root where user
//! namespaces are allowed; paths, time stamps and owners of files stay as they are.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::{Refusal, Subject, codes};
use serde::{Deserialize, Serialize};

use super::{Tools, objects};
use crate::outcome::Ending;
use crate::sh;
use crate::supply::apt::PrivateApt;
use crate::supply::store::{InputHasher, Store, Unpacked, require_space};
use crate::ui::{Phase, Ui, waiting};

/// Disk space in bytes for the packages of a compiler, packed and unpacked.
const SPACE: u64 = 400_000_000;

/// Of the unpacked folder: starts a program with the `/usr` of the folder.
const ENTER: &str = "enter";

/// Folders that are links into `/usr` on a system of today.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What kbuild calls of binutils.
const BINUTILS: [&str; 10] = [
    "ar", "as", "ld", "ld.bfd", "nm", "objcopy", "objdump", "ranlib", "readelf", "strip",
];

/// Version of the way a compiler is unpacked.
const RECIPE: &str = "compiler 2";

/// A compiler, and what keeps it in the store.
#[derive(Debug)]
pub struct Compiler {
    /// How it is started.
    pub tools: Tools,
    /// Starts other programs of the same release, if it is not the machine's own.
    pub enter: Option<PathBuf>,
    /// Keeps it in the store.
    pub held: Option<Unpacked>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    about: String,
    /// Tells it from a kernel's record.
    compiler: String,
}

/// What a configuration says about its compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    /// CONFIG_CC_VERSION_TEXT, the first line that the compiler prints about itself.
    text: String,
    /// Its first word: `gcc-12`, `x86_64-linux-gnu-gcc-14`.
    program: String,
    /// What its name begins with, where it is a cross compiler by name: `x86_64-linux-gnu-`.
    prefix: String,
}

impl Wanted {
    fn of(configuration: &str) -> Option<Wanted> {
        let text = objects::setting(configuration, "CONFIG_CC_VERSION_TEXT")?;
        let program = text.split(' ').next().filter(|word| is_program(word))?;
        let base = ["gcc", "clang"].iter().find_map(|name| program.rfind(name))?;
        Some(Wanted {
            text: text.to_owned(),
            program: program.to_owned(),
            prefix: program[..base].to_owned(),
        })
    }

    /// The package that has it, which Debian calls like the program.
    fn package(&self) -> &str {
        &self.program[self.prefix.len()..]
    }

    fn make(&self) -> Vec<String> {
        let mut make = vec![format!("CC={}", self.program)];
        if !self.prefix.is_empty() {
            make.push(format!("CROSS_COMPILE={}", self.prefix));
            make.push("HOSTCC=gcc".to_owned());
        }
        make
    }
}

/// A name that is one word for a shell and for make, and no path.
fn is_program(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c)) && !word.starts_with('-')
}

/// The compiler of a configuration. `codename` is the Debian release that the kernel is of.
pub fn of(store: &Store, configuration: &str, codename: &str, ui: &Ui) -> Result<Compiler> {
    let Some(wanted) = Wanted::of(configuration) else {
        let why = "the configuration does not say which compiler built the kernel";
        return Err(mismatch(why.to_owned()));
    };
    let text = first_line(sh::find(&wanted.program).as_deref());
    if text.as_deref() == Some(wanted.text.as_str()) && assembler_fits(configuration) {
        return Ok(Compiler {
            tools: Tools {
                path: Vec::new(),
                make: wanted.make(),
            },
            enter: None,
            held: None,
        });
    }
    unpacked(store, &wanted, codename, ui)
}

/// The first line that a compiler prints about itself, as scripts/cc-version.sh takes it.
fn first_line(program: Option<&Path>) -> Option<String> {
    let text = sh::output(sh::command(program?).arg("--version")).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Whether the machine's assembler is the one of the configuration: CONFIG_AS_VERSION is 24000 for 2.40
/// (scripts/as-version.sh). 0 stands for the compiler's own.
fn assembler_fits(configuration: &str) -> bool {
    let Some(wanted) = objects::setting(configuration, "CONFIG_AS_VERSION").filter(|version| *version != "0") else {
        return true;
    };
    let found = first_line(sh::find("as").as_deref()).and_then(|line| canonical_version(&line));
    found.is_some_and(|found| found == wanted)
}

/// `GNU assembler (GNU Binutils for Debian) 2.40` is 24000.
fn canonical_version(line: &str) -> Option<String> {
    let mut numbers = line
        .rsplit(' ')
        .next()?
        .split(['.', '-'])
        .map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next()?, numbers.next().unwrap_or(0));
    Some((major * 10_000 + minor * 100 + numbers.next().filter(|patch| *patch < 100).unwrap_or(0)).to_string())
}

fn unpacked(store: &Store, wanted: &Wanted, codename: &str, ui: &Ui) -> Result<Compiler> {
    let key = InputHasher::new(RECIPE)
        .input("compiler", wanted.text.as_bytes())
        .input("release", codename.as_bytes())
        .finish();
    let key = format!("{}-{}", wanted.package(), &key[..16]);
    let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
    let held = match store.unpacked(&key, &wait)? {
        Some(held) => held,
        None => ui.phase(&format!("fetch {}", wanted.package()), |phase| {
            fetch(store, wanted, codename, &key, phase)
        })?,
    };
    let bin = held.folder.join("wrappers");
    let found = first_line(Some(&bin.join(&wanted.program)));
    if found.as_deref() != Some(wanted.text.as_str()) {
        let found = found.unwrap_or_else(|| "a compiler that does not start".to_owned());
        return Err(mismatch(format!(
            "the kernel was built with {}; {codename} has {found}",
            wanted.text
        )));
    }
    Ok(Compiler {
        enter: Some(held.folder.join(ENTER)),
        tools: Tools {
            path: vec![bin],
            make: wanted.make(),
        },
        held: Some(held),
    })
}

fn mismatch(why: String) -> anyhow::Error {
    Ending::refused(Refusal::new(
        codes::environment::COMPILER_MISMATCH,
        Subject::default(),
        why,
    ))
}

fn fetch(store: &Store, wanted: &Wanted, codename: &str, key: &str, phase: &Phase) -> Result<Unpacked> {
    let wait = |holder: &str, so_far| phase.line(&waiting(holder, so_far));
    let (folder, _guard) = store.apt_folder(codename, &wait)?;
    if let Some(held) = store.unpacked(key, &wait)? {
        return Ok(held);
    }
    require_space(store.root(), SPACE, "a compiler")?;
    if sh::find("unshare").is_none() {
        return Err(Ending::infrastructure("`unshare` is not installed (util-linux)"));
    }
    phase.message("reading package lists");
    let (apt, _) = PrivateApt::lasting(&folder, codename)?;
    phase.line(&format!(
        "{} is not on this machine: it is taken from {codename}, with what it needs, and not installed",
        wanted.text
    ));
    // objtool wants libelf; its package has another name since the change of time_t.
    let elf = if apt.versions("libelf1t64")?.is_empty() {
        "libelf1"
    } else {
        "libelf1t64"
    };
    phase.message("downloading");
    let packages = apt.closure(&[wanted.package(), "binutils", elf])?;
    phase.message("unpacking");
    let new = store.new_unpacked()?;
    for name in MERGED {
        let target = new.folder().join("usr").join(name);
        fs::create_dir_all(&target).with_context(|| format!("cannot make {}", target.display()))?;
        symlink(Path::new("usr").join(name), new.folder().join(name)).context("cannot make a link")?;
    }
    for package in &packages {
        super::download::unpack(package, new.folder())?;
    }
    write_wrappers(new.folder(), &store.unpacked_folder(key), wanted)?;
    for package in packages {
        // Somebody else may want it again, but it is fetched in a second.
        let _ = fs::remove_file(package);
    }
    let record = Record {
        about: wanted.text.clone(),
        compiler: wanted.text.clone(),
    };
    store.add_unpacked(new, key, &record, &wait)
}

/// Writes the scripts that start programs of the folder. `place` is where the folder will be.
fn write_wrappers(folder: &Path, place: &Path, wanted: &Wanted) -> Result<()> {
    let write = |path: PathBuf, text: String| {
        let written =
            fs::write(&path, text).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        written.with_context(|| format!("cannot write {}", path.display()))
    };
    write(folder.join(ENTER), enter(place))?;
    let wrappers = folder.join("wrappers");
    fs::create_dir_all(&wrappers).with_context(|| format!("cannot make {}", wrappers.display()))?;
    let names = BINUTILS.iter().map(|name| format!("{}{name}", wanted.prefix));
    for name in names.chain([wanted.program.clone()]) {
        if folder.join("usr/bin").join(&name).symlink_metadata().is_ok() {
            // By its whole path: the compiler looks for its parts from where it was called, and the wrapper is in PATH.
            let text = format!(
                "#!/bin/sh\nexec '{}' '/usr/bin/{name}' \"$@\"\n",
                place.join(ENTER).display()
            );
            write(wrappers.join(&name), text)?;
        }
    }
    Ok(())
}

/// The script that starts a program in a namespace of its own. On a system where `/lib` is no link into `/usr`, it is
/// replaced as well. Whoever is root in a namespace owns there what he owns outside.
fn enter(place: &Path) -> String {
    let place = place.display();
    format!(
        "#!/bin/sh\n\
         exec unshare --user --map-root-user --mount /bin/sh -c '\n\
         mount --bind \"$0/usr\" /usr || exit 125\n\
         for folder in {}; do\n\
         \x20   [ -L \"/$folder\" ] || [ ! -d \"/$folder\" ] || mount --bind \"$0/usr/$folder\" \"/$folder\" || exit 125\n\
         done\n\
         exec \"$@\"' '{place}' \"$@\"\n",
        MERGED.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supply::store::files_below;

    #[test]
    fn the_configuration_names_compiler_and_package() {
        let of = |text: &str| Wanted::of(&format!("CONFIG_CC_VERSION_TEXT=\"{text}\"\n"));
        let native = of("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0").unwrap();
        assert_eq!((native.package(), native.prefix.as_str()), ("gcc-12", ""));
        assert_eq!(native.make(), ["CC=gcc-12"]);
        let cross = of("x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0").unwrap();
        assert_eq!(cross.package(), "gcc-14");
        assert_eq!(
            cross.make(),
            [
                "CC=x86_64-linux-gnu-gcc-14",
                "CROSS_COMPILE=x86_64-linux-gnu-",
                "HOSTCC=gcc"
            ]
        );
        assert!(of("").is_none() && of("rm${IFS}-rf 1").is_none() && of("../gcc 1").is_none() && of("-gcc").is_none());
    }

    #[test]
    fn versions_of_the_assembler_are_one_number() {
        assert_eq!(
            canonical_version("GNU assembler (GNU Binutils for Debian) 2.40").as_deref(),
            Some("24000")
        );
        assert_eq!(
            canonical_version("GNU assembler (GNU Binutils) 2.35.2").as_deref(),
            Some("23502")
        );
        assert_eq!(
            canonical_version("GNU assembler (Fedora) 2.41-37.fc39").as_deref(),
            Some("24137")
        );
        assert_eq!(canonical_version(""), None);
    }

    #[test]
    fn programs_get_wrappers_where_the_packages_have_them() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("usr/bin")).unwrap();
        for name in ["x86_64-linux-gnu-gcc-14", "x86_64-linux-gnu-ld", "ld"] {
            fs::write(folder.path().join("usr/bin").join(name), "").unwrap();
        }
        let wanted = Wanted::of("CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-14 (D) 14\"\n").unwrap();
        write_wrappers(folder.path(), Path::new("/store/unpacked/x"), &wanted).unwrap();
        let names = files_below(&folder.path().join("wrappers"), &|_| true).unwrap();
        let names: Vec<_> = names
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["x86_64-linux-gnu-gcc-14", "x86_64-linux-gnu-ld"]);
        let text = fs::read_to_string(folder.path().join("wrappers/x86_64-linux-gnu-ld")).unwrap();
        assert_eq!(
            text,
            "#!/bin/sh\nexec '/store/unpacked/x/enter' '/usr/bin/x86_64-linux-gnu-ld' \"$@\"\n"
        );
        let enter = fs::read_to_string(folder.path().join("enter")).unwrap();
        assert!(enter.contains("' '/store/unpacked/x' \"$@\""), "{enter}");
    }
}
