//! Packages of finished livepatches.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::cli::{BuildPackage, PackageArgs};
use crate::package::{Format, Package, Release};
use crate::ui::Ui;

#[derive(Serialize)]
struct Made {
    packages: Vec<String>,
}

/// Runs `package`.
pub fn run(args: &PackageArgs, context: &Context<'_>) -> Result<()> {
    let wanted = Wanted::new(args.formats(), args.release.release()?)?;
    let mut packages = Vec::new();
    for module in &args.modules {
        packages.extend(wanted.make(module, &args.output, context.ui)?);
    }
    if context.common.json {
        let packages = packages
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        return context.ui.document(Made { packages });
    }
    for path in &packages {
        context.ui.say(format!("package     {}", path.display()));
    }
    Ok(())
}

/// The packages that somebody wants of a module.
pub(super) struct Wanted {
    formats: Vec<Format>,
    release: Release,
}

impl Wanted {
    /// What is asked for, if anything. Whatever is wrong with it is said before anything is built.
    pub fn of_build(args: &BuildPackage) -> Result<Option<Self>> {
        if args.formats.is_empty() {
            return Ok(None);
        }
        Self::new(args.formats.clone(), args.release.release()?).map(Some)
    }

    fn new(mut formats: Vec<Format>, release: Release) -> Result<Self> {
        formats.dedup();
        formats.iter().try_for_each(|format| format.check())?;
        Ok(Wanted { formats, release })
    }

    /// What the module is called if nobody says otherwise.
    pub fn module_name(&self) -> String {
        self.release.module_name()
    }

    /// Makes them in this folder.
    pub fn make(&self, module: &Path, folder: &Path, ui: &Ui) -> Result<Vec<PathBuf>> {
        let package = Package::new(module, &self.release)?;
        let name = package.module_name();
        if !self.release.can_replace(name) {
            ui.warn(format!(
                "the module is called {name}, without the version of the package: build each version under a name of its \
                 own (--name), or it cannot replace the one before"
            ));
        }
        self.formats
            .iter()
            .map(|format| package.make(*format, folder))
            .collect()
    }
}
