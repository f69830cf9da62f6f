//! A translation unit in memory, laid out as clang does it with `-ffunction-sections -fdata-sections`: each function
//! has a section with 16 bytes of padding, and references to labels and strings name the section.

use std::collections::BTreeMap;

use kpatch_core::elf::{File, Place, Rela, RelaSection, Section, Symbol};
use object::elf;

use super::code::{Field, How, Part};

/// A function to add.
#[derive(Debug, Clone)]
pub struct Function {
    name: String,
    section: Option<String>,
    bind: u8,
    traced: bool,
    padded: bool,
    returns: bool,
    hash: Option<u32>,
    kind: u8,
    body: Vec<Part>,
    st_other: u8,
    aliases: Vec<(String, u8)>,
}

/// A function that other files see.
pub fn function(name: &str, body: &[Part]) -> Function {
    Function {
        name: name.to_owned(),
        section: None,
        bind: elf::STB_GLOBAL.0,
        traced: true,
        padded: true,
        returns: true,
        hash: None,
        kind: elf::STT_FUNC.0,
        body: body.to_vec(),
        st_other: 0,
        aliases: Vec::new(),
    }
}

/// A static function.
pub fn local(name: &str, body: &[Part]) -> Function {
    let bind = elf::STB_LOCAL.0;
    Function {
        bind,
        ..function(name, body)
    }
}

impl Function {
    /// Without a call to the tracer, as `notrace` has it.
    pub fn untraced(mut self) -> Function {
        self.traced = false;
        self
    }

    /// Without an instruction that returns.
    pub fn without_return(mut self) -> Function {
        self.returns = false;
        self
    }

    /// Without a landing pad, as a static function that is only called directly.
    pub fn unpadded(mut self) -> Function {
        self.padded = false;
        self
    }

    /// With the hash of its type in front of it.
    pub fn hashed(mut self, hash: u32) -> Function {
        self.hash = Some(hash);
        self
    }

    /// Of another binding.
    pub fn bound(mut self, bind: elf::SymbolBind) -> Function {
        self.bind = bind.0;
        self
    }

    /// With this in `st_other`.
    pub fn other(mut self, st_other: u8) -> Function {
        self.st_other = st_other;
        self
    }

    /// In a section that it may share with others.
    pub fn within(mut self, section: &str) -> Function {
        self.section = Some(section.to_owned());
        self
    }

    /// Without a type, as LLVM leaves what it splits off.
    pub fn untyped(mut self) -> Function {
        self.kind = elf::STT_NOTYPE.0;
        self
    }

    /// With another name for the same place.
    pub fn alias(mut self, name: &str, bind: elf::SymbolBind) -> Function {
        self.aliases.push((name.to_owned(), bind.0));
        self
    }
}

/// A translation unit that is being made.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// Whether the code is PowerPC's; functions consist of their bodies then.
    powerpc: bool,
    file: File,
    labels: BTreeMap<String, (usize, u64)>,
    fields: Vec<(usize, u64, Field)>,
}

impl Unit {
    pub fn new() -> Unit {
        Unit::default()
    }

    /// A unit of PowerPC code.
    pub fn powerpc() -> Unit {
        Unit {
            powerpc: true,
            ..Unit::default()
        }
    }

