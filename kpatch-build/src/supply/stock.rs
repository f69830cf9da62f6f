//! A distribution's own kernel, out of its packages: nothing is built, nothing is installed.
//!
//! The packages come through a private apt, which checks them as apt does. What was unpacked is an entry of the store
//! under the build id of the image, made elsewhere and renamed into place.

mod by_hand;
mod compiler;
mod download;
mod files;
mod foreign;
pub mod list;
pub mod modules;
mod objects;
mod packages;
mod running;
mod source;
pub mod vmlinuz;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::kernel::{Arch, StockKernel, Tools};
use crate::outcome::Ending;
use crate::sh;
use crate::supply::apt::{PrivateApt, debian_codename};
use crate::supply::manifest::version_key;
use crate::supply::store::{Guard, NewUnpacked, Store, Unpacked, require_space};
use crate::ui::{Phase, Ui, size, waiting};

pub use by_hand::{ByHand, Parts};
pub use foreign::has_rpm;

use compiler::Compiler;
use packages::{Index, Package, Packages};
use source::Extent;

/// A stock kernel as the user names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stock {
    /// Its release, or `None` for the kernel that this machine runs or that the packages are of.
    pub release: Option<String>,
    /// Packages of Debian's archives that the user has, as files or in folders; without any, the archives are asked.
    pub packages: Vec<PathBuf>,
    /// A kernel that is in no archive of Debian's.
    pub by_hand: Option<ByHand>,
}

impl Stock {
    /// Whether RPM packages are to be unpacked.
    pub fn has_rpm(&self) -> bool {
        matches!(&self.by_hand, Some(ByHand::Packages { files, .. }) if has_rpm(files))
    }
}

/// A stock kernel that was asked for, and what keeps it in the store.
#[derive(Debug)]
pub struct Supplied {
    /// The kernel.
    pub kernel: StockKernel,
    /// What is not quite as it should be.
    pub notes: Vec<String>,
    _held: Vec<Unpacked>,
}

/// Whether a name looks like the release of a distribution's kernel: a version, and something behind it that no version
/// of kernel.org has.
pub fn is_release(name: &str) -> bool {
    let version = name
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(name.len());
    let (version, rest) = name.split_at(version);
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-+._~".contains(c);
    version.contains('.')
        && rest.starts_with(['-', '+'])
        && rest.chars().all(is_word)
        // `-rc1` alone is kernel.org's.
        && !rest.strip_prefix("-rc").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
}

/// Debian releases by the number that their kernels carry (`+deb13`, `~bpo12`), oldest first.
const CODENAMES: [(&str, &str); 2] = [("12", "bookworm"), ("13", "trixie")];

