//! A livepatch takes the place of others: what becomes of that which they did, as far as their modules tell.
//!
//! The kernel puts the functions of the old ones back that the new one does not have, and calls callbacks of the new one only
//! (Documentation/livepatch/cumulative-patches.rst). So what the old ones did beside redirecting functions is lost, or left
//! behind for ever, unless the new one takes it over. The modules may be of any builder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use kpatch_core::codes::environment::NAME_TAKEN;
use kpatch_core::codes::series::{CALLBACKS, KEPT, OTHER_KERNEL, SHADOWS, STATE, UNREADABLE};
use kpatch_core::klp::{self, Registered};
use kpatch_core::resolve::{PatchedFunction, SymPos};
use kpatch_core::{ObjectName, Patch, Refusal, State, Subject, elf, names};
use kpatch_runtime::about::About;
use kpatch_runtime::module::ModuleFile;
use serde::Serialize;

use crate::build::acceptance;
use crate::outcome::Ending;
use crate::ui;

/// How the kernel's functions for shadow variables begin, also where they were compiled into others.
const SHADOW: &str = "klp_shadow_";
/// Those that attach one.
const ATTACHES: [&str; 2] = ["klp_shadow_alloc", "klp_shadow_get_or_alloc"];

/// Which livepatch is to be replaced.
const LOADED: &str = "name the livepatch that is loaded on machines with this kernel";

/// A livepatch whose place is taken.
pub struct Old {
    module: ModuleFile,
    objects: Vec<Registered>,
    states: Vec<State>,
    /// Whether it attaches shadow variables.
    attaches: bool,
    /// The code of its functions.
    code: BTreeMap<Key, Vec<u8>>,
}

/// A function: its object, name and position. The only one of a name has the position 1 here.
type Key = (ObjectName, String, u64);

fn key(object: &ObjectName, name: &str, sympos: u64) -> Key {
    (object.clone(), name.to_owned(), sympos.max(1))
}

/// The livepatch that takes it.
pub struct New<'a> {
    /// Module name.
    pub name: &'a str,
    /// What is in it.
    pub patch: &'a Patch,
    /// What it carries about itself.
    pub about: &'a About,
    /// `vermagic` of the kernel's own modules.
    pub vermagic: Option<&'a str>,
    /// Build ids of the kernel's objects.
    pub build_ids: &'a BTreeMap<ObjectName, String>,
}

/// What becomes of the functions of a livepatch whose place is taken, as `object:function`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// Its name.
    pub name: String,
    /// They are the kernel's own again.
    pub dropped: Vec<String>,
    /// Only the new livepatch has them.
    pub added: Vec<String>,
    /// Both have them, with other code.
    pub changed: Vec<String>,
    /// Both have them, with the same code.
    pub same: Vec<String>,
    /// States that are handed over.
    pub states: Vec<State>,
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        let groups = [
            ("dropped", &self.dropped),
            ("added", &self.added),
            ("changed", &self.changed),
            ("unchanged", &self.same),
        ];
        let mut mark = ':';
        for (what, functions) in groups.into_iter().filter(|(_, functions)| !functions.is_empty()) {
            let (count, all) = (functions.len(), functions.join(", "));
            write!(f, "{mark} {count} {what} ({all})")?;
            mark = ',';
        }
        if !self.states.is_empty() {
            let states = ui::count(self.states.len(), "state", "states");
            write!(f, "{mark} {states} handed over")?;
        }
        Ok(())
    }
}

/// Reads the modules of the livepatches whose place is taken on machines with this release, each once.
///
/// # Errors
/// [`UNREADABLE`], [`OTHER_KERNEL`]; a file that is no livepatch.
pub fn read(paths: &[PathBuf], release: &str) -> Result<Vec<Old>> {
    let mut olds: Vec<Old> = Vec::new();
    for path in paths {
        let old = Old::read(path)?;
        if !olds.iter().any(|other| other.module.image() == old.module.image()) {
            olds.push(old);
        }
    }
    // Known before anything is compiled.
    let others: Vec<Refusal> = olds.iter().filter_map(|old| old.other_release(release)).collect();
    match others.is_empty() {
        true => Ok(olds),
        false => Err(Ending::Refused(others).into()),
    }
}

