//! Layout of the emitted object: sections, and the place of each atom in them.

use std::collections::BTreeMap;

use object::elf;

use crate::arch::Split;
use crate::elf::Section;
use crate::ids::{Atom, Id, Patched};
use crate::read::{AtomKind, Class, Object};

/// Where an atom's first byte is.
#[derive(Debug, Clone, Copy)]
pub struct Spot {
    /// Index of the section.
    pub section: usize,
    /// Offset of the first byte in the section.
    pub offset: u64,
}

/// The sections and the places of the atoms in them.
pub struct Layout {
    pub sections: Vec<Section>,
    /// The section of static call keys, if there are any.
    pub key_table: Option<usize>,
    /// The section of address slots, if there are any.
    pub slots: Option<usize>,
    /// What each slot holds: a symbol and a distance from it. The index is the slot's place.
    pub held: Vec<(Option<usize>, i64)>,
    /// The list of tracing sites (`__mcount_loc`), if it is made here.
    pub sites: Option<usize>,
    pub places: BTreeMap<Id<Patched, Atom>, Spot>,
}

impl Layout {
    /// Lays out the atoms: each function and variable in its own section, strings and entries gathered by section name.
    /// `behind` gives what is to follow an atom's own bytes.
    pub fn of(
        object: &Object<'_, Patched>,
        atoms: &[Id<Patched, Atom>],
        behind: impl Fn(Id<Patched, Atom>) -> Vec<u8>,
    ) -> Self {
        let mut layout = Layout {
            sections: Vec::new(),
            key_table: None,
            slots: None,
            held: Vec::new(),
            sites: None,
            places: BTreeMap::new(),
        };
        let mut gathered: BTreeMap<&str, usize> = BTreeMap::new();
        for atom in atoms {
            let row = &object.atoms[*atom];
            let name = object.sections[row.section].name;
            let index = match row.kind {
                AtomKind::Function | AtomKind::Object | AtomKind::Anonymous => layout.add(object, *atom),
                AtomKind::String | AtomKind::Entry | AtomKind::Piece => {
                    *gathered.entry(name).or_insert_with(|| layout.add(object, *atom))
                }
            };
            layout.append(object, *atom, index, &behind(*atom));
        }
        layout.sections.push(Section {
            name: ".note.GNU-stack".into(),
            sh_type: elf::SHT_PROGBITS.0,
            sh_addralign: 1,
            ..Section::default()
        });
        layout
    }

    fn add(&mut self, object: &Object<'_, Patched>, atom: Id<Patched, Atom>) -> usize {
        let row = &object.atoms[atom];
        let section = &object.sections[row.section];
        let name = match object.name(atom).filter(|_| section.name.starts_with(".text")) {
            // Functions that share a section are separated; no two of a unit have the same name.
            Some(name) => format!(".text.{name}"),
            None => section.name.to_owned(),
        };
        // Strings must not be merged again: a linker would choose the string by the addend, which may point before it.
        let merge = elf::SHF_MERGE.0 | elf::SHF_STRINGS.0;
        self.sections.push(Section {
            name,
            sh_type: section.sh_type,
            sh_flags: section.sh_flags & !(merge | elf::SHF_GROUP.0 | elf::SHF_LINK_ORDER.0),
            sh_addralign: 1,
            ..Section::default()
        });
        self.sections.len() - 1
    }

    fn append(&mut self, object: &Object<'_, Patched>, atom: Id<Patched, Atom>, index: usize, behind: &[u8]) {
        let row = &object.atoms[atom];
        let source = &object.sections[row.section];
        let section = &mut self.sections[index];
        let len = row.end - row.start;
        let (align, len) = match (source.class, row.kind) {
            // The last entry may lack its padding, and the section of another object may follow it in the module.
            (Class::Special(Split::Padded(size)), _) => (source.sh_addralign.max(1), len.next_multiple_of(size)),
            // The kernel walks entries as an array, so there must be no gaps.
            (_, AtomKind::Entry) => (1, len),
            _ => (row.align, len),
        };
        section.sh_addralign = section.sh_addralign.max(align);
        let offset = section.size.next_multiple_of(align);
        section.size = offset + len;
        if section.sh_type != elf::SHT_NOBITS.0 {
            section.data.resize(offset as usize, 0);
            section.data.extend_from_slice(object.bytes(atom));
            section.data.resize(section.size as usize, 0);
            section.data.extend_from_slice(behind);
            section.size += behind.len() as u64;
        }
        self.places.insert(atom, Spot { section: index, offset });
    }

    /// Where an atom is.
    ///
    /// # Panics
    /// If the atom was not laid out.
    pub fn place(&self, atom: Id<Patched, Atom>) -> Spot {
        self.places[&atom]
    }

    /// Where an atom is, if it was laid out.
    pub fn get(&self, atom: Id<Patched, Atom>) -> Option<Spot> {
        self.places.get(&atom).copied()
    }

    /// Adds a table that names the static call keys: objtool makes call sites only for keys that the object names. The
    /// linker script of modules drops the table.
    pub fn add_key_table(&mut self, keys: usize) {
        self.key_table = Some(self.sections.len());
        self.sections.push(Section {
            name: ".discard.addressable".into(),
            sh_type: elf::SHT_PROGBITS.0,
            sh_flags: elf::SHF_ALLOC.0 | elf::SHF_WRITE.0,
            sh_addralign: 8,
            data: vec![0; keys * 8],
            size: keys as u64 * 8,
            ..Section::default()
        });
    }
}
