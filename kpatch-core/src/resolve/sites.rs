//! Where the tracer can hook the functions of a running kernel or module, and which place it takes.
//!
//! * vmlinux: the table between `__start_mcount_loc` and `__stop_mcount_loc` (include/asm-generic/vmlinux.lds.h).
//! * Modules: the relocations of `__mcount_loc`, or of the compiler's own list where the kernel reads that one
//!   (include/linux/ftrace.h, FTRACE_CALLSITE_SECTION, 6.12 and 7.3).
//!
//! Livepatch asks for the place of a function by its address (kernel/livepatch/patch.c, `klp_patch_func`). The tracer
//! looks for a place at that very address, and if there is none for one between it and the next symbol of kallsyms
//! (kernel/trace/ftrace.c, `ftrace_location`, 6.1 to 6.12), by bisection. A weak function that the link dropped has lost
//! its symbol but not its code, so its place lies in the range of the function before it. The bisection may find that
//! one: the livepatch then loads, reports itself as enabled, and is never called.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, SectionTable, Sym as _};
use object::{Endianness, SectionIndex, elf};

use crate::arch::{self, Tracing, TracingFacts};

type Header = FileHeader64<Endianness>;

/// An address in vmlinux (section 0), or an offset in a section of a module.
pub type Place = (usize, u64);

/// How the tracer can hook a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// No site lies in the function.
    Missing,
    /// At its own place, or nothing is known about the image and the object's own site decides.
    Own,
    /// Perhaps at the place of code behind it that has no symbol.
    Shared,
}

/// The places of an image and what bounds the search among them; both sorted.
pub struct Sites {
    places: Vec<Place>,
    starts: Vec<Place>,
}

impl Sites {
    /// The places, and where the symbols of kallsyms start.
    pub fn new(mut places: Vec<Place>, starts: BTreeSet<Place>, tracing: Option<&TracingFacts>) -> Self {
        if let Some(tracing) = tracing {
            let behind = before_entry(&places, &starts, tracing) + tracing.patched;
            for (_, value) in &mut places {
                *value = value.saturating_add(behind);
            }
        }
        places.sort_unstable();
        places.dedup();
        let starts = starts.into_iter().collect();
        Self { places, starts }
    }

    /// How the tracer can hook a function of `size` bytes.
    pub fn hook(&self, start: Place, size: u64) -> Hook {
        let (section, value) = start;
        let own = (section, value.saturating_add(size.max(16)));
        match &self.places[self.places.partition_point(|one| *one < start)..] {
            [first, ..] if *first >= own => Hook::Missing,
            [] => Hook::Missing,
            [first, ..] if *first == start => Hook::Own,
            [_, rest @ ..] => {
                let next = self.starts.partition_point(|one| *one <= start);
                let end = self.starts.get(next).copied().unwrap_or((section, u64::MAX));
                let shared = rest.first().is_some_and(|second| *second < end && second.0 == section);
                if shared { Hook::Shared } else { Hook::Own }
            }
        }
    }
}

/// How far before the entries a kernel records its places: all of them as far, or none. Dropped weak functions have no
/// symbol, so most of the places decide.
fn before_entry(places: &[Place], starts: &BTreeSet<Place>, tracing: &TracingFacts) -> u64 {
    let before = tracing.before_entry;
    if before == 0 {
        return 0;
    }
    let ahead = |(section, value): &Place| starts.contains(&(*section, value.saturating_add(before)));
    let ahead = places.iter().filter(|place| ahead(place)).count();
    if 2 * ahead > places.len() { before } else { 0 }
}

/// The places of a module.
pub fn of_module(bytes: &[u8]) -> object::read::Result<Vec<Place>> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let mark = arch::for_machine(header.e_machine(endian)).map(|arch| arch.facts().tracing.mark);
    let wanted: &[u8] = match mark {
        Some(Tracing::PatchableEntries) => b"__patchable_function_entries",
        _ => b"__mcount_loc",
    };
    relocated(&sections, bytes, endian, |list| {
        Ok(sections.section_name(endian, sections.section(list)?)? == wanted)
    })
}

