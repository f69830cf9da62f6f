//! Lists of packages, and which of them are a kernel: from a release as `uname -r` prints it to image, headers, build
//! programs and source, each in the version that belongs to the image.

use std::collections::BTreeMap;

use kpatch_core::{Refusal, Subject, codes};
use serde::{Deserialize, Serialize};

use crate::supply::manifest::version_key;

/// Beginnings of the names that are looked for in lists of sixty thousand packages.
const PREFIXES: [&str; 7] = [
    "linux-image-",
    "linux-headers-",
    "linux-kbuild-",
    "linux-source-",
    "linux-binary-",
    "linux-modules-",
    "linux-base-",
];

/// Beginnings of the names of packages that an image of 7.2 and later only depends on: the image itself, its modules, and
/// what both have in common. Their names end in the release.
const PARTS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];

/// A package as a list describes it (deb-control(5), and `Packages` of the archive's format).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Name and version of the source it was built from.
    pub source: (String, String),
    /// Whole names that it depends on, with the version where exactly one is asked for.
    pub depends: Vec<(String, Option<String>)>,
    /// Where it can be downloaded.
    pub uri: String,
    /// Bytes to download.
    pub size: u64,
    /// Checksum, as the signed lists have it.
    pub sha256: String,
}

/// Where packages are looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Whence {
    /// In the archives that apt knows.
    #[default]
    Archives,
    /// Among files that the user named.
    Files,
}

/// The packages of kernels in some lists.
#[derive(Debug, Default)]
pub struct Index {
    packages: BTreeMap<String, Vec<Package>>,
    whence: Whence,
}

impl Index {
    /// An empty one.
    pub fn from(whence: Whence) -> Index {
        Index {
            packages: BTreeMap::new(),
            whence,
        }
    }

    /// Adds a list. `uri` is where the paths in it count from.
    pub fn add(&mut self, uri: &str, list: &str) {
        for stanza in list.split("\n\n") {
            let named = stanza.trim_start().strip_prefix("Package: ");
            if named.is_some_and(|rest| PREFIXES.iter().any(|prefix| rest.starts_with(prefix)))
                && let Some(package) = package(uri, stanza)
            {
                let known = self.packages.entry(package.name.clone()).or_default();
                if !known.iter().any(|one| one.version == package.version) {
                    known.push(package);
                }
            }
        }
    }

    /// Adds what another one has.
    pub fn merge(&mut self, other: Index) {
        for (name, packages) in other.packages {
            self.packages.entry(name).or_default().extend(packages);
        }
    }

    fn versions(&self, name: &str) -> &[Package] {
        self.packages.get(name).map_or(&[], Vec::as_slice)
    }

    fn exact(&self, name: &str, version: &str) -> Option<&Package> {
        self.versions(name).iter().find(|package| package.version == version)
    }

    /// The releases that there is an image of, in order.
    pub fn releases(&self) -> Vec<&str> {
        let mut releases: Vec<&str> = self.packages.keys().filter_map(|name| release_of_image(name)).collect();
        releases.sort_by_key(|release| version_key(release));
        releases.dedup();
        releases
    }

    /// The image of a release: the signed one before the same without a signature, the newest before older ones.
    pub fn image(&self, release: &str, version: Option<&str>) -> Option<&Package> {
        let names = [
            format!("linux-image-{release}"),
            format!("linux-image-{release}-unsigned"),
        ];
        let fits = |package: &&Package| version.is_none_or(|version| package.source.1 == version);
        names.iter().find_map(|name| {
            let fitting = self.versions(name).iter().filter(fits);
            fitting.max_by_key(|package| version_key(&package.version))
        })
    }
}

/// The release of an image, if a package is one: not a metapackage, and not its symbols.
fn release_of_image(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("linux-image-")?;
    let rest = rest.strip_suffix("-unsigned").unwrap_or(rest);
    let is_release = rest.contains('-') && rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('.');
    (is_release && !rest.ends_with("-dbg")).then_some(rest)
}