    /// Adds a function.
    pub fn with(mut self, function: Function) -> Unit {
        let name = function
            .section
            .clone()
            .unwrap_or_else(|| format!(".text.{}", function.name));
        let section = self.section(&name);
        let entry = match self.powerpc {
            true => self.file.sections[section].size,
            false => (self.file.sections[section].size + 16).next_multiple_of(16),
        };
        self.pad(section, entry, 0x90);
        if let Some(hash) = function.hash {
            let code = [&[0xb8][..], &hash.to_le_bytes()].concat();
            let at = entry as usize - 16;
            self.file.sections[section].data[at..at + 5].copy_from_slice(&code);
            let prefix = format!("__cfi_{}", function.name);
            self.symbol(&prefix, section, function.bind, elf::STT_FUNC.0, entry - 16, 16);
        }
        if function.traced && !self.powerpc {
            if function.padded {
                self.append(section, &super::code::raw(&[0xf3, 0x0f, 0x1e, 0xfa]));
            }
            self.append(section, &super::code::call("__fentry__"));
        }
        function.body.iter().for_each(|part| self.append(section, part));
        if function.returns && !self.powerpc {
            self.append(section, &super::code::raw(&[0xc3]));
        }
        let (end, kind) = (self.file.sections[section].size, function.kind);
        let mut names = vec![(function.name, function.bind)];
        names.extend(function.aliases);
        for (name, bind) in names {
            self.symbol(&name, section, bind, kind, entry, end - entry);
            let made = self.file.symbols.last_mut().expect("just added");
            made.st_other = function.st_other;
        }
        self
    }

    /// Notes the hash that a declaration asks for, as clang does where its address is taken.
    pub fn declared(mut self, name: &str, hash: u32) -> Unit {
        let place = Place::Reserved(elf::SHN_ABS.0);
        let name = format!("__kcfi_typeid_{name}");
        let mut symbol = Symbol::new(&name, place, elf::STB_WEAK.0, elf::STT_NOTYPE.0);
        symbol.st_value = hash.into();
        self.file.symbols.push(symbol);
        self
    }

    /// Adds a variable that other files see.
    pub fn global(self, section: &str, name: &str, parts: &[Part]) -> Unit {
        self.variable(section, name, elf::STB_GLOBAL.0, parts)
    }

    /// Adds a global variable that is zero and has no section (`-fcommon`).
    pub fn common(mut self, name: &str, size: u64) -> Unit {
        let (bind, kind) = (elf::STB_GLOBAL.0, elf::STT_OBJECT.0);
        let mut symbol = Symbol::new(name, Place::Reserved(elf::SHN_COMMON.0), bind, kind);
        (symbol.st_value, symbol.st_size) = (8, size);
        self.file.symbols.push(symbol);
        self
    }

    /// Declares what may be nowhere.
    pub fn weak(mut self, name: &str) -> Unit {
        let (bind, kind) = (elf::STB_WEAK.0, elf::STT_NOTYPE.0);
        self.file
            .symbols
            .push(Symbol::new(name, Place::Reserved(0), bind, kind));
        self
    }

    /// Gives a symbol another binding.
    pub fn rebound(mut self, name: &str, bind: elf::SymbolBind) -> Unit {
        let symbol = self.file.symbols.iter_mut().find(|symbol| symbol.name == name);
        let symbol = symbol.expect("it was added before");
        symbol.st_info = bind.0 << 4 | symbol.st_info & 0xf;
        self
    }

    /// Makes a section ask for an alignment.
    pub fn aligned(mut self, section: &str, align: u64) -> Unit {
        let section = self.section(section);
        self.file.sections[section].sh_addralign = align;
        self
    }

    /// Makes a section have one more flag.
    pub fn flagged(mut self, section: &str, flag: elf::SectionFlags) -> Unit {
        let section = self.section(section);
        self.file.sections[section].sh_flags |= flag.0;
        self
    }

    /// Adds a static variable.
    pub fn local(self, section: &str, name: &str, parts: &[Part]) -> Unit {
        self.variable(section, name, elf::STB_LOCAL.0, parts)
    }

    fn variable(mut self, section: &str, name: &str, bind: u8, parts: &[Part]) -> Unit {
        let section = self.section(section);
        let start = self.file.sections[section].size.next_multiple_of(8);
        self.pad(section, start, 0);
        parts.iter().for_each(|part| self.append(section, part));
        let size = self.file.sections[section].size - start;
        self.symbol(name, section, bind, elf::STT_OBJECT.0, start, size);
        self
    }

