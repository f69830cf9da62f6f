//! The corpus of patches that prove the tool: one directory a case, read here and checked for contradictions.
//!
//! A case that silently proves nothing is worse than none (a check that is not named, a patch that is not listed, an
//! expectation that names no function), so everything that does not fit together is a problem, and all problems of all
//! cases are reported at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use kpatch_build::kernel::Arch;
use kpatch_build::prove::guest::Setup;
use kpatch_build::prove::proof::During;
use kpatch_build::supply::place::Place;
use kpatch_build::yaml;

mod modules;
mod moments;
mod variants;

pub use modules::Modules;
use moments::{DuringDescription, ThenDescription};
use variants::Variant;

/// The description every case directory has.
pub const DESCRIPTION: &str = "case.yaml";
/// What may lie beside the case directories.
const README: &str = "README.md";

/// One case: patches, what must become of them, and how a guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The name of the directory.
    pub name: String,
    pub dir: PathBuf,
    /// Which construct this is and what goes wrong with it.
    pub why: String,
    /// Kernel series the patches are for, e.g. `6.12`.
    pub kernels: Vec<String>,
    /// Architectures the case makes sense on.
    pub arches: Vec<Arch>,
    /// The patches in the order they are applied: patch files, mailboxes, folders.
    pub patches: Vec<PathBuf>,
    /// The folder with the sources of modules outside of the kernel's tree, which are built first and then patched.
    pub module_dir: Option<PathBuf>,
    /// Names of the patches that must be left out since they cannot be livepatched; if there are any, the tool is asked to.
    pub left_out: BTreeSet<String>,
    /// Structures and tables of functions that change, which is all right here.
    pub accept: Vec<String>,
    /// No more than so many files may be compiled, of all that read what the patches change.
    pub compiles: Option<usize>,
    /// What the tool must make of the patches.
    pub expect: Expect,
    /// Whether the livepatch replaces those that are loaded already.
    pub replace: bool,
    /// A shell script for the guest: exit code 0 for the new behaviour, 1 for the old, anything else is broken.
    pub check: Option<PathBuf>,
    /// What the check must see while the transition is held open.
    pub during: Option<During>,
    /// Texts in the kernel's log that belong to the old behaviour, which the livepatch must put an end to.
    pub reports: Vec<String>,
    /// A C program the check uses, built statically and placed beside it as `probe`.
    pub program: Option<PathBuf>,
    /// Modules the guest loads.
    pub modules: Modules,
    /// Another livepatch that comes on top of the first.
    pub then: Option<Then>,
    /// Who must hold the transition up for ever, for a case about just that.
    pub stalls: Option<Stalls>,
    /// Whether other cases may run in the same guest.
    pub boot: Boot,
    /// Whether it belongs to the short set that runs on every push.
    pub quick: bool,
    /// Why the case cannot pass yet.
    pub known_bad: Option<KnownBad>,
    /// Where a case comes from that `--save-case` wrote.
    pub origin: Option<Origin>,
    /// The description, with what differs at some places; see [`Case::at`].
    written: Description,
}

/// What the tool must make of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// A livepatch that patches exactly these functions, by object (`vmlinux` or a module). Names are those of the
    /// source, without a `.llvm.` suffix.
    Patched(BTreeMap<String, BTreeSet<String>>),
    /// A refusal with exactly these codes.
    Refused(BTreeSet<String>),
    /// The verdict that nothing that runs changes.
    NoChange,
    /// The verdict that boot code changes, and nothing else.
    BootOnly,
    /// A livepatch, whatever it patches: a build that failed tells nothing about that. Only cases that `--save-case` wrote.
    Built,
}

