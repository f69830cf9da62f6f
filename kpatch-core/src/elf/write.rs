//! Rows to bytes. The order of everything is the order of the rows, so equal rows give equal bytes.

use object::Endianness;
use object::elf;
use object::write::elf::{FileHeader, Rel, SectionHeader, SectionIndex, Sym, SymbolIndex, Writer};

use super::{File, Place};

pub fn write(file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let endian = if file.big_endian {
        Endianness::Big
    } else {
        Endianness::Little
    };
    let mut writer = Writer::new(endian, true, &mut bytes);
    let layout = reserve(file, &mut writer);
    emit(file, &mut writer, &layout).expect("a vector grows as far as memory goes");
    bytes
}

struct Layout {
    sections: Vec<SectionIndex>,
    section_names: Vec<object::write::StringId>,
    rela_names: Vec<Vec<object::write::StringId>>,
    offsets: Vec<u64>,
    rela_offsets: Vec<Vec<u64>>,
    symbols: Vec<(SymbolIndex, Option<object::write::StringId>)>,
}

fn reserve<'a>(file: &'a File, writer: &mut Writer<'a>) -> Layout {
    writer.reserve_file_header();
    writer.reserve_null_section_index();
    let mut layout = Layout {
        sections: Vec::new(),
        section_names: Vec::new(),
        rela_names: Vec::new(),
        offsets: Vec::new(),
        rela_offsets: Vec::new(),
        symbols: Vec::new(),
    };
    for section in &file.sections {
        layout
            .section_names
            .push(writer.add_section_name(section.name.as_bytes()));
        layout.sections.push(writer.reserve_section_index());
        let mut names = Vec::new();
        for rela in &section.relas {
            names.push(writer.add_section_name(rela.name.as_bytes()));
            writer.reserve_section_index();
        }
        layout.rela_names.push(names);
    }
    writer.reserve_null_symbol_index();
    for symbol in &file.symbols {
        let section = match symbol.place {
            Place::Section(index) => Some(layout.sections[index]),
            Place::Reserved(_) => None,
        };
        let name = (!symbol.name.is_empty()).then(|| writer.add_string(symbol.name.as_bytes()));
        layout.symbols.push((writer.reserve_symbol_index(section), name));
    }
    writer.reserve_symtab_section_index();
    if writer.symtab_shndx_needed() {
        writer.reserve_symtab_shndx_section_index();
    }
    writer.reserve_strtab_section_index();
    writer.reserve_shstrtab_section_index();
    for section in &file.sections {
        layout
            .offsets
            .push(writer.reserve(section.data.len() as u64, section.sh_addralign.max(1)));
        let offsets = section
            .relas
            .iter()
            .map(|rela| writer.reserve(rela.rows.len() as u64 * 24, 8))
            .collect();
        layout.rela_offsets.push(offsets);
    }
    writer.reserve_symtab();
    writer.reserve_symtab_shndx();
    writer.reserve_strtab().expect("the string table is shorter than 4 GiB");
    writer
        .reserve_shstrtab()
        .expect("the string table is shorter than 4 GiB");
    writer.reserve_section_headers();
    layout
}

fn emit(file: &File, writer: &mut Writer<'_>, layout: &Layout) -> object::write::Result<()> {
    writer.write_file_header(&FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        e_type: elf::ET_REL,
        e_machine: elf::Machine(file.e_machine),
        e_entry: 0,
        e_flags: elf::FileFlags(file.e_flags),
    })?;
    for (index, section) in file.sections.iter().enumerate() {
        writer.pad_until(layout.offsets[index]);
        writer.write(&section.data);
        for (rela, offset) in section.relas.iter().zip(&layout.rela_offsets[index]) {
            writer.pad_until(*offset);
            for row in &rela.rows {
                writer.write_relocation(
                    true,
                    &Rel {
                        r_offset: row.r_offset,
                        r_sym: row.symbol.map_or(0, |symbol| layout.symbols[symbol].0.0),
                        r_type: elf::RelocationType(row.r_type),
                        r_addend: row.r_addend,
                    },
                );
            }
        }
    }
    write_symbols(file, writer, layout);
    writer.write_strtab();
    writer.write_shstrtab();
    write_headers(file, writer, layout);
    Ok(())
}

fn write_symbols(file: &File, writer: &mut Writer<'_>, layout: &Layout) {
    writer.write_null_symbol();
    for (symbol, (_, name)) in file.symbols.iter().zip(&layout.symbols) {
        let (section, st_shndx) = match symbol.place {
            Place::Section(index) => (Some(layout.sections[index].0), 0),
            Place::Reserved(st_shndx) => (None, st_shndx),
        };
        writer.write_symbol(&Sym {
            section,
            st_name: writer.string_offset(*name),
            st_info: elf::SymbolInfo(symbol.st_info),
            st_other: elf::SymbolOther(symbol.st_other),
            st_shndx: elf::SymbolSection(st_shndx),
            st_value: symbol.st_value,
            st_size: symbol.st_size,
        });
    }
    writer.write_symtab_shndx();
}

fn write_headers(file: &File, writer: &mut Writer<'_>, layout: &Layout) {
    let symtab = writer.symtab_index();
    writer.write_null_section_header();
    for (index, section) in file.sections.iter().enumerate() {
        writer.write_section_header(&SectionHeader {
            sh_name: writer.section_name_offset(Some(layout.section_names[index])),
            sh_type: elf::SectionType(section.sh_type),
            sh_flags: elf::SectionFlags(section.sh_flags),
            sh_addr: 0,
            sh_offset: layout.offsets[index],
            sh_size: section.size,
            sh_link: section.sh_link.map_or(0, |link| layout.sections[link].0),
            sh_info: 0,
            sh_addralign: section.sh_addralign,
            sh_entsize: section.sh_entsize,
        });
        for (rela, (name, offset)) in section
            .relas
            .iter()
            .zip(layout.rela_names[index].iter().zip(&layout.rela_offsets[index]))
        {
            writer.write_section_header(&SectionHeader {
                sh_name: writer.section_name_offset(Some(*name)),
                sh_type: elf::SHT_RELA,
                sh_flags: elf::SectionFlags(rela.sh_flags | elf::SHF_INFO_LINK.0),
                sh_addr: 0,
                sh_offset: *offset,
                sh_size: rela.rows.len() as u64 * 24,
                sh_link: symtab.0,
                sh_info: layout.sections[index].0,
                sh_addralign: 8,
                sh_entsize: 24,
            });
        }
    }
    let locals = file.symbols.iter().filter(|symbol| symbol.is_local()).count() as u32 + 1;
    writer.write_symtab_section_header(locals);
    writer.write_symtab_shndx_section_header();
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
}
