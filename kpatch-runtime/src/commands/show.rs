//! Commands that only look.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::{module, name};
use crate::answer::Answer;
use crate::cli::StatusArgs;
use crate::error::{EXIT_FAILED, EXIT_NOT_IN_EFFECT, EXIT_OK, Error, Result};
use crate::guard::Guard;
use crate::installed::Installed;
use crate::kernel::Kernel;
use crate::livepatch::{Livepatch, State};
use crate::machine::Machine;
use crate::module::ModuleFile;
use crate::transition::{self, Blocker};
use crate::{history, installed};

/// What a kernel without the attribute does about tasks that are left.
pub const BY_ITSELF: &str = "this kernel signals the tasks that are left every 15 s by itself";

/// As many functions are shown of a livepatch before the rest is counted.
const SHOWN: usize = 20;

/// A livepatch and who holds it up.
#[derive(Serialize)]
struct Seen {
    #[serde(flatten)]
    livepatch: Livepatch,
    blockers: Vec<Blocker>,
    fixes: Vec<String>,
}

/// `status`.
pub fn status(args: &StatusArgs, machine: &Machine, kernel: &dyn Kernel) -> Result<Answer> {
    let release = machine.release()?;
    let wanted = |livepatch: &Livepatch| args.name.as_ref().is_none_or(|name| *name == livepatch.name);
    let look = || -> Result<Vec<Livepatch>> { Ok(machine.livepatches()?.into_iter().filter(wanted).collect()) };
    let mut found = look()?;
    let mut notes = Vec::new();
    if args.nudge {
        for livepatch in found.iter().filter(|one| is_under_way(one)) {
            let nudged = transition::nudge(machine, kernel, livepatch);
            if !nudged.map_err(|error| Error::Failed(format!("cannot signal for {}: {error}", livepatch.name)))? {
                notes.push(BY_ITSELF.to_owned());
            }
        }
    }
    let begun = kernel.elapsed();
    let limit = Duration::from_secs(args.wait.unwrap_or_default());
    while found.iter().any(is_under_way) && kernel.elapsed().saturating_sub(begun) < limit {
        kernel.sleep(Duration::from_millis(200));
        found = look()?;
    }
    let installed = installed::list(machine, &release);
    let asked = |file: &&ModuleFile| args.name.as_ref().is_none_or(|name| *name == file.name);
    let is_absent = |file: &&ModuleFile| machine.livepatch(&file.name).is_none();
    let absent: Vec<&ModuleFile> = installed.files.iter().filter(asked).filter(is_absent).collect();
    let held: Vec<&ModuleFile> = installed.held_back.iter().filter(asked).filter(is_absent).collect();
    let guard = Guard::new(machine, &release);
    for file in &absent {
        notes.push(match guard.leaves_out(file)? {
            true => format!(
                "{}: installed, but left out: a boot that loaded it ended badly",
                file.name
            ),
            false => format!("{}: installed, but not loaded", file.name),
        });
    }
    notes.extend(held.iter().map(|file| held_back(&file.name)));
    let seen: Vec<Seen> = found.into_iter().map(|livepatch| seen(machine, livepatch)).collect();
    let code = match seen.as_slice() {
        seen if seen.iter().any(|one| is_under_way(&one.livepatch)) => EXIT_FAILED,
        [] => EXIT_NOT_IN_EFFECT,
        seen if seen.iter().all(|one| one.livepatch.state == State::InEffect)
            && absent.is_empty()
            && held.is_empty() =>
        {
            EXIT_OK
        }
        _ => EXIT_NOT_IN_EFFECT,
    };
    let mut lines: Vec<String> = seen.iter().flat_map(|one| seen_lines(one, args.stacks)).collect();
    lines.extend(notes.iter().cloned());
    if lines.is_empty() {
        lines.push(match &args.name {
            Some(name) => format!("{name}: not loaded"),
            None => "no livepatch is loaded".to_owned(),
        });
    }
    Ok(Answer::new(
        lines,
        serde_json::json!({ "livepatches": seen, "notes": notes }),
        code,
    ))
}

