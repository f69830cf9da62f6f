//! Proves that compiling an unpatched TU makes the recorded object again, and remembers the proof.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::codes::environment::LATENT_ENTROPY;
use kpatch_core::{Refusal, Subject};

use super::{NOT_REPRODUCIBLE, command};
use crate::build::kbuild::{Recorded, Tu};
use crate::build::site::Site;
use crate::outcome::Ending;
use crate::supply::store::cache::Key;

/// What the compiler made, kept only where the recorded object is something else (a linked module).
const COMPILED: &str = "compiled.o";

/// The unpatched object as the compiler leaves it, or a refusal if today's compiler and tree do not make the recorded one.
pub fn prove(site: &Site<'_>, tu: &Tu, recorded: &Recorded) -> Result<Result<PathBuf, Refusal>> {
    let proven = site.cache.get("reproduced", &key(site, tu, recorded)?, |folder| {
        compile(site, tu, recorded, folder)
    });
    match proven {
        Ok(_) if recorded.tail.is_empty() => Ok(Ok(site.kbuild.trees.object(&tu.object))),
        Ok(entry) => Ok(Ok(entry.join(COMPILED))),
        Err(error) => match error.downcast::<Ending>()? {
            Ending::Refused(mut refusals) if refusals.len() == 1 => Ok(Err(refusals.remove(0))),
            other => Err(other.into()),
        },
    }
}

/// Everything that decides what compiling a TU makes, and what it made when the kernel was built.
pub fn key(site: &Site<'_>, tu: &Tu, recorded: &Recorded) -> Result<Key> {
    let trees = &site.kbuild.trees;
    let mut key = Key::new("reproduced 1")
        .text(&site.kbuild.tools.compiler)
        .text(&site.kbuild.tools.linker);
    for command in std::iter::once(&recorded.compiler).chain(&recorded.tail) {
        key = key.words(command.iter());
    }
    for spelt in std::iter::once(tu.source.as_str()).chain(tu.deps()) {
        let path = trees.absolute(&trees.place(spelt));
        let hash = site
            .hashes
            .of(&path)
            .with_context(|| format!("{} was compiled from it", tu.object))?;
        key = key.text(spelt).bytes(&hash);
    }
    Ok(key.bytes(&site.hashes.of(&trees.object(&tu.object))?))
}

/// An unpatched object made in another way than the kernel's, such as with more options.
pub struct Variant<'a> {
    /// The area of the cache, and the folder of the patched side.
    pub area: &'a str,
    /// The form of what is kept.
    pub version: &'a str,
    /// Options that come on top of the recorded ones.
    pub options: &'a [String],
}

/// The name of an object in its cache entry.
const VARIANT: &str = "object.o";

impl Variant<'_> {
    /// The original in this form, out of the cache or made with the recorded command, which `make` is given with the file
    /// that it has to write.
    pub fn orig(
        &self,
        site: &Site<'_>,
        tu: &Tu,
        recorded: &Recorded,
        make: impl FnOnce(&[String], &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let key = key(site, tu, recorded)?.text(self.version).words(self.options.iter());
        let entry = site.cache.get(self.area, &key, |folder| {
            let out = folder.join(VARIANT);
            make(&command::redirect(&recorded.compiler, &tu.object, &out)?, &out)
        })?;
        Ok(entry.join(VARIANT))
    }
}

fn compile(site: &Site<'_>, tu: &Tu, recorded: &Recorded, folder: &Path) -> Result<()> {
    let out = site.out("orig-objects", &tu.object)?;
    site.in_build(&command::redirect(&recorded.compiler, &tu.object, &out)?)
        .with_context(|| format!("the unpatched {} does not compile", tu.object))?;
    if !recorded.tail.is_empty() {
        fs::copy(&out, folder.join(COMPILED)).with_context(|| format!("cannot keep {}", tu.object))?;
        for words in &recorded.tail {
            site.in_build(&command::redirect_tail(words, &tu.object, &out))?;
        }
    }
    let made = fs::read(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let path = site.kbuild.trees.object(&tu.object);
    let expected = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if made == expected {
        return Ok(());
    }
    let what = site.kbuild.module_dir.as_ref().map_or("kernel", |_| "module");
    let refusal = not_reproducible(tu, &made, &expected, what);
    Err(Ending::refused(
        if site.kbuild.config.is_on("GCC_PLUGIN_LATENT_ENTROPY") {
            drawn(refusal)
        } else {
            refusal
        },
    ))
}

/// The reason that is known for a kernel in which random numbers are compiled into the functions that ask for it
/// (`__latent_entropy`, scripts/gcc-plugins/latent_entropy_plugin.c): GCC draws them anew unless it is told a seed.
fn drawn(refusal: Refusal) -> Refusal {
    Refusal::new(LATENT_ENTROPY, refusal.at, refusal.why).hint(
        "if this file has functions with __latent_entropy, random numbers were compiled into them: make the change in another \
         file, or build the kernel without CONFIG_GCC_PLUGIN_LATENT_ENTROPY",
    )
}

fn not_reproducible(tu: &Tu, made: &[u8], expected: &[u8], what: &str) -> Refusal {
    let at = made
        .iter()
        .zip(expected)
        .position(|(a, b)| a != b)
        .unwrap_or(made.len().min(expected.len()));
    let why = format!(
        "compiling the unpatched source does not make the recorded object: they differ from byte {at} on ({} bytes made, {} recorded)",
        made.len(),
        expected.len()
    );
    Refusal::new(NOT_REPRODUCIBLE, Subject::file(tu.object.clone()), why).hint(format!(
        "use the source tree and the compiler that built this {what}, unchanged since then"
    ))
}
