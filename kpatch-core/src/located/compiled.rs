//! A compiled object as the proof sees it: which of its sections have a place, and where relocations lead.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use super::memory::Memory;
use crate::arch::{RelocKind, Split};
use crate::elf::{self as rows, Place, Rela, Section};
use crate::error::Subject;

/// Where each section starts; `None` if nothing tells.
pub type Bases = Vec<Option<u64>>;

/// What becomes of a section when the kernel is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It is dropped, or another program makes it anew of what is proven.
    Skipped,
    /// Its parts may lie anywhere, merged with equal ones: strings, or constants of this many bytes.
    Merged {
        /// `sh_entsize`.
        entry: u64,
        /// Whether a part ends with a zero.
        strings: bool,
    },
    /// Its rows of this many bytes are sorted into one table with those of others.
    Sorted(u64),
    /// It has one place.
    Placed,
}

/// Sections whose contents are no matter of this file's code and data: what only the build reads, what describes exports
/// (Module.symvers says the same), and what scripts/sorttable.c, objtool, modpost or resolve_btfids write anew.
const SKIPPED: [&str; 15] = [
    ".discard",
    ".note",
    "__ksymtab",
    "___ksymtab",
    "__kcrctab",
    "___kcrctab",
    ".export_symbol",
    ".modinfo",
    "__mcount_loc",
    "__patchable_function_entries",
    ".BTF",
    "__versions",
    ".gnu.linkonce",
    ".exitcall.exit",
    ".eh_frame",
];

/// Where a relocation leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// To a byte of a section that has one place.
    Section { section: usize, value: u64 },
    /// To a part of a merged section, at this offset in it. The field holds where that is, less `addend`.
    Merged { section: usize, value: u64, addend: i64 },
    /// To a symbol that any file may define. `optional`: it need not be there.
    Name { name: String, optional: bool },
    /// To a number.
    Number(u64),
    /// To something that the link drops.
    Dropped,
}

/// One relocation.
#[derive(Debug, Clone)]
pub struct Field {
    /// Offset in its section.
    pub offset: u64,
    /// What it writes.
    pub kind: RelocKind,
    /// `r_addend`.
    pub addend: i64,
    /// Where it leads.
    pub leads: Leads,
}

/// A named part.
#[derive(Debug, Clone)]
pub struct Named {
    pub name: String,
    pub section: usize,
    pub value: u64,
    pub size: u64,
    pub function: bool,
    pub weak: bool,
}

/// The object, with the kernel that it is compared with.
pub struct Object<'a> {
    pub unit: &'a str,
    pub memory: &'a Memory<'a>,
    pub sections: Vec<Section>,
    pub classes: Vec<Class>,
    /// For each section, its fields in the order of their offsets.
    pub fields: Vec<Vec<Field>>,
    pub names: Vec<Named>,
    /// Sites of static branches by section.
    pub branches: BTreeMap<usize, BTreeSet<u64>>,
}

impl<'a> Object<'a> {
    /// Reads it.
    pub fn read(unit: &'a str, bytes: &[u8], memory: &'a Memory<'a>) -> Result<Self, String> {
        let file = rows::read(bytes)?;
        if elf::Machine(file.e_machine) != memory.arch.facts().machine {
            return Err("they are for different machines".into());
        }
        let class = |section: &Section| class(section, memory);
        let classes: Vec<Class> = file.sections.iter().map(class).collect();
        let mut fields = Vec::new();
        for (section, class) in file.sections.iter().zip(&classes) {
            fields.push(match class {
                Class::Skipped => Vec::new(),
                _ => section_fields(&file, section, &classes, memory)?,
            });
        }
        let names = file.symbols.iter().filter_map(named).collect();
        let branches = branches(&file);
        Ok(Object {
            unit,
            memory,
            sections: file.sections,
            classes,
            fields,
            names,
            branches,
        })
    }

    /// Whether the kernel has any function of this name.
    pub fn is_known(&self) -> bool {
        let mut functions = self.names.iter().filter(|named| named.function).peekable();
        functions.peek().is_none()
            || functions.any(|named| self.memory.named(&named.name).any(|known| known.kind != b'U'))
    }

    /// A section, for messages.
    pub fn section_name(&self, section: usize) -> &str {
        self.sections.get(section).map_or("", |section| section.name.as_str())
    }

    /// A section has one place.
    pub fn is_placed(&self, section: usize) -> bool {
        self.classes.get(section) == Some(&Class::Placed)
    }

    /// A section holds code.
    pub fn is_code(&self, section: usize) -> bool {
        let flags = self.sections.get(section).map_or(0, |section| section.sh_flags);
        flags & elf::SHF_EXECINSTR.0 != 0
    }

    /// The fields of a section.
    pub fn fields_of(&self, section: usize) -> &[Field] {
        self.fields.get(section).map_or(&[], Vec::as_slice)
    }

    /// Where a byte of a section is, for a message: in which function, if in one.
    pub fn subject(&self, section: usize, offset: u64) -> Subject {
        let at = Subject::file(self.unit).section(self.section_name(section));
        let holds = |named: &&Named| {
            named.section == section && named.value <= offset && offset < named.value.saturating_add(named.size)
        };
        match self.names.iter().find(holds) {
            Some(named) => at.symbol(&named.name).offset(offset - named.value),
            None => at.offset(offset),
        }
    }

