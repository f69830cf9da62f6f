//! Compiles the translation units that a patch touches, and proves that the unpatched ones come out as recorded.
//!
//! The proof is what allows everything after it: if the compiler and tree of today make the recorded object again, byte
//! for byte, then the difference to the patched object is the patch and nothing else.

pub mod added;
pub mod cc1;
pub mod command;
pub mod equivalent;
pub mod headers;
pub mod overlay;
pub mod proof;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kpatch_core::{Code, Refusal, Subject};
use rayon::prelude::*;

use crate::build::inlining::Rerun;
use crate::build::kbuild::{Home, Kbuild, Kind, Other, Place, Recorded, Tu};
use crate::build::patchset::scope::{Scope, beyond_reach};
use crate::outcome::Ending;
use crate::sh;
use crate::supply::store::cache::{Cache, Hashes};
use equivalent::same_meaning;
use overlay::Overlays;

pub use kpatch_core::codes::environment::NOT_REPRODUCIBLE;
pub use kpatch_core::codes::patch::NATIVE_CHANGED;
/// A TU whose bitcode the patch changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedTu {
    /// Object relative to the build directory.
    pub object: String,
    /// Source as spelt in the command.
    pub source: String,
    /// What it is linked into.
    pub homes: Vec<Home>,
    /// Unpatched bitcode; nothing for a new TU.
    pub orig: Option<PathBuf>,
    /// Patched bitcode.
    pub patched: PathBuf,
    /// The changed files it is made from, its own source first.
    pub via: Vec<String>,
    /// For a new TU: the TU it follows in the link.
    pub after: Option<String>,
}

/// A touched unit does not compile with the patch: what the patch says and what the rest of the tree says do not fit.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the patched {object} does not compile")]
pub struct DoesNotCompile {
    /// The object that was to be made, relative to the build directory.
    pub object: String,
}

impl DoesNotCompile {
    /// Says so of what the compiler said; troubles of the surroundings, such as an interrupt, say nothing about the patch.
    pub fn because(error: anyhow::Error, object: &str) -> anyhow::Error {
        if error.is::<Ending>() {
            return error;
        }
        error.context(DoesNotCompile {
            object: object.to_owned(),
        })
    }
}

/// What compiling brought.
#[derive(Debug, Default)]
pub struct Recompiled {
    /// TUs that changed.
    pub changed: Vec<ChangedTu>,
    /// What was compiled without effect, and what was left out.
    pub notes: Vec<String>,
}

/// Compiles one TU at a time; shared between threads.
pub struct Recompiler<'a> {
    /// The kernel build.
    pub kbuild: &'a Kbuild,
    /// Where outputs go.
    pub work: &'a Path,
    /// Where proofs are kept.
    pub cache: &'a Cache,
    /// Content hashes.
    pub hashes: &'a Hashes,
    /// The patched files.
    pub overlays: &'a Overlays,
    /// Called for each finished TU.
    pub report: &'a (dyn Fn(String) + Sync),
}

/// What became of one touched TU.
pub(crate) enum Fate {
    Changed(ChangedTu),
    Same,
    Note(String),
    Refused(Refusal),
}

impl Recompiled {
    /// Sums up what became of the touched TUs and of the added ones.
    pub(crate) fn of(fates: Vec<Fate>, added: Result<Vec<ChangedTu>>) -> Result<Recompiled> {
        let mut result = Recompiled::default();
        let mut refusals = Vec::new();
        let mut same = 0;
        for fate in fates {
            match fate {
                Fate::Changed(tu) => result.changed.push(tu),
                Fate::Same => same += 1,
                Fate::Note(note) => result.notes.push(note),
                Fate::Refused(refusal) => refusals.push(refusal),
            }
        }
        if same > 0 {
            result.notes.push(format!(
                "{same} translation units read a changed file and compile to the same code"
            ));
        }
        match added {
            Ok(added) => result.changed.extend(added),
            Err(error) => match error.downcast::<Ending>()? {
                Ending::Refused(more) => refusals.extend(more),
                other => return Err(other.into()),
            },
        }
        if refusals.is_empty() {
            Ok(result)
        } else {
            Err(Ending::Refused(refusals).into())
        }
    }
}

