//! The kernels of a distribution that the archives have now.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;

use super::{CODENAMES, Record, packages, read_lists};
use crate::outcome::Ending;
use crate::sh;
use crate::supply::apt::debian_codename;
use crate::supply::manifest::version_key;
use crate::supply::store::Store;
use crate::ui::Phase;

/// A kernel of the archives, or one of the store that may have left them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// As `uname -r` prints it.
    pub release: String,
    /// Version of its source.
    pub version: String,
    /// Code name of the Debian release that has it.
    pub suite: String,
    /// Bytes to download, if all its packages are there.
    pub download_bytes: Option<u64>,
    /// Whether it is in the store.
    pub in_store: bool,
    /// What keeps it from being used.
    pub missing: Option<String>,
}

/// All of them, by Debian release and then by number.
pub fn list(store: &Store, phase: &Phase) -> Result<Vec<Listed>> {
    let own = debian_codename()?;
    let others = CODENAMES.iter().map(|(_, name)| (*name).to_owned());
    let mut codenames: Vec<String> = others.filter(|name| *name != own).collect();
    codenames.insert(0, own);
    let stored: Vec<Record> = store
        .unpacked_records()?
        .into_iter()
        .map(|(_, record)| record)
        .collect();
    let mut listed = Vec::new();
    for codename in codenames {
        let index = match read_lists(store, &codename, phase) {
            Ok((_, index)) => index,
            Err(error) if sh::was_interrupted() => return Err(error),
            Err(error) => {
                phase.line(&format!("warning {codename}: {error:#}"));
                continue;
            }
        };
        listed.extend(of_index(&index, &codename, &stored));
    }
    let known: BTreeSet<_> = listed
        .iter()
        .map(|one| (one.release.clone(), one.version.clone()))
        .collect();
    let gone = stored.iter().filter(|record| {
        let packages = &record.packages;
        !known.contains(&(packages.release.clone(), packages.version.clone()))
    });
    listed.extend(gone.map(of_record));
    if listed.is_empty() {
        return Err(Ending::infrastructure("the archives have no kernels"));
    }
    Ok(listed)
}

fn of_index(index: &packages::Index, codename: &str, stored: &[Record]) -> Vec<Listed> {
    let one = |release: &str| {
        let (version, download_bytes, missing) = match packages::choose(index, release, None) {
            Ok(packages) => (packages.version.clone(), Some(packages.size()), None),
            Err(refusal) => {
                let image = index.image(release, None);
                let version = image.map(|image| image.source.1.clone());
                // The line begins with the release.
                let why = refusal.why.trim_start_matches(release).trim_start().to_owned();
                (version.unwrap_or_default(), None, Some(why))
            }
        };
        let is_it = |record: &&Record| record.packages.release == release && record.packages.version == version;
        Listed {
            in_store: stored.iter().any(|record| is_it(&record)),
            release: release.to_owned(),
            suite: codename.to_owned(),
            version,
            download_bytes,
            missing,
        }
    };
    let mut listed: Vec<_> = index.releases().into_iter().map(one).collect();
    listed.sort_by_key(|one| version_key(&one.release));
    listed
}

fn of_record(record: &Record) -> Listed {
    Listed {
        release: record.packages.release.clone(),
        version: record.packages.version.clone(),
        suite: record.codename.clone(),
        download_bytes: None,
        in_store: true,
        missing: None,
    }
}