/// Where a case comes from that `--save-case` wrote (kpatch-build/src/commands/save_case.rs): for people who look for what
/// differs between there and here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Origin {
    /// Which state of the tool.
    pub tool: String,
    /// What became of it there: `built`, `refused`, `no-change`, `boot-only`, `failed`.
    pub outcome: String,
    /// `uname -r` of the kernel.
    pub release: String,
    /// Name of its configuration, or `own`.
    pub config: String,
    /// Checksum of its `.config`.
    pub config_sha256: String,
    /// The configuration itself, of a kernel that is in no manifest.
    pub config_file: Option<String>,
    /// What compiled the kernel.
    pub compiler: String,
    /// What linked it.
    pub linker: String,
}

/// Another livepatch that is loaded while the first is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Then {
    /// Its patches, for the same unpatched kernel.
    pub patches: Vec<PathBuf>,
    /// The functions it patches, by object.
    pub patched: BTreeMap<String, BTreeSet<String>>,
    /// Whether it takes the place of the first, or lies on top of it.
    pub replace: bool,
    /// As the case's own check: 0 for what the second livepatch does, 1 for what the first does.
    pub check: PathBuf,
}

/// A transition that cannot end.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stalls {
    /// Name of the task that must be reported.
    pub task: String,
    /// The patched function that must be on its stack.
    pub function: String,
}

/// Whether a case can share its guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// Other cases run before and after this one.
    #[default]
    Shared,
    /// The case leaves something behind, so it gets a guest of its own.
    Fresh,
}

/// Why a case cannot pass yet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownBad {
    /// For the report.
    pub reason: String,
    /// Where the repair is tracked: a number such as `#12`, or an address.
    pub issue: String,
}

/// `case.yaml` as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Description {
    why: String,
    kernels: Vec<String>,
    arches: Vec<Arch>,
    patches: Vec<String>,
    module_dir: Option<String>,
    #[serde(default)]
    left_out: BTreeSet<String>,
    #[serde(default)]
    accept: Vec<String>,
    compiles: Option<usize>,
    expect: Expectation,
    #[serde(default = "yes")]
    replace: bool,
    check: Option<String>,
    during: Option<DuringDescription>,
    #[serde(default)]
    reports: Vec<String>,
    program: Option<String>,
    #[serde(default)]
    modules: Modules,
    then: Option<ThenDescription>,
    stalls: Option<Stalls>,
    #[serde(default)]
    boot: Boot,
    #[serde(default)]
    quick: bool,
    known_bad: Option<KnownBad>,
    origin: Option<Origin>,
    #[serde(default)]
    variants: Vec<Variant>,
}

fn yes() -> bool {
    true
}

/// `expect:` as it is written; exactly one of the five is filled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Expectation {
    patched: Option<BTreeMap<String, Vec<String>>>,
    refused: Option<Vec<String>>,
    no_change: Option<bool>,
    boot_only: Option<bool>,
    built: Option<bool>,
}

/// Reads every case below `root`, in the order of their names. Collects the problems of all of them.
pub fn load_all(root: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let mut problems = Vec::new();
    for name in entries(root)? {
        let path = root.join(&name);
        if path.is_dir() {
            match load(&path) {
                Ok(case) => cases.push(case),
                Err(found) => problems.extend(found),
            }
        } else if name != README {
            problems.push(format!(
                "{}: only case directories and {README} belong here",
                path.display()
            ));
        }
    }
    if !problems.is_empty() {
        bail!("{} problem(s) in the corpus:\n{}", problems.len(), problems.join("\n"));
    }
    if cases.is_empty() {
        bail!("{}: there is no case here", root.display());
    }
    Ok(cases)
}

/// Reads the case of one folder, wherever that is.
pub fn load_one(dir: &Path) -> Result<Case> {
    let dir = fs::canonicalize(dir).with_context(|| format!("cannot find the case {}", dir.display()))?;
    load(&dir).map_err(|problems| anyhow!(problems.join("\n")))
}

