//! Sections made anew for the emitted object: address slots, and the list of tracing sites.

use object::elf;

use super::layout::Layout;
use super::relocs::push;
use super::{Emitter, Symbols};
use crate::arch::{Arch, Tracing};
use crate::elf::{Rela, Section};
use crate::ids::{Atom, Id, Patched};
use crate::read::AtomKind;
use crate::select::tracing_site;

/// Size of an address in bytes.
const POINTER: u64 = 8;
/// Name of the section of slots where the compiler has none.
const OWN_SLOTS: &str = ".data.slots";

impl Layout {
    /// Adds an empty section of address slots. It is writable, since livepatch may write there late.
    pub fn add_slots(&mut self, name: &str) {
        self.slots = Some(self.add_table(name, elf::SHF_WRITE.0));
    }

    /// Adds an empty list of tracing sites.
    pub fn add_sites(&mut self) {
        self.sites = Some(self.add_table("__mcount_loc", 0));
    }

    fn add_table(&mut self, name: &str, flags: u64) -> usize {
        self.sections.push(Section {
            name: name.into(),
            sh_type: elf::SHT_PROGBITS.0,
            sh_flags: elf::SHF_ALLOC.0 | flags,
            sh_addralign: POINTER,
            ..Section::default()
        });
        self.sections.len() - 1
    }

    /// Appends a pointer to a table and returns its offset.
    fn grow(&mut self, table: usize, value: i64) -> u64 {
        let section = &mut self.sections[table];
        section.data.extend(value.to_le_bytes());
        section.size += POINTER;
        section.size - POINTER
    }

    /// Finds or adds the slot that holds an address or number. Returns the symbol and addend of a relocation to the
    /// slot.
    pub fn slot(
        &mut self,
        symbols: &Symbols,
        symbol: Option<usize>,
        addend: i64,
        arch: &dyn Arch,
    ) -> (Option<usize>, i64) {
        let table = self.slots.expect("made if any selected code uses one");
        let found = self.held.iter().position(|held| *held == (symbol, addend));
        let index = found.unwrap_or_else(|| {
            self.held.push((symbol, addend));
            let r_offset = self.grow(table, if symbol.is_some() { 0 } else { addend });
            if symbol.is_some() {
                let r_type = arch.facts().relocs.pointer.0;
                let r_addend = addend;
                push(
                    self,
                    table,
                    Rela {
                        r_offset,
                        symbol,
                        r_type,
                        r_addend,
                    },
                );
            }
            self.held.len() - 1
        });
        (Some(symbols.of_section[table]), (index as u64 * POINTER) as i64)
    }
}

impl Emitter<'_, '_> {
    /// The section of address slots, if any selected code loads an address from one.
    pub(super) fn slots(&self) -> Option<&'static str> {
        let object = &self.group.units[self.unit].patched;
        let mut atoms = self.atoms.iter();
        if let Some(name) = object.arch.facts().slot_section {
            let used = atoms.any(|atom| object.relocs(*atom).iter().any(|reloc| reloc.by_slot));
            return used.then_some(name);
        }
        let used = atoms.any(|atom| {
            let routes = &self.routes.of[&(self.unit, *atom)];
            let mut rows = object.relocs(*atom).iter().zip(routes);
            rows.any(|(reloc, route)| self.needs_slot(*atom, reloc, route).is_some())
        });
        used.then_some(OWN_SLOTS)
    }

    /// The functions whose tracing site must be listed here, and the offset of the site in the atom.
    pub(super) fn site_atoms(&self) -> impl Iterator<Item = (Id<Patched, Atom>, u64)> {
        let object = &self.group.units[self.unit].patched;
        // Patchable entries have one section for each function: see `add_patchable_entries`.
        let entries = object.arch.facts().tracing.mark == Tracing::PatchableEntries;
        // With CONFIG_FTRACE_MCOUNT_USE_CC the compiler lists the sites, and objtool will not list them again.
        let by_compiler = object
            .sections
            .iter()
            .any(|(_, section)| section.name == "__mcount_loc");
        let listed = !entries && (self.finished || by_compiler || object.arch.facts().tracing.lists_sites);
        let functions = self.atoms.iter().copied().filter(move |_| listed);
        let functions = functions.filter(|atom| object.atoms[*atom].kind == AtomKind::Function);
        functions.filter_map(|atom| Some((atom, tracing_site(object, atom)? - object.atoms[atom].start)))
    }

    /// For machines whose compiler lists the sites: one list for each function, linked to its section (SHF_LINK_ORDER),
    /// so that a linker that drops the function drops the entry, too.
    pub(super) fn add_patchable_entries(&self, layout: &mut Layout, symbols: &Symbols) {
        let object = &self.group.units[self.unit].patched;
        if object.arch.facts().tracing.mark != Tracing::PatchableEntries {
            return;
        }
        for atom in &self.atoms {
            if object.atoms[*atom].kind != AtomKind::Function {
                continue;
            }
            let Some(site) = tracing_site(object, *atom) else {
                continue;
            };
            let spot = layout.place(*atom);
            let table = layout.add_table("__patchable_function_entries", elf::SHF_WRITE.0 | elf::SHF_LINK_ORDER.0);
            layout.sections[table].sh_link = Some(spot.section);
            let r_offset = layout.grow(table, 0);
            let row = Rela {
                r_offset,
                symbol: Some(symbols.of_section[spot.section]),
                r_type: object.arch.facts().relocs.pointer.0,
                r_addend: (spot.offset + (site - object.atoms[*atom].start)) as i64,
            };
            push(layout, table, row);
        }
    }

    /// Fills the list of tracing sites.
    pub(super) fn list_sites(&self, layout: &mut Layout, symbols: &Symbols) {
        let Some(table) = layout.sites else { return };
        let r_type = self.group.units[self.unit].patched.arch.facts().relocs.pointer.0;
        let sites: Vec<_> = self.site_atoms().collect();
        for (atom, offset) in sites {
            let spot = layout.place(atom);
            let r_offset = layout.grow(table, 0);
            let symbol = Some(symbols.of_section[spot.section]);
            let r_addend = (spot.offset + offset) as i64;
            push(
                layout,
                table,
                Rela {
                    r_offset,
                    symbol,
                    r_type,
                    r_addend,
                },
            );
        }
    }
}
