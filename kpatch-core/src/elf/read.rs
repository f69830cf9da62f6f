//! Bytes to rows, for files that are changed and written again. The input is hostile until proven otherwise.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::collections::BTreeMap;

use object::elf::{self, FileHeader64, SectionHeader64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, SectionTable, Sym as _, SymbolTable};
use object::{Endianness, SectionIndex};

use super::{File, Place, Rela, RelaSection, Section, Symbol, is_alignment};

/// Eight times what the kernel reads of a symbol's name.
const MAX_NAME: usize = 4096;

type Header = FileHeader64<Endianness>;

/// Reads a relocatable file. The error text does not name the file: the caller knows it.
///
/// # Errors
/// What is wrong with the file.
pub fn read(bytes: &[u8]) -> Result<File, String> {
    let header = Header::parse(bytes).map_err(text)?;
    let endian = header.endian().map_err(text)?;
    let table = header.sections(endian, bytes).map_err(text)?;
    let symtab = table.symbols(endian, bytes, elf::SHT_SYMTAB).map_err(text)?;
    let names = header.section_strings_index(endian, bytes).map_err(text)?;
    let mut reader = Reader {
        bytes,
        endian,
        table: &table,
        index_of: BTreeMap::new(),
        covered: 0,
        file: File {
            e_machine: header.e_machine(endian).0,
            e_flags: header.e_flags(endian).0,
            big_endian: endian == Endianness::Big,
            ..File::default()
        },
    };
    reader.sections([symtab.string_section(), names])?;
    reader.symbols(&symtab)?;
    for section in table.iter() {
        reader.relocations(section)?;
    }
    Ok(reader.file)
}