impl Recompiler<'_> {
    /// Compiles everything the patch touches.
    pub fn run(&self, scope: &Scope) -> Result<Recompiled> {
        let touched: Vec<_> = scope.touched.iter().collect();
        let fates: Vec<Result<Fate>> = touched
            .par_iter()
            .map(|(object, via)| self.touched(object, via))
            .collect();
        let fates = fates.into_iter().collect::<Result<Vec<_>>>()?;
        let compile = |object: &str, words: &[String], source: &str| self.compile_added(object, words, source);
        Recompiled::of(fates, added::compile(self.kbuild, scope, &compile))
    }

    fn touched(&self, object: &str, via: &[String]) -> Result<Fate> {
        let tu = self.kbuild.tu(object)?;
        let homes = self.kbuild.members.homes(tu);
        if let Some(note) = self.left_out(tu) {
            return Ok(Fate::Note(note));
        }
        let recorded = tu.recorded()?;
        let patched = self.compile_patched(tu, &recorded)?;
        (self.report)(format!("compiled {object}"));
        // Where the recorded object is what the compiler wrote, finding it made again by the patched source is proof
        // enough, and spares compiling the unpatched one.
        if recorded.tail.is_empty() && self.same(tu, &self.kbuild.trees.build.join(object), &patched)? {
            return Ok(Fate::Same);
        }
        let orig = match proof::prove(self, tu, &recorded)? {
            Ok(orig) => orig,
            Err(refusal) => return Ok(Fate::Refused(refusal)),
        };
        if !recorded.tail.is_empty() && self.same(tu, &orig, &patched)? {
            return Ok(Fate::Same);
        }
        Ok(changed(tu, Kind::Bitcode, homes, orig, patched, via))
    }

    /// Why a TU that reads a changed file need not be compiled.
    pub(crate) fn left_out(&self, tu: &Tu) -> Option<String> {
        let why = if tu.kind == Kind::Host {
            "runs on the build machine only"
        } else if !self.kbuild.trees.build.join(&tu.object).exists() {
            "is not in the build any more"
        } else {
            return None;
        };
        Some(format!("{} reads a changed file, but {why}", tu.object))
    }

    fn same(&self, tu: &Tu, orig: &Path, patched: &Path) -> Result<bool> {
        let is_bitcode = tu.kind == Kind::Bitcode;
        Ok(same_content(orig, patched) || (is_bitcode && same_meaning(&self.kbuild.compiler, orig, patched)?))
    }

    /// Compiles with the patched files laid over the tree.
    pub fn compile_patched(&self, tu: &Tu, recorded: &Recorded) -> Result<PathBuf> {
        let out = self.out("patched-objects", &tu.object)?;
        self.overlaid(&tu.object, &command::redirect(&recorded.compiler, &tu.object, &out)?)?;
        Ok(out)
    }

    /// Compiles with the patched files laid over the tree and with more options.
    pub fn compile_patched_with(&self, tu: &Tu, options: &[String], out: &Path) -> Result<()> {
        let words = command::redirect(&tu.recorded()?.compiler, &tu.object, out)?;
        self.overlaid(&tu.object, &[&words, options].concat())
    }

    /// How [`Self::compile_patched`] makes the object of a TU.
    pub fn rerun(&self, tu: &Tu) -> Result<Rerun> {
        let out = self.out("patched-objects", &tu.object)?;
        let words = command::redirect(&tu.recorded()?.compiler, &tu.object, &out)?;
        Ok(Rerun {
            unit: tu.object.clone(),
            folder: self.kbuild.trees.build.clone(),
            words: self.with_overlay(&words, &self.overlays.stable),
        })
    }

    /// Compiles a source the tree does not have.
    pub fn compile_added(&self, object: &str, words: &[String], source: &str) -> Result<PathBuf> {
        let out = self.out("patched-objects", object)?;
        let words = command::redirect(words, object, &out)?;
        let Place::Source(path) = self.kbuild.trees.place(source) else {
            bail!("{source} is not in the source tree")
        };
        let copy = self.work.join("patched").join(path).display().to_string();
        let words = cc1::command(&words, source, &copy, &self.kbuild.trees.build)?;
        self.overlaid(object, &words)?;
        Ok(out)
    }

    /// Runs a compiler command with the overlay. If that fails, once more with other numbers for added lines, since
    /// macros make names of them, and with the true ones, which also give the error its right words.
    fn overlaid(&self, object: &str, words: &[String]) -> Result<()> {
        let with = |overlay: &Path| self.in_build(&self.with_overlay(words, overlay));
        if with(&self.overlays.stable).is_ok() || with(&self.overlays.apart).is_ok() {
            return Ok(());
        }
        with(&self.overlays.plain).map_err(|error| DoesNotCompile::because(error, object))
    }

    fn with_overlay(&self, words: &[String], overlay: &Path) -> Vec<String> {
        let overlay = ["-ivfsoverlay".to_owned(), overlay.display().to_string()];
        headers::with(&[words, &overlay].concat(), &self.overlays.headers)
    }

    /// A path for an output in the work folder.
    pub fn out(&self, area: &str, object: &str) -> Result<PathBuf> {
        let out = self.work.join(area).join(object);
        let folder = out.parent().with_context(|| format!("{object} is no file name"))?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(out)
    }

    /// Runs a command where kbuild ran it.
    pub fn in_build(&self, words: &[String]) -> Result<()> {
        let (program, arguments) = words.split_first().context("an empty command")?;
        let mut command = sh::command(program);
        command.args(arguments).current_dir(&self.kbuild.trees.build);
        let (status, _, messages) = sh::captured(&mut command)?;
        if !status.success() {
            bail!("{program} failed with {status}:\n{}", messages.trim_end());
        }
        Ok(())
    }
}

