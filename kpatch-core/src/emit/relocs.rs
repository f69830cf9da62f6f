//! The relocations of the emitted object.

use std::collections::BTreeSet;

use super::layout::Layout;
use super::{Emitter, Symbols};
use crate::arch::{Exchange, Use};
use crate::elf::{Rela, RelaSection};
use crate::ids::{Atom, Id, Patched};
use crate::read::{AtomKind, Class, Filled, Reloc};
use crate::resolve::Route;

impl Emitter<'_, '_> {
    /// Names that must be undefined in this object.
    pub(super) fn undefined(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for atom in &self.atoms {
            let key = (self.unit, *atom);
            let more = self.routes.rewrites[&key].iter().chain(&self.routes.detours[&key]);
            for route in self.routes.of[&key].iter().chain(more) {
                match route {
                    Route::Symbol { name, .. } => drop(names.insert(name.clone())),
                    Route::InPatch { unit, atom, .. } if *unit != self.unit => {
                        names.extend(self.group.units[*unit].patched.name(*atom).map(str::to_owned));
                    }
                    Route::InPatch { .. } | Route::Absolute(_) => {}
                }
            }
        }
        names.extend(
            self.routes
                .static_call_keys
                .get(&self.unit)
                .into_iter()
                .flatten()
                .cloned(),
        );
        names
    }

    /// Adds all relocations, and applies the rewrites.
    pub(super) fn relocate(&self, layout: &mut Layout, symbols: &Symbols) {
        for atom in &self.atoms {
            self.relocate_atom(layout, symbols, *atom);
            self.rewrite(layout, symbols, *atom);
            self.detour(layout, symbols, *atom);
        }
        if let Some(table) = layout.key_table {
            let object = &self.group.units[self.unit].patched;
            for (index, key) in self.routes.static_call_keys[&self.unit].iter().enumerate() {
                let row = Rela {
                    r_offset: index as u64 * 8,
                    symbol: Some(symbols.of_name[key]),
                    r_type: object.arch.facts().relocs.pointer.0,
                    r_addend: 0,
                };
                push(layout, table, row);
            }
        }
        self.list_sites(layout, symbols);
        self.add_patchable_entries(layout, symbols);
        for section in &mut layout.sections {
            for rela in &mut section.relas {
                rela.rows.sort_by_key(|row| row.r_offset);
            }
        }
    }

    fn relocate_atom(&self, layout: &mut Layout, symbols: &Symbols, atom: Id<Patched, Atom>) {
        let object = &self.group.units[self.unit].patched;
        let row = &object.atoms[atom];
        let spot = layout.place(atom);
        // objtool accepts only section symbols in annotations that compilers write that way.
        let keeps_sections = row.kind == AtomKind::Entry;
        for (reloc, route) in object.relocs(atom).iter().zip(&self.routes.of[&(self.unit, atom)]) {
            let offset = spot.offset + (reloc.offset - row.start);
            if reloc.filled != Filled::No {
                let field = offset as usize..offset as usize + usize::from(reloc.kind.size());
                object.arch.clear_filled(&mut layout.sections[spot.section].data[field]);
            }
            let by_section = keeps_sections && reloc.by_section || self.is_inner_branch(reloc, route);
            let (mut symbol, mut addend) = self.target(layout, symbols, route, by_section);
            let own_slot = self.needs_slot(atom, reloc, route);
            if reloc.by_slot || own_slot.is_some() {
                (symbol, addend) = layout.slot(symbols, symbol, addend, object.arch);
            }
            let exchange = own_slot.or_else(|| self.must_not_have_slot(atom, reloc, route));
            if let Some(exchange) = exchange {
                let start = (spot.offset + (exchange.start - row.start)) as usize;
                layout.sections[spot.section].data[start..start + 2].copy_from_slice(&exchange.bytes);
            }
            let made = Rela {
                r_offset: offset,
                symbol,
                r_type: exchange.map_or(reloc.r_type, |exchange| exchange.r_type),
                r_addend: addend.wrapping_sub(reloc.bias.into()),
            };
            push(layout, spot.section, made);
        }
    }

    /// The instruction for an address that it may be too far away from to take it by its distance: what others have, and
    /// per-CPU variables of the livepatch.
    pub(super) fn needs_slot(
        &self,
        user: Id<Patched, Atom>,
        reloc: &Reloc<Patched>,
        route: &Route,
    ) -> Option<Exchange> {
        let object = &self.group.units[self.unit].patched;
        let far = match route {
            Route::InPatch { .. } => self.is_per_cpu(route),
            Route::Symbol { name, .. } => self
                .routes
                .symbols
                .get(name)
                .is_none_or(|symbol| symbol.gate.is_vmlinux()),
            Route::Absolute(_) => false,
        };
        if !far || !object.arch.facts().loader.far_data || object.class(user) != Class::Text {
            return None;
        }
        let code = &object.sections[object.atoms[user].section].data;
        object.arch.with_slot(code, reloc.offset, reloc.r_type)
    }

    /// Whether a route leads to a per-CPU variable of the livepatch.
    fn is_per_cpu(&self, route: &Route) -> bool {
        let Route::InPatch { unit, atom, .. } = route else {
            return false;
        };
        self.group.units[*unit].patched.class(*atom) == Class::PerCpu
    }

