//! `--save-case`: a run as a folder that can be run elsewhere, with everything that it takes except the kernel.
//!
//! The folder has the format of the test harness's corpus (testdata/corpus/README.md): patches, the guest check, and a
//! description with what became of them here. `cargo xtask e2e --case DIR --kernel …` runs it. Nothing in it tells of the
//! machine: no absolute path, no name of a host or a user.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kpatch_core::names;
use serde::Serialize;

use crate::build::livepatch::Livepatch;
use crate::kernel::{Arch, Kernel};
use crate::outcome::Ending;
use crate::prove::guest::Setup;
use crate::prove::vm::Behaviour;
use crate::sh;
use crate::summary::Boot;
use crate::supply::store::hash_file;
use crate::yaml;

/// What a configuration is called that is in no manifest.
pub const OWN: &str = "own";

/// Names of files in the folder.
const DESCRIPTION: &str = "case.yaml";
const CHECK: &str = "check.sh";
const HOLD: &str = "hold.sh";
const PROGRAM: &str = "probe.c";
const CONFIG: &str = "kernel.config";

/// More of an error than this is in nobody's way to the cause.
const MOST_OF_AN_ERROR: usize = 600;

/// What a case is made of.
pub struct Saving<'a> {
    /// The folder that the case is written into.
    pub folder: &'a Path,
    /// The kernel.
    pub kernel: Kernel<'a>,
    /// Name of its configuration, or [`OWN`].
    pub config: &'a str,
    /// The patch files, in the order they were applied.
    pub patches: &'a [PathBuf],
    /// Which of them were left out, from 0.
    pub left_out: Vec<usize>,
    /// What the user answers for.
    pub accept: &'a [String],
    /// Whether the livepatch replaces those that are loaded already.
    pub replace: bool,
    /// What the proof needs.
    pub setup: &'a Setup,
    /// Which state of the tool this is.
    pub tool: String,
    /// Folders of this machine whose names are in errors.
    pub folders: &'a [&'a Path],
}

/// What became of a run, as far as it says something about the patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Refused with these codes.
    Refused(BTreeSet<String>),
    /// Nothing that runs changes.
    NoChange,
    /// Boot code changes, and nothing else.
    BootOnly,
    /// The build ended with this error.
    Failed(String),
    /// A livepatch of these functions, by object.
    Built {
        /// Names of the redirected functions, by object.
        functions: BTreeMap<String, BTreeSet<String>>,
        /// What the booted machine had to say against it.
        against: Option<String>,
    },
}

impl Outcome {
    /// An error that ended the build; `None` if it says nothing about the patches.
    pub fn of_error(error: &anyhow::Error) -> Option<Self> {
        if sh::was_interrupted() {
            return None;
        }
        match error.downcast_ref::<Ending>() {
            Some(Ending::Refused(refusals)) => {
                let codes = refusals.iter().map(|refusal| refusal.code.to_string());
                Some(Outcome::Refused(codes.collect()))
            }
            Some(Ending::NoChange(_)) => Some(Outcome::NoChange),
            Some(Ending::BootOnly(_)) => Some(Outcome::BootOnly),
            Some(Ending::Infrastructure(_) | Ending::Usage(_)) => None,
            None => Some(Outcome::Failed(format!("{error:#}"))),
        }
    }

    /// A livepatch, with its boot if there was one.
    pub fn of_livepatch(livepatch: &Livepatch, boot: Option<&Boot>) -> Self {
        let mut functions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for function in livepatch.functions() {
            let names = functions.entry(function.object.to_string()).or_default();
            names.insert(names::unpromoted(&function.name).to_owned());
        }
        let verdict = boot.map_or(Ok(()), Boot::verdict);
        let against = verdict.err().filter(|error| !error.is::<Ending>());
        Outcome::Built {
            functions,
            against: against.map(|error| format!("{error:#}")),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Outcome::Refused(_) => "refused",
            Outcome::NoChange => "no-change",
            Outcome::BootOnly => "boot-only",
            Outcome::Built { against: None, .. } => "built",
            Outcome::Failed(_) | Outcome::Built { .. } => "failed",
        }
    }

