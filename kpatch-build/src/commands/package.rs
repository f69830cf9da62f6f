//! Packages of finished livepatches.

use anyhow::Result;
use serde::Serialize;

use super::Context;
use crate::cli::PackageArgs;
use crate::outcome::Ending;
use crate::package::{self, Package};

#[derive(Serialize)]
struct Made {
    packages: Vec<String>,
}

/// Runs `package`.
pub fn run(args: &PackageArgs, context: &Context<'_>) -> Result<()> {
    let maintainer = match &args.maintainer {
        Some(maintainer) => maintainer.clone(),
        None => of_environment()?,
    };
    let new = |module| Package::new(module, &args.series, &args.package_version, &maintainer);
    let packages: Vec<Package> = args.modules.iter().map(|module| new(module)).collect::<Result<_>>()?;
    let mut made = Vec::new();
    for package in &packages {
        let work = tempfile::tempdir()?;
        warn_of_name(package, context);
        if args.deb {
            made.push(package::deb(package, &args.output, work.path())?);
        }
        if args.rpm {
            made.push(package::rpm(package, &args.output, work.path())?);
        }
    }
    let packages: Vec<String> = made.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    if context.common.json {
        return context.ui.document(Made { packages });
    }
    for path in &packages {
        context.ui.say(format!("package     {path}"));
    }
    Ok(())
}

/// As for Debian's own tools.
fn of_environment() -> Result<String> {
    match (std::env::var("DEBFULLNAME"), std::env::var("DEBEMAIL")) {
        (Ok(name), Ok(address)) => Ok(format!("{name} <{address}>")),
        _ => Err(Ending::usage(
            "say who is responsible for the package: --maintainer 'Name <address>', or DEBFULLNAME and DEBEMAIL",
        )),
    }
}

/// Two livepatches of one name cannot be loaded at once, so the newer could not replace the older. The first has none to
/// replace.
fn warn_of_name(package: &Package, context: &Context<'_>) {
    let name = &package.module.name;
    if package.version == "1" {
        return;
    }
    let version = package.version.replace(['.', '+', '~'], "_");
    if !name.ends_with(&version) {
        context.ui.warn(format!(
            "the module is called {name}, without the version {}: build each version under a name of its own (--name), or \
             it cannot replace the one before",
            package.version
        ));
    }
}
