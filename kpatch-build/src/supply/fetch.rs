//! Gets the source tree of a named kernel into the store.
//!
//! It searches the store, the Debian archive and kernel.org, in this order. Fetched sources stay in the store, since
//! distribution archives drop old point releases.

mod kernel_org;
mod local;
mod patched;

use std::path::Path;

use anyhow::{Context, Result};
use xshell::cmd;

use crate::outcome::Ending;
use crate::sh;
use crate::supply::apt::{Archive, PrivateApt};
use crate::supply::manifest::{DebianSource, Manifest, Pin, Sha256, version_key};
use crate::supply::store::{OnWait, Origin, SourceSlot, Store, StoredSource, hash_file, require_space};
use crate::ui::{Phase, Ui, waiting};

pub use kernel_org::{AUTOSIGNER, KernelOrg, MIRROR};
pub use local::import;
pub use patched::patched;

/// Disk space in bytes for an unpacked kernel with its archive, and for the package during unpacking.
const SPACE_FOR_A_SOURCE: u64 = 2_200_000_000;

/// The source tree of a version of a series.
pub fn source(store: &Store, manifest: &Manifest, version: &str, allow_drift: bool, ui: &Ui) -> Result<StoredSource> {
    if let Some((version, checksum)) = version.split_once('@') {
        return local::imported(store, version, checksum, &|holder, so_far| {
            ui.note(waiting(holder, so_far))
        });
    }
    if let Some(found) = in_store(store, manifest, version, &|holder, so_far| {
        ui.note(waiting(holder, so_far))
    })? {
        return Ok(found);
    }
    let name = format!("fetch Linux {version}");
    ui.phase(&name, |phase| {
        let wait = |holder: &str, so_far| phase.line(&waiting(holder, so_far));
        let _guard = store.fetch_lock(version, &wait)?;
        // Another run may have fetched it while this one waited.
        if let Some(found) = in_store(store, manifest, version, &wait)? {
            return Ok(found);
        }
        require_space(store.root(), SPACE_FOR_A_SOURCE, "a kernel source tree")?;
        match manifest.pin(version) {
            Some(pin) => fetch_pin(store, manifest, pin, allow_drift, phase),
            None => fetch_drifted(store, manifest, Some(version), allow_drift, phase),
        }
    })
}

