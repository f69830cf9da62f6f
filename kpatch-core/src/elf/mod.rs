//! Relocatable files as plain rows, read from bytes and written back.
//!
//! `object::build::elf` could do this, but it rejects section types that are common here (SHT_LLVM_ADDRSIG, SHT_GROUP)
//! and does not know the two livepatch constants.

mod alike;
mod read;
mod write;

pub use read::read;

/// Symbols that livepatch resolves: include/uapi/linux/elf.h, SHN_LIVEPATCH.
pub const SHN_LIVEPATCH: u16 = 0xff20;
/// Relocation sections that livepatch applies: include/uapi/linux/elf.h, SHF_RELA_LIVEPATCH.
pub const SHF_RELA_LIVEPATCH: u64 = 0x0010_0000;

/// A huge page, which is the largest alignment in the kernel.
const MAX_ALIGN: u64 = 2 << 20;

/// Whether an object of the kernel can have this alignment. A larger one could only exhaust memory.
pub(crate) fn is_alignment(sh_addralign: u64) -> bool {
    sh_addralign == 0 || sh_addralign.is_power_of_two() && sh_addralign <= MAX_ALIGN
}

/// A relocatable file (ET_REL, ELFCLASS64) as rows.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// `e_machine`: the processor (EM_*).
    pub e_machine: u16,
    /// `e_flags`, as the machine's ABI defines them.
    pub e_flags: u32,
    /// Whether numbers are big endian.
    pub big_endian: bool,
    /// Sections other than symbol tables, string tables and relocations; the null section is not among them.
    pub sections: Vec<Section>,
    /// Symbols, locals first; the null symbol is not among them.
    pub symbols: Vec<Symbol>,
}

/// A section with its relocations.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Name, from the section header string table.
    pub name: String,
    /// `sh_type`: what the section holds (SHT_*).
    pub sh_type: u32,
    /// `sh_flags`: how it is loaded (SHF_*).
    pub sh_flags: u64,
    /// `sh_addralign` in bytes; 0 and 1 mean no alignment.
    pub sh_addralign: u64,
    /// `sh_entsize` in bytes; 0 if the section has no entries of one size.
    pub sh_entsize: u64,
    /// The section that `sh_link` names.
    pub sh_link: Option<usize>,
    /// The bytes; empty for SHT_NOBITS.
    pub data: Vec<u8>,
    /// `sh_size` in bytes; more than `data` for SHT_NOBITS.
    pub size: u64,
    /// The SHT_RELA sections that apply to it.
    pub relas: Vec<RelaSection>,
}

/// The relocations of a section: one SHT_RELA section.
#[derive(Debug, Clone, Default)]
pub struct RelaSection {
    /// Name, e.g. `.rela.text`.
    pub name: String,
    /// `sh_flags`; SHF_INFO_LINK is added when it is written.
    pub sh_flags: u64,
    /// Relocations, in file order.
    pub rows: Vec<Rela>,
}

/// One relocation with an explicit addend (`Elf64_Rela`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rela {
    /// `r_offset`: place in the section.
    pub r_offset: u64,
    /// The symbol; `None`: the null symbol.
    pub symbol: Option<usize>,
    /// Type of the relocation (R_*), the machine's.
    pub r_type: u32,
    /// `r_addend`: a constant that is added to the symbol's value.
    pub r_addend: i64,
}

/// Where a symbol is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a section of the file.
    Section(usize),
    /// A reserved `st_shndx`: SHN_UNDEF, SHN_ABS, SHN_LIVEPATCH.
    Reserved(u16),
}

/// One symbol of the symbol table (`Elf64_Sym`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Name; empty for a section symbol.
    pub name: String,
    /// Where it is defined.
    pub place: Place,
    /// `st_info`: binding in the upper four bits, type in the lower four.
    pub st_info: u8,
    /// `st_other`: visibility in the lower two bits, the rest is the machine's.
    pub st_other: u8,
    /// `st_value`: offset in the section in bytes.
    pub st_value: u64,
    /// `st_size` in bytes; 0 if it is not known.
    pub st_size: u64,
}

