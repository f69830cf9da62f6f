//! The bytes of a running kernel or module by address, and the names of its symbols.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, SectionHeader as _};

use super::kallsyms;
use crate::arch::{self, Arch, RelocKind};
use crate::elf as rows;
use crate::error::{Error, Subject};
use crate::group::ObjectName;

pub use crate::codes::resolve::BAD_IMAGE;

/// Where the first section of a module is put. Any address will do from which the whole kernel can be reached.
const MODULE_BASE: u64 = 0xffff_ffff_a000_0000;
/// Where the first symbol of others is put that a module refers to.
const OTHERS_BASE: u64 = 0xffff_ffff_8000_0000;
/// Distance between two of them: a reference may lead some way behind its symbol.
const OTHERS_STEP: u64 = 0x1_0000;
/// Distance between two sections, so that an address behind one is not in the next.
const GAP: u64 = 0x1000;

/// A section in memory.
#[derive(Debug)]
pub(crate) struct Region<'d> {
    /// First address.
    pub start: u64,
    /// Bytes in memory.
    pub size: u64,
    /// Its contents; shorter than `size` where memory starts out as zero.
    pub data: Cow<'d, [u8]>,
    /// Its name.
    pub name: String,
    /// Number in the file.
    pub section: usize,
}

/// A symbol in memory.
#[derive(Debug)]
pub struct Symbol {
    /// Its address: as linked, or for a module one that was made up.
    pub address: u64,
    /// The letter that `nm` prints: small if other files cannot mean it.
    pub kind: u8,
    /// Name.
    pub name: String,
}

/// The kernel image, or a module at made-up addresses, as far as it tells what its code is.
pub struct Memory<'d> {
    /// What the kernel calls it.
    pub name: ObjectName,
    pub(crate) arch: &'static dyn Arch,
    pub(crate) regions: Vec<Region<'d>>,
    pub(crate) symbols: Vec<Symbol>,
    by_name: HashMap<String, Vec<usize>>,
    /// The symbols by address.
    by_address: Vec<usize>,
}

type Header = FileHeader64<Endianness>;

impl<'d> Memory<'d> {
    /// Reads an image that has sections and no symbols; kallsyms in it is decoded.
    ///
    /// # Errors
    /// [`BAD_IMAGE`].
    pub fn of_vmlinux(bytes: &'d [u8]) -> Result<Self, Error> {
        vmlinux(bytes).map_err(|why| bad(&ObjectName::vmlinux(), why))
    }

