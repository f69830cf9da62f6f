//! Mutation of whole objects: random bytes rarely get past the tables of an ELF file, so a file is taken apart, one of
//! its rows changed, and put together again.

use kpatch_core::elf::{self, File, Place};

/// A small generator, so that a seed stands for one mutation.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Numbers near the ends of what a field holds are where mistakes are.
    fn number(&mut self, near: u64) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => near.wrapping_add(1),
            4 => near.wrapping_sub(1),
            _ => self.next() % 4096,
        }
    }
}

/// Changes one thing of an object; `None` if the bytes are no object.
pub fn mutate(bytes: &[u8], seed: u32) -> Option<Vec<u8>> {
    let mut file = elf::read(bytes).ok()?;
    let mut random = Random(u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..=random.below(3) {
        match random.below(4) {
            0 => section(&mut file, &mut random),
            1 => symbol(&mut file, &mut random),
            2 => relocation(&mut file, &mut random),
            _ => data(&mut file, &mut random),
        }
    }
    Some(file.write())
}

fn section(file: &mut File, random: &mut Random) {
    let names: Vec<String> = file.sections.iter().map(|section| section.name.clone()).collect();
    let count = file.sections.len();
    let Some(section) = file.sections.get_mut(random.below(count)) else { return };
    match random.below(4) {
        0 => section.sh_flags ^= 1 << random.below(12),
        1 => section.sh_entsize = random.number(section.sh_entsize),
        2 => section.name = names[random.below(names.len())].clone(),
        _ => {
            let len = random.below(section.data.len() + 1);
            section.data.truncate(len);
            section.size = len as u64;
        }
    }
}

fn symbol(file: &mut File, random: &mut Random) {
    let (count, sections) = (file.symbols.len(), file.sections.len());
    let name = file.symbols.get(random.below(count)).map(|symbol| symbol.name.clone());
    let Some(symbol) = file.symbols.get_mut(random.below(count)) else { return };
    match random.below(5) {
        0 => symbol.st_value = random.number(symbol.st_value),
        1 => symbol.st_size = random.number(symbol.st_size),
        // The binding stays: locals stand before globals.
        2 => symbol.st_info = symbol.st_info & 0xf0 | random.below(8) as u8,
        3 => symbol.name = name.unwrap_or_default(),
        _ if matches!(symbol.place, Place::Section(_)) => symbol.place = Place::Section(random.below(sections)),
        _ => {}
    }
}

fn relocation(file: &mut File, random: &mut Random) {
    let symbols = file.symbols.len();
    let rows = file.sections.iter_mut().flat_map(|section| &mut section.relas).flat_map(|rela| &mut rela.rows);
    let mut rows: Vec<_> = rows.collect();
    let count = rows.len();
    let Some(row) = rows.get_mut(random.below(count)) else { return };
    match random.below(4) {
        0 => row.r_offset = random.number(row.r_offset),
        1 => row.r_addend = random.number(row.r_addend as u64) as i64,
        2 => row.r_type = random.below(128) as u32,
        _ => row.symbol = (symbols > 0).then(|| random.below(symbols)),
    }
}

fn data(file: &mut File, random: &mut Random) {
    let count = file.sections.len();
    let Some(section) = file.sections.get_mut(random.below(count)) else { return };
    let len = section.data.len();
    if let Some(byte) = section.data.get_mut(random.below(len)) {
        *byte = random.next() as u8;
    }
}
