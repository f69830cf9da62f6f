//! What every step from a patch to pairs of objects works with, and none of them changes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::kbuild::Kbuild;
use crate::build::recompile::moved::Moved;
use crate::progress::Progress;
use crate::sh;
use crate::supply::store::cache::{Cache, Hashes};

/// The kernel, the folders and the watcher of one run.
pub struct Site<'a> {
    /// The kernel build.
    pub kbuild: &'a Kbuild,
    /// The image with the symbols of the running kernel.
    pub vmlinux: &'a Path,
    /// Where outputs go.
    pub work: PathBuf,
    /// Where results that other runs can use are kept.
    pub cache: Cache,
    /// Content hashes of files.
    pub hashes: Hashes,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// For a source tree that was elsewhere when the kernel was built.
    moved: Option<Moved>,
}

impl<'a> Site<'a> {
    /// Makes the folders. `work` is for this run alone; source and build directory are only read.
    pub fn new(
        kbuild: &'a Kbuild,
        vmlinux: &'a Path,
        work: &Path,
        cache: &Path,
        progress: &'a dyn Progress,
    ) -> Result<Site<'a>> {
        let work = folder(work)?;
        Ok(Site {
            kbuild,
            vmlinux,
            moved: Moved::of(&kbuild.trees, &kbuild.compiler, &work)?,
            work,
            cache: Cache::new(&folder(cache)?),
            hashes: Hashes::default(),
            progress,
        })
    }

    /// A path for an output in the work folder.
    pub fn out(&self, area: &str, object: &str) -> Result<PathBuf> {
        let out = self.work.join(area).join(object);
        let folder = out.parent().with_context(|| format!("{object} is no file name"))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(out)
    }

    /// A command in terms of the build, as it can be run now.
    pub fn as_run(&self, words: &[String]) -> Result<Vec<String>> {
        match &self.moved {
            Some(moved) => moved.command(words),
            None => Ok(words.to_vec()),
        }
    }

    /// Runs a command where kbuild ran it, and gives what it said.
    pub fn in_build(&self, words: &[String]) -> Result<String> {
        let words = self.as_run(words)?;
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = sh::command(program);
        command.args(arguments).current_dir(&self.kbuild.trees.build);
        command.envs(sh::path_with(&self.kbuild.path).map(|path| ("PATH", path)));
        let (status, _, messages) = sh::captured(&mut command)?;
        if !status.success() {
            let text = format!("{program} failed with {status}:\n{}", messages.trim_end());
            return Err(sh::failed(text));
        }
        Ok(messages)
    }
}

/// Makes a folder and gives its absolute path: commands run elsewhere, where relative ones would lead to other files.
fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    path.canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))
}