    /// The instruction for an address whose slot the kernel would not fill again when the object that it is in, which is not
    /// the image, is loaded a second time; and for what the livepatch itself has, which is near: a slot has the address of a
    /// symbol, and not all of that has one.
    fn must_not_have_slot(&self, user: Id<Patched, Atom>, reloc: &Reloc<Patched>, route: &Route) -> Option<Exchange> {
        let object = &self.group.units[self.unit].patched;
        let near = match route {
            Route::InPatch { .. } => !self.is_per_cpu(route),
            Route::Symbol { name, .. } => !self.routes.symbols.get(name)?.gate.is_vmlinux(),
            Route::Absolute(_) => false,
        };
        if !near || !object.arch.facts().loader.fills_once(reloc.r_type) {
            return None;
        }
        let code = &object.sections[object.atoms[user].section].data;
        object.arch.without_slot(code, reloc.offset, reloc.r_type)
    }

    /// Whether a branch leads to code that belongs to the function it is in: to its middle, or to a part that the compiler
    /// split off (`.cold`). objtool takes a branch that names a function for a sibling call and follows it no further, so
    /// that code which only this branch reaches would get no unwinding rows (tools/objtool/check.c,
    /// `add_jump_destinations`, 6.1 to 6.12); and where functions have a local entry, the linker adds its distance.
    /// Compilers name the section.
    fn is_inner_branch(&self, reloc: &Reloc<Patched>, route: &Route) -> bool {
        let Route::InPatch { unit, atom, delta } = route else {
            return false;
        };
        let is_part = || self.group.units[*unit].patched.is_part(*atom);
        *unit == self.unit && reloc.usage == Use::Branch && (*delta != 0 || is_part())
    }

    fn rewrite(&self, layout: &mut Layout, symbols: &Symbols, atom: Id<Patched, Atom>) {
        let key = (self.unit, atom);
        let row = &self.group.units[self.unit].patched.atoms[atom];
        let spot = layout.place(atom);
        for (rewrite, route) in self.selection.atoms[&key]
            .rewrites
            .iter()
            .zip(&self.routes.rewrites[&key])
        {
            let start = (spot.offset + (rewrite.code.offset - row.start)) as usize;
            let bytes = &rewrite.code.bytes;
            layout.sections[spot.section].data[start..start + bytes.len()].copy_from_slice(bytes);
            let (symbol, addend) = self.target(layout, symbols, route, false);
            let r_offset = spot.offset + (rewrite.code.reloc_offset - row.start);
            let made = Rela {
                r_offset,
                symbol,
                r_type: rewrite.code.r_type,
                r_addend: addend.wrapping_add(rewrite.code.addend),
            };
            push(layout, spot.section, made);
        }
    }

    /// Adds the relocations of an atom's detours, whose code stands behind its own.
    fn detour(&self, layout: &mut Layout, symbols: &Symbols, atom: Id<Patched, Atom>) {
        let key = (self.unit, atom);
        let row = &self.group.units[self.unit].patched.atoms[atom];
        let spot = layout.place(atom);
        let mut start = spot.offset + (row.end - row.start);
        let mut routes = self.routes.detours[&key].iter();
        for detour in &self.selection.atoms[&key].detours {
            let back = detour.code.back.iter().map(|(field, _)| *field);
            for (field, route) in [detour.code.call].into_iter().chain(back).zip(routes.by_ref()) {
                let (symbol, addend) = self.target(layout, symbols, route, false);
                let made = Rela {
                    r_offset: start + field.offset,
                    symbol,
                    r_type: field.r_type,
                    r_addend: addend.wrapping_add(field.addend),
                };
                push(layout, spot.section, made);
            }
            start += detour.code.bytes.len() as u64;
        }
    }

    /// The symbol that a route leads to, and the distance from it that is meant.
    fn target(&self, layout: &Layout, symbols: &Symbols, route: &Route, by_section: bool) -> (Option<usize>, i64) {
        match route {
            Route::Absolute(value) => (None, *value),
            Route::Symbol { name, delta } => (Some(symbols.of_name[name]), *delta),
            Route::InPatch { unit, atom, delta } if *unit != self.unit => {
                let name = self.group.units[*unit].patched.name(*atom).unwrap_or_default();
                (Some(symbols.of_name[name]), *delta)
            }
            Route::InPatch { atom, delta, .. } => {
                let row = &self.group.units[self.unit].patched.atoms[*atom];
                if let Some(symbol) = symbols.of_atom.get(atom).filter(|_| !by_section) {
                    return (Some(*symbol), *delta);
                }
                let spot = layout
                    .get(*atom)
                    .expect("the closure selects whatever the livepatch refers to in itself");
                let start = spot.offset as i64 + (row.anchor - row.start) as i64;
                (Some(symbols.of_section[spot.section]), start.wrapping_add(*delta))
            }
        }
    }
}

pub(super) fn push(layout: &mut Layout, section: usize, row: Rela) {
    let section = &mut layout.sections[section];
    if section.relas.is_empty() {
        section.relas.push(RelaSection {
            name: format!(".rela{}", section.name),
            ..RelaSection::default()
        });
    }
    section.relas[0].rows.push(row);
}
