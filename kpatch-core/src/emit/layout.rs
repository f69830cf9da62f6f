//! Where each atom goes.

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
    /// Offset in it.
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
    /// The list of places for the tracer, if it is made here.
    pub sites: Option<usize>,
    pub places: BTreeMap<Id<Patched, Atom>, Spot>,
}

impl Layout {
    /// Functions and variables get sections of their own; strings and entries are gathered by section name.
    pub fn of(object: &Object<'_, Patched>, atoms: &[Id<Patched, Atom>]) -> Self {
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
            layout.append(object, *atom, index);
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
            // Functions that share a section are taken apart, and no two of a unit have the same name.
            Some(name) => format!(".text.{name}"),
            None => section.name.to_owned(),
        };
        // Strings are not merged again: that would be decided by addends that point before the string.
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

    fn append(&mut self, object: &Object<'_, Patched>, atom: Id<Patched, Atom>, index: usize) {
        let row = &object.atoms[atom];
        let source = &object.sections[row.section];
        let section = &mut self.sections[index];
        let len = row.end - row.start;
        let (align, len) = match (source.class, row.kind) {
            // The last one may lack its padding. The section of another object may come behind it.
            (Class::Special(Split::Padded(size)), _) => (source.sh_addralign.max(1), len.next_multiple_of(size)),
            // Entries lie without gaps, whatever their size: the kernel walks them as an array.
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

    /// objtool makes static call sites only for keys that the object names: a table that does, dropped by the linker
    /// script of modules.
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
