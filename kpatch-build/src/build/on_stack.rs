//! Structures that lie otherwise in memory with the patch and of which there are objects on stacks only: these need not be
//! accepted by name. docs/decisions/structures-on-stacks.md has the argument.
//!
//! What a file does with a structure is read off its preprocessed source; debugging information shows no casts. What
//! becomes of that is compared with the functions that are patched.

mod body;
mod calls;
mod file;
mod forms;
mod handed_back;
mod items;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kpatch_core::layout::LayoutChange;
use kpatch_core::{Ignored, Patch, Refusal};
use rayon::prelude::*;

use crate::build::applied::Applied;
use crate::build::layouts;
use crate::build::pairs::Pairs;
use crate::build::recompile::proof::Variant;
use crate::build::site::Site;
use crate::build::way::Again;
use file::Shown;
use items::Tag;

/// More readers of a structure are not looked at: each is preprocessed twice.
const MOST_READERS: usize = 24;

/// What was shown of changed structures.
#[derive(Debug, Default)]
pub struct OnStack {
    /// By name, as in [`LayoutChange::name`].
    structures: BTreeMap<String, Verdict>,
}

/// By object: what its source does with the structure. Or what speaks against it.
type Verdict = std::result::Result<BTreeMap<String, Shown>, String>;

/// Looks at the structures that changed.
///
/// # Errors
/// A file that cannot be preprocessed.
pub fn look(
    site: &Site<'_>,
    applied: &Applied,
    again: &dyn Again,
    changes: &BTreeSet<LayoutChange>,
) -> Result<OnStack> {
    let mut found = OnStack::default();
    let (mut near, mut units) = (Vec::new(), BTreeSet::new());
    for (change, tag) in changes.iter().filter_map(structure) {
        match readers(applied, change) {
            Ok(readers) => {
                near.push((change, tag));
                units.extend(readers);
            }
            Err(why) => _ = found.structures.insert(change.name.clone(), Err(why)),
        }
    }
    if near.is_empty() {
        return Ok(found);
    }
    let units: Vec<&str> = units.into_iter().collect();
    site.progress.message("looking for who has the structures that change");
    let texts = units.par_iter().map(|unit| preprocessed(site, again, unit));
    let texts: Vec<(&str, [String; 2])> = texts.collect::<Result<_>>()?;
    for (change, tag) in near {
        let verdict = judge(&texts, tag);
        found.structures.insert(change.name.clone(), verdict);
    }
    Ok(found)
}

/// A structure with a name of its own; nothing else is looked at.
fn structure(change: &LayoutChange) -> Option<(&LayoutChange, Tag<'_>)> {
    let tag = Tag::of(&change.name).filter(|_| change.was.is_none())?;
    Some((change, tag))
}

/// The objects whose sources know the structure, or why not all of them are known.
fn readers<'a>(applied: &'a Applied, change: &LayoutChange) -> std::result::Result<BTreeSet<&'a str>, String> {
    let file = change.file.as_deref().unwrap_or_default();
    if layouts::is_for_modules(file) {
        return Err(format!("modules from elsewhere can read {file}"));
    }
    if !applied.scope.overlaid.contains(file) {
        return Err(format!(
            "the patch does not change {file}, so not all who read it are known"
        ));
    }
    if !applied.scope.added.is_empty() {
        return Err("the patch adds files".to_owned());
    }
    let touched = applied.scope.touched.iter();
    let readers = touched.filter(|(_, files)| files.iter().any(|read| read == file));
    let readers: BTreeSet<&str> = readers.map(|(object, _)| object.as_str()).collect();
    match readers.len() {
        0 => Err(format!("nobody is known to read {file}")),
        1..=MOST_READERS => Ok(readers),
        many => Err(format!("{many} files read {file}")),
    }
}

fn judge(texts: &[(&str, [String; 2])], tag: Tag<'_>) -> Verdict {
    let mut shown: BTreeMap<String, Shown> = BTreeMap::new();
    for (unit, sides) in texts {
        for text in sides {
            let side = file::look(text, tag).map_err(|why| format!("{unit}: {why}"))?;
            let all = shown.entry((*unit).to_owned()).or_default();
            all.holders.extend(side.holders);
            all.takers.extend(side.takers);
        }
    }
    match shown.values().any(|shown| !shown.holders.is_empty()) {
        true => Ok(shown),
        false => Err("no function has an object of it".to_owned()),
    }
}

/// Both sides of a file, as the compiler sees them.
fn preprocessed<'u>(site: &Site<'_>, again: &dyn Again, unit: &'u str) -> Result<(&'u str, [String; 2])> {
    let variant = Variant {
        area: "preprocessed",
        version: "preprocessed 1",
        options: &["-E", "-w", "-Wno-unused-command-line-argument"].map(str::to_owned),
    };
    let tu = site.kbuild.tu(unit)?;
    let read = |path: &Path| {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let cannot = || format!("{unit} cannot be preprocessed");
    let orig = again.orig(tu, &variant).with_context(cannot)?;
    let patched = again.patched(tu, &variant).with_context(cannot)?;
    Ok((unit, [read(&orig)?, read(&patched)?]))
}

impl OnStack {
    /// The refusal of a changed structure; nothing if all its objects are on stacks.
    pub fn refusal(&self, change: &LayoutChange, accept: &[String]) -> Option<Refusal> {
        let refusal = layouts::refusal(change, accept);
        let is_accepted = accept.iter().any(|name| refusal.is_about(name));
        match self.structures.get(&change.name) {
            Some(Ok(_)) if !is_accepted => None,
            Some(Err(why)) => Some(Refusal {
                why: format!("{}; not only stacks have it: {why}", refusal.why),
                ..refusal
            }),
            _ => Some(refusal),
        }
    }

    /// Names the structures for which no name had to be accepted, and returns the refusals of those whose functions are not
    /// all patched together after all.
    ///
    /// # Errors
    /// An object that cannot be read.
    pub fn settle(
        &self,
        changes: &BTreeSet<LayoutChange>,
        accept: &[String],
        pairs: &Pairs,
        patch: &mut Patch,
    ) -> Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        for change in changes.iter().filter(|change| self.refusal(change, accept).is_none()) {
            let Some(Ok(shown)) = self.structures.get(&change.name) else {
                continue;
            };
            match calls::all_patched(shown, pairs, patch)? {
                Ok(()) => patch.ignored.push(Ignored {
                    unit: change.file.clone().unwrap_or_default(),
                    name: change.name.clone(),
                    why: told(shown),
                }),
                Err(why) => {
                    let refusal = layouts::refusal(change, accept);
                    refusals.push(Refusal {
                        why: format!("{}; all objects of it are on stacks, but {why}", refusal.why),
                        ..refusal
                    });
                }
            }
        }
        patch.ignored.sort();
        Ok(refusals)
    }
}

/// What the summary says.
fn told(shown: &BTreeMap<String, Shown>) -> String {
    let holders: BTreeSet<&str> = shown
        .values()
        .flat_map(|shown| &shown.holders)
        .map(String::as_str)
        .collect();
    let holders: Vec<&str> = holders.into_iter().collect();
    format!("lies otherwise, but only on the stack of {}", holders.join(", "))
}

#[cfg(test)]
mod tests;
