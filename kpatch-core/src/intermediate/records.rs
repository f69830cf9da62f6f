//! The `.kpatch.*` sections: the functions that the livepatch replaces and every relocation that livepatch must apply,
//! as plain records. `ld -r` would renumber and merge real livepatch relocation sections, so `klp::from_records` makes
//! those after the last link.
//!
//! Pointers in records are relocations of the machine's absolute type. Pointers to strings lead into `.kpatch.strings`.

use std::collections::BTreeMap;

use object::elf;

use crate::elf::{File, Place, Rela, RelaSection, Section, Symbol};

/// Strings that records name, each once.
pub const STRINGS: &str = ".kpatch.strings";
/// Functions to redirect, one [`Func`] each.
pub const FUNCS: &str = ".kpatch.funcs";
/// Symbols that livepatch looks up, one for each relocation.
pub const SYMBOLS: &str = ".kpatch.symbols";
/// Relocations that livepatch applies.
pub const RELOCATIONS: &str = ".kpatch.relocations";

/// Bytes of a record in [`FUNCS`].
pub const FUNC_SIZE: u64 = 56;
/// Bytes of a record in [`SYMBOLS`].
pub const SYMBOL_SIZE: u64 = 40;
/// Bytes of a record in [`RELOCATIONS`].
pub const RELOCATION_SIZE: u64 = 40;

/// One function to redirect.
#[derive(Debug, Clone)]
pub struct Func {
    /// Row of the new function's symbol.
    pub symbol: usize,
    /// Its size in bytes.
    pub size: u64,
    /// Address and size in bytes of the old function in the kernel that was compared.
    pub old: (u64, u64),
    /// Position among the symbols of that name.
    pub sympos: u64,
    /// The kernel's name for it.
    pub name: String,
    /// The object that it is part of: `vmlinux` or a module.
    pub object: String,
}

/// One relocation that livepatch applies.
#[derive(Debug, Clone)]
pub struct Relocation {
    /// Index of the section that it changes, and the offset in bytes.
    pub place: (usize, u64),
    /// Type of the relocation (R_*).
    pub r_type: u32,
    /// Addend of the relocation.
    pub addend: i64,
    /// Whether a module exports the symbol to the patched module.
    pub external: bool,
    /// The object whose loading applies it.
    pub object: String,
    /// The symbol that it refers to.
    pub symbol: Wanted,
}

/// A symbol that livepatch looks up.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Address in the kernel that was compared; 0 in modules.
    pub address: u64,
    /// Position among the symbols of that name.
    pub sympos: u64,
    /// Binding of the symbol (STB_*).
    pub bind: u8,
    /// Type of the symbol (STT_*).
    pub kind: u8,
    /// Its full name in the kernel.
    pub name: String,
    /// The object that it belongs to: `vmlinux` or a module.
    pub owner: String,
}

/// Adds the sections to a file.
pub struct Writer<'f> {
    file: &'f mut File,
    absolute: u32,
    strings: Table,
    known: BTreeMap<String, u64>,
    /// The symbol of each section.
    of_section: Vec<usize>,
}

/// A section that is being filled.
#[derive(Default)]
struct Table {
    data: Vec<u8>,
    rows: Vec<Rela>,
}

impl<'f> Writer<'f> {
    /// Adds the empty sections. `absolute` is the relocation type of a pointer.
    pub fn new(file: &'f mut File, absolute: u32) -> Self {
        for (name, size) in [
            (STRINGS, 1),
            (FUNCS, FUNC_SIZE),
            (SYMBOLS, SYMBOL_SIZE),
            (RELOCATIONS, RELOCATION_SIZE),
        ] {
            file.sections.push(Section {
                name: name.into(),
                sh_type: elf::SHT_PROGBITS.0,
                sh_flags: elf::SHF_ALLOC.0,
                sh_addralign: if size == 1 { 1 } else { 8 },
                sh_entsize: size,
                ..Section::default()
            });
        }
        let of_section = section_symbols(file);
        Writer {
            file,
            absolute,
            strings: Table::default(),
            known: BTreeMap::new(),
            of_section,
        }
    }

    /// Writes all records: strings, functions, symbols and relocations. `parent` is the object that the unit is linked
    /// into.
    pub fn write(mut self, parent: &str, funcs: &[Func], relocations: &[Relocation]) {
        self.string(parent);
        let funcs = self.funcs(funcs);
        let (symbols, relocations) = self.relocations(relocations);
        let strings = std::mem::take(&mut self.strings);
        for (name, table) in [
            (STRINGS, strings),
            (FUNCS, funcs),
            (SYMBOLS, symbols),
            (RELOCATIONS, relocations),
        ] {
            let section = self.file.sections.iter_mut().find(|section| section.name == name);
            let section = section.expect("made by new");
            section.size = table.data.len() as u64;
            section.data = table.data;
            if !table.rows.is_empty() {
                section.relas.push(RelaSection {
                    name: format!(".rela{name}"),
                    sh_flags: 0,
                    rows: table.rows,
                });
            }
        }
    }

