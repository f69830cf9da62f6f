//! Emits one object per unit from the selected atoms, ready for the linker.
//!
//! The object is an ordinary relocatable file: every reference to the kernel is an undefined symbol. The relocations
//! that livepatch applies can only be made once the module has been linked and objtool has run (see [`crate::klp`]).

mod layout;
mod relocs;
mod tables;

use std::collections::BTreeMap;

use object::elf;

use crate::compare::UnitVerdicts;
use crate::compare::Verdict;
use crate::elf::{File, Place, Symbol};
use crate::group::{Group, UnitId};
use crate::ids::{Atom, Id, Patched};
use crate::names;
use crate::read::AtomKind;
use crate::resolve::Routes;
use crate::select::Selection;

use layout::Layout;

pub(crate) use layout::Spot;

/// The object of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// Name of the unit: path of the object relative to the build directory.
    pub unit: String,
    /// The relocatable object, ready for the linker.
    pub bytes: Vec<u8>,
}

/// Emits the objects of all units with selected atoms. `callbacks` gives the handle of each callback, like
/// [`crate::resolve::PatchedFunction::handle`] for redirected functions.
pub fn objects(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    selection: &Selection<'_>,
    routes: &Routes,
    callbacks: &BTreeMap<(UnitId, Id<Patched, Atom>), String>,
) -> Vec<Emitted> {
    let mut by_unit: BTreeMap<UnitId, Vec<Id<Patched, Atom>>> = BTreeMap::new();
    for (unit, atom) in selection.atoms.keys().filter(|key| !routes.dropped.contains(key)) {
        by_unit.entry(*unit).or_default().push(*atom);
    }
    let redirected = routes.functions.iter().map(|(key, function)| (key, &function.handle));
    let handles: Vec<_> = redirected.chain(callbacks).collect();
    by_unit
        .into_iter()
        .map(|(unit, atoms)| {
            let here = handles.iter().filter(|((owner, _), _)| *owner == unit);
            let emitter = Emitter {
                group,
                verdicts,
                selection,
                routes,
                unit,
                atoms,
                handles: here.map(|((_, atom), handle)| (*atom, handle.as_str())).collect(),
                finished: false,
            };
            Emitted {
                unit: group.units[unit].name.clone(),
                bytes: emitter.emit().0.write(),
            }
        })
        .collect()
}

/// Emits one unit as a file that can still be changed, with the place of each atom. objtool will not run on the linked
/// module, so the list of tracing sites is made here.
pub(crate) fn file(
    group: &Group<'_>,
    verdicts: &[UnitVerdicts],
    selection: &Selection<'_>,
    routes: &Routes,
    unit: UnitId,
) -> (File, BTreeMap<Id<Patched, Atom>, Spot>) {
    let selected = selection
        .atoms
        .keys()
        .filter(|key| key.0 == unit && !routes.dropped.contains(key));
    let emitter = Emitter {
        group,
        verdicts,
        selection,
        routes,
        unit,
        atoms: selected.map(|(_, atom)| *atom).collect(),
        handles: Vec::new(),
        finished: true,
    };
    emitter.emit()
}

struct Emitter<'a, 'd> {
    group: &'a Group<'d>,
    verdicts: &'a [UnitVerdicts],
    selection: &'a Selection<'d>,
    routes: &'a Routes,
    unit: UnitId,
    atoms: Vec<Id<Patched, Atom>>,
    /// Functions that the module's own table names, with their handles.
    handles: Vec<(Id<Patched, Atom>, &'a str)>,
    /// Whether objtool has run on the input and will not run on the module, so that the list of tracing sites is made
    /// here.
    finished: bool,
}

/// Symbols of the file that is being made.
#[derive(Default)]
struct Symbols {
    rows: Vec<Symbol>,
    of_section: Vec<usize>,
    of_atom: BTreeMap<Id<Patched, Atom>, usize>,
    of_name: BTreeMap<String, usize>,
}

impl Emitter<'_, '_> {
    fn emit(&self) -> (File, BTreeMap<Id<Patched, Atom>, Spot>) {
        let object = &self.group.units[self.unit].patched;
        let mut layout = Layout::of(object, &self.atoms, |atom| self.detours(atom));
        let symbols = self.symbols(&mut layout);
        self.relocate(&mut layout, &symbols);
        let file = File {
            e_machine: object.arch.facts().machine.0,
            e_flags: object.e_flags,
            big_endian: object.arch.facts().big_endian,
            sections: layout.sections,
            symbols: symbols.rows,
        };
        (file, layout.places)
    }

    /// The code of an atom's detours.
    fn detours(&self, atom: Id<Patched, Atom>) -> Vec<u8> {
        let detours = self.selection.atoms[&(self.unit, atom)].detours.iter();
        detours.flat_map(|detour| detour.code.bytes.clone()).collect()
    }

