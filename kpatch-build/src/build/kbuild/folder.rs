//! A folder in which modules were built outside of the kernel's tree, with `make -C BUILD M=DIR modules` or by DKMS. It has
//! sources, objects and records, and is only read.
//!
//! Up to Linux 6.12 the recorded commands ran in the kernel's build directory and name what is in the folder by the path
//! that `M=` had; since 6.13 they ran in the folder and name the kernel's files by their whole paths. Which of the two a
//! folder is, its records say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cmdfile::CmdFile;
use super::modules;
use super::trees::{TreePath, Trees, normalise};
use super::tu::{self, Kind, Tu};
use super::{KNOWN_SOURCE, Members};
use crate::build::kernel_symbols;
use crate::kernel::KernelBuild;
use crate::outcome::Ending;

/// The record of what the modules export, and whose exports they may use.
const EXPORTS: &str = "Module.symvers";

/// The folder.
#[derive(Debug, Clone)]
pub struct ModuleFolder {
    /// Its absolute path without links.
    pub path: PathBuf,
    /// The same as records spell it.
    spelt: PathBuf,
    /// What stands before the names of objects in records.
    prefix: String,
    /// Where recorded commands ran.
    ran_in: PathBuf,
}

impl ModuleFolder {
    /// The absolute path of a folder without links, which can be asked before there is a kernel.
    ///
    /// # Errors
    /// [`Ending::Usage`] if there is none.
    pub fn find(given: &Path) -> Result<PathBuf> {
        let path = given.canonicalize().map_err(|error| wrong(given, &error.to_string()))?;
        if path.is_dir() {
            Ok(path)
        } else {
            Err(wrong(given, "not a folder"))
        }
    }

    /// Finds out how a folder was built, and that it was built for this kernel.
    ///
    /// # Errors
    /// [`Ending::Usage`] that says what to do.
    pub fn open(given: &Path, kernel: &KernelBuild) -> Result<ModuleFolder> {
        let path = ModuleFolder::find(given)?;
        let wrong = |why: String| wrong(given, &why);
        if [&kernel.build, &kernel.source].iter().any(|own| own.starts_with(&path)) {
            let why = "this is the kernel's own tree, whose modules are patched without --module-dir";
            return Err(wrong(why.to_owned()));
        }
        let first = format!(
            "build the module there first: make -C {} M={} modules",
            kernel.build.display(),
            path.display()
        );
        let prefix = prefix(&path)?.ok_or_else(|| wrong(format!("nothing was compiled in it; {first}")))?;
        let is_relative = matches!(prefix.as_str(), "" | "./");
        let spelt = if is_relative {
            path.clone()
        } else {
            normalise(&kernel.build.join(&prefix))
        };
        if spelt.canonicalize().ok().as_ref() != Some(&path) {
            let why = format!("it was built as {}, and is elsewhere now; {first}", spelt.display());
            return Err(wrong(why));
        }
        let folder = ModuleFolder {
            ran_in: if is_relative {
                path.clone()
            } else {
                kernel.build.clone()
            },
            path,
            spelt,
            prefix,
        };
        folder.check(kernel).map_err(|why| wrong(format!("{why}; {first}")))?;
        Ok(folder)
    }

