//! Who may read a file: all `#include` lines of the source tree, followed backwards.
//!
//! A stock kernel has no dependency lists. Conditions are not looked at, and where a name may mean several files it means
//! all of them, so the answer has more files than read it in truth. Compiling shows which do.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rayon::prelude::*;

use crate::build::patchset::makefile::is_makefile;
use crate::build::patchset::shadow::{folder_of, may_shadow};
use crate::kernel::StockKernel;
use crate::supply::store::cache::{Cache, Key};
use crate::supply::store::files_below;

/// The version of the index and its form.
const VERSION: &str = "includes 7";
/// The file of the index in its entry.
const INDEX: &str = "index";

/// Folders of the source tree that the kernel is not made from.
const NOT_KERNEL: [&str; 5] = ["Documentation", "LICENSES", "samples", "scripts", "tools"];
/// Folders of the object folder with generated headers.
const GENERATED: [&str; 2] = ["include", "arch"];

/// Headers that kbuild's commands name by themselves, with `-include` (scripts/Makefile.lib, 6.1 to 7.3).
const FORCED: [&str; 3] = [
    "include/linux/compiler-version.h",
    "include/linux/compiler_types.h",
    "include/linux/kconfig.h",
];

/// What is made of a grammar, `x.asn1.h` of `x.asn1`, reads this and names of the grammar (scripts/asn1_compiler.c, `render`;
/// 6.1 to 7.3).
const ASN1: &str = "include/linux/asn1_decoder.h";

/// What else is made by programs that no package has, and the files that all names in it come from
/// (scripts/selinux/genheaders/genheaders.c, 6.1 and 6.12).
const MADE_OF: [(&str, [&str; 2]); 2] = [("flask.h", SELINUX), ("av_permissions.h", SELINUX)];
const SELINUX: [&str; 2] = [
    "security/selinux/include/classmap.h",
    "security/selinux/include/initial_sid_to_string.h",
];

/// Folders in which every command looks first, before those of its own Makefile (Makefile, `LINUXINCLUDE`; 6.1 to 7.3). Of
/// the object folder they have the same names.
const FIRST: [&str; 7] = [
    "arch/x86/include",
    "arch/x86/include/generated",
    "arch/x86/include/generated/uapi",
    "arch/x86/include/uapi",
    "include",
    "include/generated/uapi",
    "include/uapi",
];

/// The files, and who includes each.
pub struct Includes {
    files: Vec<File>,
}

/// A file of the source tree or of the object folder.
#[derive(Debug, Default)]
struct File {
    /// Relative to that folder.
    path: String,
    /// The places of its includers among all files.
    by: Vec<usize>,
    /// It includes a file that is in neither folder, and may be made while the kernel is built.
    is_open: bool,
}

/// Marks in the index a file that includes what is not there.
const OPEN: &str = "?";

impl Includes {
    /// Reads the tree, once for each kernel: a tree in the store does not change.
    pub fn of(stock: &StockKernel, cache: &Cache) -> Result<Includes> {
        let key = Key::new(VERSION).text(&stock.id).text(&stock.source.to_string_lossy());
        let entry = cache.get("includes", &key, |folder| {
            let index = folder.join(INDEX);
            let text = Includes::scan(&stock.source, &stock.objects)?.to_text();
            fs::write(&index, text).with_context(|| format!("cannot write {}", index.display()))
        })?;
        let index = entry.join(INDEX);
        let text = fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
        Ok(Includes::parse(&text))
    }

