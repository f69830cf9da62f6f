//! `kernel add`, `kernel update` and `kernel import`: which sources there are.
//!
//! Adding fetches: a pin is written only for a source that has been downloaded, checked, unpacked and put into the
//! store under the very checksum of the pin.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use super::Context;
use crate::cli::{ArchiveArgs, KernelAddArgs, KernelImportArgs, KernelUpdateArgs};
use crate::outcome::Ending;
use crate::program;
use crate::supply::apt::Archive;
use crate::supply::fetch::{self, KernelOrg, upstream_version};
use crate::supply::manifest::{Catalog, KernelOrgSource, Manifest, Pin, version_key};
use crate::supply::store::Store;
use crate::ui::Ui;

/// What `kernel add` has done.
#[derive(Debug, Serialize)]
struct Added {
    manifest: String,
    version: String,
    from: String,
    sha256: String,
    new_series: bool,
}

/// What `kernel update` has found.
#[derive(Debug, Serialize)]
struct Updates<'a> {
    series: &'a [Updated],
}

/// The same for one series.
#[derive(Debug, Serialize)]
struct Updated {
    series: String,
    suites: Vec<Offered>,
    pins: Vec<PinState>,
    /// Versions that were pinned now, or would be without `--check`.
    new: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Offered {
    package: String,
    suite: String,
    versions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PinState {
    version: String,
    /// The package is still in the suite; nothing if the pin has no package.
    offered: Option<bool>,
    kernel_org: bool,
    source_in_store: bool,
}

/// What `kernel import` has done.
#[derive(Debug, Serialize)]
struct Imported<'a> {
    kernel: &'a str,
    from: &'a str,
    sha256: &'a str,
}

/// What a run works with, so that tests can bring their own.
struct World<'a> {
    store: &'a Store,
    catalog: &'a Catalog,
    archive: Archive,
    ui: &'a Ui,
}

impl<'a> World<'a> {
    fn new(store: &'a Store, catalog: &'a Catalog, archive: &ArchiveArgs, ui: &'a Ui) -> Self {
        let archive = archive.archive.clone().map_or(Archive::Machine, Archive::Named);
        World {
            store,
            catalog,
            archive,
            ui,
        }
    }
}

/// Runs `kernel add`.
pub fn add(args: &KernelAddArgs, context: &Context<'_>) -> Result<()> {
    let store = context.store()?;
    context.catalog.folder()?;
    let world = World::new(&store, context.catalog, &args.archive, context.ui);
    let added = world.add(args)?;
    if context.common.json {
        return context.ui.document(&added);
    }
    let Added {
        manifest,
        version,
        from,
        ..
    } = &added;
    context.ui.say(format!("{version} ({from}) pinned in {manifest}"));
    if added.new_series {
        context.ui.say(format!(
            "configurations copied from another series; `{}` lists lines that do not fit",
            program::command(&format!("kernel build --kernel {version}"))
        ));
    }
    Ok(())
}

/// Runs `kernel update`.
pub fn update(args: &KernelUpdateArgs, context: &Context<'_>) -> Result<()> {
    let store = context.store()?;
    context.catalog.folder()?;
    let world = World::new(&store, context.catalog, &args.archive, context.ui);
    let updated = world.update(args)?;
    if context.common.json {
        return context.ui.document(Updates { series: &updated });
    }
    for one in &updated {
        tell(one, args.check, context.ui);
    }
    Ok(())
}

fn tell(updated: &Updated, check: bool, ui: &Ui) {
    for Offered {
        package,
        suite,
        versions,
    } in &updated.suites
    {
        let versions = list(versions);
        ui.say(format!("{}: {package} in {suite}: {versions}", updated.series));
    }
    for pin in &updated.pins {
        let kept = match (pin.source_in_store, pin.kernel_org) {
            (true, _) => "source in the store",
            (false, true) => "available from kernel.org",
            (false, false) => "no longer available: pin another version, or remove the pin",
        };
        if pin.offered == Some(false) {
            ui.say(format!("  {} is gone from the archive; {kept}", pin.version));
        }
    }
    match (updated.new.is_empty(), check) {
        (true, _) => ui.say("  up to date"),
        (false, true) => ui.say(format!("  available: {}", list(&updated.new))),
        (false, false) => ui.say(format!("  pinned: {}", list(&updated.new))),
    }
}

fn list(versions: &[String]) -> String {
    if versions.is_empty() {
        "nothing".to_owned()
    } else {
        versions.join(", ")
    }
}

/// Runs `kernel import`.
pub fn import(args: &KernelImportArgs, context: &Context<'_>) -> Result<()> {
    let store = context.store()?;
    let taken = context.ui.phase("import", |phase| {
        fetch::import(&store, &args.from, args.revision.as_deref(), phase)
    })?;
    let kernel = format!("{}@{}", taken.origin.version, &taken.sha256[..12]);
    if context.common.json {
        return context.ui.document(Imported {
            kernel: &kernel,
            from: &taken.origin.from,
            sha256: &taken.sha256,
        });
    }
    context.ui.say(format!(
        "{} added to the store; use it with --kernel {kernel}",
        taken.origin.from
    ));
    Ok(())
}

