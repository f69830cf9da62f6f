//! Compiles the files that a patch touches to bitcode, with the patched ones laid over the tree.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rayon::prelude::*;

use crate::build::applied::Applied;
use crate::build::kbuild::{Home, Kind, Recorded, TreePath, Tu};
use crate::build::patchset::scope::Scope;
use crate::build::recompile::equivalent::same_meaning;
use crate::build::recompile::overlay::Overlays;
use crate::build::recompile::proof::{self, Variant};
use crate::build::recompile::{
    DoesNotCompile, Fate, Recompiled, Rerun, added, cc1, changed, command, files, headers, left_out, same_content,
};
use crate::build::site::Site;
use crate::build::way::{Again, Compiled};

/// Where the patched objects go.
const PATCHED: &str = "patched-objects";

/// Compiles one file at a time; shared between threads.
struct Compiler<'a> {
    site: &'a Site<'a>,
    overlays: &'a Overlays,
}

/// Compiles everything the patch touches.
pub fn compile<'a>(site: &'a Site<'a>, applied: &'a Applied) -> Result<Compiled<'a>> {
    let compiler = Compiler {
        site,
        overlays: &applied.overlays,
    };
    // The thin links need the hashes of all their inputs, and compiling one file leaves a processor idle.
    let (recompiled, ()) = rayon::join(|| compiler.all(&applied.scope), || hash_inputs(site, &applied.scope));
    let Recompiled { changed, notes } = recompiled?;
    let known = changed.iter().filter_map(|tu| site.kbuild.tus.get(&tu.object));
    let reruns = known.map(|tu| compiler.rerun(tu)).collect::<Result<_>>()?;
    Ok(Compiled {
        changed,
        notes,
        reruns,
        again: Box::new(compiler),
    })
}

/// Hashes the inputs of the image ahead of their use. Files that cannot be read are reported where they matter.
fn hash_inputs(site: &Site<'_>, scope: &Scope) {
    let (build, members) = (&site.kbuild.trees.build, &site.kbuild.members);
    let touched = scope.touched.keys().filter_map(|object| site.kbuild.tus.get(object));
    let mut homes = touched.flat_map(|tu| members.homes(tu));
    if !homes.any(|home| home == Home::Vmlinux) {
        return;
    }
    let inputs = members.vmlinux.inputs.par_iter();
    inputs.for_each(|input| drop(site.hashes.of(&build.join(&input.path))));
}

impl Compiler<'_> {
    fn all(&self, scope: &Scope) -> Result<Recompiled> {
        let progress = self.site.progress;
        progress.expect("compile", files(self.site.kbuild, scope));
        let touched: Vec<_> = scope.touched.iter().collect();
        let fates: Vec<Result<Fate>> = touched
            .par_iter()
            .map(|(object, via)| {
                let tu = self.site.kbuild.tu(object)?;
                if let Some(note) = left_out(self.site.kbuild, tu) {
                    return Ok(Fate::Note(note));
                }
                progress.message(&format!("compiling {object}"));
                let fate = self.touched(tu, via)?;
                progress.step();
                Ok(fate)
            })
            .collect();
        let fates = fates.into_iter().collect::<Result<Vec<_>>>()?;
        let compile = |object: &str, words: &[String], source: &str| self.added(object, words, source);
        Recompiled::of(fates, added::compile(self.site, scope, &compile))
    }

    fn touched(&self, tu: &Tu, via: &[String]) -> Result<Fate> {
        let kbuild = self.site.kbuild;
        let recorded = tu.recorded()?;
        let patched = self.patched(tu, &recorded)?;
        // Where the recorded object is what the compiler wrote, finding it made again by the patched source is proof
        // enough, and spares compiling the unpatched one.
        if recorded.tail.is_empty() && self.same(tu, &kbuild.trees.build.join(&tu.object), &patched)? {
            return Ok(Fate::Same);
        }
        let orig = match proof::prove(self.site, tu, &recorded)? {
            Ok(orig) => orig,
            Err(refusal) => return Ok(Fate::Refused(refusal)),
        };
        if !recorded.tail.is_empty() && self.same(tu, &orig, &patched)? {
            return Ok(Fate::Same);
        }
        let homes = kbuild.members.homes(tu);
        Ok(changed(tu, Kind::Bitcode, homes, orig, patched, via))
    }

    fn same(&self, tu: &Tu, orig: &Path, patched: &Path) -> Result<bool> {
        let is_bitcode = tu.kind == Kind::Bitcode;
        Ok(same_content(orig, patched) || (is_bitcode && same_meaning(&self.site.kbuild.compiler, orig, patched)?))
    }

    fn patched(&self, tu: &Tu, recorded: &Recorded) -> Result<PathBuf> {
        let out = self.site.out(PATCHED, &tu.object)?;
        self.overlaid(&tu.object, &command::redirect(&recorded.compiler, &tu.object, &out)?)?;
        Ok(out)
    }

    /// How [`Self::patched`] makes the object of a TU.
    fn rerun(&self, tu: &Tu) -> Result<Rerun> {
        let out = self.site.out(PATCHED, &tu.object)?;
        let words = command::redirect(&tu.recorded()?.compiler, &tu.object, &out)?;
        Ok(Rerun {
            unit: tu.object.clone(),
            folder: self.site.kbuild.trees.build.clone(),
            words: self.with_overlay(&words, &self.overlays.stable),
        })
    }

    /// Compiles a source that the tree does not have.
    fn added(&self, object: &str, words: &[String], source: &str) -> Result<PathBuf> {
        let trees = &self.site.kbuild.trees;
        let out = self.site.out(PATCHED, object)?;
        let words = command::redirect(words, object, &out)?;
        let TreePath::Source(path) = trees.place(source) else {
            bail!("{source} is not in the source tree")
        };
        let copy = self.site.work.join("patched").join(path).display().to_string();
        let words = cc1::command(&words, source, &copy, &trees.build)?;
        self.overlaid(object, &words)?;
        Ok(out)
    }

    /// Runs a compiler command with the overlay. If that fails, once more with other numbers for added lines, since
    /// macros make names of them, and with the true ones, which also give the error its right words.
    fn overlaid(&self, object: &str, words: &[String]) -> Result<()> {
        let with = |overlay: &Path| self.site.in_build(&self.with_overlay(words, overlay));
        if with(&self.overlays.stable).is_ok() || with(&self.overlays.apart).is_ok() {
            return Ok(());
        }
        with(&self.overlays.plain).map_err(|error| DoesNotCompile::because(error, object))
    }

    fn with_overlay(&self, words: &[String], overlay: &Path) -> Vec<String> {
        let overlay = ["-ivfsoverlay".to_owned(), overlay.display().to_string()];
        headers::with(&[words, &overlay].concat(), &self.overlays.headers)
    }
}

impl Again for Compiler<'_> {
    fn orig(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf> {
        variant.orig(self.site, tu, &tu.recorded()?, |words, _| {
            self.site.in_build(&[words, variant.options].concat())
        })
    }

    fn patched(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf> {
        let out = self.site.out(variant.area, &tu.object)?;
        let words = command::redirect(&tu.recorded()?.compiler, &tu.object, &out)?;
        self.overlaid(&tu.object, &[&words, variant.options].concat())?;
        Ok(out)
    }
}
