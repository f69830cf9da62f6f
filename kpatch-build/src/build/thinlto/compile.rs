//! Compiles the files that a patch touches to bitcode, with the patched ones laid over the tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rayon::prelude::*;

use crate::build::applied::Applied;
use crate::build::kbuild::{Home, Kind, Recorded, TreePath, Tu};
use crate::build::patchset::scope::Scope;
use crate::build::recompile::affected::Affected;
use crate::build::recompile::equivalent::same_meaning;
use crate::build::recompile::kept::{Compilation, Kept, Made};
use crate::build::recompile::overlay::FOLDERS;
use crate::build::recompile::proof::{self, Variant};
use crate::build::recompile::{
    DoesNotCompile, Fate, Look, Recompiled, Rerun, Side, added, cc1, changed, command, failures, files, headers,
    left_out, same_code, same_content, tell_kept, warnings,
};
use crate::build::site::Site;
use crate::build::way::{Again, Compiled};
use crate::supply::store::cache::Key;

/// Where the patched objects go.
const PATCHED: &str = "patched-objects";
/// A kept comparison.
const ANSWER: &str = "answer";
const YES: &str = "yes";

/// Compiles one file at a time; shared between threads.
struct Compiler<'a> {
    site: &'a Site<'a>,
    applied: &'a Applied,
    kept: Kept,
}

/// What of a compilation may be kept: its output, and the patched files that are behind it.
type Keep<'a> = Option<(&'a Path, &'a [String])>;

/// Compiles everything the patch touches.
pub fn compile<'a>(site: &'a Site<'a>, applied: &'a Applied, affected: &Affected) -> Result<Compiled<'a>> {
    let compiler = Compiler {
        site,
        applied,
        kept: Kept::new(&applied.scope.overlaid),
    };
    // The thin links need the hashes of all their inputs, and compiling one file leaves a processor idle.
    let (compiled, ()) = rayon::join(
        || compiler.all(&applied.scope, affected),
        || hash_inputs(site, &applied.scope, affected),
    );
    let (Recompiled { changed, notes }, warnings) = compiled?;
    let known = changed.iter().filter_map(|tu| site.kbuild.tus.get(&tu.object));
    let reruns = known.map(|tu| compiler.rerun(tu)).collect::<Result<_>>()?;
    Ok(Compiled {
        changed,
        notes,
        warnings,
        reruns,
        again: Box::new(compiler),
    })
}

/// Hashes the inputs of the image ahead of their use. Files that cannot be read are reported where they matter.
fn hash_inputs(site: &Site<'_>, scope: &Scope, affected: &Affected) {
    let (build, members) = (&site.kbuild.trees.build, &site.kbuild.members);
    let touched = scope.touched.keys().filter(|object| !affected.is_clear(object));
    let touched = touched.filter_map(|object| site.kbuild.tus.get(object));
    let mut homes = touched.flat_map(|tu| members.homes(tu));
    // An index that the build has kept is not made again.
    if members.vmlinux.distributed || !homes.any(|home| home == Home::Vmlinux) {
        return;
    }
    let inputs = members.vmlinux.inputs.par_iter();
    inputs.for_each(|input| drop(site.hashes.of(&build.join(&input.path))));
}

