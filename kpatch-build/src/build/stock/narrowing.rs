//! Which of the files that may read a changed header can be affected by the change, before anything is compiled.
//!
//! What a file reads is known from the texts alone here ([`super::includes`]), so it has more than it reads in truth, and
//! more files count as affected than with a recorded build. Those are compiled, which tells what they read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::includes::{Includes, Reads};
use super::prepare::{NUMBERS, is_apart};
use crate::build::patchset::PatchSet;
use crate::build::patchset::apply::Copies;
use crate::build::patchset::makefile::is_makefile;
use crate::build::recompile::affected::index::{File, Index};
use crate::build::recompile::affected::judge::{Reader, judge, of_file, reasons};
use crate::kernel::StockKernel;
use crate::progress::Progress;
use crate::supply::store::cache::Cache;
use crate::supply::store::files_below;
use crate::ui::count;

/// What narrowing takes.
pub struct Narrowing<'a> {
    /// The kernel.
    pub stock: &'a StockKernel,
    /// Where the index of names is kept.
    pub cache: &'a Cache,
    /// Who includes whom.
    pub includes: &'a Includes,
    /// All objects of this configuration.
    pub built: &'a BTreeSet<String>,
}

impl Narrowing<'_> {
    /// Of these objects those that can be affected, and for each header that none of them reads another one that shows
    /// whether it compiles. A patch that does not apply affects all; it is refused elsewhere.
    pub fn affected(
        &self,
        set: &PatchSet,
        headers: &BTreeSet<String>,
        objects: &BTreeSet<String>,
        fuzz: usize,
        progress: &dyn Progress,
    ) -> Result<BTreeSet<String>> {
        let mut copies = Copies {
            fuzz,
            ..Copies::default()
        };
        for change in set.files.iter().filter(|change| headers.contains(&change.path)) {
            copies.add(&self.stock.source, change)?;
        }
        if !copies.refusals.is_empty() {
            return Ok(objects.clone());
        }
        progress.message("looking for files that can be affected");
        let reads = self.includes.reads();
        let index = self.index(&reads, progress)?;
        let numbers: Vec<Option<File>> = reads.all().map(|path| index.number(path)).collect();
        let flags = Flags::of(&self.stock.source)?;
        let objects: Vec<&String> = objects.iter().collect();
        let reader = |object: &&String| self.reader(object, headers, &reads, &numbers, &flags);
        let readers: Vec<Reader> = objects.par_iter().map(reader).collect();
        let change = |path: &String| of_file(&index, &self.stock.source, path, copies.files.get(path));
        let changes = headers.iter().map(|path| (path.clone(), change(path))).collect();
        let verdicts = judge(&index, &changes, &readers);
        let mut affected: BTreeSet<String> = BTreeSet::new();
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        for ((object, reader), _) in objects
            .iter()
            .zip(&readers)
            .zip(&verdicts)
            .filter(|(_, verdict)| verdict.why.is_some())
        {
            affected.insert((*object).clone());
            seen.extend(&reader.via);
        }
        let suspects = objects.iter().zip(&verdicts);
        let suspects = suspects.filter_map(|(object, verdict)| Some((object.as_str(), verdict.why.as_deref()?)));
        reasons(suspects).iter().for_each(|why| progress.detail(why));
        progress.note(&format!(
            "{} of this kernel may read what changes: {} can be affected",
            count(objects.len(), "file", "files"),
            affected.len()
        ));
        let mut small: Vec<(usize, &String, &Reader)> = (objects.iter().zip(&readers))
            .map(|(object, reader)| (reader.files.as_ref().map_or(usize::MAX, Vec::len), *object, reader))
            .collect();
        small.sort_by_key(|(size, object, _)| (*size, *object));
        for header in headers {
            let reader = small.iter().find(|(.., reader)| reader.via.contains(header));
            if let Some((_, object, reader)) = reader.filter(|_| !seen.contains(header)) {
                affected.insert((*object).clone());
                seen.extend(&reader.via);
            }
        }
        Ok(affected)
    }

    /// The index of all that the files of this configuration may read; no patch decides what is in it.
    fn index(&self, reads: &Reads<'_>, progress: &dyn Progress) -> Result<Index> {
        let objects = self.built.iter().map(String::as_str).chain(NUMBERS);
        let sources = objects.flat_map(sources_of);
        let apart = reads.all().filter(|path| is_apart(path)).map(str::to_owned);
        let sources: Vec<String> = sources.chain(apart).collect();
        let (all, _) = reads.from(sources.iter().map(String::as_str));
        let place = |number: usize| {
            let path = reads.path(number);
            let folders = [&self.stock.source, &self.stock.objects];
            let found = folders
                .into_iter()
                .map(|folder| folder.join(path))
                .find(|path| path.is_file());
            found.map(|found| (path.to_owned(), found))
        };
        let mut files: Vec<(String, PathBuf)> = all.into_iter().filter_map(place).collect();
        files.sort();
        let key = files.iter().fold(Index::key(), |key, (path, _)| key.text(path));
        // A tree in the store does not change.
        let key = key.text(&self.stock.id).text(&self.stock.source.to_string_lossy());
        Index::kept(self.cache, &key, &files, progress)
    }

    fn reader(
        &self,
        object: &str,
        headers: &BTreeSet<String>,
        reads: &Reads<'_>,
        numbers: &[Option<File>],
        flags: &Flags,
    ) -> Reader {
        let mut sources = sources_of(object).into_iter();
        let source = sources.rfind(|path| self.stock.source.join(path).is_file());
        let source = source.unwrap_or_default();
        let (found, is_all) = reads.from([source.as_str()]);
        let via = headers
            .iter()
            .filter(|path| found.iter().any(|number| reads.path(*number) == path.as_str()));
        let via: Vec<String> = via.cloned().collect();
        let files: Option<Vec<File>> = found.iter().map(|number| numbers[*number]).collect();
        Reader {
            files: files.filter(|_| is_all && !flags.include_for(object)),
            words: flags.defining.clone(),
            // A new header is read through a name that is not resolved yet.
            via: if via.is_empty() {
                headers.iter().cloned().collect()
            } else {
                via
            },
            source,
        }
    }
}

