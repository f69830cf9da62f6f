//! Releases from kernel.org, and the signed list of checksums that vouches for them.
//!
//! Each release folder has a `sha256sums.asc`: the checksums of all its files, with a cleartext signature by a key that
//! signs nothing else. gpgv verifies it against the user's keyring, and only the verified text is read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::cmd;

use super::{expect_checksum, finish};
use crate::outcome::Ending;
use crate::sh;
use crate::supply::manifest::{Sha256, version_key};
use crate::supply::store::{Store, StoredSource};

/// Where kernel.org keeps its releases.
pub const MIRROR: &str = "https://cdn.kernel.org/pub/linux/kernel";

/// The key that signs kernel.org's lists of checksums (<https://www.kernel.org/signature.html>).
pub const AUTOSIGNER: &str = "B8868C80BA62A1FFFAF5FDA9632D3A06589DA6B1";

/// A mirror of kernel.org, and who must have signed its lists.
#[derive(Debug, Clone, Copy)]
pub struct KernelOrg<'a> {
    /// The folder that has `v6.x`.
    pub mirror: &'a str,
    /// A keyring as gpgv reads it.
    pub keyring: &'a Path,
    /// Fingerprint of the signing key, without spaces.
    pub signer: &'a str,
}

impl KernelOrg<'_> {
    /// The checksum of a release's archive, out of the signed list.
    pub fn checksum(&self, scratch: &Path, version: &str) -> Result<Sha256> {
        let list = scratch.join("sha256sums.asc");
        let url = format!("{}/sha256sums.asc", folder(self.mirror, version));
        download(&url, &list)?;
        let signed = self.verified(&list, &scratch.join("sha256sums"))?;
        let checksum = checksum_of(&signed, &archive_name(version));
        checksum.ok_or_else(|| Ending::infrastructure(not_listed(&signed, version, &url)))
    }

    /// The text of a list that the right key has signed.
    fn verified(&self, list: &Path, plain: &Path) -> Result<String> {
        let keyring = self
            .keyring
            .canonicalize()
            .with_context(|| format!("cannot read keyring {}", self.keyring.display()))?;
        let shell = sh::shell()?;
        let mut check = sh::prepare(cmd!(
            shell,
            "gpgv --status-fd 1 --keyring {keyring} --output {plain} {list}"
        ));
        let (status, answer, told) = sh::captured(&mut check)?;
        let signer = self.signer.to_ascii_uppercase();
        if !status.success() || !is_signed_by(&answer, &signer) {
            return Err(Ending::infrastructure(format!(
                "the list of checksums is not signed by {signer}, or {} does not have that key (gpgv reads keyrings that \
                 are not armoured): {}",
                keyring.display(),
                told.trim()
            )));
        }
        std::fs::read_to_string(plain).with_context(|| format!("gpgv wrote no {}", plain.display()))
    }
}

/// gpgv reports each good signature in one line; its last word is the fingerprint of the primary key.
fn is_signed_by(status: &str, signer: &str) -> bool {
    let valid = status
        .lines()
        .filter_map(|line| line.strip_prefix("[GNUPG:] VALIDSIG "));
    valid
        .into_iter()
        .any(|line| line.split(' ').next_back() == Some(signer))
}

fn checksum_of(list: &str, name: &str) -> Option<Sha256> {
    let mut lines = list.lines().filter_map(|line| line.split_once("  "));
    let (sha256, _) = lines.find(|(_, listed)| *listed == name)?;
    Sha256::try_from(sha256.to_owned()).ok()
}

fn not_listed(list: &str, version: &str, url: &str) -> String {
    let series: Vec<&str> = version.splitn(3, '.').take(2).collect();
    let prefix = format!("linux-{}.", series.join("."));
    let names = list.lines().filter_map(|line| line.split_once("  "));
    let mut known: Vec<&str> = names
        .filter(|(_, name)| name.starts_with(&prefix))
        .filter_map(|(_, name)| name.strip_prefix("linux-")?.strip_suffix(".tar.xz"))
        .collect();
    known.sort_by_key(|version| version_key(version));
    let newest = known.last().map_or_else(
        || "it has none of this series".to_owned(),
        |newest| format!("the newest of this series is {newest}"),
    );
    format!("{url} has no Linux {version}; {newest}")
}

fn folder(mirror: &str, version: &str) -> String {
    let major = version.split('.').next().unwrap_or(version);
    format!("{}/v{major}.x", mirror.trim_end_matches('/'))
}

/// The first release of a series has no third number.
fn archive_name(version: &str) -> String {
    format!("linux-{}.tar.xz", version.strip_suffix(".0").unwrap_or(version))
}

/// Fetches a release whose checksum is known.
pub(super) fn fetch(store: &Store, mirror: &str, version: &str, sha256: &Sha256) -> Result<StoredSource> {
    let slot = store.new_source()?;
    let name = archive_name(version);
    let archive = slot.archive();
    download(&format!("{}/{name}", folder(mirror, version)), &archive)?;
    expect_checksum(&archive, sha256)?;
    finish(store, slot, version, format!("{name} of kernel.org"))
}

fn download(url: &str, to: &PathBuf) -> Result<()> {
    let shell = sh::shell()?;
    let mut command = match sh::find("curl") {
        Some(curl) => sh::prepare(cmd!(
            shell,
            "{curl} --fail --silent --show-error --location --retry 3 -o {to} {url}"
        )),
        None => {
            let wget = sh::require("wget")?;
            sh::prepare(cmd!(shell, "{wget} --quiet --tries=3 -O {to} {url}"))
        }
    };
    let fetched = sh::output(&mut command);
    fetched.map_err(|error| Ending::infrastructure(format!("cannot download {url}: {error}")))?;
    Ok(())
}

#[cfg(test)]
mod tests;
