//! Asks the compiler whether a patch changes how a structure lies in memory or which numbers enumerators stand for, which
//! no livepatch can do to what the running kernel has already made.
//!
//! Each changed unit is compiled once more, both sides, with debugging information; the recorded object mostly has none.
//! Patches that only change the inside of functions, which most fixes do, are spared that.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kpatch_core::layout::{LayoutChange, Layouts, PrototypeChange, Rename};
use kpatch_core::resolve::Exports;
use kpatch_core::{Refusal, Subject, names};
use rayon::prelude::*;

use crate::build::kbuild::{TreePath, Tu};
use crate::build::patchset::apply::Patched;
use crate::build::patchset::declarations;
use crate::build::patchset::line::Line;
use crate::build::recompile::ChangedTu;
use crate::build::recompile::proof::Variant;
use crate::build::site::Site;
use crate::build::way::Again;

pub use kpatch_core::codes::patch::{LAYOUT_CHANGED, SIGNATURE_CHANGED};
/// Laid over the recorded options. The types of a unit come into its object only if that is machine code. What a
/// compiler has to say was said when the object was made.
const OPTIONS: [&str; 5] = [
    "-gdwarf-5",
    "-gz=none",
    "-fno-lto",
    "-w",
    "-Wno-unused-command-line-argument",
];

/// What is declared otherwise in the changed units.
#[derive(Debug, Default)]
pub struct Declared {
    /// Structures, variables and enumerations.
    pub layouts: BTreeSet<LayoutChange>,
    /// Functions with external linkage.
    pub prototypes: BTreeSet<PrototypeChange>,
    /// Members of structures that point to functions.
    pub operations: BTreeSet<PrototypeChange>,
}

/// What is declared otherwise in one of the changed units, each once.
pub fn changed(site: &Site<'_>, files: &Patched, units: &[ChangedTu], again: &dyn Again) -> Result<Declared> {
    if !declarations::edited(files) {
        return Ok(Declared::default());
    }
    let trees = &site.kbuild.trees;
    let is_renamed = |rename: Rename<'_>| {
        let file = |spelt: Option<&str>| spelt.map(|spelt| trees.place(spelt));
        match (file(rename.from_file), file(rename.to_file)) {
            (Some(from), Some(TreePath::Source(file))) if from == TreePath::Source(file.clone()) => {
                let lines = files.get(&file).and_then(Option::as_ref);
                lines.is_some_and(|lines| brings(lines, rename.to) && !declares(lines, rename.from))
            }
            _ => false,
        }
    };
    let known: Vec<&ChangedTu> = units.iter().filter(|unit| unit.orig.is_some()).collect();
    let progress = site.progress;
    if !known.is_empty() {
        progress.expect("compile with debugging information", 2 * known.len() as u64);
    }
    let found = known.par_iter().map(|unit| {
        progress.message(&format!("compiling {} with debugging information", unit.object));
        let tu = site.kbuild.tu(&unit.object)?;
        let (orig, patched) = rayon::join(
            || orig(again, tu).inspect(|_| progress.step()),
            || patched(again, tu).inspect(|_| progress.step()),
        );
        let (orig, patched) = (orig?, patched?);
        Ok((
            orig.changes(&patched, &is_renamed),
            orig.prototype_changes(&patched),
            orig.operation_changes(&patched),
        ))
    });
    let found: Vec<(Vec<LayoutChange>, Vec<PrototypeChange>, Vec<PrototypeChange>)> = found.collect::<Result<_>>()?;
    let shown = |file: Option<String>| file.map(|spelt| trees.place(&spelt).shown());
    let placed = |change: PrototypeChange| PrototypeChange {
        file: shown(change.file),
        ..change
    };
    let mut declared = Declared::default();
    for (layouts, prototypes, operations) in found {
        declared.layouts.extend(layouts.into_iter().map(|change| LayoutChange {
            file: shown(change.file),
            ..change
        }));
        declared.prototypes.extend(prototypes.into_iter().map(placed));
        declared.operations.extend(operations.into_iter().map(placed));
    }
    Ok(declared)
}

