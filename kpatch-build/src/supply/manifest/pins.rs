//! Writes pins into a manifest and keeps its comments and layout, since people edit it, too.
//!
//! A new pin is a few lines in the right place. The edited text is parsed again; if it does not mean the old manifest
//! plus the new pin, nothing is written.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{DebianSource, KernelOrgSource, Manifest, Pin};
use crate::yaml;

impl Manifest {
    /// Where the manifest is.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(self.catalog.folder()?.join(format!("{}.yaml", self.series)))
    }

    /// Adds a pin, or a source to a version that has a pin.
    pub fn add_pin(&mut self, pin: Pin) -> Result<()> {
        let path = self.path()?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = with_pin(&text, &pin).with_context(|| path.display().to_string())?;
        let mut expected = self.clone();
        match expected.pins.iter_mut().find(|known| known.version == pin.version) {
            Some(known) => {
                known.debian = pin.debian.or(known.debian.take());
                known.kernel_org = pin.kernel_org.or(known.kernel_org.take());
            }
            None => expected.pins.push(pin),
        }
        let mut found: Manifest = yaml::parse(&text).with_context(|| path.display().to_string())?;
        found.catalog.clone_from(&self.catalog);
        found.check()?;
        ensure!(
            found == expected,
            "cannot edit the layout of {}; add the pin by hand",
            path.display()
        );
        write_whole(&path, &text)?;
        *self = found;
        Ok(())
    }

    /// Writes the manifest of a new series, built like another one.
    pub fn of_new_series(series: &str, pin: &Pin, like: &Manifest) -> Result<Manifest> {
        let model = like.path()?;
        let text = std::fs::read_to_string(&model).with_context(|| format!("cannot read {}", model.display()))?;
        let built = text
            .find("\narches:")
            .with_context(|| format!("{} has no line `arches:`", model.display()))?;
        let text = format!(
            "# Linux {series}: where its sources are, what builds it, and in which configurations.\n\
             # The format is checked strictly (kpatch-build/src/supply/manifest.rs): a key that is not known is an error.\n\
             series: \"{series}\"\ndefault: {}\n\npins:\n{}{}",
            pin.version,
            item(pin),
            &text[built..]
        );
        let mut made: Manifest = yaml::parse(&text)?;
        made.catalog.clone_from(&like.catalog);
        made.check()?;
        let path = made.path()?;
        ensure!(!path.exists(), "{} already exists", path.display());
        write_whole(&path, &text)?;
        Ok(made)
    }
}

fn with_pin(text: &str, pin: &Pin) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.iter().position(|line| line.trim_end() == "pins:");
    let start = start.context("no line `pins:`")? + 1;
    let head = format!("  - version: {}", pin.version);
    let known = lines.iter().position(|line| line.trim_end() == head);
    let (at, new) = match known {
        Some(first) => (end_of(&lines, first + 1, |line| line.starts_with("    ")), sources(pin)),
        None => (end_of(&lines, start, |line| line.starts_with("  ")), item(pin)),
    };
    let mut edited: String = lines[..at].iter().map(|line| format!("{line}\n")).collect();
    edited.push_str(&new);
    edited.extend(lines[at..].iter().map(|line| format!("{line}\n")));
    Ok(edited)
}

/// Index of the line behind a block.
fn end_of(lines: &[&str], start: usize, belongs: impl Fn(&str) -> bool) -> usize {
    let inside = |line: &&&str| line.is_empty() || belongs(line);
    let block: Vec<&&str> = lines[start..].iter().take_while(inside).collect();
    let last = block.iter().rposition(|line| !line.is_empty());
    start + last.map_or(0, |last| last + 1)
}

fn item(pin: &Pin) -> String {
    format!("  - version: {}\n{}", pin.version, sources(pin))
}

fn sources(pin: &Pin) -> String {
    let debian = pin.debian.as_ref().map(debian).unwrap_or_default();
    let kernel_org = pin.kernel_org.as_ref().map(kernel_org).unwrap_or_default();
    debian + &kernel_org
}

fn debian(source: &DebianSource) -> String {
    format!(
        "    debian:\n      package: {}\n      version: {}\n      suite: {}\n      deb_sha256: {}\n      member: {}\n      \
         sha256: {}\n",
        source.package,
        source.version,
        source.suite,
        source.deb_sha256,
        source.member.display(),
        source.sha256
    )
}

fn kernel_org(source: &KernelOrgSource) -> String {
    format!("    kernel_org:\n      sha256: {}\n", source.sha256)
}