fn package(uri: &str, stanza: &str) -> Option<Package> {
    let field = |name: &str| {
        let value = stanza
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim)
    };
    let (name, version) = (field("Package")?, field("Version")?);
    // What a signed image was built from is what its unsigned binary was.
    let used = field("Built-Using").and_then(|used| used.split(',').find_map(exactly));
    let source = match (used, field("Source")) {
        (Some((name, Some(version))), _) => (name, version),
        (_, Some(source)) => match source.split_once(" (") {
            Some((name, version)) => (name.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (source.to_owned(), version.to_owned()),
        },
        (_, None) => (name.to_owned(), version.to_owned()),
    };
    let depends = field("Depends").unwrap_or_default().split(',');
    let source = unsigned(source);
    let path = field("Filename")?;
    // A path that leaves the archive is none.
    let is_below = !path.starts_with('/') && !path.split('/').any(|part| part == "..");
    Some(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        source,
        depends: depends.filter_map(exactly).collect(),
        uri: is_below.then(|| format!("{}/{path}", uri.trim_end_matches('/')))?,
        size: field("Size")?.parse().ok()?,
        sha256: field("SHA256").filter(|sum| sum.len() == 64)?.to_owned(),
    })
}

/// The source of a signed image, where no field names it: that of the signatures has the same version with `+` for `-`.
fn unsigned((name, version): (String, String)) -> (String, String) {
    match name.starts_with("linux-signed-") && !version.contains('-') {
        true => ("linux".to_owned(), version.replacen('+', "-", 1)),
        false => (name, version),
    }
}

/// A relation such as `linux (= 6.1.170-3)`: the first alternative, and the version if exactly one will do.
fn exactly(relation: &str) -> Option<(String, Option<String>)> {
    let first = relation.split('|').next()?.trim();
    let (name, rest) = first.split_once(' ').unwrap_or((first, ""));
    let version = rest.trim().strip_prefix("(=").and_then(|rest| rest.strip_suffix(')'));
    let name = name.split(':').next()?;
    (!name.is_empty()).then(|| (name.to_owned(), version.map(|version| version.trim().to_owned())))
}

/// The packages of one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packages {
    /// `uname -r`.
    pub release: String,
    /// Version of the source package.
    pub version: String,
    /// Image and modules.
    pub image: Package,
    /// Configuration, symbol versions, generated headers.
    pub headers: Package,
    /// kbuild's own programs, such as objtool.
    pub kbuild: Package,
    /// Source with the distribution's patches.
    pub source: Package,
    /// What belongs to the image and is in packages of its own.
    #[serde(default)]
    pub parts: Vec<Package>,
    /// What is not quite as it should be.
    pub notes: Vec<String>,
}

impl Packages {
    /// All of them, the largest first.
    pub fn all(&self) -> Vec<&Package> {
        let whole = [&self.source, &self.image, &self.headers, &self.kbuild];
        let mut all: Vec<_> = whole.into_iter().chain(&self.parts).collect();
        all.sort_by_key(|package| std::cmp::Reverse(package.size));
        all
    }

    /// Bytes to download.
    pub fn size(&self) -> u64 {
        self.all().iter().map(|package| package.size).sum()
    }
}

/// The packages of a release. `version` is that of the source, where it is known which of several uploads runs.
///
/// # Errors
/// If the archives do not have the release, or not all that belongs to it.
pub fn choose(index: &Index, release: &str, version: Option<&str>) -> Result<Packages, Refusal> {
    let image = index
        .image(release, version)
        .ok_or_else(|| unknown(index, release, version))?;
    let source_version = &image.source.1;
    let gone = |name: &str| gone(index, release, name, source_version);
    let name = format!("linux-headers-{release}");
    let headers = index.exact(&name, source_version).ok_or_else(|| gone(&name))?;
    if let Some(common) = own_headers(headers) {
        return Err(patched_source(release, common, &name));
    }
    let needed = |prefix: &str| {
        headers
            .depends
            .iter()
            .map(|(name, _)| name)
            .find(|name| name.starts_with(prefix))
    };
    let kbuild_name = needed("linux-kbuild-").cloned();
    let kbuild_name = kbuild_name.unwrap_or_else(|| format!("linux-kbuild-{}", series(source_version)));
    let kbuild = nearest(index.versions(&kbuild_name), source_version).ok_or_else(|| gone(&kbuild_name))?;
    let name = format!("linux-source-{}", series(source_version));
    let source = index.exact(&name, source_version).ok_or_else(|| gone(&name))?;
    let parts = parts(index, image, release)?;
    let mut notes = Vec::new();
    if kbuild.version != *source_version {
        notes.push(format!(
            "{kbuild_name} {source_version} is not to be had; {} is used instead",
            kbuild.version
        ));
    }
    Ok(Packages {
        release: release.to_owned(),
        version: source_version.clone(),
        image: image.clone(),
        headers: headers.clone(),
        kbuild: kbuild.clone(),
        source: source.clone(),
        parts,
        notes,
    })
}