/// Sources that an object may be made from.
fn sources_of(object: &str) -> [String; 2] {
    let stem = object.rsplit_once('.').map_or(object, |(stem, _)| stem);
    ["S", "c"].map(|extension| format!("{stem}.{extension}"))
}

/// What the Makefiles tell the compiler.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flags {
    /// All words with `-D`.
    defining: Vec<String>,
    /// Folders whose Makefile has files included by the command.
    including: BTreeSet<String>,
}

impl Flags {
    fn of(source: &Path) -> Result<Flags> {
        let below = files_below(source, &is_makefile).with_context(|| format!("cannot list {}", source.display()))?;
        let mut defining = BTreeSet::new();
        let mut including = BTreeSet::new();
        for file in below {
            let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = String::from_utf8_lossy(&text);
            let folder = file.parent().and_then(|folder| folder.strip_prefix(source).ok());
            let folder = folder.unwrap_or(Path::new("")).to_string_lossy().into_owned();
            Flags::add(&text, &folder, &mut defining, &mut including);
        }
        // What the Makefiles at the top have every command include is known.
        including.remove("");
        Ok(Flags {
            defining: defining.into_iter().collect(),
            including,
        })
    }

    /// Whether a Makefile of the object's folder or of one above may have a file included: options go down (`subdir-ccflags-y`),
    /// and objects of folders below are named above.
    fn include_for(&self, object: &str) -> bool {
        let folders = Path::new(object).ancestors().skip(1).filter_map(Path::to_str);
        folders.into_iter().any(|folder| self.including.contains(folder))
    }