/// The case a patch file lies in, or nothing for a patch from elsewhere.
pub fn case_of_patch(path: &Path) -> Result<Option<Case>> {
    let patch = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
    let Some(dir) = patch.parent().filter(|dir| dir.join(DESCRIPTION).is_file()) else {
        return Ok(None);
    };
    let case = load(dir).map_err(|problems| anyhow!(problems.join("\n")))?;
    Ok(case.with_patch(&patch))
}

/// What the proof of a case's patch needs, if the first patch is of a case: its own check, at this place of the matrix.
pub fn setup(patches: &[PathBuf], place: Option<&Place>) -> Result<Option<Setup>> {
    let case = patches.first().map(|first| case_of_patch(first)).transpose()?.flatten();
    let Some(case) = case else { return Ok(None) };
    let case = place.map_or(case.clone(), |place| case.at(place));
    Ok(Some(Setup {
        name: case.name,
        check: case.check,
        during: case.during,
        reports: case.reports,
        program: case.program,
        before: case.modules.before,
        after: case.modules.after,
    }))
}

/// Reads one case, or says everything that is wrong with it.
fn load(dir: &Path) -> Result<Case, Vec<String>> {
    let file = dir.join(DESCRIPTION);
    let description: Description = yaml::read(&file).map_err(|error| vec![format!("{error:#}")])?;
    let mut problems = problems_of_files(dir, &description);
    let mut whole = |description: Description| {
        problems.extend(problems_of_text(&description));
        let expect = expectation(&description.expect)
            .map_err(|why| problems.push(why))
            .ok()?;
        problems.extend(problems_of_expectation(&expect, &description));
        Some(case(dir, description, expect))
    };
    for variant in &description.variants {
        whole(variant.over(&description));
    }
    let base = whole(description.clone());
    problems.extend(
        description
            .variants
            .iter()
            .flat_map(|variant| variant.problems(&description)),
    );
    match base {
        Some(base) if problems.is_empty() => Ok(base),
        _ => Err(problems
            .into_iter()
            .map(|why| format!("{}: {why}", file.display()))
            .collect()),
    }
}

fn case(dir: &Path, description: Description, expect: Expect) -> Case {
    let written = description.clone();
    Case {
        name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        dir: dir.to_owned(),
        why: description.why,
        kernels: description.kernels,
        arches: description.arches,
        patches: description.patches.iter().map(|name| dir.join(name)).collect(),
        module_dir: description.module_dir.map(|name| dir.join(name)),
        left_out: description.left_out,
        accept: description.accept,
        compiles: description.compiles,
        expect,
        replace: description.replace,
        check: description.check.map(|name| dir.join(name)),
        during: description.during.map(|during| during.of(dir)),
        reports: description.reports,
        program: description.program.map(|name| dir.join(name)),
        modules: description.modules,
        then: description.then.map(|then| then.of(dir)),
        stalls: description.stalls,
        boot: description.boot,
        quick: description.quick,
        known_bad: description.known_bad,
        origin: description.origin,
        written,
    }
}

/// What is missing, doubled or contradictory without a look at the files or the expectation.
fn problems_of_text(description: &Description) -> Vec<String> {
    let mut problems = Vec::new();
    let mut must = |holds: bool, why: &str| {
        if !holds {
            problems.push(why.to_owned());
        }
    };
    must(!description.why.trim().is_empty(), "`why` is empty");
    must(!description.kernels.is_empty(), "`kernels` is empty");
    must(
        description.kernels.iter().all(|series| is_series(series)),
        "`kernels` holds series such as \"6.12\"",
    );
    must(!description.arches.is_empty(), "`arches` is empty");
    must(!description.patches.is_empty(), "`patches` is empty");
    must(is_unique(&description.arches), "`arches` names one twice");
    must(is_unique(&description.patches), "`patches` names one twice");
    must(
        description.patches.iter().all(|name| is_patch_name(name)),
        "`patches` are called *.patch or *.mbox, or are folders",
    );
    must(
        description.program.as_ref().is_none_or(|name| name.ends_with(".c")),
        "`program` is called *.c",
    );
    must(
        description.program.is_none() || description.check.is_some(),
        "`program` without a `check` that uses it",
    );
    must(
        description.during.is_none() || (description.check.is_some() && description.modules.after.is_empty()),
        "`during` needs a `check` that can see something before modules are loaded `after`",
    );
    must(
        description.then.is_none() || description.stalls.is_none(),
        "`then` cannot follow on a transition that stalls",
    );
    must(
        description.stalls.is_none() || description.boot == Boot::Fresh,
        "a transition that stalls needs `boot: fresh`",
    );
    for (holds, why) in description.modules.rules() {
        must(holds, why);
    }
    let known_bad = description.known_bad.as_ref();
    must(
        known_bad.is_none_or(|bad| !bad.reason.trim().is_empty()),
        "`known-bad` without a reason",
    );
    must(
        known_bad.is_none_or(|bad| !bad.issue.trim().is_empty()),
        "`known-bad` without an issue",
    );
    problems
}