/// Why an exported function cannot get another prototype; nothing for one that only the kernel image calls, since all its
/// callers are compared. A CRC (MODVERSIONS) says less: it also changes with what the types consist of.
pub fn signature(change: &PrototypeChange, exports: &Exports) -> Option<Refusal> {
    exports.get(&change.name)?;
    let mut at = Subject::file(change.file.clone().unwrap_or_default()).symbol(&change.name);
    at.line = change.line;
    let why = format!(
        "it is exported, and modules that are not patched would call it with other arguments: it was `{}` and is `{}`",
        change.from, change.to
    );
    Some(Refusal::new(SIGNATURE_CHANGED, at, why).hint(format!(
        "add a new function and leave this one as it is; or, if no module calls it, accept it with --accept {}",
        change.name
    )))
}

/// Why an operation cannot get another prototype; nothing for one that only files of the tree know, since all of them that
/// read the declaration are compared.
pub fn operation(change: &PrototypeChange) -> Option<Refusal> {
    let file = change.file.as_deref().filter(|file| is_for_modules(file))?;
    let mut at = Subject::file(file).symbol(&change.name);
    at.line = change.line;
    let why = format!(
        "modules that are not patched would call it, or be called through it, with other arguments: it was `{}` and is `{}`",
        change.from, change.to
    );
    Some(Refusal::new(SIGNATURE_CHANGED, at, why).hint(format!(
        "leave the operation as it is and pass what is new another way; or, if no module has to do with it, accept it with \
         --accept {}",
        names::plain(&change.name)
    )))
}

/// Whether modules that are not in the tree are built with this header (scripts/package/install-extmod-build).
pub fn is_for_modules(file: &str) -> bool {
    file.starts_with("include/") || (file.starts_with("arch/") && file.contains("/include/"))
}

/// Whether the patch has a line with this name of a structure.
fn brings(lines: &[Line], structure: &str) -> bool {
    let name = names::plain(structure);
    let mut added = lines.iter().filter(|line| line.origin.is_none());
    added.any(|line| words(&line.text).any(|word| word == name))
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

fn orig(again: &dyn Again, tu: &Tu) -> Result<Layouts> {
    compiled(tu, "unpatched", |variant| again.orig(tu, variant))
}

fn patched(again: &dyn Again, tu: &Tu) -> Result<Layouts> {
    compiled(tu, "patched", |variant| again.patched(tu, variant))
}

fn compiled(tu: &Tu, side: &str, compile: impl FnOnce(&Variant<'_>) -> Result<PathBuf>) -> Result<Layouts> {
    let variant = Variant {
        area: "layouts",
        version: "layouts 1",
        options: &OPTIONS.map(str::to_owned),
    };
    let object = compile(&variant)
        .with_context(|| format!("the {side} {} does not compile with debugging information", tu.object))?;
    read(&tu.object, &object)
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
            "objects that the running kernel has already made do not fit: {was}{}",
            change.differences.join(", ")
        );
        Refusal::new(LAYOUT_CHANGED, at, why)
    };
    let by_orig = change.was.as_deref().map(by);
    let by_orig = by_orig.filter(|refusal| accept.iter().any(|name| refusal.is_about(name)));
    by_orig.unwrap_or_else(|| by(&change.name)).hint(format!(
        "keep what is there: attach new members with klp_shadow_alloc(), append new enumerators at the end; or, \
         if nothing that was made before is used afterwards, accept it with --accept {}",
        names::plain(&change.name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::patchset::apply::lines_of;

    fn lines(orig: &str, added: &str) -> Vec<Line> {
        let mut lines = lines_of(orig.as_bytes());
        let added = lines_of(added.as_bytes()).into_iter();
        lines.extend(added.map(|line| Line { origin: None, ..line }));
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
    fn an_operation_counts_where_modules_know_it() {
        let refused = |file: &str| {
            let change = PrototypeChange {
                name: "struct file_operations.read".to_owned(),
                file: Some(file.to_owned()),
                line: Some(7),
                from: "int (int)".to_owned(),
                to: "int (int, long)".to_owned(),
            };
            operation(&change)
        };
        for file in ["include/linux/fs.h", "arch/x86/include/asm/apic.h"] {
            let refusal = refused(file).unwrap();
            assert_eq!(refusal.code, SIGNATURE_CHANGED);
            assert!(refusal.is_about("file_operations.read"), "{refusal}");
            assert!(refusal.why.contains("was `int (int)` and is `int (int, long)`"));
        }
        for file in ["fs/ext4/ext4.h", "fs/proc/base.c", "drivers/include.h"] {
            assert_eq!(refused(file), None, "{file}");
        }
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
