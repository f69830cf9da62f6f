//! Packages on the command line.

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args};

use super::PACKAGE;
use crate::package::{Format, Release};

/// What packages are called.
#[derive(Debug, Clone, Args)]
pub struct ReleaseArgs {
    /// Version of the package: a higher one replaces a lower one on the machines that have it [default: that in the
    /// module's name, if it is SERIES_VERSION, else 1]
    #[arg(long, value_name = "VERSION", help_heading = PACKAGE)]
    pub package_version: Option<String>,
    /// Name of the series, the first part of the package's name
    #[arg(long, value_name = "NAME", default_value = "livepatch", help_heading = PACKAGE)]
    pub series: String,
    /// Who is responsible for the package, as `Name <address>` [default: from DEBFULLNAME and DEBEMAIL]
    #[arg(long, value_name = "NAME", help_heading = PACKAGE)]
    pub maintainer: Option<String>,
}

impl ReleaseArgs {
    /// The same, checked.
    pub fn release(&self) -> Result<Release> {
        Release::new(
            &self.series,
            self.package_version.as_deref(),
            self.maintainer.as_deref(),
        )
    }
}

/// `package`.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("format").args(["deb", "rpm"]).required(true).multiple(true)))]
pub struct PackageArgs {
    /// Livepatch modules; each becomes a package for the kernel release that it is for
    #[arg(required = true, value_name = "LIVEPATCH.ko")]
    pub modules: Vec<PathBuf>,
    /// Make a Debian package; this, --rpm or both
    #[arg(long)]
    pub deb: bool,
    /// Make an RPM package
    #[arg(long)]
    pub rpm: bool,
    /// What it is called.
    #[command(flatten)]
    pub release: ReleaseArgs,
    /// Folder for the packages
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub output: PathBuf,
}

impl PackageArgs {
    /// Which packages are wanted.
    pub fn formats(&self) -> Vec<Format> {
        let formats = [(self.deb, Format::Deb), (self.rpm, Format::Rpm)];
        formats
            .into_iter()
            .filter_map(|(is_wanted, format)| is_wanted.then_some(format))
            .collect()
    }
}

/// The package that `build` makes of its module.
#[derive(Debug, Clone, Args)]
pub struct BuildPackage {
    /// Make a package of the module, too, beside it; may be given for both formats
    #[arg(long = "package", value_name = "FORMAT", value_parser = format_parser(), conflicts_with = "dry_run", help_heading = PACKAGE)]
    pub formats: Vec<Format>,
    /// What it is called.
    #[command(flatten)]
    pub release: ReleaseArgs,
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    const RPM: &str = "rpm";
    let deb = PossibleValue::new("deb").help("A Debian package");
    let rpm = PossibleValue::new(RPM).help("An RPM package");
    PossibleValuesParser::new([deb, rpm]).map(|name| if name == RPM { Format::Rpm } else { Format::Deb })
}
