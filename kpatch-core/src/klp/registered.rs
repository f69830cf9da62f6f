//! Reads back from a finished module's own tables what it registers with livepatch.
//!
//! include/linux/livepatch.h (4.15 to 7.3): `struct klp_func` begins with old_name, new_func and old_sympos, `struct
//! klp_object` with name, funcs and the four callbacks, each as large as a pointer, `struct klp_patch` with mod, objs and
//! (since 5.5) states.

use object::elf;

use super::{at_load, code};

use crate::arch::{self, Arch};
use crate::elf::{File, Place, Rela, Section};
use crate::group::ObjectName;
use crate::macros::{Moment, State};

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

/// The callback in modules of this program that looks whether a module is the right build. The author's own is called
/// behind it.
pub const SAME_BUILD: &str = "klp_same_build";

/// A function that a module redirects.
pub(super) struct Redirect {
    pub name: String,
    pub sympos: u64,
    /// Where the new code begins: section and offset.
    pub code: (usize, u64),
}

/// What a module registers for one object, with the new code.
pub(super) struct Rows {
    pub object: ObjectName,
    pub functions: Vec<Redirect>,
    pub callbacks: Vec<Moment>,
}

/// Everything that a finished module registers. Nothing if it has neither the kernel's tables nor records that are known
/// here from which it fills them in.
///
/// # Errors
/// A file that is no module for a known machine.
pub fn registered(module: &[u8]) -> Result<Vec<Registered>, String> {
    let (file, arch) = read(module)?;
    let plain = |rows: Rows| Registered {
        object: rows.object,
        functions: rows.functions.into_iter().map(|one| (one.name, one.sympos)).collect(),
        callbacks: rows.callbacks,
    };
    Ok(all(&file, arch).into_iter().map(plain).collect())
}

/// New code: of which object and function, at which position, and the bytes.
pub type NewCode = (ObjectName, String, u64, Vec<u8>);

/// The new code of each function that a module redirects, by object, name and position: bytes that are the same where the
/// code is, whatever it was linked with.
///
/// # Errors
/// A file that is no module for a known machine.
pub fn new_code(module: &[u8]) -> Result<Vec<NewCode>, String> {
    let (file, arch) = read(module)?;
    let of_object = |rows: Rows| {
        let file = &file;
        let object = rows.object;
        let row = move |one: Redirect| {
            let code = code::of(file, one.code);
            (object.clone(), one.name, one.sympos, code)
        };
        rows.functions.into_iter().map(row)
    };
    Ok(all(&file, arch).into_iter().flat_map(of_object).collect())
}

/// The states that a module's own table declares.
///
/// # Errors
/// A file that is no module for a known machine.
pub fn states(module: &[u8]) -> Result<Vec<State>, String> {
    let (file, arch) = read(module)?;
    let mut found = Vec::new();
    for section in tables(&file) {
        let rows = pointers(section, arch);
        // Others point at the module, too, such as the table of contents of ppc64le: only a livepatch has objects behind that.
        let has_objects = |row: &Rela| {
            at(&rows, Some(row.r_offset + POINTER)).is_some_and(|objects| leads_to_objects(&file, arch, objects))
        };
        let of_module = rows.iter().filter(|row| is_this_module(&file, row) && has_objects(row));
        for states in of_module.filter_map(|row| at(&rows, Some(row.r_offset + 2 * POINTER))) {
            found.extend(states_at(&file, states));
        }
    }
    Ok(found)
}

/// Whether a pointer leads to a list of `struct klp_object`.
fn leads_to_objects(file: &File, arch: &'static dyn Arch, pointer: &Rela) -> bool {
    let Some((index, start)) = place(file, pointer) else {
        return false;
    };
    let rows = pointers(&file.sections[index], arch);
    let functions = at(&rows, start.checked_add(POINTER));
    functions.is_some_and(|functions| object(file, &rows, functions).is_some())
}