    /// A line for each file: its path, the numbers of the lines of its includers, and whether it includes what is not there.
    fn to_text(&self) -> String {
        let line = |file: &File| {
            let by = file.by.iter().map(|number| format!("\t{number}"));
            let open = file.is_open.then(|| format!("\t{OPEN}"));
            std::iter::once(file.path.clone())
                .chain(by)
                .chain(open)
                .collect::<String>()
        };
        self.files.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn parse(text: &str) -> Includes {
        let line = |line: &str| {
            let mut words = line.split('\t');
            File {
                path: words.next().unwrap_or_default().to_owned(),
                is_open: words.clone().any(|word| word == OPEN),
                by: words.filter_map(|number| number.parse().ok()).collect(),
            }
        };
        Includes {
            files: text.lines().map(line).collect(),
        }
    }

    /// All files that may read one of these, directly or through others. `None`: every file does.
    pub fn readers(&self, changed: &BTreeSet<String>) -> Option<BTreeSet<String>> {
        let mut found: BTreeSet<usize> = BTreeSet::new();
        let known: HashSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let new: Vec<&String> = changed.iter().filter(|path| !known.contains(path.as_str())).collect();
        // The file that a new one comes before counts as changed.
        let is_shadowed = |path: &str, by: &[usize]| {
            let includers = || by.iter().filter_map(|number| self.files.get(*number));
            let beside = |folder: &str| includers().any(|includer| folder_of(&includer.path) == folder);
            new.iter().any(|new| may_shadow(new, path, beside))
        };
        let is_changed = |(number, file): (usize, &File)| {
            (changed.contains(&file.path) || is_shadowed(&file.path, &file.by)).then_some(number)
        };
        let mut waiting: Vec<usize> = self.files.iter().enumerate().filter_map(is_changed).collect();
        while let Some(file) = waiting.pop().and_then(|number| self.files.get(number)) {
            if FORCED.contains(&file.path.as_str()) {
                return None;
            }
            waiting.extend(file.by.iter().filter(|includer| found.insert(**includer)));
        }
        let path = |number: usize| self.files.get(number).map(|file| file.path.clone());
        Some(found.into_iter().filter_map(path).collect())
    }

    fn scan(source: &Path, objects: &Path) -> Result<Includes> {
        let mut paths = BTreeMap::new();
        let entries = fs::read_dir(source).with_context(|| format!("cannot list {}", source.display()))?;
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let own = folders.filter(|path| !NOT_KERNEL.iter().any(|name| path.ends_with(name)));
        let made = GENERATED.iter().map(|name| objects.join(name));
        for (root, folder) in own
            .map(|folder| (source, folder))
            .chain(made.map(|folder| (objects, folder)))
        {
            let below = files_below(&folder, &|_| true).with_context(|| format!("cannot list {}", folder.display()))?;
            for file in below {
                let path = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
                paths.insert(path, file);
            }
        }
        let read = |(path, file): (&String, &PathBuf)| -> Result<BTreeSet<(bool, String)>> {
            let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
            if !["c", "h", "S", "inc"].contains(&extension) {
                return Ok(BTreeSet::new());
            }
            let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Ok(names(&bytes))
        };
        let read: Vec<_> = paths
            .iter()
            .collect::<Vec<_>>()
            .into_par_iter()
            .map(read)
            .collect::<Result<_>>()?;
        let built = named_in_makefiles(&paths)?;
        let paths: Vec<String> = paths.into_keys().collect();
        let names = Names::of(&paths);
        let file = |path: &String| File {
            path: path.clone(),
            ..File::default()
        };
        let mut files: Vec<File> = paths.iter().map(file).collect();
        for (includer, (path, included)) in paths.iter().zip(read).enumerate() {
            let mut all: BTreeSet<usize> = BTreeSet::new();
            for (quoted, name) in &included {
                let meant = names.meant(path, *quoted, name);
                // Nobody makes the others: they are of a C library or of another kernel, and a condition leaves them out.
                let is_own = *quoted || name.starts_with("generated/");
                files[includer].is_open |= meant.is_empty() && is_own && is_made(name, &built);
                all.extend(meant);
            }
            all.into_iter().for_each(|number| files[number].by.push(includer));
        }
        Ok(Includes { files })
    }

    /// The same, the other way round.
    pub fn reads(&self) -> Reads<'_> {
        let mut included: Vec<Vec<usize>> = vec![Vec::new(); self.files.len()];
        for (number, file) in self.files.iter().enumerate() {
            for includer in &file.by {
                if let Some(list) = included.get_mut(*includer) {
                    list.push(number);
                }
            }
        }
        let numbers: HashMap<&str, usize> = self.files.iter().map(|file| file.path.as_str()).zip(0..).collect();
        Reads {
            files: &self.files,
            forced: FORCED.iter().filter_map(|path| numbers.get(path).copied()).collect(),
            included,
            numbers,
        }
    }
}

/// What each file may read.
pub struct Reads<'a> {
    files: &'a [File],
    included: Vec<Vec<usize>>,
    numbers: HashMap<&'a str, usize>,
    forced: Vec<usize>,
}