    /// The bytes of the part of a merged section that starts at an offset.
    pub fn merged(&self, section: usize, offset: u64) -> Option<&[u8]> {
        let Some(Class::Merged { entry, strings }) = self.classes.get(section) else {
            return None;
        };
        let data = &self.sections.get(section)?.data;
        let entry = usize::try_from(*entry).ok()?.max(1);
        let from = usize::try_from(offset).ok()?;
        let rest = data.get(from..)?;
        if !strings {
            return rest.get(..entry - from % entry);
        }
        let end = rest.chunks(entry).position(|unit| unit.iter().all(|byte| *byte == 0))?;
        rest.get(..(end + 1) * entry)
    }
}

fn class(section: &Section, memory: &Memory<'_>) -> Class {
    let flag = |flag: elf::SectionFlags| section.sh_flags & flag.0 != 0;
    let name = section.name.as_str();
    let derived = memory
        .arch
        .facts()
        .objtool
        .derived
        .iter()
        .any(|table| table.name == name || table.beside == Some(name));
    if !flag(elf::SHF_ALLOC) || section.size == 0 || derived || SKIPPED.iter().any(|start| name.starts_with(start)) {
        return Class::Skipped;
    }
    if flag(elf::SHF_MERGE) && section.relas.is_empty() {
        let strings = flag(elf::SHF_STRINGS);
        return Class::Merged {
            entry: section.sh_entsize,
            strings,
        };
    }
    let rows = memory.arch.facts().special(name);
    match rows.map(|row| row.split) {
        // scripts/sorttable.c sorts this one when the image is linked.
        Some(Split::Entries(size)) if name == "__ex_table" => Class::Sorted(size),
        _ => Class::Placed,
    }
}

fn section_fields(
    file: &rows::File,
    section: &Section,
    classes: &[Class],
    memory: &Memory<'_>,
) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    for row in section.relas.iter().flat_map(|rela| &rela.rows) {
        let kind = memory.arch.facts().relocs.kind(row.r_type);
        let kind = kind.ok_or_else(|| format!("{} is not known", memory.arch.facts().relocs.name(row.r_type)))?;
        if kind == RelocKind::None {
            continue;
        }
        let end = row.r_offset.checked_add(u64::from(kind.size()));
        if end.is_none_or(|end| end > section.data.len() as u64) {
            return Err(format!("a relocation lies outside {}", section.name));
        }
        fields.push(Field {
            offset: row.r_offset,
            kind,
            addend: row.r_addend,
            leads: leads(file, row, classes)?,
        });
    }
    fields.sort_by_key(|field| field.offset);
    Ok(fields)
}

fn leads(file: &rows::File, row: &Rela, classes: &[Class]) -> Result<Leads, String> {
    let Some(index) = row.symbol else {
        return Ok(Leads::Number(0));
    };
    let symbol = file.symbols.get(index).ok_or("a relocation names no symbol")?;
    let weak = symbol.st_info >> 4 == elf::STB_WEAK.0;
    let name = || symbol.name.clone();
    Ok(match symbol.place {
        Place::Reserved(0) => Leads::Name {
            name: name(),
            optional: weak,
        },
        Place::Reserved(_) => Leads::Number(symbol.st_value),
        Place::Section(_) if weak => Leads::Name {
            name: name(),
            optional: false,
        },
        Place::Section(section) => match classes.get(section) {
            Some(Class::Placed) => Leads::Section {
                section,
                value: symbol.st_value,
            },
            // With a section's symbol the addend says which part is meant; the linker follows it to where the part went.
            Some(Class::Merged { .. }) if symbol.is_section() => Leads::Merged {
                section,
                value: symbol.st_value.wrapping_add(row.r_addend as u64),
                addend: row.r_addend,
            },
            Some(Class::Merged { .. }) => Leads::Merged {
                section,
                value: symbol.st_value,
                addend: 0,
            },
            _ => Leads::Dropped,
        },
    })
}

fn named(symbol: &rows::Symbol) -> Option<Named> {
    let Place::Section(section) = symbol.place else {
        return None;
    };
    let kind = symbol.st_info & 0xf;
    let counts = !symbol.name.is_empty() && kind != elf::STT_SECTION.0 && kind != elf::STT_FILE.0;
    (counts && !symbol.name.starts_with(".L")).then(|| Named {
        name: symbol.name.clone(),
        section,
        value: symbol.st_value,
        size: symbol.st_size,
        function: kind == elf::STT_FUNC.0,
        weak: symbol.st_info >> 4 == elf::STB_WEAK.0,
    })
}

/// The places that the table of static branches names. Its entries are code, target and key (include/linux/jump_label.h,
/// `struct jump_entry`), so each third relocation is a place of a branch.
fn branches(file: &rows::File) -> BTreeMap<usize, BTreeSet<u64>> {
    let mut found: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    let tables = file.sections.iter().filter(|section| section.name == "__jump_table");
    for row in tables
        .flat_map(|section| &section.relas)
        .flat_map(|rela| rela.rows.iter().step_by(3))
    {
        let symbol = row.symbol.and_then(|symbol| file.symbols.get(symbol));
        if let Some(symbol) = symbol
            && let Place::Section(section) = symbol.place
        {
            let offset = symbol.st_value.wrapping_add(row.r_addend as u64);
            found.entry(section).or_default().insert(offset);
        }
    }
    found
}