impl Old {
    fn read(path: &Path) -> Result<Old> {
        let module = ModuleFile::read(path).map_err(|error| Ending::usage(format!("--replaces {error}")))?;
        let unreadable = |why: String| {
            let hint = "replace it without --replaces, if you know what it does";
            Ending::refused(Refusal::new(UNREADABLE, Subject::file(path.display().to_string()), why).hint(hint))
        };
        let image = module.image();
        let objects = klp::registered(image).map_err(unreadable)?;
        if objects.is_empty() {
            return Err(unreadable("it does not show what it patches".to_owned()));
        }
        let code = klp::new_code(image).map_err(unreadable)?;
        let states = klp::states(image).map_err(unreadable)?;
        let attaches = symbols_begin(image, &ATTACHES);
        Ok(Old {
            objects,
            states,
            attaches,
            code: by_function(code),
            module,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.module.name
    }

    /// Its functions, each with the position as it stands in the module.
    fn functions(&self) -> BTreeMap<Key, u64> {
        let rows = self.objects.iter();
        let all = rows.flat_map(|rows| rows.functions.iter().map(move |function| (&rows.object, function)));
        all.map(|(object, (name, sympos))| (key(object, name, *sympos), *sympos))
            .collect()
    }

    fn at(&self) -> Subject {
        Subject::file(self.module.path.display().to_string()).symbol(self.name())
    }

    /// Everything that the new one would lose.
    fn against(&self, new: &New<'_>) -> Vec<Refusal> {
        let mut found = self.kernel(new);
        found.extend(self.states(new));
        found.extend(self.callbacks(new));
        let takes_shadows = new
            .patch
            .objects
            .iter()
            .any(|object| symbols_begin(&object.bytes, &[SHADOW]));
        if self.attaches && !takes_shadows {
            let why = "it attaches shadow variables, which nobody would free any more";
            found.push(Refusal::new(SHADOWS, self.at(), why));
        }
        let lost = self
            .module
            .about
            .keep
            .iter()
            .filter(|kept| !new.about.keep.contains(kept));
        let lost: Vec<&str> = lost.map(String::as_str).collect();
        if !lost.is_empty() {
            let why = format!(
                "the kernel may still call its {}, whatever takes its place",
                lost.join(", ")
            );
            found.push(Refusal::new(KEPT, self.at(), why));
        }
        found.into_iter().map(|refusal| self.with_hint(refusal)).collect()
    }

    fn with_hint(&self, refusal: Refusal) -> Refusal {
        let hints = [
            (CALLBACKS, "give the new one callbacks that undo it or go on with it"),
            (
                SHADOWS,
                "let the new one free them (klp_shadow_free_all), or go on with them",
            ),
            (KEPT, "load it after a boot, when nobody has the address any more"),
        ];
        let Some((_, hint)) = hints.iter().find(|(code, _)| *code == refusal.code) else {
            return refusal;
        };
        refusal.hint(format!("{hint}; --accept {} if it does not matter", self.name()))
    }

    /// Whether it is for the same kernel, and can be loaded beside the new one.
    fn kernel(&self, new: &New<'_>) -> Vec<Refusal> {
        let mut found = Vec::new();
        if self.name() == new.name {
            let why = "the livepatch that is replaced has this name, and two modules of one name cannot be loaded";
            let hint = "give the new one another name with --name";
            found.push(Refusal::new(NAME_TAKEN, self.at(), why).hint(hint));
        }
        let release = new.vermagic.and_then(|vermagic| vermagic.split_whitespace().next());
        found.extend(release.and_then(|release| self.other_release(release)));
        for (object, id) in new.build_ids {
            let other = self.module.about.build_ids.get(object.as_str());
            if let Some(other) = other.filter(|other| *other != id) {
                let why = format!("it is for another build of {object} (build id {other}, and not {id})");
                found.push(Refusal::new(OTHER_KERNEL, self.at(), why).hint(LOADED));
            }
        }
        found
    }

    fn other_release(&self, release: &str) -> Option<Refusal> {
        let why = format!("it is for {}, and the new one for {release}", self.module.release);
        let refusal = || Refusal::new(OTHER_KERNEL, self.at(), why).hint(LOADED);
        (release != self.module.release).then(refusal)
    }

    /// kernel/livepatch/state.c, `klp_is_state_compatible`: one that replaces others must have all their states.
    fn states<'n>(&'n self, new: &'n New<'_>) -> impl Iterator<Item = Refusal> + 'n {
        let refuse = move |old: &State| {
            let states = &new.patch.states;
            let (id, version) = (old.id, old.version);
            let why = match states.iter().find(|state| state.id == id) {
                Some(state) if state.version >= version => return None,
                Some(state) => format!(
                    "it has state {id} in version {version}, and the new one in {}",
                    state.version
                ),
                None => format!("it has state {id} (version {version}), and the new one does not"),
            };
            let hint = format!("declare it with KPATCH_STATE({id}, {version}) and take it over (klp_get_prev_state)");
            Some(Refusal::new(STATE, self.at(), why).hint(hint))
        };
        self.states.iter().filter_map(refuse)
    }

