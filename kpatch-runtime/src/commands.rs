//! The commands: what is done for each, and what is printed of it.

mod autoload;
mod package_step;
mod show;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::answer::Answer;
use crate::cli::{Command, InstallArgs, LoadArgs, UnloadArgs};
use crate::error::{EXIT_ENVIRONMENT, EXIT_FAILED, EXIT_OK, Error, Result};
use crate::guard::Guard;
use crate::installed::Installed;
use crate::kernel::{Kernel, Running};
use crate::load::{self, Loaded};
use crate::machine::Machine;
use crate::module::ModuleFile;
use crate::rescue::Rescue;
use crate::{history, installed, preflight, transition, unload};

/// Of all JSON documents of this crate.
const FORMAT: u32 = 1;

/// Runs a command on this machine and prints what came of it.
pub fn main(command: &Command, json: bool) -> ExitCode {
    let machine = Machine::at("/");
    let answer = answer(command, &machine, &Running::new());
    let (code, document, lines) = match answer {
        Ok(Answer { lines, json, code }) => (code, json, lines),
        Err(error) => {
            complain(&error);
            let document = serde_json::json!({ "outcome": error.outcome(), "error": error.to_string() });
            (error.exit_code(), document, Vec::new())
        }
    };
    match print(json, document, &lines, code) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&Error::Environment(format!("cannot write to standard output: {error}")));
            ExitCode::from(EXIT_ENVIRONMENT)
        }
        // A reader that has seen enough (`| head`) is no error.
        _ => ExitCode::from(code),
    }
}

#[expect(clippy::print_stderr, reason = "the one place where an error is shown")]
fn complain(error: &Error) {
    eprintln!("error: {error}");
}

fn print(json: bool, mut document: serde_json::Value, lines: &[String], code: u8) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    if !json {
        for line in lines {
            writeln!(out, "{line}")?;
        }
        return out.flush();
    }
    if let Some(object) = document.as_object_mut() {
        object.insert("format".into(), FORMAT.into());
        object.insert("exit_code".into(), code.into());
    }
    writeln!(out, "{document:#}")?;
    out.flush()
}

/// What a command answers on a machine.
///
/// # Errors
/// Whatever kept it from being done; see [`Error`].
pub fn answer(command: &Command, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    match command {
        Command::Load(args) => load_command(args, machine, kernel),
        Command::Unload(args) => unload_command(args, machine, kernel),
        Command::Preflight(args) => preflight::run(args),
        Command::Status(args) => show::status(args, machine, kernel),
        Command::List => show::list(machine),
        Command::Info { module } => show::info(module, machine),
        Command::Install(args) => install(args, machine, kernel),
        Command::Uninstall(args) => uninstall(args, machine, kernel),
        Command::Signal => signal(machine, kernel),
        Command::History => show::history(machine),
        Command::Autoload(args) => autoload::run(args, machine, kernel),
        Command::PackageStep(args) => package_step::run(args, machine, kernel),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            Ok(Answer::new(
                vec![version.into()],
                serde_json::json!({ "version": version }),
                EXIT_OK,
            ))
        }
    }
}

/// The module that somebody means: a file, or the name of an installed one.
fn module(machine: &Machine, named: &Path) -> Result<ModuleFile> {
    if is_path(named) {
        return ModuleFile::read(named);
    }
    let name = name(named);
    let release = machine.release()?;
    let found = installed::find(machine, &release, &name);
    found.ok_or_else(|| {
        let elsewhere = installed::elsewhere(machine, &release, &name);
        Error::NotThere(format!(
            "no livepatch called {name} is installed for {release}{elsewhere}"
        ))
    })
}

fn is_path(named: &Path) -> bool {
    named.components().count() > 1 || named.extension().is_some()
}

/// The name of a module, from itself or its file. The kernel shows `-` as `_`.
fn name(named: &Path) -> String {
    let stem = match named.extension() {
        Some(extension) if extension == "ko" => named.file_stem(),
        _ => named.file_name(),
    };
    stem.unwrap_or_default().to_string_lossy().replace('-', "_")
}

/// Loads one, and writes that down.
fn load_one(machine: &Machine, kernel: &dyn Kernel, file: &ModuleFile, limit: std::time::Duration) -> Result<Loaded> {
    let loaded = load::load(machine, kernel, file, limit);
    history::record(machine, kernel, "load", &file.name, &loaded);
    loaded
}

fn loaded_lines(loaded: &Loaded) -> Vec<String> {
    let Loaded { name, seconds, .. } = loaded;
    let mut lines = vec![match loaded.already {
        true => format!("{name}: is in effect already"),
        false => format!("{name}: in effect after {seconds:.1} s"),
    }];
    lines.extend(
        loaded
            .replaced
            .iter()
            .map(|old| format!("{old}: replaced, and out of memory")),
    );
    lines.extend(loaded.left_behind.iter().cloned());
    lines
}

fn load_command(args: &LoadArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let Some(named) = &args.module else {
        return load_all(args, machine, kernel);
    };
    let file = module(machine, named)?;
    let loaded = load_one(machine, kernel, &file, args.limit.time())?;
    Guard::new(machine, &file.release).trust(&file)?;
    if let Some(rescue) = Rescue::of_file(machine, &file) {
        rescue.forget()?;
    }
    Ok(Answer::new(loaded_lines(&loaded), &loaded, EXIT_OK))
}

/// What became of several: one failure does not keep the others out.
#[derive(Default, Serialize)]
struct Several {
    loaded: Vec<Loaded>,
    left_out: Vec<String>,
    held_back: Vec<String>,
    errors: Vec<String>,
}

