//! Bytes to [`Object`]: sections, symbols and relocations of one relocatable file, cut into atoms.
//!
//! An atom is the smallest piece of a section that is kept or left as a whole: a function with the padding before it, a
//! variable, one string of a string section, one entry of a special section. Compilers can put each function and
//! variable into its own section, but not those with a section attribute (`.sched.text`, `.data..once`, `__dyndbg`). A
//! differ that works on whole sections has to refuse those.
//!
//! The input is hostile until proven otherwise: every index is checked, and nothing here panics on bad bytes.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod atoms;
mod blocks;
mod elf;
mod entries;
mod initcalls;
mod landing;
mod marks;
mod memory;
mod relocs;
mod sanitizer;
mod sections;
mod switches;

use crate::arch::{self, Arch, RelocKind, SpecialSection, Use};
use crate::error::{Error, Subject};
use crate::ids::{Atom, Id, Sec, Side, Sym, Table};

pub(crate) use elf::RawReloc;

pub use blocks::FileBlock;
pub use marks::{CALLBACK_POINTERS, CALLBACK_RECORDS, is_mark};
pub use memory::Memory;
pub(crate) use sanitizer::is_descriptor;
pub use sections::Class;

pub use crate::codes::object::{BAD_ELF, BAD_ENTRIES, BAD_MACHINE, BAD_RELOCATION};
/// One relocatable object, cut into atoms.
pub struct Object<'d, S> {
    /// Name in messages: the object's path relative to the build directory.
    pub file: String,
    /// The architecture that its `e_machine` names.
    pub arch: &'static dyn Arch,
    /// Size of the file in bytes.
    pub size: usize,
    /// `e_flags`, as the machine's ABI defines them.
    pub e_flags: u32,
    /// In file order; row 0 is the null section.
    pub sections: Table<S, Sec, Section<'d, S>>,
    /// In file order; row 0 is the null symbol.
    pub symbols: Table<S, Sym, Symbol<'d, S>>,
    /// In section and offset order.
    pub atoms: Table<S, Atom, AtomRow<S>>,
    /// The source files, in symbol table order.
    pub blocks: Vec<FileBlock<'d>>,
    /// Section and offset of each place that `__patchable_function_entries` points at, sorted. Empty if the machine
    /// does not list tracing sites there.
    pub patchable: Vec<(Id<S, Sec>, u64)>,
    /// What the lists of initcalls name, with the list.
    pub at_boot: Vec<(&'d str, Id<S, Atom>)>,
    /// Whether a constructor registers its variables with KASAN.
    pub registers: bool,
}

/// One section with its relocations and the atoms that it was cut into.
pub struct Section<'d, S> {
    /// Name from the section header string table.
    pub name: &'d str,
    /// `sh_type`: what the section holds (SHT_*).
    pub sh_type: u32,
    /// `sh_flags`: how it is loaded (SHF_*).
    pub sh_flags: u64,
    /// `sh_addralign`, at least 1.
    pub sh_addralign: u64,
    /// `sh_entsize`: bytes of an entry; 0 if there are none.
    pub sh_entsize: u64,
    /// `sh_size`; more than `data` for SHT_NOBITS.
    pub sh_size: u64,
    /// The bytes; empty for SHT_NOBITS.
    pub data: &'d [u8],
    /// What the section holds.
    pub class: Class,
    /// Its row in the architecture's table of special sections.
    pub special: Option<&'static SpecialSection>,
    /// Its relocations, ordered by offset.
    pub relocs: Vec<Reloc<S>>,
    /// The atoms of this section: consecutive ids.
    pub atoms: std::ops::Range<usize>,
}

/// One symbol of the symbol table.
pub struct Symbol<'d, S> {
    /// Name; empty for section symbols.
    pub name: &'d str,
    /// Type: STT_FUNC, STT_OBJECT, …
    pub st_type: u8,
    /// Binding: STB_LOCAL, STB_GLOBAL, STB_WEAK.
    pub st_bind: u8,
    /// Where it is defined; `None`: undefined, absolute or common.
    pub section: Option<Id<S, Sec>>,
    /// Whether `st_shndx` is SHN_ABS.
    pub absolute: bool,
    /// `st_value`: offset in the section in bytes.
    pub st_value: u64,
    /// `st_size` in bytes; 0 if it is not known.
    pub st_size: u64,
    /// `st_other`: visibility, and on ppc64le the distance to the local entry.
    pub st_other: u8,
}

impl<S> Symbol<'_, S> {
    /// Whether the binding is STB_LOCAL.
    pub fn is_local(&self) -> bool {
        self.st_bind == object::elf::STB_LOCAL.0
    }

    /// Whether the type is STT_FUNC.
    pub fn is_function(&self) -> bool {
        self.st_type == object::elf::STT_FUNC.0
    }

    /// Whether the type is STT_SECTION.
    pub fn is_section(&self) -> bool {
        self.st_type == object::elf::STT_SECTION.0
    }
}