/// Why a livepatch is not loaded at boot although a package brought it.
pub fn held_back(name: &str) -> String {
    format!(
        "{name}: installed, but held back: it did not take effect, and the version before stays in its place; `kpatch load \
         {name}` tries it again"
    )
}

fn is_under_way(livepatch: &Livepatch) -> bool {
    matches!(livepatch.state, State::Enabling | State::Disabling)
}

fn seen(machine: &Machine, livepatch: Livepatch) -> Seen {
    let about = machine.about(&livepatch.name);
    Seen {
        blockers: transition::blockers(machine, &livepatch.name),
        fixes: about.ok().flatten().unwrap_or_default().fixes,
        livepatch,
    }
}

/// So many fixes are named.
const MANY: usize = 8;

/// A line for each, or for the first `most` and how many more there are.
fn cut(head: &str, all: &[String], most: usize) -> Vec<String> {
    let mut lines: Vec<String> = all.iter().take(most).map(|one| format!("{head}{one}")).collect();
    match all.len().saturating_sub(most) {
        0 => {}
        more => lines.push(format!("{head}{more} more (--json has all)")),
    }
    lines
}

fn seen_lines(seen: &Seen, stacks: bool) -> Vec<String> {
    let (livepatch, blockers) = (&seen.livepatch, &seen.blockers);
    let functions = match livepatch.functions.len() {
        1 => "1 function".to_owned(),
        count => format!("{count} functions"),
    };
    let mut lines = vec![format!("{}: {}, {functions}", livepatch.name, livepatch.state.words())];
    // A point release has more fixes than a screen has lines.
    lines.extend(cut("  fixes ", &seen.fixes, MANY));
    let waiting = livepatch.waiting_for.iter();
    lines.extend(waiting.map(|object| format!("  {object} is not loaded; it is patched when it comes")));
    for blocker in blockers {
        lines.push(format!("  held up by {blocker}"));
        if stacks {
            lines.extend(blocker.stack.iter().map(|function| format!("    {function}")));
        }
    }
    lines
}

/// `list`.
pub fn list(machine: &Machine) -> Result<Answer> {
    let release = machine.release()?;
    // What is installed is there, whatever the running kernel can do.
    let loaded = machine.livepatches();
    let Installed {
        files,
        held_back,
        mut wrong,
    } = installed::list(machine, &release);
    let mut lines = vec!["Loaded:".to_owned()];
    match &loaded {
        Ok(loaded) => {
            let loaded_lines = loaded
                .iter()
                .map(|one| format!("  {} ({})", one.name, one.state.words()));
            lines.extend(or_none(loaded_lines.collect()));
        }
        Err(error) => lines.push(format!("  none: {error}")),
    }
    lines.push(format!("Installed for {release}:"));
    let line = |file: &ModuleFile| format!("  {} ({})", file.name, file.path.display());
    lines.extend(or_none(files.iter().map(line).collect()));
    if !held_back.is_empty() {
        lines.push("Held back, since the version before stays in its place:".to_owned());
        lines.extend(held_back.iter().map(line));
    }
    let mut others = Vec::new();
    for other in installed::releases(machine)
        .into_iter()
        .filter(|other| *other != release)
    {
        lines.push(format!("Installed for {other}, which does not run now:"));
        let installed = installed::list(machine, &other);
        lines.extend(installed.files.iter().map(line));
        wrong.extend(installed.wrong);
        others.push(serde_json::json!({ "release": other, "installed": installed.files }));
    }
    lines.extend(wrong.iter().map(|error| format!("error: {error}")));
    let loaded = loaded.unwrap_or_default();
    let errors: Vec<String> = wrong.iter().map(ToString::to_string).collect();
    let json = serde_json::json!({
        "loaded": loaded, "installed": files, "held_back": held_back, "release": release, "other_releases": others,
        "errors": errors,
    });
    Ok(Answer::new(
        lines,
        json,
        if wrong.is_empty() { EXIT_OK } else { EXIT_FAILED },
    ))
}

