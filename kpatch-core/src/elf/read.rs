//! Bytes to rows, for files that are changed and written again.

use std::collections::BTreeMap;

use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, Sym as _};
use object::{Endianness, SectionIndex};

use super::{File, Place, Rela, RelaSection, Section, Symbol};

type Header = FileHeader64<Endianness>;

/// Reads a relocatable file. The text of the error has no position: the caller knows the file.
///
/// # Errors
/// What is wrong with the file.
pub fn read(bytes: &[u8]) -> Result<File, String> {
    parse(bytes).map_err(|error| error.to_string())?
}

fn parse(bytes: &[u8]) -> object::read::Result<Result<File, String>> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let table = header.sections(endian, bytes)?;
    let symtab = table.symbols(endian, bytes, elf::SHT_SYMTAB)?;
    let mut file = File {
        e_machine: header.e_machine(endian).0,
        e_flags: header.e_flags(endian).0,
        big_endian: endian == Endianness::Big,
        ..File::default()
    };
    let linked = [elf::SHT_NULL, elf::SHT_SYMTAB, elf::SHT_RELA, elf::SHT_SYMTAB_SHNDX];
    let string_tables = [symtab.string_section(), header.section_strings_index(endian, bytes)?];
    let mut index_of: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, section) in table.enumerate() {
        if linked.contains(&section.sh_type(endian)) || string_tables.contains(&index) {
            continue;
        }
        index_of.insert(index.0, file.sections.len());
        file.sections.push(Section {
            name: String::from_utf8_lossy(table.section_name(endian, section)?).into_owned(),
            sh_type: section.sh_type(endian).0,
            sh_flags: section.sh_flags(endian).0,
            sh_addralign: section.sh_addralign(endian),
            sh_entsize: section.sh_entsize(endian),
            sh_link: None,
            data: section.data(endian, bytes)?.to_vec(),
            size: section.sh_size(endian),
            relas: Vec::new(),
        });
    }
    for (index, row) in &index_of {
        let link = table.section(SectionIndex(*index))?.sh_link(endian) as usize;
        file.sections[*row].sh_link = index_of.get(&link).copied();
    }
    for (index, symbol) in symtab.enumerate().skip(1) {
        let section = symtab.symbol_section(endian, symbol, index)?;
        let place = match section {
            None => Place::Reserved(symbol.st_shndx(endian).0),
            Some(section) => match index_of.get(&section.0) {
                Some(row) => Place::Section(*row),
                None => {
                    return Ok(Err(format!(
                        "symbol {} lies in a section that is not carried over",
                        index.0
                    )));
                }
            },
        };
        file.symbols.push(Symbol {
            name: String::from_utf8_lossy(symtab.symbol_name(endian, symbol)?).into_owned(),
            place,
            st_info: symbol.st_info().0,
            st_other: symbol.st_other().0,
            st_value: symbol.st_value(endian),
            st_size: symbol.st_size(endian),
        });
    }
    for section in table.iter() {
        let Some((rows, _)) = section.rela(endian, bytes)? else {
            continue;
        };
        let Some(target) = index_of.get(&section.info_link(endian).0) else {
            return Ok(Err(
                "a relocation section applies to no section that is carried over".into()
            ));
        };
        let rows = rows.iter().map(|row| Rela {
            r_offset: row.r_offset(endian),
            symbol: row.symbol(endian, false).map(|symbol| symbol.0 - 1),
            r_type: row.r_type(endian, false).0,
            r_addend: row.r_addend(endian),
        });
        let rows: Vec<Rela> = rows.collect();
        if rows
            .iter()
            .any(|row| row.symbol.is_some_and(|symbol| symbol >= file.symbols.len()))
        {
            return Ok(Err("a relocation names a symbol that does not exist".into()));
        }
        file.sections[*target].relas.push(RelaSection {
            name: String::from_utf8_lossy(table.section_name(endian, section)?).into_owned(),
            sh_flags: section.sh_flags(endian).0,
            rows,
        });
    }
    Ok(Ok(file))
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