    /// Names the end of a section, as a label in assembly does.
    pub fn sizeless(mut self, section: &str, name: &str) -> Unit {
        let section = self.section(section);
        let (bind, kind, value) = (elf::STB_LOCAL.0, elf::STT_NOTYPE.0, self.file.sections[section].size);
        self.symbol(name, section, bind, kind, value, 0);
        self
    }

    /// Adds strings to a string section; each is its own label.
    pub fn strings(mut self, strings: &[&str]) -> Unit {
        let section = self.section(".rodata.str1.1");
        for string in strings {
            self.append(section, &super::code::label(string));
            self.append(section, &super::code::raw(&[string.as_bytes(), &[0]].concat()));
        }
        self
    }

    /// Adds bytes without a symbol: an entry of a special section, a constant.
    pub fn bytes(mut self, section: &str, parts: &[Part]) -> Unit {
        let section = self.section(section);
        parts.iter().for_each(|part| self.append(section, part));
        self
    }

    /// Gives a place a label.
    pub fn labelled(mut self, label: &str, section: &str, offset: u64) -> Unit {
        let section = self.section(section);
        self.labels.insert(label.to_owned(), (section, offset));
        self
    }

    fn section(&mut self, name: &str) -> usize {
        if let Some(index) = self.file.sections.iter().position(|section| section.name == name) {
            return index;
        }
        let (sh_type, sh_flags, sh_addralign) = shape(name);
        self.file.sections.push(Section {
            name: name.to_owned(),
            sh_type,
            sh_flags,
            sh_addralign,
            sh_entsize: entry_size(name),
            ..Section::default()
        });
        self.file.sections.len() - 1
    }

    fn pad(&mut self, section: usize, to: u64, filler: u8) {
        let section = &mut self.file.sections[section];
        if section.sh_type != elf::SHT_NOBITS.0 {
            section.data.resize(to as usize, filler);
        }
        section.size = to;
    }

    fn append(&mut self, index: usize, part: &Part) {
        let section = &mut self.file.sections[index];
        let at = section.size;
        if section.sh_type != elf::SHT_NOBITS.0 {
            section.data.extend(&part.bytes);
        }
        section.size += part.bytes.len() as u64;
        if let Some(label) = &part.label {
            self.labels.insert(label.clone(), (index, at));
        }
        if let Some(field) = &part.field {
            self.fields.push((index, at + field.at, field.clone()));
        }
    }

    fn symbol(&mut self, name: &str, section: usize, bind: u8, kind: u8, value: u64, size: u64) {
        let mut symbol = Symbol::new(name, Place::Section(section), bind, kind);
        (symbol.st_value, symbol.st_size) = (value, size);
        self.file.symbols.push(symbol);
    }

    /// The finished file.
    pub fn file(&self) -> File {
        let mut file = self.file.clone();
        (file.e_machine, file.e_flags) = match self.powerpc {
            true => (elf::EM_PPC64.0, 2),
            false => (elf::EM_X86_64.0, 0),
        };
        order_symbols(&mut file);
        for (section, offset, field) in &self.fields {
            match field.how {
                How::Relocation(r_type) => self.relocate(&mut file, *section, *offset, field, r_type),
                How::Filled(size) => self.fill(&mut file, *section, *offset, field, size),
            }
        }
        file
    }

    fn relocate(&self, file: &mut File, section: usize, offset: u64, field: &Field, r_type: u32) {
        let (symbol, place) = match field.target.strip_prefix('@') {
            Some(label) => {
                let (target, place) = self.labels[label];
                (section_symbol(file, target), place as i64)
            }
            None => (symbol_row(file, &field.target), 0),
        };
        let row = Rela {
            r_offset: offset,
            symbol: Some(symbol),
            r_type,
            r_addend: field.addend + place,
        };
        let section = &mut file.sections[section];
        if section.relas.is_empty() {
            section.relas.push(RelaSection {
                name: format!(".rela{}", section.name),
                ..RelaSection::default()
            });
        }
        section.relas[0].rows.push(row);
    }

