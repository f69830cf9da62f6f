//! Spares the back end for modules that take over only code that did not change.
//!
//! A shard holds the hash of every module it imports from, so one edited function of a file that 48 others import from
//! changes 48 shards. Machine code of an importer depends on less: the facts in its shard, and the definitions that it
//! takes over. Both can be compared as text in a fraction of the time that generating it takes, and if they are the same
//! then so is what the optimiser works on. Whatever cannot be compared counts as changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::generate::Sides;
use crate::build::kbuild::facts::tool_beside;
use crate::build::recompile::equivalent::equal_but_for_locations;
use crate::build::site::Site;
use crate::sh;

/// Those of the modules that import the same code on both sides, under the same facts.
pub(super) fn unaffected(
    site: &Site<'_>,
    sides: &Sides,
    modules: &BTreeSet<String>,
    changed: &BTreeSet<&str>,
) -> Result<BTreeSet<String>> {
    let compiler = &site.kbuild.compiler;
    let tools = Tools {
        lister: tool_beside(compiler, "llvm-dis")?,
        extractor: tool_beside(compiler, "llvm-extract")?,
    };
    // The kernel does not need this program, so a toolchain made for kernels may lack it. Then nothing is spared.
    if sh::output(sh::command(&tools.extractor).arg("--version")).is_err() {
        return Ok(BTreeSet::new());
    }
    let progress = site.progress;
    progress.expect("compare what files import", modules.len() as u64);
    let importers: Vec<Option<Importer>> = modules
        .par_iter()
        .map(|module| tools.importer(sides, module, changed).inspect(|_| progress.step()))
        .collect::<Result<_>>()?;
    let importers: Vec<Importer> = importers.into_iter().flatten().collect();
    let sources: BTreeSet<&str> = importers.iter().flat_map(Importer::sources).collect();
    progress.expect("compare what changed files give", sources.len() as u64);
    let unchanged: Vec<BTreeSet<String>> = sources
        .par_iter()
        .map(|source| {
            progress.message(&format!("comparing what others take from {source}"));
            tools.unchanged(sides, source, &importers).inspect(|_| progress.step())
        })
        .collect::<Result<_>>()?;
    let same_from: BTreeMap<&str, BTreeSet<String>> = sources.into_iter().zip(unchanged).collect();
    let is_same = |importer: &&Importer| {
        importer
            .sources()
            .all(|source| same_from[source].contains(&importer.module))
    };
    Ok(importers
        .iter()
        .filter(is_same)
        .map(|importer| importer.module.clone())
        .collect())
}

/// A module with the same facts on both sides, and what it takes over from changed modules.
#[derive(Debug, PartialEq, Eq)]
struct Importer {
    module: String,
    /// Changed module, and the GUIDs of its definitions.
    taken: BTreeMap<String, BTreeSet<u64>>,
}

impl Importer {
    fn sources(&self) -> impl Iterator<Item = &str> {
        self.taken.keys().map(String::as_str)
    }
}

struct Tools {
    lister: String,
    extractor: String,
}

impl Tools {
    fn text(&self, bitcode: &Path) -> Result<String> {
        listing(&self.lister, bitcode)
    }

    fn importer(&self, sides: &Sides, module: &str, changed: &BTreeSet<&str>) -> Result<Option<Importer>> {
        // A member of an archive that only the patched side needs has no shard on the other.
        if !sides.orig.order.iter().any(|known| known == module) {
            return Ok(None);
        }
        let orig = self.text(&sides.orig.shard(module))?;
        let patched = self.text(&sides.patched.shard(module))?;
        Ok(same_facts(&orig, &patched, changed).then(|| Importer {
            module: module.to_owned(),
            taken: taken(&orig, changed),
        }))
    }