/// The places in a module that the relocations of its lists lead to.
pub fn relocated(
    sections: &SectionTable<'_, Header>,
    bytes: &[u8],
    endian: Endianness,
    is_list: impl Fn(SectionIndex) -> object::read::Result<bool>,
) -> object::read::Result<Vec<Place>> {
    let symtab = sections.symbols(endian, bytes, elf::SHT_SYMTAB)?;
    let mut found = Vec::new();
    for section in sections.iter() {
        let Some((rows, _)) = section.rela(endian, bytes)? else {
            continue;
        };
        if !is_list(section.info_link(endian))? {
            continue;
        }
        for row in rows {
            let Some(index) = row.symbol(endian, false) else {
                continue;
            };
            let symbol = symtab.symbol(index)?;
            if let Some(section) = symtab.symbol_section(endian, symbol, index)? {
                let offset = symbol.st_value(endian).wrapping_add_signed(row.r_addend(endian));
                found.push((section.0, offset));
            }
        }
    }
    Ok(found)
}

/// The places of vmlinux, whose `table` of them has these addresses in a section.
pub fn of_vmlinux(bytes: &[u8], section: usize, table: Range<u64>) -> object::read::Result<Vec<Place>> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let section = sections.section(SectionIndex(section))?;
    let base = section.sh_addr(endian);
    let offset = |address: u64| address.saturating_sub(base) as usize;
    let data = section.data(endian, bytes)?;
    let data = data.get(offset(table.start)..offset(table.end)).unwrap_or(&[]);
    let relocated = relative_values(&sections, bytes, endian, table.clone())?;
    let number = match endian {
        Endianness::Little => u64::from_le_bytes,
        Endianness::Big => u64::from_be_bytes,
    };
    let entry = |(index, entry): (usize, &[u8])| {
        let value = number(entry.try_into().expect("chunks_exact gives eight bytes"));
        let late = relocated.get(&table.start.wrapping_add(8 * index as u64));
        (0, if value == 0 { late.copied().unwrap_or(0) } else { value })
    };
    Ok(data.chunks_exact(8).enumerate().map(entry).collect())
}

/// What the start of a position-independent image (CONFIG_RELOCATABLE on powerpc) writes into a range of addresses:
/// there the addends of its relative relocations hold the values, and the bytes in the file are zero.
fn relative_values(
    sections: &SectionTable<'_, Header>,
    bytes: &[u8],
    endian: Endianness,
    range: Range<u64>,
) -> object::read::Result<BTreeMap<u64, u64>> {
    let mut values = BTreeMap::new();
    for section in sections.iter() {
        let Some((rows, _)) = section.rela(endian, bytes)? else {
            continue;
        };
        let rows = rows
            .iter()
            .filter(|row| range.contains(&row.r_offset(endian)) && row.symbol(endian, false).is_none());
        values.extend(rows.map(|row| (row.r_offset(endian), row.r_addend(endian) as u64)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How three functions at 64, 128 and 192 can be hooked, if these are the places of arm64.
    fn hooks(places: &[u64]) -> [Hook; 3] {
        let facts = arch::for_machine(elf::EM_AARCH64).unwrap().facts();
        let starts = [64, 128, 192].map(|start| (0, start));
        let places = places.iter().map(|place| (0, *place)).collect();
        let sites = Sites::new(places, starts.into(), Some(&facts.tracing));
        starts.map(|start| sites.hook(start, 40))
    }

    #[test]
    fn places_before_the_entry_are_those_of_the_function_behind() {
        assert_eq!(hooks(&[56, 120]), [Hook::Own, Hook::Own, Hook::Missing]);
        assert_eq!(hooks(&[64, 128]), [Hook::Own, Hook::Own, Hook::Missing]);
        assert_eq!(
            hooks(&[68, 196]),
            [Hook::Own, Hook::Missing, Hook::Own],
            "behind a landing pad"
        );
    }

    #[test]
    fn a_place_without_a_symbol_is_perhaps_taken() {
        assert_eq!(hooks(&[56, 100, 120, 184]), [Hook::Shared, Hook::Own, Hook::Own]);
    }
}