/// Looks up a version: under the checksum of its pin, or without a pin under the checksum it had when it was fetched.
fn in_store(store: &Store, manifest: &Manifest, version: &str, wait: OnWait<'_>) -> Result<Option<StoredSource>> {
    let checksums = match manifest.pin(version) {
        Some(pin) => checksums(pin).into_iter().map(|sha256| sha256.to_string()).collect(),
        None => {
            let stored = store
                .sources()?
                .into_iter()
                .filter(|(_, origin)| origin.version == version);
            stored.map(|(sha256, _)| sha256).collect::<Vec<_>>()
        }
    };
    for sha256 in checksums {
        if let Some(found) = store.source(&sha256, wait)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn checksums(pin: &Pin) -> Vec<&Sha256> {
    let debian = pin.debian.as_ref().map(|debian| &debian.sha256);
    debian
        .into_iter()
        .chain(pin.kernel_org.as_ref().map(|source| &source.sha256))
        .collect()
}

fn fetch_pin(store: &Store, manifest: &Manifest, pin: &Pin, drift: bool, phase: &Phase) -> Result<StoredSource> {
    let mut reasons = Vec::new();
    if let Some(debian) = &pin.debian {
        match debian_pin(store, pin, debian, phase) {
            Ok(source) => return Ok(source),
            Err(error) if sh::was_interrupted() => return Err(error),
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    if let Some(source) = &pin.kernel_org {
        phase.message("from kernel.org");
        match kernel_org::fetch(store, MIRROR, &pin.version, &source.sha256) {
            Ok(source) => return Ok(source),
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    if drift {
        return fetch_drifted(store, manifest, None, drift, phase);
    }
    let reasons = reasons.join("\n  ");
    Err(Ending::infrastructure(format!(
        "cannot get the source of Linux {}:\n  {reasons}",
        pin.version
    )))
}

fn debian_pin(store: &Store, pin: &Pin, debian: &DebianSource, phase: &Phase) -> Result<StoredSource> {
    let slot = store.new_source()?;
    phase.message("reading package lists");
    let apt = private_apt(&slot, &debian.suite, &Archive::Machine)?;
    let offered = apt.versions(&debian.package)?;
    if !offered.contains(&debian.version) {
        return Err(Ending::infrastructure(left_the_archive(debian, &offered)));
    }
    phase.message("downloading");
    let package = apt.download(&debian.package, &debian.version, &slot.scratch()?)?;
    expect_checksum(&package, &debian.deb_sha256)?;
    phase.message("unpacking");
    unpack_package(&package, &debian.member, &slot)?;
    expect_checksum(&slot.archive(), &debian.sha256)?;
    finish(
        store,
        slot,
        &pin.version,
        format!("{} {}", debian.package, debian.version),
    )
}

fn left_the_archive(debian: &DebianSource, offered: &[String]) -> String {
    let offers = if offered.is_empty() {
        "nothing".to_owned()
    } else {
        offered.join(", ")
    };
    format!(
        "{} {} is gone from {}, which offers: {offers}; pass --allow-version-drift to use the newest of these, or pick \
         one with --kernel (a source once fetched stays in the store)",
        debian.package, debian.version, debian.suite
    )
}

/// Fetches a version without a pin: the one asked for, or the newest available. apt's signed lists vouch for the
/// package; from then on the store identifies it by its checksum.
fn fetch_drifted(
    store: &Store,
    manifest: &Manifest,
    version: Option<&str>,
    allowed: bool,
    phase: &Phase,
) -> Result<StoredSource> {
    let template = manifest.pins.iter().find_map(|pin| pin.debian.as_ref());
    let template = template.with_context(|| format!("series {} has no Debian source", manifest.series))?;
    let slot = store.new_source()?;
    phase.message("reading package lists");
    let apt = private_apt(&slot, &template.suite, &Archive::Machine)?;
    let offered = apt.versions(&template.package)?;
    let Some(taken) = choose(&offered, version).filter(|_| allowed) else {
        return Err(Ending::usage(not_pinned(manifest, version, &offered)));
    };
    let from = format!("{} {taken}", template.package);
    phase.line(&format!("warning not a pinned version: {from}"));
    if let Some((sha256, _)) = store.sources()?.iter().find(|(_, origin)| origin.from == from) {
        let lost = || Ending::infrastructure(format!("{from} was just removed from the store; run this again"));
        return store.source(sha256, &|_, _| {})?.ok_or_else(lost);
    }
    phase.message("downloading");
    let package = apt.download(&template.package, taken, &slot.scratch()?)?;
    phase.message("unpacking");
    unpack_package(&package, &template.member, &slot)?;
    finish(store, slot, upstream_version(taken), from)
}

/// Another version is no answer to somebody who named one.
fn not_pinned(manifest: &Manifest, version: Option<&str>, offered: &[String]) -> String {
    let pins: Vec<_> = manifest.pins.iter().map(|pin| pin.version.as_str()).collect();
    let (pins, offers) = (pins.join(", "), offered.join(", "));
    let has_it = choose(offered, version).is_some();
    match version {
        Some(version) if !has_it => format!(
            "Linux {version} is neither pinned (pins: {pins}) nor in the archive, which offers {offers}; for a kernel of \
             your own pass --source and --build-dir"
        ),
        _ => format!(
            "Linux {} is not pinned (pins: {pins}); the archive offers {offers}; pass --allow-version-drift to use it",
            version.unwrap_or(&manifest.series),
        ),
    }
}

fn choose<'a>(offered: &'a [String], version: Option<&str>) -> Option<&'a String> {
    let wanted = offered
        .iter()
        .filter(|one| version.is_none_or(|version| upstream_version(one) == version));
    wanted.max_by_key(|one| version_key(one))
}

/// The kernel version in a Debian package version: `6.12.107` of `6.12.107-1~deb12u1`.
pub fn upstream_version(package_version: &str) -> &str {
    package_version.split('-').next().unwrap_or(package_version)
}

fn private_apt(slot: &SourceSlot, suite: &str, archive: &Archive) -> Result<PrivateApt> {
    let folder = slot.scratch()?.join("apt");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    PrivateApt::from_archive(&folder, &[suite], archive)
}

/// The package versions that a suite offers.
pub fn offered(store: &Store, package: &str, suite: &str, archive: &Archive) -> Result<Vec<String>> {
    private_apt(&store.new_source()?, suite, archive)?.versions(package)
}

/// Fetches a package that has no pin yet and returns the pin. apt's signed lists vouch for the package.
pub fn unpinned_package(
    store: &Store,
    package: &str,
    package_version: &str,
    suite: &str,
    archive: &Archive,
    phase: &Phase,
) -> Result<DebianSource> {
    require_space(store.root(), SPACE_FOR_A_SOURCE, "a kernel source tree")?;
    let slot = store.new_source()?;
    phase.message("reading package lists");
    let apt = private_apt(&slot, suite, archive)?;
    phase.message("downloading");
    let file = apt.download(package, package_version, &slot.scratch()?)?;
    let deb_sha256 = checksum(&file)?;
    phase.message("unpacking");
    let member = Path::new("usr/src").join(format!("{package}.tar.xz"));
    unpack_package(&file, &member, &slot)?;
    let sha256 = checksum(&slot.archive())?;
    let from = format!("{package} {package_version}");
    finish(store, slot, upstream_version(package_version), from)?;
    Ok(DebianSource {
        package: package.to_owned(),
        version: package_version.to_owned(),
        suite: suite.to_owned(),
        deb_sha256,
        member,
        sha256,
    })
}

/// Fetches a release that has no pin yet and returns the pin. kernel.org's signed list vouches for it.
pub fn unpinned_release(store: &Store, version: &str, from: &KernelOrg<'_>, phase: &Phase) -> Result<Sha256> {
    require_space(store.root(), SPACE_FOR_A_SOURCE, "a kernel source tree")?;
    phase.message("reading the signed checksums");
    let sha256 = from.checksum(&store.new_source()?.scratch()?, version)?;
    phase.message("downloading");
    kernel_org::fetch(store, from.mirror, version, &sha256)?;
    Ok(sha256)
}

fn checksum(file: &Path) -> Result<Sha256> {
    Sha256::try_from(hash_file(file)?).map_err(anyhow::Error::msg)
}

fn unpack_package(package: &Path, member: &Path, slot: &SourceSlot) -> Result<()> {
    let out = slot.scratch()?.join("package");
    let shell = sh::shell()?;
    sh::output(&mut sh::prepare(cmd!(shell, "dpkg-deb -x {package} {out}")))?;
    let archive = out.join(member);
    std::fs::rename(&archive, slot.archive())
        .with_context(|| format!("{} has no {}", package.display(), member.display()))
}

fn expect_checksum(file: &Path, expected: &Sha256) -> Result<()> {
    let found = hash_file(file)?;
    if found != expected.as_ref() {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        return Err(Ending::infrastructure(format!(
            "{name}: SHA-256 is {found}, the manifest says {expected}"
        )));
    }
    Ok(())
}

fn finish(store: &Store, slot: SourceSlot, version: &str, from: String) -> Result<StoredSource> {
    let (archive, tree) = (slot.archive(), slot.tree());
    std::fs::create_dir_all(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
    unpack(&archive, &tree)?;
    let found = version_of(&tree)?;
    if found != version {
        return Err(Ending::infrastructure(format!(
            "{from}: expected Linux {version}, Makefile says {found}"
        )));
    }
    store.add_source(
        slot,
        &Origin {
            version: version.to_owned(),
            from,
        },
        &|_, _| {},
    )
}

fn unpack(archive: &Path, tree: &Path) -> Result<()> {
    let shell = sh::shell()?;
    // tar detects the compression.
    let unpack = cmd!(
        shell,
        "tar --extract --file {archive} --directory {tree} --strip-components 1 --no-same-owner"
    );
    sh::output(&mut sh::prepare(unpack)).map(drop)
}

fn version_of(tree: &Path) -> Result<String> {
    let makefile = std::fs::read_to_string(tree.join("Makefile")).context("not a kernel source tree: no Makefile")?;
    makefile_version(&makefile).context("not a kernel source tree: no version in its Makefile")
}

fn makefile_version(makefile: &str) -> Option<String> {
    let field = |name: &str| {
        makefile
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='))
            .map(str::trim)
    };
    Some(format!(
        "{}.{}.{}",
        field("VERSION")?,
        field("PATCHLEVEL")?,
        field("SUBLEVEL")?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makefile_tells_its_version() {
        let text = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 107\nEXTRAVERSION =\n";
        assert_eq!(makefile_version(text).as_deref(), Some("6.12.107"));
        assert_eq!(makefile_version("all:\n"), None);
    }

    #[test]
    fn newest_is_by_number_and_a_version_is_matched_whole() {
        let offered = ["6.12.99-1", "6.12.107-1~deb12u1", "6.12.10-1"].map(str::to_owned);
        assert_eq!(choose(&offered, None).unwrap(), "6.12.107-1~deb12u1");
        assert_eq!(choose(&offered, Some("6.12.10")).unwrap(), "6.12.10-1");
        assert_eq!(choose(&offered, Some("6.12.1")), None);
    }

    #[test]
    fn a_pin_that_left_says_what_there_is_and_how_to_take_it() {
        let manifest = crate::supply::manifest::Catalog::BuiltIn.find("6.12").unwrap().0;
        let debian = manifest.pins[0].debian.as_ref().unwrap();
        let text = left_the_archive(debian, &["6.12.111-1".to_owned()]);
        assert!(
            text.contains("6.12.111-1")
                && text.contains("--allow-version-drift")
                && text.contains("stays in the store")
        );
        assert!(left_the_archive(debian, &[]).contains("nothing"));
    }

    #[test]
    fn a_wrong_checksum_names_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.deb");
        std::fs::write(&file, "abc").unwrap();
        let wrong = Sha256::try_from("0".repeat(64)).unwrap();
        let error = expect_checksum(&file, &wrong).unwrap_err().to_string();
        assert!(
            error.contains("x.deb") && error.contains("ba7816bf") && error.contains("00000000"),
            "{error}"
        );
    }
}