/// What an atom is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AtomKind {
    /// A function, with the padding before its entry.
    Function,
    /// A named variable or constant.
    Object,
    /// One string of an SHF_STRINGS section.
    String,
    /// Bytes without a symbol, or whose name the compiler made up: identified by their content.
    Anonymous,
    /// An entry of a special section.
    Entry,
    /// A piece of a special section that others point at.
    Piece,
}

/// The smallest piece of a section that is kept or left as a whole.
pub struct AtomRow<S> {
    /// The section it lies in.
    pub section: Id<S, Sec>,
    /// First byte, padding before a function included.
    pub start: u64,
    /// Offsets into the atom count from here: a function's entry, else `start`.
    pub anchor: u64,
    /// One past the last byte.
    pub end: u64,
    /// What kind of piece it is.
    pub kind: AtomKind,
    /// The symbol that names it.
    pub symbol: Option<Id<S, Sym>>,
    /// Other symbols at the same place.
    pub aliases: Vec<Id<S, Sym>>,
    /// Its relocations, as a range in the section's list.
    pub relocs: std::ops::Range<usize>,
    /// Alignment it needs in bytes.
    pub align: u64,
}

/// A relocation with its meaning.
pub struct Reloc<S> {
    /// `r_offset`: place in the section.
    pub offset: u64,
    /// Type of the relocation (R_*).
    pub r_type: u32,
    /// What the type does.
    pub kind: RelocKind,
    /// `r_addend`, or the addend that a filled-in branch would have.
    pub addend: i64,
    /// Distance in bytes from the field to the point that a relative value counts from.
    pub bias: i16,
    /// Whether control goes there.
    pub usage: Use,
    /// What it stands for.
    pub target: Target<S>,
    /// Whether it names the target's section instead of a symbol.
    pub by_section: bool,
    /// Whether the code loads the address from a slot. Then the target is what the slot holds.
    pub by_slot: bool,
    /// Whether the assembler had filled it in, so that the field is not zero.
    pub filled: Filled,
}

/// Whether the assembler had filled in a reference that needs a relocation once its atoms are moved apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The file has a relocation.
    No,
    /// The assembler filled it in, and a relocation can replace it.
    Movable,
    /// The assembler filled it in, and the field is too short for a relocation: the two atoms must stay together.
    TooShort,
}

impl<S> Clone for Reloc<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Reloc<S> {}

/// What a relocation stands for.
pub enum Target<S> {
    /// A byte of this object: `delta` bytes from the atom's anchor.
    Atom {
        /// The atom that it leads to.
        atom: Id<S, Atom>,
        /// Bytes from its anchor.
        delta: i64,
    },
    /// A byte of something defined elsewhere.
    Extern {
        /// The undefined symbol that it names.
        symbol: Id<S, Sym>,
        /// Bytes from the symbol.
        delta: i64,
    },
    /// A number: no address is meant.
    Absolute(i64),
}

impl<S> Clone for Target<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Target<S> {}

impl<'d, S: Side> Object<'d, S> {
    /// An object without anything in it: the original side of a new source file.
    pub fn empty(file: &str, arch: &'static dyn Arch) -> Self {
        let (sections, symbols, atoms) = (Table::default(), Table::default(), Table::default());
        Object {
            file: file.to_owned(),
            arch,
            size: 0,
            e_flags: 0,
            sections,
            symbols,
            atoms,
            blocks: Vec::new(),
            patchable: Vec::new(),
            at_boot: Vec::new(),
            registers: false,
        }
    }

    /// Whether `.comment` says that LLVM made the object.
    pub fn is_by_llvm(&self) -> bool {
        let comment = self.sections.iter().find(|(_, section)| section.name == ".comment");
        let says = |data: &[u8]| {
            [&b"clang"[..], b"LLVM"]
                .iter()
                .any(|name| data.windows(name.len()).any(|text| text == *name))
        };
        comment.is_some_and(|(_, section)| says(section.data))
    }

    /// The relocations of an atom.
    pub fn relocs(&self, atom: Id<S, Atom>) -> &[Reloc<S>] {
        let row = &self.atoms[atom];
        self.sections[row.section].relocs.get(row.relocs.clone()).unwrap_or(&[])
    }