fn or_none(lines: Vec<String>) -> Vec<String> {
    match lines.is_empty() {
        true => vec!["  none".to_owned()],
        false => lines,
    }
}

/// `info`.
pub fn info(named: &Path, machine: &Machine) -> Result<Answer> {
    let file = match module(machine, named) {
        Ok(file) => Some(file),
        // It may be loaded although no file of it is installed.
        Err(Error::NotThere(_)) => None,
        Err(error) => return Err(error),
    };
    let name = file.as_ref().map_or_else(|| name(named), |file| file.name.clone());
    let loaded = machine.livepatch(&name);
    if file.is_none() && loaded.is_none() {
        let elsewhere = installed::elsewhere(machine, &machine.release()?, &name);
        return Err(Error::NotThere(format!(
            "no livepatch called {name} is loaded, or installed for the running kernel{elsewhere}"
        )));
    }
    let mut lines = vec![format!("name        {name}")];
    if let Some(file) = &file {
        lines.push(format!("file        {}", file.path.display()));
        lines.push(format!("kernel      {}", file.release));
        lines.extend(file.build_id.iter().map(|id| format!("build id    {id}")));
        lines.extend(file.description.iter().map(|text| format!("description {text}")));
        lines.extend(file.about.fixes.iter().map(|fix| format!("fixes       {fix}")));
        lines.extend(file.about.keep.iter().map(|function| format!("keep        {function}")));
    }
    let state = loaded.as_ref().map_or("not loaded", |one| one.state.words());
    lines.push(format!("state       {state}"));
    let functions: Vec<String> = match (&file, &loaded) {
        (Some(file), _) if !file.about.functions.is_empty() => file.about.functions.clone(),
        (_, Some(loaded)) => {
            let of_loaded = loaded.functions.iter();
            of_loaded
                .map(|one| format!("{}:{},{}", one.object, one.name, one.sympos))
                .collect()
        }
        _ => Vec::new(),
    };
    lines.extend(cut("patches     ", &functions, SHOWN));
    let json = serde_json::json!({ "name": name, "file": file, "loaded": loaded });
    Ok(Answer::new(lines, json, EXIT_OK))
}

/// `history`.
pub fn history(machine: &Machine) -> Result<Answer> {
    let (entries, damaged) = history::read(machine)?;
    let line = |entry: &history::Entry| {
        let history::Entry {
            action, name, outcome, ..
        } = entry;
        format!("{}  {}  {action:<9}  {name}: {outcome}", utc(entry.time), entry.release)
    };
    let mut lines = match entries.as_slice() {
        [] if damaged == 0 => vec!["nothing was done with livepatches on this machine".to_owned()],
        entries => entries.iter().map(line).collect(),
    };
    if damaged > 0 {
        lines.push(format!("lines of the history that cannot be read: {damaged}"));
    }
    let json = serde_json::json!({ "entries": entries, "damaged": damaged });
    Ok(Answer::new(lines, json, EXIT_OK))
}

/// A moment as `2026-11-27 14:02:07Z`.
fn utc(seconds: u64) -> String {
    let moment = jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX));
    moment.map_or_else(
        |_| seconds.to_string(),
        |moment| moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixes_of_a_point_release_do_not_push_the_rest_off_the_screen() {
        let lines = |fixes: usize| {
            let seen = Seen {
                livepatch: Livepatch {
                    name: "point".to_owned(),
                    state: State::InEffect,
                    replace: None,
                    functions: Vec::new(),
                    waiting_for: vec!["sit".to_owned()],
                },
                blockers: Vec::new(),
                fixes: vec!["a leak".to_owned(); fixes],
            };
            seen_lines(&seen, false)
        };
        assert_eq!((lines(MANY).len(), lines(MANY + 1).len()), (MANY + 2, MANY + 3));
        assert_eq!(lines(163)[MANY + 1], "  fixes 155 more (--json has all)");
        assert!(lines(163)[MANY + 2].starts_with("  sit is not loaded"));
    }
}