    /// That its modules are finished, and those of this kernel.
    fn check(&self, kernel: &KernelBuild) -> Result<(), String> {
        let text = |error: anyhow::Error| format!("{error:#}");
        let modules = self.modules().map_err(text)?;
        if modules.is_empty() {
            return Err("no module is listed in its modules.order".to_owned());
        }
        // Modules of the kernel itself say everything that must be equal; a kernel may have none.
        let own = modules::files(&kernel.build).map_err(text)?;
        let own = own.first().and_then(|ko| vermagic(ko));
        for ko in &modules {
            let name = ko.strip_prefix(&self.spelt).unwrap_or(ko).display();
            let magic = vermagic(ko).ok_or_else(|| format!("{name} is not there, or no module"))?;
            let release = magic.split(' ').next().unwrap_or_default();
            if release != kernel.release {
                return Err(format!(
                    "{name} was built for {release}, and not for {}",
                    kernel.release
                ));
            }
            if let Some(own) = own.as_ref().filter(|own| **own != magic) {
                return Err(format!("{name} was built for `{magic}`, and the kernel is `{own}`"));
            }
        }
        let trees = self.trees();
        let members = Members::of_folder(&trees).map_err(text)?;
        let mut objects = members.modules.values().flatten();
        if let Some(outside) = objects.find(|object| object.starts_with('/') || object.starts_with("../")) {
            return Err(format!("its modules have {outside}, which is not in the folder"));
        }
        let tus = self.tus().map_err(text)?;
        let compiled: Vec<&Tu> = tus.values().filter(|tu| tu.kind != Kind::Host).collect();
        if !compiled
            .iter()
            .any(|tu| matches!(trees.place(&tu.source), TreePath::Source(_)))
        {
            return Err("the sources of its modules are elsewhere".to_owned());
        }
        let real = kernel.build.canonicalize().unwrap_or_else(|_| kernel.build.clone());
        let is_of_kernel = |spelt: &str| {
            let path = self.ran_in.join(spelt);
            path.starts_with(&kernel.build) || path.starts_with(&real)
        };
        if !compiled.iter().any(|tu| tu.deps().any(is_of_kernel)) {
            let build = kernel.build.display();
            return Err(format!("it was built against another kernel build than {build}"));
        }
        same_place(kernel)
    }

    /// Its directories as recorded commands spell them.
    pub fn trees(&self) -> Trees {
        Trees {
            source: self.spelt.clone(),
            build: self.ran_in.clone(),
            objects: self.spelt.clone(),
            recorded: None,
        }
    }

    /// Everything compiled in it, by its name in the folder.
    pub fn tus(&self) -> Result<BTreeMap<String, Tu>> {
        let mut tus = tu::scan(&self.path)?;
        tus.values_mut().for_each(|tu| tu.spelt_below(&self.prefix));
        Ok(tus)
    }

    /// The files of its modules.
    pub fn modules(&self) -> Result<Vec<PathBuf>> {
        let listed = modules::listed(&self.path)?.into_iter();
        Ok(listed
            .map(|stem| normalise(&self.ran_in.join(format!("{stem}.ko"))))
            .collect())
    }

    /// The lists of what its modules export, and of what the modules export that it was built with
    /// (`KBUILD_EXTRA_SYMBOLS`).
    ///
    /// # Errors
    /// [`Ending::Usage`] if one of them is gone.
    pub fn exports(&self) -> Result<Vec<PathBuf>> {
        let own = self.path.join(EXPORTS);
        let mut files: Vec<PathBuf> = own.is_file().then_some(own).into_iter().collect();
        let record = self.path.join(format!(".{EXPORTS}.cmd"));
        let text = match fs::read_to_string(&record) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(files),
            text => text.with_context(|| format!("cannot read {}", record.display()))?,
        };
        let commands = CmdFile::new(text).commands();
        let commands = commands.with_context(|| format!("{} is not understood", record.display()))?;
        for file in commands.iter().flat_map(|words| extra(words)) {
            let file = self.ran_in.join(file);
            if !file.is_file() {
                let (path, file) = (self.path.display(), file.display());
                let text = format!("--module-dir {path}: it was built with {file}, which is not there");
                return Err(Ending::usage(text));
            }
            files.push(file);
        }
        Ok(files)
    }

    /// The files of all modules that may have to be loaded: its own, and those of the folders whose exports it was built with.
    pub fn with_others(&self) -> Result<Vec<PathBuf>> {
        let mut files = self.modules()?;
        for folder in self.exports()?.iter().filter_map(|file| file.parent()) {
            if folder.canonicalize().is_ok_and(|folder| folder != self.path) {
                // Names in a list are those of a command that ran somewhere else; what counts is the file's own.
                let listed = modules::listed(folder)?.into_iter();
                let names = listed.filter_map(|stem| Some(Path::new(&stem).file_name()?.to_owned()));
                files.extend(names.map(|name| folder.join(name).with_extension("ko")));
            }
        }
        Ok(files)
    }
}

