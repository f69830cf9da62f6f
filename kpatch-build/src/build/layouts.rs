//! Asks the compiler whether a patch changes how a structure lies in memory or which numbers enumerators stand for, which
//! no livepatch can do to what the running kernel has already made.
//!
//! Each changed unit is compiled once more, both ways, with debugging information; the recorded object mostly has none.
//! Patches that only change the inside of functions, which most fixes do, are spared that.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kpatch_core::layout::{LayoutChange, Layouts, Rename};
use kpatch_core::{Refusal, Subject, names};
use rayon::prelude::*;

use crate::build::kbuild::{Place, Tu};
use crate::build::patchset::apply::Patched;
use crate::build::patchset::declarations;
use crate::build::patchset::line::Line;
use crate::build::recompile::{ChangedTu, Recompiler, command, proof};

pub use kpatch_core::codes::patch::LAYOUT_CHANGED;
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
    let is_renamed = |rename: Rename<'_>| {
        let file = |spelt: Option<&str>| spelt.map(|spelt| with.kbuild.trees.place(spelt));
        match (file(rename.from_file), file(rename.to_file)) {
            (Some(from), Some(Place::Source(file))) if from == Place::Source(file.clone()) => {
                let lines = files.get(&file).and_then(Option::as_ref);
                lines.is_some_and(|lines| brings(lines, rename.to) && !declares(lines, rename.from))
            }
            _ => false,
        }
    };
    let old: Vec<&ChangedTu> = units.iter().filter(|unit| unit.orig.is_some()).collect();
    let found = old.par_iter().map(|unit| {
        let tu = with.kbuild.tu(&unit.object)?;
        let (orig, patched) = rayon::join(|| original(with, tu), || patched(with, tu, compile_patched));
        Ok(orig?.changes(&patched?, &is_renamed))
    });
    let found: Vec<Vec<LayoutChange>> = found.collect::<Result<_>>()?;
    let place = |change: LayoutChange| LayoutChange {
        file: change.file.map(|spelt| with.kbuild.trees.place(&spelt).shown()),
        ..change
    };
    Ok(found.into_iter().flatten().map(place).collect())
}

/// Whether the patch has a line with this name of a structure.
fn brings(lines: &[Line], structure: &str) -> bool {
    let name = names::plain(structure);
    let mut new = lines.iter().filter(|line| line.origin.is_none());
    new.any(|line| words(&line.text).any(|word| word == name))
}

/// Whether a structure of this name is still declared there: then it is only not used any more.
fn declares(lines: &[Line], structure: &str) -> bool {
    let declared = |rest: &str| rest.is_empty() || rest.trim_start().starts_with('{');
    lines.iter().any(|line| {
        let text = String::from_utf8_lossy(&line.text);
        let text = text.trim();
        // One that has only the name of a typedef gets it at the end.
        match text.strip_prefix('}') {
            Some(_) => !structure.contains(' ') && words(&line.text).any(|word| word == structure),
            None => {
                let text = text.strip_prefix("typedef ").unwrap_or(text);
                text.strip_prefix(structure).is_some_and(declared)
            }
        }
    })
}

fn words(text: &[u8]) -> impl Iterator<Item = &str> {
    let words = text.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
    words.filter_map(|word| std::str::from_utf8(word).ok())
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

/// Why such a change cannot be a livepatch. A structure with a new name is reported by the old one if that is among those
/// that are accepted.
pub fn refusal(change: &LayoutChange, accept: &[String]) -> Refusal {
    let by = |name: &str| {
        let mut at = Subject::file(change.file.clone().unwrap_or_default()).symbol(name);
        at.line = change.line;
        let was = change
            .was
            .as_ref()
            .map_or_else(String::new, |was| format!("{} was {was}: ", change.name));
        let why = format!(
            "what the running kernel has already made does not fit: {was}{}",
            change.differences.join(", ")
        );
        Refusal::new(LAYOUT_CHANGED, at, why)
    };
    let old = change.was.as_deref().map(by);
    let old = old.filter(|refusal| accept.iter().any(|name| refusal.is_about(name)));
    old.unwrap_or_else(|| by(&change.name)).hint(format!(
        "keep what is there: attach new members with klp_shadow_alloc(), give new enumerators numbers behind the others; or, \
         if nothing that was made before is used afterwards, accept it with --accept {}",
        names::plain(&change.name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::patchset::apply::lines_of;

    fn lines(old: &str, new: &str) -> Vec<Line> {
        let mut lines = lines_of(old.as_bytes());
        let new = lines_of(new.as_bytes()).into_iter();
        lines.extend(new.map(|line| Line { origin: None, ..line }));
        lines
    }

    #[test]
    fn a_new_name_is_in_a_line_of_the_patch() {
        let lines = lines("struct ctx *old;\n", "struct context {\n");
        assert!(brings(&lines, "struct context"));
        assert!(!brings(&lines, "struct ctx"));
        assert!(!brings(&lines, "struct con"));
    }

    #[test]
    fn an_old_name_that_is_still_declared_is_no_other() {
        for text in ["struct ctx {\n", "struct ctx\n", "typedef struct ctx {\n"] {
            assert!(declares(&lines(text, ""), "struct ctx"), "{text}");
        }
        for text in ["struct ctx *old;\n", "struct ctx;\n", "struct ctx_old {\n", "} ctx;\n"] {
            assert!(!declares(&lines(text, ""), "struct ctx"), "{text}");
        }
        assert!(declares(&lines("} ctx_t;\n", ""), "ctx_t"));
        assert!(!declares(&lines("} context_t;\n", ""), "ctx_t"));
    }

    #[test]
    fn a_structure_with_another_name_is_accepted_by_either() {
        let change = LayoutChange {
            name: "struct context".to_owned(),
            was: Some("struct ctx".to_owned()),
            file: Some("a.c".to_owned()),
            line: Some(1),
            differences: vec!["`reads` is new at 0".to_owned()],
        };
        let symbol = |accept: &[&str]| {
            let accept: Vec<String> = accept.iter().map(|name| (*name).to_owned()).collect();
            refusal(&change, &accept).at.symbol
        };
        assert_eq!(symbol(&[]).as_deref(), Some("struct context"));
        assert_eq!(symbol(&["context"]).as_deref(), Some("struct context"));
        assert_eq!(symbol(&["ctx"]).as_deref(), Some("struct ctx"));
        assert!(refusal(&change, &[]).why.contains("struct context was struct ctx"));
    }
}
