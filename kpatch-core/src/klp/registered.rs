//! Reads back from a finished module's own tables what it registers with livepatch.
//!
//! include/linux/livepatch.h (4.15 to 7.3): `struct klp_func` begins with old_name, new_func and old_sympos, `struct
//! klp_object` with name, funcs and the four callbacks, each as large as a pointer.

use object::elf;

use crate::arch::{self, Arch};
use crate::elf::{File, Place, Rela, Section};
use crate::group::ObjectName;
use crate::macros::Moment;

/// What a module registers for one object, as its own tables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The image or a module.
    pub object: ObjectName,
    /// Name and position of each function that is redirected.
    pub functions: Vec<(String, u64)>,
    /// When the module is called.
    pub callbacks: Vec<Moment>,
}

/// Everything that a finished module registers; nothing if it has no such tables, as modules that fill them in at run time.
///
/// # Errors
/// A file that is no module for a known machine.
pub fn registered(module: &[u8]) -> Result<Vec<Registered>, String> {
    let file = crate::elf::read(module).map_err(|why| why.to_string())?;
    let arch = arch::for_machine(elf::Machine(file.e_machine)).ok_or("it is for a machine that is not known here")?;
    let pointer = |row: &&Rela| row.r_type == arch.facts().relocs.pointer.0;
    let mut found = Vec::new();
    for section in tables(&file) {
        let rows: Vec<&Rela> = rows(section).filter(pointer).collect();
        found.extend(rows.iter().filter_map(|row| object(&file, &rows, row)));
    }
    Ok(found)
}

/// The `struct klp_object` whose second member this pointer is, if it leads to functions, or to an empty table of an object
/// with callbacks.
fn object(file: &File, rows: &[&Rela], pointer: &Rela) -> Option<Registered> {
    let start = pointer.r_offset.checked_sub(POINTER)?;
    let functions = functions(file, pointer)?;
    let is_called = |place: u64| at(rows, Some(start + POINTER * place)).is_some_and(|row| is_code(file, row));
    let callbacks: Vec<Moment> = (2..)
        .zip(Moment::ALL)
        .filter(|(place, _)| is_called(*place))
        .map(|(_, moment)| moment)
        .collect();
    let object = match at(rows, Some(start)) {
        Some(name) => ObjectName::module(&string(file, name)?),
        None => ObjectName::vmlinux(),
    };
    (!functions.is_empty() || !callbacks.is_empty()).then_some(Registered {
        object,
        functions,
        callbacks,
    })
}

/// The rows of the table of `struct klp_func` that a pointer leads to; `None` if it leads to something else.
fn functions(file: &File, pointer: &Rela) -> Option<Vec<(String, u64)>> {
    if !is_table(file, pointer) {
        return None;
    }
    let symbol = file.symbols.get(pointer.symbol?)?;
    let Place::Section(index) = symbol.place else {
        return None;
    };
    let section = &file.sections[index];
    let start = i64::try_from(symbol.st_value).ok()?.checked_add(pointer.r_addend)?;
    let start = u64::try_from(start).ok()?;
    let end = end_of_table(file, index, start)?;
    let rows: Vec<&Rela> = rows(section).collect();
    let mut found = Vec::new();
    // How large a row is depends on the kernel; a name and code behind it are only where a row begins.
    for row in rows.iter().filter(|row| (start..end).contains(&row.r_offset)) {
        let code = at(&rows, Some(row.r_offset + POINTER)).filter(|code| is_code(file, code));
        let name = string(file, row).filter(|_| is_constant(file, row));
        if let (Some(name), Some(_)) = (name, code) {
            found.push((name, number(file, section, row.r_offset + 2 * POINTER)?));
        } else if row.r_offset == start {
            return None;
        }
    }
    Some(found)
}

/// Where a table ends: with its symbol.
fn end_of_table(file: &File, section: usize, start: u64) -> Option<u64> {
    let mut symbols = file
        .symbols
        .iter()
        .filter(|symbol| symbol.place == Place::Section(section));
    let own = symbols.find(|symbol| symbol.st_value == start && symbol.st_size > 0)?;
    start.checked_add(own.st_size)
}

fn number(file: &File, section: &Section, place: u64) -> Option<u64> {
    let place = usize::try_from(place).ok()?;
    let bytes: [u8; 8] = section.data.get(place..).and_then(|data| data.first_chunk()).copied()?;
    Some(match file.big_endian {
        true => u64::from_be_bytes(bytes),
        false => u64::from_le_bytes(bytes),
    })
}

/// Whether a pointer leads to code.
fn is_code(file: &File, pointer: &Rela) -> bool {
    flags(file, pointer).is_some_and(|flags| flags & elf::SHF_EXECINSTR.0 != 0)
}

/// Whether a pointer leads to data that nobody writes.
fn is_constant(file: &File, pointer: &Rela) -> bool {
    flags(file, pointer).is_some_and(|flags| flags & (elf::SHF_WRITE.0 | elf::SHF_EXECINSTR.0) == 0)
}

/// The flags of the section that a pointer leads into.
fn flags(file: &File, pointer: &Rela) -> Option<u64> {
    match file.symbols.get(pointer.symbol?)?.place {
        Place::Section(index) => Some(file.sections.get(index)?.sh_flags),
        Place::Reserved(_) => None,
    }
}

/// Size of a pointer in bytes.
const POINTER: u64 = 8;

/// The old name and sympos in the row of a new function; `None` unless exactly one row has that function.
pub fn function(module: &File, arch: &dyn Arch, handle: &str) -> Option<(String, u64)> {
    let mut found = Vec::new();
    for section in tables(module) {
        let rows: Vec<&Rela> = rows(section).collect();
        for row in rows.iter().filter(|row| leads_to(module, arch, row, handle)) {
            let name = at(&rows, row.r_offset.checked_sub(POINTER)).and_then(|name| string(module, name));
            found.push(name.zip(number(module, section, row.r_offset + POINTER)));
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
    let wanted = elf::SHF_WRITE.0 | elf::SHF_EXECINSTR.0;
    flags(module, pointer).is_some_and(|flags| flags & wanted == elf::SHF_WRITE.0)
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
