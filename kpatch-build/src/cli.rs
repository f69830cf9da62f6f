//! The command line: what can be typed. Nothing here touches the world.

mod kernel;
mod package;
pub mod settings;
mod which;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use crate::build::intake::Given;
use crate::build::kbuild::folder::no_records;
use crate::kernel::Arch;
use crate::supply::place::Choice;

pub use kernel::{
    ArchiveArgs, KernelAddArgs, KernelBuildArgs, KernelCommand, KernelImportArgs, KernelListArgs, KernelUpdateArgs,
};
pub use package::{BuildPackage, PackageArgs};
pub use which::{ElsewhereKernel, OwnKernel, PinnedKernel};

/// Headings of the help.
const GLOBAL: &str = "Global options";
const SERIES: &str = "Patches";
const MODULE: &str = "Module";
const PROOF: &str = "Boot test";
const PACKAGE: &str = "Package";

/// Fewer than the lines of context that patches usually have would be left.
const MOST_FUZZ: i64 = 3;

/// What stands at the end of the help and the manual page of `build`.
const AFTER_BUILD: &str = "\
Exit codes: 0 built, 1 failed, 2 the patch is refused, 3 no functional change, 64 wrong usage, 69 an environment \
problem, 70 a defect of this program, 130 interrupted.

Ctrl-C, SIGTERM and SIGHUP stop the run within two seconds, with everything it has started, and its work folder is \
removed. What it has compiled by then is kept in the store, so the next run of the same patch does only the rest.";