    fn why(&self) -> String {
        match self {
            Outcome::Refused(_) => {
                "It was refused, and that is what is expected. Whoever thinks that it should become a \
                                    livepatch writes down the functions that should be patched."
                    .to_owned()
            }
            Outcome::NoChange => "It was found to change nothing that runs, and that is what is expected.".to_owned(),
            Outcome::BootOnly => "It was found to change boot code only, and that is what is expected.".to_owned(),
            Outcome::Built { against: None, .. } => "It was built, and that is what is expected.".to_owned(),
            Outcome::Built {
                against: Some(error), ..
            } => format!(
                "It was built, and the boot test failed. Expected is what the user wants: that a livepatch of these \
                 functions passes. What was seen: {error}"
            ),
            Outcome::Failed(error) => format!(
                "The build failed. Expected is what the user wants: a livepatch; which functions it would patch is not \
                 known. What was seen: {error}"
            ),
        }
    }
}

/// What `case.yaml` holds; xtask/src/corpus.rs reads it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Description {
    why: String,
    kernels: Vec<String>,
    arches: Vec<Arch>,
    patches: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accept: Vec<String>,
    expect: Expectation,
    replace: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    during: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modules: Option<Modules>,
    origin: Origin,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Expectation {
    #[serde(skip_serializing_if = "Option::is_none")]
    patched: Option<BTreeMap<String, BTreeSet<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<BTreeSet<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_change: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    built: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Moment {
    hold: &'static str,
    expect: Behaviour,
}

#[derive(Debug, Serialize)]
struct Modules {
    before: Vec<String>,
    after: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Origin {
    tool: String,
    outcome: &'static str,
    release: String,
    config: String,
    config_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_file: Option<&'static str>,
    compiler: String,
    linker: String,
}

/// Makes sure before anything long begins that a case can go there: into a folder that is empty or not there yet.
pub fn check_folder(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    let is_empty = folder.is_dir() && fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty {
        return Ok(());
    }
    Err(Ending::usage(format!(
        "--save-case: {} is there already; name a folder that is not",
        folder.display()
    )))
}

impl Saving<'_> {
    /// Writes the case into its folder.
    pub fn save(&self, outcome: &Outcome) -> Result<()> {
        fs::create_dir_all(self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        let patches = self.patches.iter().enumerate().map(|(index, patch)| {
            let name = self.patch_name(index, patch);
            self.copy(patch, &name, 0o644).map(|()| name)
        });
        let patches = patches.collect::<Result<Vec<_>>>()?;
        let is_built = matches!(outcome, Outcome::Built { .. } | Outcome::Failed(_));
        // Nothing is looked at in a guest where nothing is built.
        let setup = is_built.then_some(self.setup);
        let check = setup.and_then(|setup| setup.check.as_deref());
        let program = setup
            .and_then(|setup| setup.program.as_deref())
            .filter(|_| check.is_some());
        if let Some(check) = check {
            self.copy(check, CHECK, 0o755)?;
        }
        let during = setup.and_then(|setup| setup.during.as_ref());
        if let Some(during) = during {
            self.copy(&during.hold, HOLD, 0o755)?;
        }
        if let Some(program) = program {
            self.copy(program, PROGRAM, 0o644)?;
        }
        let modules = setup.filter(|setup| !setup.before.is_empty() || !setup.after.is_empty());
        let description = Description {
            why: self.without_places(&format!("Saved by `--save-case`. {}", shortened(&outcome.why()))),
            kernels: vec![series(self.kernel.release())],
            arches: vec![self.kernel.arch()],
            left_out: self.left_out.iter().map(|index| patches[*index].clone()).collect(),
            patches,
            accept: self.accept.to_vec(),
            expect: expectation(outcome),
            replace: self.replace,
            check: check.map(|_| CHECK),
            during: during.map(|during| Moment {
                hold: HOLD,
                expect: during.expect,
            }),
            program: program.map(|_| PROGRAM),
            modules: modules.map(|setup| Modules {
                before: setup.before.clone(),
                after: setup.after.clone(),
            }),
            origin: self.origin(outcome)?,
        };
        let file = self.folder.join(DESCRIPTION);
        fs::write(&file, yaml::text(&description)?).with_context(|| format!("cannot write {}", file.display()))
    }

    fn origin(&self, outcome: &Outcome) -> Result<Origin> {
        let file = self.kernel.objects().join(".config");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let is_own = self.config == OWN;
        if is_own {
            let own = self.folder.join(CONFIG);
            fs::write(&own, portable(&text)).with_context(|| format!("cannot write {}", own.display()))?;
        }
        Ok(Origin {
            tool: self.tool.clone(),
            outcome: outcome.name(),
            release: self.kernel.release().to_owned(),
            config: self.config.to_owned(),
            config_sha256: hash_file(&file)?,
            config_file: is_own.then_some(CONFIG),
            compiler: self.without_places(value(&text, "CC_VERSION_TEXT").unwrap_or("unknown")),
            linker: linker(&text),
        })
    }

    /// The name of the patch, with its number if there are several: those of two folders may be called the same.
    fn patch_name(&self, index: usize, patch: &Path) -> String {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        match self.patches.len() {
            1 => format!("{name}.patch"),
            _ => format!("{:02}-{name}.patch", index + 1),
        }
    }

    fn copy(&self, from: &Path, name: &str, mode: u32) -> Result<()> {
        let to = self.folder.join(name);
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        fs::write(&to, bytes)
            .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", to.display()))
    }

    /// A text without the places of this machine.
    fn without_places(&self, text: &str) -> String {
        let own = [self.kernel.source(), self.kernel.objects()];
        // The longest first: one of them may lie in another.
        let mut folders: Vec<&Path> = self.folders.iter().copied().chain(own).collect();
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.as_os_str().len()));
        let mut text = text.to_owned();
        for folder in folders {
            text = text.replace(&format!("{}/", folder.display()), "");
        }
        without_absolute_paths(&text)
    }
}

