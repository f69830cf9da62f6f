//! Which functions of a kernel or module may be called through a pointer.
//!
//! A kernel whose indirect calls are checked does not let every function be their target. Compilers leave the landing
//! pad out where nobody takes the address, and what the link finds to have one in vain the kernel removes when it starts.
//! Which these are stands in the files of the kernel that runs; the objects of one unit do not tell.

use std::collections::BTreeSet;
use std::fmt;

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};

use super::sites::{self, Place};
use crate::arch::{self, Landing};
use crate::located::Memory;

type Header = FileHeader64<Endianness>;

/// Bytes between a function's entry and the start of what may stand in front of it: the longest padding that x86-64
/// kernels ask for is 59 bytes (arch/x86/Kconfig, FUNCTION_PADDING_BYTES, 6.12) behind an instruction of five.
const FARTHEST: u64 = 64;

/// Whether a prefix symbol can be that of a function at `entry`.
pub fn is_before(prefix: u64, entry: u64) -> bool {
    prefix < entry && entry - prefix <= FARTHEST
}

/// What a kernel checks when it calls a function through a pointer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    /// A landing pad at the entry.
    pub pad: bool,
    /// The hash of the function's type in front of it.
    pub hash: bool,
}

impl Checks {
    /// What one of two kernels checks.
    pub fn or(self, other: Checks) -> Checks {
        Checks {
            pad: self.pad || other.pad,
            hash: self.hash || other.hash,
        }
    }
}

/// Why a function must not be called through a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The kernel removes its landing pad at boot.
    Sealed,
    /// It has no landing pad.
    NoPad,
    /// It has no hash of its type.
    NoHash,
    /// Its hash is that of another type.
    OtherHash,
}

impl Flaw {
    /// Whether it is the kernel that removes the landing pad.
    pub fn is_sealed(self) -> bool {
        self == Flaw::Sealed
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::Sealed => "the kernel seals it at boot, since nothing in the kernel takes its address",
            Flaw::NoPad => "it has no landing pad, since nothing in its file takes its address",
            Flaw::NoHash => "it has no hash of its type, since nothing in its file takes its address",
            Flaw::OtherHash => "its type in the kernel is another than the caller's",
        })
    }
}

/// A function's entry.
pub struct Entry {
    /// Number of its section, and `st_value`.
    pub place: (usize, u64),
    /// The same as lists of places have it.
    pub listed: Place,
    /// `st_value` of the symbol of its hash.
    pub prefix: Option<u64>,
}

/// What an image says about the entries of its functions.
pub struct Landings<'d> {
    rules: &'static Landing,
    /// Address and bytes of each section.
    sections: Vec<(u64, &'d [u8])>,
    sealed: BTreeSet<Place>,
    checks: Checks,
}

impl<'d> Landings<'d> {
    /// Reads an image: vmlinux if it is `whole`, else a module. `has_prefix` tells whether a symbol starts with a name.
    /// `None` for a machine that checks nothing.
    pub fn read(whole: bool, bytes: &'d [u8], has_prefix: &dyn Fn(&str) -> bool) -> object::read::Result<Option<Self>> {
        let header = Header::parse(bytes)?;
        let endian = header.endian()?;
        let Some(rules) = arch::for_machine(header.e_machine(endian)).and_then(|arch| arch.facts().landing) else {
            return Ok(None);
        };
        let sections = header.sections(endian, bytes)?;
        let mut rows = Vec::with_capacity(sections.len());
        let mut sealed = None;
        for (index, section) in sections.enumerate() {
            let data = section.data(endian, bytes).unwrap_or_default();
            rows.push((section.sh_addr(endian), data));
            if rules
                .seals
                .is_none_or(|name| sections.section_name(endian, section) != Ok(name.as_bytes()))
            {
                continue;
            }
            sealed.get_or_insert_with(BTreeSet::new).extend(if whole {
                places(section.sh_addr(endian), data, endian)
            } else {
                sites::relocated(&sections, bytes, endian, |applied| Ok(applied == index))?
            });
        }
        Ok(Some(Self::new(rules, rows, sealed, has_prefix)))
    }

