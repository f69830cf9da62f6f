//! The ELF file as tables: every index checked, nothing interpreted.

#![deny(clippy::indexing_slicing, clippy::unwrap_used)]

use object::elf::{self, FileHeader64, Machine, Rela64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::{Endianness, SectionIndex, SymbolIndex};

use super::{BAD_ELF, Class, Section, Symbol};
use crate::elf::is_alignment;
use crate::error::{Error, Subject};
use crate::ids::{Id, Sec, Side, Sym, Table};
use crate::names;

/// The tables of a file.
pub struct Raw<'d, S> {
    pub machine: Machine,
    pub e_flags: u32,
    pub sections: Table<S, Sec, Section<'d, S>>,
    pub symbols: Table<S, Sym, Symbol<'d, S>>,
    pub relocs: RawRelocs<'d, S>,
}

/// The relocation sections, left in the file: most apply to sections that nothing reads.
pub struct RawRelocs<'d, S> {
    endian: Endianness,
    rows: Table<S, Sec, Vec<&'d [Rela64<Endianness>]>>,
}

/// A relocation as it stands in the file.
pub struct RawReloc<S> {
    pub offset: u64,
    pub r_type: u32,
    pub symbol: Id<S, Sym>,
    pub addend: i64,
}

impl<S> RawRelocs<'_, S> {
    /// The relocations of a section, ordered by offset. The caller must check that the symbols exist.
    pub fn of(&self, section: Id<S, Sec>) -> Vec<RawReloc<S>> {
        let endian = self.endian;
        let sections = self.rows.get(section).into_iter().flatten();
        let rows = sections.flat_map(|rows| rows.iter());
        let mut relocs: Vec<RawReloc<S>> = rows
            .map(|row| RawReloc {
                offset: row.r_offset(endian),
                r_type: row.r_type(endian, false).0,
                symbol: Id::new(row.symbol(endian, false).unwrap_or(SymbolIndex(0)).0),
                addend: row.r_addend(endian),
            })
            .collect();
        if !relocs.is_sorted_by_key(|reloc| reloc.offset) {
            relocs.sort_by_key(|reloc| reloc.offset);
        }
        relocs
    }
}

/// The small and medium code models end at 2 GiB.
const MAX_SIZE: u64 = 1 << 31;

type Header = FileHeader64<Endianness>;