fn write_whole(path: &Path, text: &str) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    new.write_all(text.as_bytes()).with_context(cannot)?;
    // A temporary file is private to its owner.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    new.as_file().set_permissions(readable).with_context(cannot)?;
    new.persist(path).with_context(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Catalog;
    use super::*;
    use crate::supply::manifest::Sha256;

    fn sum(digit: &str) -> Sha256 {
        Sha256::try_from(digit.repeat(64)).unwrap()
    }

    fn pin(version: &str, debian: bool) -> Pin {
        let source = DebianSource {
            package: "linux-source-6.12".into(),
            version: format!("{version}-1~deb12u1"),
            suite: "bookworm-security".into(),
            deb_sha256: sum("a"),
            member: "usr/src/linux-source-6.12.tar.xz".into(),
            sha256: sum("b"),
        };
        Pin {
            version: version.into(),
            debian: debian.then_some(source),
            kernel_org: (!debian).then(|| KernelOrgSource { sha256: sum("c") }),
        }
    }

    /// A copy of the manifests of this project.
    fn copied() -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        let from = Catalog::BuiltIn.find("6.12").unwrap().0;
        let text = Catalog::BuiltIn.read(Path::new("6.12.yaml")).unwrap();
        std::fs::write(folder.path().join("6.12.yaml"), text).unwrap();
        let (config, patches) = (folder.path().join("config"), folder.path().join("patches"));
        std::fs::create_dir(&config).unwrap();
        std::fs::create_dir(&patches).unwrap();
        for variant in from.arches.values().flat_map(|arch| arch.configs.values()) {
            for name in &variant.fragments {
                std::fs::write(config.join(name), from.fragment(name).unwrap()).unwrap();
            }
            for (name, text) in from.patches(variant).unwrap() {
                std::fs::write(patches.join(name), text).unwrap();
            }
        }
        let manifest = Catalog::Folder(folder.path().to_owned())
            .load(Path::new("6.12.yaml"))
            .unwrap();
        (folder, manifest)
    }

    #[test]
    fn a_pin_is_added_and_every_other_line_stays() {
        let (_folder, mut manifest) = copied();
        let before = std::fs::read_to_string(manifest.path().unwrap()).unwrap();
        manifest.add_pin(pin("6.12.200", true)).unwrap();
        let after = std::fs::read_to_string(manifest.path().unwrap()).unwrap();
        assert_eq!(after.replace(&item(&pin("6.12.200", true)), ""), before);
        assert!(
            after.contains(&format!("{}\narches:", sources(&pin("6.12.200", true)))),
            "{after}"
        );
        let again = manifest.catalog.load(Path::new("6.12.yaml")).unwrap();
        assert_eq!(again, manifest);
        assert_eq!(again.pin("6.12.200"), Some(&pin("6.12.200", true)));
    }

    #[test]
    fn a_second_source_goes_to_the_pin_of_its_version() {
        let (_folder, mut manifest) = copied();
        manifest.add_pin(pin("6.12.200", true)).unwrap();
        manifest.add_pin(pin("6.12.201", true)).unwrap();
        manifest.add_pin(pin("6.12.200", false)).unwrap();
        let both = manifest.pin("6.12.200").unwrap();
        assert!(both.debian.is_some() && both.kernel_org.is_some());
        assert!(manifest.pin("6.12.201").unwrap().kernel_org.is_none());
    }

    #[test]
    fn a_layout_that_is_not_ours_is_left_alone() {
        let (_folder, mut manifest) = copied();
        let text = std::fs::read_to_string(manifest.path().unwrap()).unwrap();
        let other = text.replace("  - version: 6.12.107\n", "  - # the old one\n    version: 6.12.107\n");
        std::fs::write(manifest.path().unwrap(), &other).unwrap();
        assert!(manifest.add_pin(pin("6.12.107", false)).is_err());
        assert_eq!(std::fs::read_to_string(manifest.path().unwrap()).unwrap(), other);
    }

    #[test]
    fn a_new_series_is_built_like_another_one() {
        let (_folder, like) = copied();
        let mut first = pin("6.18.3", true);
        let made = Manifest::of_new_series("6.18", &first, &like).unwrap();
        assert_eq!((made.default.as_str(), made.pins.len()), ("6.18.3", 1));
        assert_eq!(made.arches, like.arches);
        assert_eq!(made.catalog.load(Path::new("6.18.yaml")).unwrap(), made);
        assert!(Manifest::of_new_series("6.18", &first, &like).is_err());
        first.version = "6.19.1".into();
        assert!(Manifest::of_new_series("6.18", &first, &like).is_err());
    }
}
