//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The program without the builder.
#[derive(Debug, Parser)]
#[command(
    name = "kpatch",
    version,
    about = "Loads livepatches, watches their transitions, and takes them out again",
    arg_required_else_help = true,
    after_help = EXIT_CODES
)]
pub struct Cli {
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, or in effect; 1 failed, or in transition; 2 not in effect, or no such livepatch; 64 wrong usage; \
69 this machine cannot do it (no livepatch support, not root).";

const AFTER_PREFLIGHT: &str = "\
Exit codes: 0 clear, 1 it would not load, 2 it would load and its transition would not end, 3 it is not for the kernel of \
this machine, 64 wrong usage, 69 nothing speaks against it, but not everything could be read (be root).";

/// What can be done on the machine that runs the livepatches.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a livepatch and wait until it is in effect; take it back if that does not happen in time
    #[command(after_help = EXIT_CODES)]
    Load(LoadArgs),
    /// Disable a livepatch, wait, and remove its module
    #[command(after_help = EXIT_CODES)]
    Unload(UnloadArgs),
    /// Say what would become of a livepatch on this machine, before it is loaded; changes nothing
    #[command(after_help = AFTER_PREFLIGHT)]
    Preflight(PreflightArgs),
    /// Say whether livepatches are in effect, and if not, which tasks hold them up
    #[command(after_help = EXIT_CODES)]
    Status(StatusArgs),
    /// List the livepatches that are loaded and those that are installed
    List,
    /// Show what a livepatch is and what it patches
    Info {
        /// A module file, or the name of a livepatch that is loaded or installed
        #[arg(value_name = "MODULE")]
        module: PathBuf,
    },
    /// Keep a livepatch and load it whenever its kernel boots
    Install(InstallArgs),
    /// Do not load a livepatch at boot any more
    Uninstall(InstallArgs),
    /// Ask the kernel to signal the tasks that hold up a transition
    Signal,
    /// Show what was done with livepatches on this machine
    History,
    /// Load what is installed for the running kernel, with a guard against boot loops (for the service)
    Autoload(AutoloadArgs),
    /// Do what the scripts of a livepatch's package have to do
    #[command(after_help = EXIT_CODES)]
    PackageStep(PackageStepArgs),
    /// Print the version of this program
    #[command(hide = true)]
    Version,
}

/// How long a transition may take.
#[derive(Debug, Clone, Args)]
pub struct Limit {
    /// Seconds that a transition may take before it is turned round
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

impl Limit {
    /// As a duration.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// `load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// A module file, or the name of an installed livepatch
    #[arg(value_name = "MODULE", required_unless_present = "all")]
    pub module: Option<PathBuf>,
    /// All that are installed for the running kernel
    #[arg(long, conflicts_with = "module")]
    pub all: bool,
    #[command(flatten)]
    pub limit: Limit,
}

/// `unload`.
#[derive(Debug, Args)]
pub struct UnloadArgs {
    /// The name of a loaded livepatch, or its file
    #[arg(value_name = "MODULE", required_unless_present = "all")]
    pub module: Option<PathBuf>,
    /// All that are loaded
    #[arg(long, conflicts_with = "module")]
    pub all: bool,
    /// Remove the module also if the kernel may still have the address of a function of it
    #[arg(long)]
    pub remove_kept: bool,
    #[command(flatten)]
    pub limit: Limit,
}

/// `preflight`.
#[derive(Debug, Args)]
pub struct PreflightArgs {
    /// The livepatch
    #[arg(value_name = "MODULE.ko")]
    pub module: PathBuf,
    /// Folder in which proc and sys of the machine are
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// One livepatch instead of all
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Wait for the end of a transition, at most so long
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60")]
    pub wait: Option<u64>,
    /// Ask the kernel to signal the tasks that are left
    #[arg(long)]
    pub nudge: bool,
    /// The whole stack of each task that is left
    #[arg(long)]
    pub stacks: bool,
}

/// `install` and `uninstall`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// A module file; for uninstall also its name
    #[arg(value_name = "MODULE")]
    pub module: PathBuf,
    /// The kernel it is for [default: for install what the file says, for uninstall the running one]
    #[arg(long, short, value_name = "RELEASE")]
    pub kernel_version: Option<String>,
}

/// When a script of a package runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// Before the files of a new version come: keep what is in effect
    BeforeUpgrade,
    /// Once the files are there: load the new version if its kernel runs; if that fails, keep what was in effect for boots
    AfterInstall,
    /// Before the files go for good, or after it if that was missed: take out what is loaded of the series, and forget what was kept
    BeforeRemoval,
}

/// `package-step`.
#[derive(Debug, Args)]
pub struct PackageStepArgs {
    /// When it is
    #[arg(value_name = "STEP")]
    pub step: Step,
    /// The module in the package, after an installation
    #[arg(value_name = "NAME", required_if_eq("step", "after-install"))]
    pub module: Option<String>,
    /// The kernel that the package is for
    #[arg(long, short, value_name = "RELEASE")]
    pub kernel_version: String,
    /// The series of livepatches: its folder below that of the release in /usr/lib/kpatch
    #[arg(long, value_name = "NAME")]
    pub series: String,
    #[command(flatten)]
    pub limit: Limit,
}

/// `autoload`.
#[derive(Debug, Args)]
pub struct AutoloadArgs {
    /// Say that this boot is healthy: what it has loaded is trusted from now on
    #[arg(long)]
    pub healthy: bool,
    #[command(flatten)]
    pub limit: Limit,
}
