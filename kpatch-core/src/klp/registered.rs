//! Reads back from a finished module's own tables what it registers with livepatch.
//!
//! include/linux/livepatch.h (4.15 to 7.3): `struct klp_func` begins with old_name, new_func and old_sympos, `struct
//! klp_object` with name, funcs and the four callbacks, each as large as a pointer.

use object::elf;

use crate::arch::Arch;
use crate::elf::{File, Place, Rela, Section};
use crate::group::ObjectName;
use crate::macros::Moment;

/// Size of a pointer in bytes.
const POINTER: u64 = 8;

/// The old name and sympos in the row of a new function; `None` unless exactly one row has that function.
pub fn function(module: &File, arch: &dyn Arch, handle: &str) -> Option<(String, u64)> {
    let mut found = Vec::new();
    for section in tables(module) {
        let rows: Vec<&Rela> = rows(section).collect();
        for row in rows.iter().filter(|row| leads_to(module, arch, row, handle)) {
            let name = at(&rows, row.r_offset.checked_sub(POINTER)).and_then(|name| string(module, name));
            let place = usize::try_from(row.r_offset + POINTER).ok()?;
            let bytes: Option<[u8; 8]> = section.data.get(place..).and_then(|data| data.first_chunk()).copied();
            let number = if module.big_endian {
                u64::from_be_bytes
            } else {
                u64::from_le_bytes
            };
            found.push(name.zip(bytes.map(number)));
        }
    }
    match <[_; 1]>::try_from(found) {
        Ok([one]) => one,
        Err(_) => None,
    }
}

/// When livepatch calls a function of the module: object and moment for each `struct klp_object` that has it as a
/// callback.
pub fn callbacks(module: &File, arch: &dyn Arch, handle: &str) -> Vec<(String, Moment)> {
    let mut found = Vec::new();
    for section in tables(module) {
        let rows: Vec<&Rela> = rows(section).collect();
        for row in rows.iter().filter(|row| leads_to(module, arch, row, handle)) {
            for (place, moment) in (2..).zip(Moment::ALL) {
                let Some(object) = row.r_offset.checked_sub(POINTER * place) else {
                    continue;
                };
                // The second member points to the functions, the others to code or strings.
                if !at(&rows, Some(object + POINTER)).is_some_and(|functions| is_table(module, functions)) {
                    continue;
                }
                let name = match at(&rows, Some(object)) {
                    Some(name) => string(module, name).unwrap_or_default(),
                    None => ObjectName::vmlinux().to_string(),
                };
                found.push((name, moment));
            }
        }
    }
    found
}

/// The writable sections: the module's own tables are in one of them.
fn tables(module: &File) -> impl Iterator<Item = &Section> {
    let writable = |section: &&Section| section.sh_flags & elf::SHF_WRITE.0 != 0;
    module.sections.iter().filter(writable)
}

fn rows(section: &Section) -> impl Iterator<Item = &Rela> {
    section.relas.iter().flat_map(|rela| &rela.rows)
}

fn at<'r>(rows: &[&'r Rela], offset: Option<u64>) -> Option<&'r Rela> {
    rows.iter().find(|row| Some(row.r_offset) == offset).copied()
}

fn leads_to(module: &File, arch: &dyn Arch, row: &Rela, handle: &str) -> bool {
    let symbol = row.symbol.and_then(|symbol| module.symbols.get(symbol));
    row.r_type == arch.facts().relocs.pointer.0
        && row.r_addend == 0
        && symbol.is_some_and(|symbol| symbol.name == handle)
}

/// Whether a pointer leads to data that can be written.
fn is_table(module: &File, pointer: &Rela) -> bool {
    let symbol = pointer.symbol.and_then(|symbol| module.symbols.get(symbol));
    let Some(Place::Section(index)) = symbol.map(|symbol| symbol.place) else {
        return false;
    };
    let flags = module.sections.get(index).map_or(0, |section| section.sh_flags);
    flags & (elf::SHF_WRITE.0 | elf::SHF_EXECINSTR.0) == elf::SHF_WRITE.0
}

/// The string that a relocation leads to.
fn string(module: &File, row: &Rela) -> Option<String> {
    let symbol = module.symbols.get(row.symbol?)?;
    let Place::Section(index) = symbol.place else {
        return None;
    };
    let start = usize::try_from(i64::try_from(symbol.st_value).ok()?.checked_add(row.r_addend)?).ok()?;
    let bytes = module.sections.get(index)?.data.get(start..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}