    /// The importers that take over only definitions of `source` that are the same on both sides.
    fn unchanged(&self, sides: &Sides, source: &str, importers: &[Importer]) -> Result<BTreeSet<String>> {
        let (Some(orig), Some(patched)) = (
            sides.orig_view.targets.get(source),
            sides.patched_view.targets.get(source),
        ) else {
            return Ok(BTreeSet::new());
        };
        let names = names(&self.text(orig)?);
        let importers: Vec<_> = importers
            .iter()
            .filter_map(|importer| Some((importer, importer.taken.get(source)?)))
            .collect();
        let all: BTreeSet<u64> = importers.iter().flat_map(|(_, guids)| guids.iter().copied()).collect();
        // Mostly nobody imports what was edited, and then one comparison serves all.
        let all_same = self.same(orig, patched, &all, &names)?;
        let same: Vec<Option<String>> = importers
            .par_iter()
            .map(|(importer, guids)| {
                let same = all_same || self.same(orig, patched, guids, &names)?;
                Ok(same.then(|| importer.module.clone()))
            })
            .collect::<Result<_>>()?;
        Ok(same.into_iter().flatten().collect())
    }

    fn same(
        &self,
        orig: &Path,
        patched: &Path,
        guids: &BTreeSet<u64>,
        names: &BTreeMap<u64, Definition>,
    ) -> Result<bool> {
        let Some(options) = guids
            .iter()
            .map(|guid| names.get(guid).and_then(Definition::option))
            .collect::<Option<Vec<_>>>()
        else {
            return Ok(false);
        };
        // A definition that the patch removed or renamed makes the program fail.
        let (orig, patched) = rayon::join(|| self.extract(orig, &options), || self.extract(patched, &options));
        Ok(matches!((orig?, patched?), (Some(orig), Some(patched)) if equal_but_for_locations(&orig, &patched)))
    }

    fn extract(&self, bitcode: &Path, options: &[String]) -> Result<Option<String>> {
        let mut command = sh::command(&self.extractor);
        // Constants that are taken over are among the options; the rest become declarations on both sides.
        command.args(options).args(["-S", "-o", "-"]).arg(bitcode);
        let (status, text, _) = sh::captured(&mut command)?;
        Ok(status.success().then_some(text))
    }
}

/// What the lister says of bitcode or of a shard.
pub(super) fn listing(lister: &str, bitcode: &Path) -> Result<String> {
    sh::output(sh::command(lister).arg(bitcode).args(["-o", "-"]))
        .with_context(|| format!("cannot list {}", bitcode.display()))
}

/// The modules that a module imports from, as the listing of its shard names them.
pub(super) fn sources(shard: &str, own: &str) -> BTreeSet<String> {
    let modules = shard.lines().filter_map(module).map(|(_, path)| path);
    modules.filter(|path| *path != own).map(str::to_owned).collect()
}

/// Whether two shards say the same, the hashes of changed modules aside.
fn same_facts(orig: &str, patched: &str, changed: &BTreeSet<&str>) -> bool {
    let facts = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !is_own_name(line));
        lines.map(|line| without_hash(line, changed).to_owned()).collect()
    };
    facts(orig) == facts(patched)
}

fn is_own_name(line: &str) -> bool {
    line.starts_with("; ModuleID = ") || line.starts_with("source_filename = ")
}

fn without_hash<'a>(line: &'a str, changed: &BTreeSet<&str>) -> &'a str {
    match module(line) {
        Some((_, path)) if changed.contains(path) => line.split(", hash: ").next().unwrap_or(line),
        _ => line,
    }
}

/// `^9 = module: (path: "kernel/sched/core.o", hash: (…))` as `^9` and the path.
fn module(line: &str) -> Option<(&str, &str)> {
    let (id, rest) = line.split_once(" = module: (path: \"")?;
    Some((id, rest.split_once('"')?.0))
}

