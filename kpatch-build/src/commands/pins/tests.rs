//! Against an archive of packages in a temporary folder, read by the real apt without the network.

use clap::Parser;

use std::path::Path;

use super::*;
use crate::cli::{BuilderCommand, Cli, Command, KernelCommand};
use crate::outcome::{EXIT_ENVIRONMENT, exit_code};
use crate::sh;

struct Place {
    folder: tempfile::TempDir,
    store: Store,
    ui: Ui,
}

const SUITE: &str = "stable-updates";

impl Place {
    /// A manifest for 9.9 with one pin that no archive has.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&folder.path().join("store"))).unwrap();
        let place = Place {
            folder,
            store,
            ui: Ui::new(true, false),
        };
        std::fs::create_dir_all(place.path("kernels/config")).unwrap();
        std::fs::create_dir_all(place.path(&format!("archive/dists/{SUITE}/main/binary-amd64"))).unwrap();
        std::fs::write(place.path("kernels/config/a.config"), "CONFIG_A=y\n").unwrap();
        let sum = "a".repeat(64);
        let text = format!(
            "# The old one.\nseries: \"9.9\"\ndefault: 9.9.1\npins:\n  # Gone long ago.\n  - version: 9.9.1\n    debian:\n      \
             package: linux-source-9.9\n      version: 9.9.1-1\n      suite: {SUITE}\n      deb_sha256: {sum}\n      \
             member: usr/src/linux-source-9.9.tar.xz\n      sha256: {sum}\n\narches:\n  x86_64:\n    image: {{target: a, \
             path: a}}\n    toolchains: {{gcc: {{make_variables: [], programs: {{gcc: gcc}}, identity: [gcc]}}}}\n    \
             configs: {{small: {{about: a, toolchains: [gcc], base: b, fragments: [a.config], steps: 1}}}}\n"
        );
        std::fs::write(place.path("kernels/9.9.yaml"), text).unwrap();
        place.offer(&[]);
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        sh::output(sh::command(program).args(arguments).current_dir(self.folder.path())).unwrap();
    }

    /// Makes the archive offer these versions of `linux-source-SERIES`, each with a tree that has that version.
    fn offer(&self, versions: &[(&str, &str)]) {
        let mut index = String::new();
        for (series, version) in versions {
            index.push_str(&self.package(series, version));
        }
        let list = format!("archive/dists/{SUITE}/main/binary-amd64/Packages");
        std::fs::write(self.path(&list), index).unwrap();
        let sum = crate::supply::store::hash_file(&self.path(&list)).unwrap();
        let size = self.path(&list).metadata().unwrap().len();
        let release = format!(
            "Suite: {SUITE}\nCodename: {SUITE}\nComponents: main\nArchitectures: amd64\nDate: Mon, 01 Jan 2024 00:00:00 UTC\n\
             SHA256:\n {sum} {size} main/binary-amd64/Packages\n"
        );
        std::fs::write(self.path(&format!("archive/dists/{SUITE}/Release")), release).unwrap();
    }

    /// A package file, and its entry for the index.
    fn package(&self, series: &str, version: &str) -> String {
        let upstream = upstream_version(version);
        let sublevel = upstream.rsplit('.').next().unwrap();
        let (major, minor) = series.split_once('.').unwrap();
        let makefile = format!("VERSION = {major}\nPATCHLEVEL = {minor}\nSUBLEVEL = {sublevel}\n");
        std::fs::create_dir_all(self.path("linux")).unwrap();
        std::fs::write(self.path("linux/Makefile"), makefile).unwrap();
        let name = format!("linux-source-{series}");
        std::fs::create_dir_all(self.path("package/DEBIAN")).unwrap();
        std::fs::create_dir_all(self.path("package/usr/src")).unwrap();
        self.run("tar", &["cJf", &format!("package/usr/src/{name}.tar.xz"), "linux"]);
        let control = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
        );
        std::fs::write(self.path("package/DEBIAN/control"), &control).unwrap();
        let file = format!("{name}_{version}_all.deb");
        self.run(
            "dpkg-deb",
            &["--root-owner-group", "-b", "package", &format!("archive/{file}")],
        );
        std::fs::remove_dir_all(self.path("package")).unwrap();
        let built = self.path(&format!("archive/{file}"));
        let (sum, size) = (
            crate::supply::store::hash_file(&built).unwrap(),
            built.metadata().unwrap().len(),
        );
        format!("{control}Filename: {file}\nSize: {size}\nSHA256: {sum}\n\n")
    }

    fn world(&self) -> World<'_> {
        let entry = format!(
            "deb [trusted=yes arch=amd64] file:{} x main",
            self.path("archive").display()
        );
        World {
            store: &self.store,
            catalog: Box::leak(Box::new(Catalog::Folder(self.path("kernels")))),
            archive: Archive::Named(entry),
            ui: &self.ui,
        }
    }

    fn add(&self, arguments: &[&str]) -> Result<Added> {
        let line = [&["xtask", "kernel", "add"], arguments].concat();
        let Command::Builder(BuilderCommand::Kernel(KernelCommand::Add(args))) =
            Cli::try_parse_from(line).unwrap().command
        else {
            panic!("it is `kernel add`")
        };
        self.world().add(&args)
    }

    fn update(&self, check: bool) -> Updated {
        let args = KernelUpdateArgs {
            series: Some("9.9".into()),
            check,
            archive: ArchiveArgs { archive: None },
        };
        self.world().update(&args).unwrap().remove(0)
    }

    fn manifest(&self, series: &str) -> Manifest {
        Catalog::Folder(self.path("kernels"))
            .load(Path::new(&format!("{series}.yaml")))
            .unwrap()
    }
}

