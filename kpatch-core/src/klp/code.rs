//! The code of a function in a finished module, in a form that tells whether another module has the same.

use object::elf;

use crate::elf::{File, Place, Rela, Section};

/// Bytes of the function that begins there: its code, and for each relocation what it leads to, by name or by content, since
/// places differ from one link to the next.
pub(super) fn of(file: &File, (index, start): (usize, u64)) -> Vec<u8> {
    let section = &file.sections[index];
    let here = |symbol: &&crate::elf::Symbol| {
        symbol.place == Place::Section(index) && symbol.st_value == start && symbol.st_size > 0
    };
    let size = file.symbols.iter().find(here).map_or(0, |symbol| symbol.st_size);
    let end = start.saturating_add(size);
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let code = range.and_then(|(start, end)| section.data.get(start..end));
    let mut bytes = code.unwrap_or_default().to_vec();
    let mut rows: Vec<&Rela> = section.relas.iter().flat_map(|rela| &rela.rows).collect();
    rows.sort_by_key(|row| row.r_offset);
    for row in rows.iter().filter(|row| (start..end).contains(&row.r_offset)) {
        bytes.extend((row.r_offset - start).to_le_bytes());
        bytes.extend(row.r_type.to_le_bytes());
        target(file, row, &mut bytes);
    }
    bytes
}

fn target(file: &File, row: &Rela, bytes: &mut Vec<u8>) {
    let Some(symbol) = row.symbol.and_then(|symbol| file.symbols.get(symbol)) else {
        return;
    };
    let section = match symbol.place {
        Place::Section(index) => &file.sections[index],
        Place::Reserved(_) => {
            bytes.extend(symbol.name.bytes());
            return bytes.extend(row.r_addend.to_le_bytes());
        }
    };
    let start = symbol.st_value.checked_add_signed(row.r_addend);
    match start {
        Some(start) if is_text(section) => bytes.extend(text(section, start)),
        _ => bytes.extend(symbol.name.bytes()),
    }
}

fn is_text(section: &Section) -> bool {
    section.sh_flags & elf::SHF_STRINGS.0 != 0
}

/// The string that an addend means: on x86-64 one relative to the instruction counter is 4 less than its place.
fn text(section: &Section, start: u64) -> Vec<u8> {
    let at = |start: u64| {
        let rest = usize::try_from(start).ok().and_then(|start| section.data.get(start..));
        rest.unwrap_or_default()
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default()
            .to_vec()
    };
    [at(start), at(start.saturating_add(4))].concat()
}