impl Reads<'_> {
    /// All that these files may read, with themselves and what every command names, as numbers; and whether that is all.
    pub fn from<'p>(&self, paths: impl IntoIterator<Item = &'p str>) -> (BTreeSet<usize>, bool) {
        let mut is_all = true;
        let number = |path| {
            let found = self.numbers.get(path).copied();
            is_all &= found.is_some();
            found
        };
        let own: Vec<usize> = paths.into_iter().filter_map(number).collect();
        let mut waiting: Vec<usize> = self.forced.iter().copied().chain(own).collect();
        let mut found: BTreeSet<usize> = waiting.iter().copied().collect();
        while let Some(number) = waiting.pop() {
            is_all &= !self.files[number].is_open;
            waiting.extend(self.included[number].iter().filter(|one| found.insert(**one)));
        }
        (found, is_all)
    }

    /// The paths of all files, in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// The path of a file.
    pub fn path(&self, number: usize) -> &str {
        &self.files[number].path
    }
}

/// All names in the Makefiles below the top, without their folders: whatever kbuild makes beside the objects is among these.
/// The headers that the Makefile at the top makes are in the object folder.
fn named_in_makefiles(paths: &BTreeMap<String, PathBuf>) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for (_, file) in paths.iter().filter(|(path, _)| is_makefile(path)) {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let ends = |char: char| char.is_whitespace() || "/()=:,;\"'$".contains(char);
        let text = String::from_utf8_lossy(&text);
        found.extend(text.split(ends).filter(|word| word.contains('.')).map(str::to_owned));
    }
    Ok(found)
}

/// Whether kbuild may make a file of this name.
fn is_made(name: &str, built: &BTreeSet<String>) -> bool {
    built.contains(name.rsplit('/').next().unwrap_or(name))
}