#[test]
fn update_pins_the_newest_and_tells_which_pins_have_left() {
    let place = Place::new();
    place.offer(&[("9.9", "9.9.4-1"), ("9.9", "9.9.12-1")]);
    let looked = place.update(true);
    assert_eq!(
        (looked.new.as_slice(), looked.pins[0].offered),
        (&["9.9.12".to_owned()][..], Some(false))
    );
    assert_eq!(place.manifest("9.9").pins.len(), 1, "`--check` only looks");

    assert_eq!(place.update(false).new, ["9.9.12"]);
    let manifest = place.manifest("9.9");
    let pin = manifest.pin("9.9.12").unwrap().debian.as_ref().unwrap();
    assert_eq!((pin.version.as_str(), pin.suite.as_str()), ("9.9.12-1", SUITE));
    let (stored, origin) = place.store.sources().unwrap().remove(0);
    assert_eq!(
        (stored.as_str(), origin.version.as_str()),
        (pin.sha256.as_ref(), "9.9.12")
    );
    let text = std::fs::read_to_string(manifest.path().unwrap()).unwrap();
    assert!(
        text.starts_with("# The old one.\n") && text.contains("  # Gone long ago.\n"),
        "{text}"
    );

    let again = place.update(false);
    assert!(again.new.is_empty());
    assert_eq!(
        (again.pins[1].offered, again.pins[1].source_in_store),
        (Some(true), true)
    );
}

#[test]
fn add_pins_one_version_or_makes_a_manifest() {
    let place = Place::new();
    place.offer(&[("9.9", "9.9.4-1"), ("9.9", "9.9.12-1"), ("9.10", "9.10.3-1")]);
    assert_eq!(place.add(&["9.9.4"]).unwrap().version, "9.9.4");
    assert!(place.manifest("9.9").pin("9.9.4").is_some());
    assert!(place.add(&["9.9.4"]).is_err(), "it is pinned already");
    assert!(place.add(&["9.9"]).is_err(), "the series has a manifest");

    let made = place.add(&["9.10"]).unwrap();
    assert!(made.new_series);
    let manifest = place.manifest("9.10");
    assert_eq!((manifest.default.as_str(), manifest.pins.len()), ("9.10.3", 1));
}

#[test]
fn what_no_suite_has_is_explained_with_what_there_is() {
    let place = Place::new();
    place.offer(&[("9.9", "9.9.4-1")]);
    let error = place.add(&["9.9.5"]).unwrap_err();
    assert_eq!(exit_code(&error), EXIT_ENVIRONMENT);
    assert!(
        error.to_string().contains("9.9.4-1") && error.to_string().contains(SUITE),
        "{error:#}"
    );
    assert_eq!(place.manifest("9.9").pins.len(), 1);
}

#[test]
fn names_are_series_or_versions() {
    assert_eq!(series_and_version("6.12").unwrap(), ("6.12", None));
    assert_eq!(series_and_version("6.12.117").unwrap(), ("6.12", Some("6.12.117")));
    for name in ["6", "6.", "6.12.1.1", "v6.12", "6.12-rc1", ""] {
        assert!(series_and_version(name).is_err(), "{name}");
    }
}
