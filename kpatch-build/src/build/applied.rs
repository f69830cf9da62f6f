//! The patches, applied to copies: what the compiler is to see, and which files of the kernel see it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use kpatch_core::Refusal;

use crate::build::causes::Causes;
use crate::build::kbuild::Kbuild;
use crate::build::patchset;
use crate::build::patchset::apply::{self, Copies, Patched};
use crate::build::patchset::dropped;
use crate::build::patchset::scope::{Scope, scope};
use crate::build::patchset::spelling;
use crate::build::patchset::{ChangeKind, FileChange, PatchSet};
use crate::build::recompile::messages::Places;
use crate::build::recompile::overlay::{self, Overlays};
use crate::build::site::Site;
use crate::outcome::Ending;

/// Patches that can be compiled.
pub struct Applied {
    /// What they touch.
    pub scope: Scope,
    /// The lines of the patched files.
    pub files: Patched,
    /// The patched files on disk.
    pub overlays: Overlays,
    /// Where the patches have what they add.
    pub places: Places,
    /// What was ignored, and what a person should know.
    pub notes: Vec<String>,
    /// Hunks that fit with fuzz only, which a person must look at.
    pub fuzzy: Vec<String>,
    /// Which of the patches has done what.
    pub causes: Causes,
}

impl Applied {
    /// Reads the patches, judges them and applies them to copies. With `skip_unbuilt`, changes of files that this kernel's
    /// configuration leaves out are left out, too. `fuzz` lines of context at either end of a hunk may differ.
    ///
    /// # Errors
    /// [`Ending::Refused`] with everything in them that no livepatch can do, or that does not fit the source.
    pub fn new(site: &Site<'_>, patches: &[PathBuf], skip_unbuilt: bool, fuzz: usize) -> Result<Applied> {
        site.progress.message("applying the patch to copies");
        let trees = &site.kbuild.trees;
        let (set, spelling) = spelling::as_meant(patchset::read(patches)?, &trees.source);
        touches_module(&set, site.kbuild)?;
        let scope = scope(&set, site.kbuild, skip_unbuilt);
        let mut copies = Copies {
            fuzz,
            ..Copies::default()
        };
        for change in set.files.iter().filter(|change| scope.overlaid.contains(&change.path)) {
            copies.add(&trees.source, change)?;
        }
        let causes = Causes::new(patches, std::mem::take(&mut copies.origins), scope.touched.clone());
        let of_scope = scope.refusals.iter().map(|refusal| of_file(&set, refusal));
        let refusals: BTreeSet<_> = of_scope.chain(copies.refusals).collect();
        if !refusals.is_empty() {
            let refused = Ending::Refused(refusals.into_iter().collect());
            return Err(causes.told(refused.into(), None));
        }
        let overlays = overlay::write(&site.work, trees, &copies.files, scope.overlaid.iter())?;
        let (fuzzy, moved): (Vec<_>, Vec<_>) = copies.notes.into_iter().partition(|note| apply::is_fuzzy(note));
        let notes = spelling.into_iter().chain(scope.notes.clone()).chain(moved);
        Ok(Applied {
            notes: notes.chain(dropped::notes(&set, &copies.files)).collect(),
            places: Places::of(&set, &copies.files),
            files: copies.files,
            overlays,
            scope,
            fuzzy,
            causes,
        })
    }
}

/// That patches for a module outside of the kernel's tree change something in its folder, however many leading folders
/// their paths have.
fn touches_module(set: &PatchSet, kbuild: &Kbuild) -> Result<()> {
    let Some(folder) = kbuild.module_dir.as_ref().filter(|_| !set.files.is_empty()) else {
        return Ok(());
    };
    let is_there = |path: &str| kbuild.trees.source.join(path).is_file();
    let is_below = |path: &str| {
        let mut tails = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
        is_there(path) || tails.any(is_there)
    };
    let names = set.files.iter().flat_map(|change| match &change.kind {
        ChangeKind::Renamed(from) | ChangeKind::Copied(from) => vec![&change.path, from],
        _ => vec![&change.path],
    });
    if names.into_iter().any(|path| is_below(path)) {
        return Ok(());
    }
    let text = format!(
        "--module-dir {}: the patch changes nothing in it; paths in the patch start at this folder, as `a/FILE`",
        folder.display()
    );
    Err(Ending::usage(text))
}

/// A refusal of a file with the patches that change it.
fn of_file(set: &PatchSet, refusal: &Refusal) -> Refusal {
    let is_it = |change: &&FileChange| {
        let from = match &change.kind {
            ChangeKind::Renamed(from) | ChangeKind::Copied(from) => Some(from),
            _ => None,
        };
        let names = [Some(&change.path), from];
        names
            .into_iter()
            .flatten()
            .any(|name| Some(name) == refusal.at.file.as_ref())
    };
    let patches: BTreeSet<&String> = set.files.iter().filter(is_it).map(|change| &change.patch).collect();
    refusal.clone().caused_by(patches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::Fake;
    use crate::build::patchset::parse::parse;

    #[test]
    fn a_patch_for_another_folder_is_a_wrong_command_line() {
        let mut fake = Fake::of(b"\x7fELF");
        let asked = |kbuild: &Kbuild, path: &str| {
            let text = format!("--- a/{path}\n+++ b/{path}\n@@ -1 +1 @@\n-a;\n+b;\n");
            let files = parse("p", text.as_bytes()).unwrap();
            touches_module(&PatchSet { files }, kbuild)
        };
        assert!(
            asked(&fake.kbuild, "net/x.c").is_ok(),
            "the kernel's own files are judged one by one"
        );
        fake.kbuild.module_dir = Some("/m".into());
        for path in ["fs/open.c", "drivers/extra/fs/open.c"] {
            assert!(asked(&fake.kbuild, path).is_ok(), "{path}");
        }
        let error = asked(&fake.kbuild, "net/x.c").unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(Ending::Usage(_))), "{error:#}");
    }
}
