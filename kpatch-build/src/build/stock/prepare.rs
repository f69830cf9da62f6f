//! Compiles the files that a patch touches, unpatched, by the kernel's own kbuild: that gives their commands, and says
//! what they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::codes::environment::{MANY_READERS, NO_MODULE, STOCK_LTO};
use kpatch_core::{Refusal, Subject, klp};

use super::compile::Compiling;
use super::includes::Includes;
use super::narrowing::Narrowing;
use super::{built, folder};
use crate::build::kbuild::{
    Config, Home, Kbuild, Kind, Members, Other, Tools, Trees, Tu, facts, modules, randomised, tu,
};
use crate::build::patchset::{self, scope, spelling};
use crate::kernel::KernelBuild;
use crate::kernel::StockKernel;
use crate::outcome::Ending;
use crate::progress::Progress;
use crate::supply::store::cache::{Cache, Hashes};

/// How many files may read what a patch changes. Each is compiled at least twice, which takes two seconds or so.
const MOST_READERS: usize = 1500;

/// So few readers are compiled without judging them.
const FEW: usize = 24;

/// What is to be compiled.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The patches.
    pub patches: &'a [PathBuf],
    /// How many lines of context at either end of a hunk may differ.
    pub fuzz: usize,
    /// Compile every file that may read what changes.
    pub all_readers: bool,
}

/// A stock kernel that kbuild can work with, in a folder of this run.
pub struct Opened<'a> {
    stock: &'a StockKernel,
    /// The folder that looks like its build directory.
    pub kernel: KernelBuild,
    /// Compiler.
    pub compiler: String,
    linker: String,
    config: Config,
    tools: Tools,
    trees: Trees,
}

/// A stock kernel that looks like a recorded build, as far as a patch reaches.
pub struct Prepared {
    /// The commands of the touched files.
    pub kbuild: Kbuild,
    /// Objects of the sources that the patch itself changes.
    pub edited: BTreeSet<String>,
    /// Hashes of files, for whoever needs them again.
    pub hashes: Hashes,
    /// More files can be affected than are compiled for one patch: only a few of them were, which may show a better reason to
    /// refuse it.
    pub too_many: Option<Refusal>,
}