/// The Debian releases to look for a kernel in: the one that its name says, the machine's own, then all others.
fn codenames(release: &str, own: &str) -> Vec<String> {
    let says = |number: &str| {
        let numbered = [format!("deb{number}"), format!("bpo{number}")];
        numbered.iter().any(|word| {
            let rest = release.split(word.as_str()).nth(1);
            rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    let said = CODENAMES
        .iter()
        .filter(|(number, _)| says(number))
        .map(|(_, name)| *name);
    let all = said.chain([own]).chain(CODENAMES.iter().map(|(_, name)| *name));
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The record of a kernel in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    about: String,
    build_id: String,
    /// Debian release that the packages are of, which has the compiler.
    codename: String,
    packages: Packages,
}

/// The record of what was unpacked later.
#[derive(Debug, Serialize, Deserialize)]
struct WholeRecord {
    about: String,
    whole_source_of: String,
}

/// Fails on a machine that cannot start the build programs of these kernels.
pub fn expect_machine() -> Result<()> {
    expect_machine_of(Arch::of_this_machine())
}

fn expect_machine_of(own: Option<Arch>) -> Result<()> {
    if own == Some(Arch::X86_64) {
        return Ok(());
    }
    Err(Ending::infrastructure(
        "kernels of distributions are supported for x86_64 only, and on x86_64 machines, where the build programs of their \
         packages run",
    ))
}

/// Supplies a kernel: from the store, or out of the archives. `patches` say how much of the source is needed.
pub fn supply(store: &Store, wanted: &Stock, patches: &[PathBuf], ui: &Ui) -> Result<Supplied> {
    if let Some(by_hand) = &wanted.by_hand {
        return by_hand::supply(store, by_hand, ui);
    }
    let own = match wanted.packages.as_slice() {
        [] => None,
        paths => Some(files::index(paths)?),
    };
    let is_running = wanted.release.is_none() && own.is_none();
    let running = is_running.then(running::Running::read).transpose()?;
    let release = match (&wanted.release, &running, &own) {
        (Some(release), ..) => release.clone(),
        (None, Some(running), _) => running.release.clone(),
        (None, None, Some(own)) => files::only_release(own)?,
        (None, None, None) => unreachable!("a kernel without a name is the running one"),
    };
    let release = release.as_str();
    let own = match &own {
        Some(own) => Some(packages::choose(own, release, None).map_err(Ending::refused)?),
        None => None,
    };
    let version = match &own {
        Some(packages) => Some(packages.version.as_str()),
        None => running.as_ref().and_then(|running| running.version.as_deref()),
    };
    let which = Which {
        release,
        version,
        own: own.as_ref(),
    };
    let files = source::files_of_patches(patches)?;
    let extent = Extent::for_files(files.iter().map(String::as_str));
    let (record, entry, compiler) = match open(store, which, ui)? {
        Some((record, entry)) => {
            let configuration = objects::configuration(&entry.folder.join("objects"))?;
            let compiler = compiler::of(store, &configuration, &record.codename, ui)?;
            (record, entry, compiler)
        }
        None => unpacked(store, which, ui)?,
    };
    if let Some(build_id) = running.as_ref().and_then(|running| running.build_id.as_deref())
        && build_id != record.build_id
    {
        return Err(running::another_build(release, build_id, &record.build_id));
    }
    let mut held = Vec::new();
    let root = match extent {
        Extent::Whole => {
            let whole = whole(store, &record, &entry, ui)?;
            let root = whole.folder.clone();
            held.push(whole);
            root
        }
        Extent::Usual => entry.folder.clone(),
    };
    held.extend(compiler.held);
    let kernel = StockKernel {
        release: release.to_owned(),
        version: record.packages.version.clone(),
        arch: Arch::X86_64,
        source: root.join("source"),
        objects: root.join("objects"),
        vmlinuz: entry.folder.join("vmlinuz"),
        modules: entry.folder.join("modules"),
        tools: compiler.tools,
        id: record.build_id.clone(),
        build_id: record.build_id,
    };
    held.push(entry);
    Ok(Supplied {
        kernel,
        notes: record.packages.notes,
        _held: held,
    })
}

/// Which kernel is looked for.
#[derive(Debug, Clone, Copy)]
struct Which<'a> {
    release: &'a str,
    /// Version of its source, if only one will do.
    version: Option<&'a str>,
    /// The packages that the user has.
    own: Option<&'a Packages>,
}

/// The record of a release in the store; the newest if there are several uploads of it.
fn stored(store: &Store, which: Which<'_>) -> Result<Option<Record>> {
    let records = store
        .unpacked_records::<Record>()?
        .into_iter()
        .map(|(_, record)| record);
    let fitting = records.filter(|record| {
        let packages = &record.packages;
        packages.release == which.release
            && which.version.is_none_or(|version| version == packages.version)
            && which.own.is_none_or(|own| own.image.sha256 == packages.image.sha256)
    });
    Ok(fitting.max_by_key(|record| version_key(&record.packages.version)))
}

/// The lists of a Debian release, and the lock on the folder that they are in.
struct Lists {
    apt: PrivateApt,
    folder: PathBuf,
    _guard: Guard,
}

/// Reads the lists of a Debian release.
fn read_lists(store: &Store, codename: &str, phase: &Phase) -> Result<(Lists, Index)> {
    let wait = |holder: &str, so_far| phase.line(&waiting(holder, so_far));
    let (folder, _guard) = store.apt_folder(codename, &wait)?;
    phase.message(&format!("reading the package lists of {codename}"));
    let (apt, problem) = PrivateApt::lasting(&folder, codename)?;
    if let Some(problem) = problem {
        phase.line(&format!(
            "warning the package lists of {codename} may be old: {problem}"
        ));
    }
    let mut index = Index::default();
    for (uri, file) in apt.lists()? {
        index.add(&uri, &apt.list(&file)?);
    }
    Ok((Lists { apt, folder, _guard }, index))
}

/// A kernel in the archives.
struct Found {
    lists: Lists,
    codename: String,
    packages: Packages,
}

/// Looks for a release in one Debian release after the other.
fn find(store: &Store, release: &str, version: Option<&str>, phase: &Phase) -> Result<Found> {
    let mut everything = Index::default();
    for codename in codenames(release, &debian_codename()?) {
        let (lists, index) = match read_lists(store, &codename, phase) {
            Ok(read) => read,
            Err(error) if sh::was_interrupted() => return Err(error),
            // A mirror need not have all releases.
            Err(error) => {
                phase.line(&format!("warning {codename}: {error:#}"));
                continue;
            }
        };
        if index.image(release, version).is_some() {
            let packages = packages::choose(&index, release, version).map_err(Ending::refused)?;
            return Ok(Found {
                lists,
                codename,
                packages,
            });
        }
        everything.merge(index);
    }
    match packages::choose(&everything, release, version) {
        Err(refusal) => Err(Ending::refused(refusal)),
        Ok(_) => Err(Ending::infrastructure(format!(
            "{release} is in no single Debian release"
        ))),
    }
}

/// Disk space in bytes for a source tree with all drivers of one processor.
const SPACE_FOR_ALL: u64 = 1_400_000_000;

/// Disk space in bytes that a kernel takes beside the packages, about: the source, and what its packages expand to.
fn space_for(packages: &Packages) -> u64 {
    600_000_000 + 6 * (packages.size() - packages.source.size) + 2 * packages.source.size
}

/// The kernel in the store, if it is there.
fn open(store: &Store, which: Which<'_>, ui: &Ui) -> Result<Option<(Record, Unpacked)>> {
    let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
    let Some(record) = stored(store, which)? else {
        return Ok(None);
    };
    Ok(store.unpacked(&record.build_id, &wait)?.map(|entry| (record, entry)))
}

/// Fetches a kernel, and its compiler if this machine has another one.
fn unpacked(store: &Store, which: Which<'_>, ui: &Ui) -> Result<(Record, Unpacked, Compiler)> {
    let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
    let release = which.release;
    let _guard = store.fetch_lock(release, &wait)?;
    // Another run may have fetched it while this one waited.
    if let Some((record, entry)) = open(store, which, ui)? {
        let configuration = objects::configuration(&entry.folder.join("objects"))?;
        let compiler = compiler::of(store, &configuration, &record.codename, ui)?;
        return Ok((record, entry, compiler));
    }
    let (record, new) = match which.own {
        Some(packages) => ui.phase(&format!("unpack Linux {release}"), |phase| {
            unpack_own(store, packages, phase)
        })?,
        None => ui.phase(&format!("fetch Linux {release}"), |phase| {
            fetch(store, release, which.version, phase)
        })?,
    };
    let folder = new.folder().join("objects");
    let configuration = objects::configuration(&folder)?;
    objects::expect_livepatch(&configuration, release)?;
    let compiler = compiler::of(store, &configuration, &record.codename, ui)?;
    objects::make_programs_run(&folder, compiler.enter.as_deref())?;
    let entry = store.add_unpacked(new, &record.build_id, &record, &wait)?;
    Ok((record, entry, compiler))
}

fn fetch(store: &Store, release: &str, version: Option<&str>, phase: &Phase) -> Result<(Record, NewUnpacked)> {
    let Found {
        lists,
        codename,
        packages,
    } = find(store, release, version, phase)?;
    require_space(store.root(), space_for(&packages), "a distribution's kernel")?;
    let all = packages.all();
    phase.line(&format!(
        "to download: {} in all; {}",
        size(packages.size()),
        download::announced(&all)
    ));
    let new = store.new_unpacked()?;
    let downloads = lists.folder.join("packages");
    let then = |package: &Package, file: &Path| unpack(package, &packages, file, new.folder());
    download::download(&lists.apt, &all, &downloads, phase, &then)?;
    phase.message("reading the image");
    let record = finish(store, new.folder(), &packages, &codename)?;
    for package in all {
        // Left behind, they would only take room.
        let _ = fs::remove_file(download::place(&downloads, package));
    }
    Ok((record, new))
}

/// Unpacks the packages that the user has.
fn unpack_own(store: &Store, packages: &Packages, phase: &Phase) -> Result<(Record, NewUnpacked)> {
    require_space(store.root(), space_for(packages), "a distribution's kernel")?;
    let new = store.new_unpacked()?;
    for package in packages.all() {
        phase.message(&format!("unpacking {}", package.name));
        let file = files::file_of(package);
        let file = file.with_context(|| format!("{} is not one of the files", package.name))?;
        unpack(package, packages, file, new.folder())?;
    }
    phase.message("reading the image");
    let own = debian_codename()?;
    let codename = codenames(&packages.release, &own).swap_remove(0);
    let record = finish(store, new.folder(), packages, &codename)?;
    Ok((record, new))
}

/// Unpacks one package of a kernel into its part of the folder.
fn unpack(package: &Package, packages: &Packages, file: &Path, folder: &Path) -> Result<()> {
    if package.name == packages.source.name {
        let archive = folder.join(source::ARCHIVE);
        source::take_archive(file, &package.name, &folder.join("parts/source"), &archive)?;
        return source::unpack(&archive, &package.name, Extent::Usual, &folder.join("source"));
    }
    download::unpack(file, &folder.join("parts").join(part(package, packages)))
}

fn part(package: &Package, packages: &Packages) -> &'static str {
    match &package.name {
        name if *name == packages.headers.name => "headers",
        name if *name == packages.kbuild.name => "kbuild",
        // The image, and what goes with it.
        _ => "image",
    }
}

/// Puts the parts where they belong.
fn finish(store: &Store, folder: &Path, packages: &Packages, codename: &str) -> Result<Record> {
    let release = &packages.release;
    let parts = folder.join("parts");
    let rename = |from: &Path, to: &str| {
        fs::rename(from, folder.join(to)).with_context(|| format!("the package has no {}", from.display()))
    };
    let places = ["lib/modules", "usr/lib/modules"].map(|place| parts.join("image").join(place).join(release));
    rename(
        places.iter().find(|place| place.is_dir()).unwrap_or(&places[0]),
        "modules",
    )?;
    let boot = parts.join("image/boot").join(format!("vmlinuz-{release}"));
    // Since 7.2 the image lies beside the modules.
    let beside = folder.join("modules/vmlinuz");
    rename(if beside.is_file() { &beside } else { &boot }, "vmlinuz")?;
    let vmlinuz = folder.join("vmlinuz");
    let bytes = fs::read(&vmlinuz).with_context(|| format!("cannot read {}", vmlinuz.display()))?;
    let build_id = vmlinuz::unpack(&bytes).and_then(|image| vmlinuz::build_id(&image));
    let build_id = build_id.with_context(|| packages.image.name.clone())?;
    let source = store.unpacked_folder(&build_id).join("source");
    let headers = parts.join("headers");
    objects::make(
        &headers,
        &parts.join("kbuild"),
        release,
        &source,
        &folder.join("objects"),
    )?;
    fs::remove_dir_all(&parts).with_context(|| format!("cannot remove {}", parts.display()))?;
    Ok(Record {
        about: format!("{release} ({})", packages.version),
        build_id,
        codename: codename.to_owned(),
        packages: packages.clone(),
    })
}

/// The source with all its drivers and an object folder for it, unpacked when they are wanted.
fn whole(store: &Store, record: &Record, entry: &Unpacked, ui: &Ui) -> Result<Unpacked> {
    let key = format!("{}-whole", record.build_id);
    let wait = |holder: &str, so_far| ui.note(waiting(holder, so_far));
    let release = &record.packages.release;
    let _guard = store.fetch_lock(&key, &wait)?;
    if let Some(whole) = store.unpacked(&key, &wait)? {
        return Ok(whole);
    }
    ui.phase(&format!("unpack the drivers of {release}"), |_| {
        require_space(store.root(), SPACE_FOR_ALL, "the whole source")?;
        let new = store.new_unpacked()?;
        let archive = entry.folder.join(source::ARCHIVE);
        let name = &record.packages.source.name;
        source::unpack(&archive, name, Extent::Whole, &new.folder().join("source"))?;
        let objects = new.folder().join("objects");
        let mut copy = sh::command("cp");
        copy.arg("-a").arg(entry.folder.join("objects")).arg(&objects);
        sh::output(&mut copy)?;
        // The copy may not be written, as little as what it was copied from.
        let makefile = objects.join("Makefile");
        fs::remove_file(&makefile).with_context(|| format!("cannot remove {}", makefile.display()))?;
        objects::write_makefile(&objects, &store.unpacked_folder(&key).join("source"))?;
        let record = WholeRecord {
            about: format!("{} with all drivers", record.about),
            whole_source_of: record.build_id.clone(),
        };
        store.add_unpacked(new, &key, &record, &wait)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_told_from_a_version() {
        let releases = [
            "6.1.0-47-cloud-amd64",
            "6.12.117+deb13-amd64",
            "6.8.0-45-generic",
            "6.11.4-301.fc41.x86_64",
        ];
        assert!(releases.iter().all(|name| is_release(name)));
        let others = [
            "6.12",
            "6.12.107",
            "6.12.107@0123456789ab",
            "7.0-rc1",
            "mainline",
            "6-1",
            "6.1-$(x)",
            "",
        ];
        assert!(others.iter().all(|name| !is_release(name)));
    }

    #[test]
    fn the_name_says_where_to_look_first() {
        assert_eq!(codenames("6.12.117+deb13-amd64", "bookworm"), ["trixie", "bookworm"]);
        assert_eq!(codenames("6.1.0-47-amd64", "bookworm"), ["bookworm", "trixie"]);
        assert_eq!(codenames("6.12.9+bpo12-amd64", "trixie"), ["bookworm", "trixie"]);
        assert_eq!(
            codenames("6.1.0-deb130-amd64", "forky"),
            ["forky", "bookworm", "trixie"]
        );
    }
}