impl Compiler<'_> {
    fn all(&self, scope: &Scope, affected: &Affected) -> Result<(Recompiled, Vec<String>)> {
        let progress = self.site.progress;
        progress.expect("compile", files(affected, scope));
        let touched: Vec<_> = scope.touched.iter().collect();
        let looks: Vec<Result<(String, Look)>> = touched
            .par_iter()
            .map(|(object, via)| {
                if affected.is_clear(object) {
                    return Ok(((*object).clone(), Look::unseen()));
                }
                let tu = self.site.kbuild.tu(object)?;
                if let Some(note) = left_out(self.site.kbuild, tu) {
                    let (fate, made) = (Fate::Note(note), None);
                    return Ok(((*object).clone(), Look { fate, made }));
                }
                progress.message(&format!("compiling {object}"));
                let look = self.touched(tu, via);
                progress.step();
                Ok(((*object).clone(), look?))
            })
            .collect();
        let looks = failures::all(looks)?;
        tell_kept(progress, &looks);
        let warnings = warnings(&looks, &self.applied.places, &self.roots(), &|object, side| {
            self.asked_again(object, side)
        });
        let fates = looks.into_iter().map(|(_, look)| look.fate).collect();
        let compile = |object: &str, words: &[String], source: &str| self.added(object, words, source);
        Ok((
            Recompiled::of(fates, added::compile(self.site, scope, &compile))?,
            warnings,
        ))
    }

    fn touched(&self, tu: &Tu, via: &[String]) -> Result<Look> {
        let kbuild = self.site.kbuild;
        let recorded = tu.recorded()?;
        let (patched, made) = self.patched(tu, &recorded, via)?;
        let look = |fate| Look { fate, made: Some(made) };
        // Where the recorded object is what the compiler wrote, finding it made again by the patched source is proof
        // enough, and spares compiling the unpatched one.
        if recorded.tail.is_empty() && self.same(tu, &kbuild.trees.object(&tu.object), &patched)? {
            return Ok(look(Fate::Same));
        }
        let orig = match proof::prove(self.site, tu, &recorded)? {
            Ok(orig) => orig,
            Err(refusal) => return Ok(look(Fate::Refused(refusal))),
        };
        if !recorded.tail.is_empty() && self.same(tu, &orig, &patched)? {
            return Ok(look(Fate::Same));
        }
        let homes = kbuild.members.homes(tu);
        Ok(look(changed(tu, Kind::Bitcode, homes, orig, patched, via)))
    }

    fn same(&self, tu: &Tu, orig: &Path, patched: &Path) -> Result<bool> {
        if tu.kind != Kind::Bitcode {
            return Ok(same_code(orig, patched));
        }
        Ok(same_content(orig, patched) || self.same_meaning(orig, patched)?)
    }

    /// Listing two files takes as long as compiling one, so the answer is kept.
    fn same_meaning(&self, orig: &Path, patched: &Path) -> Result<bool> {
        let (site, compiler) = (self.site, &self.site.kbuild.compiler);
        let key = Key::new("same 1")
            .text(&site.kbuild.tools.compiler)
            .bytes(&site.hashes.of(orig)?)
            .bytes(&site.hashes.of(patched)?);
        let entry = site.cache.get("same", &key, |folder| {
            let answer = if same_meaning(compiler, orig, patched)? {
                YES
            } else {
                "no"
            };
            fs::write(folder.join(ANSWER), answer).context("cannot keep a comparison")
        })?;
        Ok(fs::read_to_string(entry.join(ANSWER)).context("cannot read a comparison")? == YES)
    }

    fn patched(&self, tu: &Tu, recorded: &Recorded, via: &[String]) -> Result<(PathBuf, Made)> {
        let out = self.site.out(PATCHED, &tu.object)?;
        let words = command::redirect(&recorded.compiler, &tu.object, &out)?;
        let made = self.overlaid(&tu.object, &words, Some((&out, via)))?;
        Ok((out, made))
    }

    /// What the compiler says of a file whose object nobody wants any more.
    fn asked_again(&self, object: &str, side: Side) -> Result<String> {
        let out = self.site.out("asked-again", object)?;
        let words = command::redirect(&self.site.kbuild.tu(object)?.recorded()?.compiler, object, &out)?;
        match side {
            Side::Orig => self.site.in_build(&words),
            Side::Patched => self
                .site
                .in_build(&self.with_overlay(&words, &self.applied.overlays.plain)),
        }
    }

    fn roots(&self) -> Vec<String> {
        let trees = &self.site.kbuild.trees;
        [trees.spelt(), &trees.source]
            .map(|root| root.display().to_string())
            .to_vec()
    }

    /// How [`Self::patched`] makes the object of a TU.
    fn rerun(&self, tu: &Tu) -> Result<Rerun> {
        let out = self.site.out(PATCHED, &tu.object)?;
        let words = command::redirect(&tu.recorded()?.compiler, &tu.object, &out)?;
        Ok(Rerun {
            unit: tu.object.clone(),
            folder: self.site.kbuild.trees.build.clone(),
            words: self
                .site
                .as_run(&self.with_overlay(&words, &self.applied.overlays.stable))?,
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
        self.overlaid(object, &words, None)?;
        Ok(out)
    }

    /// Runs a compiler command with the overlay. If that fails, once more with other numbers for added lines, since
    /// macros make names of them, and with the true ones, which also give the error its right words.
    fn overlaid(&self, object: &str, words: &[String], keep: Keep<'_>) -> Result<Made> {
        let overlays = &self.applied.overlays;
        let [stable, apart, plain] = FOLDERS;
        let with = |overlay: &Path, content: &str| self.with_content(object, words, keep, overlay, content);
        if let Ok(made) = with(&overlays.stable, stable) {
            return Ok(made);
        }
        if let Ok(made) = with(&overlays.apart, apart) {
            return Ok(made);
        }
        with(&overlays.plain, plain)
            .map_err(|error| DoesNotCompile::because(self.applied.places.explain(error, &self.roots()), object))
    }

    fn with_content(
        &self,
        object: &str,
        words: &[String],
        keep: Keep<'_>,
        overlay: &Path,
        content: &str,
    ) -> Result<Made> {
        let words = self.with_overlay(words, overlay);
        let Some((out, via)) = keep else {
            return self.site.in_build(&words).map(Made::now);
        };
        let one = Compilation {
            object,
            words: &words,
            out,
            besides: &[],
            content,
            via,
        };
        self.kept.compile(self.site, &one, |words| self.site.in_build(words))
    }

    fn with_overlay(&self, words: &[String], overlay: &Path) -> Vec<String> {
        let overlay = ["-ivfsoverlay".to_owned(), overlay.display().to_string()];
        headers::with(&[words, &overlay].concat(), &self.applied.overlays.headers)
    }
}

impl Again for Compiler<'_> {
    fn orig(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf> {
        variant.orig(self.site, tu, &tu.recorded()?, |words, _| {
            self.site.in_build(&[words, variant.options].concat()).map(drop)
        })
    }

    fn patched(&self, tu: &Tu, variant: &Variant<'_>) -> Result<PathBuf> {
        let out = self.site.out(variant.area, &tu.object)?;
        let words = command::redirect(&tu.recorded()?.compiler, &tu.object, &out)?;
        let via = self.applied.scope.touched.get(&tu.object);
        let keep: Keep<'_> = via.map(|via| (out.as_path(), via.as_slice()));
        self.overlaid(&tu.object, &[&words, variant.options].concat(), keep)?;
        Ok(out)
    }
}