/// Builds livepatches for Linux kernels and proves each one in a booted machine
#[derive(Debug, Parser)]
#[command(name = "kpatch", version, arg_required_else_help = true, infer_subcommands = false)]
pub struct Cli {
    /// What is true of every command.
    #[command(flatten)]
    pub common: Common,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Folder for sources, kernel builds and caches [default: kpatch in the user's cache folder]
    #[arg(long, global = true, env = "KPATCH_STORE", value_name = "DIR", help_heading = GLOBAL)]
    pub store: Option<PathBuf>,
    /// Folder of kernel manifests to use instead of the built-in ones
    #[arg(long, global = true, env = "KPATCH_KERNELS", value_name = "DIR", help_heading = GLOBAL)]
    pub kernels: Option<PathBuf>,
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Write progress to FILE as JSON lines; `-` is standard output, and the last line has the document
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub events: Option<PathBuf>,
    /// Show more: toolchain, time of each phase
    #[arg(long, short, global = true, help_heading = GLOBAL)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What takes a kernel's sources, or what is made of them.
    #[command(flatten)]
    Builder(BuilderCommand),
    /// What is done on the machine that runs the livepatch.
    #[command(flatten)]
    Machine(kpatch_runtime::cli::Command),
}

/// The commands that build.
#[derive(Debug, Subcommand)]
pub enum BuilderCommand {
    /// Build a livepatch module from source patches
    #[command(after_help = AFTER_BUILD)]
    Build(Box<BuildArgs>),
    /// Check this machine for the tools that are needed, and say how to install the rest
    Doctor(DoctorArgs),
    /// Manage the store: sources, kernel builds, caches
    #[command(subcommand)]
    Store(StoreCommand),
    /// List, build and pin the kernels that livepatches are built for
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Make a Debian or RPM package of a livepatch
    Package(PackageArgs),
    /// Say what the code of a refusal or error means, and what to do
    Explain {
        /// A code such as select.data-changed, or the part before its dot
        #[arg(value_name = "CODE")]
        code: String,
    },
    /// Show every setting, its value and where the value comes from
    Config,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the manual pages to a folder
    Man(ManArgs),
}

/// `build`.
#[derive(Debug, Clone, Args)]
pub struct BuildArgs {
    /// Source patches, applied in this order: files, mailboxes, series files of quilt, folders with any of these; `-` is
    /// standard input
    #[arg(required_unless_present = "git", value_name = "PATCH")]
    pub patches: Vec<PathBuf>,
    /// Take the commits of a range, A..B, of a git repository instead, the oldest first; there may be no merges in it
    #[arg(long, num_args = 2, value_names = ["REPO", "A..B"], conflicts_with = "patches", help_heading = SERIES)]
    pub git: Option<Vec<String>>,
    /// Leave out whole patches that cannot be livepatched, and those that need them, and build the rest; the summary says
    /// what is in, what is out, and why
    #[arg(long, help_heading = SERIES)]
    pub leave_out_refused: bool,
    /// Let as many lines of context at either end of a hunk differ, as `patch` has it; each such hunk is named
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u8).range(0..=MOST_FUZZ), help_heading = SERIES)]
    pub fuzz: u8,
    /// Write a table of the patches for a release note, in Markdown
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "digest"], help_heading = SERIES)]
    pub release_note: Option<PathBuf>,
    /// Build nothing: print the digest of what the patches do to the sources of this kernel. It is the same however the
    /// change is written
    #[arg(long, conflicts_with_all = ["boot", "leave_out_refused", "sign_key", "save_case"], help_heading = SERIES)]
    pub digest: bool,
    /// The kernel.
    #[command(flatten)]
    pub kernel: PinnedKernel,
    /// The user's own kernel instead.
    #[command(flatten)]
    pub own: OwnKernel,
    /// Or one that was built elsewhere.
    #[command(flatten)]
    pub elsewhere: ElsewhereKernel,
    /// Patch a module that was built outside of the kernel's tree, in this folder, with make -C BUILD M=DIR modules; paths in
    /// the patches start there. The kernel is the one it was built for
    #[arg(long, value_name = "DIR", conflicts_with_all = ["packages", "image", "save_case"], help_heading = MODULE)]
    pub module_dir: Option<PathBuf>,
    /// Boot the kernel in QEMU, load and unload the livepatch; the module is installed only if that succeeds
    #[arg(long, conflicts_with = "dry_run", help_heading = PROOF)]
    pub boot: bool,
    /// Script that runs in the guest: exit 0 for the new behaviour, 1 for the old; needs --boot
    #[arg(long, value_name = "FILE", requires = "boot", help_heading = PROOF)]
    pub check: Option<PathBuf>,
    /// Boot with module.sig_enforce=1: the kernel takes only modules that a key it knows has signed; needs --boot
    #[arg(long, requires = "boot", help_heading = PROOF)]
    pub sig_enforce: bool,
    /// Where to put the module: a folder, or a file ending in .ko
    #[arg(long, short, value_name = "DIR|FILE.ko", default_value = ".", help_heading = MODULE)]
    pub output: PathBuf,
    /// Module name [default: that of the output file, else with --package series and version, else from the first patch]
    #[arg(long, short, help_heading = MODULE)]
    pub name: Option<String>,
    /// Do not replace livepatches that are already loaded
    #[arg(long, short = 'R', help_heading = MODULE)]
    pub no_replace: bool,
    /// A livepatch that is loaded and whose place the new one takes, as a module of any builder: what it did must be taken
    /// over, or is refused; may be given several times
    #[arg(long, value_name = "OLD.ko", conflicts_with = "no_replace", help_heading = MODULE)]
    pub replaces: Vec<PathBuf>,
    /// Build although this change is refused unless accepted: a structure, enumeration, table of functions, variable,
    /// callback, function or replaced livepatch by name; may be given several times
    #[arg(long, value_name = "NAME", help_heading = MODULE)]
    pub accept: Vec<String>,
    /// Sign the module with this key: a PEM file, or the pkcs11: name of a key in a token
    #[arg(long, value_name = "FILE|URI", conflicts_with = "dry_run", help_heading = MODULE)]
    pub sign_key: Option<String>,
    /// The certificate of the key [default: the one in the file of the key]
    #[arg(long, value_name = "FILE", requires = "sign_key", conflicts_with = "dry_run", help_heading = MODULE)]
    pub sign_cert: Option<PathBuf>,
    /// The package to make of it.
    #[command(flatten)]
    pub package: BuildPackage,
    /// Leave out changes to files that this kernel's configuration does not build, instead of refusing the patch
    #[arg(long, help_heading = MODULE)]
    pub skip_unbuilt: bool,
    /// Compile every file that reads a changed header, and not only those that the change can affect: for checking this
    /// program, since the module is the same
    #[arg(long, help_heading = MODULE)]
    pub compile_all_readers: bool,
    /// If the patch is refused, write a second one beside it, FIX.suggested.patch: a skeleton of the shadow variable, the
    /// callback or the change of callers that the refusal asks for, to be edited by a person
    #[arg(long, help_heading = MODULE)]
    pub suggest: bool,
    /// Compile and compare, but build no module
    #[arg(long, help_heading = MODULE)]
    pub dry_run: bool,
    /// Say for each function and symbol why it is in the module; of a refused series, without which patches the rest can be
    /// built
    #[arg(long, help_heading = MODULE)]
    pub explain: bool,
    /// Parallel jobs [default: number of processors]
    #[arg(long, short, env = "KPATCH_JOBS", value_parser = parse_jobs)]
    pub jobs: Option<usize>,
    /// Keep the work folder and print its path
    #[arg(long)]
    pub keep: bool,
    /// Save the patches, the check and the outcome in this folder, as a case that can be replayed elsewhere
    #[arg(long, value_name = "DIR", conflicts_with_all = ["dry_run", "fuzz"])]
    pub save_case: Option<PathBuf>,
    /// Install missing packages first
    #[arg(long)]
    pub install_deps: bool,
}