    /// Writes the object's name into callback records, as a pointer at byte 8 of each.
    pub fn name_callbacks(&mut self, section: usize, records: &[u64], object: &str) {
        let addend = self.string(object) as i64;
        let (r_type, symbol) = (self.absolute, Some(self.symbol_of(STRINGS)));
        let rows = records.iter().map(|at| Rela {
            r_offset: at + 8,
            symbol,
            r_type,
            r_addend: addend,
        });
        let section = &mut self.file.sections[section];
        if section.relas.is_empty() {
            section.relas.push(RelaSection {
                name: format!(".rela{}", section.name),
                ..RelaSection::default()
            });
        }
        section.relas[0].rows.extend(rows);
        section.relas[0].rows.sort_by_key(|row| row.r_offset);
    }

    fn symbol_of(&self, name: &str) -> usize {
        let section = self.file.sections.iter().position(|section| section.name == name);
        self.of_section[section.expect("made by new")]
    }

    fn string(&mut self, text: &str) -> u64 {
        if let Some(offset) = self.known.get(text) {
            return *offset;
        }
        let offset = self.strings.data.len() as u64;
        self.strings.data.extend_from_slice(text.as_bytes());
        self.strings.data.push(0);
        self.known.insert(text.to_owned(), offset);
        offset
    }

    fn number(&self, table: &mut Table, value: u64, size: usize) {
        if self.file.big_endian {
            table.data.extend_from_slice(&value.to_be_bytes()[8 - size..]);
        } else {
            table.data.extend_from_slice(&value.to_le_bytes()[..size]);
        }
    }

    fn pointer(&self, table: &mut Table, symbol: usize, addend: u64) {
        table.rows.push(Rela {
            r_offset: table.data.len() as u64,
            symbol: Some(symbol),
            r_type: self.absolute,
            r_addend: addend as i64,
        });
        self.number(table, 0, 8);
    }

    fn text(&mut self, table: &mut Table, text: &str) {
        let offset = self.string(text);
        self.pointer(table, self.symbol_of(STRINGS), offset);
    }

    fn funcs(&mut self, funcs: &[Func]) -> Table {
        let mut table = Table::default();
        for func in funcs {
            self.pointer(&mut table, func.symbol, 0);
            self.number(&mut table, func.size, 8);
            self.number(&mut table, func.old.0, 8);
            self.number(&mut table, func.old.1, 8);
            self.number(&mut table, func.sympos, 8);
            self.text(&mut table, &func.name);
            self.text(&mut table, &func.object);
        }
        table
    }

    fn relocations(&mut self, relocations: &[Relocation]) -> (Table, Table) {
        let (mut symbols, mut made) = (Table::default(), Table::default());
        let ksym = self.symbol_of(SYMBOLS);
        for (index, relocation) in relocations.iter().enumerate() {
            let wanted = &relocation.symbol;
            self.number(&mut symbols, wanted.address, 8);
            self.number(&mut symbols, wanted.sympos, 8);
            self.number(&mut symbols, wanted.bind.into(), 1);
            self.number(&mut symbols, wanted.kind.into(), 1);
            symbols.data.extend_from_slice(&[0; 6]);
            self.text(&mut symbols, &wanted.name);
            self.text(&mut symbols, &wanted.owner);
            let place = self.of_section[relocation.place.0];
            self.pointer(&mut made, place, relocation.place.1);
            self.number(&mut made, relocation.r_type.into(), 4);
            self.number(&mut made, relocation.external.into(), 4);
            self.number(&mut made, relocation.addend as u64, 8);
            self.text(&mut made, &relocation.object);
            self.pointer(&mut made, ksym, index as u64 * SYMBOL_SIZE);
        }
        (symbols, made)
    }
}

/// The symbol of each section. Missing ones are added behind the other local symbols, and relocations are renumbered.
pub fn section_symbols(file: &mut File) -> Vec<usize> {
    let mut found = vec![None; file.sections.len()];
    for (index, symbol) in file.symbols.iter().enumerate() {
        if let Place::Section(section) = symbol.place
            && symbol.is_section()
        {
            found[section].get_or_insert(index);
        }
    }
    let locals = file.symbols.iter().take_while(|symbol| symbol.is_local()).count();
    let missing: Vec<usize> = (0..found.len()).filter(|section| found[*section].is_none()).collect();
    let made = missing
        .iter()
        .map(|section| Symbol::new("", Place::Section(*section), elf::STB_LOCAL.0, elf::STT_SECTION.0));
    insert_locals(file, locals, made.collect());
    for (index, section) in missing.into_iter().enumerate() {
        found[section] = Some(locals + index);
    }
    found.into_iter().flatten().collect()
}

/// Inserts local symbols and renumbers relocations. Indexes kept elsewhere become stale.
pub fn insert_locals(file: &mut File, at: usize, symbols: Vec<Symbol>) {
    let count = symbols.len();
    file.symbols.splice(at..at, symbols);
    for row in file
        .sections
        .iter_mut()
        .flat_map(|section| &mut section.relas)
        .flat_map(|rela| &mut rela.rows)
    {
        if let Some(symbol) = row.symbol.as_mut().filter(|symbol| **symbol >= at) {
            *symbol += count;
        }
    }
}
