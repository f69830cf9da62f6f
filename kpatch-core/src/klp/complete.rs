//! Checks the finished module against the objects it was linked from.
//!
//! A module can obey every rule of the kernel and still be wrong: a lost relocation, a changed addend, a table without
//! one entry. The link and objtool may add to the emitted objects but must remove nothing, so every reference and every
//! entry that went in must come out.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use super::symbol_name;
use super::{BAD_MODULE, INCOMPLETE, registered};
use crate::arch::{self, Arch};
use crate::elf::{File, Place, Rela, SHN_LIVEPATCH, Section, Symbol};
use crate::error::{Refusal, Subject};
use crate::macros::Callback;
use crate::resolve::{KlpSymbol, PatchedFunction};

/// A relocation that does nothing (`R_*_NONE` of all psABIs): objtool leaves it where it turned a call to the tracer
/// into a NOP (`-mnop-mcount`).
const NO_TYPE: u32 = 0;

/// What each module has one of; modpost writes the object that defines it (scripts/mod/modpost.c, `add_header`).
const THIS_MODULE: &str = "__this_module";

/// What a module was linked from, and what it must register.
pub struct Origin<'a> {
    /// All objects, as they went into the link.
    pub objects: &'a [&'a [u8]],
    /// What their undefined symbols stand for.
    pub symbols: &'a BTreeMap<String, KlpSymbol>,
    /// The functions to redirect.
    pub functions: &'a [PatchedFunction],
    /// The functions to call when objects are patched and unpatched.
    pub callbacks: &'a [Callback],
    /// Functions that one of these calls in its turn: constant data has the name of the object, and behind it the function.
    pub behind: &'a [Callback],
}

/// A reference out of the module. `place` counts from the start of the section if the link did not move it, else from the
/// start of the function, and is not compared where there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    section: String,
    place: Option<u64>,
    target: String,
    r_type: u32,
    addend: i64,
}

/// Compares module and origin. An empty list means that everything that went in came out.
pub fn complete(module: &[u8], origin: &Origin<'_>) -> Vec<Refusal> {
    let read =
        |bytes: &[u8]| crate::elf::read(bytes).map_err(|why| vec![Refusal::new(BAD_MODULE, Subject::default(), why)]);
    let (module, objects) = match (
        read(module),
        origin
            .objects
            .iter()
            .map(|bytes| read(bytes))
            .collect::<Result<Vec<_>, _>>(),
    ) {
        (Ok(module), Ok(objects)) => (module, objects),
        (Err(refusals), _) | (_, Err(refusals)) => return refusals,
    };
    let Some(arch) = arch::for_machine(elf::Machine(module.e_machine)) else {
        return vec![Refusal::new(
            BAD_MODULE,
            Subject::default(),
            "the module is for another machine",
        )];
    };
    let mut comparison = Comparison {
        module: &module,
        objects: &objects,
        origin,
        arch,
        found: Vec::new(),
    };
    comparison.references();
    comparison.tables();
    comparison.unwind_tables();
    comparison.trace_records();
    comparison.functions();
    comparison.callbacks();
    comparison.found.extend(super::unwind::check(comparison.module, arch));
    comparison.found.sort();
    comparison.found.dedup();
    comparison.found
}

/// The name of a section after the module link: scripts/module.lds.S (6.1 to 7.3) renames one table.
fn in_module(name: &str) -> &str {
    match name {
        ".kcfi_traps" => "__kcfi_traps",
        other => other,
    }
}

struct Comparison<'a> {
    module: &'a File,
    objects: &'a [File],
    origin: &'a Origin<'a>,
    arch: &'static dyn Arch,
    found: Vec<Refusal>,
}

