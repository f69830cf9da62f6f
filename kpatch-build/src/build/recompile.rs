//! Compiles the translation units that a patch touches, and proves that the unpatched ones come out as recorded.
//!
//! The proof is what allows everything after it: if the compiler and tree of today make the recorded object again, byte
//! for byte, then the difference to the patched object is the patch and nothing else.

pub mod added;
pub mod affected;
pub mod cc1;
pub mod command;
pub mod equivalent;
pub mod failures;
pub mod headers;
pub mod kept;
pub mod messages;
pub mod moved;
pub mod overlay;
pub mod proof;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use kpatch_core::{Code, Refusal, Subject, elf};

use crate::build::kbuild::{Home, Kbuild, Kind, Other, Tu};
use crate::build::patchset::scope::{Scope, beyond_reach};
use crate::outcome::Ending;
use crate::progress::Progress;
use crate::ui::count;
use affected::Affected;
use kept::Made;
use messages::Places;

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
    /// Says so of what the compiler said; a failure of the environment, such as an interrupt, says nothing about the
    /// patch.
    pub fn because(error: anyhow::Error, object: &str) -> anyhow::Error {
        if error.is::<Ending>() {
            return error;
        }
        error.context(DoesNotCompile {
            object: object.to_owned(),
        })
    }
}

/// A compiler run that can be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rerun {
    /// The object it is for.
    pub unit: String,
    /// Where it ran.
    pub folder: PathBuf,
    /// The command.
    pub words: Vec<String>,
}

/// What compiling brought.
#[derive(Debug, Default)]
pub struct Recompiled {
    /// TUs that changed.
    pub changed: Vec<ChangedTu>,
    /// What was compiled without effect, and what was left out.
    pub notes: Vec<String>,
}

/// One touched TU after its compilation.
pub(crate) struct Look {
    /// What became of it.
    pub fate: Fate,
    /// What the compiler said of the patched file, and whether an earlier run had asked it; nothing if it was not compiled.
    pub made: Option<Made>,
}

impl Look {
    /// At one that the patch cannot affect.
    pub(crate) fn unseen() -> Look {
        Look {
            fate: Fate::Clear,
            made: None,
        }
    }
}

/// Tells how much of the work an earlier run has done.
pub(crate) fn tell_kept(progress: &dyn Progress, looks: &[(String, Look)]) {
    let made: Vec<&Made> = looks.iter().filter_map(|(_, look)| look.made.as_ref()).collect();
    let kept = made.iter().filter(|made| made.kept).count();
    if kept > 0 {
        progress.note(&format!(
            "{kept} of {} reused from an earlier run",
            count(made.len(), "file", "files")
        ));
    }
}

/// The warnings that the patch causes. `again` compiles an object once more: unpatched, or patched with true line numbers.
/// Of objects that say the same one is asked.
pub(crate) fn warnings(
    looks: &[(String, Look)],
    places: &Places,
    roots: &[String],
    again: &dyn Fn(&str, Side) -> Result<String>,
) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut warnings = BTreeSet::new();
    for (object, look) in looks {
        let Some(made) = look.made.as_ref().filter(|made| messages::warns(&made.messages)) else {
            continue;
        };
        if !known.insert(&made.messages) {
            continue;
        }
        // An unpatched file that does not compile is refused elsewhere.
        let before = again(object, Side::Orig).unwrap_or_default();
        let after = again(object, Side::Patched).unwrap_or_else(|_| made.messages.clone());
        warnings.extend(places.caused(&before, &after, roots));
    }
    warnings.into_iter().collect()
}

/// Which side of a file is compiled once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Orig,
    Patched,
}

/// What became of one touched TU.
pub(crate) enum Fate {
    Changed(ChangedTu),
    Same,
    /// It was not compiled, since nothing in it depends on what changes.
    Clear,
    Note(String),
    Refused(Refusal),
}