/// Files that are named but missing, and files that nobody names.
fn problems_of_files(dir: &Path, description: &Description) -> Vec<String> {
    let variants: Vec<Description> = description.variants.iter().map(|one| one.over(description)).collect();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let mut checks: BTreeSet<&str> = BTreeSet::new();
    for description in [description].into_iter().chain(&variants) {
        named.extend(description.patches.iter().map(String::as_str));
        named.extend(
            description
                .module_dir
                .iter()
                .chain(&description.program)
                .map(String::as_str),
        );
        named.extend(
            description
                .origin
                .iter()
                .flat_map(|origin| origin.config_file.as_deref()),
        );
        checks.extend(description.check.as_deref());
        checks.extend(description.during.iter().map(|during| during.hold.as_str()));
        if let Some(then) = &description.then {
            named.extend(then.patches.iter().map(String::as_str));
            checks.insert(&then.check);
        }
    }
    named.extend(&checks);
    let is_folder_of_patches = |name: &str| !name.contains(['/', '.']) && dir.join(name).is_dir();
    let mut problems: Vec<String> = named
        .iter()
        .filter(|name| !is_file_of(dir, name) && !is_folder_of_patches(name))
        .map(|name| format!("there is no file `{name}`"))
        .collect();
    match entries(dir) {
        Ok(present) => problems.extend(
            present
                .iter()
                .filter(|name| *name != DESCRIPTION && !named.contains(name.as_str()))
                .map(|name| format!("nothing names the file `{name}`")),
        ),
        Err(error) => problems.push(format!("{error:#}")),
    }
    let without = |name: &&String| !dir.join(name).join("Kbuild").is_file();
    let modules = description.module_dir.iter().filter(without);
    problems.extend(modules.map(|name| format!("there is no Kbuild in `{name}`")));
    for check in checks.into_iter().filter(|name| is_file_of(dir, name)) {
        if !is_executable(&dir.join(check)) {
            problems.push(format!("`{check}` is not executable"));
        }
    }
    problems
}

/// The expectation, of which exactly one kind must be written.
fn expectation(written: &Expectation) -> Result<Expect, String> {
    let flags = (written.no_change, written.boot_only, written.built);
    match (&written.patched, &written.refused, flags) {
        (Some(objects), None, (None, None, None)) => patched(objects),
        (None, Some(codes), (None, None, None)) => refused(codes),
        (None, None, (Some(true), None, None)) => Ok(Expect::NoChange),
        (None, None, (None, Some(true), None)) => Ok(Expect::BootOnly),
        (None, None, (None, None, Some(true))) => Ok(Expect::Built),
        _ => Err(
            "`expect` holds exactly one of `patched`, `refused`, `no-change: true`, `boot-only: true` and \
                  `built: true`"
                .into(),
        ),
    }
}