/// The rows of a table of states. It ends with a number that is 0.
fn states_at(file: &File, pointer: &Rela) -> Vec<State> {
    /// Bytes of `struct klp_state`: number, version, pointer to data.
    const STATE: u64 = 24;
    let Some((index, start)) = place(file, pointer) else {
        return Vec::new();
    };
    let section = &file.sections[index];
    let row = |index: u64| {
        let start = start.checked_add(index * STATE)?;
        let id = number(file, section, start).filter(|id| *id != 0)?;
        let version = number(file, section, start + 8)?;
        let version = if file.big_endian {
            version >> 32
        } else {
            version & u64::from(u32::MAX)
        };
        Some(State {
            id,
            version: u32::try_from(version).ok()?,
        })
    };
    (0..).map_while(row).collect()
}

fn is_this_module(file: &File, row: &Rela) -> bool {
    let symbol = row.symbol.and_then(|symbol| file.symbols.get(symbol));
    symbol.is_some_and(|symbol| match symbol.place {
        Place::Section(index) => file.sections[index].name == ".gnu.linkonce.this_module",
        Place::Reserved(_) => false,
    })
}

fn read(module: &[u8]) -> Result<(File, &'static dyn Arch), String> {
    let file = crate::elf::read(module).map_err(|why| why.to_string())?;
    let arch = arch::for_machine(elf::Machine(file.e_machine)).ok_or("it is for a machine that is not known here")?;
    Ok((file, arch))
}

fn pointers<'f>(section: &'f Section, arch: &dyn Arch) -> Vec<&'f Rela> {
    let pointer = |row: &&Rela| row.r_type == arch.facts().relocs.pointer.0;
    rows(section).filter(pointer).collect()
}

fn all(file: &File, arch: &dyn Arch) -> Vec<Rows> {
    let mut found = Vec::new();
    for section in tables(file) {
        let rows = pointers(section, arch);
        found.extend(rows.iter().filter_map(|row| object(file, &rows, row)));
    }
    if found.is_empty() { at_load::all(file) } else { found }
}

/// The `struct klp_object` whose second member this pointer is, if it leads to functions, or to an empty table of an object
/// with callbacks.
fn object(file: &File, rows: &[&Rela], pointer: &Rela) -> Option<Rows> {
    let start = pointer.r_offset.checked_sub(POINTER)?;
    let functions = functions(file, pointer)?;
    let object = match at(rows, Some(start)) {
        Some(name) => ObjectName::module(&string(file, name)?),
        None => ObjectName::vmlinux(),
    };
    let called: Vec<(Moment, &Rela)> = (2..)
        .zip(Moment::ALL)
        .filter_map(|(place, moment)| Some((moment, at(rows, Some(start + POINTER * place))?)))
        .filter(|(_, row)| is_code(file, row))
        .collect();
    let is_authors = |row: &Rela| !leads_to(file, row, SAME_BUILD) || is_followed(file, &object);
    let callbacks = called.iter().filter(|(_, row)| is_authors(row));
    let callbacks = callbacks.map(|(moment, _)| *moment).collect();
    (!functions.is_empty() || !called.is_empty()).then_some(Rows {
        object,
        functions,
        callbacks,
    })
}

/// Whether a callback of the author is called behind [`SAME_BUILD`].
fn is_followed(file: &File, object: &ObjectName) -> bool {
    constants(file).any(|section| {
        let rows: Vec<&Rela> = rows(section).collect();
        let code = |row: &&&Rela| is_code(file, row) && at(&rows, row.r_offset.checked_sub(POINTER)).is_some();
        let mut named = rows
            .iter()
            .filter(code)
            .filter_map(|row| at(&rows, row.r_offset.checked_sub(POINTER)));
        named.any(|name| string(file, name).is_some_and(|name| name == object.as_str()))
    })
}