    /// Reads a module. Its sections are laid out as a loader would, and its relocations applied.
    ///
    /// # Errors
    /// [`BAD_IMAGE`].
    pub fn of_module(name: ObjectName, bytes: &[u8]) -> Result<Memory<'static>, Error> {
        module(name.clone(), bytes).map_err(|why| bad(&name, why))
    }

    pub(crate) fn new(
        name: ObjectName,
        arch: &'static dyn Arch,
        mut regions: Vec<Region<'d>>,
        symbols: Vec<Symbol>,
    ) -> Memory<'d> {
        regions.sort_by_key(|region| region.start);
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, symbol) in symbols.iter().enumerate() {
            by_name.entry(symbol.name.clone()).or_default().push(index);
        }
        let mut by_address: Vec<usize> = (0..symbols.len()).collect();
        by_address.sort_by_key(|index| symbols.get(*index).map(|symbol| symbol.address));
        Memory {
            name,
            arch,
            regions,
            symbols,
            by_name,
            by_address,
        }
    }

    /// How many symbols it has.
    pub fn symbol_count(&self) -> usize {
        self.symbols.len()
    }

    /// Its symbols in the order in which the kernel has them.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The addresses of a name.
    pub(crate) fn addresses(&self, name: &str) -> impl Iterator<Item = u64> {
        self.named(name).map(|symbol| symbol.address)
    }

    /// The symbols of a name.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Symbol> {
        let all = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        all.iter().filter_map(|index| self.symbols.get(*index))
    }

    /// The symbols with an address in a range.
    pub(super) fn symbols_in(&self, range: std::ops::Range<u64>) -> impl Iterator<Item = &Symbol> {
        let address = |index: &usize| self.symbols.get(*index).map_or(0, |symbol| symbol.address);
        let first = self.by_address.partition_point(|index| address(index) < range.start);
        let last = self.by_address.partition_point(|index| address(index) < range.end);
        let found = self.by_address.get(first..last.max(first)).unwrap_or_default();
        found.iter().filter_map(|index| self.symbols.get(*index))
    }

    /// The section that has all bytes of a range, which may end where it does.
    pub(super) fn region(&self, start: u64, size: u64) -> Option<&Region<'d>> {
        let index = self.regions.partition_point(|region| region.start <= start);
        // An empty section may start where another one does.
        let before = self.regions.get(..index)?.iter().rev().take(4);
        let has = |region: &&Region<'_>| start.saturating_add(size) <= region.start.saturating_add(region.size);
        before.into_iter().find(has)
    }

    /// The contents of a range; `None` where there are none.
    pub(crate) fn bytes(&self, start: u64, size: u64) -> Option<&[u8]> {
        let region = self.region(start, size)?;
        let from = usize::try_from(start - region.start).ok()?;
        region.data.get(from..from.checked_add(usize::try_from(size).ok()?)?)
    }

    /// Number of the section that has an address, and the offset in it.
    pub(crate) fn place(&self, address: u64) -> Option<(usize, u64)> {
        let region = self.region(address, 0)?;
        Some((region.section, address - region.start))
    }

    /// The name of the section that has an address.
    pub(crate) fn section_name(&self, address: u64) -> Option<&str> {
        self.region(address, 1).map(|region| region.name.as_str())
    }

    /// Where the address is that a field holds, if a relocation of this kind with this addend made it.
    pub(super) fn decode(&self, field: u64, kind: RelocKind, addend: i64) -> Option<u64> {
        let value = |size: u8| -> Option<u64> {
            let bytes = self.bytes(field, u64::from(size))?;
            match size {
                4 => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?)) as u64),
                8 => Some(u64::from_le_bytes(bytes.try_into().ok()?)),
                _ => None,
            }
        };
        match kind {
            RelocKind::Absolute { size } => Some(value(size)?.wrapping_sub(addend as u64)),
            RelocKind::Relative { size } => Some(value(size)?.wrapping_add(field).wrapping_sub(addend as u64)),
            RelocKind::None | RelocKind::TocRelative { .. } => None,
        }
    }
}

fn bad(name: &ObjectName, why: String) -> Error {
    Error::new(
        BAD_IMAGE,
        Subject::file(name.as_str()),
        format!("cannot be read: {why}"),
    )
}

fn vmlinux(bytes: &[u8]) -> Result<Memory<'_>, String> {
    let text = |error: object::read::Error| error.to_string();
    let header = Header::parse(bytes).map_err(text)?;
    let endian = header.endian().map_err(text)?;
    let arch = supported(header.e_machine(endian))?;
    let sections = header.sections(endian, bytes).map_err(text)?;
    let (mut regions, mut found) = (Vec::new(), Vec::new());
    for (index, section) in sections.enumerate() {
        if section.sh_flags(endian).0 & elf::SHF_ALLOC.0 == 0 || section.sh_size(endian) == 0 {
            continue;
        }
        let name = sections.section_name(endian, section).map_err(text)?;
        let data = section.data(endian, bytes).map_err(text)?;
        if name == b".rodata" {
            found.extend(kallsyms::decode(data)?.into_iter().flatten());
        }
        let start = section.sh_addr(endian);
        start
            .checked_add(section.sh_size(endian))
            .ok_or("a section ends behind all memory")?;
        regions.push(Region {
            start,
            size: section.sh_size(endian),
            data: Cow::Borrowed(data),
            name: String::from_utf8_lossy(name).into_owned(),
            section: index.0,
        });
    }
    if found.is_empty() {
        return Err("it has no table of its symbols (kallsyms)".into());
    }
    let symbol = |row: kallsyms::Row| Symbol {
        address: row.address,
        kind: row.kind,
        name: row.name,
    };
    let symbols = found.into_iter().map(symbol).collect();
    Ok(Memory::new(ObjectName::vmlinux(), arch, regions, symbols))
}

fn supported(machine: elf::Machine) -> Result<&'static dyn Arch, String> {
    let arch = arch::for_machine(machine).ok_or("its architecture is not supported")?;
    if arch.facts().big_endian || arch.facts().slot_section.is_some() {
        return Err(format!("proving code of {} is not supported", arch.facts().name));
    }
    Ok(arch)
}

