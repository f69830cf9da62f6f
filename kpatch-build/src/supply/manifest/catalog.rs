//! Where manifests come from: the ones built into the program, or a folder of the user.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use include_dir::{Dir, include_dir};

use super::{Manifest, version_key};
use crate::outcome::Ending;
use crate::yaml;

static BUILT_IN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../kernels");

/// A set of manifests with their configuration fragments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Catalog {
    /// The manifests that are compiled into the program.
    #[default]
    BuiltIn,
    /// A folder laid out like `kernels/`: `SERIES.yaml`, and fragments in `config/`.
    Folder(PathBuf),
}

impl Catalog {
    /// The folder, for commands that write manifests.
    pub fn folder(&self) -> Result<&Path> {
        match self {
            Catalog::Folder(folder) => Ok(folder),
            Catalog::BuiltIn => Err(Ending::usage(
                "built-in manifests cannot be changed; pass a folder of your own with --kernels",
            )),
        }
    }

    /// Reads a file by its path in the folder.
    pub fn read(&self, name: &Path) -> Result<String> {
        match self {
            Catalog::Folder(folder) => {
                let file = folder.join(name);
                std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
            }
            Catalog::BuiltIn => {
                let file = BUILT_IN.get_file(name).and_then(|file| file.contents_utf8());
                let text = file.with_context(|| format!("{} is not built into this program", name.display()))?;
                Ok(text.to_owned())
            }
        }
    }

    /// Name of a file in messages.
    pub fn shown(&self, name: &Path) -> String {
        match self {
            Catalog::Folder(folder) => folder.join(name).display().to_string(),
            Catalog::BuiltIn => format!("built-in {}", name.display()),
        }
    }

    /// All manifests, ordered by series.
    pub fn load_all(&self) -> Result<Vec<Manifest>> {
        let files = self.files()?;
        if files.is_empty() {
            let folder = self.shown(Path::new(""));
            return Err(Ending::usage(format!("no kernel manifest (SERIES.yaml) in {folder}")));
        }
        let mut manifests = files.iter().map(|name| self.load(name)).collect::<Result<Vec<_>>>()?;
        manifests.sort_by_key(|manifest| version_key(&manifest.series));
        Ok(manifests)
    }

    /// Reads one manifest and checks that its parts fit together.
    pub fn load(&self, name: &Path) -> Result<Manifest> {
        let read = || -> Result<Manifest> {
            let mut manifest: Manifest = yaml::parse(&self.read(name)?)?;
            manifest.catalog = self.clone();
            manifest.check()?;
            for (arch, of_arch) in &mut manifest.arches {
                of_arch.on_this_machine(*arch);
            }
            Ok(manifest)
        };
        read().with_context(|| self.shown(name))
    }

    /// Finds the manifest of a series (`6.12`) or of a version of it (`6.12.107`), and the version meant.
    pub fn find(&self, name: &str) -> Result<(Manifest, String)> {
        let mut known = Vec::new();
        for manifest in self.load_all()? {
            if name == manifest.series {
                let version = manifest.default.clone();
                return Ok((manifest, version));
            }
            let rest = name.strip_prefix(&manifest.series);
            if rest.is_some_and(|rest| rest.starts_with('.')) {
                return Ok((manifest, name.to_owned()));
            }
            known.push(manifest.series);
        }
        Err(Ending::usage(format!(
            "no manifest for kernel {name}; known: {}",
            known.join(", ")
        )))
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let is_manifest = |file: &Path| file.extension().is_some_and(|extension| extension == "yaml");
        match self {
            Catalog::BuiltIn => {
                let files = BUILT_IN.files().map(|file| file.path().to_owned());
                Ok(files.filter(|file| is_manifest(file)).collect())
            }
            Catalog::Folder(folder) => {
                let cannot = || format!("cannot read {}", folder.display());
                let mut files = Vec::new();
                for entry in folder.read_dir().with_context(cannot)? {
                    let name = PathBuf::from(entry.with_context(cannot)?.file_name());
                    if is_manifest(&name) {
                        files.push(name);
                    }
                }
                Ok(files)
            }
        }
    }
}