/// Reads the tables of a relocatable file (ELFCLASS64, SHT_RELA).
pub fn parse<'d, S: Side>(file: &str, bytes: &'d [u8]) -> Result<Raw<'d, S>, Error> {
    let bad = |why: String| Error::new(BAD_ELF, Subject::file(file), why);
    let wrap = |error: object::read::Error| bad(error.to_string());
    let header = Header::parse(bytes).map_err(wrap)?;
    let endian = header.endian().map_err(wrap)?;
    if header.e_type(endian) != elf::ET_REL {
        return Err(bad("not a relocatable object (ET_REL)".into()));
    }
    let table = header.sections(endian, bytes).map_err(wrap)?;
    let symtab = table.symbols(endian, bytes, elf::SHT_SYMTAB).map_err(wrap)?;

    let mut sections = Table::default();
    let mut covered = 0_u64;
    for section in table.iter() {
        covered = covered.saturating_add(section.data(endian, bytes).map_err(wrap)?.len() as u64);
        if covered > bytes.len() as u64 {
            return Err(bad("its sections overlap".into()));
        }
        if section.sh_size(endian) > MAX_SIZE || !is_alignment(section.sh_addralign(endian)) {
            return Err(bad("a section has an impossible size or alignment".into()));
        }
        let name = table.section_name(endian, section).map_err(wrap)?;
        sections.push(Section {
            name: text(name).ok_or_else(|| bad("a section name is not text".into()))?,
            sh_type: section.sh_type(endian).0,
            sh_flags: section.sh_flags(endian).0,
            sh_addralign: section.sh_addralign(endian).max(1),
            sh_entsize: section.sh_entsize(endian),
            sh_size: section.sh_size(endian),
            data: section.data(endian, bytes).map_err(wrap)?,
            class: Class::Ignored,
            special: None,
            relocs: Vec::new(),
            atoms: 0..0,
        });
    }

    let mut symbols = Table::default();
    let in_file = sections.len();
    for (index, symbol) in symtab.enumerate() {
        let section = symtab.symbol_section(endian, symbol, index).map_err(wrap)?;
        if section.is_some_and(|section| section.0 >= in_file) {
            return Err(bad(format!("symbol {} names a section that does not exist", index.0)));
        }
        let name = symtab.symbol_name(endian, symbol).map_err(wrap)?;
        let (section, st_value) = match section {
            None if symbol.st_shndx(endian) == elf::SHN_COMMON => {
                let (size, align) = (symbol.st_size(endian), symbol.st_value(endian));
                if size > MAX_SIZE || !is_alignment(align) {
                    return Err(bad(format!("symbol {} has an impossible size or alignment", index.0)));
                }
                (Some(sections.push(common(size, align))), 0)
            }
            _ => (section.map(|section| Id::new(section.0)), symbol.st_value(endian)),
        };
        let name = text(name).ok_or_else(|| bad(format!("the name of symbol {} is not text", index.0)))?;
        let in_code = section
            .and_then(|id| sections.get(id))
            .is_some_and(|row| row.sh_flags & elf::SHF_EXECINSTR.0 != 0);
        let st_type = symbol.st_type().0;
        symbols.push(Symbol {
            name,
            st_type: if in_code {
                names::type_in_code(name, st_type, symbol.st_size(endian))
            } else {
                st_type
            },
            st_bind: symbol.st_bind().0,
            section,
            absolute: symbol.st_shndx(endian) == elf::SHN_ABS,
            st_value,
            st_size: symbol.st_size(endian),
            st_other: symbol.st_other().0,
        });
    }

    let mut rows_of: Table<S, Sec, Vec<&'d [Rela64<Endianness>]>> = Table::filled(sections.len(), Vec::new());
    for section in table.iter() {
        let Some((rows, link)) = section.rela(endian, bytes).map_err(wrap)? else {
            let target = section.info_link(endian);
            if section.sh_type(endian) == elf::SHT_REL && !is_for_the_linker(&sections, target) {
                return Err(bad("SHT_REL relocations are not used by any supported machine".into()));
            }
            continue;
        };
        let target = section.info_link(endian);
        if target == SectionIndex(0) || target.0 >= in_file || link != symtab.section() {
            return Err(bad(
                "a relocation section names no section or another symbol table".into()
            ));
        }
        if let Some(of_target) = rows_of.get_mut(Id::new(target.0)) {
            of_target.push(rows);
        }
    }
    let relocs = RawRelocs { endian, rows: rows_of };
    let e_flags = header.e_flags(endian).0;
    Ok(Raw {
        machine: header.e_machine(endian),
        e_flags,
        sections,
        symbols,
        relocs,
    })
}

/// Whether the linker reads a section and leaves it out (gABI, `SHF_EXCLUDE`). LLVM's profile of calls is one, and has
/// SHT_REL relocations on every machine (llvm/lib/MC/ELFObjectWriter.cpp, 17 to 22).
fn is_for_the_linker<S: Side>(sections: &Table<S, Sec, Section<'_, S>>, section: SectionIndex) -> bool {
    let row = sections.get(Id::new(section.0));
    row.is_some_and(|row| row.sh_flags & elf::SHF_EXCLUDE.0 != 0)
}

/// The section that the linker makes for a symbol without one (`-fcommon`): what is zero and has no definition elsewhere.
/// `st_value` of such a symbol is its alignment (gABI, chapter 4, "Symbol Table").
fn common<'d, S: Side>(size: u64, align: u64) -> Section<'d, S> {
    Section {
        name: ".bss",
        sh_type: elf::SHT_NOBITS.0,
        sh_flags: elf::SHF_ALLOC.0 | elf::SHF_WRITE.0,
        sh_addralign: align.max(1),
        sh_entsize: 0,
        sh_size: size,
        data: &[],
        class: Class::Ignored,
        special: None,
        relocs: Vec::new(),
        atoms: 0..0,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
