//! Where the tracer can hook the functions of a running kernel or module, and which place it takes.
//!
//! * vmlinux: the table between `__start_mcount_loc` and `__stop_mcount_loc` (include/asm-generic/vmlinux.lds.h).
//! * Modules: the relocations of `__mcount_loc`.
//!
//! Livepatch asks for the place of a function by its address (kernel/livepatch/patch.c, `klp_patch_func`). The tracer
//! looks for a place at that very address, and if there is none for one between it and the next symbol of kallsyms
//! (kernel/trace/ftrace.c, `ftrace_location`, 6.1 to 6.12), by bisection. A weak function that the link dropped has lost
//! its symbol but not its code, so its place lies in the range of the function before it. The bisection may find that
//! one: the livepatch then loads, reports itself as enabled, and is never called.

use std::collections::{BTreeMap, BTreeSet};

use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, Rela as _, SectionHeader as _, SectionTable, Sym as _};
use object::{Endianness, SectionIndex, elf};

use super::image::{Image, ImageId};

type Header = FileHeader64<Endianness>;

/// An address in vmlinux (section 0), or an offset in a section of a module.
type Place = (usize, u64);

/// How the tracer can hook a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Not at all.
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
    pub(super) fn read(image: &Image<'_>, bytes: &[u8]) -> object::read::Result<Self> {
        let mut places = places(image, bytes)?;
        places.sort_unstable();
        places.dedup();
        let section = |section| if image.name.is_vmlinux() { 0 } else { section };
        let starts: BTreeSet<Place> = image.counted().map(|one| (section(one.section), one.value)).collect();
        let starts = starts.into_iter().collect();
        Ok(Self { places, starts })
    }

    fn from(&self, place: Place) -> &[Place] {
        &self.places[self.places.partition_point(|one| *one < place)..]
    }
}

impl Image<'_> {
    /// How the tracer can hook a function.
    pub fn hook(&self, id: ImageId) -> Hook {
        let Some(sites) = &self.sites else { return Hook::Own };
        let symbol = self.symbol(id);
        let section = if self.name.is_vmlinux() { 0 } else { symbol.section };
        let start = (section, symbol.value);
        let own = (section, symbol.value.saturating_add(symbol.size.max(16)));
        match sites.from(start) {
            [first, ..] if *first >= own => Hook::Missing,
            [] => Hook::Missing,
            [first, ..] if *first == start => Hook::Own,
            [_, rest @ ..] => {
                let next = sites.starts.partition_point(|one| *one <= start);
                let end = sites.starts.get(next).copied().unwrap_or((section, u64::MAX));
                let shared = rest.first().is_some_and(|second| *second < end && second.0 == section);
                if shared { Hook::Shared } else { Hook::Own }
            }
        }
    }
}

fn places(image: &Image<'_>, bytes: &[u8]) -> object::read::Result<Vec<(usize, u64)>> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let mut found = Vec::new();
    if !image.name.is_vmlinux() {
        let symtab = sections.symbols(endian, bytes, elf::SHT_SYMTAB)?;
        for section in sections.iter() {
            let Some((rows, _)) = section.rela(endian, bytes)? else {
                continue;
            };
            if sections.section_name(endian, sections.section(section.info_link(endian))?)? != b"__mcount_loc" {
                continue;
            }
            for row in rows {
                let Some(index) = row.symbol(endian, false) else {
                    continue;
                };
                let symbol = symtab.symbol(index)?;
                if let Some(section) = symtab.symbol_section(endian, symbol, index)? {
                    found.push((
                        section.0,
                        symbol.st_value(endian).wrapping_add_signed(row.r_addend(endian)),
                    ));
                }
            }
        }
        return Ok(found);
    }
    let bound = |name: &str| image.named(name).first().map(|id| image.symbol(*id));
    let (Some(start), Some(stop)) = (bound("__start_mcount_loc"), bound("__stop_mcount_loc")) else {
        return Ok(found);
    };
    let section = sections.section(SectionIndex(start.section))?;
    let base = section.sh_addr(endian);
    let data = section.data(endian, bytes)?;
    let (from, to) = (
        start.value.saturating_sub(base) as usize,
        stop.value.saturating_sub(base) as usize,
    );
    let relocated = relative_values(&sections, bytes, endian, start.value..stop.value)?;
    let little = endian == Endianness::Little;
    for (index, entry) in data.get(from..to).unwrap_or(&[]).chunks_exact(8).enumerate() {
        let entry: [u8; 8] = entry.try_into().expect("chunks_exact gives eight bytes");
        let value = if little {
            u64::from_le_bytes(entry)
        } else {
            u64::from_be_bytes(entry)
        };
        let place = start.value.wrapping_add(8 * index as u64);
        found.push((
            0,
            if value == 0 {
                relocated.get(&place).copied().unwrap_or(0)
            } else {
                value
            },
        ));
    }
    Ok(found)
}

/// What the start of a position-independent image (CONFIG_RELOCATABLE on powerpc) writes into a range of addresses:
/// there the addends of its relative relocations hold the values, and the bytes in the file are zero.
fn relative_values(
    sections: &SectionTable<'_, Header>,
    bytes: &[u8],
    endian: Endianness,
    range: std::ops::Range<u64>,
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