impl Comparison<'_> {
    fn report(&mut self, at: Subject, why: String) {
        self.found.push(Refusal::new(INCOMPLETE, at, why));
    }

    /// Relocations against symbols that the module does not define, in both directions.
    fn references(&mut self) {
        let whole = self.unmoved();
        let mut emitted: BTreeMap<Reference, usize> = BTreeMap::new();
        for file in self.objects {
            self.collect(file, &whole, &mut emitted);
        }
        let mut present = BTreeMap::new();
        self.collect(self.module, &whole, &mut present);
        let areas: BTreeSet<String> = emitted.keys().map(|reference| reference.section.clone()).collect();
        for (reference, wanted) in &emitted {
            let have = present.get(reference).copied().unwrap_or_default();
            if have < *wanted {
                self.report(
                    self.at(reference),
                    format!("{have} instead of {wanted} times: {}", self.shown(reference)),
                );
            }
        }
        for (reference, have) in &present {
            let wanted = emitted.get(reference).copied().unwrap_or_default();
            let by_livepatch = reference.target.starts_with(symbol_name::PREFIX) && areas.contains(&reference.section);
            if by_livepatch && *have > wanted {
                self.report(
                    self.at(reference),
                    format!("{have} instead of {wanted} times: {}", self.shown(reference)),
                );
            }
        }
    }

    fn at(&self, reference: &Reference) -> Subject {
        let at = Subject::default().section(&reference.section).symbol(&reference.target);
        reference.place.map_or(at.clone(), |place| at.offset(place))
    }

    fn shown(&self, reference: &Reference) -> String {
        let name = self.arch.facts().relocs.name(reference.r_type);
        format!("{name} with addend {}", reference.addend)
    }

    /// Names of sections that exactly one object has and that the link neither merged nor resized.
    fn unmoved(&self) -> BTreeSet<String> {
        let mut seen: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for section in self.objects.iter().flat_map(|file| &file.sections) {
            seen.entry(&section.name).or_default().push(section.size);
        }
        let same = |name: &str, size: u64| {
            let own = self.module.sections.iter().filter(|section| section.name == name);
            own.map(|section| section.size).eq([size])
        };
        seen.iter()
            .filter(|(name, sizes)| matches!(sizes[..], [size] if same(name, size)))
            .map(|(name, _)| (*name).to_owned())
            .collect()
    }

    fn collect(&self, file: &File, whole: &BTreeSet<String>, into: &mut BTreeMap<Reference, usize>) {
        let loaded = file.sections.iter().enumerate();
        let loaded =
            loaded.filter(|(_, section)| section.sh_flags & elf::SHF_ALLOC.0 != 0 && !is_discarded(&section.name));
        for (index, section) in loaded {
            let functions = if is_code(section) {
                functions(file, index)
            } else {
                Vec::new()
            };
            for row in section.relas.iter().flat_map(|rela| &rela.rows) {
                let symbol = row.symbol.and_then(|symbol| file.symbols.get(symbol));
                let outside =
                    |place| place == Place::Reserved(elf::SHN_UNDEF.0) || place == Place::Reserved(SHN_LIVEPATCH);
                let Some(symbol) = symbol.filter(|symbol| outside(symbol.place)) else {
                    continue;
                };
                if symbol.name == THIS_MODULE || self.defined().any(|name| name == symbol.name) {
                    continue;
                }
                // objtool may turn these calls into NOPs; `trace_records` checks them.
                if self.arch.facts().tracing.is_callee(&symbol.name) {
                    continue;
                }
                let unmoved = whole.contains(&section.name);
                let reference = Reference {
                    section: if unmoved {
                        section.name.clone()
                    } else {
                        area(&section.name).to_owned()
                    },
                    place: if unmoved {
                        Some(row.r_offset)
                    } else {
                        inside(&functions, row.r_offset)
                    },
                    target: self.target(&symbol.name),
                    r_type: row.r_type,
                    addend: row.r_addend,
                };
                *into.entry(reference).or_default() += 1;
            }
        }
    }

    /// Global names that one object defines: the link binds the others' references to them.
    fn defined(&self) -> impl Iterator<Item = &str> {
        let symbols = self.objects.iter().flat_map(|file| &file.symbols);
        let global = symbols.filter(|symbol| !symbol.is_local() && matches!(symbol.place, Place::Section(_)));
        global.map(|symbol| symbol.name.as_str())
    }

    /// The name a symbol has in the finished module.
    fn target(&self, name: &str) -> String {
        match self.origin.symbols.get(name) {
            Some(symbol) => symbol_name::name(&symbol.owner, &symbol.name, symbol.sympos.0),
            None => name.to_owned(),
        }
    }

    /// Sections that the kernel reads as tables: none may become shorter or lose a relocation.
    fn tables(&mut self) {
        let mut emitted: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
        for section in self.objects.iter().flat_map(|file| &file.sections) {
            if self.is_table(&section.name) {
                let row = emitted.entry(&section.name).or_default();
                row.0 += section.size;
                row.1 += rows(section);
            }
        }
        for (name, (size, count)) in emitted {
            let own = self
                .module
                .sections
                .iter()
                .filter(|section| section.name == in_module(name));
            let (have, have_rows) = own.fold((0, 0), |(size, count), s| (size + s.size, count + rows(s)));
            if have < size || have_rows < count {
                let why = format!("{have} bytes with {have_rows} relocations instead of {size} with {count}");
                self.report(Subject::default().section(name), why);
            }
        }
    }

    fn is_table(&self, name: &str) -> bool {
        !is_discarded(name) && self.arch.facts().special(name).is_some()
    }

    /// Each section of code needs a row in the unwinder's table, which has one relocation for each row.
    fn unwind_tables(&mut self) {
        let objtool = &self.arch.facts().objtool;
        let Some(table) = objtool.unwind else { return };
        let Some(found) = self.section(table.name).filter(|section| section.size > 0) else {
            return;
        };
        if rows(found) as u64 * table.entry != found.size {
            let why = format!("{} bytes with {} relocations", found.size, rows(found));
            self.report(Subject::default().section(table.name), why);
        }
        self.covered(table.name, "has no row in the unwinder's table", &|_, section| {
            is_code(section) && !objtool.is_unlisted(&section.name)
        });
    }

    /// Each function that calls the tracer needs a record in `__mcount_loc`, whether objtool or the emitter made it,
    /// and the calls that are left must be as emitted. The kernel may accept a wrong one
    /// (arch/powerpc/kernel/trace/ftrace.c of 6.12, `ftrace_init_nop`, looks at the instruction only).
    fn trace_records(&mut self) {
        let (arch, module) = (self.arch, self.module);
        let shape = |row: &Rela| (row.r_type, row.r_addend);
        let sections = self
            .objects
            .iter()
            .flat_map(|file| file.sections.iter().map(move |section| (file, section)));
        let emitted: BTreeSet<_> = sections
            .flat_map(|(file, section)| tracing_calls(arch, file, section))
            .map(shape)
            .collect();
        for section in &module.sections {
            for row in tracing_calls(arch, module, section).filter(|row| row.r_type != NO_TYPE) {
                if !emitted.contains(&shape(row)) {
                    let name = arch.facts().relocs.name(row.r_type);
                    let why = format!("a call to the tracer is {name} with addend {}", row.r_addend);
                    self.report(Subject::default().section(&section.name).offset(row.r_offset), why);
                }
            }
        }
        self.covered("__mcount_loc", "has no record for the tracer", &|file, section| {
            tracing_calls(arch, file, section).next().is_some()
        });
    }

    /// A table must refer to each emitted section that `wanted` picks, wherever the link has put it.
    fn covered(&mut self, table: &str, lack: &str, wanted: &dyn Fn(&File, &Section) -> bool) {
        let referred = self.referred(table);
        let mut missing = BTreeSet::new();
        for file in self.objects {
            for (index, section) in file.sections.iter().enumerate() {
                if section.size == 0 || is_discarded(&section.name) || !wanted(file, section) {
                    continue;
                }
                let starts = self.starts(file, index);
                let has_row = |&(home, at): &(usize, u64)| {
                    referred
                        .range((home, at)..(home, at.saturating_add(section.size)))
                        .next()
                        .is_some()
                };
                if starts.is_empty() || !starts.iter().all(has_row) {
                    missing.insert(section.name.clone());
                }
            }
        }
        for name in missing {
            self.report(Subject::default().section(table), format!("{name} {lack}"));
        }
    }

    /// Where a section of an emitted object may start in the module: a section there, and bytes from its start. Since
    /// 6.19 the module link joins the sections of functions (scripts/module.lds.S), so the symbols in the section
    /// identify it; a name that only one symbol of the module has decides best.
    fn starts(&self, file: &File, index: usize) -> Vec<(usize, u64)> {
        let named = file
            .symbols
            .iter()
            .filter(|symbol| symbol.place == Place::Section(index) && !symbol.name.is_empty());
        let is_alike = |home| {
            let found = self.module.sections.get(home);
            found.is_some_and(|found| is_code(found) == is_code(&file.sections[index]))
        };
        let start = |symbol: &Symbol, other: &Symbol| match other.place {
            Place::Section(home) if is_alike(home) => Some((home, other.st_value.checked_sub(symbol.st_value)?)),
            _ => None,
        };
        let places = named.map(|symbol| {
            let same = self.module.symbols.iter().filter(|other| other.name == symbol.name);
            same.filter_map(|other| start(symbol, other)).collect::<Vec<_>>()
        });
        let found = places.filter(|places| !places.is_empty()).min_by_key(Vec::len);
        let own = || {
            self.module
                .sections
                .iter()
                .position(|section| section.name == file.sections[index].name)
        };
        found.unwrap_or_else(|| own().map(|section| (section, 0)).into_iter().collect())
    }

    /// Where the relocations of a table lead to: section, and bytes from its start.
    fn referred(&self, table: &str) -> BTreeSet<(usize, u64)> {
        let rows = self
            .section(table)
            .into_iter()
            .flat_map(|section| section.relas.iter().flat_map(|rela| &rela.rows));
        rows.filter_map(|row| {
            let symbol = self.module.symbols.get(row.symbol?)?;
            match symbol.place {
                Place::Section(index) => Some((index, symbol.st_value.checked_add_signed(row.r_addend)?)),
                Place::Reserved(_) => None,
            }
        })
        .collect()
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.module.sections.iter().find(|section| section.name == name)
    }

    fn functions(&mut self) {
        for function in self.origin.functions {
            let at = || Subject::default().symbol(&function.name);
            match registered::function(self.module, self.arch, &function.handle) {
                None => self.report(at(), "the module does not redirect it exactly once".into()),
                Some((name, sympos)) if name != function.name || sympos != u64::from(function.sympos.0) => {
                    self.report(at(), format!("the module redirects `{name}`,{sympos} to its new code"));
                }
                Some(_) => {}
            }
        }
    }

    fn callbacks(&mut self) {
        let all = self.origin.callbacks;
        for callback in all {
            // One function may be called at several moments.
            let same = all.iter().filter(|other| other.handle == callback.handle);
            let mut wanted: Vec<_> = same.map(|other| (other.object.to_string(), other.moment)).collect();
            let mut found = registered::callbacks(self.module, self.arch, &callback.handle);
            wanted.sort();
            found.sort();
            if found != wanted {
                let (object, moment) = (&callback.object, callback.moment);
                let shown = found.iter().map(|(object, moment)| format!("{moment} of {object}"));
                let shown = shown.collect::<Vec<_>>().join(", ");
                let why = format!("the {moment} callback of {object} is registered as: {shown}");
                self.report(Subject::default().symbol(&callback.name), why);
            }
        }
        for callback in self.origin.behind {
            let found = registered::behind(self.module, self.arch, &callback.handle);
            if found != [callback.object.to_string()] {
                let (object, moment) = (&callback.object, callback.moment);
                let why = format!(
                    "the {moment} callback of {object} is to be called for: {}",
                    found.join(", ")
                );
                self.report(Subject::default().symbol(&callback.name), why);
            }
        }
    }
}