impl BuildArgs {
    /// What was given as patches.
    pub fn given(&self) -> Given<'_> {
        match self.git.as_deref() {
            Some([repository, range]) => Given::Git(Path::new(repository), range),
            _ => Given::Paths(&self.patches),
        }
    }

    /// Which kernel this is.
    pub fn choice(&self) -> Result<Choice> {
        match (self.elsewhere.choice(&self.kernel, &self.own)?, &self.module_dir) {
            (Choice::Stock(stock), Some(_)) => {
                Err(no_records(stock.release.as_deref().unwrap_or("the running kernel")))
            }
            (choice, _) => Ok(choice),
        }
    }
}

/// `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Where the pages go
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Those of the program for machines that build nothing
    #[arg(long)]
    pub runtime: bool,
}

/// `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Install what is missing, as root or with passwordless sudo
    #[arg(long)]
    pub install_deps: bool,
    /// Check only what this kernel needs, e.g. 6.12 [default: all kernels]
    #[arg(long, value_name = "SERIES|VERSION")]
    pub kernel: Option<String>,
    /// Architecture of the kernels, or all
    #[arg(long, value_parser = arches_parser(), env = "KPATCH_ARCH", default_value = "x86_64")]
    pub arch: Arches,
}

/// One architecture, or each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arches {
    /// All of them.
    All,
    /// This one.
    Only(Arch),
}

impl Arches {
    /// Whether this one is meant.
    pub fn has(self, arch: Arch) -> bool {
        match self {
            Arches::All => true,
            Arches::Only(only) => only == arch,
        }
    }
}

impl fmt::Display for Arches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arches::All => f.write_str("all"),
            Arches::Only(arch) => arch.fmt(f),
        }
    }
}

fn arch_parser() -> impl TypedValueParser<Value = Arch> {
    PossibleValuesParser::new(Arch::ALL.map(Arch::name)).try_map(|name| name.parse::<Arch>())
}

fn arches_parser() -> impl TypedValueParser<Value = Arches> {
    const ALL: &str = "all";
    let names = Arch::ALL.map(Arch::name).into_iter().chain([ALL]);
    PossibleValuesParser::new(names).try_map(|name| match name.as_str() {
        ALL => Ok(Arches::All),
        name => name.parse::<Arch>().map(Arches::Only),
    })
}

/// `store …`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List what is in the store
    Ls,
    /// Remove what has not been used for a while; never what is in use
    Gc(GcArgs),
    /// Hash everything again and compare with the recorded hashes
    Verify,
}

/// `store gc`.
#[derive(Debug, Clone, Args)]
pub struct GcArgs {
    /// Remove entries not used for this long, e.g. 30d or 12h
    #[arg(long, value_name = "AGE", default_value = "30d", value_parser = parse_age)]
    pub older_than: Duration,
    /// Then remove the least recently used until the store is no larger, e.g. 20G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// Delete; without it, only say what would be removed
    #[arg(long)]
    pub yes: bool,
}

/// More compilers at a time than any machine has use for; each of them needs a thread here.
const MOST_JOBS: usize = 1024;

/// The number of jobs: what was asked for, else one for each processor.
pub fn jobs(asked: Option<usize>) -> usize {
    asked
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
        .clamp(1, MOST_JOBS)
}

/// A number of jobs as somebody types it.
pub fn parse_jobs(text: &str) -> Result<usize, String> {
    let number: Option<usize> = text.parse().ok();
    number
        .filter(|jobs| (1..=MOST_JOBS).contains(jobs))
        .ok_or_else(|| format!("use a number from 1 to {MOST_JOBS}"))
}

fn parse_age(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("expected a number followed by s, m, h or d".into()),
    };
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(|| "too long".into())
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text)?;
    let bytes = match unit {
        "" => 1,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => return Err("expected a number, followed by M or G or by nothing".into()),
    };
    number.checked_mul(bytes).ok_or_else(|| "too large".into())
}