    /// The bytes of an atom, padding before the anchor included; empty for SHT_NOBITS.
    pub fn bytes(&self, atom: Id<S, Atom>) -> &'d [u8] {
        let row = &self.atoms[atom];
        self.sections[row.section]
            .data
            .get(row.start as usize..row.end as usize)
            .unwrap_or(&[])
    }

    /// The name of an atom: its symbol's.
    pub fn name(&self, atom: Id<S, Atom>) -> Option<&'d str> {
        self.atoms[atom].symbol.map(|symbol| self.symbols[symbol].name)
    }

    /// A name to print: the symbol's, or the section and offset.
    pub fn label(&self, atom: Id<S, Atom>) -> String {
        let row = &self.atoms[atom];
        match self.name(atom) {
            Some(name) => name.to_owned(),
            None => format!("{}+{:#x}", self.sections[row.section].name, row.start),
        }
    }

    /// The subject of messages about an atom.
    pub fn subject(&self, atom: Id<S, Atom>) -> Subject {
        let row = &self.atoms[atom];
        let subject = Subject::file(&self.file).section(self.sections[row.section].name);
        match self.name(atom) {
            Some(name) => subject.symbol(name),
            None => subject.offset(row.start),
        }
    }

    /// What the section of an atom holds.
    pub fn class(&self, atom: Id<S, Atom>) -> Class {
        self.sections[self.atoms[atom].section].class
    }

    /// Whether an atom is code or data of the way out: of a module, or of what is built in and never goes.
    pub fn is_exit(&self, atom: Id<S, Atom>) -> bool {
        self.sections[self.atoms[atom].section].name.starts_with(".exit")
    }

    /// Which kind of memory an atom lies in.
    pub fn memory(&self, atom: Id<S, Atom>) -> Memory<'d> {
        Memory::of(&self.sections[self.atoms[atom].section])
    }

    /// How many bytes an atom has from its anchor on, as its symbol says: code behind a function does not count.
    pub fn size(&self, atom: Id<S, Atom>) -> u64 {
        let row = &self.atoms[atom];
        let all = row.end - row.anchor;
        let said = row.symbol.map(|symbol| self.symbols[symbol].st_size);
        said.filter(|size| *size > 0).map_or(all, |size| size.min(all))
    }

    /// Distance in bytes from a function's entry to its local entry, where branches to its symbol go; 0 if there is
    /// none.
    pub fn local_entry(&self, atom: Id<S, Atom>) -> u64 {
        let symbol = self.atoms[atom].symbol;
        symbol.map_or(0, |symbol| self.arch.local_entry(self.symbols[symbol].st_other))
    }

    /// The atom of a section that holds an offset; the end of the section belongs to its last atom.
    pub fn atom_at(&self, section: Id<S, Sec>, offset: u64) -> Option<Id<S, Atom>> {
        let range = self.sections[section].atoms.clone();
        let count = range.len();
        let after = partition_point(count, |index| self.atoms[Id::new(range.start + index)].start <= offset);
        let atom = Id::new(range.start + after.checked_sub(1)?);
        (offset <= self.atoms[atom].end || after < count).then_some(atom)
    }
}

/// One table that [`object`] leaves out.
pub(crate) struct LeftOut<'d, S> {
    /// The section of the table.
    pub section: Id<S, Sec>,
    /// The bytes of the section.
    pub data: &'d [u8],
    /// Its relocations, ordered by offset.
    pub rows: Vec<RawReloc<S>>,
}

/// The relocations of sections that [`object`] leaves out. They are far more than a livepatch needs, so callers read
/// only the tables that they want.
///
/// # Errors
/// [`BAD_ELF`].
pub(crate) fn left_out<'d, S: Side>(
    object: &Object<'d, S>,
    bytes: &'d [u8],
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<LeftOut<'d, S>>, Error> {
    let raw = elf::parse::<S>(&object.file, bytes)?;
    let named = raw.sections.iter().filter(|(_, section)| wanted(section.name));
    let tables = named.map(|(section, row)| LeftOut {
        section,
        data: row.data,
        rows: raw.relocs.of(section),
    });
    Ok(tables.collect())
}

/// First index in `0..len` for which `holds` is false; `holds` is true then false.
fn partition_point(len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Reads one relocatable object. `file` is its name in messages.
///
/// # Errors
/// [`BAD_ELF`], [`BAD_MACHINE`], [`BAD_RELOCATION`] or [`BAD_ENTRIES`], naming the section.
pub fn object<'d, S: Side>(file: &str, bytes: &'d [u8]) -> Result<Object<'d, S>, Error> {
    let raw = elf::parse::<S>(file, bytes)?;
    let arch = arch::for_machine(raw.machine).ok_or_else(|| {
        Error::new(
            BAD_MACHINE,
            Subject::file(file),
            format!("e_machine {} is not supported", raw.machine.0),
        )
    })?;
    if !arch.accepts_flags(raw.e_flags) {
        let why = format!("e_flags {:#x} name another ABI", raw.e_flags);
        return Err(Error::new(BAD_MACHINE, Subject::file(file), why));
    }
    let mut object = Object {
        file: file.to_owned(),
        arch,
        size: bytes.len(),
        e_flags: raw.e_flags,
        sections: raw.sections,
        symbols: raw.symbols,
        atoms: Table::default(),
        blocks: Vec::new(),
        patchable: Vec::new(),
        at_boot: Vec::new(),
        registers: false,
    };
    blocks::find(&mut object);
    sections::classify(&mut object);
    let lengths = sanitizer::set_aside(&mut object, &raw.relocs);
    let raw_relocs = relocs::decode(&object, &raw.relocs)?;
    atoms::cut(&mut object, &raw_relocs, &lengths)?;
    relocs::attach(&mut object, raw_relocs)?;
    switches::settle(&mut object);
    object.at_boot = initcalls::listed(&object, &raw.relocs);
    Ok(object)
}
