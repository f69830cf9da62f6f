//! The entries of derived tables that belong to emitted functions: unwind entries, return and retpoline sites.
//!
//! objtool has made them for the patched object and will not run on the livepatch, so they are copied. They follow from
//! the code and are never compared. A kernel's object has ten times more of these entries than of anything else, so
//! they are read only here, once the functions are selected.

use std::collections::BTreeMap;

use object::elf;

use super::BAD_TABLE;
use crate::arch::DerivedTable;
use crate::elf::{File, Rela, RelaSection, Section};
use crate::emit::Spot;
use crate::error::{Error, Subject};
use crate::ids::{Atom, Id, Patched};
use crate::read::{self, LeftOut, Object};

/// The place of each atom in the emitted file.
pub type Places = BTreeMap<Id<Patched, Atom>, Spot>;

/// The sections to add. `symbol_of` gives the section symbol that relocations name.
///
/// # Errors
/// [`BAD_TABLE`] if a table's length or relocations do not fit its entries.
pub fn sections(
    object: &Object<'_, Patched>,
    bytes: &[u8],
    places: &Places,
    symbol_of: &dyn Fn(usize) -> usize,
) -> Result<Vec<Section>, Error> {
    let tables = object.arch.facts().objtool.derived;
    let wanted = |name: &str| {
        tables
            .iter()
            .any(|table| table.name == name || table.beside == Some(name))
    };
    if !object.sections.iter().any(|(_, section)| wanted(section.name)) {
        return Ok(Vec::new());
    }
    let found = read::left_out(object, bytes, wanted)?;
    let mut made = Vec::new();
    for table in tables {
        for rows in found
            .iter()
            .filter(|rows| object.sections[rows.section].name == table.name)
        {
            let beside = found
                .iter()
                .find(|other| Some(object.sections[other.section].name) == table.beside);
            made.extend(part(object, table, rows, beside, places, symbol_of)?);
        }
    }
    Ok(made)
}

/// The entries of one table whose places lie in emitted functions, and the entries beside them
/// (`DerivedTable::beside`).
fn part(
    object: &Object<'_, Patched>,
    table: &DerivedTable,
    rows: &LeftOut<'_, Patched>,
    beside: Option<&LeftOut<'_, Patched>>,
    places: &Places,
    symbol_of: &dyn Fn(usize) -> usize,
) -> Result<Vec<Section>, Error> {
    let bad = |why: &str| {
        let at = Subject::file(&object.file).section(table.name);
        Error::new(BAD_TABLE, at, why)
    };
    let count = rows.data.len() as u64 / table.entry;
    if count * table.entry != rows.data.len() as u64 || rows.rows.len() as u64 != count {
        return Err(bad("it does not have one relocation for each entry"));
    }
    let beside_size = beside.map_or(0, |beside| beside.data.len() as u64 / count.max(1));
    if table.beside.is_some() != beside.is_some()
        || beside.is_some_and(|beside| beside.data.len() as u64 != beside_size * count)
    {
        return Err(bad("the table beside it does not have as many entries"));
    }
    let mut own = copy_of(object, rows);
    let mut other = beside.map(|beside| copy_of(object, beside));
    let mut relas = Vec::new();
    for (index, row) in rows.rows.iter().enumerate() {
        let (from, index) = (index as u64 * table.entry, index as u64);
        if row.offset != from {
            return Err(bad("a relocation is not at the start of its entry"));
        }
        let Some((spot, offset)) = place(object, row, places) else {
            continue;
        };
        relas.push(Rela {
            r_offset: own.size,
            symbol: Some(symbol_of(spot.section)),
            r_type: row.r_type,
            r_addend: offset as i64,
        });
        append(&mut own, rows.data, from, table.entry);
        if let (Some(other), Some(beside)) = (&mut other, beside) {
            append(other, beside.data, index * beside_size, beside_size);
        }
    }
    if relas.is_empty() {
        return Ok(Vec::new());
    }
    own.relas.push(RelaSection {
        name: format!(".rela{}", own.name),
        sh_flags: 0,
        rows: relas,
    });
    Ok([Some(own), other].into_iter().flatten().collect())
}

fn copy_of(object: &Object<'_, Patched>, rows: &LeftOut<'_, Patched>) -> Section {
    let section = &object.sections[rows.section];
    Section {
        name: section.name.to_owned(),
        sh_type: section.sh_type,
        sh_flags: section.sh_flags & !(elf::SHF_LINK_ORDER.0 | elf::SHF_GROUP.0),
        sh_addralign: section.sh_addralign,
        sh_entsize: section.sh_entsize,
        ..Section::default()
    }
}

fn append(section: &mut Section, data: &[u8], from: u64, len: u64) {
    let bytes = data.get(from as usize..(from + len) as usize).unwrap_or(&[]);
    section.data.extend_from_slice(bytes);
    section.size += len;
}

/// The new place that an entry refers to, if its function was emitted.
fn place(object: &Object<'_, Patched>, row: &read::RawReloc<Patched>, places: &Places) -> Option<(Spot, u64)> {
    let symbol = object.symbols.get(row.symbol)?;
    let at = symbol.st_value.checked_add_signed(row.addend)?;
    let atom = object.atom_at(symbol.section?, at)?;
    let spot = *places.get(&atom)?;
    let (start, end) = (object.atoms[atom].start, object.atoms[atom].end);
    (start..end).contains(&at).then(|| (spot, spot.offset + (at - start)))
}

/// Restores the calls to the tracing callee that objtool turned into NOPs: no later step would.
pub fn restore_calls(file: &mut File, object: &Object<'_, Patched>, places: &Places) {
    let Some((bytes, r_type)) = object.arch.facts().tracing.call else {
        return;
    };
    for (atom, spot) in places {
        let call = crate::select::tracing_call(object, *atom).filter(|call| call.kind == crate::arch::RelocKind::None);
        let Some(call) = call else { continue };
        let field = spot.offset + (call.offset - object.atoms[*atom].start);
        let Some(start) = object.arch.facts().tracing.site(field) else {
            continue;
        };
        let start = start as usize;
        let section = &mut file.sections[spot.section];
        if let Some(target) = section.data.get_mut(start..start + bytes.len()) {
            target.copy_from_slice(bytes);
        }
        let rows = section.relas.iter_mut().flat_map(|rela| &mut rela.rows);
        for row in rows.filter(|row| row.r_offset == field) {
            row.r_type = r_type.0;
            row.r_addend = -((bytes.len() as u64 - (field - start as u64)) as i64);
        }
    }
}