fn expectation(outcome: &Outcome) -> Expectation {
    let mut expect = Expectation::default();
    match outcome {
        Outcome::Refused(codes) => expect.refused = Some(codes.clone()),
        Outcome::NoChange => expect.no_change = Some(true),
        Outcome::BootOnly => expect.boot_only = Some(true),
        Outcome::Failed(_) => expect.built = Some(true),
        Outcome::Built { functions, .. } => expect.patched = Some(functions.clone()),
    }
    expect
}

/// `6.12` of `6.12.107-rc1+`.
fn series(release: &str) -> String {
    release.split(['.', '-']).take(2).collect::<Vec<_>>().join(".")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_OF_AN_ERROR) {
        Some((at, _)) => format!("{} …", &text[..at]),
        None => text.to_owned(),
    }
}

/// The value of a symbol in a `.config`, without quotes.
fn value<'t>(config: &'t str, symbol: &str) -> Option<&'t str> {
    let value = |line: &'t str| line.strip_prefix("CONFIG_")?.strip_prefix(symbol)?.strip_prefix('=');
    config.lines().find_map(value).map(|value| value.trim_matches('"'))
}

/// Which linker a `.config` names (scripts/ld-version.sh: 19.1.7 is 190107).
fn linker(config: &str) -> String {
    let version = |symbol| {
        let number: u32 = value(config, symbol)?.parse().ok().filter(|number| *number > 0)?;
        let (major, minor, patch) = (number / 10_000, number / 100 % 100, number % 100);
        Some(format!("{major}.{minor}.{patch}"))
    };
    match (version("LLD_VERSION"), version("LD_VERSION")) {
        (Some(lld), _) => format!("LLD {lld}"),
        (None, Some(ld)) => format!("GNU ld {ld}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// A `.config` without what is true of one machine only.
fn portable(config: &str) -> String {
    let line = |line: &str| match line.split_once('=') {
        Some(("CONFIG_DEFAULT_HOSTNAME" | "CONFIG_BUILD_SALT", _)) => None,
        Some((symbol, value)) => Some(format!("{symbol}={}\n", without_absolute_paths(value))),
        None => Some(format!("{line}\n")),
    };
    config.lines().filter_map(line).collect()
}

/// A text in which each absolute path is its last part only.
fn without_absolute_paths(text: &str) -> String {
    let is_of_path = |c: char| c.is_alphanumeric() || "/._-+~@%#$".contains(c);
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('/') {
        let before = &rest[..at];
        let length = rest[at..].find(|c| !is_of_path(c)).unwrap_or(rest.len() - at);
        let path = &rest[at..at + length];
        let before_it = out.chars().last();
        let last = before.chars().last().or(before_it);
        let is_absolute = last.is_none_or(|c| !is_of_path(c)) || before.ends_with("-I") || before.ends_with("-L");
        let is_path = path.chars().nth(1).is_some_and(|c| c != '/');
        out.push_str(before);
        out.push_str(if is_absolute && is_path {
            path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
        } else {
            path
        });
        rest = &rest[at + length..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_absolute_path_is_left() {
        for (text, expected) in [
            ("cannot read /home/me/linux/fs/a.c: no", "cannot read a.c: no"),
            ("/a/b.c:3:1: error: `/x/y`", "b.c:3:1: error: `y`"),
            ("clang -I/home/me/include -o=/tmp/x.o", "clang -Iinclude -o=x.o"),
            ("fs/ext4/inode.c, a / b, // c", "fs/ext4/inode.c, a / b, // c"),
            ("\"/certs/key.pem\"", "\"key.pem\""),
            ("/", "/"),
        ] {
            assert_eq!(without_absolute_paths(text), expected);
        }
    }

    #[test]
    fn a_configuration_says_what_built_it_and_not_where() {
        let config = "CONFIG_CC_VERSION_TEXT=\"clang version 19.1.7\"\nCONFIG_LLD_VERSION=190107\nCONFIG_LD_VERSION=0\n\
                      # CONFIG_X is not set\nCONFIG_DEFAULT_HOSTNAME=\"mine\"\nCONFIG_KEYS=\"/home/me/keys.pem\"\n";
        assert_eq!(value(config, "CC_VERSION_TEXT"), Some("clang version 19.1.7"));
        assert_eq!(linker(config), "LLD 19.1.7");
        assert_eq!(
            linker("CONFIG_LLD_VERSION=0\nCONFIG_LD_VERSION=24000\n"),
            "GNU ld 2.40.0"
        );
        let portable = portable(config);
        assert!(portable.contains("# CONFIG_X is not set\n") && portable.contains("CONFIG_KEYS=\"keys.pem\"\n"));
        assert!(!portable.contains("mine") && !portable.contains("/home"), "{portable}");
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        check_folder(folder.path()).unwrap();
        check_folder(&folder.path().join("new")).unwrap();
        fs::write(folder.path().join("x"), "").unwrap();
        assert!(check_folder(folder.path()).is_err());
        assert!(check_folder(&folder.path().join("x")).is_err());
    }

    #[test]
    fn only_what_says_something_about_the_patches_is_an_outcome() {
        assert_eq!(Outcome::of_error(&Ending::infrastructure("no space left")), None);
        let failed = Outcome::of_error(&anyhow::anyhow!("objtool failed"));
        assert_eq!(failed, Some(Outcome::Failed("objtool failed".into())));
    }
}