/// What a shard takes from changed modules, by GUID.
fn taken(shard: &str, changed: &BTreeSet<&str>) -> BTreeMap<String, BTreeSet<u64>> {
    let sources: BTreeMap<&str, &str> = shard
        .lines()
        .filter_map(module)
        .filter(|(_, path)| changed.contains(path))
        .collect();
    let mut taken: BTreeMap<String, BTreeSet<u64>> = sources
        .values()
        .map(|path| ((*path).to_owned(), BTreeSet::new()))
        .collect();
    for line in shard.lines() {
        let Some((_, rest)) = line.split_once(" = gv: (guid: ") else {
            continue;
        };
        let guid: String = rest.chars().take_while(char::is_ascii_digit).collect();
        // One entry may have summaries from several modules, for definitions that several files have.
        for place in rest.split("(module: ").skip(1) {
            let id = place.split(',').next().unwrap_or_default();
            if let (Some(path), Ok(guid)) = (sources.get(id), guid.parse()) {
                taken.entry((*path).to_owned()).or_default().insert(guid);
            }
        }
    }
    taken
}

/// A definition of a bitcode file.
#[derive(Debug, PartialEq, Eq)]
struct Definition {
    name: String,
    kind: String,
}

impl Definition {
    /// How to ask for it; nothing for kinds that cannot be taken out alone.
    fn option(&self) -> Option<String> {
        match self.kind.as_str() {
            "function" => Some(format!("--func={}", self.name)),
            "variable" => Some(format!("--glob={}", self.name)),
            _ => None,
        }
    }
}

/// The definitions in the summary at the end of a listing, by GUID.
fn names(listing: &str) -> BTreeMap<u64, Definition> {
    let definition = |line: &str| {
        let (_, rest) = line.split_once(" = gv: (name: \"")?;
        let (name, rest) = rest.split_once("\", summaries: (")?;
        let (kind, rest) = rest.split_once(": ")?;
        let guid = rest.rsplit_once("; guid = ")?.1.trim().parse().ok()?;
        let (name, kind) = (name.to_owned(), kind.to_owned());
        Some((guid, Definition { name, kind }))
    };
    listing.lines().filter_map(definition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: &str = "; ModuleID = 'x'\n^0 = module: (path: \"a.o\", hash: (1, 2))\n\
        ^1 = module: (path: \"b.o\", hash: (3, 4))\n\
        ^2 = gv: (guid: 77, summaries: (function: (module: ^1, flags: (live: 1), insts: 7)))\n\
        ^3 = gv: (guid: 88, summaries: (function: (module: ^0, flags: (live: 1)), function: (module: ^1, flags: (live: 0))))\n\
        ^4 = flags: 8\n";

    #[test]
    fn only_the_hash_of_a_changed_module_may_differ() {
        let changed = BTreeSet::from(["b.o"]);
        assert!(same_facts(
            SHARD,
            &SHARD.replace("3, 4", "5, 6").replace("'x'", "'y'"),
            &changed
        ));
        assert!(!same_facts(SHARD, &SHARD.replace("1, 2", "5, 6"), &changed));
        assert!(!same_facts(SHARD, &SHARD.replace("insts: 7", "insts: 8"), &changed));
        assert!(!same_facts(SHARD, &SHARD.replace("^4 = flags: 8\n", ""), &changed));
    }

    #[test]
    fn what_is_taken_from_changed_modules_is_found() {
        assert_eq!(
            taken(SHARD, &BTreeSet::from(["b.o", "c.o"])),
            BTreeMap::from([("b.o".to_owned(), BTreeSet::from([77, 88]))])
        );
    }

    #[test]
    fn a_module_does_not_import_from_itself() {
        assert_eq!(sources(SHARD, "a.o"), BTreeSet::from(["b.o".to_owned()]));
    }

    #[test]
    fn definitions_are_asked_for_by_name() {
        let listing = "^0 = module: (path: \"b.o\", hash: (1))\n\
            ^1 = gv: (name: \"f\", summaries: (function: (module: ^0, insts: 1))) ; guid = 77\n\
            ^2 = gv: (name: \"v.1\", summaries: (variable: (module: ^0))) ; guid = 88\n\
            ^3 = gv: (name: \"al\", summaries: (alias: (module: ^0))) ; guid = 99\n";
        let options: Vec<_> = names(listing).into_values().map(|found| found.option()).collect();
        assert_eq!(options, [Some("--func=f".into()), Some("--glob=v.1".into()), None]);
    }
}
