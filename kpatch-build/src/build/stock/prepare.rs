//! Compiles the files that a patch touches, unpatched, by the kernel's own kbuild: that gives their commands, and says
//! what they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::codes::environment::{NO_MODULE, READERS_UNKNOWN, STOCK_LTO};
use kpatch_core::{Refusal, Subject, klp};

use super::folder;
use crate::build::kbuild::{Config, Home, Kbuild, Kind, Members, Other, Tools, Trees, Tu, facts, modules, tu};
use crate::build::patchset::{self, scope};
use crate::kernel::StockKernel;
use crate::kernel::{Arch, KernelBuild};
use crate::outcome::Ending;
use crate::progress::Progress;
use crate::sh;

/// A stock kernel that looks like a recorded build, as far as a patch reaches.
pub struct Prepared {
    /// The folder that looks like its build directory.
    pub kernel: KernelBuild,
    /// The commands of the touched files.
    pub kbuild: Kbuild,
}

impl Prepared {
    /// Compiles what the patches touch, in a new folder.
    ///
    /// # Errors
    /// [`Ending::Refused`] for a kernel that no livepatch can be made for, and for a header, of which nobody knows who
    /// reads it.
    pub fn new(
        stock: &StockKernel,
        patches: &[PathBuf],
        folder: &Path,
        jobs: usize,
        progress: &dyn Progress,
    ) -> Result<Prepared> {
        let config = Config::read(&stock.objects)?;
        let mut objections = facts::objections(&config);
        objections.extend(klp::old_kernel(&stock.release));
        objections.extend(facts::stripped_names(&config, &stock.source));
        objections.extend(lto(&config));
        let (compiler, linker) = programs(&stock.tools.make);
        let tools = Tools::ask(&stock.tools.path, &compiler, &linker)?;
        objections.extend(tools.objections(&config));
        let set = patchset::read(patches)?;
        let reach = scope::reach(&set, &stock.source);
        objections.extend(reach.headers.iter().map(|header| readers_unknown(header)));
        if !objections.is_empty() {
            return Err(Ending::Refused(objections).into());
        }
        let build = folder::make(stock, folder)?;
        let trees = Trees {
            source: stock.source.clone(),
            build: build.clone(),
            recorded: None,
        };
        compile(stock, &trees, &reach.sources, jobs, progress)?;
        let tus = tu::scan(&build)?;
        let members = Members::of_some(&linker, homes(stock, &tus)?);
        let kernel = KernelBuild {
            source: stock.source.clone(),
            build,
            vmlinux: stock.vmlinuz.clone(),
            arch: stock.arch,
            release: stock.release.clone(),
            id: stock.build_id.clone(),
            // Its packages have no log of the build.
            log: None,
        };
        let kbuild = Kbuild {
            arch: stock.arch,
            trees,
            config,
            tools,
            compiler,
            path: stock.tools.path.clone(),
            make: stock.tools.make.clone(),
            tus,
            members,
        };
        Ok(Prepared { kernel, kbuild })
    }
}

fn lto(config: &Config) -> Option<Refusal> {
    let why = "the kernel was built with LTO, so no object of one file is part of it";
    config.is_on("LTO_CLANG").then(|| {
        Refusal::new(STOCK_LTO, Subject::file(".config"), why)
            .hint("use the build directory of this kernel, with --build-dir")
    })
}

fn readers_unknown(header: &str) -> Refusal {
    let why = "which files of this kernel read it is recorded nowhere";
    Refusal::new(READERS_UNKNOWN, Subject::file(header), why)
        .hint("make the change in C files, or use a build directory of this kernel, with --build-dir")
}

/// Compiler and linker, from the variables that make is given.
fn programs(make: &[String]) -> (String, String) {
    let value = |name: &str| make.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let prefix = value("CROSS_COMPILE").unwrap_or_default();
    let own = |name: &str, usual: &str| value(name).map_or_else(|| format!("{prefix}{usual}"), str::to_owned);
    (own("CC", "gcc"), own("LD", "ld"))
}

/// Lets kbuild compile sources. One that no Makefile lists in this configuration may be left without an object.
fn compile(
    stock: &StockKernel,
    trees: &Trees,
    sources: &BTreeSet<String>,
    jobs: usize,
    progress: &dyn Progress,
) -> Result<()> {
    if sources.is_empty() {
        return Ok(());
    }
    progress.message(&format!("compiling {} files as the kernel's build did", sources.len()));
    let object = |source: &String| format!("{}.o", source.strip_suffix(".c").unwrap_or(source));
    let objects: Vec<String> = sources.iter().map(object).collect();
    let mut make = sh::command("make");
    // The top Makefile would first look after the configuration and the build's own programs, for which the packages
    // do not have all sources. What it sets up before that is set up here, and both steps count as done.
    let source = trees.source.display();
    make.current_dir(&trees.build)
        .env("sub_make_done", "1")
        .env("abs_srctree", &trees.source)
        .env("abs_objtree", &trees.build)
        .env("quiet", "quiet_")
        .env("Q", "@")
        .args([
            "-k",
            "-rR",
            "--no-print-directory",
            &format!("-j{jobs}"),
            &format!("--include-dir={source}"),
        ])
        .args(["-f", &format!("{source}/Makefile"), "-o", "prepare", "-o", "scripts"])
        .args(&stock.tools.make)
        .arg(match stock.arch {
            Arch::X86_64 => "ARCH=x86",
            Arch::Ppc64le => "ARCH=powerpc",
        })
        .arg(format!("KERNELRELEASE={}", stock.release))
        .args(&objects);
    if let Some(path) = sh::path_with(&stock.tools.path) {
        make.env("PATH", path);
    }
    let (status, out, messages) = sh::captured(&mut make)?;
    let missing =
        |object: &&String| !trees.build.join(object).is_file() && !messages.contains("No rule to make target");
    match objects.iter().find(missing) {
        Some(object) if !status.success() => {
            bail!(
                "the unpatched {object} does not compile:\n{}\n{}",
                out.trim_end(),
                messages.trim_end()
            )
        }
        _ => Ok(()),
    }
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
