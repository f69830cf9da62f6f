//! Reads Makefile changes: adding an object is understood, everything else refused.
//!
//! A Makefile decides flags, order and membership. Only running make would tell what an arbitrary change does, and make
//! writes into the build directory.

use std::collections::BTreeSet;

use kpatch_core::{Refusal, Subject};

use super::{FileChange, MAKEFILE, Side};

/// An object that a Makefile change adds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddedObject {
    /// Object relative to the build directory.
    pub object: String,
    /// The folder of the Makefile, relative to the source tree; nothing for the top.
    pub folder: String,
    /// What the list it was added to is for.
    pub list: List,
}

/// A list of objects in a Makefile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct List {
    /// `obj` for objects of their own, else the name of the composite.
    pub name: String,
    /// The switch the list depends on, e.g. `CONFIG_NET`; nothing for `-y` and `-objs`.
    pub switch: Option<String>,
    /// Whether the list is `obj-m`.
    pub module: bool,
}

/// Whether a file is read by kbuild.
pub fn is_makefile(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(name, "Makefile" | "Kbuild") || name.starts_with("Makefile.") || name.starts_with("Kbuild.")
}

/// The objects a change adds, or why it is more than that.
pub fn added_objects(change: &FileChange) -> Result<BTreeSet<AddedObject>, Refusal> {
    let folder = change.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut added = BTreeSet::new();
    for hunk in &change.hunks {
        let lines = |side| hunk.lines.iter().filter(move |line| line.side == side);
        let mut removed: Vec<Assignment> = Vec::new();
        for line in lines(Side::Orig) {
            removed.push(Assignment::parse(&line.text).ok_or_else(|| refuse(change, hunk.patch_line, &line.text))?);
        }
        for line in lines(Side::Patched) {
            let patched = Assignment::parse(&line.text).ok_or_else(|| refuse(change, hunk.patch_line, &line.text))?;
            let orig = removed
                .iter()
                .position(|orig| orig.list == patched.list && orig.operator == patched.operator);
            let orig = orig.map(|at| removed.remove(at));
            if orig.is_none() && patched.operator != "+=" {
                return Err(refuse(change, hunk.patch_line, &line.text));
            }
            let known = orig.map(|orig| orig.objects).unwrap_or_default();
            if !known.is_subset(&patched.objects) {
                return Err(refuse(change, hunk.patch_line, &line.text));
            }
            added.extend(patched.objects.difference(&known).map(|object| AddedObject {
                object: if folder.is_empty() {
                    object.clone()
                } else {
                    format!("{folder}/{object}")
                },
                folder: folder.to_owned(),
                list: patched.list.clone(),
            }));
        }
        if !removed.is_empty() {
            return Err(refuse(change, hunk.patch_line, b"a removed line"));
        }
    }
    Ok(added)
}

fn refuse(change: &FileChange, patch_line: usize, line: &[u8]) -> Refusal {
    let line = String::from_utf8_lossy(line);
    let why = format!(
        "the Makefile change does more than add an object: `{}`",
        line.trim().escape_debug()
    );
    let at = Subject::file(change.path.clone());
    Refusal::new(MAKEFILE, at, format!("{why} ({} line {patch_line})", change.patch))
        .hint("only lines like `obj-y += new.o` or `name-y += new.o` are understood")
}

struct Assignment {
    list: List,
    operator: &'static str,
    objects: BTreeSet<String>,
}

impl Assignment {
    /// Takes `name-y += a.o b.o` apart. A line that continues another is not understood: what it belongs to may be
    /// outside the hunk.
    fn parse(line: &[u8]) -> Option<Assignment> {
        let line = std::str::from_utf8(line).ok()?;
        let (left, operator, right) = ["+=", ":="]
            .iter()
            .find_map(|operator| line.split_once(operator).map(|(l, r)| (l, *operator, r)))?;
        let (name, suffix) = left.trim().rsplit_once('-')?;
        let (switch, module) = match suffix {
            "y" => (None, false),
            "objs" if name != "obj" => (None, false),
            "m" => (None, true),
            _ => (Some(suffix.strip_prefix("$(CONFIG_")?.strip_suffix(')')?), false),
        };
        let is_name =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        let objects: BTreeSet<String> = right.split_whitespace().map(str::to_owned).collect();
        let plain = |object: &String| {
            object
                .strip_suffix(".o")
                .is_some_and(|stem| stem.split('/').all(is_name))
        };
        (is_name(name) && !objects.is_empty() && objects.iter().all(plain)).then(|| Assignment {
            list: List {
                name: name.to_owned(),
                switch: switch.map(|name| format!("CONFIG_{name}")),
                module,
            },
            operator,
            objects,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    fn added(body: &str) -> Result<Vec<String>, Refusal> {
        let patch = format!("--- a/fs/proc/Makefile\n+++ b/fs/proc/Makefile\n{body}");
        let change = parse("p", patch.as_bytes()).unwrap().remove(0);
        let shown = |a: AddedObject| format!("{} {} {:?} {}", a.object, a.list.name, a.list.switch, a.list.module);
        added_objects(&change).map(|added| added.into_iter().map(shown).collect())
    }

    #[test]
    fn added_objects_are_found() {
        assert_eq!(
            added("@@ -1 +1,2 @@\n obj-y += a.o\n+proc-y += new.o\n").unwrap(),
            ["fs/proc/new.o proc None false"]
        );
        let changed = added("@@ -1 +1 @@\n-obj-$(CONFIG_X) := a.o\n+obj-$(CONFIG_X) := a.o b.o\n").unwrap();
        assert_eq!(changed, ["fs/proc/b.o obj Some(\"CONFIG_X\") false"]);
        assert_eq!(
            added("@@ -1 +1,2 @@\n x\n+proc-objs += sub/n.o\n").unwrap(),
            ["fs/proc/sub/n.o proc None false"]
        );
        assert_eq!(
            added("@@ -1 +1,2 @@\n x\n+obj-m\t+= n.o\n").unwrap(),
            ["fs/proc/n.o obj None true"]
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for body in [
            "@@ -1 +1 @@\n-obj-y += a.o\n+obj-y += b.o\n",
            "@@ -1,2 +1 @@\n x\n-obj-y += a.o\n",
            "@@ -1 +1,2 @@\n x\n+CFLAGS_a.o += -O0\n",
            "@@ -1 +1,2 @@\n x\n+ccflags-y += -DX\n",
            "@@ -1 +1,2 @@\n x\n+obj-y := b.o\n",
            "@@ -1 +1,2 @@\n x\n+obj-y += sub/\n",
            "@@ -1 +1,2 @@\n x\n+obj-y += ../b.o\n",
            "@@ -1 +1,2 @@\n x\n+\tb.o \\\n",
        ] {
            assert_eq!(added(body).unwrap_err().code, MAKEFILE, "{body}");
        }
    }
}
