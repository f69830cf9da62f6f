//! The patches, applied to copies: what the compiler is to see, and which files of the kernel see it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::build::patchset;
use crate::build::patchset::apply::{Copies, Patched};
use crate::build::patchset::dropped;
use crate::build::patchset::scope::{Scope, scope};
use crate::build::patchset::spelling;
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
}

impl Applied {
    /// Reads the patches, judges them and applies them to copies. With `skip_unbuilt`, changes of files that this kernel's
    /// configuration leaves out are left out, too.
    ///
    /// # Errors
    /// [`Ending::Refused`] with everything in them that no livepatch can do, or that does not fit the source.
    pub fn new(site: &Site<'_>, patches: &[PathBuf], skip_unbuilt: bool) -> Result<Applied> {
        site.progress.message("applying the patch to copies");
        let trees = &site.kbuild.trees;
        let (set, spelling) = spelling::as_meant(patchset::read(patches)?, &trees.source);
        let scope = scope(&set, site.kbuild, skip_unbuilt);
        let mut copies = Copies::default();
        for change in set.files.iter().filter(|change| scope.overlaid.contains(&change.path)) {
            copies.add(&trees.source, change)?;
        }
        let refusals: BTreeSet<_> = scope.refusals.iter().chain(&copies.refusals).cloned().collect();
        if !refusals.is_empty() {
            return Err(Ending::Refused(refusals.into_iter().collect()).into());
        }
        let overlays = overlay::write(&site.work, trees, &copies.files, scope.overlaid.iter())?;
        let notes = spelling.into_iter().chain(scope.notes.clone()).chain(copies.notes);
        Ok(Applied {
            notes: notes.chain(dropped::notes(&set, &copies.files)).collect(),
            places: Places::of(&set, &copies.files),
            files: copies.files,
            overlays,
            scope,
        })
    }
}