/// The headers that only this flavour has, if it is built from a source with patches of its own: Debian's `common-rt`.
fn own_headers(headers: &Package) -> Option<&str> {
    let common = headers.depends.iter().map(|(name, _)| name.as_str());
    let mut common = common.filter(|name| name.starts_with("linux-headers-"));
    common.find(|name| name.contains("-common-"))
}

/// The proof of a file cannot make up for other headers: code that a patch brings may use a structure that the file did not
/// use before.
fn patched_source(release: &str, common: &str, headers: &str) -> Refusal {
    let why =
        format!("{release} was built from a source with patches that linux-source lacks: {headers} needs {common}");
    Refusal::new(codes::environment::PACKAGE_GONE, Subject::default(), why)
        .hint("build the flavour from its source package, and use --source and --build-dir")
}

/// What an image depends on and does not have itself. A signed part is known only with its signature, so any of its
/// alternatives will do.
fn parts(index: &Index, image: &Package, release: &str) -> Result<Vec<Package>, Refusal> {
    let of_release = |name: &&String| {
        let rest = PARTS.iter().find_map(|prefix| name.strip_prefix(prefix));
        rest.is_some_and(|rest| rest == release)
    };
    let names = image.depends.iter().filter(|(name, _)| of_release(&name));
    let part = |(name, version): &(String, Option<String>)| {
        let version = version.as_deref().unwrap_or(&image.version);
        let unsigned = name.replacen("linux-binary-", "linux-binary-unsigned-", 1);
        let found = index.exact(name, version).or_else(|| index.exact(&unsigned, version));
        let found = found.or_else(|| index.exact(&unsigned, &image.source.1));
        found.cloned().ok_or_else(|| gone(index, release, name, version))
    };
    names.map(part).collect()
}

/// `6.1` of `6.1.170-3`.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// The very version, else the next newer one, else the newest.
fn nearest<'a>(offered: &'a [Package], version: &str) -> Option<&'a Package> {
    let wanted = version_key(version);
    let key = |package: &&Package| version_key(&package.version);
    let exact = offered.iter().find(|package| package.version == version);
    let newer = || offered.iter().filter(|package| key(package) >= wanted).min_by_key(key);
    exact.or_else(newer).or_else(|| offered.iter().max_by_key(key))
}

fn unknown(index: &Index, release: &str, version: Option<&str>) -> Refusal {
    let known = index.releases();
    if known.contains(&release) {
        let version = version.unwrap_or_default();
        let why = format!("the archives have {release}, but not the version {version} of it");
        return Refusal::new(codes::environment::PACKAGE_GONE, Subject::default(), why);
    }
    let why = format!("no archive that apt knows has a kernel {release}");
    let near = near(&known, release);
    let refusal = Refusal::new(codes::environment::UNKNOWN_RELEASE, Subject::default(), why);
    match near.as_slice() {
        [] => refusal,
        near => refusal.hint(format!(
            "releases with a similar name: {}; for a kernel that no archive has pass --packages, or --source and --build-dir",
            near.join(", ")
        )),
    }
}

/// Up to six known releases that have most at the start and at the end in common with a name.
fn near<'a>(known: &[&'a str], release: &str) -> Vec<&'a str> {
    let common = |a: &mut dyn Iterator<Item = (char, char)>| a.take_while(|(a, b)| a == b).count();
    let score = |one: &&str| {
        let start = common(&mut one.chars().zip(release.chars()));
        let end = common(&mut one.chars().rev().zip(release.chars().rev()));
        std::cmp::Reverse(2 * start + end)
    };
    let mut near = known.to_vec();
    near.sort_by_key(score);
    near.truncate(6);
    near.sort_by_key(|release| version_key(release));
    near
}

fn gone(index: &Index, release: &str, name: &str, version: &str) -> Refusal {
    let offered: Vec<_> = index.versions(name).iter().map(|one| one.version.as_str()).collect();
    let offered = match offered.as_slice() {
        [] => "no version of it".to_owned(),
        some => some.join(", "),
    };
    let have = match index.whence {
        Whence::Archives => "the archives have",
        Whence::Files => "--packages has",
    };
    let why = format!("{release} needs {name} {version}; {have} {offered}");
    let hint = match index.whence {
        Whence::Archives => {
            "Debian's snapshot archive keeps every version: an entry for it in apt's sources, with the day on which this \
             version was current, is enough; a newer kernel of the archive is the other way"
        }
        Whence::Files => {
            "name its file, too, or leave --packages out and let apt find all of them; for packages that are not Debian's (`make bindeb-pkg`) pass the source tree with --source"
        }
    };
    Refusal::new(codes::environment::PACKAGE_GONE, Subject::default(), why).hint(hint)
}

#[cfg(test)]
mod tests;