impl<'a> Opened<'a> {
    /// Makes the folder.
    ///
    /// # Errors
    /// [`Ending::Refused`] for a kernel that no livepatch can be made for.
    pub fn new(stock: &'a StockKernel, folder: &Path) -> Result<Opened<'a>> {
        let config = Config::read(&stock.objects)?;
        let mut objections = facts::objections(&config);
        objections.extend(klp::old_kernel(&stock.release));
        objections.extend(randomised::objection(&config, &stock.objects));
        objections.extend(lto(&config));
        let (compiler, linker) = programs(&stock.tools.make);
        let tools = Tools::ask(&stock.tools.path, &compiler, &linker)?;
        objections.extend(tools.objections(&config));
        if !objections.is_empty() {
            return Err(Ending::Refused(objections).into());
        }
        let build = folder::make(stock, folder)?;
        Ok(Opened {
            stock,
            kernel: KernelBuild {
                source: stock.source.clone(),
                build: build.clone(),
                vmlinux: stock.vmlinuz.clone(),
                arch: stock.arch,
                release: stock.release.clone(),
                id: stock.id.clone(),
                // Its packages have no log of the build.
                log: None,
            },
            compiler,
            linker,
            config,
            tools,
            trees: Trees {
                source: stock.source.clone(),
                objects: build.clone(),
                build,
                recorded: None,
            },
        })
    }

    /// Compiles what the patches touch: their own sources, and every file of this kernel that a header of theirs may affect.
    ///
    /// # Errors
    /// If a file that kbuild would build does not compile.
    pub fn prepare(self, wanted: &Wanted<'_>, cache: &Path, jobs: usize, progress: &dyn Progress) -> Result<Prepared> {
        let (cache, hashes) = (Cache::new(cache), Hashes::default());
        let Wanted {
            patches,
            fuzz,
            all_readers,
        } = *wanted;
        let (set, _) = spelling::as_meant(patchset::read(patches)?, &self.stock.source);
        let reach = scope::reach(&set, &self.stock.source);
        let compiling = Compiling {
            stock: self.stock,
            trees: &self.trees,
            tools: &self.tools,
            cache: &cache,
            hashes: &hashes,
            jobs,
        };
        let edited: BTreeSet<String> = reach.sources.iter().map(|source| object_of(source, "o")).collect();
        let missing = compiling.all(&edited, progress)?;
        let mut too_many = None;
        if !reach.headers.is_empty() || !missing.is_empty() {
            progress.message("asking kbuild what this configuration builds");
            let built = built::list(self.stock, &self.trees, &cache, jobs)?;
            does_not_compile(&missing, &built)?;
            // A source without an object of its own may be included by others.
            let included = reach
                .sources
                .iter()
                .filter(|source| missing.contains_key(&object_of(source, "o")));
            let included: BTreeSet<String> = included.chain(&reach.headers).cloned().collect();
            progress.message("looking for the files that read what changes");
            let includes = Includes::of(self.stock, &cache)?;
            let readers = includes.readers(&included);
            let mut objects = objects_of(readers.as_ref(), &built);
            if objects.len() > FEW && !all_readers {
                let narrowing = Narrowing {
                    stock: self.stock,
                    cache: &cache,
                    includes: &includes,
                    built: &built,
                };
                objects = narrowing.affected(&set, &included, &objects, fuzz, progress)?;
            }
            if objects.len() > MOST_READERS {
                too_many = Some(many_readers(&included, objects.len()));
                objects = a_few(&objects);
            }
            let missing = compiling.all(&objects, progress)?;
            does_not_compile(&missing, &built)?;
        }
        let tus = tu::scan(&self.trees.build)?;
        let members = Members::of_some(&self.linker, homes(self.stock, &tus)?);
        let kbuild = Kbuild {
            arch: self.stock.arch,
            trees: self.trees.clone(),
            config: self.config,
            tools: self.tools.clone(),
            compiler: self.compiler,
            path: self.stock.tools.path.clone(),
            make: self.stock.tools.make.clone(),
            module_dir: None,
            tus,
            members,
        };
        Ok(Prepared {
            kbuild,
            edited,
            hashes,
            too_many,
        })
    }
}

/// No more than [`FEW`] of many, evenly chosen.
fn a_few(objects: &BTreeSet<String>) -> BTreeSet<String> {
    let step = objects.len().div_ceil(FEW).max(1);
    objects.iter().step_by(step).cloned().collect()
}

/// `fs/open.o` of `fs/open.c`.
fn object_of(source: &str, extension: &str) -> String {
    let stem = source.rsplit_once('.').map_or(source, |(stem, _)| stem);
    format!("{stem}.{extension}")
}

/// Texts that are compiled for the numbers in them, which other code gets as a header (Kbuild).
pub const NUMBERS: [&str; 2] = ["arch/x86/kernel/asm-offsets.s", "kernel/bounds.s"];

/// The objects that may read something: those of image and modules, and code of other places that a livepatch does not
/// reach, which must not change unseen. `readers` are none if every file does.
fn objects_of(readers: Option<&BTreeSet<String>>, built: &BTreeSet<String>) -> BTreeSet<String> {
    let Some(readers) = readers else { return built.clone() };
    let mut objects = BTreeSet::new();
    for source in readers {
        let object = object_of(source, "o");
        let numbers = object_of(source, "s");
        let is_source = source.ends_with(".c") || source.ends_with(".S");
        if NUMBERS.contains(&numbers.as_str()) {
            objects.insert(numbers);
        } else if is_source && (built.contains(&object) || is_apart(source)) {
            objects.insert(object);
        }
    }
    objects
}

/// Code that no livepatch reaches, and that kbuild's lists leave out.
pub fn is_apart(source: &str) -> bool {
    let place = Other::of_path(source);
    matches!(place, Some(Other::Vdso | Other::Realmode | Other::Purgatory))
}

/// What kbuild would build must compile. Of other files nobody knows what they would need.
fn does_not_compile(missing: &BTreeMap<String, String>, built: &BTreeSet<String>) -> Result<()> {
    match missing.iter().find(|(object, _)| built.contains(*object)) {
        Some((object, said)) => bail!("the unpatched {object} does not compile:\n{said}"),
        None => Ok(()),
    }
}

fn many_readers(files: &BTreeSet<String>, count: usize) -> Refusal {
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let why =
        format!("{count} files of this kernel may read it; no more than {MOST_READERS} are compiled for one patch");
    Refusal::new(MANY_READERS, Subject::file(files.join(", ")), why)
        .hint("make the change in C files, or use a build directory of this kernel, with --build-dir")
}

fn lto(config: &Config) -> Option<Refusal> {
    let why = "the kernel was built with LTO, so no object of one file is part of it";
    config.is_on("LTO_CLANG").then(|| {
        Refusal::new(STOCK_LTO, Subject::file(".config"), why)
            .hint("use the build directory of this kernel, with --build-dir")
    })
}

/// Compiler and linker, from the variables that make is given.
fn programs(make: &[String]) -> (String, String) {
    let value = |name: &str| make.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let prefix = value("CROSS_COMPILE").unwrap_or_default();
    let own = |name: &str, usual: &str| value(name).map_or_else(|| format!("{prefix}{usual}"), str::to_owned);
    (own("CC", "gcc"), own("LD", "ld"))
}

/// What each object goes into. kbuild tells the compiler by macros (scripts/Makefile.lib): whether it is a module, and of
/// which name, with `_` for `-` and colons between the names of several. Their places are in the list of modules.
fn homes(stock: &StockKernel, tus: &BTreeMap<String, Tu>) -> Result<BTreeMap<String, Vec<Home>>> {
    let listed = modules::listed(&stock.modules)?;
    let mut homes = BTreeMap::new();
    for tu in tus.values().filter(|tu| tu.kind == Kind::NativeC) {
        if Other::of_path(&tu.object).is_some() {
            continue;
        }
        homes.insert(tu.object.clone(), home(&tu.object, &tu.recorded()?.compiler, &listed)?);
    }
    Ok(homes)
}

fn home(object: &str, words: &[String], listed: &[String]) -> Result<Vec<Home>> {
    if !words.iter().any(|word| word == "-DMODULE") {
        return Ok(vec![Home::Vmlinux]);
    }
    let names = words.iter().find_map(|word| word.strip_prefix("-DKBUILD_MODNAME=\""));
    let names = names.with_context(|| format!("the command of {object} does not name its module"))?;
    let module = |name: &str| {
        let is_it = |stem: &&String| modules::name_of_ko(Path::new(&format!("{stem}.ko"))) == name;
        let stem = listed.iter().find(is_it).ok_or_else(|| {
            let why = format!("the kernel has no module `{name}`, which this file would be part of");
            Ending::refused(
                Refusal::new(NO_MODULE, Subject::file(object), why).hint("unpack the kernel's package as a whole"),
            )
        })?;
        Ok(Home::Module(format!(
            "{}.o",
            stem.strip_prefix("kernel/").unwrap_or(stem)
        )))
    };
    names.trim_end_matches('"').split(':').map(module).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_what_this_configuration_builds_and_what_a_livepatch_does_not_reach() {
        let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let built = set(&["fs/a.o", "arch/x86/lib/b.o", "fs/c.o"]);
        let readers = set(&[
            "fs/a.c",
            "fs/off.c",
            "fs/a.h",
            "arch/x86/lib/b.S",
            "arch/x86/entry/vdso/vgetcpu.c",
            "arch/x86/boot/main.c",
            "arch/x86/kernel/asm-offsets.c",
        ]);
        let found = [
            "fs/a.o",
            "arch/x86/lib/b.o",
            "arch/x86/entry/vdso/vgetcpu.o",
            NUMBERS[0],
        ];
        assert_eq!(objects_of(Some(&readers), &built), set(&found));
        assert_eq!(objects_of(None, &built), built);
    }

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn kbuild_says_what_a_file_belongs_to() {
        let listed = ["kernel/fs/xfs/xfs", "kernel/drivers/a/one-x", "kernel/drivers/a/two"].map(str::to_owned);
        let of = |line: &str| home("a.o", &words(line), &listed);
        let module = |name: &str| Home::Module(name.to_owned());
        assert_eq!(of("gcc -DKBUILD_MODNAME=\"proc\" -c").unwrap(), [Home::Vmlinux]);
        assert_eq!(
            of("gcc -DMODULE -DKBUILD_MODNAME=\"xfs\"").unwrap(),
            [module("fs/xfs/xfs.o")]
        );
        let two = [module("drivers/a/one-x.o"), module("drivers/a/two.o")];
        assert_eq!(of("gcc -DMODULE -DKBUILD_MODNAME=\"one_x:two\"").unwrap(), two);
        assert!(of("gcc -DMODULE -DKBUILD_MODNAME=\"gone\"").is_err());
        assert!(of("gcc -DMODULE").is_err());
    }

    #[test]
    fn the_compiler_is_the_one_that_make_is_told() {
        let of = |line: &str| programs(&words(line));
        assert_eq!(of("CC=gcc-12"), ("gcc-12".into(), "ld".into()));
        let cross = of("CROSS_COMPILE=x86_64-linux-gnu- CC=x86_64-linux-gnu-gcc-14 HOSTCC=gcc");
        assert_eq!(cross, ("x86_64-linux-gnu-gcc-14".into(), "x86_64-linux-gnu-ld".into()));
        assert_eq!(of(""), ("gcc".into(), "ld".into()));
    }
}
