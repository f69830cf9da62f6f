//! Damages of the tables that the kernel reads.

use kpatch_core::elf::{File, Place, Rela, Section, Symbol};
use kpatch_core::names;
use kpatch_core::resolve::PatchedFunction;

/// Sections of tables that the kernel reads, which a patched function may have entries in.
const TABLES: &[&str] = &[
    "__bug_table",
    "__ex_table",
    ".altinstructions",
    ".smp_locks",
    "__jump_table",
    ".static_call_sites",
    ".parainstructions",
    ".retpoline_sites",
];

pub fn short_table(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let section = table(file, TABLES)?;
    let row = last_row(section)?;
    shorten(section, row.r_offset);
    Some(format!("{} ends at {:#x}", section.name, row.r_offset))
}

pub fn table_without_relocation(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    let section = table(file, TABLES)?;
    let row = last_row(section)?;
    Some(format!("the one at {:#x} of {}", row.r_offset, section.name))
}

pub fn drop_row(file: &mut File, name: &str, size: u64) -> Option<String> {
    let section = table(file, &[name])?;
    let row = last_row(section)?;
    let left = section.size - size;
    shorten(section, left);
    Some(format!("the one at {:#x}", row.r_offset))
}

pub fn trace_record_missing(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let code = Extent::of(file, functions)?;
    let symbols = file.symbols.clone();
    let section = table(file, &["__mcount_loc"])?;
    let rows = &mut section.relas.first_mut()?.rows;
    let at = rows.iter().position(|row| code.holds(&symbols, row))?;
    // The last row moves up, so that there is no hole.
    let offset = rows[at].r_offset;
    let mut last = rows.pop()?;
    if at < rows.len() {
        last.r_offset = offset;
        rows[at] = last;
    }
    let left = section.size - 8;
    shorten(section, left);
    Some(format!("the one at {offset:#x}"))
}

pub fn no_unwind_table(file: &mut File, _: &[PatchedFunction]) -> Option<String> {
    for name in [".orc_unwind_ip", ".orc_unwind"] {
        let section = file
            .sections
            .iter_mut()
            .find(|section| section.name == name && section.size > 0)?;
        section.relas.clear();
        shorten(section, 0);
    }
    Some("both tables are empty".to_owned())
}

/// All rows of one piece of code go, and what is left still fits together.
pub fn unwind_rows_missing(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let code = Extent::of(file, functions)?;
    let symbols = file.symbols.clone();
    let ips = file
        .sections
        .iter_mut()
        .find(|section| section.name == ".orc_unwind_ip")?;
    let rela = ips.relas.first_mut()?;
    let before = rela.rows.len();
    rela.rows.retain(|row| !code.holds(&symbols, row));
    for (index, row) in rela.rows.iter_mut().enumerate() {
        row.r_offset = 4 * index as u64;
    }
    let (left, gone) = (rela.rows.len() as u64, before - rela.rows.len());
    shorten(ips, 4 * left);
    let table = file.sections.iter_mut().find(|section| section.name == ".orc_unwind")?;
    shorten(table, 6 * left);
    (gone > 0).then(|| format!("{gone} rows of {code:?}"))
}

/// A row inside a new function goes, so that the one before it goes on.
pub fn inner_unwind_row_missing(file: &mut File, functions: &[PatchedFunction]) -> Option<String> {
    let code = Extent::of(file, functions)?;
    let symbols = file.symbols.clone();
    let table = |file: &File, name: &str| file.sections.iter().position(|section| section.name == name);
    let (places, contents) = (table(file, ".orc_unwind_ip")?, table(file, ".orc_unwind")?);
    let rows = &mut file.sections[places].relas.first_mut()?.rows;
    let own: Vec<usize> = (0..rows.len())
        .filter(|&index| code.holds(&symbols, &rows[index]))
        .collect();
    // The first is the entry's; `unwind_rows_missing` takes all.
    let gone = *own.get(1)?;
    rows.remove(gone);
    for row in &mut rows[gone..] {
        row.r_offset -= 4;
    }
    let left = rows.len() as u64;
    shorten(&mut file.sections[places], 4 * left);
    let start = 6 * gone;
    let contents = &mut file.sections[contents];
    contents.data.drain(start..start + 6);
    contents.size -= 6;
    Some(format!("row {gone}"))
}

/// Where a function lies, with what stands before its entry and belongs to it.
#[derive(Debug)]
struct Extent {
    section: usize,
    start: u64,
    end: u64,
}

impl Extent {
    /// The place of the first new function.
    fn of(file: &File, functions: &[PatchedFunction]) -> Option<Extent> {
        let handle = &functions.first()?.handle;
        let entry = file.symbols.iter().find(|symbol| symbol.name == *handle)?;
        let Place::Section(section) = entry.place else {
            return None;
        };
        let here = file.symbols.iter().filter(|symbol| {
            symbol.place == entry.place && symbol.st_size > 0 && !names::is_function_prefix(&symbol.name)
        });
        let ends = here.map(|symbol| (symbol.st_value, symbol.st_value + symbol.st_size));
        let ends: Vec<(u64, u64)> = ends.collect();
        let before = ends.iter().filter(|(start, _)| *start < entry.st_value);
        Some(Extent {
            section,
            start: before.map(|(_, end)| *end).max().unwrap_or_default(),
            end: ends.iter().find(|(start, _)| *start == entry.st_value)?.1,
        })
    }

    fn holds(&self, symbols: &[Symbol], row: &Rela) -> bool {
        let symbol = row.symbol.and_then(|symbol| symbols.get(symbol));
        symbol.is_some_and(|symbol| {
            let place = symbol.st_value.checked_add_signed(row.r_addend);
            symbol.place == Place::Section(self.section) && place.is_some_and(|at| (self.start..self.end).contains(&at))
        })
    }
}

fn table<'f>(file: &'f mut File, names: &[&str]) -> Option<&'f mut Section> {
    let wanted = |section: &&mut Section| {
        names.contains(&section.name.as_str()) && section.relas.iter().any(|rela| !rela.rows.is_empty())
    };
    file.sections.iter_mut().find(wanted)
}

fn last_row(section: &mut Section) -> Option<Rela> {
    section.relas.iter_mut().rev().find_map(|rela| rela.rows.pop())
}

fn shorten(section: &mut Section, size: u64) {
    section.size = size;
    section.data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
}