/// What a change of a TU means, given where it is linked. `of_c` is the kind that the differ can work on.
pub(crate) fn changed(tu: &Tu, of_c: Kind, homes: Vec<Home>, orig: PathBuf, patched: PathBuf, via: &[String]) -> Fate {
    let native = tu.kind != of_c;
    for home in &homes {
        let Home::Other(other) = home else { continue };
        // The decompressor has done its work before any livepatch can be loaded.
        if *other == Other::Boot {
            return Fate::Note(format!("{} changes, but it runs only before the kernel", tu.object));
        }
        let (code, what) =
            beyond_reach(*other).unwrap_or((NATIVE_CHANGED, "made outside the links of image and modules"));
        return Fate::Refused(refuse(code, tu, via, what));
    }
    if native {
        return Fate::Refused(refuse(NATIVE_CHANGED, tu, via, "machine code before the link"));
    }
    Fate::Changed(ChangedTu {
        object: tu.object.clone(),
        source: tu.source.clone(),
        homes,
        orig: Some(orig),
        patched,
        via: via.to_vec(),
        after: None,
    })
}

fn refuse(code: Code, tu: &Tu, via: &[String], what: &str) -> Refusal {
    let why = format!("the patch changes it (through {}), and it is {what}", via.join(", "));
    Refusal::new(code, Subject::file(tu.object.clone()), why)
        .hint("keep this file's view of the change as it was, or reboot into a new kernel")
}

/// Whether two files have the same bytes. A file that cannot be read is not the same as any.
pub fn same_content(a: &Path, b: &Path) -> bool {
    matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_compiler_says_speaks_against_the_patch() {
        let said = DoesNotCompile::because(anyhow::anyhow!("error: no member named 'x'"), "fs/a.o");
        assert!(said.is::<DoesNotCompile>());
        let interrupted = DoesNotCompile::because(Ending::infrastructure("interrupted"), "fs/a.o");
        assert!(!interrupted.is::<DoesNotCompile>());
    }
}
