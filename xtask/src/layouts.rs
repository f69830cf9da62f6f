//! Asks the compiler whether a patch changes how a structure lies in memory or which numbers enumerators stand for, which
//! no livepatch can do to what the running kernel has already made.
//!
//! Each changed unit is compiled once more, both ways, with debugging information; the recorded object mostly has none.
//! Patches that only change the inside of functions, which most fixes do, are spared that.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kpatch_core::layout::{LayoutChange, Layouts};
use kpatch_core::{Code, Refusal, Subject, names};
use rayon::prelude::*;

use crate::kbuild::Tu;
use crate::patchset::apply::Patched;
use crate::patchset::declarations;
use crate::recompile::{ChangedTu, Recompiler, command, proof};

/// A structure lies otherwise with the patch, or enumerators stand for other numbers.
pub const LAYOUT_CHANGED: Code = Code("patch.layout-changed");

/// Laid over the recorded options. The types of a unit come into its object only if that is machine code. What a
/// compiler has to say was said when the object was made.
const OPTIONS: [&str; 5] = [
    "-gdwarf-5",
    "-gz=none",
    "-fno-lto",
    "-w",
    "-Wno-unused-command-line-argument",
];

/// Compiles the patched side of a unit with more options into a file.
pub type CompilePatched<'a> = &'a (dyn Fn(&Tu, &[String], &Path) -> Result<()> + Sync);

/// Structures and enumerations that are otherwise in one of the changed units, each once.
pub fn changed(
    with: &Recompiler,
    files: &Patched,
    units: &[ChangedTu],
    compile_patched: CompilePatched<'_>,
) -> Result<BTreeSet<LayoutChange>> {
    if !declarations::edited(files) {
        return Ok(BTreeSet::new());
    }
    let old: Vec<&ChangedTu> = units.iter().filter(|unit| unit.orig.is_some()).collect();
    let found = old.par_iter().map(|unit| {
        let tu = with.kbuild.tu(&unit.object)?;
        let (orig, patched) = rayon::join(|| original(with, tu), || patched(with, tu, compile_patched));
        Ok(orig?.changes(&patched?))
    });
    let found: Vec<Vec<LayoutChange>> = found.collect::<Result<_>>()?;
    let place = |change: LayoutChange| LayoutChange {
        file: change.file.map(|spelt| with.kbuild.trees.place(&spelt).shown()),
        ..change
    };
    Ok(found.into_iter().flatten().map(place).collect())
}

fn options() -> Vec<String> {
    OPTIONS.map(str::to_owned).to_vec()
}

fn original(with: &Recompiler, tu: &Tu) -> Result<Layouts> {
    let recorded = tu.recorded()?;
    let options = options();
    let key = proof::key(with, tu, &recorded)?.text("layouts 1").words(options.iter());
    let entry = with.cache.get("layouts", &key, |folder| {
        let out = folder.join("object.o");
        let words = command::redirect(&recorded.compiler, &tu.object, &out)?;
        with.in_build(&[words, options.clone()].concat()).with_context(|| {
            format!(
                "the unpatched {} does not compile with debugging information",
                tu.object
            )
        })
    })?;
    read(&tu.object, &entry.join("object.o"))
}

fn patched(with: &Recompiler, tu: &Tu, compile: CompilePatched<'_>) -> Result<Layouts> {
    let out = with.out("layouts", &tu.object)?;
    compile(tu, &options(), &out)
        .with_context(|| format!("the patched {} does not compile with debugging information", tu.object))?;
    read(&tu.object, &out)
}

fn read(unit: &str, object: &Path) -> Result<Layouts> {
    let bytes = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    Ok(Layouts::read(unit, &bytes)?)
}

/// Why such a change cannot be a livepatch.
pub fn refusal(change: &LayoutChange) -> Refusal {
    let mut at = Subject::file(change.file.clone().unwrap_or_default()).symbol(&change.name);
    at.line = change.line;
    let why = format!(
        "what the running kernel has already made does not fit: {}",
        change.differences.join(", ")
    );
    Refusal::new(LAYOUT_CHANGED, at, why).hint(format!(
        "keep what is there: attach new members with klp_shadow_alloc(), give new enumerators numbers behind the others; or, \
         if nothing that was made before is used afterwards, accept it with --accept {}",
        names::plain(&change.name)
    ))
}