impl Several {
    /// Before anything is loaded.
    fn of(installed: &Installed) -> Self {
        Several {
            held_back: installed.held_back.iter().map(|file| file.name.clone()).collect(),
            errors: installed.wrong.iter().map(ToString::to_string).collect(),
            ..Several::default()
        }
    }

    fn answer(self) -> Answer {
        let mut lines: Vec<String> = self.loaded.iter().flat_map(loaded_lines).collect();
        let left_out = self.left_out.iter();
        lines.extend(left_out.map(|name| {
            format!("{name}: left out, since a boot that loaded it ended badly; `kpatch load {name}` tries it again")
        }));
        lines.extend(self.held_back.iter().map(|name| show::held_back(name)));
        lines.extend(self.errors.iter().map(|error| format!("error: {error}")));
        if lines.is_empty() {
            lines.push("no livepatch is installed for this kernel".to_owned());
        }
        let code = match self.errors.is_empty() && self.left_out.is_empty() {
            true => EXIT_OK,
            false => EXIT_FAILED,
        };
        Answer::new(lines, self, code)
    }
}

fn load_all(args: &LoadArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let installed = installed::list(machine, &machine.release()?);
    let mut several = Several::of(&installed);
    for file in &installed.files {
        match load_one(machine, kernel, file, args.limit.time()) {
            Ok(loaded) => several.loaded.push(loaded),
            Err(error) => several.errors.push(error.to_string()),
        }
    }
    Ok(several.answer())
}

fn unload_command(args: &UnloadArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let names: Vec<String> = match &args.module {
        Some(named) => vec![name(named)],
        None => machine.livepatches()?.into_iter().map(|one| one.name).collect(),
    };
    unload_all(names, args.remove_kept, args.limit.time(), machine, kernel)
}

/// Takes livepatches out, from the top of a stack to its bottom.
fn unload_all(
    mut names: Vec<String>,
    remove_kept: bool,
    limit: std::time::Duration,
    machine: &Machine,
    kernel: &dyn Kernel,
) -> Result<Answer> {
    // The newest lies on top, and only the one on top can go; which that is the kernel says by refusing the others.
    let mut gone = Vec::new();
    let mut failed = Vec::new();
    while !names.is_empty() {
        // Those that lie below what is still there have their turn once something on top has gone.
        let mut covered = Vec::new();
        let before = gone.len();
        for name in names {
            match unload::unload(machine, kernel, &name, remove_kept, limit) {
                Err(error @ Error::Covered(_)) => covered.push((name, error)),
                unloaded => {
                    history::record(machine, kernel, "unload", &name, &unloaded);
                    match unloaded {
                        Ok(unloaded) => gone.push(unloaded),
                        Err(error) => failed.push(error),
                    }
                }
            }
        }
        if gone.len() == before {
            for (name, error) in covered {
                let unloaded: Result<unload::Unloaded> = Err(error);
                history::record(machine, kernel, "unload", &name, &unloaded);
                failed.extend(unloaded.err());
            }
            break;
        }
        names = covered.into_iter().map(|(name, _)| name).collect();
    }
    if let Some(error) = failed.into_iter().next() {
        return Err(error);
    }
    let line = |one: &unload::Unloaded| match &one.stays {
        None => format!("{}: out after {:.1} s", one.name, one.seconds),
        Some(why) => format!("{}: not in effect any more; {why}", one.name),
    };
    let lines = match gone.as_slice() {
        [] => vec!["no livepatch is loaded".to_owned()],
        gone => gone.iter().map(line).collect(),
    };
    Ok(Answer::new(lines, serde_json::json!({ "unloaded": gone }), EXIT_OK))
}

fn install(args: &InstallArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let file = ModuleFile::read(&args.module)?;
    let release = args.kernel_version.as_deref().unwrap_or(&file.release);
    let installed = installed::install(machine, release, &file);
    history::record(machine, kernel, "install", &file.name, &installed);
    let path = installed?;
    let path = path.display().to_string();
    let line = format!("{}: loaded whenever {release} boots ({path})", file.name);
    Ok(Answer::new(vec![line], serde_json::json!({ "path": path }), EXIT_OK))
}

fn uninstall(args: &InstallArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let running = machine.release()?;
    let release = args.kernel_version.as_deref().unwrap_or(&running);
    // A file may have another name than its module.
    let of_file = is_path(&args.module)
        .then(|| ModuleFile::read(&args.module).ok())
        .flatten();
    let name = of_file.map_or_else(|| name(&args.module), |file| file.name);
    let uninstalled = installed::uninstall(machine, release, &name);
    history::record(machine, kernel, "uninstall", &name, &uninstalled);
    let path = uninstalled?.display().to_string();
    let line = match machine.livepatch(&name) {
        Some(_) => format!("{name}: not loaded at boot any more; it is still in effect (`kpatch unload {name}`)"),
        None => format!("{name}: not loaded at boot any more"),
    };
    Ok(Answer::new(vec![line], serde_json::json!({ "path": path }), EXIT_OK))
}

fn signal(machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let all = machine.livepatches()?;
    let mut lines = Vec::new();
    for livepatch in all
        .iter()
        .filter(|one| !transition::blockers(machine, &one.name).is_empty())
    {
        let nudged = transition::nudge(machine, kernel, livepatch);
        let nudged = nudged.map_err(|error| Error::Failed(format!("cannot signal for {}: {error}", livepatch.name)))?;
        lines.push(match nudged {
            true => format!("{}: the tasks that are left were signalled", livepatch.name),
            false => format!("{}: {}", livepatch.name, show::BY_ITSELF),
        });
    }
    if lines.is_empty() {
        lines.push("no transition waits for a task".to_owned());
    }
    Ok(Answer::new(
        lines.clone(),
        serde_json::json!({ "notes": lines }),
        EXIT_OK,
    ))
}