    /// Makes the symbol table: FILE symbol, section symbols, locals, globals, undefined.
    fn symbols(&self, layout: &mut Layout) -> Symbols {
        let mut symbols = Symbols::default();
        let object = self.group.units[self.unit].name.rsplit('/').next().unwrap_or_default();
        let source = format!("{}.c", object.strip_suffix(".o").unwrap_or(object));
        symbols.rows.push(Symbol::new(
            source,
            Place::Reserved(elf::SHN_ABS.0),
            elf::STB_LOCAL.0,
            elf::STT_FILE.0,
        ));
        if let Some(keys) = self.routes.static_call_keys.get(&self.unit) {
            layout.add_key_table(keys.len());
        }
        if let Some(name) = self.slots() {
            layout.add_slots(name);
        }
        if self.site_atoms().next().is_some() {
            layout.add_sites();
        }
        for index in 0..layout.sections.len() {
            symbols.of_section.push(symbols.rows.len());
            symbols.rows.push(Symbol::new(
                "",
                Place::Section(index),
                elf::STB_LOCAL.0,
                elf::STT_SECTION.0,
            ));
        }
        let (locals, globals): (Vec<_>, Vec<_>) = self
            .atom_symbols(layout)
            .into_iter()
            .partition(|(_, symbol)| symbol.is_local());
        for (atom, symbol) in locals.into_iter().chain(globals) {
            if let Some(atom) = atom {
                symbols.of_atom.insert(atom, symbols.rows.len());
            }
            symbols.of_name.insert(symbol.name.clone(), symbols.rows.len());
            symbols.rows.push(symbol);
        }
        symbols.rows.extend(self.handles(layout));
        for name in self.undefined() {
            symbols.of_name.insert(name.clone(), symbols.rows.len());
            let bind = match self.routes.nowhere.contains(&name) {
                true => elf::STB_WEAK,
                false => elf::STB_GLOBAL,
            };
            let symbol = Symbol::new(name, Place::Reserved(0), bind.0, elf::STT_NOTYPE.0);
            symbols.rows.push(symbol);
        }
        symbols
    }

    /// The symbols of the atoms. Relocations use the first symbol of an atom, which comes with its id.
    fn atom_symbols(&self, layout: &Layout) -> Vec<(Option<Id<Patched, Atom>>, Symbol)> {
        let object = &self.group.units[self.unit].patched;
        let mut all = Vec::new();
        for atom in &self.atoms {
            let row = &object.atoms[*atom];
            if row.kind == AtomKind::String && row.symbol.is_some_and(|symbol| object.symbols[symbol].is_local()) {
                continue;
            }
            // Local, so that another file of the livepatch reaches the kernel's copy through ftrace instead of binding
            // to this one. What has no ftrace site can be reached in no other way.
            let carried = self.selection.carried.contains(&(self.unit, *atom));
            let demoted =
                row.kind == AtomKind::Function && self.verdicts[self.unit].of[*atom] != Verdict::New && !carried;
            for (index, id) in row.symbol.iter().chain(&row.aliases).enumerate() {
                let symbol = &object.symbols[*id];
                let bind = if demoted { elf::STB_LOCAL.0 } else { symbol.st_bind };
                // Where nobody looks at the code again, a second local name is of no use: no relocation goes by it.
                let needed = index == 0 || bind != elf::STB_LOCAL.0 || names::is_function_prefix(symbol.name);
                if self.finished && !needed {
                    continue;
                }
                let place = layout.place(*atom);
                let written = names::type_as_written(symbol.name, symbol.st_type);
                let mut made = Symbol::new(symbol.name, Place::Section(place.section), bind, written);
                made.st_value = place.offset + (symbol.st_value - row.start);
                (made.st_size, made.st_other) = (symbol.st_size, symbol.st_other);
                // The detours belong to the function: livepatch looks for it on the stack while they call.
                let detours = self.detours(*atom).len() as u64;
                if detours > 0 && symbol.is_function() && symbol.st_value == row.anchor {
                    made.st_size = row.end - row.anchor + detours;
                }
                all.push(((index == 0).then_some(*atom), made));
            }
        }
        all
    }

    /// A global handle at each function that the module's table names, since the function's own symbol may be local.
    fn handles(&self, layout: &Layout) -> Vec<Symbol> {
        let object = &self.group.units[self.unit].patched;
        let made = self.handles.iter().map(|(atom, name)| {
            let (row, place) = (&object.atoms[*atom], layout.place(*atom));
            let (bind, kind) = (elf::STB_GLOBAL.0, elf::STT_NOTYPE.0);
            let mut handle = Symbol::new(*name, Place::Section(place.section), bind, kind);
            handle.st_value = place.offset + (row.anchor - row.start);
            handle
        });
        made.collect()
    }
}