/// The rows of the table of `struct klp_func` that a pointer leads to; `None` if it leads to something else.
fn functions(file: &File, pointer: &Rela) -> Option<Vec<Redirect>> {
    if !is_table(file, pointer) {
        return None;
    }
    let (index, start) = place(file, pointer)?;
    let section = &file.sections[index];
    let end = end_of_table(file, index, start)?;
    let rows: Vec<&Rela> = rows(section).collect();
    let mut found = Vec::new();
    // How large a row is depends on the kernel; a name and code behind it are only where a row begins.
    for row in rows.iter().filter(|row| (start..end).contains(&row.r_offset)) {
        let code = at(&rows, Some(row.r_offset + POINTER)).filter(|code| is_code(file, code));
        let name = string(file, row).filter(|_| is_constant(file, row));
        if let (Some(name), Some(code)) = (name, code) {
            found.push(Redirect {
                name,
                sympos: number(file, section, row.r_offset + 2 * POINTER)?,
                code: place(file, code)?,
            });
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

/// Section and offset that a pointer leads to.
pub(super) fn place(file: &File, pointer: &Rela) -> Option<(usize, u64)> {
    let symbol = file.symbols.get(pointer.symbol?)?;
    match symbol.place {
        Place::Section(index) => Some((index, symbol.st_value.checked_add_signed(pointer.r_addend)?)),
        Place::Reserved(_) => None,
    }
}

pub(super) fn number(file: &File, section: &Section, place: u64) -> Option<u64> {
    let place = usize::try_from(place).ok()?;
    let bytes: [u8; 8] = section.data.get(place..).and_then(|data| data.first_chunk()).copied()?;
    Some(match file.big_endian {
        true => u64::from_be_bytes(bytes),
        false => u64::from_le_bytes(bytes),
    })
}

/// Whether a pointer leads to code.
pub(super) fn is_code(file: &File, pointer: &Rela) -> bool {
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
pub(super) const POINTER: u64 = 8;

/// The old name and sympos in the row of a new function; `None` unless exactly one row has that function.
pub fn function(module: &File, arch: &dyn Arch, handle: &str) -> Option<(String, u64)> {
    let mut found = Vec::new();
    for section in tables(module) {
        let rows = pointers(section, arch);
        for row in rows.iter().filter(|row| leads_to(module, row, handle)) {
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
        let rows = pointers(section, arch);
        for row in rows.iter().filter(|row| leads_to(module, row, handle)) {
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

/// For which objects a function is called behind another callback: the strings in front of the pointers to it in constant
/// data.
pub fn behind(module: &File, arch: &dyn Arch, handle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for section in constants(module) {
        let rows = pointers(section, arch);
        for row in rows.iter().filter(|row| leads_to(module, row, handle)) {
            let name = at(&rows, row.r_offset.checked_sub(POINTER)).and_then(|name| string(module, name));
            found.push(name.unwrap_or_default());
        }
    }
    found
}

/// The writable sections: the module's own tables are in one of them.
fn tables(module: &File) -> impl Iterator<Item = &Section> {
    let writable = |section: &&Section| section.sh_flags & elf::SHF_WRITE.0 != 0;
    module.sections.iter().filter(writable)
}

/// The sections of constant data. Where code is independent of its place, as for ppc64le, constants with addresses are
/// writable until they are relocated.
fn constants(module: &File) -> impl Iterator<Item = &Section> {
    let flags = elf::SHF_ALLOC.0 | elf::SHF_WRITE.0 | elf::SHF_EXECINSTR.0;
    let constant = move |section: &&Section| {
        section.sh_flags & flags == elf::SHF_ALLOC.0 || section.name.starts_with(".data.rel.ro")
    };
    module.sections.iter().filter(constant)
}

pub(super) fn rows(section: &Section) -> impl Iterator<Item = &Rela> {
    section.relas.iter().flat_map(|rela| &rela.rows)
}

pub(super) fn at<'r>(rows: &[&'r Rela], offset: Option<u64>) -> Option<&'r Rela> {
    rows.iter().find(|row| Some(row.r_offset) == offset).copied()
}

fn leads_to(module: &File, row: &Rela, handle: &str) -> bool {
    let symbol = row.symbol.and_then(|symbol| module.symbols.get(symbol));
    row.r_addend == 0 && symbol.is_some_and(|symbol| symbol.name == handle)
}

/// Whether a pointer leads to data that can be written.
fn is_table(module: &File, pointer: &Rela) -> bool {
    let wanted = elf::SHF_WRITE.0 | elf::SHF_EXECINSTR.0;
    flags(module, pointer).is_some_and(|flags| flags & wanted == elf::SHF_WRITE.0)
}

/// The string that a relocation leads to.
pub(super) fn string(module: &File, row: &Rela) -> Option<String> {
    let symbol = module.symbols.get(row.symbol?)?;
    let Place::Section(index) = symbol.place else {
        return None;
    };
    let start = usize::try_from(i64::try_from(symbol.st_value).ok()?.checked_add(row.r_addend)?).ok()?;
    let bytes = module.sections.get(index)?.data.get(start..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}
