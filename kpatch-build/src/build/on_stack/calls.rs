//! Shows that no function that stays as it is calls a patched one with an object of a changed structure.
//!
//! A task that is in a patched function is not switched, so its objects meet old code only. One that is in another
//! function may be switched meanwhile. So whatever refers to a patched function that takes such an object must be patched
//! as well; what has no object and calls none of them has nothing to do with the structure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::result::Result as Verdict;

use anyhow::{Context, Result};
use kpatch_core::{Patch, names};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind};

use super::file::Shown;
use crate::build::pairs::Pairs;

/// Tables about places in code, by the start of their names. The kernel and its tools read them; nobody calls through
/// them.
const ABOUT_CODE: [&str; 17] = [
    ".orc_unwind",
    ".return_sites",
    ".retpoline_sites",
    ".call_sites",
    ".ibt_endbr_seal",
    ".altinstructions",
    ".static_call_sites",
    ".smp_locks",
    ".discard",
    ".debug",
    ".eh_frame",
    ".kcfi_traps",
    ".llvm",
    "__mcount_loc",
    "__patchable_function_entries",
    "__bug_table",
    "__ex_table",
];

/// A place beside a call's start that a relocation may name: x86-64 counts from the end of a field of four bytes.
const FIELD: u64 = 4;

/// Whether all that refers to patched functions which take an object is patched; else what is not.
pub fn all_patched(shown: &BTreeMap<String, Shown>, pairs: &Pairs, patch: &Patch) -> Result<Verdict<(), String>> {
    for pair in &pairs.pairs {
        let Some(shown) = shown.get(&pair.unit) else {
            continue;
        };
        if let Some(carried) = patch.carried.iter().find(|carried| carried.unit == pair.unit) {
            return Ok(Err(format!(
                "`{}()` cannot be traced",
                names::unpromoted(&carried.name)
            )));
        }
        let Some(orig) = &pair.orig else { continue };
        let orig = fs::read(orig).with_context(|| format!("cannot read {}", orig.display()))?;
        let here = patch.functions.iter().filter(|function| function.unit == pair.unit);
        let unit = Unit {
            file: object::File::parse(&*orig).with_context(|| format!("{} is no object", pair.unit))?,
            takers: &shown.takers,
            patched: here.map(|function| function.name.as_str()).collect(),
        };
        if let Err(why) = unit.check()? {
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}

struct Unit<'a> {
    file: object::File<'a>,
    takers: &'a BTreeSet<String>,
    patched: BTreeSet<&'a str>,
}

/// A function of an object.
struct Function<'a> {
    name: &'a str,
    section: object::SectionIndex,
    start: u64,
    end: u64,
}

impl Function<'_> {
    fn has(&self, section: object::SectionIndex, at: u64) -> bool {
        self.section == section && (self.start..self.end).contains(&at)
    }
}