/// Where the functions of a section of code start and end.
fn functions(file: &File, index: usize) -> Vec<(u64, u64)> {
    let own = file
        .symbols
        .iter()
        .filter(|symbol| symbol.place == Place::Section(index));
    own.filter(|symbol| symbol.st_size > 0)
        .map(|symbol| (symbol.st_value, symbol.st_value.saturating_add(symbol.st_size)))
        .collect()
}

/// How far behind the start of its function a place is.
fn inside(functions: &[(u64, u64)], place: u64) -> Option<u64> {
    let around = functions.iter().filter(|(start, end)| (*start..*end).contains(&place));
    around.map(|(start, _)| place - start).min()
}

/// A section's calls to the tracer.
fn tracing_calls<'f>(arch: &dyn Arch, file: &'f File, section: &'f Section) -> impl Iterator<Item = &'f Rela> {
    let rows = section.relas.iter().flat_map(|rela| &rela.rows);
    rows.filter(move |row| {
        let symbol = row.symbol.and_then(|symbol| file.symbols.get(symbol));
        symbol.is_some_and(|symbol| arch.facts().tracing.is_callee(&symbol.name))
    })
}

fn is_code(section: &Section) -> bool {
    section.sh_flags & elf::SHF_EXECINSTR.0 != 0
}

/// Sections named `.discard*` are for objtool; the linker drops them afterwards. The properties of object files it keeps
/// only where all of them have the same (x86-64 psABI, program property).
fn is_discarded(name: &str) -> bool {
    name.starts_with(".discard") || name == ".note.gnu.property"
}

fn rows(section: &Section) -> usize {
    section.relas.iter().map(|rela| rela.rows.len()).sum()
}

/// A section's name without the function or variable at its end, which a linker script may drop.
fn area(name: &str) -> &str {
    let end = name
        .char_indices()
        .skip(1)
        .find(|(_, c)| *c == '.')
        .map_or(name.len(), |(at, _)| at);
    if name.starts_with('.') { &name[..end] } else { name }
}
