//! Proves that compiling an unpatched TU makes the recorded object again, and remembers the proof.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::{Refusal, Subject};

use super::{NOT_REPRODUCIBLE, Recompiler, command};
use crate::build::kbuild::{Recorded, Tu};
use crate::outcome::Ending;
use crate::supply::store::cache::Key;

/// What the compiler made, kept only where the recorded object is something else (a linked module).
const COMPILED: &str = "compiled.o";

/// The unpatched object as the compiler leaves it, or a refusal if today's compiler and tree do not make the recorded one.
pub fn prove(with: &Recompiler, tu: &Tu, recorded: &Recorded) -> Result<Result<PathBuf, Refusal>> {
    let proven = with.cache.get("reproduced", &key(with, tu, recorded)?, |folder| {
        compile(with, tu, recorded, folder)
    });
    match proven {
        Ok(_) if recorded.tail.is_empty() => Ok(Ok(with.kbuild.trees.build.join(&tu.object))),
        Ok(entry) => Ok(Ok(entry.join(COMPILED))),
        Err(error) => match error.downcast::<Ending>()? {
            Ending::Refused(mut refusals) if refusals.len() == 1 => Ok(Err(refusals.remove(0))),
            other => Err(other.into()),
        },
    }
}

/// Everything that decides what compiling a TU makes, and what it made when the kernel was built.
pub fn key(with: &Recompiler, tu: &Tu, recorded: &Recorded) -> Result<Key> {
    let trees = &with.kbuild.trees;
    let mut key = Key::new("reproduced 1")
        .text(&with.kbuild.tools.compiler)
        .text(&with.kbuild.tools.linker);
    for command in std::iter::once(&recorded.compiler).chain(&recorded.tail) {
        key = key.words(command.iter());
    }
    for spelt in std::iter::once(tu.source.as_str()).chain(tu.deps()) {
        let path = trees.absolute(&trees.place(spelt));
        let hash = with
            .hashes
            .of(&path)
            .with_context(|| format!("{} was compiled from it", tu.object))?;
        key = key.text(spelt).bytes(&hash);
    }
    Ok(key.bytes(&with.hashes.of(&trees.build.join(&tu.object))?))
}

fn compile(with: &Recompiler, tu: &Tu, recorded: &Recorded, folder: &Path) -> Result<()> {
    let out = with.out("orig-objects", &tu.object)?;
    with.in_build(&command::redirect(&recorded.compiler, &tu.object, &out)?)
        .with_context(|| format!("the unpatched {} does not compile", tu.object))?;
    if !recorded.tail.is_empty() {
        fs::copy(&out, folder.join(COMPILED)).with_context(|| format!("cannot keep {}", tu.object))?;
        for words in &recorded.tail {
            with.in_build(&command::redirect_tail(words, &tu.object, &out))?;
        }
    }
    let made = fs::read(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let path = with.kbuild.trees.build.join(&tu.object);
    let expected = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if made == expected {
        return Ok(());
    }
    Err(Ending::refused(not_reproducible(tu, &made, &expected)))
}

fn not_reproducible(tu: &Tu, made: &[u8], expected: &[u8]) -> Refusal {
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
    Refusal::new(NOT_REPRODUCIBLE, Subject::file(tu.object.clone()), why)
        .hint("use the source tree and the compiler that built this kernel, unchanged since then")
}