fn wrong(given: &Path, why: &str) -> anyhow::Error {
    Ending::usage(format!("--module-dir {}: {why}", given.display()))
}

/// Why modules outside of the tree cannot be patched in a distribution's kernel.
pub fn no_records(release: &str) -> anyhow::Error {
    Ending::usage(format!(
        "--module-dir: {release} is a distribution's kernel, and its packages have no vmlinux with symbols to resolve a module \
         against: build the kernel and pass --source and --build-dir"
    ))
}

/// What stands before the names of objects in the records of a folder; nothing if it has no records of objects.
fn prefix(folder: &Path) -> Result<Option<String>> {
    let tus = tu::scan(folder)?;
    let compiled = tus.values().filter(|tu| tu.kind != Kind::Host);
    let mut prefixes = compiled.filter_map(|tu| tu.target()?.strip_suffix(&tu.object).map(str::to_owned));
    Ok(prefixes.next())
}

/// The files that modpost took the exports of other modules from: those behind `-e` (scripts/Makefile.modpost, 6.1 to 7.3).
fn extra(words: &[String]) -> impl Iterator<Item = &String> {
    let behind = words.iter().skip_while(|word| *word != "-e");
    let mut is_next = false;
    behind.filter(move |word| std::mem::replace(&mut is_next, *word == "-i"))
}

fn vermagic(ko: &Path) -> Option<String> {
    kernel_symbols::vermagic(&fs::read(ko).ok()?)
}