fn module(name: ObjectName, bytes: &[u8]) -> Result<Memory<'static>, String> {
    let file = rows::read(bytes)?;
    let arch = supported(elf::Machine(file.e_machine))?;
    let mut numbers = allocated(bytes).map_err(|error| error.to_string())?.into_iter();
    let mut at = MODULE_BASE;
    let mut starts = BTreeMap::new();
    let mut regions = Vec::new();
    for (index, section) in file.sections.iter().enumerate() {
        if section.sh_flags & elf::SHF_ALLOC.0 == 0 {
            continue;
        }
        at = at.next_multiple_of(section.sh_addralign.max(1));
        starts.insert(index, at);
        regions.push(Region {
            start: at,
            size: section.size,
            data: Cow::Owned(section.data.clone()),
            name: section.name.clone(),
            section: numbers.next().ok_or("its sections have no numbers")?,
        });
        let next = at.checked_add(section.size).and_then(|end| end.checked_add(GAP));
        at = next
            .filter(|next| *next < MODULE_BASE + (1 << 30))
            .ok_or("it is too large")?;
    }
    let mut others = OTHERS_BASE;
    let addresses: Vec<Option<u64>> = file
        .symbols
        .iter()
        .map(|symbol| match symbol.place {
            rows::Place::Section(section) => Some(starts.get(&section)?.wrapping_add(symbol.st_value)),
            rows::Place::Reserved(0) => {
                others += OTHERS_STEP;
                (others < MODULE_BASE).then_some(others)
            }
            rows::Place::Reserved(_) => Some(symbol.st_value),
        })
        .collect();
    for (region, index) in regions.iter_mut().zip(starts.keys()) {
        let section = file.sections.get(*index);
        for row in section
            .into_iter()
            .flat_map(|section| &section.relas)
            .flat_map(|rela| &rela.rows)
        {
            let symbol = row.symbol.and_then(|symbol| addresses.get(symbol)).copied().flatten();
            apply(arch, region, row, symbol)?;
        }
    }
    let symbols = file.symbols.iter().zip(&addresses).filter_map(|(symbol, address)| {
        let kind = letter(symbol)?;
        Some(Symbol {
            address: (*address)?,
            kind,
            name: symbol.name.clone(),
        })
    });
    let symbols = symbols.collect();
    Ok(Memory::new(name, arch, regions, symbols))
}

/// The numbers of the sections that are loaded.
fn allocated(bytes: &[u8]) -> object::read::Result<Vec<usize>> {
    let header = Header::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let loaded = sections.enumerate().filter(|(_, section)| {
        let flags = section.sh_flags(endian).0;
        flags & elf::SHF_ALLOC.0 != 0
    });
    Ok(loaded.map(|(index, _)| index.0).collect())
}

fn apply(arch: &dyn Arch, region: &mut Region<'_>, row: &rows::Rela, symbol: Option<u64>) -> Result<(), String> {
    let kind = arch
        .facts()
        .relocs
        .kind(row.r_type)
        .ok_or_else(|| format!("it has a relocation of type {}", arch.facts().relocs.name(row.r_type)))?;
    let value = symbol.unwrap_or(0).wrapping_add(row.r_addend as u64);
    let value = match kind {
        RelocKind::None => return Ok(()),
        RelocKind::Absolute { .. } => value,
        RelocKind::Relative { .. } => value.wrapping_sub(region.start.wrapping_add(row.r_offset)),
        RelocKind::TocRelative { .. } => return Err("it has a TOC".into()),
    };
    let size = usize::from(kind.size());
    let field = usize::try_from(row.r_offset).ok().and_then(|from| {
        let to = from.checked_add(size)?;
        region.data.to_mut().get_mut(from..to)
    });
    let field = field.ok_or_else(|| format!("a relocation lies outside {}", region.name))?;
    field.copy_from_slice(value.to_le_bytes().get(..size).ok_or("a field is too large")?);
    Ok(())
}

/// The letter that `nm` would print, as far as anything here asks; `None` for what kallsyms does not list.
fn letter(symbol: &rows::Symbol) -> Option<u8> {
    let kind = symbol.st_info & 0xf;
    if symbol.name.is_empty() || kind == elf::STT_SECTION.0 || kind == elf::STT_FILE.0 {
        return None;
    }
    let weak = symbol.st_info >> 4 == elf::STB_WEAK.0;
    let letter = match symbol.place {
        rows::Place::Reserved(0) => return Some(b'U'),
        _ if weak && kind == elf::STT_OBJECT.0 => b'V',
        _ if weak => b'W',
        _ if kind == elf::STT_FUNC.0 => b'T',
        _ => b'D',
    };
    Some(if symbol.is_local() {
        letter.to_ascii_lowercase()
    } else {
        letter
    })
}