impl World<'_> {
    fn add(&self, args: &KernelAddArgs) -> Result<Added> {
        let manifests = self.catalog.load_all()?;
        let (series, version) = series_and_version(&args.kernel)?;
        let known = manifests.iter().find(|manifest| manifest.series == series);
        if let (Some(known), None) = (known, version) {
            bail!(
                "series {series} already has a manifest, {}; pass a version to pin, or run `{}`",
                known.path()?.display(),
                program::command(&format!("kernel update {series}"))
            );
        }
        let pin = if args.kernel_org {
            self.pin_of_kernel_org(args, version)?
        } else {
            self.pin_of_archive(args, &manifests, series, version)?
        };
        let (from, sha256) = source_of(&pin);
        let version = pin.version.clone();
        let made = match known {
            Some(known) => {
                refuse_doubled(known, &pin)?;
                let mut known = known.clone();
                known.add_pin(pin)?;
                known
            }
            None => Manifest::of_new_series(series, &pin, self.model(args, &manifests, series)?)?,
        };
        Ok(Added {
            manifest: made.path()?.display().to_string(),
            version,
            from,
            sha256,
            new_series: known.is_none(),
        })
    }

    fn pin_of_kernel_org(&self, args: &KernelAddArgs, version: Option<&str>) -> Result<Pin> {
        let version = version.context("--kernel-org needs an exact version, e.g. 6.12.117")?;
        let keyring = args.keyring.as_deref().context("--keyring missing")?;
        let from = KernelOrg {
            mirror: &args.mirror,
            keyring,
            signer: &args.signer,
        };
        let fetched = self.ui.phase(&format!("fetch Linux {version}"), |phase| {
            fetch::unpinned_release(self.store, version, &from, phase)
        });
        Ok(Pin {
            version: version.to_owned(),
            debian: None,
            kernel_org: Some(KernelOrgSource { sha256: fetched? }),
        })
    }

    fn pin_of_archive(
        &self,
        args: &KernelAddArgs,
        manifests: &[Manifest],
        series: &str,
        version: Option<&str>,
    ) -> Result<Pin> {
        let package = format!("linux-source-{series}");
        let suites = if args.suites.is_empty() {
            suites_of(manifests)
        } else {
            args.suites.clone()
        };
        let mut offers = Vec::new();
        for suite in suites {
            offers.push(self.offered(&package, &suite)?);
        }
        let fitting = offers
            .iter()
            .flat_map(|one| one.versions.iter().map(move |version| (one, version)));
        let fitting = fitting.filter(|(_, offered)| version.is_none_or(|version| upstream_version(offered) == version));
        let Some((offer, newest)) = fitting.max_by_key(|(_, version)| version_key(version)) else {
            return Err(Ending::infrastructure(not_offered(args, &offers)));
        };
        self.pin(offer, newest)
    }

    fn pin(&self, offer: &Offered, package_version: &str) -> Result<Pin> {
        let version = upstream_version(package_version).to_owned();
        let debian = self.ui.phase(&format!("fetch Linux {version}"), |phase| {
            let Offered { package, suite, .. } = offer;
            fetch::unpinned_package(self.store, package, package_version, suite, &self.archive, phase)
        })?;
        Ok(Pin {
            version,
            debian: Some(debian),
            kernel_org: None,
        })
    }

    fn offered(&self, package: &str, suite: &str) -> Result<Offered> {
        let versions = self.ui.phase(&format!("search {suite}"), |_| {
            fetch::offered(self.store, package, suite, &self.archive)
        })?;
        Ok(Offered {
            package: package.to_owned(),
            suite: suite.to_owned(),
            versions,
        })
    }

    fn model<'m>(&self, args: &KernelAddArgs, manifests: &'m [Manifest], series: &str) -> Result<&'m Manifest> {
        if let Some(like) = &args.like {
            let found = manifests.iter().find(|manifest| manifest.series == *like);
            return found.with_context(|| format!("no manifest for series {like}"));
        }
        let older = manifests
            .iter()
            .rfind(|manifest| version_key(&manifest.series) < version_key(series));
        older
            .or(manifests.first())
            .context("no manifest to copy toolchains from")
    }

    fn update(&self, args: &KernelUpdateArgs) -> Result<Vec<Updated>> {
        let mut manifests = self.catalog.load_all()?;
        if let Some(series) = &args.series {
            manifests.retain(|manifest| manifest.series == *series);
            ensure!(!manifests.is_empty(), "no manifest for series {series}");
        }
        let mut updated = Vec::new();
        for mut manifest in manifests {
            updated.push(self.update_one(&mut manifest, args.check)?);
        }
        Ok(updated)
    }

    fn update_one(&self, manifest: &mut Manifest, check: bool) -> Result<Updated> {
        let mut suites = Vec::new();
        for (package, suite) in sources_of(manifest) {
            suites.push(self.offered(&package, &suite)?);
        }
        let pins = self.states(manifest, &suites)?;
        let newest_pin = manifest.pins.iter().map(|pin| version_key(&pin.version)).max();
        let offers = suites
            .iter()
            .flat_map(|one| one.versions.iter().map(move |version| (one, version)));
        let newest = offers.max_by_key(|(_, version)| version_key(version));
        let newer = newest.filter(|(_, version)| Some(version_key(upstream_version(version))) > newest_pin);
        if let (Some((offer, version)), false) = (newer, check) {
            manifest.add_pin(self.pin(offer, version)?)?;
        }
        Ok(Updated {
            series: manifest.series.clone(),
            new: newer
                .into_iter()
                .map(|(_, version)| upstream_version(version).to_owned())
                .collect(),
            suites,
            pins,
        })
    }

    fn states(&self, manifest: &Manifest, suites: &[Offered]) -> Result<Vec<PinState>> {
        let stored: BTreeSet<String> = self.store.sources()?.into_iter().map(|(sha256, _)| sha256).collect();
        let state = |pin: &Pin| {
            let offered = pin.debian.as_ref().map(|debian| {
                let same = |one: &&Offered| one.package == debian.package && one.suite == debian.suite;
                suites
                    .iter()
                    .filter(same)
                    .any(|one| one.versions.contains(&debian.version))
            });
            let debian = pin.debian.as_ref().map(|source| &source.sha256);
            let kernel_org = pin.kernel_org.as_ref().map(|source| &source.sha256);
            PinState {
                version: pin.version.clone(),
                offered,
                kernel_org: kernel_org.is_some(),
                source_in_store: debian
                    .into_iter()
                    .chain(kernel_org)
                    .any(|sum| stored.contains(sum.as_ref())),
            }
        };
        Ok(manifest.pins.iter().map(state).collect())
    }
}

