//! Converts a linked module with `.kpatch.*` records into a livepatch: what `create-klp-module` does.
//!
//! The records say which relocations livepatch must apply (see `intermediate/records.rs`). They become `.klp.rela.*`
//! sections and symbols with SHN_LIVEPATCH, and the two tables of records are removed. The list of functions and the
//! strings stay: the module's own code reads them.

use std::collections::BTreeMap;

use object::elf;

use super::symbol_name;
use super::{BAD_MODULE, BAD_NAME, Converted, MAX_OBJECT_NAME, MAX_SYMBOL_NAME, NAME_TOO_LONG, OLD_KERNEL};
use crate::elf::{File, Place, Rela, RelaSection, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH, Symbol};
use crate::error::{Error, Subject};
use crate::group::ObjectName;
use crate::intermediate::records::{RELOCATION_SIZE, RELOCATIONS, STRINGS, SYMBOL_SIZE, SYMBOLS};

/// Records of alternatives that kernels before 5.8 apply late.
const ARCH: &str = ".kpatch.arch";

/// Converts a linked module by its records.
///
/// # Errors
/// [`BAD_MODULE`] if records are missing or damaged; [`BAD_NAME`] or [`NAME_TOO_LONG`] for a name that the kernel cannot
/// read; [`OLD_KERNEL`] for records of alternatives.
pub fn from_records(module: &[u8]) -> Result<Converted, Error> {
    let bad = |why: String| Error::new(BAD_MODULE, Subject::default(), why);
    let mut file = crate::elf::read(module).map_err(bad)?;
    let table = |name: &str, size: u64| Table::find(&file, name, size).map_err(bad);
    let (symbols, relocations) = (table(SYMBOLS, SYMBOL_SIZE)?, table(RELOCATIONS, RELOCATION_SIZE)?);
    if !file.sections.iter().any(|section| section.name == STRINGS) {
        return Err(bad(format!("it has no {STRINGS}")));
    }
    if file
        .sections
        .iter()
        .any(|section| section.name == ARCH && section.size > 0)
    {
        let why = format!("its {ARCH} is for kernels before 5.8");
        return Err(Error::new(OLD_KERNEL, Subject::default(), why));
    }
    if symbols.count != relocations.count {
        return Err(bad(
            "it does not have one symbol record for each relocation record".into()
        ));
    }
    let wanted: Vec<Wanted> = (0..relocations.count)
        .map(|index| Wanted::read(&file, &symbols, &relocations, index).map_err(bad))
        .collect::<Result<_, _>>()?;
    for entry in &wanted {
        entry.check()?;
    }
    // Their binding does not matter: livepatch reads the name only.
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut made = Vec::new();
    for entry in &wanted {
        names.entry(entry.symbol_name()).or_insert_with_key(|name| {
            let mut symbol = Symbol::new(
                name.clone(),
                Place::Reserved(SHN_LIVEPATCH),
                elf::STB_GLOBAL.0,
                entry.kind,
            );
            symbol.st_value = 0;
            made.push(symbol);
            file.symbols.len() + made.len() - 1
        });
    }
    file.symbols.extend(made);
    let mut counts: BTreeMap<ObjectName, usize> = BTreeMap::new();
    for entry in &wanted {
        let symbol = names[&entry.symbol_name()];
        entry.add(&mut file, symbol);
        *counts.entry(entry.gate.clone()).or_default() += 1;
    }
    remove_tables(&mut file).map_err(bad)?;
    Ok(Converted {
        bytes: file.write(),
        relocations: counts,
        symbols: names.len(),
    })
}

/// A table of records; its pointers are relocations.
struct Table {
    section: usize,
    size: u64,
    count: u64,
    pointers: BTreeMap<u64, Rela>,
}

impl Table {
    fn find(file: &File, name: &str, size: u64) -> Result<Table, String> {
        let section = file.sections.iter().position(|section| section.name == name);
        let section = section.ok_or_else(|| format!("it has no {name}"))?;
        let row = &file.sections[section];
        if row.data.len() as u64 != row.size || !row.size.is_multiple_of(size) {
            return Err(format!("{name} is not a whole number of records"));
        }
        let pointers = row
            .relas
            .iter()
            .flat_map(|rela| &rela.rows)
            .map(|row| (row.r_offset, *row));
        Ok(Table {
            section,
            size,
            count: row.size / size,
            pointers: pointers.collect(),
        })
    }