impl Symbol {
    /// A symbol; `st_info` is put together from binding and type.
    pub fn new(name: impl Into<String>, place: Place, bind: u8, st_type: u8) -> Self {
        let st_info = (bind << 4) | (st_type & 0xf);
        Symbol {
            name: name.into(),
            place,
            st_info,
            st_other: 0,
            st_value: 0,
            st_size: 0,
        }
    }

    /// Whether the binding is STB_LOCAL.
    pub fn is_local(&self) -> bool {
        self.st_info >> 4 == object::elf::STB_LOCAL.0
    }

    /// Whether the type is STT_SECTION.
    pub fn is_section(&self) -> bool {
        self.st_info & 0xf == object::elf::STT_SECTION.0
    }
}

impl File {
    /// Removes sections with their relocations and section symbols. A section stays if another symbol, an `sh_link` or
    /// a relocation of another section names it; the result lists the names of those that stayed.
    pub fn remove_sections(&mut self, unwanted: impl Fn(&str) -> bool) -> Vec<String> {
        let named = |index: usize| {
            let symbol = |symbol: &Symbol| symbol.place == Place::Section(index) && !symbol.is_section();
            self.symbols.iter().any(symbol)
                || self.sections.iter().any(|section| section.sh_link == Some(index))
                || self.is_relocated_against(index)
        };
        let wanted: Vec<bool> = self
            .sections
            .iter()
            .enumerate()
            .map(|(index, s)| !unwanted(&s.name) || named(index))
            .collect();
        let kept_unwanted = self
            .sections
            .iter()
            .zip(&wanted)
            .filter(|(s, wanted)| **wanted && unwanted(&s.name));
        let refused = kept_unwanted.map(|(section, _)| section.name.clone()).collect();
        let new_index: Vec<usize> = wanted
            .iter()
            .scan(0, |next, wanted| {
                let index = *next;
                *next += usize::from(*wanted);
                Some(index)
            })
            .collect();
        let mut keep = wanted.iter();
        self.sections.retain(|_| keep.next().copied().unwrap_or(true));
        for section in &mut self.sections {
            section.sh_link = section.sh_link.map(|link| new_index[link]);
        }
        self.retain_symbols(|_, symbol| !matches!(symbol.place, Place::Section(index) if !wanted[index]));
        for symbol in &mut self.symbols {
            if let Place::Section(index) = symbol.place {
                symbol.place = Place::Section(new_index[index]);
            }
        }
        refused
    }

    /// Whether a relocation of another section names a symbol of a section.
    fn is_relocated_against(&self, target: usize) -> bool {
        let others = self.sections.iter().enumerate().filter(|(index, _)| *index != target);
        let rows = others.flat_map(|(_, section)| section.relas.iter().flat_map(|rela| &rela.rows));
        let places = rows.filter_map(|row| self.symbols.get(row.symbol?).map(|symbol| symbol.place));
        places.into_iter().any(|place| place == Place::Section(target))
    }

    /// Removes symbols and renumbers relocations. A relocation against a removed symbol would be lost, so the caller
    /// must keep every symbol that a relocation names.
    pub fn retain_symbols(&mut self, keep: impl Fn(usize, &Symbol) -> bool) {
        let mut new_index = Vec::with_capacity(self.symbols.len());
        let mut kept = Vec::with_capacity(self.symbols.len());
        for (index, symbol) in std::mem::take(&mut self.symbols).into_iter().enumerate() {
            new_index.push(kept.len());
            if keep(index, &symbol) {
                kept.push(symbol);
            }
        }
        self.symbols = kept;
        for section in &mut self.sections {
            for row in section.relas.iter_mut().flat_map(|rela| &mut rela.rows) {
                row.symbol = row.symbol.map(|symbol| new_index[symbol]);
            }
        }
    }

    /// The bytes of the file.
    ///
    /// # Panics
    /// If a relocation or symbol names a row that does not exist: that is a defect of the caller.
    pub fn write(&self) -> Vec<u8> {
        write::write(self)
    }
}
