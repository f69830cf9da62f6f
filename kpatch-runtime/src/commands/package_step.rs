//! What the scripts of packages do, so that they are a line each: `package-step`.

use super::{load_one, loaded_lines, unload_all};
use crate::answer::Answer;
use crate::cli::{PackageStepArgs, Step};
use crate::error::{EXIT_OK, Error, Result};
use crate::guard::Guard;
use crate::kernel::Kernel;
use crate::livepatch::State;
use crate::machine::Machine;
use crate::module::{self, ModuleFile};
use crate::rescue::Rescue;

/// Runs `package-step`.
pub fn run(args: &PackageStepArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let (release, series) = (&args.kernel_version, &args.series);
    // Both become names of folders, by the same rules.
    for name in [release, series] {
        if !module::is_release(name) {
            return Err(Error::Usage(format!("`{name}` is no name of a folder of livepatches")));
        }
    }
    let rescue = Rescue::new(machine, release, series);
    let runs = machine.is_up() && machine.release().is_ok_and(|running| running == *release);
    match args.step {
        Step::BeforeUpgrade => {
            rescue.keep()?;
            let kept = rescue.kept().into_iter();
            let lines = kept.map(|name| format!("{name}: kept until the new version is in effect"));
            Ok(answer(lines.collect()))
        }
        Step::AfterInstall if runs => after_install(args, machine, kernel, &rescue),
        Step::AfterInstall => {
            rescue.forget()?;
            Ok(answer(vec![format!("{series}: loaded when {release} boots")]))
        }
        Step::BeforeRemoval => {
            let loaded = |name: &String| machine.livepatch(name).is_some() || machine.has_module(name);
            let names: Vec<String> = rescue.all().into_iter().filter(loaded).collect();
            let lines = match runs && !names.is_empty() {
                true => unload_all(names, false, args.limit.time(), machine, kernel)?.lines,
                false => vec![format!("{series}: nothing of it is loaded")],
            };
            rescue.forget()?;
            Ok(answer(lines))
        }
    }
}

fn answer(lines: Vec<String>) -> Answer {
    let json = serde_json::json!({ "notes": lines });
    Answer::new(lines, json, EXIT_OK)
}

/// The new version takes effect, or what was in effect before stays so, also after the next boot.
fn after_install(args: &PackageStepArgs, machine: &Machine, kernel: &dyn Kernel, rescue: &Rescue) -> Result<Answer> {
    let Some(name) = args.module.as_deref().filter(|name| module::is_name(name)) else {
        return Err(Error::Usage("after-install needs the name of the module".to_owned()));
    };
    let loaded = ModuleFile::read(&rescue.in_package(name)).and_then(|file| {
        let loaded = load_one(machine, kernel, &file, args.limit.time())?;
        Guard::new(machine, &file.release).trust(&file)?;
        Ok(loaded)
    });
    let loaded = loaded.map_err(|error| error.and(&how_to_go_on(machine, rescue, name)))?;
    rescue.forget()?;
    Ok(answer(loaded_lines(&loaded)))
}

fn how_to_go_on(machine: &Machine, rescue: &Rescue, name: &str) -> String {
    let livepatches = machine.livepatches().unwrap_or_default();
    let in_effect = livepatches.iter().filter(|one| one.state == State::InEffect);
    let now: Vec<&str> = in_effect.map(|one| &*one.name).collect();
    let now = match now.as_slice() {
        [] => "no livepatch is in effect".to_owned(),
        now => format!("in effect: {}", now.join(", ")),
    };
    let kept = rescue.kept();
    let then = match kept.as_slice() {
        [] => name.to_owned(),
        kept => kept.join(", "),
    };
    format!(
        ". Now {now}; loaded at the next boot: {then}. `kpatch load {name}` tries it again (then `dpkg --configure -a`, if the \
         package is from dpkg); or install another version, or remove the package"
    )
}