    fn add(text: &str, folder: &str, defining: &mut BTreeSet<String>, including: &mut BTreeSet<String>) {
        for line in text.lines() {
            // At the start of a line it is a directive of make.
            let starts = line.trim_start().starts_with("-include") && !line.starts_with(char::is_whitespace);
            if line.contains("-include ") && !starts {
                including.insert(folder.to_owned());
            }
            let words = line.split(|char: char| char.is_whitespace() || matches!(char, ',' | '(' | ')' | '"' | '\''));
            defining.extend(words.filter(|word| word.starts_with("-D")).map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::put;
    use crate::build::patchset;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Objects of a small tree that a patch of `include/linux/one.h` can affect.
    fn affected(patch: &str) -> BTreeSet<String> {
        let root = tempfile::tempdir().unwrap();
        let stock = StockKernel::fake(root.path());
        let one = b"#define ONE 1\n#define TWO 2\nstatic inline int two(void)\n{\n\treturn TWO;\n}\n";
        for (path, text) in [
            ("include/linux/one.h", &one[..]),
            ("include/linux/kconfig.h", b"\n"),
            (
                "fs/none.c",
                b"#include <linux/one.h>\n#include \"never.h\"\nint none;\n",
            ),
            ("fs/uses.c", b"#include <linux/one.h>\nint uses = ONE;\n"),
            (
                "fs/through.c",
                b"#include <linux/one.h>\nint through(void) { return two(); }\n",
            ),
            ("fs/made.c", b"#include <linux/one.h>\n#include \"made.h\"\nint made;\n"),
            ("arch/x86/entry.S", b"#include <linux/one.h>\nmov $0, %eax\n"),
            (
                "fs/grammar.c",
                b"#include <linux/one.h>\n#include \"names.asn1.h\"\nint grammar;\n",
            ),
            ("fs/names.asn1", b"ONE ::= SEQUENCE OF SomethingElse\n"),
            ("fs/Makefile", b"$(obj)/made.o: $(obj)/made.h\n"),
            ("net/flag.c", b"#include <linux/one.h>\nint flag = VALUE;\n"),
            ("net/Makefile", b"CFLAGS_flag.o := -DVALUE=TWO\n"),
            ("drivers/forced.c", b"#include <linux/one.h>\nint forced;\n"),
            (
                "drivers/Makefile",
                b"ccflags-y += -include $(src)/own.h\n-include other.mk\n",
            ),
        ] {
            put(&stock.source, path, text);
        }
        fs::create_dir_all(&stock.objects).unwrap();
        for folder in ["include", "arch"] {
            fs::create_dir_all(stock.objects.join(folder)).unwrap();
        }
        let cache = Cache::new(&root.path().join("cache"));
        let includes = Includes::of(&stock, &cache).unwrap();
        let objects = [
            "fs/none",
            "fs/uses",
            "fs/through",
            "fs/made",
            "fs/grammar",
            "arch/x86/entry",
            "net/flag",
            "drivers/forced",
            "drivers/sub/below",
        ];
        let objects: BTreeSet<String> = objects.iter().map(|stem| format!("{stem}.o")).collect();
        let narrowing = Narrowing {
            stock: &stock,
            cache: &cache,
            includes: &includes,
            built: &objects,
        };
        let file = root.path().join("a.patch");
        fs::write(&file, patch).unwrap();
        let patches = patchset::read(&[file]).unwrap();
        narrowing
            .affected(&patches, &set(&["include/linux/one.h"]), &objects, 0, &())
            .unwrap()
    }

    const HEAD: &str = "--- a/include/linux/one.h\n+++ b/include/linux/one.h\n";

    #[test]
    fn only_who_mentions_the_change_is_compiled_or_who_cannot_be_judged() {
        let one = format!(
            "{HEAD}@@ -1,3 +1,3 @@\n-#define ONE 1\n+#define ONE 7\n #define TWO 2\n static inline int two(void)\n"
        );
        // One includes what is made while the kernel is built, one what its Makefile names.
        let unclear = ["fs/made.o", "drivers/forced.o", "drivers/sub/below.o"];
        assert_eq!(
            affected(&one),
            set(&[&unclear[..], &["fs/uses.o", "fs/grammar.o"]].concat())
        );
        let two = format!(
            "{HEAD}@@ -1,3 +1,3 @@\n #define ONE 1\n-#define TWO 2\n+#define TWO 3\n static inline int two(void)\n"
        );
        // The whole kernel's flags are looked at, since it is not known whose they are.
        assert!(affected(&two).is_superset(&set(&["fs/through.o", "net/flag.o"])));
    }

    #[test]
    fn a_patch_that_does_not_apply_affects_everybody() {
        let misfit = format!("{HEAD}@@ -1,2 +1,2 @@\n-#define NINE 9\n+#define NINE 8\n #define TEN 10\n");
        assert_eq!(affected(&misfit).len(), 9);
    }

    #[test]
    fn a_macro_that_nobody_uses_is_compiled_once_where_it_can_be_judged() {
        let new = format!("{HEAD}@@ -1,2 +1,3 @@\n #define ONE 1\n+#define NEW 5\n #define TWO 2\n");
        assert_eq!(
            affected(&new),
            set(&["fs/made.o", "drivers/forced.o", "drivers/sub/below.o"])
        );
    }
}
