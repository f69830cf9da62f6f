//! A case on its way: what building made of it.

use std::time::Duration;

use anyhow::Result;

use crate::corpus::Case;
use kpatch_build::build::kbuild::ModuleFolder;
use kpatch_build::build::livepatch::Livepatch;

/// A case that was built, or was not.
pub struct Built<'c> {
    pub case: &'c Case,
    /// The folder whose modules were built for it.
    pub folder: Option<ModuleFolder>,
    /// How long building took.
    pub took: Duration,
    pub name: String,
    /// The livepatch; of a case with two of them an error of either.
    pub result: Result<Livepatch>,
    /// The livepatch that comes while the first is there, with its name.
    pub then: Option<(String, Livepatch)>,
}
