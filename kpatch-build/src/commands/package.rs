//! Packages of finished livepatches.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Context;
use crate::cli::{BuildPackage, PackageArgs};
use crate::outcome::Ending;
use crate::output::try_target;
use crate::package::{Format, Package, Release};
use crate::ui::Ui;

#[derive(Serialize)]
struct Made {
    packages: Vec<String>,
}

/// Runs `package`.
pub fn run(args: &PackageArgs, context: &Context<'_>) -> Result<()> {
    let wanted = Wanted::new(args.formats(), args.release.release()?)?;
    let made = args.modules.iter().map(|module| Package::new(module, &wanted.release));
    let all = made.collect::<Result<Vec<_>>>()?;
    differ(&all)?;
    try_target(&args.output.join("package"))?;
    let mut packages = Vec::new();
    for package in &all {
        let made = wanted.make_one(package, &args.output, context.ui);
        // What was made stays, so it is named also if the next one cannot be.
        let so_far = || {
            let paths = packages.iter().map(|path: &PathBuf| path.display().to_string());
            match packages.is_empty() {
                true => package.file().display().to_string(),
                false => format!(
                    "{} (already made: {})",
                    package.file().display(),
                    paths.collect::<Vec<_>>().join(", ")
                ),
            }
        };
        packages.extend(made.with_context(so_far)?);
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

/// One release of the kernel has one package of a series: the second module would replace the first.
fn differ(packages: &[Package<'_>]) -> Result<()> {
    for (index, package) in packages.iter().enumerate() {
        let same = |other: &&Package<'_>| other.name() == package.name();
        if let Some(other) = packages[..index].iter().find(same) {
            let (first, second, name) = (other.file().display(), package.file().display(), package.name());
            let text = format!("{first} and {second} would both become the package {name}: package them one by one");
            return Err(Ending::usage(text));
        }
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

    fn new(asked: Vec<Format>, release: Release) -> Result<Self> {
        let mut formats = Vec::new();
        for format in asked {
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        formats.iter().try_for_each(|format| format.check())?;
        Ok(Wanted { formats, release })
    }

    /// What the module is called if nobody says otherwise.
    pub fn module_name(&self) -> String {
        self.release.module_name()
    }

    /// Makes them in this folder.
    pub fn make(&self, module: &Path, folder: &Path, ui: &Ui) -> Result<Vec<PathBuf>> {
        self.make_one(&Package::new(module, &self.release)?, folder, ui)
    }

    fn make_one(&self, package: &Package<'_>, folder: &Path, ui: &Ui) -> Result<Vec<PathBuf>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{EXIT_USAGE, exit_code};

    #[test]
    fn formats_count_once_and_a_package_has_one_module() {
        let release = Release::new("livepatch", None, Some("A <a@b.c>")).unwrap();
        let wanted = Wanted::new(vec![Format::Deb; 3], release.clone());
        assert!(wanted.is_ok_and(|wanted| wanted.formats == [Format::Deb]) || Format::Deb.check().is_err());
        let folder = tempfile::tempdir().unwrap();
        let [first, second, other] = [("a", "6.1"), ("b", "6.1"), ("c", "6.2")].map(|(name, kernel)| {
            let path = crate::package::module_for_tests(folder.path(), name, kernel);
            Package::new(&path, &release).unwrap()
        });
        assert!(differ(&[other, first]).is_ok());
        let again = Package::new(&folder.path().join("a.ko"), &release).unwrap();
        assert_eq!(exit_code(&differ(&[second, again]).unwrap_err()), EXIT_USAGE);
    }
}