    fn callbacks(&self, new: &New<'_>) -> Vec<Refusal> {
        let mut found = Vec::new();
        for rows in &self.objects {
            let own = new.patch.callbacks.iter();
            let own: BTreeSet<_> = own
                .filter(|callback| callback.object == rows.object)
                .map(|callback| callback.moment)
                .collect();
            let lost: Vec<String> = rows
                .callbacks
                .iter()
                .filter(|moment| !own.contains(moment))
                .map(ToString::to_string)
                .collect();
            if !lost.is_empty() {
                let (object, lost) = (&rows.object, lost.join(", "));
                let why =
                    format!("its {lost} callback of {object} would not be called any more, and the new one has none");
                found.push(Refusal::new(CALLBACKS, self.at(), why));
            }
        }
        found
    }
}

/// Whether a file has a symbol whose name, as it is in the kernel, has one of these in it.
fn symbols_begin(file: &[u8], parts: &[&str]) -> bool {
    let symbols = elf::read(file).map(|file| file.symbols).unwrap_or_default();
    let mut names = symbols.iter().map(|symbol| symbol.name.as_str());
    names.any(|name| parts.iter().any(|part| name.contains(part)))
}

/// Checks that all that the old ones did is taken over, or accepted by the name of the old one.
///
/// # Errors
/// [`Ending::Refused`].
pub fn check(olds: &[Old], new: &New<'_>, accept: &[String]) -> Result<Vec<Refusal>> {
    let found = olds.iter().flat_map(|old| old.against(new));
    let (could_be, must): (Vec<_>, Vec<_>) =
        found.partition(|refusal| [CALLBACKS, SHADOWS, KEPT].contains(&refusal.code));
    let named: Vec<String> = accept.iter().filter(|name| is_of(olds, name)).cloned().collect();
    let (accepted, mut against) = acceptance::split(could_be, &named);
    against.extend(must);
    if against.is_empty() {
        against = acceptance::unused(&named, &accepted);
    }
    match against.is_empty() {
        true => Ok(accepted),
        false => Err(Ending::Refused(against).into()),
    }
}

/// Whether this is the name of one of the old ones.
pub fn is_of(olds: &[Old], name: &str) -> bool {
    olds.iter().any(|old| old.name() == name)
}

/// Gives functions the position that the old ones have for them where both mean the only one. Kernels before 6.19, unless
/// they were repaired, take 0 and 1 for two functions and put the kernel's own over the new one's (`klp_find_func`).
pub fn take_positions(olds: &[Old], functions: &mut [PatchedFunction]) {
    let all = olds.iter().flat_map(Old::functions);
    let ones: BTreeSet<Key> = all.filter(|(_, sympos)| *sympos == 1).map(|(key, _)| key).collect();
    for function in functions.iter_mut().filter(|function| function.sympos == SymPos(0)) {
        if ones.contains(&key(&function.object, &function.name, 0)) {
            function.sympos = SymPos(1);
        }
    }
}

fn by_function(code: Vec<klp::NewCode>) -> BTreeMap<Key, Vec<u8>> {
    let keyed = code.into_iter();
    keyed
        .map(|(object, name, sympos, code)| (key(&object, &name, sympos), code))
        .collect()
}

/// What becomes of the old ones. Without the new module nobody knows which functions are the same.
pub fn replaced(olds: &[Old], patch: &Patch, module: Option<&[u8]>) -> Vec<Replaced> {
    let code = by_function(module.and_then(|module| klp::new_code(module).ok()).unwrap_or_default());
    let new = patch.functions.iter();
    let new: BTreeSet<Key> = new
        .map(|function| key(&function.object, &function.name, function.sympos.0.into()))
        .collect();
    let of_old = |old: &Old| {
        let all: BTreeSet<Key> = old.functions().into_keys().collect();
        let both = all.intersection(&new);
        let (same, changed): (Vec<&Key>, Vec<&Key>) =
            both.partition(|key| code.get(*key).is_some_and(|code| old.code.get(*key) == Some(code)));
        Replaced {
            name: old.name().to_owned(),
            dropped: all.difference(&new).map(shown).collect(),
            added: new.difference(&all).map(shown).collect(),
            changed: changed.into_iter().map(shown).collect(),
            same: same.into_iter().map(shown).collect(),
            states: old.states.clone(),
        }
    };
    olds.iter().map(of_old).collect()
}

fn shown((object, name, sympos): &Key) -> String {
    let name = names::unpromoted(name);
    match sympos {
        1 => format!("{object}:{name}"),
        _ => format!("{object}:{name},{sympos}"),
    }
}

#[cfg(test)]
mod tests;