impl Recompiled {
    /// Sums up what became of the touched TUs and of the added ones.
    pub(crate) fn of(fates: Vec<Fate>, added: Result<Vec<ChangedTu>>) -> Result<Recompiled> {
        let mut result = Recompiled::default();
        let mut refusals = Vec::new();
        let (mut same, mut clear) = (0, 0);
        for fate in fates {
            match fate {
                Fate::Changed(tu) => result.changed.push(tu),
                Fate::Same => same += 1,
                Fate::Clear => clear += 1,
                Fate::Note(note) => result.notes.push(note),
                Fate::Refused(refusal) => refusals.push(refusal),
            }
        }
        if same > 0 {
            let (units, compile) = if same == 1 {
                ("unit reads", "compiles")
            } else {
                ("units read", "compile")
            };
            result.notes.push(format!(
                "{same} translation {units} a changed file and {compile} to the same code"
            ));
        }
        if clear > 0 {
            let (files, mention) = if clear == 1 {
                ("file reads", "mentions")
            } else {
                ("files read", "mention")
            };
            result.notes.push(format!(
                "{clear} {files} a changed header, but {mention} nothing of what it changes"
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

/// How many files there are to compile.
pub(crate) fn files(affected: &Affected, scope: &Scope) -> u64 {
    (affected.to_compile() + scope.added.len()) as u64
}

/// Why a TU that reads a changed file need not be compiled.
pub(crate) fn left_out(kbuild: &Kbuild, tu: &Tu) -> Option<String> {
    let why = if tu.kind == Kind::Host {
        "runs on the build machine only"
    } else if !kbuild.trees.object(&tu.object).exists() {
        "is not in the build any more"
    } else {
        return None;
    };
    Some(format!("{} reads a changed file, but {why}", tu.object))
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

/// Whether two files have the same bytes, or, if they are assembly for kbuild's headers of offsets, the same offsets. A file
/// that cannot be read is not the same as any.
pub fn same_content(a: &Path, b: &Path) -> bool {
    let is_text = a.extension().is_some_and(|extension| extension == "s");
    match (fs::read(a), fs::read(b)) {
        (Ok(a), Ok(b)) => a == b || is_text && offsets(&a).next().is_some() && offsets(&a).eq(offsets(&b)),
        _ => false,
    }
}

/// Whether two objects that no livepatch replaces, such as those of the vDSO, are the same for whoever links them: debugging
/// information is stripped there.
pub fn same_code(a: &Path, b: &Path) -> bool {
    let object = |path: &Path| elf::read(&fs::read(path).ok()?).ok();
    same_content(a, b)
        || match (object(a), object(b)) {
            (Some(a), Some(b)) => a.same_but_for_debugging(&b),
            _ => false,
        }
}

/// What kbuild takes out of such a file (`sed-offsets` in scripts/Makefile.lib, 6.12). GCC writes comments with paths beside
/// it, and the patched side has another path.
fn offsets(assembly: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = assembly.split(|byte| *byte == b'\n');
    lines.filter(|line| {
        let text = line.trim_ascii_start().strip_prefix(b".ascii");
        text.is_some_and(|text| text.trim_ascii_start().starts_with(b"\"->"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_assembly_for_headers_only_the_offsets_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, path: &str, offset: u32| {
            let text = format!(
                " # 80 \"{path}/asm-offsets.c\" 1\n\t\n.ascii \"->THREAD {offset} offsetof(struct task_struct, thread)\"\t #\n"
            );
            let file = folder.path().join(name);
            fs::write(&file, text).unwrap();
            file
        };
        let known = write("a.s", "/src", 2448);
        assert!(same_content(&known, &write("b.s", "/view", 2448)));
        assert!(!same_content(&known, &write("c.s", "/src", 2456)));
        fs::write(folder.path().join("d.s"), "\tnop").unwrap();
        fs::write(folder.path().join("e.s"), "\tret").unwrap();
        assert!(!same_content(&folder.path().join("d.s"), &folder.path().join("e.s")));
        let other = [write("a.o", "/src", 1), write("b.o", "/view", 1)];
        assert!(!same_content(&other[0], &other[1]));
        assert!(!same_content(&known, Path::new("/nowhere.s")));
    }

    #[test]
    fn only_what_the_compiler_says_speaks_against_the_patch() {
        let said = DoesNotCompile::because(anyhow::anyhow!("error: no member named 'x'"), "fs/a.o");
        assert!(said.is::<DoesNotCompile>());
        let interrupted = DoesNotCompile::because(Ending::infrastructure("interrupted"), "fs/a.o");
        assert!(!interrupted.is::<DoesNotCompile>());
    }
}
