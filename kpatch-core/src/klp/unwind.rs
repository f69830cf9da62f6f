//! The rows of the unwinder's table against the code of the module.
//!
//! A livepatch is made safe by reliable stack traces: with a wrong row a task looks as if it did not run a function
//! that it runs, or as if nobody could tell, and the transition waits for ever.

use std::collections::BTreeSet;
use std::ops::Range;

use object::elf;

use super::BAD_UNWIND;
use crate::arch::{Arch, UnwindRange};
use crate::elf::{File, Place, Section};
use crate::error::{Refusal, Subject};
use crate::names;

/// Every place of a function where rows and code disagree. Empty where the architecture's rows cannot be read.
pub fn check(file: &File, arch: &'static dyn Arch) -> Vec<Refusal> {
    let objtool = &arch.facts().objtool;
    let (Some(places), Some(misfits)) = (objtool.unwind, objtool.unwind_misfits) else {
        return Vec::new();
    };
    let table = places.beside.and_then(|name| section(file, name));
    let (Some(places), Some(table)) = (section(file, places.name), table) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, code) in file.sections.iter().enumerate() {
        if code.sh_flags & elf::SHF_EXECINSTR.0 == 0 || objtool.is_unlisted(&code.name) {
            continue;
        }
        let rows = rows(file, places, index);
        let fields = fields(file, code);
        let relocated = |range: Range<u64>| {
            let first = fields.partition_point(|(at, _)| *at < range.start);
            fields
                .get(first)
                .filter(|(at, _)| *at < range.end)
                .map(|(_, name)| *name)
        };
        let mut seen = BTreeSet::new();
        for symbol in &file.symbols {
            let is_function = symbol.st_info & 15 == elf::STT_FUNC.0 && !names::is_function_prefix(&symbol.name);
            if symbol.place != Place::Section(index) || !is_function || !seen.insert(symbol.st_value) {
                continue;
            }
            let bytes = usize::try_from(symbol.st_value)
                .ok()
                .zip(usize::try_from(symbol.st_size).ok());
            let bytes = bytes.and_then(|(start, size)| code.data.get(start..start.checked_add(size)?));
            let Some(bytes) = bytes else {
                let at = Subject::default().section(&code.name).symbol(&symbol.name);
                found.push(Refusal::new(BAD_UNWIND, at, "the function reaches beyond its section"));
                continue;
            };
            let range = UnwindRange {
                code: bytes,
                start: symbol.st_value,
                rows: &rows,
                table: &table.data,
                relocated: &relocated,
            };
            found.extend(misfits(&range).into_iter().map(|misfit| {
                let at = Subject::default()
                    .symbol(&symbol.name)
                    .offset(misfit.place - symbol.st_value);
                Refusal::new(BAD_UNWIND, at, misfit.why)
            }));
        }
    }
    found
}

fn section<'f>(file: &'f File, name: &str) -> Option<&'f Section> {
    file.sections.iter().find(|section| section.name == name)
}

/// The rows of a section of code: where each starts, and its number in the table.
fn rows(file: &File, places: &Section, home: usize) -> Vec<(u64, usize)> {
    let all = places.relas.iter().flat_map(|rela| &rela.rows);
    let here = all.filter_map(|row| {
        let symbol = file.symbols.get(row.symbol?)?;
        let place = symbol.st_value.checked_add_signed(row.r_addend)?;
        let number = usize::try_from(row.r_offset / PLACE).ok()?;
        (symbol.place == Place::Section(home)).then_some((place, number))
    });
    let mut rows: Vec<_> = here.collect();
    rows.sort_unstable();
    rows
}

/// Size of one entry of `.orc_unwind_ip` (tools/objtool/orc_gen.c).
const PLACE: u64 = 4;

/// Where a section has relocations, and to what.
fn fields<'f>(file: &'f File, code: &'f Section) -> Vec<(u64, &'f str)> {
    let rows = code.relas.iter().flat_map(|rela| &rela.rows);
    let named = rows.map(|row| {
        let symbol = row.symbol.and_then(|symbol| file.symbols.get(symbol));
        (row.r_offset, symbol.map_or("", |symbol| symbol.name.as_str()))
    });
    let mut fields: Vec<_> = named.collect();
    fields.sort_unstable();
    fields
}
