//! The symbols of a kernel that has no symbol table, and where files of it are that were found in it
//! ([`crate::located`]) instead of in a record of its link.

use std::collections::HashMap;

use object::elf;

use super::image::{Image, Row};
use super::landings::Landings;
use crate::located::{Memory, Part, Symbol};

impl<'d> Image<'d> {
    /// The kernel image as kallsyms and its sections show it. Sizes are not known but for what [`Image::locate`] adds.
    pub fn of_memory(memory: &'d Memory<'_>) -> Self {
        let mut image = Image::empty(memory.name.clone());
        for symbol in memory.symbols() {
            image.add(row(memory, symbol));
        }
        image.sort();
        let sections = memory.regions.iter().map(|region| region.name.as_bytes());
        let machine = memory.arch.facts().machine;
        image.complete(machine, sections.collect(), sites(memory), Landings::of_memory(memory));
        image
    }

    /// Tells where the named parts of a unit are that was found in `memory`, which is this image. From then on they are
    /// what the unit's local names mean, and their sizes are known.
    pub fn locate(&mut self, memory: &Memory<'_>, unit: &str, parts: &[Part]) {
        let mut own = HashMap::new();
        for part in parts {
            let place = if memory.name.is_vmlinux() {
                None
            } else {
                memory.place(part.address)
            };
            let is_it = |value: u64, section: usize| match place {
                None => value == part.address,
                Some((number, offset)) => value == offset && section == number,
            };
            if let Some(id) = self.at(&part.name, is_it) {
                own.insert(part.name.clone(), id);
                self.set_size(id, part.size);
            }
        }
        self.set_located(unit, own);
    }
}

fn row<'d>(memory: &'d Memory<'_>, symbol: &'d Symbol) -> Row<'d> {
    let function = matches!(symbol.kind, b't' | b'T' | b'w' | b'W');
    let bind = match symbol.kind {
        b'w' | b'W' | b'v' | b'V' => elf::STB_WEAK,
        kind if kind.is_ascii_lowercase() => elf::STB_LOCAL,
        _ => elf::STB_GLOBAL,
    };
    // A mark for the end of what lies before has the address at which the next section starts.
    let init = memory
        .section_name(symbol.address)
        .is_some_and(|name| name.starts_with(".init"));
    let mark = !function && memory.place(symbol.address).is_some_and(|(_, offset)| offset == 0);
    Row {
        name: &symbol.name,
        value: symbol.address,
        size: 0,
        init: init && !mark,
        section: memory.place(symbol.address).map_or(0, |(number, _)| number),
        bind,
        kind: if function { elf::STT_FUNC } else { elf::STT_OBJECT },
        shndx: elf::SymbolSection(1),
        hidden: false,
    }
}

/// The table of tracing sites, as linked.
fn sites(memory: &Memory<'_>) -> Vec<super::sites::Place> {
    let bound = |name: &str| memory.addresses(name).next();
    let (Some(start), Some(stop)) = (bound("__start_mcount_loc"), bound("__stop_mcount_loc")) else {
        return Vec::new();
    };
    let table = memory.bytes(start, stop.saturating_sub(start)).unwrap_or_default();
    let entries = table.chunks_exact(8).filter_map(|entry| entry.try_into().ok());
    entries.map(|entry| (0, u64::from_le_bytes(entry))).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::arch::X86_64;
    use crate::group::ObjectName;
    use crate::located::Region;
    use crate::resolve::landings::Flaw;

    const TEXT: u64 = 0xffff_ffff_8100_0000;
    const SEALS: u64 = 0xffff_ffff_8200_0000;
    const PAD: [u8; 16] = [0xf3, 0x0f, 0x1e, 0xfa, 0xc3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn region(name: &str, section: usize, start: u64, data: Vec<u8>) -> Region<'static> {
        Region {
            start,
            size: data.len() as u64,
            data: Cow::Owned(data),
            name: name.into(),
            section,
        }
    }

    /// A kernel whose list of seals has the first of three functions; the last has no landing pad.
    fn flaws(seals: &str) -> [Option<Flaw>; 3] {
        let code = [&PAD[..], &PAD, &[0xc3; 16]].concat();
        let sealed = TEXT.wrapping_sub(SEALS) as u32;
        let regions = vec![
            region(".text", 1, TEXT, code),
            region(seals, 3, SEALS, sealed.to_le_bytes().to_vec()),
        ];
        let names = ["sealed", "good", "bare"];
        let symbol = |(number, name): (u64, &str)| Symbol {
            address: TEXT + 16 * number,
            kind: b'T',
            name: name.into(),
        };
        let symbols = (0..).zip(names).map(symbol).collect();
        let memory = Memory::new(ObjectName::vmlinux(), &X86_64, regions, symbols);
        let image = Image::of_memory(&memory);
        names.map(|name| image.flaw(image.global(name)[0], image.checks(), None))
    }

    #[test]
    fn a_stock_kernel_tells_what_may_be_called_through_a_pointer() {
        assert_eq!(flaws(".ibt_endbr_seal"), [Some(Flaw::Sealed), None, Some(Flaw::NoPad)]);
        assert_eq!(flaws(".other"), [None; 3], "a kernel without the list checks nothing");
    }
}