fn patched(objects: &BTreeMap<String, Vec<String>>) -> Result<Expect, String> {
    if objects.is_empty() {
        return Err("`patched` names no object".into());
    }
    for (object, functions) in objects {
        if !is_unique(functions) {
            return Err(format!("`patched` names a function of `{object}` twice"));
        }
        if let Some(name) = functions.iter().find(|name| name.contains(".llvm.")) {
            return Err(format!(
                "`{name}`: the hash behind .llvm. differs in every build, leave it out"
            ));
        }
    }
    Ok(Expect::Patched(sets(objects)))
}

fn sets(objects: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, BTreeSet<String>> {
    let set = |(object, functions): (&String, &Vec<String>)| (object.clone(), functions.iter().cloned().collect());
    objects.iter().map(set).collect()
}

fn refused(codes: &[String]) -> Result<Expect, String> {
    if codes.is_empty() {
        return Err("`refused` names no code".into());
    }
    match codes.iter().find(|code| !is_code(code)) {
        Some(code) => Err(format!("`{code}` is not a code such as `select.data-changed`")),
        None => Ok(Expect::Refused(codes.iter().cloned().collect())),
    }
}

/// What does not fit to the expectation.
fn problems_of_expectation(expect: &Expect, description: &Description) -> Vec<String> {
    // What `--save-case` wrote has what its user had; without a check only loading and unloading is proven.
    if description.origin.is_some() {
        return Vec::new();
    }
    if *expect == Expect::Built {
        return vec!["`built` does not say what is patched; only a case with an `origin` may leave that open".into()];
    }
    let Expect::Patched(objects) = expect else {
        let guest =
            description.check.is_some() || description.modules != Modules::default() || description.compiles.is_some();
        let moments = description.during.is_some() || description.stalls.is_some() || !description.reports.is_empty();
        return if guest || description.then.is_some() || moments {
            vec!["`check`, `compiles`, `during`, `modules`, `reports`, `then` and `stalls` belong to a case that is patched".into()]
        } else {
            Vec::new()
        };
    };
    let mut problems = Vec::new();
    if description.check.is_none() && description.stalls.is_none() {
        problems.push("a case that is patched needs a `check`".into());
    }
    if let Some(Err(why)) = description.then.as_ref().map(|then| patched(&then.patched)) {
        problems.push(format!("then: {why}"));
    }
    let Modules { before, after, .. } = &description.modules;
    for object in objects.keys().filter(|object| *object != "vmlinux") {
        if !before.contains(object) && !after.contains(object) {
            problems.push(format!("`{object}` is patched but `modules` never loads it"));
        }
    }
    problems
}

/// The names in a directory, sorted.
fn entries(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A patch, a mailbox, or a folder with patches.
fn is_patch_name(name: &str) -> bool {
    name.ends_with(".patch") || name.ends_with(".mbox") || !name.contains('.')
}

/// The patch files of what a case names: those in a folder, by name.
pub fn patch_files(patches: &[PathBuf]) -> Vec<PathBuf> {
    let files = |path: &PathBuf| -> Vec<PathBuf> {
        if !path.is_dir() {
            return vec![path.clone()];
        }
        // A folder that cannot be read is found out where its patches are wanted.
        let names = entries(path).unwrap_or_default();
        let names = names.into_iter().filter(|name| name.ends_with(".patch"));
        names.map(|name| path.join(name)).collect()
    };
    patches.iter().flat_map(files).collect()
}

/// Whether a name is that of a file directly in the directory.
fn is_file_of(dir: &Path, name: &str) -> bool {
    !name.contains('/') && dir.join(name).is_file()
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.permissions().mode() & 0o111 != 0)
}

fn is_unique<T: Ord>(items: &[T]) -> bool {
    items.iter().collect::<BTreeSet<_>>().len() == items.len()
}

fn is_series(text: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}

fn is_code(text: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    text.split_once('.')
        .is_some_and(|(area, name)| is_word(area) && is_word(name))
}

#[cfg(test)]
mod tests;