    fn number(&self, file: &File, index: u64, offset: u64, size: usize) -> u64 {
        let from = (index * self.size + offset) as usize;
        let bytes = &file.sections[self.section].data[from..from + size];
        let mut all = [0; 8];
        if file.big_endian {
            all[8 - size..].copy_from_slice(bytes);
            u64::from_be_bytes(all)
        } else {
            all[..size].copy_from_slice(bytes);
            u64::from_le_bytes(all)
        }
    }

    /// Section and offset that a pointer of a record leads to.
    fn pointer(&self, file: &File, index: u64, offset: u64) -> Result<(usize, u64), String> {
        let at = index * self.size + offset;
        let name = &file.sections[self.section].name;
        let missing = || format!("{name} has no pointer at {at:#x}");
        let row = self.pointers.get(&at).ok_or_else(missing)?;
        let symbol = row
            .symbol
            .and_then(|symbol| file.symbols.get(symbol))
            .ok_or_else(missing)?;
        let Place::Section(section) = symbol.place else {
            return Err(format!("the pointer at {at:#x} of {name} leaves the module"));
        };
        let target = symbol.st_value.checked_add_signed(row.r_addend);
        let target = target
            .filter(|target| *target <= file.sections[section].size)
            .ok_or_else(missing)?;
        Ok((section, target))
    }

    fn text(&self, file: &File, index: u64, offset: u64) -> Result<String, String> {
        let (section, at) = self.pointer(file, index, offset)?;
        let bytes = file.sections[section].data.get(at as usize..).unwrap_or(&[]);
        let end = bytes.iter().position(|byte| *byte == 0).ok_or("a string has no end")?;
        String::from_utf8(bytes[..end].to_vec()).map_err(|_| "a name is not text".into())
    }
}

/// One recorded relocation with its symbol.
struct Wanted {
    place: (usize, u64),
    r_type: u32,
    addend: i64,
    gate: ObjectName,
    owner: String,
    name: String,
    sympos: u64,
    kind: u8,
}

impl Wanted {
    fn read(file: &File, symbols: &Table, relocations: &Table, index: u64) -> Result<Wanted, String> {
        let (table, at) = relocations.pointer(file, index, 32)?;
        if table != symbols.section || !at.is_multiple_of(SYMBOL_SIZE) || at / SYMBOL_SIZE >= symbols.count {
            return Err(format!("relocation record {index} names no symbol record"));
        }
        let symbol = at / SYMBOL_SIZE;
        Ok(Wanted {
            place: relocations.pointer(file, index, 0)?,
            r_type: relocations.number(file, index, 8, 4) as u32,
            addend: relocations.number(file, index, 16, 8) as i64,
            gate: ObjectName::module(&relocations.text(file, index, 24)?),
            owner: symbols.text(file, symbol, 32)?,
            name: symbols.text(file, symbol, 24)?,
            sympos: symbols.number(file, symbol, 8, 8),
            kind: symbols.number(file, symbol, 17, 1) as u8 & 0xf,
        })
    }

    /// kernel/livepatch/core.c, `klp_resolve_symbols`: the scan format takes names of limited length, an object's name up
    /// to the first dot and a symbol's up to the first comma.
    fn check(&self) -> Result<(), Error> {
        let bad = |why: String| Error::new(BAD_NAME, Subject::default().symbol(&self.name), why);
        for object in [self.gate.as_str(), &self.owner] {
            if object.is_empty() || object.len() > MAX_OBJECT_NAME || object.contains('.') {
                return Err(bad(format!("the kernel cannot read the object name `{object}`")));
            }
        }
        if self.name.len() > MAX_SYMBOL_NAME {
            let why = "the kernel reads no symbol name as long as this";
            return Err(Error::new(NAME_TOO_LONG, Subject::default().symbol(&self.name), why));
        }
        if self.name.is_empty() || self.name.contains(',') {
            return Err(bad("the kernel cannot read a symbol name like this".into()));
        }
        Ok(())
    }

    fn symbol_name(&self) -> String {
        symbol_name::name(&self.owner, &self.name, self.sympos)
    }