    fn fill(&self, file: &mut File, section: usize, offset: u64, field: &Field, size: usize) {
        let target = match field.target.strip_prefix('@') {
            Some(label) => self.labels[label].1,
            None => {
                let row = symbol_row(file, &field.target);
                file.symbols[row].st_value
            }
        };
        let value = target as i64 - offset as i64 + field.addend;
        let start = offset as usize;
        file.sections[section].data[start..start + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    /// The bytes of the finished file.
    pub fn build(&self) -> Vec<u8> {
        self.file().write()
    }
}

/// FILE, section symbols, locals, globals: the order that ELF wants.
fn order_symbols(file: &mut File) {
    let (locals, globals): (Vec<_>, Vec<_>) = std::mem::take(&mut file.symbols)
        .into_iter()
        .partition(Symbol::is_local);
    let (bind, kind) = (elf::STB_LOCAL.0, elf::STT_SECTION.0);
    let sections = (0..file.sections.len()).map(|index| Symbol::new("", Place::Section(index), bind, kind));
    let source = Symbol::new("a.c", Place::Reserved(elf::SHN_ABS.0), bind, elf::STT_FILE.0);
    file.symbols.push(source);
    file.symbols.extend(sections);
    file.symbols.extend(locals);
    file.symbols.extend(globals);
}

/// The FILE symbol comes first, then one symbol for each section.
fn section_symbol(file: &File, section: usize) -> usize {
    let symbol = 1 + section;
    assert_eq!(file.symbols[symbol].place, Place::Section(section));
    symbol
}

/// The symbol of a name; an undefined one is added.
fn symbol_row(file: &mut File, name: &str) -> usize {
    if let Some(row) = file.symbols.iter().position(|symbol| symbol.name == name) {
        return row;
    }
    let (bind, kind) = (elf::STB_GLOBAL.0, elf::STT_NOTYPE.0);
    file.symbols.push(Symbol::new(name, Place::Reserved(0), bind, kind));
    file.symbols.len() - 1
}

/// `sh_entsize` of what can be merged: `.rodata.cst16`, `.rodata.str2.2`.
fn entry_size(name: &str) -> u64 {
    let number = name.strip_prefix(".rodata.cst").or(name.strip_prefix(".rodata.str"));
    let digits = number.map(|number| number.split('.').next().unwrap_or_default());
    digits.map_or(0, |digits| digits.parse().expect("a size"))
}

/// Type, flags and alignment that compilers give a section of this name.
fn shape(name: &str) -> (u32, u64, u64) {
    let starts = |list: &[&str]| list.iter().any(|start| name.starts_with(start));
    let (alloc, write) = (elf::SHF_ALLOC.0, elf::SHF_WRITE.0);
    let bits = elf::SHT_PROGBITS.0;
    if name.starts_with(".rodata.cst") {
        return (bits, alloc | elf::SHF_MERGE.0, entry_size(name));
    }
    if starts(&[
        ".text",
        ".init.text",
        ".sched.text",
        ".noinstr.text",
        ".altinstr_replacement",
        ".altinstr_aux",
        ".fixup",
    ]) {
        (
            bits,
            alloc | elf::SHF_EXECINSTR.0,
            match name {
                ".fixup" => 4,
                _ if name.starts_with(".alt") => 1,
                _ => 16,
            },
        )
    } else if starts(&[".rodata.str"]) {
        (bits, alloc | elf::SHF_MERGE.0 | elf::SHF_STRINGS.0, entry_size(name))
    } else if starts(&[".bss"]) {
        (elf::SHT_NOBITS.0, alloc | write, 8)
    } else if starts(&[
        ".data",
        ".init.data",
        "__jump_table",
        "__dyndbg",
        ".toc",
        ".kpatch",
        ".discard.klp",
    ]) {
        (bits, alloc | write, 8)
    } else if starts(&[".discard."]) {
        (bits, 0, 1)
    } else {
        (bits, alloc, if name.starts_with(".rodata") { 8 } else { 1 })
    }
}