fn split_unit(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number = digits
        .parse()
        .map_err(|_| format!("`{text}` does not start with a number"))?;
    Ok((number, unit))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::supply::stock::ByHand;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("kpatch").chain(line.split_whitespace()))
    }

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn own_kernel_and_pinned_kernel_exclude_each_other() {
        assert!(parse("build a.patch --kernel 6.12 --source s --build-dir b").is_err());
        assert!(parse("build a.patch --build-dir b").is_err());
        assert!(parse("build a.patch --source s --build-dir b --vmlinux v").is_ok());
    }

    #[test]
    fn a_distributions_kernel_is_named_by_its_release() {
        let choice = |line: &str| match parse(line).unwrap().command {
            Command::Builder(BuilderCommand::Build(args)) => args.choice(),
            other => panic!("{other:?}"),
        };
        let stock = |line: &str| match choice(line).unwrap() {
            Choice::Stock(stock) => stock,
            other => panic!("{other:?}"),
        };
        let named = stock("build a.patch --kernel 6.1.0-47-cloud-amd64");
        assert_eq!(named.release.as_deref(), Some("6.1.0-47-cloud-amd64"));
        assert!(choice("build a.patch --kernel 6.1.0-47-cloud-amd64 --vmlinux v").is_err());
        assert_eq!(stock("build a.patch --kernel running").release, None);
        assert!(matches!(
            choice("build a.patch --kernel 6.12.107").unwrap(),
            Choice::Pinned(_)
        ));
        assert!(choice("build a.patch --kernel 6.12 --vmlinux v").is_err());
        assert!(choice("build a.patch --source s --vmlinux v").is_err());
        assert!(choice("build a.patch --kernel 6.1.0-47-amd64 --arch ppc64le").is_err());
    }

    #[test]
    fn a_kernel_from_elsewhere_is_named_by_its_parts() {
        let by_hand = |line: &str| match parse(line).unwrap().command {
            Command::Builder(BuilderCommand::Build(args)) => args.choice().map(|choice| match choice {
                Choice::Stock(stock) => stock.by_hand,
                other => panic!("{other:?}"),
            }),
            other => panic!("{other:?}"),
        };
        let whole = "build a.patch --image i --modules m --headers h --source s";
        assert!(matches!(by_hand(whole).unwrap(), Some(ByHand::Parts(parts)) if parts.headers == Path::new("h")));
        for part in ["--modules m ", "--headers h ", " --source s"] {
            assert!(parse(&whole.replace(part, "")).is_err(), "{part}");
        }
        assert!(parse(&format!("{whole} --build-dir b")).is_err());
        assert!(parse(&format!("{whole} --packages p")).is_err());
        let packages = "build a.patch --packages kernel.rpm";
        assert!(matches!(
            by_hand(packages).unwrap(),
            Some(ByHand::Packages { source: None, .. })
        ));
        let with_source = by_hand("build a.patch --packages x.deb --source s").unwrap();
        assert!(matches!(with_source, Some(ByHand::Packages { source: Some(_), .. })));
        assert_eq!(by_hand("build a.patch --packages x.deb").unwrap(), None);
        assert!(by_hand(&format!("{packages} --kernel 6.12.1-own")).is_err());
    }

    #[test]
    fn patches_are_files_or_commits() {
        assert!(parse("build --kernel 6.12").is_err());
        assert!(parse("build --kernel 6.12 --git . a..b a.patch").is_err());
        assert!(parse("build --kernel 6.12 --git .").is_err());
        assert!(parse("build a --kernel 6.12 --fuzz 4").is_err());
        match parse("build --kernel 6.12 --git repo a..b --fuzz 2").unwrap().command {
            Command::Builder(BuilderCommand::Build(args)) => {
                assert!(matches!(args.given(), Given::Git(path, "a..b") if path == Path::new("repo")));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_check_needs_a_boot() {
        assert!(parse("build a.patch --kernel 6.12 --check c.sh").is_err());
        assert!(parse("build a.patch --kernel 6.12 --check c.sh --boot").is_ok());
        assert!(parse("build a.patch --kernel 6.12 --boot --dry-run").is_err());
    }

    #[test]
    fn ages_and_sizes_have_units() {
        assert_eq!(parse_age("2d"), Ok(Duration::from_secs(172_800)));
        assert!(parse_age("2").is_err() && parse_age("d").is_err() && parse_age("99999999999999999d").is_err());
        assert_eq!(parse_size("20G"), Ok(20_000_000_000));
        assert!(parse_size("20X").is_err());
    }
}