/// What names of files mean.
struct Names<'a> {
    paths: &'a [String],
    whole: HashMap<&'a str, usize>,
    by_last: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Names<'a> {
    fn of(paths: &'a [String]) -> Names<'a> {
        let mut by_last: HashMap<&str, Vec<usize>> = HashMap::new();
        for (number, path) in paths.iter().enumerate() {
            let last = path.rsplit('/').next().unwrap_or(path);
            by_last.entry(last).or_default().push(number);
        }
        Names {
            paths,
            whole: paths
                .iter()
                .enumerate()
                .map(|(number, path)| (path.as_str(), number))
                .collect(),
            by_last,
        }
    }

    /// The files that a name in `includer` may mean: a quoted one first of all the file beside the includer, then every
    /// name the one in the folders that all commands begin with, then what it is made of, and else whatever ends in it.
    fn meant(&self, includer: &str, quoted: bool, name: &str) -> Vec<usize> {
        let folder = includer.rsplit_once('/').map_or("", |(folder, _)| folder);
        let beside = quoted.then(|| self.whole.get(plain(&format!("{folder}/{name}")).as_str()));
        if let Some(Some(number)) = beside {
            return vec![*number];
        }
        let first = FIRST
            .iter()
            .filter_map(|folder| self.whole.get(plain(&format!("{folder}/{name}")).as_str()));
        let first: Vec<usize> = first.copied().collect();
        if !first.is_empty() {
            return first;
        }
        let name = plain(name);
        if let Some(grammar) = name.strip_suffix(".h").filter(|grammar| grammar.ends_with(".asn1")) {
            let grammar = self.whole.get(plain(&format!("{folder}/{grammar}")).as_str());
            return grammar.into_iter().chain(self.whole.get(ASN1)).copied().collect();
        }
        if let Some((_, from)) = MADE_OF.iter().find(|(made, _)| *made == name) {
            return from.iter().filter_map(|path| self.whole.get(path)).copied().collect();
        }
        let last = name.rsplit('/').next().unwrap_or(&name);
        let is_meant = |number: &&usize| {
            let before = self.paths[**number].strip_suffix(name.as_str());
            before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        self.by_last
            .get(last)
            .into_iter()
            .flatten()
            .filter(is_meant)
            .copied()
            .collect()
    }
}

/// The names that a text includes, and whether they are in quotation marks. A macro may stand for a name (`#include
/// GENL_MAGIC_INCLUDE_FILE`); whoever defines it counts as including that.
fn names(text: &[u8]) -> BTreeSet<(bool, String)> {
    let name = |line: &[u8]| -> Option<(bool, String)> {
        let rest = line.trim_ascii_start().strip_prefix(b"#")?.trim_ascii_start();
        let (rest, is_macro) = match (rest.strip_prefix(b"include"), rest.strip_prefix(b"define ")) {
            (Some(rest), _) => (rest.strip_prefix(b"_next").unwrap_or(rest), false),
            (_, Some(rest)) => {
                let rest = rest.trim_ascii_start();
                let end = rest.iter().position(|byte| byte.is_ascii_whitespace())?;
                (rest.get(end..)?, true)
            }
            _ => return None,
        };
        let rest = rest.trim_ascii_start();
        let close = match rest.first()? {
            b'<' => b'>',
            b'"' => b'"',
            _ => return None,
        };
        let rest = rest.get(1..)?;
        let end = rest.iter().position(|byte| *byte == close)?;
        let name = std::str::from_utf8(rest.get(..end)?).ok()?;
        let is_file = !is_macro || name.ends_with(".h") || name.ends_with(".c");
        (is_file && !name.is_empty()).then(|| (close == b'"', name.to_owned()))
    };
    text.split(|byte| *byte == b'\n').filter_map(name).collect()
}

/// A path without `.` and `..`; those at its start are dropped.
fn plain(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::kbuild::fake::put;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_found_in_every_spelling() {
        let text = b"#include <linux/a.h>\n # include \"b.h\" /* x */\n#include_next <c.h>\n#include MACRO\n\
                     #define FILE <linux/d.h>\n#define NAME \"text\"\n/* #include <e.h> */\n#include \"../f.h\"";
        let angle = ["linux/a.h", "c.h", "linux/d.h"].map(|name| (false, name.to_owned()));
        let quoted = ["b.h", "../f.h"].map(|name| (true, name.to_owned()));
        assert_eq!(names(text), angle.into_iter().chain(quoted).collect());
    }

    #[test]
    fn readers_are_found_through_other_headers_and_generated_ones() {
        let root = tempfile::tempdir().unwrap();
        let (source, objects) = (root.path().join("s"), root.path().join("o"));
        put(&source, "fs/a.c", b"#include <asm/wrapped.h>\n");
        put(
            &source,
            "fs/b.c",
            b"#include \"../include/linux/one.h\"\n#include \"deep.h\"\n",
        );
        put(&source, "fs/c.c", b"#include <linux/other.h>\n#include \"far.h\"\n");
        put(&source, "fs/deep.h", b"\n");
        put(&source, "lib/far.h", b"#include <linux/far.h>\n");
        put(&source, "lib/linux/far.h", b"\n");
        put(&source, "include/linux/one.h", b"#include <asm-generic/deep.h>\n");
        put(&source, "include/asm-generic/deep.h", b"\n");
        put(&source, "include/asm-generic/wrapped.h", b"#include <linux/one.h>\n");
        put(&source, "lib/linux/one.h", b"\n");
        put(&source, "tools/t.c", b"#include <linux/one.h>\n");
        let wrapper = "arch/x86/include/generated/asm/wrapped.h";
        put(&objects, wrapper, b"#include <asm-generic/wrapped.h>\n");
        put(&objects, "include/generated/x.h", b"\n");
        let scanned = Includes::scan(&source, &objects).unwrap();
        let includes = Includes::parse(&scanned.to_text());
        let sources = |file: &str| -> BTreeSet<String> {
            let found = includes.readers(&set(&[file])).unwrap();
            found.into_iter().filter(|file| file.ends_with(".c")).collect()
        };
        assert_eq!(sources("include/asm-generic/deep.h"), set(&["fs/a.c", "fs/b.c"]));
        assert_eq!(sources("include/asm-generic/wrapped.h"), set(&["fs/a.c"]));
        assert_eq!(sources("fs/deep.h"), set(&["fs/b.c"]), "the file beside it is meant");
        assert_eq!(
            sources("lib/linux/far.h"),
            set(&["fs/c.c"]),
            "by a path that nobody knows"
        );
        assert_eq!(
            sources("lib/linux/one.h"),
            set(&[]),
            "the kernel's own folders come first"
        );
        put(&source, "include/linux/kconfig.h", b"#include <linux/one.h>\n");
        let includes = Includes::scan(&source, &objects).unwrap();
        assert_eq!(includes.readers(&set(&["include/asm-generic/deep.h"])), None);
    }
}