    /// Those of a kernel image in memory. `None` for a machine that checks nothing.
    pub fn of_memory(memory: &'d Memory<'_>) -> Option<Self> {
        let rules = memory.arch.facts().landing?;
        let count = memory.regions.iter().map(|region| region.section + 1).max();
        let mut rows: Vec<(u64, &[u8])> = vec![(0, &[]); count.unwrap_or(0)];
        let mut sealed = None;
        for region in &memory.regions {
            rows[region.section] = (region.start, &region.data);
            if rules.seals == Some(region.name.as_str()) {
                sealed
                    .get_or_insert_with(BTreeSet::new)
                    .extend(places(region.start, &region.data, Endianness::Little));
            }
        }
        let has_prefix = |start: &str| memory.symbols().iter().any(|symbol| symbol.name.starts_with(start));
        Some(Self::new(rules, rows, sealed, &has_prefix))
    }

    /// `sealed` is what the kernel's list has; nothing if there is no list.
    fn new(
        rules: &'static Landing,
        sections: Vec<(u64, &'d [u8])>,
        sealed: Option<BTreeSet<Place>>,
        has_prefix: &dyn Fn(&str) -> bool,
    ) -> Self {
        let checks = Checks {
            pad: sealed.is_some(),
            hash: rules.prefix.is_some_and(has_prefix),
        };
        Landings {
            rules,
            sections,
            sealed: sealed.unwrap_or_default(),
            checks,
        }
    }

    /// Whether no list of removed landing pads could tell that the kernel is built for the check.
    pub fn are_unlisted(&self) -> bool {
        self.rules.seals.is_none()
    }

    /// Whether the code at an address begins with the landing pad that compilers put at a traced function's entry.
    pub fn has_pad(&self, section: usize, value: u64) -> bool {
        let usual = self.rules.pads.first();
        usual.is_some_and(|pad| self.bytes(section, value).starts_with(pad))
    }

    /// The same for a kernel that is, or is not, known to ask for landing pads by the code it has.
    pub fn with_pads(mut self, pads: bool) -> Self {
        self.checks.pad |= pads;
        self
    }

    /// What the kernel of this image checks, as far as the image shows.
    pub fn checks(&self) -> Checks {
        self.checks
    }

    /// The name of the symbol in front of a function that has its hash.
    pub fn prefix_of(&self, name: &str) -> Option<String> {
        self.rules.prefix.map(|prefix| format!("{prefix}{name}"))
    }

    /// What is wrong with a function.
    pub fn flaw(&self, entry: &Entry, checks: Checks, expected: Option<u32>) -> Option<Flaw> {
        let (section, value) = entry.place;
        if checks.pad && self.sealed.contains(&entry.listed) {
            return Some(Flaw::Sealed);
        }
        if checks.pad && self.rules.pad(self.bytes(section, value)) == 0 {
            return Some(Flaw::NoPad);
        }
        if !checks.hash || self.rules.prefix.is_none() {
            return None;
        }
        let hash = entry.prefix.and_then(|at| self.rules.hash(self.bytes(section, at)));
        match (hash, expected) {
            (None, _) => Some(Flaw::NoHash),
            (Some(has), Some(wants)) if has != wants => Some(Flaw::OtherHash),
            _ => None,
        }
    }

    /// The bytes of a section from an address on.
    fn bytes(&self, section: usize, value: u64) -> &'d [u8] {
        let found = self.sections.get(section).and_then(|(start, data)| {
            let from = usize::try_from(value.checked_sub(*start)?).ok()?;
            data.get(from..)
        });
        found.unwrap_or_default()
    }
}

/// The places of a linked list: distances of four bytes from each entry.
fn places(start: u64, data: &[u8], endian: Endianness) -> Vec<Place> {
    let number = match endian {
        Endianness::Little => i32::from_le_bytes,
        Endianness::Big => i32::from_be_bytes,
    };
    let entry = |(index, entry): (usize, &[u8])| {
        let distance = number(entry.try_into().expect("chunks_exact gives four bytes"));
        let at = start.wrapping_add(4 * index as u64);
        (0, at.wrapping_add_signed(distance.into()))
    };
    data.chunks_exact(4).enumerate().map(entry).collect()
}