/// A name as a string. Names may share bytes in the string table, so their length is limited.
fn owned(name: &[u8]) -> Result<String, String> {
    if name.len() > MAX_NAME {
        return Err(format!("a name is longer than {MAX_NAME} bytes"));
    }
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn text(error: object::read::Error) -> String {
    error.to_string()
}

struct Reader<'d, 't> {
    bytes: &'d [u8],
    endian: Endianness,
    table: &'t SectionTable<'d, Header>,
    /// For each section of the file that is carried over, its row.
    index_of: BTreeMap<usize, usize>,
    file: File,
    /// How many bytes of the file the sections seen so far take.
    covered: usize,
}

impl<'d> Reader<'d, '_> {
    /// Counts the bytes of the sections. A file whose sections overlap could otherwise take far more memory than its
    /// size.
    fn cover(&mut self, len: usize) -> Result<(), String> {
        self.covered = self.covered.saturating_add(len);
        if self.covered > self.bytes.len() {
            return Err("its sections overlap".into());
        }
        Ok(())
    }

    fn name(&self, section: &'d SectionHeader64<Endianness>) -> Result<String, String> {
        let name = self.table.section_name(self.endian, section).map_err(text)?;
        owned(name)
    }

    fn sections(&mut self, strings: [SectionIndex; 2]) -> Result<(), String> {
        let linked = [elf::SHT_NULL, elf::SHT_SYMTAB, elf::SHT_RELA, elf::SHT_SYMTAB_SHNDX];
        let endian = self.endian;
        let mut links = Vec::new();
        for (index, section) in self.table.enumerate() {
            if linked.contains(&section.sh_type(endian)) || strings.contains(&index) {
                continue;
            }
            let data = section.data(endian, self.bytes).map_err(text)?;
            self.cover(data.len())?;
            if !is_alignment(section.sh_addralign(endian)) {
                return Err("a section has an impossible alignment".into());
            }
            self.index_of.insert(index.0, self.file.sections.len());
            links.push(section.sh_link(endian) as usize);
            self.file.sections.push(Section {
                name: self.name(section)?,
                sh_type: section.sh_type(endian).0,
                sh_flags: section.sh_flags(endian).0,
                sh_addralign: section.sh_addralign(endian),
                sh_entsize: section.sh_entsize(endian),
                sh_link: None,
                data: data.to_vec(),
                size: section.sh_size(endian),
                relas: Vec::new(),
            });
        }
        for (section, link) in self.file.sections.iter_mut().zip(links) {
            section.sh_link = self.index_of.get(&link).copied();
        }
        Ok(())
    }

    fn symbols(&mut self, symtab: &SymbolTable<'d, Header>) -> Result<(), String> {
        let endian = self.endian;
        for (index, symbol) in symtab.enumerate().skip(1) {
            let section = symtab.symbol_section(endian, symbol, index).map_err(text)?;
            let place = match section {
                None => Place::Reserved(symbol.st_shndx(endian).0),
                Some(section) => {
                    let row = self.index_of.get(&section.0).copied();
                    let why = || format!("symbol {} lies in a section that is not carried over", index.0);
                    Place::Section(row.ok_or_else(why)?)
                }
            };
            let name = symtab.symbol_name(endian, symbol).map_err(text)?;
            self.file.symbols.push(Symbol {
                name: owned(name)?,
                place,
                st_info: symbol.st_info().0,
                st_other: symbol.st_other().0,
                st_value: symbol.st_value(endian),
                st_size: symbol.st_size(endian),
            });
        }
        Ok(())
    }

    fn relocations(&mut self, section: &'d SectionHeader64<Endianness>) -> Result<(), String> {
        let endian = self.endian;
        let Some((rows, _)) = section.rela(endian, self.bytes).map_err(text)? else {
            return Ok(());
        };
        self.cover(rows.len() * 24)?;
        let row = self.index_of.get(&section.info_link(endian).0).copied();
        let name = self.name(section)?;
        let rows = rows.iter().map(|row| Rela {
            r_offset: row.r_offset(endian),
            symbol: row.symbol(endian, false).and_then(|symbol| symbol.0.checked_sub(1)),
            r_type: row.r_type(endian, false).0,
            r_addend: row.r_addend(endian),
        });
        let rows: Vec<Rela> = rows.collect();
        let missing = |row: &Rela| row.symbol.is_some_and(|symbol| symbol >= self.file.symbols.len());
        if rows.iter().any(missing) {
            return Err("a relocation names a symbol that does not exist".into());
        }
        let target = row.and_then(|row| self.file.sections.get_mut(row));
        let target = target.ok_or("a relocation section applies to no section that is carried over")?;
        target.relas.push(RelaSection {
            name,
            sh_flags: section.sh_flags(endian).0,
            rows,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut file = File {
            e_machine: elf::EM_X86_64.0,
            ..File::default()
        };
        let rows = vec![Rela {
            r_offset: 1,
            symbol: Some(1),
            r_type: 4,
            r_addend: -4,
        }];
        let relas = vec![RelaSection {
            name: ".rela.text.f".into(),
            sh_flags: elf::SHF_INFO_LINK.0,
            rows,
        }];
        file.sections.push(Section {
            name: ".text.f".into(),
            sh_type: elf::SHT_PROGBITS.0,
            sh_flags: elf::SHF_ALLOC.0,
            sh_addralign: 16,
            data: vec![0xe8, 0, 0, 0, 0],
            size: 5,
            relas,
            ..Section::default()
        });
        file.symbols.push(Symbol::new("f", Place::Section(0), 0, 2));
        file.symbols.push(Symbol::new("g", Place::Reserved(0), 1, 0));
        let again = read(&file.write()).expect("our own file");
        assert_eq!(again.symbols, file.symbols);
        assert_eq!(again.sections[0].relas[0].rows, file.sections[0].relas[0].rows);
        assert_eq!(again.sections[0].data, file.sections[0].data);
    }

    #[test]
    fn cut_off_files_are_errors() {
        let file = File {
            e_machine: elf::EM_X86_64.0,
            ..File::default()
        };
        let bytes = file.write();
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