impl Unit<'_> {
    fn check(&self) -> Result<Verdict<(), String>> {
        let functions = self.functions()?;
        let known: BTreeSet<&str> = functions.iter().map(|function| function.name).collect();
        if let Some(name) = self.patched.iter().find(|name| !known.contains(**name)) {
            return Ok(Err(format!("`{name}()` is not found in its object")));
        }
        let takers: Vec<&Function<'_>> = functions
            .iter()
            .filter(|function| self.takers.contains(source_name(function.name)))
            .collect();
        for taker in takers.iter().filter(|taker| self.is_patched(taker)) {
            let symbol = self.file.symbols().find(|symbol| symbol.name() == Ok(taker.name));
            if symbol.is_some_and(|symbol| symbol.is_global()) {
                return Ok(Err(format!("other files can call `{}()`", taker.name)));
            }
        }
        let changed: Vec<&&Function<'_>> = takers.iter().filter(|taker| self.is_patched(taker)).collect();
        for section in self.file.sections() {
            let name = section.name()?;
            let is_code = section.kind() == SectionKind::Text;
            if ABOUT_CODE.iter().any(|table| name.starts_with(table)) {
                continue;
            }
            for (at, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    continue;
                };
                let target = self.file.symbol_by_index(index)?;
                let Some(target_section) = target.section_index() else {
                    continue;
                };
                let to = target.address().wrapping_add_signed(relocation.addend());
                let from = functions
                    .iter()
                    .find(|function| is_code && function.has(section.index(), at));
                for taker in &changed {
                    let reaches = [to, to.wrapping_add(FIELD)]
                        .iter()
                        .any(|place| taker.has(target_section, *place));
                    if !reaches {
                        continue;
                    }
                    let is_own = from.is_some_and(|from| from.name == taker.name);
                    let inside = to > taker.start && !is_code;
                    if !is_own && !inside && !from.is_some_and(|from| self.is_patched(from)) {
                        let who = from.map_or_else(|| name.to_owned(), |from| format!("`{}()`", from.name));
                        let taker = source_name(taker.name);
                        return Ok(Err(format!("{who} refers to `{taker}()` and is not patched with it")));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    fn functions(&self) -> Result<Vec<Function<'_>>> {
        let symbols = self
            .file
            .symbols()
            .filter(|symbol| symbol.kind() == object::SymbolKind::Text);
        let mut found = Vec::new();
        for symbol in symbols {
            if let Some(section) = symbol.section_index() {
                found.push(Function {
                    name: symbol.name()?,
                    section,
                    start: symbol.address(),
                    end: symbol.address().saturating_add(symbol.size()),
                });
            }
        }
        Ok(found)
    }

    /// Whether it is redirected; a part that the compiler split off goes with its function.
    fn is_patched(&self, function: &Function<'_>) -> bool {
        self.patched.contains(function.name)
            || function
                .name
                .strip_suffix(".cold")
                .is_some_and(|parent| self.patched.contains(parent))
    }
}

/// The name that a function has in the source: compilers number copies and parts behind a point.
fn source_name(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
    use object::{Architecture, BinaryFormat, Endianness, RelocationFlags, SymbolFlags, SymbolKind, SymbolScope, elf};

    use super::*;

    /// Bytes of each function.
    const SIZE: u64 = 16;

    struct Built<'a> {
        object: Object<'a>,
        text: SectionId,
    }

    impl Built<'_> {
        /// With a function that takes the structure, and one that calls it.
        fn new(scope: SymbolScope) -> (Self, SymbolId) {
            let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
            let text = object.section_id(object::write::StandardSection::Text);
            let mut built = Built { object, text };
            let taker = built.function("taker", scope);
            let caller = built.function("caller", SymbolScope::Compilation);
            assert_ne!(taker, caller);
            // A call: the field is in the caller, and counts from its own end.
            built.refer(built.text, SIZE + 1, taker, elf::R_X86_64_PLT32, -4);
            (built, taker)
        }

        fn function(&mut self, name: &str, scope: SymbolScope) -> SymbolId {
            let value = self.object.append_section_data(self.text, &[0x90; SIZE as usize], 16);
            self.object.add_symbol(Symbol {
                name: name.into(),
                value,
                size: SIZE,
                kind: SymbolKind::Text,
                scope,
                weak: false,
                section: SymbolSection::Section(self.text),
                flags: SymbolFlags::None,
            })
        }

        fn refer(&mut self, from: SectionId, offset: u64, symbol: SymbolId, r_type: elf::RelocationType, addend: i64) {
            let flags = RelocationFlags::Elf { r_type };
            let relocation = Relocation {
                offset,
                symbol,
                addend,
                flags,
            };
            self.object.add_relocation(from, relocation).unwrap();
        }

        /// A table with one address.
        fn table(&mut self, name: &str, symbol: SymbolId, addend: i64) {
            let section = self
                .object
                .add_section(Vec::new(), name.into(), object::SectionKind::ReadOnlyData);
            self.object.append_section_data(section, &[0; 8], 8);
            self.refer(section, 0, symbol, elf::R_X86_64_64, addend);
        }

        fn check(&self, patched: &[&str]) -> Verdict<(), String> {
            let bytes = self.object.write().unwrap();
            let takers = BTreeSet::from(["taker".to_owned()]);
            let unit = Unit {
                file: object::File::parse(&*bytes).unwrap(),
                takers: &takers,
                patched: patched.iter().copied().collect(),
            };
            unit.check().unwrap()
        }
    }

    #[test]
    fn who_calls_a_patched_taker_must_be_patched() {
        let (built, _) = Built::new(SymbolScope::Compilation);
        assert_eq!(built.check(&["taker", "caller"]), Ok(()));
        assert!(built.check(&["taker"]).is_err());
        assert_eq!(
            built.check(&["caller"]),
            Ok(()),
            "a taker that stays is the same code on both sides"
        );
        assert!(
            built.check(&["caller", "elsewhere"]).is_err(),
            "names that do not fit prove nothing"
        );
    }

    #[test]
    fn a_taker_that_others_reach_is_refused() {
        let (built, _) = Built::new(SymbolScope::Linkage);
        assert!(built.check(&["taker", "caller"]).is_err());
        for (table, addend, good) in [
            (".data.rel.ro", 0, false),
            (".rodata", 8, true),
            (".orc_unwind_ip", 0, true),
        ] {
            let (mut built, taker) = Built::new(SymbolScope::Compilation);
            built.table(table, taker, addend);
            assert_eq!(built.check(&["taker", "caller"]).is_ok(), good, "{table}");
        }
    }
}