/// Modules name the files of the kernel, so these must be where they were.
fn same_place(kernel: &KernelBuild) -> Result<(), String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    let known = super::known(&kernel.build).map_err(text)?;
    let trees = Trees::new(&kernel.source, &kernel.build, KNOWN_SOURCE, &known.source).map_err(text)?;
    trees.recorded.map_or(Ok(()), |old| {
        let (old, now) = (old.display(), kernel.source.display());
        Err(format!(
            "the kernel's source was at {old} when it was built, and is at {now}: build the kernel again"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, ko, put};
    use super::*;

    /// A folder with the module `m`, whose record spells it so and names this header of the kernel.
    fn built(folder: &Path, spelt: &str, header: &Path) {
        let record = format!(
            "savedcmd_{spelt}s/m.o := cc -D__KERNEL__ -c -o {spelt}s/m.o {spelt}s/m.c\n\nsource_{spelt}s/m.o := {spelt}s/m.c\n\n\
             deps_{spelt}s/m.o := \\\n  {} \\\n\n",
            header.display()
        );
        put(folder, "s/.m.o.cmd", record.as_bytes());
        put(folder, "s/m.c", b"");
        put(folder, "s/m.mod", format!("{spelt}s/m.o\n").as_bytes());
        put(folder, "s/.m.ko.cmd", b"savedcmd_s/m.ko := ld -r -o s/m.ko s/m.o\n");
        put(folder, "modules.order", format!("{spelt}s/m.o\n").as_bytes());
        put(folder, "s/m.ko", &ko("6.12.1 SMP "));
    }

    fn opened(folder: &Path, kernel: &KernelBuild) -> Result<ModuleFolder, String> {
        ModuleFolder::open(folder, kernel).map_err(|error| {
            assert!(matches!(error.downcast_ref(), Some(Ending::Usage(_))), "{error:#}");
            error.to_string()
        })
    }

    fn kernel(fake: &Fake) -> KernelBuild {
        let kernel = fake.kernel();
        fs::create_dir_all(&kernel.source).unwrap();
        KernelBuild {
            source: kernel.source.canonicalize().unwrap(),
            build: kernel.build.canonicalize().unwrap(),
            ..kernel
        }
    }

    #[test]
    fn records_say_where_they_ran_and_how_they_spell_the_folder() {
        let (fake, folder) = (Fake::of(b"\x7fELF"), tempfile::tempdir().unwrap());
        let kernel = kernel(&fake);
        let path = folder.path().canonicalize().unwrap();
        let absolute = format!("{}/", path.display());
        for (spelt, header, ran_in) in [
            (&*absolute, PathBuf::from("include/a.h"), &kernel.build),
            ("", kernel.build.join("include/a.h"), &path),
        ] {
            built(&path, spelt, &header);
            let opened = opened(&path, &kernel).unwrap();
            let trees = opened.trees();
            assert_eq!((&trees.build, &trees.source, &trees.objects), (ran_in, &path, &path));
            assert_eq!(opened.modules().unwrap(), [path.join("s/m.ko")]);
            let tu = &opened.tus().unwrap()["s/m.o"];
            assert!(tu.recorded().unwrap().compiler.contains(&"s/m.o".to_owned()));
            assert_eq!(trees.place(&tu.source), TreePath::Source("s/m.c".into()));
        }
    }

    #[test]
    fn each_mistake_is_told_with_what_to_do() {
        let (fake, folder) = (Fake::of(b"\x7fELF"), tempfile::tempdir().unwrap());
        let kernel = kernel(&fake);
        let path = folder.path().canonicalize().unwrap();
        let why = || opened(&path, &kernel).unwrap_err();
        assert!(opened(Path::new("/no/such"), &kernel).is_err());
        assert!(
            opened(&kernel.build, &kernel)
                .unwrap_err()
                .contains("without --module-dir")
        );
        let first = format!("make -C {} M={} modules", kernel.build.display(), path.display());
        assert!(
            why().contains("nothing was compiled") && why().ends_with(&first),
            "{}",
            why()
        );
        built(&path, "/elsewhere/", Path::new("include/a.h"));
        assert!(why().contains("was built as /elsewhere"), "{}", why());
        built(&path, "", Path::new("/other/include/a.h"));
        assert!(why().contains("another kernel build"), "{}", why());
        built(&path, "", &kernel.build.join("include/a.h"));
        assert!(opened(&path, &kernel).is_ok());
        put(&path, "s/m.mod", b"s/m.o\n../common/n.o\n");
        assert!(why().contains("common/n.o, which is not in the folder"), "{}", why());
        put(&path, "s/m.ko", &ko("6.1.9 SMP "));
        assert!(
            why().contains("s/m.ko was built for 6.1.9, and not for 6.12.1"),
            "{}",
            why()
        );
        put(&path, "s/m.ko", &ko("6.12.1 "));
        put(&kernel.build, "fs/ext4/ext4.ko", &ko("6.12.1 SMP "));
        assert!(why().contains("the kernel is `6.12.1 SMP `"), "{}", why());
        fs::remove_file(path.join("s/m.ko")).unwrap();
        assert!(why().contains("s/m.ko is not there"), "{}", why());
        put(&path, "modules.order", b"");
        assert!(why().contains("no module is listed"), "{}", why());
    }

    #[test]
    fn exports_of_others_are_those_that_it_was_built_with() {
        let (fake, folder) = (Fake::of(b"\x7fELF"), tempfile::tempdir().unwrap());
        let kernel = kernel(&fake);
        let path = folder.path().canonicalize().unwrap();
        let (own, other) = (path.join("own"), path.join("other"));
        built(&own, "", &kernel.build.join("include/a.h"));
        let opened = opened(&own, &kernel).unwrap();
        assert!(opened.exports().unwrap().is_empty());
        put(&own, EXPORTS, b"");
        let record = "savedcmd_Module.symvers := modpost -o Module.symvers -T modules.order -i /k/Module.symvers -e -i \
                      ../other/Module.symvers\n";
        put(&own, ".Module.symvers.cmd", record.as_bytes());
        assert!(opened.exports().unwrap_err().to_string().contains("is not there"));
        put(&other, EXPORTS, b"");
        put(&other, "modules.order", b"/somewhere/o.o\n");
        assert_eq!(
            opened.exports().unwrap(),
            [own.join(EXPORTS), own.join("../other").join(EXPORTS)]
        );
        let all = opened.with_others().unwrap();
        assert_eq!(all, [own.join("s/m.ko"), own.join("../other/o.ko")]);
    }
}