    fn add(&self, file: &mut File, symbol: usize) {
        let section = &mut file.sections[self.place.0];
        let name = format!(".klp.rela.{}.{}", self.gate, section.name);
        let found = section.relas.iter().position(|rela| rela.name == name);
        let index = found.unwrap_or_else(|| {
            section.relas.push(RelaSection {
                name,
                sh_flags: elf::SHF_ALLOC.0 | SHF_RELA_LIVEPATCH,
                rows: Vec::new(),
            });
            section.relas.len() - 1
        });
        section.relas[index].rows.push(Rela {
            r_offset: self.place.1,
            symbol: Some(symbol),
            r_type: self.r_type,
            r_addend: self.addend,
        });
    }
}

/// Removes the tables of records. Their relocations go first, since they name sections of the module and each other.
fn remove_tables(file: &mut File) -> Result<(), String> {
    for name in [SYMBOLS, RELOCATIONS] {
        let section = file.sections.iter_mut().find(|section| section.name == name);
        let section = section.ok_or("a table of records went away")?;
        section.relas.clear();
    }
    let kept = file.remove_sections(|name| name == SYMBOLS || name == RELOCATIONS);
    match kept.first() {
        Some(name) => Err(format!("{name} cannot be dropped: something refers to it")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::Section;
    use crate::intermediate::records::{self, Relocation, Writer};

    fn module(name: &str) -> Vec<u8> {
        let mut file = File {
            e_machine: elf::EM_X86_64.0,
            ..File::default()
        };
        file.sections.push(Section {
            name: ".text.f".into(),
            sh_type: elf::SHT_PROGBITS.0,
            data: vec![0; 16],
            size: 16,
            ..Section::default()
        });
        let relocation = |at| Relocation {
            place: (0, at),
            r_type: elf::R_X86_64_PLT32.0,
            addend: -4,
            external: false,
            object: "vmlinux".into(),
            symbol: records::Wanted {
                address: 0,
                sympos: 2,
                bind: 0,
                kind: elf::STT_FUNC.0,
                name: name.into(),
                owner: "vmlinux".into(),
            },
        };
        let writer = Writer::new(&mut file, elf::R_X86_64_64.0);
        writer.write("vmlinux", &[], &[relocation(1), relocation(8)]);
        file.write()
    }

    #[test]
    fn records_become_livepatch_relocations() {
        let converted = from_records(&module("hidden")).expect("well-formed");
        let file = crate::elf::read(&converted.bytes).expect("our own file");
        let names: Vec<_> = file.sections.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, [".text.f", STRINGS, records::FUNCS]);
        let rela = &file.sections[0].relas[0];
        assert_eq!(rela.name, ".klp.rela.vmlinux..text.f");
        assert_eq!(rela.rows.iter().map(|row| row.r_offset).collect::<Vec<_>>(), [1, 8]);
        let symbol = &file.symbols[rela.rows[0].symbol.expect("a symbol")];
        assert_eq!(
            (symbol.name.as_str(), symbol.place),
            (".klp.sym.vmlinux.hidden,2", Place::Reserved(SHN_LIVEPATCH))
        );
        assert_eq!(converted.symbols, 1);
    }

    #[test]
    fn names_of_any_length_that_the_kernel_reads() {
        assert!(from_records(&module(&"x".repeat(MAX_SYMBOL_NAME))).is_ok());
        let error = from_records(&module(&"x".repeat(MAX_SYMBOL_NAME + 1))).expect_err("too long");
        assert_eq!(error.code, NAME_TOO_LONG);
    }

    #[test]
    fn records_for_old_kernels_are_refused() {
        let mut file = crate::elf::read(&module("hidden")).expect("our own file");
        file.sections.push(Section {
            name: ARCH.into(),
            sh_type: elf::SHT_PROGBITS.0,
            data: vec![0; 16],
            size: 16,
            ..Section::default()
        });
        assert_eq!(
            from_records(&file.write()).expect_err("records of alternatives").code,
            OLD_KERNEL
        );
    }

    #[test]
    fn a_module_without_records_is_an_error() {
        let file = File {
            e_machine: elf::EM_X86_64.0,
            ..File::default()
        };
        assert_eq!(from_records(&file.write()).expect_err("no records").code, BAD_MODULE);
    }
}