/// `6.12` and nothing, or `6.12` and `6.12.117`.
fn series_and_version(name: &str) -> Result<(&str, Option<&str>)> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let dots: Vec<usize> = name.match_indices('.').map(|(at, _)| at).collect();
    ensure!(
        name.split('.').all(number) && matches!(dots.len(), 1 | 2),
        "`{name}` is neither a series (6.12) nor a version (6.12.117)"
    );
    Ok(match dots.get(1) {
        Some(end) => (&name[..*end], Some(name)),
        None => (name, None),
    })
}

fn sources_of(manifest: &Manifest) -> BTreeSet<(String, String)> {
    let debian = manifest.pins.iter().filter_map(|pin| pin.debian.as_ref());
    debian
        .map(|source| (source.package.clone(), source.suite.clone()))
        .collect()
}

fn suites_of(manifests: &[Manifest]) -> Vec<String> {
    let suites: BTreeSet<String> = manifests.iter().flat_map(sources_of).map(|(_, suite)| suite).collect();
    suites.into_iter().collect()
}

fn source_of(pin: &Pin) -> (String, String) {
    let debian = pin.debian.as_ref();
    let debian = debian.map(|source| {
        (
            format!("{} {}", source.package, source.version),
            source.sha256.to_string(),
        )
    });
    let kernel_org = pin.kernel_org.as_ref();
    let kernel_org = kernel_org.map(|source| ("kernel.org".to_owned(), source.sha256.to_string()));
    debian.or(kernel_org).unwrap_or_default()
}

fn refuse_doubled(known: &Manifest, pin: &Pin) -> Result<()> {
    let Some(old) = known.pin(&pin.version) else {
        return Ok(());
    };
    let doubled =
        (old.debian.is_some() && pin.debian.is_some()) || (old.kernel_org.is_some() && pin.kernel_org.is_some());
    ensure!(
        !doubled,
        "{} is already pinned in {}",
        pin.version,
        known.path()?.display()
    );
    Ok(())
}

fn not_offered(args: &KernelAddArgs, offers: &[Offered]) -> String {
    let offers: Vec<String> = offers
        .iter()
        .map(|one| format!("{} in {}: {}", one.package, one.suite, list(&one.versions)))
        .collect();
    format!(
        "no suite has Linux {}:\n  {}\npass other suites with --suite, or use --kernel-org --keyring FILE",
        args.kernel,
        offers.join("\n  ")
    )
}

#[cfg(test)]
pub(super) fn documents() -> Vec<serde_json::Value> {
    use crate::ui::Document;
    let added = Added {
        manifest: "6.18.yaml".into(),
        version: "6.18.3".into(),
        from: "linux-source-6.18".into(),
        sha256: "00".into(),
        new_series: true,
    };
    let updated = Updated {
        series: "6.12".into(),
        suites: vec![Offered {
            package: "linux-source-6.12".into(),
            suite: "bookworm".into(),
            versions: Vec::new(),
        }],
        pins: vec![PinState {
            version: "6.12.107".into(),
            offered: Some(true),
            kernel_org: false,
            source_in_store: true,
        }],
        new: Vec::new(),
    };
    let imported = Imported {
        kernel: "6.12.107@0",
        from: "directory linux",
        sha256: "00",
    };
    vec![
        serde_json::to_value(Document::new(added)).unwrap(),
        serde_json::to_value(Document::new(Updates { series: &[updated] })).unwrap(),
        serde_json::to_value(Document::new(imported)).unwrap(),
    ]
}

#[cfg(test)]
mod tests;
